//! The inputs of a merge: the records, and the operator's decisions about single keys (`--lost`, `--keep-destroyed`,
//! `--compromised`).

use std::{collections::BTreeMap, iter};

use crate::{
    crypto::Digest,
    keyring::{
        key::{Entry, EntryOrder, Key},
        key_id::KeyId,
        mark::Mark,
        recovery::Recovery,
        ring::Keyring,
        state::State,
    },
};

/// The decisions of an operator about single keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wishes {
    /// `--keep-destroyed`: these keys stay destroyed, although a record has their bytes.
    pub keep_destroyed: Vec<KeyId>,
    /// `--lost`: the operator knows that these keys are lost.
    pub lost: Vec<KeyId>,
    /// `--compromised`: somebody else may know these keys.
    pub compromised: Vec<KeyId>,
}

/// Which part of a record counts in a merge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weight {
    /// The whole record. It is under the root key, or the operator named exactly this record.
    Whole,
    /// Only the bytes of the keys in the record. It is under an earlier root key.
    KeyBytes,
}

/// A record that is merged.
#[derive(Debug, Clone, Copy)]
pub struct MergeSource<'a> {
    /// The keyring that the record contains.
    pub keyring: &'a Keyring,
    /// The SHA-256 of the record.
    pub record: Digest,
    /// Which part of the record counts.
    pub weight: Weight,
    /// Whether this node has this record now.
    pub is_here: bool,
}

/// The greatest numbers in some records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Greatest {
    /// The greatest generation.
    pub generation: u64,
    /// The greatest sequence number of a key.
    pub seq: u32,
}

impl Greatest {
    /// Returns the greatest numbers of `keyring`.
    pub fn of(keyring: &Keyring) -> Self {
        Self { generation: keyring.generation, seq: keyring.greatest_seq() }
    }

    /// Returns the numbers that `mark` names.
    pub fn marked(mark: &Mark) -> Self {
        Self { generation: mark.generation(), seq: mark.has().iter().map(KeyId::seq).max().unwrap_or(0) }
    }

    /// Returns the greater generation and the greater sequence number of the two.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self { generation: self.generation.max(other.generation), seq: self.seq.max(other.seq) }
    }
}

/// The records of one keyring, and what else a merge needs to know.
pub struct Sources<'a> {
    /// The record that is shown first.
    pub first: MergeSource<'a>,
    /// The other records, in the order in which they are shown. At least one of all records has [`Weight::Whole`].
    pub others: &'a [MergeSource<'a>],
    /// The greatest numbers that this node knows.
    pub known: Greatest,
    /// The mark of this node.
    pub mark: Option<&'a Mark>,
    /// The keys that at least one backup contains.
    pub backed: &'a [KeyId],
    /// The recovery blobs for the root key.
    pub recoveries: Vec<Recovery>,
}

impl<'a> Sources<'a> {
    /// Returns all records, in the order in which they are shown.
    pub(super) fn records(&self) -> impl Iterator<Item = &MergeSource<'a>> {
        iter::once(&self.first).chain(self.others)
    }
}

/// The entry that one record has for one key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Statement<'a> {
    pub(super) entry: &'a Entry,
    pub(super) weight: Weight,
}

impl<'a> Statement<'a> {
    /// Returns the entry, if its record has [`Weight::Whole`].
    pub(super) fn whole(self) -> Option<&'a Entry> {
        (self.weight == Weight::Whole).then_some(self.entry)
    }
}

/// The statement of each record about each key. The inner list has one place for each record.
pub(super) type Statements<'a> = BTreeMap<EntryOrder, Vec<Option<Statement<'a>>>>;

/// Collects what each record says about each key.
pub(super) fn statements<'a>(sources: &Sources<'a>) -> Statements<'a> {
    let mut statements = Statements::new();
    for (place, MergeSource { keyring, weight, .. }) in sources.records().enumerate() {
        for entry in &keyring.entries {
            // If only the key bytes of a record count, a tomb in it is ignored, because a tomb has no bytes.
            if *weight == Weight::Whole || matches!(entry, Entry::Key(_)) {
                let said = statements.entry(entry.order()).or_insert_with(|| vec![None; 1 + sources.others.len()]);
                said[place] = Some(Statement { entry, weight: *weight });
            }
        }
    }
    statements
}

/// Whether a record with [`Weight::Whole`] says that the key is disabled or destroyed.
pub(super) fn is_disabled_by_any(statements: &Statements<'_>, key: &Key) -> bool {
    let said = statements.get(&EntryOrder { seq: key.seq, commitment: key.kek.commitment() });
    let mut whole = said.into_iter().flatten().flatten().filter_map(|statement| statement.whole());
    whole.any(|entry| match entry {
        Entry::Key(key) => key.state == State::Disabled,
        Entry::Tomb(_) => true,
    })
}
