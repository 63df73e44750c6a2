//! Decides which objects of a scan are recovered.

use std::collections::BTreeSet;

use crate::scan::{
    names::{Names, resource},
    object::Object,
};

/// The objects that are recovered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// Every object of the scan.
    All,
    /// The objects with these keys in etcd.
    Keys(BTreeSet<Vec<u8>>),
    /// The objects whose keys in etcd begin with one of these prefixes.
    Prefixes(Vec<Vec<u8>>),
    /// The objects of these resources, each as an EncryptionConfiguration names it, with or without its group.
    Resources(BTreeSet<String>),
}

impl Selection {
    /// Returns the keys in etcd of the objects, if the selection names each of them.
    pub fn keys(&self) -> Option<&BTreeSet<Vec<u8>>> {
        if let Self::Keys(keys) = self { Some(keys) } else { None }
    }
}

/// Decides which objects of a scan are recovered, one after the other.
pub(super) struct Selector {
    /// The objects that are still wanted: a key that was found is removed.
    selection: Selection,
    names: Names,
    /// The path of the last object's resource, and whether that resource is wanted.
    last: Option<(Vec<u8>, bool)>,
}

impl Selector {
    pub(super) fn new(selection: Selection, names: Names) -> Self {
        Self { selection, names, last: None }
    }

    /// Whether `object` is recovered.
    pub(super) fn takes(&mut self, object: &Object<'_>) -> bool {
        match &mut self.selection {
            Selection::All => true,
            Selection::Keys(keys) => keys.remove(object.key),
            Selection::Prefixes(prefixes) => prefixes.iter().any(|prefix| object.key.starts_with(prefix)),
            Selection::Resources(wanted) => {
                // The key decides, not the group of the object: a scan counts all groups beyond a limit as one.
                let path = self.names.path(object.key).unwrap_or_default();
                if let Some((last, is_wanted)) = &self.last
                    && last == path
                {
                    return *is_wanted;
                }
                let is_wanted = is_among(wanted, path);
                self.last = Some((path.to_vec(), is_wanted));
                is_wanted
            }
        }
    }

    /// Whether no other object can be taken.
    pub(super) fn is_satisfied(&self) -> bool {
        matches!(&self.selection, Selection::Keys(keys) if keys.is_empty())
    }

    /// Returns the keys that were named and not found.
    pub(super) fn missing(self) -> BTreeSet<Vec<u8>> {
        match self.selection {
            Selection::Keys(keys) => keys,
            _ => BTreeSet::new(),
        }
    }
}

fn is_among(wanted: &BTreeSet<String>, path: &[u8]) -> bool {
    let resource = resource(&String::from_utf8_lossy(path));
    wanted.contains(&resource.name) || wanted.contains(&resource.to_string())
}
