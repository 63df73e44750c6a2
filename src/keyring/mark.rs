//! The mark: the highest generation this node has seen, the record's SHA-256, and the keys that it held.
//!
//! It is what tells a record that was put back, or one of another lineage, from the one that belongs here. It holds no
//! key. Source: `docs/formats.md`.

use crate::{
    crypto::{
        Digest, RootId, Uuid,
        kdf::{Label, RootKey},
        secret::SecretError,
    },
    text::{self, Lines, TextError, Writer, base64, base64_array, number},
};

use super::{Keyring, key_id::KeyId};

/// The longest mark in bytes: one line of at most 48 bytes for each entry of the longest record.
pub const MARK_MAX: usize = 512 * 1024;
const KIND: &str = "mark";

/// What this node saw last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    uuid: Uuid,
    root_id: RootId,
    generation: u64,
    record: Digest,
    ledger: u64,
    has: Vec<KeyId>,
}

/// How a record stands to the mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is the record that was marked.
    Current,
    /// It is a later one that has every key of the marked one: the trace of a crash between record and mark, or of
    /// another node's change.
    Ahead,
}

/// Why a mark, or a record beside it, was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MarkError {
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
    /// An older record was put back.
    #[error("the keyring was rolled back: it has generation {found}, this node has seen {marked}")]
    RolledBack {
        /// The record's generation.
        found: u64,
        /// The mark's.
        marked: u64,
    },
    /// Two different records of one generation.
    #[error("the keyring forked: generation {0} is not the one that this node has seen")]
    Forked(u64),
    /// A later record that lost a key.
    #[error("the keyring forked: generation {generation} lacks key {key_id}, which this node has seen")]
    KeyLost {
        /// The record's generation.
        generation: u64,
        /// The key that it should have as a key or as a tomb.
        key_id: KeyId,
    },
    /// Nothing else is wrong, and yet the encoder would have written other bytes.
    #[error("is not in its canonical form")]
    NotCanonical,
    /// No locked memory for the key that authenticates it.
    #[error(transparent)]
    Memory(#[from] SecretError),
}

impl Mark {
    /// The mark of `keyring`, whose record has the SHA-256 `record`; `ledger` is the ledger's count.
    pub fn of(keyring: &Keyring, record: Digest, ledger: u64) -> Self {
        Self {
            uuid: keyring.uuid(),
            root_id: keyring.root_id(),
            generation: keyring.generation(),
            record,
            ledger,
            has: keyring.entries().iter().map(super::Entry::id).collect(),
        }
    }

    /// The generation of the record that was marked.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The root key that it is under.
    pub fn under(&self) -> RootId {
        self.root_id
    }

    /// Its keys and tombs.
    pub fn has(&self) -> &[KeyId] {
        &self.has
    }

    /// The ledger's count.
    pub fn ledger(&self) -> u64 {
        self.ledger
    }

    /// Its bytes under `root`.
    ///
    /// # Errors
    /// When no memory can be locked.
    pub fn encode(&self, root: &RootKey) -> Result<Vec<u8>, SecretError> {
        let mut writer = Writer::new(KIND);
        writer.owner(self.uuid);
        writer.root_id(self.root_id);
        writer.line(&format!("generation {}", self.generation));
        writer.line(&format!("record {}", base64(&self.record.0)));
        writer.line(&format!("ledger {}", self.ledger));
        for key_id in &self.has {
            writer.line(&format!("-> has {key_id}"));
        }
        Ok(writer.finish(&root.mac(self.uuid, Label::StateMac)?))
    }

    /// The root key that a mark says it is under; nothing of it is authenticated yet.
    ///
    /// # Errors
    /// When its first lines are not those of a mark.
    pub fn root_id(bytes: &[u8]) -> Result<RootId, TextError> {
        Ok(Lines::open(bytes, KIND, MARK_MAX)?.owner_and_root()?.1)
    }

