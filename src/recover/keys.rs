//! The keys that open values: those of keyrings, and those in the API server's EncryptionConfiguration.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    apiserver::coverage::LocalKey,
    crypto::{Commitment, wrap::Kek},
    keyring::Keyring,
};

/// All keys that were given.
#[derive(Debug, Default)]
pub struct ValueKeys {
    keks: BTreeMap<Commitment, Arc<Kek>>,
    local: Vec<LocalKey>,
}

impl ValueKeys {
    /// Adds the keys of `keyring`, the disabled ones, too: the keyring is asked by its owner, not by an API server.
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

    /// Returns the local keys that may have encrypted a value which begins with `rest` after `k8s:enc:`, each with the
    /// encrypted bytes. Names may contain colons, so that one name can be the beginning of another.
    pub(super) fn local<'v>(&self, rest: &'v [u8]) -> impl Iterator<Item = (&LocalKey, &'v [u8])> {
        self.local.iter().filter_map(|key| Some((key, rest.strip_prefix(key.stored_prefix().as_bytes())?)))
    }
}
