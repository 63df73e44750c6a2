//! Finds the newest change of each key, which is the key's state now. Changes come newest first, so it is the first one
//! of its key.
//!
//! Looking every change up takes most of the time that counting takes. So there is a quick way. A change with version 1
//! is the first of its key, or the first after a deletion. It need not be remembered: an older change of that key can
//! only come from before the deletion, and deletions are remembered. If an entry is damaged, that may be wrong, and an
//! older value is then taken for a live object. So the quick way also lists the keys of all live objects, and
//! [`Newest::is_proven`] checks at the end that none is there twice.
//!
//! The quick way remembers 12 bytes for each live object, and a place in a set for each key that was written more than
//! once.

use super::super::fingerprint::{Fingerprint, FingerprintList, FingerprintSet};

/// Remembers keys whose newest change has been met.
pub struct Newest {
    met: FingerprintSet,
    /// The keys of all live objects, if `met` does not contain every key that was met.
    live: Option<FingerprintList>,
}

impl Newest {
    /// Remembers every key, so that its answers are always right.
    pub fn thorough() -> Self {
        Self { met: FingerprintSet::new(), live: None }
    }

    /// Trusts changes that say they are the first of their key. Its answers are right if [`Self::is_proven`] is true at
    /// the end.
    pub fn quick() -> Self {
        Self { live: Some(FingerprintList::new()), ..Self::thorough() }
    }

    /// Whether this is the newest change of its key. `is_first` is what the change says of itself.
    pub fn is_newest(&mut self, key: Fingerprint, is_first: bool) -> bool {
        if is_first && self.live.is_some() { !self.met.contains(key) } else { self.met.insert(key) }
    }

    /// Notes that the newest change of `key` is a live object.
    pub fn note_live(&mut self, key: Fingerprint) {
        if let Some(live) = &mut self.live {
            live.push(key);
        }
    }

    /// Whether every key has one live object at most.
    pub fn is_proven(&self) -> bool {
        self.live.as_ref().is_none_or(FingerprintList::is_distinct)
    }
}
