//! The keyring: the KEKs by version, exactly one of them primary.
//!
//! Pure: no I/O, no clock; a time comes in as an argument. Every change gives a new [`Keyring`]. The record
//! ([`record`]) is its bytes, the mark ([`mark`]) what this node saw of it last. Invariants: exactly one primary; a
//! (seq, C) is never used for another key; entries are sorted by (seq, C); a keyring names the records before it. Source:
//! `docs/formats.md`.

mod change;
pub mod home;
pub mod key_id;
pub mod ledger;
pub mod lineage;
pub mod mark;
pub mod merge;
pub mod node;
pub mod record;
pub mod recovery;
pub mod restore;
pub mod state;
#[cfg(test)]
pub mod testing;
pub mod time;

use std::sync::Arc;

use crate::crypto::{
    Commitment, RandomError, RootId, Uuid,
    aead::SealedKey,
    kdf::{RootKey, kek_aad},
    secret::SecretError,
    wrap::Kek,
};

use self::{home::Home, key_id::KeyId, lineage::Lineage, node::Node, recovery::Recovery, state::State, time::Time};

pub use self::change::ChangeError;

/// The greatest generation. No honest keyring comes near it; a forged one must not use the numbers up.
pub const GENERATION_MAX: u64 = 1 << 40;

/// The greatest sequence number of a key.
pub const SEQ_MAX: u32 = 1 << 31;

/// The KEKs of one installation, with everything that the record says of them.
#[derive(Debug, Clone)]
pub struct Keyring {
    uuid: Uuid,
    generation: u64,
    home: Home,
    root_id: RootId,
    past: Lineage,
    merged: Option<u64>,
    nodes: Vec<Node>,
    recoveries: Vec<Recovery>,
    entries: Vec<Entry>,
}

/// A line of the keyring: a key, or the tomb of one.
#[derive(Debug, Clone)]
pub enum Entry {
    /// A key whose bytes are here.
    Key(Key),
    /// What remains of a destroyed key; never dropped.
    Tomb(Tomb),
}

/// A KEK with its place in the life of keys.
#[derive(Debug, Clone)]
pub struct Key {
    seq: u32,
    state: State,
    compromised: bool,
    created: Time,
    promoted: Option<Time>,
    demoted: Option<Time>,
    kek: Arc<Kek>,
    sealed: SealedKey,
}

/// A destroyed key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tomb {
    seq: u32,
    commitment: Commitment,
    destroyed: u64,
}

/// A key could not be made, or not be put under a root key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// No locked memory, or no random bytes, for a key.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// No random bytes for a nonce.
    #[error(transparent)]
    Random(#[from] RandomError),
}

impl Keyring {
    /// A keyring of generation 1 with one primary key.
    ///
    /// # Errors
    /// When the random source fails or no memory can be locked.
    pub fn create(
        rng: &mut impl rand::TryCryptoRng,
        root: &RootKey,
        uuid: Uuid,
        mut recoveries: Vec<Recovery>,
        now: Time,
    ) -> Result<Self, KeyError> {
        recoveries.sort_by(|a, b| a.recipient().cmp(b.recipient()));
        recoveries.dedup_by(|a, b| a.recipient() == b.recipient());
        let mut keyring = Self {
            uuid,
            generation: 1,
            home: Home::File,
            root_id: root.id(uuid),
            past: Lineage::default(),
            merged: None,
            nodes: Vec::new(),
            recoveries,
            entries: Vec::new(),
        };
        let first = Key::generate(rng, root, &keyring, 1, now)?;
        keyring.entries.push(Entry::Key(Key { state: State::Primary, promoted: Some(now), ..first }));
        Ok(keyring)
    }

    /// Names the keyring for its whole life.
    pub fn uuid(&self) -> Uuid {
        self.uuid
    }

    /// How many times it was changed, counted from 1.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Where the record that counts is kept.
    pub fn home(&self) -> &Home {
        &self.home
    }

    /// The root key that it is under.
    pub fn root_id(&self) -> RootId {
        self.root_id
    }

    /// The records before it.
    pub fn past(&self) -> &Lineage {
        &self.past
    }

    /// The nodes that share it, sorted; a keyring file lists none.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The greatest sequence number, tombs included.
    pub fn greatest_seq(&self) -> u32 {
        self.entries.last().map_or(0, |entry| entry.order().0)
    }

    /// The recovery recipients, sorted.
    pub fn recoveries(&self) -> &[Recovery] {
        &self.recoveries
    }

    /// Keys and tombs, in the record's order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The keys, in the record's order.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        self.entries.iter().filter_map(|entry| match entry {
            Entry::Key(key) => Some(key),
            Entry::Tomb(_) => None,
        })
    }

    /// The key that wraps.
    ///
    /// # Panics
    /// Never: a keyring without exactly one primary is neither made nor read.
    pub fn primary(&self) -> &Key {
        self.keys()
            .find(|key| key.state == State::Primary)
            .unwrap_or_else(|| unreachable!("a keyring has exactly one primary"))
    }
}

impl Entry {
    /// The public name of the key.
    pub fn id(&self) -> KeyId {
        let (seq, commitment) = self.order();
        KeyId::new(seq, &commitment)
    }

    /// What entries are sorted by, and unique in.
    fn order(&self) -> (u32, Commitment) {
        match self {
            Self::Key(key) => (key.seq, key.kek.commitment()),
            Self::Tomb(tomb) => (tomb.seq, tomb.commitment),
        }
    }
}

impl Key {
    /// A new one, pending, for `keyring`, which is under `root`.
    fn generate(
        rng: &mut impl rand::TryCryptoRng,
        root: &RootKey,
        keyring: &Keyring,
        seq: u32,
        now: Time,
    ) -> Result<Self, KeyError> {
        let kek = Arc::new(Kek::generate(rng, keyring.uuid)?);
        let sealed = seal(rng, root, keyring, seq, &kek)?;
        let state = State::Pending;
        Ok(Self { seq, state, compromised: false, created: now, promoted: None, demoted: None, kek, sealed })
    }

    /// Its public name.
    pub fn id(&self) -> KeyId {
        KeyId::new(self.seq, &self.kek.commitment())
    }

    /// Its place in the life of keys.
    pub fn state(&self) -> State {
        self.state
    }

    /// Whether others may know it.
    pub fn is_compromised(&self) -> bool {
        self.compromised
    }

    /// When it was made.
    pub fn created(&self) -> Time {
        self.created
    }

    /// When it became primary.
    pub fn promoted(&self) -> Option<Time> {
        self.promoted
    }

    /// When another became primary in its place.
    pub fn demoted(&self) -> Option<Time> {
        self.demoted
    }

    /// What wraps and unwraps.
    pub fn kek(&self) -> &Arc<Kek> {
        &self.kek
    }
}

/// The bytes of a KEK as they stand in the record of `keyring`, which is under `root`.
fn seal(
    rng: &mut impl rand::TryCryptoRng,
    root: &RootKey,
    keyring: &Keyring,
    seq: u32,
    kek: &Kek,
) -> Result<SealedKey, KeyError> {
    let aad = kek_aad(keyring.uuid, seq, &kek.commitment(), keyring.root_id);
    Ok(SealedKey::seal(rng, &root.kek_wrap(keyring.uuid)?, &aad, kek.secret())?)
}

impl Tomb {
    /// The generation in which the key was destroyed.
    pub fn destroyed(&self) -> u64 {
        self.destroyed
    }
}
