//! Collects the changes in one part of the tree, in one thread. Whether a change is the newest of its key is decided
//! later.

use std::mem;

use super::super::{
    bolt::{BoundKey, Bounds, DamageList, Element, Leaf, LeafVisitor, PageDamage, PageError},
    fingerprint::Fingerprint,
    names,
    object::Summary,
    outcome::OutsideValues,
    prefixes::Prefixes,
    revision::{KeyChange, Revision},
    stored::EntryPlace,
    summarizer::Summarizer,
};

/// The greatest length of a key that counts as one of Kubernetes, whose names are a hundred times shorter. The keys of
/// many changes are in memory at the same time.
const KEY_MAX: usize = 1 << 16;

/// One change of a key. The key itself is in [`Batch::keys`].
pub struct ReadChange {
    /// The fingerprint of the key.
    pub fingerprint: Fingerprint,
    /// The length of the key in [`Batch::keys`].
    pub key_length: u32,
    /// The number of the transaction.
    pub revision: u64,
    /// Whether this change creates the key: it is the first change, or the first one after a deletion.
    pub is_first: bool,
    /// The summary of the new value. `None` if the key was deleted.
    pub summary: Option<Summary>,
}

/// The changes in one part of the tree, the newest first.
#[derive(Default)]
pub struct Batch {
    /// The changes below the prefix.
    pub changes: Vec<ReadChange>,
    /// The keys of the changes, one after the other.
    pub keys: Vec<u8>,
    /// The places in the file of the messages with the values of the changes, if the sink needs values.
    pub entries: Vec<EntryPlace>,
    /// The damage in this part of the tree.
    pub damage: DamageList,
    /// The values whose keys are outside the prefix.
    pub outside: OutsideValues,
    /// The prefixes that the keys show.
    pub prefixes: Prefixes,
    /// Whether a deleted key below the prefix names a resource that API servers have. For other keys, their groups
    /// tell.
    pub has_deleted_resource: bool,
    /// The greatest number of a transaction in this part.
    pub revision: u64,
}

impl Batch {
    /// Makes an empty batch with the capacity that this one needs.
    fn with_same_room(&self) -> Self {
        let (changes, keys) = (Vec::with_capacity(self.changes.len()), Vec::with_capacity(self.keys.len()));
        Self { changes, keys, entries: Vec::with_capacity(self.entries.len()), ..Self::default() }
    }
}

/// Fills a batch from the leaves of a tree.
pub struct Collector {
    summarizer: Summarizer,
    needs_values: bool,
    batch: Batch,
}

impl Collector {
    /// Begins with an empty batch. `needs_values` says whether the sink needs values.
    pub fn new(summarizer: Summarizer, needs_values: bool) -> Self {
        Self { summarizer, needs_values, batch: Batch::default() }
    }

    /// Returns the batch, and begins the next one.
    pub fn take(&mut self) -> Batch {
        let next = self.batch.with_same_room();
        mem::replace(&mut self.batch, next)
    }

    /// Adds the change in an element. A key outside of the prefix is only noted.
    fn add(&mut self, element: &Element<'_>) -> Result<(), PageError> {
        let index = element.index;
        if element.is_bucket {
            return Err(PageError::Kind { index, found: "a bucket", expected: "a value" });
        }
        let damaged = |what: String| PageError::Value { index, what };
        let change = KeyChange::parse(element.key, element.value).map_err(|error| damaged(error.to_string()))?;
        self.batch.revision = self.batch.revision.max(change.revision.main);
        if !self.summarizer.names().contain(change.key) {
            if change.value.is_some() {
                self.batch.outside.note(change.key);
                self.batch.prefixes.note(change.key);
            }
            return Ok(());
        }
        if change.key.len() > KEY_MAX || !is_text(change.key) {
            return Err(damaged("its key is not one that Kubernetes writes".to_owned()));
        }
        let key_length = u32::try_from(change.key.len()).map_err(|_| damaged("its key is too long".to_owned()))?;
        self.keep(&change, key_length);
        if self.needs_values {
            self.batch.entries.push(EntryPlace { start: element.value_start, length: element.value.len() });
        }
        Ok(())
    }

    /// Adds a change below the prefix.
    fn keep(&mut self, change: &KeyChange<'_>, key_length: u32) {
        if change.value.is_none() && !self.batch.has_deleted_resource {
            let path = self.summarizer.names().path(change.key).unwrap_or_default();
            self.batch.has_deleted_resource = names::resource(&String::from_utf8_lossy(path)).is_known();
        }
        let fingerprint = self.summarizer.fingerprinter().of(change.key);
        let summary = change.value.and_then(|value| self.summarizer.summarize(change.key, value));
        self.batch.changes.push(ReadChange {
            fingerprint,
            key_length,
            revision: change.revision.main,
            is_first: change.is_first,
            summary,
        });
        self.batch.keys.extend_from_slice(change.key);
    }
}

/// Whether Kubernetes could have written this key.
fn is_text(key: &[u8]) -> bool {
    let is_plain = key.iter().fold(true, |is_plain, byte| is_plain & (0x20..0x7f).contains(byte));
    is_plain || std::str::from_utf8(key).is_ok_and(|text| !text.chars().any(char::is_control))
}

impl LeafVisitor for Collector {
    fn leaf(&mut self, page: u64, leaf: &Leaf<'_>) {
        for element in leaf.backwards() {
            if let Err(error) = self.add(&element) {
                self.damage(PageDamage { page, error, bounds: Some(missing(leaf, &element)) });
            }
        }
    }

    fn damages(&mut self) -> &mut DamageList {
        &mut self.batch.damage
    }
}

/// Returns the revisions that an unreadable element may hide: its own revision, or all revisions between its neighbours
/// if its key contains none.
fn missing(leaf: &Leaf<'_>, element: &Element<'_>) -> Bounds {
    let has_revision = matches!(element.key.len(), 17 | 18) && Revision::parse(element.key).is_some();
    let own = || BoundKey::new(element.key);
    if has_revision { Bounds { low: own(), high: own() } } else { leaf.around(element.index) }
}