    /// Reads a mark of the keyring `expected` under `root`.
    ///
    /// # Errors
    /// When it is another keyring's, under another root key, changed or damaged.
    pub fn decode(bytes: &[u8], root: &RootKey, expected: Uuid) -> Result<Self, MarkError> {
        let mut lines = Lines::open(bytes, KIND, MARK_MAX)?;
        let (uuid, root_id) = lines.owner_and_root()?;
        if uuid != expected {
            return Err(MarkError::OtherKeyring { found: uuid, expected });
        }
        if root_id != root.id(expected) {
            return Err(MarkError::OtherRootKey);
        }
        text::authenticate(bytes, &root.mac(uuid, Label::StateMac)?)?;
        let generation = lines.field("generation", "`generation <number>`", number)?;
        let record = lines.field("record", "`record <base64 SHA-256>`", |value| base64_array(value).map(Digest))?;
        let ledger = lines.field("ledger", "`ledger <number>`", number)?;
        let has = read_has(&mut lines)?;
        lines.end()?;
        let mark = Self { uuid, root_id, generation, record, ledger, has };
        if mark.encode(root)? != bytes {
            return Err(MarkError::NotCanonical);
        }
        Ok(mark)
    }

    /// Whether `keyring`, whose record has the SHA-256 `record`, may follow what this node has seen.
    ///
    /// # Errors
    /// When it is older, another of the same generation, or lacks a key.
    pub fn check(&self, keyring: &Keyring, record: Digest) -> Result<Standing, MarkError> {
        let generation = keyring.generation();
        if generation < self.generation {
            return Err(MarkError::RolledBack { found: generation, marked: self.generation });
        }
        if generation == self.generation {
            return if record == self.record { Ok(Standing::Current) } else { Err(MarkError::Forked(generation)) };
        }
        let ids: std::collections::HashSet<KeyId> = keyring.entries().iter().map(super::Entry::id).collect();
        match self.has.iter().find(|key_id| !ids.contains(key_id)) {
            Some(key_id) => Err(MarkError::KeyLost { generation, key_id: *key_id }),
            None => Ok(Standing::Ahead),
        }
    }
}

fn read_has(lines: &mut Lines<'_>) -> Result<Vec<KeyId>, TextError> {
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
    use crate::{keyring::testing, text::tampering};

    const UUID: Uuid = Uuid([5; 16]);

    fn keyring(root: &RootKey) -> Keyring {
        testing::keyring(root, UUID)
    }

    #[test]
    fn a_mark_reads_back_and_every_tampered_one_is_refused() {
        let root = RootKey::generate(&mut SysRng).unwrap();
        let mark = Mark::of(&keyring(&root), Digest::of(b"record"), 3);
        let bytes = mark.encode(&root).unwrap();
        assert_eq!(Mark::decode(&bytes, &root, UUID).unwrap(), mark);
        for (what, tampered) in tampering::of(&bytes) {
            assert!(Mark::decode(&tampered, &root, UUID).is_err(), "{what}");
        }
        let stranger = RootKey::generate(&mut SysRng).unwrap();
        assert!(matches!(Mark::decode(&bytes, &stranger, UUID), Err(MarkError::OtherRootKey)));
        assert!(matches!(Mark::decode(&bytes, &root, Uuid([6; 16])), Err(MarkError::OtherKeyring { .. })));
    }

    #[test]
    fn only_the_marked_record_and_its_successors_may_follow() {
        let root = RootKey::generate(&mut SysRng).unwrap();
        let (seen, digest) = (keyring(&root), Digest::of(b"seen"));
        let mark = Mark::of(&seen, digest, 0);
        assert_eq!(mark.check(&seen, digest).unwrap(), Standing::Current);

        let later = testing::later(&seen, |_| {});
        assert_eq!(mark.check(&later, Digest::of(b"later")).unwrap(), Standing::Ahead);

        assert!(matches!(mark.check(&seen, Digest::of(b"other")), Err(MarkError::Forked(1))));
        let ahead = Mark::of(&later, digest, 0);
        assert!(matches!(ahead.check(&seen, digest), Err(MarkError::RolledBack { found: 1, marked: 2 })));

        let other = testing::later(&keyring(&root), |_| {});
        assert!(matches!(mark.check(&other, digest), Err(MarkError::KeyLost { generation: 2, .. })));
    }
}
