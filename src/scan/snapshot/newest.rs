//! Finds the newest change of each key, which is the key's state now. Changes come newest first, so it is the first one
//! of its key.
//!
//! There are two modes. Both keep a set of keys whose newest change has been met.
//!
//! - *Thorough* looks up every key in the set. Its answers are always right. The set has every key.
//! - *Quick* does not look up a change of version 1, because look-ups take most of the time of counting. A change of
//!   version 1 creates its key. If the key has older changes, a deletion lies between them and this one. Deletions are
//!   in the set, so the older changes are recognised. The set has only keys that were written more than once. A damaged
//!   entry can break this rule, and then an older value counts as a live object. So this mode also lists the keys of
//!   all live objects, 12 bytes for each, and [`Newest::is_proven`] checks at the end that no key is listed twice.

use super::super::fingerprint::{Fingerprint, FingerprintList, FingerprintSet};

/// The set of keys whose newest change has been met.
pub struct Newest {
    met: FingerprintSet,
    /// The keys of all live objects. `None` in thorough mode, in which `met` contains every key.
    live: Option<FingerprintList>,
}

impl Newest {
    /// Makes a set that remembers every key, so that its answers are always right.
    pub fn thorough() -> Self {
        Self { met: FingerprintSet::new(), live: None }
    }

    /// Makes a set that treats a change with version 1 as the first of its key, without a look-up. Its answers are
    /// right if [`Self::is_proven`] is true at the end.
    pub fn quick() -> Self {
        Self { live: Some(FingerprintList::new()), ..Self::thorough() }
    }

    /// Whether this is the newest change of its key. `is_first` tells whether the change creates the key.
    pub fn is_newest(&mut self, key: Fingerprint, is_first: bool) -> bool {
        if is_first && self.live.is_some() { !self.met.contains(key) } else { self.met.insert(key) }
    }

    /// Notes that the newest change of `key` is a live object.
    pub fn note_live(&mut self, key: Fingerprint) {
        if let Some(live) = &mut self.live {
            live.push(key);
        }
    }

    /// Whether no key has more than one live object.
    pub fn is_proven(&self) -> bool {
        self.live.as_ref().is_none_or(FingerprintList::is_distinct)
    }
}
