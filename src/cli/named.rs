//! Completes the keys in etcd by which a command line names objects.

use std::{collections::BTreeSet, ffi::OsString, os::unix::ffi::OsStrExt};

use crate::scan::names::Names;

/// Returns the whole key in etcd of an object, with the prefix.
pub(super) fn named_key(name: &OsString, prefix: &str) -> Vec<u8> {
    let (name, prefix) = (name.as_bytes(), Names::new(prefix).prefix().to_vec());
    if name.starts_with(b"/") { name.to_vec() } else { [&prefix, name].concat() }
}

/// Returns the keys in etcd of the objects that `--leave` names.
pub(super) fn named_keys(leave: &[OsString], prefix: &str) -> BTreeSet<Vec<u8>> {
    leave.iter().map(|name| named_key(name, prefix)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_left_by_its_key_in_etcd_or_by_what_follows_the_prefix() {
        let key = |name: &str| named_key(&OsString::from(name), "/registry");
        assert_eq!(key("secrets/default/db"), b"/registry/secrets/default/db");
        assert_eq!(key("/registry/secrets/default/db"), b"/registry/secrets/default/db");
    }
}
