//! The ledger: which backups were checked, and the keys that each of them holds.
//!
//! A backup is listed when it was opened and read, not when it was made: one that nobody has opened is none. It is listed by the
//! SHA-256 of its record, so that copies of one backup are one line. It holds no key. Its count rises with each change, and the mark
//! holds it, too: an older ledger that is put back is seen. Source: `docs/formats.md`.

use std::collections::HashSet;

use crate::{
    crypto::{
        Digest, RootId, Uuid,
        kdf::{Label, RootKey},
        secret::SecretError,
    },
    text::{self, Lines, TextError, Writer, base64, base64_array, number},
};

use super::{Key, Keyring, key_id::KeyId, time::Time};

/// The longest ledger in bytes.
pub const LEDGER_MAX: usize = 512 * 1024;
/// How many backups are listed: the ones that were checked last.
const BACKUPS: usize = 32;
const KIND: &str = "ledger";

/// The backups that were checked, the last one last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ledger {
    uuid: Uuid,
    root_id: RootId,
    count: u64,
    backups: Vec<CheckedBackup>,
}

/// A backup that was opened and read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedBackup {
    record: Digest,
    generation: u64,
    checked: Time,
    keys: Vec<KeyId>,
}

/// Why a ledger was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// Its grammar or its HMAC.
    #[error(transparent)]
    Text(#[from] TextError),
    /// It is another installation's.
    #[error("belongs to keyring {}, expected {}", found.to_hex(), expected.to_hex())]
    OtherKeyring {
        /// The uuid that it names.
        found: Uuid,
        /// The uuid of the root file.
        expected: Uuid,
    },
    /// It is under another root key of this installation.
    #[error("is sealed under another root key")]
    OtherRootKey,
    /// An older one was put back, or it is gone.
    #[error("was rolled back: it has count {found}, this node has seen {marked}")]
    RolledBack {
        /// Its count; 0 if there is none.
        found: u64,
        /// The mark's.
        marked: u64,
    },
    /// Nothing else is wrong, and yet the encoder would have written other bytes.
    #[error("is not in its canonical form")]
    NotCanonical,
    /// No locked memory for the key that authenticates it.
    #[error(transparent)]
    Memory(#[from] SecretError),
}

impl CheckedBackup {
    /// The backup of `keyring` whose record has the SHA-256 `record`, which opened at `checked`.
    pub fn of(keyring: &Keyring, record: Digest, checked: Time) -> Self {
        Self { record, generation: keyring.generation(), checked, keys: keyring.keys().map(Key::id).collect() }
    }

    /// The generation of its keyring.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// When it opened last.
    pub fn checked(&self) -> Time {
        self.checked
    }

    /// Bytes that it takes.
    fn lines(&self) -> [String; 2] {
        let Self { record, generation, checked, keys } = self;
        let keys: Vec<String> = keys.iter().map(ToString::to_string).collect();
        [format!("-> backup {} generation={generation} checked={checked}", base64(&record.0)), keys.join(" ")]
    }

    fn length(&self) -> usize {
        self.lines().iter().map(|line| line.len() + 1).sum()
    }
}

impl Ledger {
    /// The ledger of the keyring `uuid` under the root key `root_id`, with no backup.
    pub fn empty(uuid: Uuid, root_id: RootId) -> Self {
        Self { uuid, root_id, count: 0, backups: Vec::new() }
    }

    /// How many times it was changed.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The root key that it is under.
    pub fn root_id(&self) -> RootId {
        self.root_id
    }

    /// The backup that was checked last.
    pub fn last(&self) -> Option<&CheckedBackup> {
        self.backups.last()
    }

    /// The keys of `keyring` that no checked backup holds.
    pub fn unbacked(&self, keyring: &Keyring) -> Vec<KeyId> {
        let backed: HashSet<&KeyId> = self.backups.iter().flat_map(|backup| &backup.keys).collect();
        keyring.keys().map(Key::id).filter(|key_id| !backed.contains(key_id)).collect()
    }

    /// With one more backup, or with one that is listed as checked again; those that were checked longest ago make room. Its
    /// count is `count`.
    #[must_use]
    pub fn with(&self, backup: CheckedBackup, count: u64) -> Self {
        // What the lines around the backups take.
        const REST: usize = 512;
        let mut backups = self.backups.clone();
        backups.retain(|listed| listed.record != backup.record);
        backups.push(backup);
        let length = |backups: &[CheckedBackup]| REST + backups.iter().map(CheckedBackup::length).sum::<usize>();
        while backups.len() > BACKUPS || backups.len() > 1 && length(&backups) > LEDGER_MAX {
            backups.remove(0);
        }
        Self { count, backups, ..*self }
    }

    /// The same under another root key.
    #[must_use]
    pub fn under(&self, root_id: RootId) -> Self {
        Self { root_id, ..self.clone() }
    }

    /// Its bytes under `root`.
    ///
    /// # Errors
    /// When no memory can be locked.
    pub fn encode(&self, root: &RootKey) -> Result<Vec<u8>, SecretError> {
        let mut writer = Writer::new(KIND);
        writer.owner(self.uuid);
        writer.root_id(self.root_id);
        writer.line(&format!("count {}", self.count));
        self.backups.iter().flat_map(CheckedBackup::lines).for_each(|line| writer.line(&line));
        Ok(writer.finish(&root.mac(self.uuid, Label::StateMac)?))
    }

    /// The root key that a ledger says it is under; nothing of it is authenticated yet.
    ///
    /// # Errors
    /// When its first lines are not those of a ledger.
    pub fn named_root(bytes: &[u8]) -> Result<RootId, TextError> {
        Ok(Lines::open(bytes, KIND, LEDGER_MAX)?.owner_and_root()?.1)
    }

    /// Reads a ledger of the keyring `expected` under `root`; the mark has seen the count `marked`.
    ///
    /// # Errors
    /// When it is another keyring's, under another root key, changed, damaged or an older one.
    pub fn decode(bytes: &[u8], root: &RootKey, expected: Uuid, marked: u64) -> Result<Self, LedgerError> {
        let mut lines = Lines::open(bytes, KIND, LEDGER_MAX)?;
        let (uuid, root_id) = lines.owner_and_root()?;
        if uuid != expected {
            return Err(LedgerError::OtherKeyring { found: uuid, expected });
        }
        if root_id != root.id(expected) {
            return Err(LedgerError::OtherRootKey);
        }
        text::authenticate(bytes, &root.mac(uuid, Label::StateMac)?)?;
        let count = lines.field("count", "`count <number>`", number)?;
        let backups = read_backups(&mut lines)?;
        lines.end()?;
        let ledger = Self { uuid, root_id, count, backups };
        if ledger.encode(root)? != bytes {
            return Err(LedgerError::NotCanonical);
        }
        if count < marked {
            return Err(LedgerError::RolledBack { found: count, marked });
        }
        Ok(ledger)
    }
}

fn read_backups(lines: &mut Lines<'_>) -> Result<Vec<CheckedBackup>, TextError> {
    const BACKUP: &str = "`-> backup <base64 SHA-256> generation=<number> checked=<time>`";
    const KEYS: &str = "key_ids";
    let mut backups = Vec::new();
    while let Some(line) = lines.line_after("-> backup ") {
        let (record, generation, checked) = read_backup(line).ok_or_else(|| lines.wrong(BACKUP))?;
        let keys = lines.line(KEYS)?.split(' ').map(str::parse).collect::<Result<_, _>>();
        let keys = keys.map_err(|_| lines.wrong(KEYS))?;
        backups.push(CheckedBackup { record, generation, checked, keys });
    }
    Ok(backups)
}

fn read_backup(line: &str) -> Option<(Digest, u64, Time)> {
    let mut words = line.split(' ');
    let record = base64_array(words.next()?).map(Digest)?;
    let generation = words.next()?.strip_prefix("generation=").and_then(number)?;
    let checked = words.next()?.strip_prefix("checked=").and_then(Time::parse)?;
    words.next().is_none().then_some((record, generation, checked))
}

#[cfg(test)]
mod tests {
    use rand::rngs::SysRng;

    use super::*;
    use crate::{
        keyring::{
            state::State,
            testing::{keyring, now, with_key},
        },
        text::tampering,
    };

    const UUID: Uuid = Uuid([5; 16]);

    fn digest(number: u64) -> Digest {
        Digest::of(&number.to_be_bytes())
    }

    #[test]
    fn a_ledger_reads_back_and_every_tampered_one_is_refused() {
        let root = RootKey::generate(&mut SysRng).unwrap();
        let first = keyring(&root, UUID);
        let second = with_key(first.clone(), &root, State::Pending);
        let ledger = Ledger::empty(UUID, root.id(UUID))
            .with(CheckedBackup::of(&first, digest(1), now()), 6)
            .with(CheckedBackup::of(&second, digest(2), now()), 7);
        let bytes = ledger.encode(&root).unwrap();
        assert_eq!(Ledger::named_root(&bytes), Ok(root.id(UUID)));
        assert_eq!(Ledger::decode(&bytes, &root, UUID, 7).unwrap(), ledger);
        for (what, tampered) in tampering::of(&bytes) {
            assert!(Ledger::decode(&tampered, &root, UUID, 0).is_err(), "{what}");
        }
        let stranger = RootKey::generate(&mut SysRng).unwrap();
        assert!(matches!(Ledger::decode(&bytes, &stranger, UUID, 0), Err(LedgerError::OtherRootKey)));
        assert!(matches!(Ledger::decode(&bytes, &root, Uuid([6; 16]), 0), Err(LedgerError::OtherKeyring { .. })));
        let older = Ledger::decode(&bytes, &root, UUID, 8);
        assert!(matches!(older, Err(LedgerError::RolledBack { found: 7, marked: 8 })));
    }

    #[test]
    fn a_key_is_backed_when_a_checked_backup_holds_it() {
        let root = RootKey::generate(&mut SysRng).unwrap();
        let first = keyring(&root, UUID);
        let second = with_key(first.clone(), &root, State::Pending);
        let ids = |keyring: &Keyring| keyring.keys().map(Key::id).collect::<Vec<_>>();
        let empty = Ledger::empty(UUID, root.id(UUID));
        assert_eq!(empty.unbacked(&first), ids(&first));
        let ledger = empty.with(CheckedBackup::of(&first, digest(1), now()), 1);
        assert_eq!(ledger.unbacked(&first), []);
        assert_eq!(ledger.unbacked(&second), ids(&second)[1..]);
    }

    #[test]
    fn a_backup_is_listed_once_and_the_oldest_make_room() {
        let root = RootKey::generate(&mut SysRng).unwrap();
        let keyring = keyring(&root, UUID);
        let mut ledger = Ledger::empty(UUID, root.id(UUID));
        for number in (0..40).chain(35..40) {
            ledger = ledger.with(CheckedBackup::of(&keyring, digest(number), now()), ledger.count() + 1);
        }
        let listed: Vec<_> = ledger.backups.iter().map(|backup| backup.record).collect();
        assert_eq!(listed, (8..40).map(digest).collect::<Vec<_>>());
        assert_eq!(ledger.count(), 45);
    }

    #[test]
    fn the_longest_ledger_is_read_again() {
        let root = RootKey::generate(&mut SysRng).unwrap();
        let keyring = keyring(&root, UUID);
        let key_id = keyring.primary().id();
        let mut ledger = Ledger::empty(UUID, root.id(UUID));
        for number in 0..9 {
            let keys = vec![key_id; 3_000];
            let backup = CheckedBackup { keys, ..CheckedBackup::of(&keyring, digest(number), now()) };
            ledger = ledger.with(backup, number + 1);
        }
        let bytes = ledger.encode(&root).unwrap();
        assert!(bytes.len() <= LEDGER_MAX && bytes.len() > LEDGER_MAX / 2, "{}", bytes.len());
        assert_eq!(Ledger::decode(&bytes, &root, UUID, 9).unwrap(), ledger);
    }
}
