//! The keys that open values: the KEKs of keyrings, and the local keys in the API server's EncryptionConfiguration.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    apiserver::coverage::LocalKey,
    crypto::{Commitment, wrap::Kek},
    keyring::Keyring,
};

/// The keys that were given, which open values.
#[derive(Debug, Default)]
pub struct ValueKeys {
    keks: BTreeMap<Commitment, Arc<Kek>>,
    local: Vec<LocalKey>,
}

impl ValueKeys {
    /// Adds all keys of `keyring`, even disabled ones: the owner of the keyring asks for the value, not an API server.
    pub fn add_keyring(&mut self, keyring: &Keyring) {
        self.keks.extend(keyring.keys().map(|key| (key.kek().commitment(), Arc::clone(key.kek()))));
    }

    /// Adds the keys of the providers `aescbc`, `aesgcm` and `secretbox`.
    pub fn add_local(&mut self, keys: Vec<LocalKey>) {
        self.local.extend(keys);
    }

    /// Returns the KEK with this commitment.
    pub(super) fn kek(&self, commitment: &Commitment) -> Option<&Arc<Kek>> {
        self.keks.get(commitment)
    }

    /// Returns the local keys that may have encrypted a value, each with the encrypted bytes. `rest` is the value
    /// without `k8s:enc:`. Names may contain colons, so one name can be the beginning of another.
    pub(super) fn local<'v>(&self, rest: &'v [u8]) -> impl Iterator<Item = (&LocalKey, &'v [u8])> {
        self.local.iter().filter_map(|key| Some((key, rest.strip_prefix(key.stored_prefix().as_bytes())?)))
    }
}
