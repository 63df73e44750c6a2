//! Collects the values that an operator leaves by name. They are not counted. Their bytes are kept, so that a caller
//! with the keys can check that none of the keys opens them.

use std::{collections::BTreeSet, ops::ControlFlow, sync::Arc};

use super::{
    super::{
        group::{Group, Groups},
        object::{Object, Sink},
        tally::Tally,
    },
    locked::may_need_any_key,
};
use crate::crypto::Commitment;

/// A value that is left by name.
#[derive(Debug, Clone)]
pub struct LeftValue {
    /// The key of the object in etcd.
    pub key: Vec<u8>,
    /// The bytes of the value in etcd.
    pub value: Vec<u8>,
    group: Arc<Group>,
}

impl LeftValue {
    /// Whether the value would count as one that needs the key with this commitment and this key_id, or that may need
    /// any key.
    pub fn may_need(&self, commitment: &Commitment, key_id: &str) -> bool {
        self.group.commitment == Some(*commitment)
            || self.group.key_id.as_deref() == Some(key_id)
            || may_need_any_key(&self.group)
    }
}

/// A sink that keeps the values that are left by name, and counts all others.
pub(super) struct LeavingTally<'a> {
    pub(super) tally: Tally<'a>,
    pub(super) names: &'a BTreeSet<Vec<u8>>,
    pub(super) groups: Arc<Groups>,
    pub(super) left: Vec<LeftValue>,
}

impl LeavingTally<'_> {
    /// Keeps a value that is left by name. Returns false if the value has to be counted: no name leaves it, or its
    /// bytes cannot be read.
    fn keeps(&mut self, object: &Object<'_>) -> bool {
        let text = String::from_utf8_lossy(object.key);
        if !self.names.contains(object.key) && !self.names.contains(text.as_bytes()) {
            return false;
        }
        let (Some(value), Some(group)) = (object.value, self.groups.get(object.summary.group)) else { return false };
        let (kept, mut room) = (value.keep(), Vec::new());
        let Ok(value) = kept.read(&mut room) else { return false };
        self.left.push(LeftValue { key: object.key.to_vec(), value: value.to_vec(), group });
        true
    }
}

impl Sink for LeavingTally<'_> {
    const NEEDS_VALUES: bool = true;

    fn object(&mut self, object: &Object<'_>) -> ControlFlow<()> {
        if self.keeps(object) { ControlFlow::Continue(()) } else { self.tally.object(object) }
    }

    fn older(&mut self, object: &Object<'_>) -> ControlFlow<()> {
        self.tally.older(object)
    }

    fn forget(&mut self) -> bool {
        self.left.clear();
        self.tally.forget()
    }
}
