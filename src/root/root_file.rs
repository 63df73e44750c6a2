//! The root file: the root key, sealed in one or more slots.
//!
//! Any slot opens it. The root file never contains the secret of a slot, and the root key is stored nowhere unsealed.
//! After a slot has opened, the root-id and the HMAC of the file are checked, so that a wrong key and a changed file
//! give different errors. Source: `docs/formats.md`, "root file".

use rand::TryCryptoRng;

use crate::{
    crypto::{
        RootId, RootName, Uuid,
        aead::{OpenKeyError, WrappedKey},
        kdf::{MacLabel, old_root_aad},
        root_key::{RootKey, RootKeys},
    },
    durable::{Dir, DurableError},
    memory::SecretError,
    text::{self, LineReader, LineWriter, NotCanonical, TextError, base64, base64_array},
};

use super::{
    means::Means,
    slot::{Kind, RootIn, Slot, SlotError},
};

/// The greatest length of a root file in bytes.
pub const ROOT_MAX: usize = 256 * 1024;
const KIND: &str = "root";

/// A root file as it was read. Its grammar is checked; its HMAC is checked only after a slot has opened.
#[derive(Debug)]
pub struct RootFile {
    uuid: Uuid,
    root_id: RootId,
    slots: Vec<Slot>,
    old: Vec<OldRoot>,
    bytes: Vec<u8>,
}

/// An earlier root key, wrapped under the current root key. Backups from before a rekey still need it.
#[derive(Debug, Clone)]
struct OldRoot {
    root_id: RootId,
    wrapped: WrappedKey,
}

impl OldRoot {
    fn wrap(rng: &mut impl TryCryptoRng, uuid: Uuid, old: &RootKey, root: &RootKey) -> Result<Self, SecretError> {
        let root_id = old.id(uuid);
        let aad = old_root_aad(uuid, root_id, root.id(uuid));
        Ok(Self { root_id, wrapped: WrappedKey::wrap(rng, &root.root_wrap(uuid)?, &aad, old.secret())? })
    }

    fn unwrap(&self, uuid: Uuid, root: &RootKey) -> Result<RootKey, RootError> {
        let aad = old_root_aad(uuid, self.root_id, root.id(uuid));
        let opened = self.wrapped.open(&root.root_wrap(uuid)?, &aad).map_err(|error| match error {
            OpenKeyError::NotAuthentic(_) => RootError::OldRootKey,
            OpenKeyError::Memory(error) => error.into(),
        })?;
        let old = RootKey::from_secret(opened);
        if old.id(uuid) == self.root_id { Ok(old) } else { Err(RootError::OldRootKey) }
    }
}

