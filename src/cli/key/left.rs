//! The flag `--leave` of `claviger key disable` and `claviger key destroy`: objects that do not keep a key in use,
//! because no key opens them, or because the API server does not serve their kind any more.

use std::{collections::BTreeSet, ffi::OsString};

use clap::Args;

use super::super::{
    Global,
    failure::{Exit, Failure, warn},
    named::named_keys,
};
use super::unserved::UnservedArgs;
use crate::{
    etcd::Servers,
    keyring::{Key, Keyring},
    recover::{ValueKeys, ValueOpener},
    scan::needs::LeftValue,
};

/// The flag that leaves objects.
#[derive(Args, Default)]
pub(super) struct LeaveArgs {
    /// Object to leave as it is, by its key in etcd as `claviger scan --list` prints it, or without the prefix. It must
    /// be one that no key opens, because it is damaged, or one whose kind the API server does not serve. Without the
    /// key, nobody can read such an object. May be repeated
    #[arg(long, value_name = "ETCD_KEY")]
    leave: Vec<OsString>,
    #[command(flatten)]
    unserved: UnservedArgs,
}

/// The place in which objects are left: the keyring with the key, and the API server's etcd.
pub(super) struct LeftIn<'a> {
    pub(super) keyring: &'a Keyring,
    pub(super) key: &'a Key,
    /// The prefix of all keys in etcd.
    pub(super) prefix: &'a str,
    /// The main etcd of the API server.
    pub(super) etcd: &'a Servers,
}

/// An object that stays in etcd although its key is given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LeftObject {
    /// The key of the object in etcd.
    pub(super) name: String,
    /// Whether the key opens it. The API server does not serve the kind of such an object.
    is_readable: bool,
}

impl LeaveArgs {
    /// Returns the keys in etcd of the objects.
    pub(super) fn names(&self, prefix: &str) -> BTreeSet<Vec<u8>> {
        named_keys(&self.leave, prefix)
    }

    /// Checks that each named object was found, that it would keep the key in use, and that no key of the keyring opens
    /// it or the API server does not serve its kind. `left` are the named objects that a scan has found. Returns them.
    ///
    /// # Errors
    /// When a named object can be read and written again, may be readable, or does not need the key.
    pub(super) fn check(&self, place: &LeftIn<'_>, left: &[LeftValue]) -> Result<Vec<LeftObject>, Failure> {
        let LeftIn { keyring, key, prefix, etcd } = *place;
        let key_id = key.id().to_string();
        let mut checked = Vec::new();
        for name in self.names(prefix) {
            let is_it = |left: &&LeftValue| left.key == name || String::from_utf8_lossy(&left.key).as_bytes() == name;
            let about: Vec<&LeftValue> = left.iter().filter(is_it).collect();
            if !about.iter().any(|left| left.may_need(&key.kek().commitment(), &key_id)) {
                return Err(not_in_need(&name, &key_id));
            }
            let mut keys = ValueKeys::default();
            keys.add_keyring(keyring);
            let mut opener = ValueOpener::new(&keys);
            for left in about {
                let is_readable = opens(left, &mut opener)?;
                let name = String::from_utf8_lossy(&left.key).into_owned();
                if is_readable && self.unserved.is_served(&left.key, prefix, etcd)? {
                    let message = format!("--leave {name}: this object can be read, so it still needs its key");
                    return Err(Failure::new(Exit::Refused, &message, REWRITE.to_owned()));
                }
                checked.push(LeftObject { name, is_readable });
            }
        }
        Ok(checked)
    }
}

/// Whether one of the keys opens the value.
///
/// # Errors
/// When that is not certain.
fn opens(left: &LeftValue, opener: &mut ValueOpener<'_>) -> Result<bool, Failure> {
    let name = String::from_utf8_lossy(&left.key);
    match opener.open(&left.key, &left.value) {
        Ok(_) => Ok(true),
        Err(error) if error.is_final() => Ok(false),
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

/// Warns of each object that stays in etcd although its key is given up.
pub(super) fn warn_of(left: &[LeftObject], global: &Global) {
    for LeftObject { name, is_readable } in left {
        if *is_readable {
            let message = format!("{name} stays in etcd under this key, and the API server does not serve its kind");
            let hint =
                "nobody can read it without the key, even if its kind is served again; delete it if nobody needs it";
            warn(&message, hint, global);
            continue;
        }
        let message = format!("{name} stays in etcd as it is, and no key of this keyring opens it there");
        let hint = "an API server that lists its resource fails as long as it is there; delete it when you do not need its bytes any more";
        warn(&message, hint, global);
    }
}
