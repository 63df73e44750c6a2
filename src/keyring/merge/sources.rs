//! What goes into a merge: the records, what an operator says of single keys, and what each record says of each key.

use std::collections::BTreeMap;

use crate::{
    crypto::{Commitment, Digest},
    keyring::{
        key::{Entry, Key},
        key_id::KeyId,
        mark::Mark,
        recovery::Recovery,
        ring::Keyring,
        state::State,
    },
};

/// What an operator says of single keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wishes {
    /// Stay destroyed, although a record holds their bytes.
    pub destroyed: Vec<KeyId>,
    /// Are lost, and known to be.
    pub lost: Vec<KeyId>,
    /// May be known to others.
    pub compromised: Vec<KeyId>,
}

/// How much of a record counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weight {
    /// All of it: it is under the root key, or the operator named exactly this record.
    Whole,
    /// Its key bytes alone: it is under an earlier root key.
    KeyBytes,
}

/// A record to merge.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// Its keyring.
    pub keyring: &'a Keyring,
    /// Its SHA-256.
    pub record: Digest,
    /// How much of it counts.
    pub weight: Weight,
    /// Whether it is the one that this node has now.
    pub is_here: bool,
}

/// Records of one keyring to merge, in the order in which they are shown, and what is known besides.
pub struct Sources<'a> {
    /// The records, at least one of which counts whole.
    pub records: &'a [Source<'a>],
    /// The greatest generation and sequence number that this node knows.
    pub known: (u64, u32),
    /// What this node saw last.
    pub mark: Option<&'a Mark>,
    /// Keys that a backup holds.
    pub backed: &'a [KeyId],
    /// Recovery blobs for the root key.
    pub recoveries: Vec<Recovery>,
}

/// What a record says of a key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Listing<'a> {
    pub(super) entry: &'a Entry,
    pub(super) weight: Weight,
}

impl<'a> Listing<'a> {
    /// What it says if it counts whole.
    pub(super) fn whole(self) -> Option<&'a Entry> {
        (self.weight == Weight::Whole).then_some(self.entry)
    }
}

/// What each record says of each key.
pub(super) type Lists<'a> = BTreeMap<(u32, Commitment), Vec<Option<Listing<'a>>>>;

pub(super) fn lists<'a>(records: &[Source<'a>]) -> Lists<'a> {
    let mut lists = Lists::new();
    for (place, Source { keyring, weight, .. }) in records.iter().enumerate() {
        for entry in &keyring.entries {
            // A tomb in a record that does not count says nothing, and holds nothing.
            if *weight == Weight::Whole || matches!(entry, Entry::Key(_)) {
                let list = lists.entry(entry.order()).or_insert_with(|| vec![None; records.len()]);
                list[place] = Some(Listing { entry, weight: *weight });
            }
        }
    }
    lists
}

/// Whether any record that counts whole says that the key is disabled, or destroyed.
pub(super) fn is_disabled_by_any(lists: &Lists<'_>, key: &Key) -> bool {
    let list = lists.get(&(key.seq, key.kek.commitment()));
    let mut said = list.into_iter().flatten().flatten().filter_map(|listing| listing.whole());
    said.any(|entry| match entry {
        Entry::Key(key) => key.state == State::Disabled,
        Entry::Tomb(_) => true,
    })
}