/// Why a root file does not give the root key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RootError {
    /// The root file could not be read or written.
    #[error(transparent)]
    File(#[from] DurableError),
    /// The grammar or the HMAC of the root file is wrong.
    #[error(transparent)]
    Text(#[from] TextError),
    /// No slot opened. Contains the name of each slot, and the reason.
    #[error("{}", reasons(.0))]
    NoSlotOpens(Vec<(String, SlotError)>),
    /// A slot opened, but its root key is not that of the root file.
    #[error("slot {0}: wrong key: it opens another root key")]
    OtherRootKey(String),
    /// An earlier root key does not open, although the HMAC is right: the file was made from wrong bytes.
    #[error("an earlier root key does not open")]
    OldRootKey,
    /// The encoder would have written other bytes.
    #[error(transparent)]
    NotCanonical(#[from] NotCanonical),
    /// There is no locked memory for a key.
    #[error(transparent)]
    Memory(#[from] SecretError),
}

/// The root file has no slot with this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no slot {0}")]
pub struct NoSuchSlot(pub String);

/// Why a slot is not added to a root file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PutSlotError {
    /// The root file has a slot with this name already.
    #[error("there is a slot {0} already")]
    Exists(String),
    /// This build could not read the new root file.
    #[error("the new root file does not read back: {0}")]
    Unreadable(#[from] RootError),
}

/// Why a slot is not removed from a root file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DropSlotError {
    /// The root file has no slot with this name.
    #[error(transparent)]
    Unknown(#[from] NoSuchSlot),
    /// The slot is the only one of the file: without it nothing opens the root file.
    #[error("slot {0} is the last one, so it is not removed")]
    Last(String),
    /// There is no locked memory for a key.
    #[error(transparent)]
    Memory(#[from] SecretError),
}

/// Why a root file is not put under a new root key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResealError {
    /// The secret of a slot cannot be read, so the new root key cannot be sealed in the slot.
    #[error("slot {0} cannot be sealed again: {1}")]
    Slot(String, #[source] SlotError),
    /// An earlier root key does not open, or this build could not read the new root file.
    #[error(transparent)]
    Root(#[from] RootError),
    /// There is no locked memory for a key, or there are no random bytes.
    #[error(transparent)]
    Memory(#[from] SecretError),
}

fn reasons(slots: &[(String, SlotError)]) -> String {
    slots.iter().map(|(name, error)| format!("slot {name}: {error}")).collect::<Vec<_>>().join("; ")
}

impl RootFile {
    /// Returns the bytes of a root file with `slots`. It keeps the earlier root keys, wrapped under the current one.
    ///
    /// # Errors
    /// When no memory can be locked, or the random source fails.
    pub fn encode(
        rng: &mut impl TryCryptoRng,
        uuid: Uuid,
        RootKeys { current: root, earlier }: RootKeys<'_>,
        slots: &[Slot],
    ) -> Result<Vec<u8>, SecretError> {
        let earlier = earlier.iter().map(|old| OldRoot::wrap(rng, uuid, old, root)).collect::<Result<Vec<_>, _>>()?;
        encode(uuid, root, slots, &earlier)
    }

    /// Reads a root file and checks its grammar.
    ///
    /// # Errors
    /// When a line is not what the grammar expects.
    pub fn parse(bytes: &[u8]) -> Result<Self, TextError> {
        let mut lines = LineReader::open(bytes, KIND, ROOT_MAX)?;
        let RootName { uuid, root_id } = lines.root_name()?;
        let slots = read_slots(&mut lines)?;
        let old = read_old(&mut lines)?;
        lines.end()?;
        Ok(Self { uuid, root_id, slots, old, bytes: bytes.to_vec() })
    }

    /// Returns the uuid of the keyring of this root key.
    pub fn uuid(&self) -> Uuid {
        self.uuid
    }

    /// Returns the slots, in the order of the file.
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// Returns the root key from the first slot that opens, and that slot, after checking the whole file. Slots that
    /// ask a person are tried last.
    ///
    /// # Errors
    /// When no slot opens, a slot has another root key, or the file was changed.
    pub fn unseal(&self, state_dir: &Dir, means: &Means) -> Result<(RootKey, &Slot), RootError> {
        let mut failures = Vec::new();
        let mut slots: Vec<&Slot> = self.slots.iter().collect();
        slots.sort_by_key(|slot| slot.kind() == Kind::Passphrase);
        for slot in slots {
            match means.open(slot, self.name(), state_dir) {
                Ok((root, _)) if !self.is_under(&root) => {
                    return Err(RootError::OtherRootKey(slot.name().to_owned()));
                }
                Ok((root, _)) => {
                    self.check(&root)?;
                    return Ok((root, slot));
                }
                Err(error) => failures.push((slot.name().to_owned(), error)),
            }
        }
        Err(RootError::NoSlotOpens(failures))
    }

    /// Checks that `slot` opens without the help of another slot, and that it contains the right root key.
    ///
    /// # Errors
    /// When the slot does not open, or the file was changed.
    pub fn test(&self, slot: &Slot, state_dir: &Dir, means: &Means) -> Result<(), RootError> {
        let named = |error| RootError::NoSlotOpens(vec![(slot.name().to_owned(), error)]);
        let (root, _) = means.open(slot, self.name(), state_dir).map_err(named)?;
        if self.is_under(&root) { self.check(&root) } else { Err(RootError::OtherRootKey(slot.name().to_owned())) }
    }

    /// Returns the bytes of the root file, as they were read.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn name(&self) -> RootName {
        RootName { uuid: self.uuid, root_id: self.root_id }
    }

    /// Returns the bytes of this root file with one more slot. `root` is its root key.
    ///
    /// # Errors
    /// When a slot has that name already, or no memory can be locked.
    pub fn with(&self, slot: Slot, root: &RootKey) -> Result<Vec<u8>, PutSlotError> {
        if self.slots.iter().any(|other| other.name() == slot.name()) {
            return Err(PutSlotError::Exists(slot.name().to_owned()));
        }
        let slots: Vec<Slot> = self.slots.iter().cloned().chain([slot]).collect();
        let bytes = encode(self.uuid, root, &slots, &self.old).map_err(RootError::from)?;
        // Never write a file that this build would refuse to read.
        Self::parse(&bytes).map_err(RootError::from)?.check(root)?;
        Ok(bytes)
    }

    /// Returns the bytes of this root file without the slot `name`, and that slot. `root` is its root key.
    ///
    /// # Errors
    /// When no slot has that name, it is the last one, or no memory can be locked.
    pub fn without(&self, name: &str, root: &RootKey) -> Result<(Vec<u8>, Slot), DropSlotError> {
        let (removed, kept): (Vec<Slot>, Vec<Slot>) = self.slots.iter().cloned().partition(|slot| slot.name() == name);
        let removed = removed.into_iter().next().ok_or_else(|| NoSuchSlot(name.to_owned()))?;
        if kept.is_empty() {
            return Err(DropSlotError::Last(name.to_owned()));
        }
        Ok((encode(self.uuid, root, &kept, &self.old)?, removed))
    }

    /// Returns the earlier root key `root_id`, if the file contains it. `root` is the current root key.
    ///
    /// # Errors
    /// When it does not open.
    pub fn old(&self, root_id: RootId, root: &RootKey) -> Result<Option<RootKey>, RootError> {
        let old = self.old.iter().find(|old| old.root_id == root_id);
        old.map(|old| old.unwrap(self.uuid, root)).transpose()
    }

    /// Returns all earlier root keys, the oldest first. `root` is the current root key.
    ///
    /// # Errors
    /// When one does not open.
    pub fn earlier(&self, root: &RootKey) -> Result<Vec<RootKey>, RootError> {
        self.old.iter().map(|old| old.unwrap(self.uuid, root)).collect()
    }

    /// Returns the bytes of a root file in which the same slots seal the root key `next`. It keeps `root` as an earlier
    /// root key.
    ///
    /// # Errors
    /// When the secret of a slot cannot be read, the random source fails or no memory can be locked.
    pub fn rekey(
        &self,
        rng: &mut impl TryCryptoRng,
        root: &RootKey,
        next: &RootKey,
        (state_dir, means): (&Dir, &Means),
    ) -> Result<Vec<u8>, ResealError> {
        let failed = |slot: &Slot, error| ResealError::Slot(slot.name().to_owned(), error);
        let mut slots = Vec::new();
        for slot in &self.slots {
            // Seal with the same secret that opened the slot.
            let (_, sealer) = means.open(slot, self.name(), state_dir).map_err(|error| failed(slot, error))?;
            slots.push(
                slot.reseal(rng, &*sealer, RootIn { uuid: self.uuid, root: next })
                    .map_err(|error| failed(slot, error))?,
            );
        }
        let mut old = Vec::new();
        for earlier in self.earlier(root)? {
            old.push(OldRoot::wrap(rng, self.uuid, &earlier, next)?);
        }
        old.push(OldRoot::wrap(rng, self.uuid, root, next)?);
        let bytes = encode(self.uuid, next, &slots, &old)?;
        // Never write a file unless each of its slots opens it.
        let file = Self::parse(&bytes).map_err(RootError::from)?;
        for slot in &file.slots {
            means.open(slot, file.name(), state_dir).map_err(|error| failed(slot, error))?;
        }
        file.check(next)?;
        Ok(bytes)
    }

    /// Whether `root` is the root key in this file.
    pub fn is_under(&self, root: &RootKey) -> bool {
        root.id(self.uuid) == self.root_id
    }

    /// Checks the whole file with its root key.
    ///
    /// # Errors
    /// When somebody without the key changed it.
    pub fn check(&self, root: &RootKey) -> Result<(), RootError> {
        text::authenticate(&self.bytes, &root.mac(self.uuid, MacLabel::Root)?)?;
        if encode(self.uuid, root, &self.slots, &self.old)? != self.bytes {
            return Err(NotCanonical.into());
        }
        Ok(())
    }
}

fn encode(uuid: Uuid, root: &RootKey, slots: &[Slot], old: &[OldRoot]) -> Result<Vec<u8>, SecretError> {
    let mut writer = LineWriter::new(KIND);
    writer.owner(uuid);
    writer.root_id(root.id(uuid));
    for slot in slots {
        writer.line(&slot.line());
        writer.line(&base64(slot.body()));
    }
    for entry in old {
        writer.line(&format!("-> old {}", base64(&entry.root_id.0)));
        writer.line(&base64(&entry.wrapped.0));
    }
    Ok(writer.finish(&root.mac(uuid, MacLabel::Root)?))
}

fn read_slots(lines: &mut LineReader<'_>) -> Result<Vec<Slot>, TextError> {
    const SLOT: &str = "`-> slot <name> <kind> …` and its base64 body";
    let mut slots: Vec<Slot> = Vec::new();
    while let Some(head) = lines.line_after("-> slot ") {
        let body = text::base64_bytes(lines.line(SLOT)?).ok_or_else(|| lines.wrong(SLOT))?;
        let slot = Slot::parse(head, body).ok_or_else(|| lines.wrong(SLOT))?;
        if slots.iter().any(|other| other.name() == slot.name()) {
            return Err(lines.wrong("a slot whose name occurs only once"));
        }
        slots.push(slot);
    }
    if slots.is_empty() { Err(lines.wrong("at least one slot")) } else { Ok(slots) }
}

fn read_old(lines: &mut LineReader<'_>) -> Result<Vec<OldRoot>, TextError> {
    const OLD: &str = "`-> old <base64 root-id>` and the base64 of a wrapped key";
    let mut old: Vec<OldRoot> = Vec::new();
    while let Some(head) = lines.line_after("-> old ") {
        let wrapped = base64_array(lines.line(OLD)?).map(WrappedKey);
        let (root_id, wrapped) = text::root_id(head).zip(wrapped).ok_or_else(|| lines.wrong(OLD))?;
        if old.iter().any(|other| other.root_id == root_id) {
            return Err(lines.wrong("an earlier root key that occurs only once"));
        }
        old.push(OldRoot { root_id, wrapped });
    }
    Ok(old)
}

#[cfg(test)]
mod tests {
    use rand::rngs::SysRng;

    use super::*;
    use crate::{
        durable,
        root::{FileSlot, Sealer},
        text::tampering,
    };

    const UUID: Uuid = Uuid([5; 16]);

    struct Fixture {
        _keep: tempfile::TempDir,
        dir: Dir,
        root: RootKey,
        bytes: Vec<u8>,
    }

    /// Returns a root file with a file slot and an earlier root key.
    fn fixture() -> Fixture {
        let (keep, dir) = durable::testing::private();
        let root = RootKey::generate(&mut SysRng).unwrap();
        let file = FileSlot::generate(&mut SysRng, None).unwrap();
        let slot = Slot::seal(&mut SysRng, "file", &file, RootIn { uuid: UUID, root: &root }).unwrap();
        file.keep("file", &dir).unwrap();
        let old = OldRoot { root_id: RootId([1; 32]), wrapped: WrappedKey([2; 72]) };
        let bytes = encode(UUID, &root, &[slot], &[old]).unwrap();
        Fixture { _keep: keep, dir, root, bytes }
    }

    #[test]
    fn a_file_slot_gives_the_root_key_back() {
        let Fixture { dir, root, bytes, .. } = &fixture();
        let file = RootFile::parse(bytes).unwrap();
        let (opened, slot) = file.unseal(dir, &Means::default()).unwrap();
        assert_eq!(opened.secret().expose(), root.secret().expose());
        assert_eq!((slot.name(), slot.kind()), ("file", Kind::File));
    }

    #[test]
    fn every_tampered_byte_and_line_is_refused() {
        let Fixture { dir, bytes, .. } = &fixture();
        for (what, tampered) in tampering::of(bytes) {
            let opened = RootFile::parse(&tampered)
                .map_err(RootError::from)
                .and_then(|file| file.unseal(dir, &Means::default()).map(|_| ()));
            assert!(opened.is_err(), "{what}");
        }
    }

    #[test]
    fn a_slot_key_of_another_installation_is_a_wrong_key() {
        let Fixture { dir, bytes, .. } = &fixture();
        dir.replace("slot-file.key", &[7; 32]).unwrap();
        let file = RootFile::parse(bytes).unwrap();
        let error = file.unseal(dir, &Means::default()).unwrap_err();
        assert_eq!(error.to_string(), "slot file: wrong key: it does not open this slot");
    }

    #[test]
    fn a_slot_key_of_another_length_is_refused() {
        let Fixture { dir, bytes, .. } = &fixture();
        let file = RootFile::parse(bytes).unwrap();
        dir.replace("slot-file.key", &[7; 31]).unwrap();
        assert!(
            file.unseal(dir, &Means::default()).unwrap_err().to_string().ends_with("has another length than 32 bytes")
        );
        dir.replace("slot-file.key", &[7; 33]).unwrap();
        assert!(file.unseal(dir, &Means::default()).unwrap_err().to_string().ends_with("is longer than 32 bytes"));
    }

    #[test]
    fn a_kind_that_this_build_lacks_is_named() {
        let Fixture { dir, bytes, .. } = &fixture();
        let text = String::from_utf8(bytes.clone()).unwrap().replacen("-> slot file file", "-> slot file tpm2", 1);
        let file = RootFile::parse(text.as_bytes()).unwrap();
        let error = file.unseal(dir, &Means::default()).unwrap_err();
        assert_eq!(error.to_string(), "slot file: this build cannot open slots of kind tpm2");
    }

    #[test]
    fn an_earlier_root_key_of_other_bytes_is_refused() {
        let Fixture { root, bytes, .. } = &fixture();
        let refused = RootFile::parse(bytes).unwrap().earlier(root).err().unwrap();
        assert_eq!(refused.to_string(), "an earlier root key does not open");
    }
}
