//! Which objects of a scan are recovered.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use crate::scan::{Groups, names::Resource, object::Object};

/// Which objects are recovered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// Every object.
    All,
    /// The objects with these keys in etcd.
    Keys(BTreeSet<Vec<u8>>),
    /// The objects whose keys in etcd begin with one of these.
    Prefixes(Vec<Vec<u8>>),
    /// The objects of these resources, each as an EncryptionConfiguration names it, with or without its group.
    Resources(BTreeSet<String>),
}

/// Decides for one object after the other.
pub(super) struct Selector {
    /// What is still wanted: a key that was found is taken out.
    selection: Selection,
    groups: Arc<Groups>,
    /// Whether the resource of a group is wanted, by the group's number.
    wanted: HashMap<u32, bool>,
}

impl Selector {
    pub(super) fn new(selection: Selection, groups: Arc<Groups>) -> Self {
        Self { selection, groups, wanted: HashMap::new() }
    }

    /// Whether `object` is recovered.
    pub(super) fn takes(&mut self, object: &Object<'_>) -> bool {
        match &mut self.selection {
            Selection::All => true,
            Selection::Keys(keys) => keys.remove(object.key),
            Selection::Prefixes(prefixes) => prefixes.iter().any(|prefix| object.key.starts_with(prefix)),
            Selection::Resources(names) => {
                let groups = &self.groups;
                *self.wanted.entry(object.summary.group).or_insert_with(|| {
                    groups.get(object.summary.group).is_some_and(|group| is_among(names, &group.resource))
                })
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

fn is_among(names: &BTreeSet<String>, resource: &Resource) -> bool {
    names.contains(&resource.name) || names.contains(&resource.to_string())
}
