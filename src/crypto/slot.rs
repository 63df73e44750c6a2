//! The key that seals the root key in a slot.
//!
//! ```text
//! key    = HKDF(secret, salt, "claviger/v1/slot")
//! wrapped = wrap(key, AAD = LP("claviger/v1/slot") | LP(uuid) | LP(root-id) | LP(line), root key)
//! ```
//!
//! The caller provides the secret of the slot, and a fresh random salt for each seal. Source: `docs/formats.md`, "root
//! file".

use crate::memory::{RandomError, SecretError};

use super::{
    RootName, Salt,
    aead::{OpenKeyError, WrapKey, WrappedKey},
    kdf::{KeyLabel, derive, slot_aad},
    root_key::RootKey,
};

/// The key that seals the root key in one slot.
#[derive(Debug)]
pub struct SlotKey(WrapKey);

impl SlotKey {
    /// Derives the key from the secret of the slot.
    ///
    /// # Errors
    /// When no memory can be locked.
    pub fn derive(secret: &[u8], salt: Salt) -> Result<Self, SecretError> {
        derive(secret, salt, KeyLabel::Slot).map(|key| Self(WrapKey(key)))
    }

    /// Wraps `root`, which has this name, for the slot with this line.
    ///
    /// # Errors
    /// When the random source fails.
    pub fn wrap(
        &self,
        rng: &mut impl rand::TryCryptoRng,
        name: RootName,
        line: &str,
        root: &RootKey,
    ) -> Result<WrappedKey, RandomError> {
        WrappedKey::wrap(rng, &self.0, &slot_aad(name, line), root.secret())
    }

    /// Opens a root key that [`wrap`](Self::wrap) has wrapped with the same name and line.
    ///
    /// # Errors
    /// When it is not authentic, or no memory can be locked.
    pub fn open(&self, name: RootName, line: &str, wrapped: &WrappedKey) -> Result<RootKey, OpenKeyError> {
        wrapped.open(&self.0, &slot_aad(name, line)).map(RootKey::from_secret)
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::SysRng;

    use super::{
        super::{RootId, Uuid},
        *,
    };

    #[test]
    fn a_wrapped_root_key_opens_with_the_secret_the_salt_and_the_line_of_its_slot_only() {
        let (root, name) =
            (RootKey::generate(&mut SysRng).unwrap(), RootName { uuid: Uuid([1; 16]), root_id: RootId([2; 32]) });
        let key = |secret: &[u8], salt| SlotKey::derive(secret, Salt([salt; 16])).unwrap();
        let wrapped = key(b"secret", 3).wrap(&mut SysRng, name, "disk file", &root).unwrap();
        let opened = key(b"secret", 3).open(name, "disk file", &wrapped).unwrap();
        assert_eq!(opened.secret().expose(), root.secret().expose());
        assert!(key(b"another", 3).open(name, "disk file", &wrapped).is_err());
        assert!(key(b"secret", 4).open(name, "disk file", &wrapped).is_err());
        assert!(key(b"secret", 3).open(name, "usb file", &wrapped).is_err());
        assert!(key(b"secret", 3).open(RootName { uuid: Uuid([9; 16]), ..name }, "disk file", &wrapped).is_err());
    }
}
