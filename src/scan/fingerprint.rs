//! Fingerprints: 96 bits that stand for a key or a wrapped seed, so that a scan can remember millions of them.
//!
//! A fingerprint is the first 96 bits of SipHash-1-3 under a key that is drawn for each scan. Two of a million keys get
//! the same fingerprint with a probability of 10^-17, and nobody who chooses keys can make that more likely. The
//! table of a set takes 13 bytes for each slot, and is half to seven eighths full. The length of the keys does not
//! matter.

use std::{
    collections::HashSet,
    hash::{BuildHasherDefault, Hash, Hasher},
    thread,
};

use siphasher::sip128::{Hasher128, SipHasher13};

/// The fingerprint of a key or of a wrapped seed: a hash of 96 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; 12]);

/// Makes fingerprints. All threads of a scan use clones of one fingerprinter, so that their fingerprints can be
/// compared.
#[derive(Clone)]
pub struct Fingerprinter(SipHasher13);

impl Fingerprinter {
    /// Makes fingerprints under the key `random`.
    pub fn new(random: [u8; 16]) -> Self {
        Self(SipHasher13::new_with_key(&random))
    }

    /// Returns the fingerprint of `bytes`.
    pub fn of(&self, bytes: &[u8]) -> Fingerprint {
        let mut hasher = self.0;
        hasher.write(bytes);
        let bytes = hasher.finish128().as_bytes();
        let mut fingerprint = [0; 12];
        fingerprint.copy_from_slice(&bytes[..12]);
        Fingerprint(fingerprint)
    }
}

impl Hash for Fingerprint {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // The bits of a fingerprint are evenly distributed already.
        state.write_u64(self.0.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes)));
    }
}

/// A hash function that returns a fingerprint's bits unchanged.
#[derive(Default)]
pub struct Unchanged(u64);

impl Hasher for Unchanged {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

/// A set of fingerprints in one table.
pub type FingerprintTable = HashSet<Fingerprint, BuildHasherDefault<Unchanged>>;

const SHARDS: usize = 256;

/// Returns the shard of a fingerprint, from bits that the tables do not use.
fn shard(fingerprint: Fingerprint) -> usize {
    fingerprint.0[11].into()
}

/// A large set of fingerprints. It consists of many small tables, because a table is copied whenever it grows: one
/// large table would need twice its memory at that moment.
pub struct FingerprintSet {
    shards: Vec<FingerprintTable>,
}

impl FingerprintSet {
    /// Makes an empty set of fingerprints.
    pub fn new() -> Self {
        Self { shards: (0..SHARDS).map(|_| HashSet::default()).collect() }
    }

    /// Adds a fingerprint. Returns whether it was new.
    pub fn insert(&mut self, fingerprint: Fingerprint) -> bool {
        self.shards[shard(fingerprint)].insert(fingerprint)
    }

    /// Whether the set contains the fingerprint.
    pub fn contains(&self, fingerprint: Fingerprint) -> bool {
        self.shards[shard(fingerprint)].contains(&fingerprint)
    }
}

/// A large list of fingerprints, 12 bytes for each. It can tell afterwards whether one occurs twice.
pub struct FingerprintList {
    shards: Vec<Vec<Fingerprint>>,
}

impl FingerprintList {
    /// Makes an empty list of fingerprints.
    pub fn new() -> Self {
        Self { shards: vec![Vec::new(); SHARDS] }
    }

    /// Adds a fingerprint to the list.
    pub fn push(&mut self, fingerprint: Fingerprint) {
        self.shards[shard(fingerprint)].push(fingerprint);
    }

    /// Whether no fingerprint occurs twice in the list. Two threads check one half each, shard by shard, because a
    /// shard fits into the processor's cache.
    pub fn is_distinct(&self) -> bool {
        let is_distinct = |shards: &[Vec<Fingerprint>]| {
            let mut table = FingerprintTable::default();
            shards.iter().all(|shard| {
                table.clear();
                shard.iter().all(|fingerprint| table.insert(*fingerprint))
            })
        };
        let (some, others) = self.shards.split_at(self.shards.len() / 2);
        thread::scope(|scope| {
            let others = scope.spawn(|| is_distinct(others));
            is_distinct(some) && others.join().unwrap_or(false)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_notices_what_is_in_it_twice() {
        let fingerprinter = Fingerprinter::new([1; 16]);
        let mut list = FingerprintList::new();
        for number in 0..2000_u16 {
            list.push(fingerprinter.of(&number.to_be_bytes()));
        }
        assert!(list.is_distinct());
        list.push(fingerprinter.of(&7_u16.to_be_bytes()));
        assert!(!list.is_distinct());
    }

    #[test]
    fn fingerprints_depend_on_the_key_of_their_scan() {
        let of = |random| Fingerprinter::new([random; 16]).of(b"/registry/secrets/a/b");
        assert!(of(1) == of(1) && of(1) != of(2));
        let mut set = FingerprintSet::new();
        assert!(set.insert(of(1)) && !set.insert(of(1)) && set.contains(of(1)) && !set.contains(of(2)));
    }
}
