//! Groups the live values of a snapshot by what opens them: a key of claviger's, a key of somebody else's, or nothing.

use std::collections::BTreeMap;

use super::super::{
    group::Group,
    tally::Counts,
    value::{UNKNOWN, commitment_half},
};
use crate::{apiserver::coverage::IDENTITY, crypto::Commitment};

/// The number of etcd keys that are kept for each lock as examples.
pub(super) const SAMPLES: usize = 5;

/// The key that opens a value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum ValueLock {
    /// The value needs a key of claviger. It names this key, and its wrapped seed is under it.
    Claviger {
        /// The key_id in the value.
        key_id: String,
        /// The commitment of the key.
        commitment: Commitment,
    },
    /// The value names a key of claviger, and its wrapped seed is not under that key. So the key does not open it, and
    /// no API server can read it.
    Misnamed {
        /// The key_id in the value.
        key_id: String,
    },
    /// The value needs a key that claviger never has: a key of another KMS plugin, or one in the API server's
    /// EncryptionConfiguration.
    Foreign {
        /// The provider, as the value's prefix names it.
        provider: String,
        /// The key_id in the value. `None` for other providers than KMS v2.
        key_id: Option<String>,
    },
    /// The value is damaged or of a newer kind, and does not show which key it needs.
    Unclear,
    /// The value is plaintext, and needs no key.
    Plaintext,
}

/// The live values that need the same key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LockedValues {
    /// The number of values.
    pub objects: u64,
    /// The first keys in etcd of the values, in alphabetical order.
    pub samples: Vec<String>,
}

impl ValueLock {
    /// Decides which key opens the values of a group.
    fn of(group: &Group) -> Self {
        if group.provider == IDENTITY {
            return Self::Plaintext;
        }
        if may_need_any_key(group) {
            return Self::Unclear;
        }
        let foreign = || Self::Foreign { provider: group.provider.clone(), key_id: group.key_id.clone() };
        let Some(key_id) = &group.key_id else { return foreign() };
        match (commitment_half(key_id), group.commitment) {
            (Some(half), Some(commitment)) if commitment.first_half() == half => {
                Self::Claviger { key_id: key_id.clone(), commitment }
            }
            (None, None) => foreign(),
            _ => Self::Misnamed { key_id: key_id.clone() },
        }
    }
}

/// Whether these values may need a key of claviger that their bytes do not name: damaged values of KMS v2, values whose
/// provider cannot be read, and values of a version of KMS that this scanner does not know.
pub(super) fn may_need_any_key(group: &Group) -> bool {
    let mut parts = group.provider.splitn(3, ':');
    group.key_id.is_none()
        && match (parts.next(), parts.next()) {
            (Some("kms"), version) => version != Some("v1"),
            (scheme, None) => scheme == Some(UNKNOWN),
            _ => false,
        }
}

/// Groups the live values of `counts` by their locks.
pub(super) fn by_lock(counts: &Counts) -> BTreeMap<ValueLock, LockedValues> {
    let mut locked = BTreeMap::<_, LockedValues>::new();
    for count in counts.by_group.iter().filter(|count| count.objects > 0) {
        let values = locked.entry(ValueLock::of(&count.group)).or_default();
        values.objects += count.objects;
        values.samples.extend(count.samples.sorted());
        values.samples.sort();
        values.samples.truncate(SAMPLES);
    }
    locked
}
