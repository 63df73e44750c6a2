//! The mark: which record this node has seen last, by generation and SHA-256, and which keys that record has.
//!
//! With the mark a node distinguishes three cases: a successor, an older record that was put back, and a fork. A
//! successor lists the marked record in its past. The mark contains no key. Source: `docs/formats.md`, "mark".

use crate::{
    crypto::{Digest, RootId, RootName, Uuid, kdf::MacLabel, root_key::RootKey},
    memory::SecretError,
    text::{self, LineReader, LineWriter, NotCanonical, OriginError, TextError, base64, base64_array, number},
};

use super::{home::Home, key::Entry, key_id::KeyId, numbers::read_generation, past::KEPT, ring::Keyring};

/// The longest mark in bytes: one line of at most 52 bytes for each entry of the longest record.
pub const MARK_MAX: usize = 512 * 1024;
const KIND: &str = "mark";

/// The mark: the record that this node has seen last, and the count of its ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    uuid: Uuid,
    root_id: RootId,
    generation: u64,
    home: Home,
    record: Digest,
    ledger: u64,
    restored: Option<u32>,
    has: Vec<KeyId>,
}

/// How a record came to be the one that is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordChoice {
    /// It was found where the keyring is kept.
    Found,
    /// An operator named exactly this record.
    Named,
}

/// The relation of a record to the mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// The record is the marked one.
    Current,
    /// The record is a successor of the marked record and has all its keys. Either a crash came between writing record
    /// and mark, or another node changed the keyring.
    Ahead,
}

