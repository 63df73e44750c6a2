//! The entries of a keyring: keys, and the tombs of destroyed keys.

use std::sync::Arc;

use crate::{
    crypto::{Commitment, RootId, Uuid, aead::WrappedKey, kdf::kek_aad, root_key::RootKey, wrap::Kek},
    memory::{RandomError, SecretError},
};

use super::{
    key_id::KeyId,
    state::{Fate, State},
    time::Time,
};

/// An entry of the keyring: a key, or the tomb of a destroyed key.
#[derive(Debug, Clone)]
pub enum Entry {
    /// A key with its bytes.
    Key(Key),
    /// The tomb of a destroyed key. It is never removed.
    Tomb(Tomb),
}

/// The sort key of an entry in the record: sequence number, then commitment. It is different for every entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct EntryOrder {
    pub(super) seq: u32,
    pub(super) commitment: Commitment,
}

impl EntryOrder {
    /// Returns the public name of the key.
    pub(super) fn key_id(&self) -> KeyId {
        KeyId::new(self.seq, &self.commitment)
    }
}

/// A KEK, its state, and the times at which its state changed.
#[derive(Debug, Clone)]
pub struct Key {
    pub(super) seq: u32,
    pub(super) state: State,
    pub(super) compromised: bool,
    pub(super) created: Time,
    pub(super) promoted: Option<Time>,
    pub(super) demoted: Option<Time>,
    pub(super) kek: Arc<Kek>,
    pub(super) wrapped: WrappedKey,
}

/// The tomb of a destroyed key: its number and commitment, so that neither is used again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tomb {
    pub(super) seq: u32,
    pub(super) commitment: Commitment,
    pub(super) destroyed: u64,
}

/// Why a key could not be made or wrapped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// There is no locked memory, or there are no random bytes, for a key.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// There are no random bytes for a nonce.
    #[error(transparent)]
    Random(#[from] RandomError),
}

/// Wraps keys into the record of one keyring, under one root key.
#[derive(Clone, Copy)]
pub(super) struct KekWrapper<'a> {
    pub(super) uuid: Uuid,
    pub(super) root_id: RootId,
    pub(super) root: &'a RootKey,
}

impl KekWrapper<'_> {
    /// Wraps `kek`, whose sequence number is `seq`.
    pub(super) fn wrap(self, rng: &mut impl rand::TryCryptoRng, seq: u32, kek: &Kek) -> Result<WrappedKey, KeyError> {
        let aad = kek_aad(self.uuid, seq, &kek.commitment(), self.root_id);
        Ok(WrappedKey::wrap(rng, &self.root.kek_wrap(self.uuid)?, &aad, kek.secret())?)
    }
}

impl Entry {
    /// Returns the public name of the key.
    pub fn id(&self) -> KeyId {
        self.order().key_id()
    }

    /// Returns the commitment of the key.
    pub fn commitment(&self) -> Commitment {
        self.order().commitment
    }

    /// Returns the state of the key, or that only a tomb is left.
    pub fn fate(&self) -> Fate {
        match self {
            Self::Key(key) => Fate::Becomes(key.state),
            Self::Tomb(_) => Fate::Tomb,
        }
    }

    /// Returns the place of the entry in the record.
    pub(super) fn order(&self) -> EntryOrder {
        match self {
            Self::Key(key) => EntryOrder { seq: key.seq, commitment: key.kek.commitment() },
            Self::Tomb(tomb) => EntryOrder { seq: tomb.seq, commitment: tomb.commitment },
        }
    }
}

impl Key {
    /// Makes a pending key with the sequence number `seq`.
    pub(super) fn generate(
        rng: &mut impl rand::TryCryptoRng,
        under: KekWrapper<'_>,
        seq: u32,
        now: Time,
    ) -> Result<Self, KeyError> {
        let kek = Arc::new(Kek::generate(rng, under.uuid)?);
        let wrapped = under.wrap(rng, seq, &kek)?;
        let state = State::Pending;
        Ok(Self { seq, state, compromised: false, created: now, promoted: None, demoted: None, kek, wrapped })
    }

    /// Returns the public name of the key.
    pub fn id(&self) -> KeyId {
        KeyId::new(self.seq, &self.kek.commitment())
    }

    /// Returns the state of the key.
    pub fn state(&self) -> State {
        self.state
    }

    /// Whether somebody else may know the bytes of the key.
    pub fn is_compromised(&self) -> bool {
        self.compromised
    }

    /// Returns the time when the key was made.
    pub fn created(&self) -> Time {
        self.created
    }

    /// Returns the time when the key became primary. `None` if it never did.
    pub fn promoted(&self) -> Option<Time> {
        self.promoted
    }

    /// Returns the time when another key became primary in place of this one.
    pub fn demoted(&self) -> Option<Time> {
        self.demoted
    }

    /// Returns the KEK, which wraps and unwraps.
    pub fn kek(&self) -> &Arc<Kek> {
        &self.kek
    }
}

impl Tomb {
    /// Returns the generation in which the key was destroyed.
    pub fn destroyed(&self) -> u64 {
        self.destroyed
    }
}
