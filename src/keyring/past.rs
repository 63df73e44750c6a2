//! The past of a record: the list of earlier records.
//!
//! A node uses it to tell a successor of the marked record from a fork. Pure. Invariants: the list is sorted by
//! generation, the newest first, then by digest, and nothing occurs twice. A change keeps the last [`KEPT`]
//! generations, a merge the whole past of each fully trusted record. A list never has more than [`PAST_MAX`] records.
//! Source: `docs/formats.md`, "record".

use crate::crypto::Digest;

/// How many generations back a record lists its predecessors.
pub const KEPT: u64 = 256;

/// The greatest number of records in a past, also after a merge.
pub const PAST_MAX: usize = 1024;

/// A predecessor of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PastRecord {
    /// The generation of the predecessor.
    pub generation: u64,
    /// The SHA-256 of the predecessor.
    pub record: Digest,
}

impl PastRecord {
    /// Orders the list: the newest first.
    fn order(&self) -> (std::cmp::Reverse<u64>, Digest) {
        (std::cmp::Reverse(self.generation), self.record)
    }
}

/// The predecessors of a record, the newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Past(Vec<PastRecord>);

impl Past {
    /// Reads the list in the record of `generation`. Returns `None` if it is not sorted, is too long, or does not lead
    /// to that generation.
    pub(super) fn of_record(generation: u64, pasts: Vec<PastRecord>) -> Option<Self> {
        let is_sorted = pasts.is_sorted_by(|a, b| a.order() < b.order());
        let newest = pasts.first().map_or(0, |past| past.generation);
        let begins = pasts.last().is_none_or(|past| past.generation > 0);
        (is_sorted && begins && pasts.len() <= PAST_MAX && newest + 1 == generation).then_some(Self(pasts))
    }

    /// Returns the past of the next record. `self` is the past of the record before it, which has this generation and
    /// this SHA-256.
    pub(super) fn then(&self, generation: u64, record: Digest) -> Self {
        let is_kept = |past: &PastRecord| past.generation + KEPT > generation;
        let before = self.iter().filter(is_kept);
        Self([PastRecord { generation, record }].into_iter().chain(before).take(PAST_MAX).collect())
    }

    /// Returns the past of a merge. If it is too long, the oldest records are left out.
    pub(super) fn united(pasts: impl Iterator<Item = PastRecord>) -> Self {
        let mut pasts: Vec<PastRecord> = pasts.collect();
        pasts.sort_by_key(PastRecord::order);
        pasts.dedup();
        pasts.truncate(PAST_MAX);
        Self(pasts)
    }

    /// Returns the records, the newest first.
    pub fn iter(&self) -> impl Iterator<Item = PastRecord> {
        self.0.iter().copied()
    }

    /// Whether the list has this record.
    pub fn names(&self, generation: u64, record: Digest) -> bool {
        self.0.binary_search_by_key(&PastRecord { generation, record }.order(), PastRecord::order).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn past(generation: u64, byte: u8) -> PastRecord {
        PastRecord { generation, record: Digest([byte; 32]) }
    }

    #[test]
    fn a_successor_names_the_last_records_and_no_others() {
        let mut past = Past::default();
        for generation in 1..=300 {
            past = past.then(generation, Digest([7; 32]));
        }
        assert_eq!(past.iter().count(), 256);
        assert!(past.names(300, Digest([7; 32])) && past.names(45, Digest([7; 32])));
        assert!(!past.names(44, Digest([7; 32])) && !past.names(300, Digest([8; 32])));
        assert_eq!(Past::of_record(301, past.iter().collect()), Some(past));
    }

    #[test]
    fn after_a_merge_every_lineage_is_named_as_many_generations_back() {
        let both = (1..=400).flat_map(|generation| [past(generation, 1), past(generation, 2)]);
        let past = Past::united(both).then(400, Digest([3; 32])).then(401, Digest([3; 32]));
        for byte in [1, 2] {
            assert!(past.names(146, Digest([byte; 32])) && !past.names(145, Digest([byte; 32])));
        }
    }

    #[test]
    fn only_the_past_of_this_generation_is_read() {
        let read = |generation, pasts: &[PastRecord]| Past::of_record(generation, pasts.to_vec()).is_some();
        assert!(read(1, &[]) && read(3, &[past(2, 1), past(1, 1)]) && read(3, &[past(2, 1), past(2, 2)]));
        assert!(!read(2, &[]) && !read(1, &[past(1, 1)]) && !read(1, &[past(0, 1)]));
        assert!(!read(4, &[past(2, 1), past(1, 1)]) && !read(2, &[past(2, 1)]));
        assert!(!read(3, &[past(2, 2), past(2, 1)]) && !read(3, &[past(2, 1), past(2, 1)]));
        assert!(!read(3, &[past(1, 1), past(2, 1)]) && !read(2, &[past(1, 1), past(0, 1)]));
        let many = |count: u64| (1..=count).rev().map(|generation| past(generation, 1)).collect::<Vec<_>>();
        assert!(read(1025, &many(1024)) && !read(1026, &many(1025)));
    }

    #[test]
    fn a_merge_names_the_newest_records_of_every_lineage() {
        let twins = [past(2, 9), past(3, 1), past(3, 2), past(2, 9), past(1, 1)];
        let united = Past::united(twins.into_iter());
        assert_eq!(united.iter().collect::<Vec<_>>(), [past(3, 1), past(3, 2), past(2, 9), past(1, 1)]);
        let long = Past::united((1..2000).map(|generation| past(generation, 1)));
        assert_eq!(long.iter().count(), PAST_MAX);
        assert!(long.names(1999, Digest([1; 32])));
    }
}
