//! Groups of values: all values of one resource under one provider and key. A group is one row of the report.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use super::{names::Resource, value::UNKNOWN};
use crate::crypto::Commitment;

/// The greatest number of groups that are counted separately, far more than any cluster has. Anyone who can write to
/// etcd can invent more, and must not be able to fill the memory: the values of all further groups are counted as one
/// group.
pub const GROUPS_MAX: usize = 8192;

/// The properties that all values of a group have in common.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Group {
    /// The resource of the values.
    pub resource: Resource,
    /// The provider of the values, as their prefix names it.
    pub provider: String,
    /// The key_id that the values name. `None` for other providers than KMS v2.
    pub key_id: Option<String>,
    /// The commitment of the key that wrapped the seeds of the values, if the seeds have the shape of claviger's.
    pub commitment: Option<Commitment>,
}

impl Group {
    /// Returns the group that counts all values beyond [`GROUPS_MAX`] groups.
    fn others() -> Self {
        let resource = Resource { name: "others".to_owned(), group: None };
        Self { resource, provider: UNKNOWN.to_owned(), key_id: None, commitment: None }
    }
}

/// The groups that a scan has met, each with a number. The threads of a scan share them.
#[derive(Debug, Default)]
pub struct Groups(Mutex<GroupTable>);

#[derive(Debug, Default)]
struct GroupTable {
    numbers: HashMap<Box<[u8]>, u32>,
    groups: Vec<Arc<Group>>,
}

impl Groups {
    /// Returns the number of the group with this label. If the label is new, `make` makes its group.
    pub fn number(&self, label: &[u8], make: impl FnOnce() -> Group) -> u32 {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let GroupTable { numbers, groups } = &mut *table;
        if let Some(number) = numbers.get(label) {
            return *number;
        }
        let is_full = groups.len() >= GROUPS_MAX;
        if groups.len() <= GROUPS_MAX {
            groups.push(Arc::new(if is_full { Group::others() } else { make() }));
        }
        let number = u32::try_from(groups.len() - 1).unwrap_or(u32::MAX);
        if !is_full {
            numbers.insert(label.into(), number);
        }
        number
    }

    /// Whether the scan has met more groups than [`GROUPS_MAX`].
    pub fn is_over_full(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).groups.len() > GROUPS_MAX
    }

    /// Whether at least one of these groups has a resource that API servers have.
    pub fn have_known_resource(&self) -> bool {
        let table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        table.groups.iter().any(|group| group.resource.is_known())
    }

    /// Returns the group with this number.
    pub fn get(&self, number: u32) -> Option<Arc<Group>> {
        let table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        table.groups.get(usize::try_from(number).ok()?).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_that_somebody_made_up_are_counted_as_one() {
        let groups = Groups::default();
        let number = |number: usize| {
            let name = format!("r{number}");
            let resource = Resource { name: name.clone(), group: None };
            let make = || Group { resource, provider: "identity".to_owned(), key_id: None, commitment: None };
            groups.number(name.as_bytes(), make)
        };
        let others = u32::try_from(GROUPS_MAX).unwrap();
        assert!((0..GROUPS_MAX).all(|group| number(group) as usize == group) && !groups.is_over_full());
        for made_up in GROUPS_MAX..GROUPS_MAX + 3 {
            assert_eq!(number(made_up), others);
        }
        assert_eq!(number(7), 7, "a group that was met before");
        assert!(groups.is_over_full() && groups.get(others + 1).is_none());
        assert_eq!(groups.get(others).unwrap().provider, UNKNOWN);
    }
}
