//! The root key, and the keys that authenticate files.
//!
//! Invariant: the root key is never an AEAD key or a MAC key itself. A key is derived from it for each purpose, with a
//! label of its own. Source: `docs/hierarchy.md`, "Derived keys".

use crate::memory::{Secret, SecretError};

use super::{
    RootId, Uuid,
    aead::{self, WrapKey},
    kdf::{CommitLabel, KeyLabel, MacLabel, commit, derive, derive_mac, hmac_sha256},
};

/// The root key: protects the keyring (also called master key). Never an AEAD key itself.
#[derive(Debug)]
pub struct RootKey(Secret<32>);

impl RootKey {
    /// Makes a new root key.
    ///
    /// # Errors
    /// When no memory can be locked or the random source fails.
    pub fn generate(rng: &mut impl rand::TryCryptoRng) -> Result<Self, SecretError> {
        Ok(Self(Secret::random(rng)?))
    }

    /// Takes the root key that was in a slot or in a recovery blob.
    pub fn from_secret(secret: Secret<32>) -> Self {
        Self(secret)
    }

    /// Returns the bytes of the root key, for sealing.
    pub fn secret(&self) -> &Secret<32> {
        &self.0
    }

    /// Returns the root-id: the public commitment of this root key in the keyring `uuid`.
    pub fn id(&self, uuid: Uuid) -> RootId {
        RootId(commit(&self.0, uuid, CommitLabel::RootId))
    }

    /// Derives the key that wraps earlier root keys of the keyring `uuid`.
    ///
    /// # Errors
    /// When no memory can be locked.
    pub fn root_wrap(&self, uuid: Uuid) -> Result<WrapKey, SecretError> {
        derive(self.0.expose(), uuid.into(), KeyLabel::RootWrap).map(WrapKey)
    }

    /// Derives the key that wraps the KEKs of the keyring `uuid`.
    ///
    /// # Errors
    /// When no memory can be locked.
    pub fn kek_wrap(&self, uuid: Uuid) -> Result<WrapKey, SecretError> {
        derive(self.0.expose(), uuid.into(), KeyLabel::KekWrap).map(WrapKey)
    }

    /// Derives the key that authenticates one of the text formats of the keyring `uuid`.
    ///
    /// # Errors
    /// When no memory can be locked.
    pub fn mac(&self, uuid: Uuid, label: MacLabel) -> Result<MacKey, SecretError> {
        derive_mac(&self.0, uuid, label).map(MacKey)
    }
}

/// The HMAC-SHA-256 key that authenticates one kind of file.
#[derive(Debug)]
pub struct MacKey(Secret<32>);

impl MacKey {
    /// Computes `HMAC-SHA-256(key, message)`.
    pub fn tag(&self, message: &[u8]) -> [u8; 32] {
        hmac_sha256(self.0.expose(), &[message])
    }

    /// Whether `tag` is the tag of `message`. Takes constant time.
    pub fn verify(&self, message: &[u8], tag: &[u8; 32]) -> bool {
        aead::equal(&self.tag(message), tag)
    }
}

/// The root key of a keyring, and the root keys that it had before each rekey.
#[derive(Clone, Copy)]
pub struct RootKeys<'a> {
    /// The root key that the keyring is under now.
    pub current: &'a RootKey,
    /// The root keys from before each rekey. Old backups are under them.
    pub earlier: &'a [RootKey],
}

impl<'a> RootKeys<'a> {
    /// Takes the root key of a keyring that was never rekeyed.
    pub fn only(current: &'a RootKey) -> Self {
        Self { current, earlier: &[] }
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::SysRng;

    use super::*;

    #[test]
    fn a_mac_verifies_its_message_only() {
        let key = RootKey::generate(&mut SysRng).unwrap().mac(Uuid([7; 16]), MacLabel::Root).unwrap();
        let tag = key.tag(b"message");
        assert!(key.verify(b"message", &tag));
        assert!(!key.verify(b"massage", &tag));
        assert!(!key.verify(b"message", &[0; 32]));
    }
}
