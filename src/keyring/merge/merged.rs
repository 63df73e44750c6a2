//! Merges records, and tells what becomes of each key.

use std::collections::BTreeMap;

use crate::{
    crypto::{Commitment, root_key::RootKey},
    keyring::{
        change::{LastGeneration, MakeKeyError, next_generation},
        home::Home,
        key::{Entry, EntryOrder, Key, Tomb},
        key_id::KeyId,
        node::Node,
        past::{Past, PastRecord},
        restore::mark_compromised,
        ring::Keyring,
        state::{Fate, State},
        time::Time,
    },
};

use super::{
    check::{MergeError, check_bounds, check_destroyed, check_mark, check_not_here},
    sources::{MergeSource, Sources, Statement, Weight, Wishes, is_disabled_by_any, statements},
};

/// The states of one key before and after a merge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MergeRow {
    /// The name of the key.
    pub key_id: KeyId,
    /// The commitment of the key.
    pub commitment: Commitment,
    /// The state of the key in each record. `None` if the record does not list the key.
    pub before: Vec<Option<Fate>>,
    /// The state of the key after the merge.
    pub after: Fate,
    /// Whether the merge marks the key as compromised.
    pub is_compromised: bool,
    /// Whether only records under an earlier root key have the key. Anyone who kept that root key may know it.
    pub is_of_earlier_root: bool,
}

/// The outcome of a merge.
#[derive(Debug)]
pub struct Merge {
    /// The merged keyring.
    pub keyring: Keyring,
    /// One row for each key that a record lists.
    pub rows: Vec<MergeRow>,
    /// The new primary key, if the merge had to make one. No backup contains it yet.
    pub fresh: Option<KeyId>,
}

/// Merges `sources` under `root`.
///
/// # Errors
/// When the mark has seen a key that is in no record, a wish names a key that it must not name, a record's numbers are
/// too great, no number is left, or no key can be made.
pub fn merge(
    rng: &mut impl rand::TryCryptoRng,
    root: &RootKey,
    sources: &Sources<'_>,
    wishes: &Wishes,
    now: Time,
) -> Result<Merge, MergeError> {
    check_bounds(sources)?;
    let statements = statements(sources);
    check_mark(&statements, sources.mark, wishes)?;
    check_destroyed(&statements, wishes)?;
    check_not_here(sources, wishes)?;
    let mut keyring = skeleton(sources, root).map_err(MakeKeyError::from)?;
    for (order, said) in &statements {
        keyring.entries.push(merged(*order, said, wishes, keyring.generation, now));
    }
    mark_compromised(&mut keyring, &wishes.compromised)?;
    keyring.rewrap(rng, root).map_err(MakeKeyError::from)?;
    let may_wrap = |key: &Key| sources.backed.contains(&key.id()) && !is_disabled_by_any(&statements, key);
    let fresh = keyring.wrap_under_newest(rng, root, may_wrap, now)?;
    let rows = keyring.entries.iter().zip(statements.values()).map(|(entry, said)| row(entry, said)).collect();
    Ok(Merge { keyring, rows, fresh })
}

fn row(entry: &Entry, said: &[Option<Statement<'_>>]) -> MergeRow {
    MergeRow {
        key_id: entry.id(),
        commitment: entry.order().commitment,
        before: said.iter().map(|statement| statement.map(|statement| statement.entry.fate())).collect(),
        after: entry.fate(),
        is_compromised: matches!(entry, Entry::Key(key) if key.compromised),
        is_of_earlier_root: !is_held(said.iter().flatten().filter_map(|statement| statement.whole())),
    }
}

/// Returns the merged keyring without keys and tombs.
fn skeleton(sources: &Sources<'_>, root: &RootKey) -> Result<Keyring, LastGeneration> {
    let whole = || sources.records().filter(|source| source.weight == Weight::Whole);
    let marked = sources.mark.map(|mark| PastRecord { generation: mark.generation(), record: mark.record() });
    let record = |source: &MergeSource<'_>| PastRecord { generation: source.keyring.generation, record: source.record };
    let past = Past::united(
        whole().flat_map(|source| [record(source)].into_iter().chain(source.keyring.past.iter())).chain(marked),
    );
    let greatest = past.iter().next().map_or(0, |past| past.generation);
    let generation = next_generation(greatest)?;
    Ok(Keyring {
        uuid: sources.first.keyring.uuid,
        generation,
        home: sources.mark.map_or(Home::File, |mark| mark.home().clone()),
        root_id: root.id(sources.first.keyring.uuid),
        past,
        restored: Some(generation),
        merged: None,
        nodes: nodes(whole().map(|source| source.keyring)),
        recoveries: sources.recoveries.clone(),
        entries: Vec::new(),
    })
}

/// Returns all nodes. A node has left if every record that lists it says so. It is gone if one record says so.
fn nodes<'a>(keyrings: impl Iterator<Item = &'a Keyring>) -> Vec<Node> {
    let mut nodes: BTreeMap<&str, Node> = BTreeMap::new();
    for node in keyrings.flat_map(|keyring| &keyring.nodes) {
        let known = nodes.entry(&node.name).or_insert_with(|| node.clone());
        known.left = known.left.and(node.left);
        known.gone = known.gone.or(node.gone);
    }
    nodes.into_values().collect()
}

/// Merges the statements of all records about one key, before one of the keys is made primary.
fn merged(order: EntryOrder, said: &[Option<Statement<'_>>], wishes: &Wishes, generation: u64, now: Time) -> Entry {
    let listed = || said.iter().flatten();
    let whole = || listed().filter_map(|statement| statement.whole());
    let destroyed = whole().find_map(|entry| match entry {
        Entry::Tomb(tomb) => Some(tomb.destroyed),
        Entry::Key(_) => None,
    });
    let stays_destroyed = wishes.keep_destroyed.contains(&order.key_id());
    let keys = || whole().chain(listed().map(|statement| statement.entry));
    let key = keys().find_map(|entry| match entry {
        Entry::Key(key) => Some(key),
        Entry::Tomb(_) => None,
    });
    let Some(key) = key.filter(|_| !stays_destroyed) else {
        let EntryOrder { seq, commitment } = order;
        return Entry::Tomb(Tomb { seq, commitment, destroyed: destroyed.unwrap_or(generation) });
    };
    let is_disabled = |entry: &Entry| matches!(entry, Entry::Key(key) if key.state == State::Disabled);
    let is_known = whole().next().is_some();
    let mut key = key.clone();
    key.compromised = !is_held(whole()) || whole().any(|entry| matches!(entry, Entry::Key(key) if key.compromised));
    // The records may give the key different states. It is disabled if all of them say so.
    key.state = if is_known && whole().all(is_disabled) { State::Disabled } else { State::DecryptOnly };
    key.give_back(now);
    Entry::Key(key)
}

/// Whether one of these entries is a key with its bytes.
fn is_held<'a>(mut entries: impl Iterator<Item = &'a Entry>) -> bool {
    entries.any(|entry| matches!(entry, Entry::Key(_)))
}
