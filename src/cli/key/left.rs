//! The flag `--leave` of `claviger key disable` and `claviger key destroy`: objects that do not keep a key in use,
//! because no key opens them.

use std::{collections::BTreeSet, ffi::OsString};

use clap::Args;

use super::super::{
    Global,
    failure::{Exit, Failure, warn},
    named::named_keys,
};
use crate::{
    keyring::{Key, Keyring},
    recover::{ValueKeys, ValueOpener},
    scan::needs::LeftValue,
};

/// The flag that leaves objects.
#[derive(Args, Default)]
pub(super) struct LeaveArgs {
    /// Object to leave as it is, by its key in etcd as `claviger scan --list` prints it, or without the prefix. It must
    /// be one that no key opens, because it is damaged. May be repeated
    #[arg(long, value_name = "ETCD_KEY")]
    leave: Vec<OsString>,
}

impl LeaveArgs {
    /// Returns the keys in etcd of the objects.
    pub(super) fn names(&self, prefix: &str) -> BTreeSet<Vec<u8>> {
        named_keys(&self.leave, prefix)
    }

    /// Checks that each named object was found, that it would keep the key in use, and that no key of the keyring opens
    /// it. `left` are the named objects that a scan has found.
    ///
    /// # Errors
    /// When a named object can be read, may be readable, or does not need the key.
    pub(super) fn check(&self, prefix: &str, keyring: &Keyring, key: &Key, left: &[LeftValue]) -> Result<(), Failure> {
        let key_id = key.id().to_string();
        for name in self.names(prefix) {
            let is_it = |left: &&LeftValue| left.key == name || String::from_utf8_lossy(&left.key).as_bytes() == name;
            let about: Vec<&LeftValue> = left.iter().filter(is_it).collect();
            if !about.iter().any(|left| left.may_need(&key.kek().commitment(), &key_id)) {
                return Err(not_in_need(&name, &key_id));
            }
            let mut keys = ValueKeys::default();
            keys.add_keyring(keyring);
            let mut opener = ValueOpener::new(&keys);
            about.into_iter().try_for_each(|left| does_not_open(left, &mut opener))?;
        }
        Ok(())
    }
}

fn does_not_open(left: &LeftValue, opener: &mut ValueOpener<'_>) -> Result<(), Failure> {
    let name = String::from_utf8_lossy(&left.key);
    match opener.open(&left.key, &left.value) {
        Ok(_) => {
            let message = format!("--leave {name}: this object can be read, so it still needs its key");
            Err(Failure::new(Exit::Refused, &message, REWRITE.to_owned()))
        }
        Err(error) if error.is_final() => Ok(()),
        Err(error) => {
            let message = format!("--leave {name}: it is not certain that nobody can read this object: {error}");
            let hint = "see what it is: claviger scan --list";
            Err(Failure::new(Exit::Refused, &message, hint.to_owned()))
        }
    }
}

const REWRITE: &str = if cfg!(feature = "reencrypt") {
    "have it written again: claviger reencrypt; or delete it"
} else {
    "have it written again, or delete it"
};

fn not_in_need(name: &[u8], key_id: &str) -> Failure {
    let message = format!("--leave {}: no scanned object with this key needs {key_id}", String::from_utf8_lossy(name));
    Failure::new(Exit::Usage, &message, "see the keys of all objects: claviger scan --list".to_owned())
}

/// Warns of each object that stays in etcd although no key opens it.
pub(super) fn warn_of(left: &[LeftValue], global: &Global) {
    for one in left {
        let name = String::from_utf8_lossy(&one.key);
        let message = format!("{name} stays in etcd as it is, and no key of this keyring opens it there");
        let hint = "an API server that lists its resource fails as long as it is there; delete it when you do not need its bytes any more";
        warn(&message, hint, global);
    }
}