/// Why a mark was refused, or why a record does not follow from the mark.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MarkError {
    /// The grammar or the HMAC is wrong.
    #[error(transparent)]
    Text(#[from] TextError),
    /// The mark belongs to another keyring, or is under another root key.
    #[error(transparent)]
    Origin(#[from] OriginError),
    /// Somebody put an older record back.
    #[error("the keyring was rolled back: it has generation {found}, this node has seen {marked}")]
    RolledBack {
        /// The generation of the record.
        found: u64,
        /// The generation of the mark.
        marked: u64,
    },
    /// The record and the marked one are different and have the same generation.
    #[error("the keyring forked: generation {0} is not the one that this node has seen")]
    Forked(u64),
    /// A later record does not list the marked one, although its past reaches that far.
    #[error(
        "the keyring forked: generation {found} does not follow from generation {marked}, which this node has seen"
    )]
    NoSuccessor {
        /// The generation of the record.
        found: u64,
        /// The generation of the mark.
        marked: u64,
    },
    /// The record is so much newer than the mark that its past does not list the marked record. It may be a successor
    /// or a fork.
    #[error(
        "the keyring is {} generations ahead of generation {marked}, the last one that this node has seen; its past names only the last {KEPT}",
        found - marked
    )]
    TooFarAhead {
        /// The generation of the record.
        found: u64,
        /// The generation of the mark.
        marked: u64,
    },
    /// A later record lacks a key of the marked one.
    #[error("the keyring forked: generation {generation} lacks key {key_id}, which this node has seen")]
    KeyLost {
        /// The generation of the record.
        generation: u64,
        /// The key, which the record should have as a key or as a tomb.
        key_id: KeyId,
    },
    /// The mark's encoder would have written other bytes.
    #[error(transparent)]
    NotCanonical(#[from] NotCanonical),
    /// No memory could be locked for the key that authenticates the mark.
    #[error(transparent)]
    Memory(#[from] SecretError),
}

impl Mark {
    /// Makes the mark of `keyring`. `record` is the SHA-256 of its record, and `ledger` the count of the ledger.
    pub fn of(keyring: &Keyring, record: Digest, ledger: u64) -> Self {
        Self {
            uuid: keyring.uuid(),
            root_id: keyring.root_id(),
            generation: keyring.generation(),
            home: keyring.home().clone(),
            record,
            ledger,
            restored: None,
            has: keyring.entries().iter().map(Entry::id).collect(),
        }
    }

    /// Notes in the mark that the keyring was restored or merged. Until the next rotation somebody else may know the
    /// keys, and newer keys may exist elsewhere.
    #[must_use]
    pub fn after_restore(self, keyring: &Keyring) -> Self {
        Self { restored: Some(keyring.greatest_seq()), ..self }
    }

    /// Copies the note "restored" from the mark `before`. A rotation ends it: then the primary key is newer than every
    /// restored key.
    ///
    /// Without an earlier mark, the record still says that it was restored or merged, but nothing says whether a
    /// rotation followed. So the note is set again.
    #[must_use]
    pub fn after(self, before: Option<&Self>, keyring: &Keyring) -> Self {
        let primary = keyring.primary().seq;
        let restored = match before {
            Some(before) => before.restored.filter(|seq| primary <= *seq),
            None => keyring.restored().map(|_| primary),
        };
        Self { restored, ..self }
    }

    /// Whether a rotation is due: the keyring was restored or merged, and since then this node has marked no newer
    /// primary key.
    pub fn wants_rotation(&self) -> bool {
        self.restored.is_some()
    }

    /// Returns the SHA-256 of the record that was marked.
    pub fn record(&self) -> Digest {
        self.record
    }

    /// Returns where the record that was marked is kept.
    pub fn home(&self) -> &Home {
        &self.home
    }

    /// Returns the generation of the record that was marked.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Returns the id of the root key that authenticates the mark.
    pub fn under(&self) -> RootId {
        self.root_id
    }

    /// Returns the names of the keys and tombs of the marked record.
    pub fn has(&self) -> &[KeyId] {
        &self.has
    }

    /// Returns the count of changes of the ledger that was marked.
    pub fn ledger(&self) -> u64 {
        self.ledger
    }

    /// Returns the bytes of the mark, authenticated under `root`.
    ///
    /// # Errors
    /// When no memory can be locked.
    pub fn encode(&self, root: &RootKey) -> Result<Vec<u8>, SecretError> {
        let mut writer = LineWriter::new(KIND);
        writer.owner(self.uuid);
        writer.root_id(self.root_id);
        writer.line(&format!("generation {}", self.generation));
        writer.line(&format!("home {}", self.home));
        writer.line(&format!("record {}", base64(&self.record.0)));
        writer.line(&format!("ledger {}", self.ledger));
        if let Some(seq) = self.restored {
            writer.line(&format!("restored {seq}"));
        }
        for key_id in &self.has {
            writer.line(&format!("-> has {key_id}"));
        }
        Ok(writer.finish(&root.mac(self.uuid, MacLabel::State)?))
    }

    /// Reads which root key a mark names. Nothing is authenticated yet.
    ///
    /// # Errors
    /// When the first lines are not those of a mark.
    pub fn root_id(bytes: &[u8]) -> Result<RootId, TextError> {
        Ok(LineReader::open(bytes, KIND, MARK_MAX)?.root_name()?.root_id)
    }

    /// Reads a mark of the keyring `expected` under `root`.
    ///
    /// # Errors
    /// When it belongs to another keyring or root key, or was changed or damaged.
    pub fn decode(bytes: &[u8], root: &RootKey, expected: Uuid) -> Result<Self, MarkError> {
        const RESTORED: &str = "`restored <number>`, 1 to 2^31";
        let mut lines = LineReader::open(bytes, KIND, MARK_MAX)?;
        let name = lines.root_name()?;
        OriginError::check(name, expected, root)?;
        let RootName { uuid, root_id } = name;
        text::authenticate(bytes, &root.mac(uuid, MacLabel::State)?)?;
        let generation = lines.field("generation", "`generation <number>`, 1 to 2^40", read_generation)?;
        let home = lines.field("home", "`home file` or `home etcd <prefix>`", Home::parse)?;
        let record = lines.field("record", "`record <base64 SHA-256>`", |value| base64_array(value).map(Digest))?;
        let ledger = lines.field("ledger", "`ledger <number>`", number)?;
        let restored = lines.line_after("restored ").map(|seq| text::seq(seq).ok_or_else(|| lines.wrong(RESTORED)));
        let restored = restored.transpose()?;
        let has = read_has(&mut lines)?;
        lines.end()?;
        let mark = Self { uuid, root_id, generation, home, record, ledger, restored, has };
        if mark.encode(root)? != bytes {
            return Err(NotCanonical.into());
        }
        Ok(mark)
    }

    /// Compares `keyring` with the mark. `record` is the SHA-256 of its record.
    ///
    /// # Errors
    /// When `keyring` is older, is a fork, or lacks a key.
    pub fn check(&self, keyring: &Keyring, record: Digest, choice: RecordChoice) -> Result<Standing, MarkError> {
        if keyring.uuid() != self.uuid {
            return Err(OriginError::OtherKeyring { found: keyring.uuid(), expected: self.uuid }.into());
        }
        let (found, marked) = (keyring.generation(), self.generation);
        if found < marked {
            return Err(MarkError::RolledBack { found, marked });
        }
        if found == marked {
            return if record == self.record { Ok(Standing::Current) } else { Err(MarkError::Forked(found)) };
        }
        self.check_past(keyring, choice)?;
        let ids: std::collections::HashSet<KeyId> = keyring.entries().iter().map(Entry::id).collect();
        match self.has.iter().find(|key_id| !ids.contains(key_id)) {
            Some(key_id) => Err(MarkError::KeyLost { generation: found, key_id: *key_id }),
            None => Ok(Standing::Ahead),
        }
    }

    /// Checks that the past of `keyring` has the marked record.
    fn check_past(&self, keyring: &Keyring, choice: RecordChoice) -> Result<(), MarkError> {
        let (found, marked) = (keyring.generation(), self.generation);
        if keyring.past().names(marked, self.record) {
            return Ok(());
        }
        let is_too_far_ahead = found - marked > KEPT;
        if is_too_far_ahead && choice == RecordChoice::Named {
            Ok(())
        } else if is_too_far_ahead {
            Err(MarkError::TooFarAhead { found, marked })
        } else {
            Err(MarkError::NoSuccessor { found, marked })
        }
    }
}

fn read_has(lines: &mut LineReader<'_>) -> Result<Vec<KeyId>, TextError> {
    let mut has = Vec::new();
    while let Some(key_id) = lines.line_after("-> has ") {
        has.push(key_id.parse().map_err(|_| lines.wrong("`-> has <key_id>`"))?);
    }
    Ok(has)
}

#[cfg(test)]
mod tests {
    use rand::rngs::SysRng;

    use super::*;
    use crate::{
        keyring::{
            record::{self, RECORD_MAX},
            testing,
        },
        text::tampering,
    };

    const UUID: Uuid = Uuid([5; 16]);

    fn keyring(root: &RootKey) -> Keyring {
        testing::keyring(root, UUID)
    }

    #[test]
    fn a_mark_reads_back_and_every_tampered_one_is_refused() {
        let root = RootKey::generate(&mut SysRng).unwrap();
        let keyring = testing::moved_to_etcd(&keyring(&root), testing::digest(1), "/claviger");
        let mark = Mark::of(&keyring, Digest::of(b"record"), 3);
        let bytes = mark.encode(&root).unwrap();
        let read = Mark::decode(&bytes, &root, UUID).unwrap();
        assert_eq!(read, mark);
        assert_eq!((read.generation(), read.record(), read.ledger()), (2, Digest::of(b"record"), 3));
        assert_eq!((read.home(), read.has()), (&Home::Etcd("/claviger".to_owned()), &[keyring.primary().id()][..]));
        for (what, tampered) in tampering::of(&bytes) {
            assert!(Mark::decode(&tampered, &root, UUID).is_err(), "{what}");
        }
        let stranger = RootKey::generate(&mut SysRng).unwrap();
        assert!(matches!(Mark::decode(&bytes, &stranger, UUID), Err(MarkError::Origin(OriginError::OtherRootKey))));
        assert!(matches!(
            Mark::decode(&bytes, &root, Uuid([6; 16])),
            Err(MarkError::Origin(OriginError::OtherKeyring { .. }))
        ));
    }

    #[test]
    fn the_mark_of_the_longest_record_is_read_again() {
        let root = RootKey::generate(&mut SysRng).unwrap();
        let keyring = (2..7_400).fold(keyring(&root), testing::with_tomb);
        let record = record::encode(&keyring, &root).unwrap();
        assert!((RECORD_MAX * 9 / 10..=RECORD_MAX).contains(&record.len()), "{}", record.len());
        let mark = Mark::of(&keyring, Digest::of(&record), 0);
        assert_eq!(Mark::decode(&mark.encode(&root).unwrap(), &root, UUID).unwrap(), mark);
    }

    #[test]
    fn only_the_marked_record_and_its_successors_may_follow() {
        let root = RootKey::generate(&mut SysRng).unwrap();
        let seen = keyring(&root);
        let check = |mark: &Mark, keyring: &Keyring| {
            mark.check(keyring, testing::digest(keyring.generation()), RecordChoice::Found)
        };
        let mark = Mark::of(&seen, testing::digest(1), 0);
        assert_eq!(check(&mark, &seen).unwrap(), Standing::Current);
        assert!(matches!(mark.check(&seen, Digest::of(b"other"), RecordChoice::Found), Err(MarkError::Forked(1))));

        let later = testing::later(&seen, |_| {});
        assert_eq!(check(&mark, &later).unwrap(), Standing::Ahead);
        let ahead = Mark::of(&later, testing::digest(2), 0);
        assert!(matches!(check(&ahead, &seen), Err(MarkError::RolledBack { found: 1, marked: 2 })));

        let stranger = testing::keyring(&root, Uuid([6; 16]));
        assert!(matches!(check(&mark, &stranger), Err(MarkError::Origin(OriginError::OtherKeyring { .. }))));
        let lossy = testing::later(&seen, |later| later.entries = keyring(&root).entries);
        assert!(matches!(check(&mark, &lossy), Err(MarkError::KeyLost { generation: 2, .. })));
    }

    #[test]
    fn a_fork_is_no_successor_however_far_it_went_and_whatever_keys_it_has() {
        let root = RootKey::generate(&mut SysRng).unwrap();
        let seen = keyring(&root);
        let mark = Mark::of(&testing::later(&seen, |_| {}), Digest::of(b"ours"), 0);
        let mut twin = testing::later(&seen, |_| {});
        for _ in 0..300 {
            twin = testing::later(&twin, |_| {});
            let refused = mark.check(&twin, Digest::of(b"theirs"), RecordChoice::Found).unwrap_err();
            let is_far = twin.generation() > 2 + 256;
            assert_eq!(matches!(refused, MarkError::TooFarAhead { .. }), is_far, "{refused}");
            assert_eq!(matches!(refused, MarkError::NoSuccessor { marked: 2, .. }), !is_far, "{refused}");
            // Where the past reaches the marked record, no operator can make a fork a successor by naming it.
            assert_eq!(mark.check(&twin, Digest::of(b"theirs"), RecordChoice::Named).is_ok(), is_far);
        }
        let refused = mark.check(&twin, Digest::of(b"theirs"), RecordChoice::Found).unwrap_err().to_string();
        let expected = "the keyring is 300 generations ahead of generation 2, the last one that this node has seen; its past names only the last 256";
        assert_eq!(refused, expected);
    }

    #[test]
    fn a_restored_keyring_wants_a_rotation_until_a_newer_key_is_primary() {
        let root = RootKey::generate(&mut SysRng).unwrap();
        let restored = testing::with_key(keyring(&root), &root, crate::keyring::state::State::DecryptOnly);
        let mark = Mark::of(&restored, testing::digest(1), 0).after_restore(&restored);
        let next = |before: &Mark, keyring: &Keyring| {
            let bytes = before.encode(&root).unwrap();
            let read = Mark::decode(&bytes, &root, UUID).unwrap();
            assert_eq!(read, *before);
            Mark::of(keyring, testing::digest(1), 0).after(Some(&read), keyring)
        };
        let promoted = testing::promote(&restored, 1);
        let mark = next(&mark, &promoted);
        assert!(mark.wants_rotation(), "k2 was restored, too");
        let added = testing::with_key(promoted, &root, crate::keyring::state::State::Pending);
        let mark = next(&mark, &added);
        assert!(mark.wants_rotation());
        let rotated = testing::promote(&added, 2);
        assert!(!next(&mark, &rotated).wants_rotation());
        // The lost mark had the note "restored". A key that was pending then may be the primary key now.
        let remade = |keyring: &Keyring| Mark::of(keyring, testing::digest(1), 0).after(None, keyring);
        assert!(!remade(&added).wants_rotation(), "its record does not say that it was restored");
        let merged = testing::later(&added, |later| later.restored = Some(later.generation));
        assert!(remade(&merged).wants_rotation());
        assert!(!next(&remade(&merged), &testing::promote(&merged, 2)).wants_rotation());
    }
}
