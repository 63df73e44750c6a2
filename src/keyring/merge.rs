//! The merge of records of one keyring that grew apart, or of which one was put back: no key that any of them holds is lost.
//!
//! Pure. A fresh key wraps from then on, as none of the others is known to be on all sides; every other only unwraps, and is disabled
//! if all that list it say so. Key bytes beat a tomb, as restored data may need them, unless an operator names the key. A key that this
//! node's mark has seen and no record holds stops the merge. Source: `docs/formats.md`, "Merging".

use std::collections::BTreeMap;

use crate::crypto::{Commitment, Digest, kdf::RootKey};

use super::{
    ChangeError, Entry, Key, Keyring, Tomb, key_id::KeyId, mark::Mark, recovery::Recovery, seal, state::State,
    time::Time,
};

/// What an operator says of single keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wishes {
    /// Stay destroyed, although a record holds their bytes.
    pub destroyed: Vec<KeyId>,
    /// Are lost, and known to be.
    pub lost: Vec<KeyId>,
}

/// What becomes of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The key.
    pub key_id: KeyId,
    /// What it is in each record; none where it is not listed.
    pub before: Vec<Option<&'static str>>,
    /// What it will be.
    pub after: &'static str,
}

/// What a merge does.
#[derive(Debug)]
pub struct Merge {
    /// The keyring as it would be.
    pub keyring: Keyring,
    /// Every key that was there before.
    pub rows: Vec<Row>,
    /// The fresh key.
    pub fresh: KeyId,
}

/// Why records are not merged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MergeError {
    /// This node has seen keys that none of the records holds.
    #[error("this node has seen keys that are in none of these: {}", names(.0))]
    Missing(Vec<KeyId>),
    /// An operator named keys for something that they are not.
    #[error("{} {}", names(keys), what)]
    Named {
        /// The keys.
        keys: Vec<KeyId>,
        /// What they are not.
        what: &'static str,
    },
    /// No key could be made.
    #[error(transparent)]
    Change(#[from] ChangeError),
}

fn names(keys: &[KeyId]) -> String {
    keys.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Records to merge, at least one, in the order in which they are shown.
#[derive(Debug)]
pub struct Sources<'a> {
    /// All of one keyring.
    pub keyrings: &'a [&'a Keyring],
    /// What this node saw last.
    pub mark: Option<&'a Mark>,
    /// Recovery blobs for the root key.
    pub recoveries: Vec<Recovery>,
    /// The SHA-256 of the record that is replaced.
    pub prev: Option<Digest>,
}

/// Merges `sources` under `root`.
///
/// # Errors
/// When a key that the mark has seen is in none of them, a wish names another key, no number is left, or no key can be made.
pub fn merge(
    rng: &mut impl rand::TryCryptoRng,
    root: &RootKey,
    sources: &Sources<'_>,
    wishes: &Wishes,
    now: Time,
) -> Result<Merge, MergeError> {
    let lists = lists(sources.keyrings);
    check_mark(&lists, sources.mark, wishes)?;
    check_destroyed(&lists, wishes)?;
    let mut keyring = skeleton(sources, root)?;
    let mut rows = Vec::new();
    for (order, list) in &lists {
        let entry = merged(*order, list, wishes, keyring.generation, now);
        rows.push(Row {
            key_id: entry.id(),
            before: list.iter().map(|entry| entry.map(state)).collect(),
            after: state(&entry),
        });
        keyring.entries.push(entry);
    }
    let greatest = lists.keys().map(|(seq, _)| *seq).max().unwrap_or(0);
    let seq = greatest.checked_add(1).ok_or(ChangeError::Exhausted)?;
    let sealed: Result<Vec<_>, _> = keyring.keys().map(|key| seal(rng, root, &keyring, key.seq, &key.kek)).collect();
    let sealed = sealed.map_err(ChangeError::from)?;
    for (key, sealed) in keyring.keys_mut().zip(sealed) {
        key.sealed = sealed;
    }
    let fresh = Key::generate(rng, root, &keyring, seq, now).map_err(ChangeError::from)?;
    let fresh = Key { state: State::Primary, promoted: Some(now), ..fresh };
    let fresh_id = fresh.id();
    keyring.entries.push(Entry::Key(fresh));
    Ok(Merge { keyring, rows, fresh: fresh_id })
}

/// What each record says of each key.
type Lists<'a> = BTreeMap<(u32, Commitment), Vec<Option<&'a Entry>>>;

fn lists<'a>(keyrings: &[&'a Keyring]) -> Lists<'a> {
    let mut lists = Lists::new();
    for (place, keyring) in keyrings.iter().enumerate() {
        for entry in &keyring.entries {
            lists.entry(entry.order()).or_insert_with(|| vec![None; keyrings.len()])[place] = Some(entry);
        }
    }
    lists
}

fn check_mark(lists: &Lists<'_>, mark: Option<&Mark>, wishes: &Wishes) -> Result<(), MergeError> {
    let seen = mark.map_or(&[][..], Mark::has);
    let is_listed = |key_id: &KeyId| lists.keys().any(|(seq, c)| KeyId::new(*seq, c) == *key_id);
    let missing: Vec<KeyId> = seen.iter().filter(|key_id| !is_listed(key_id)).copied().collect();
    let keys = differing(&wishes.lost, |key_id| missing.contains(key_id));
    if !keys.is_empty() {
        return Err(MergeError::Named {
            keys,
            what: "cannot be lost: no key that this node has seen is missing by that name",
        });
    }
    let missing = differing(&missing, |key_id| wishes.lost.contains(key_id));
    if missing.is_empty() { Ok(()) } else { Err(MergeError::Missing(missing)) }
}

fn check_destroyed(lists: &Lists<'_>, wishes: &Wishes) -> Result<(), MergeError> {
    let has_tomb = |key_id: &KeyId| {
        let entries = lists.values().flatten().flatten();
        entries.filter(|entry| entry.id() == *key_id).any(|entry| matches!(entry, Entry::Tomb(_)))
    };
    let keys = differing(&wishes.destroyed, has_tomb);
    let what = "cannot stay destroyed: no record says that it is";
    if keys.is_empty() { Ok(()) } else { Err(MergeError::Named { keys, what }) }
}

fn differing(keys: &[KeyId], is_right: impl Fn(&KeyId) -> bool) -> Vec<KeyId> {
    keys.iter().filter(|key_id| !is_right(key_id)).copied().collect()
}

/// The merged keyring without its entries.
fn skeleton(sources: &Sources<'_>, root: &RootKey) -> Result<Keyring, ChangeError> {
    let first = sources.keyrings.first().ok_or(ChangeError::Exhausted)?;
    let generations = sources.keyrings.iter().map(|keyring| keyring.generation);
    let greatest = generations.chain(sources.mark.map(Mark::generation)).max().unwrap_or(0);
    let generation = greatest.checked_add(1).ok_or(ChangeError::Exhausted)?;
    let recoveries = sources.recoveries.clone();
    let (uuid, root_id, prev) = (first.uuid, root.id(first.uuid), sources.prev);
    Ok(Keyring { uuid, generation, prev, root_id, recoveries, entries: Vec::new() })
}

/// What becomes of a key that at least one record lists.
fn merged(
    (seq, commitment): (u32, Commitment),
    list: &[Option<&Entry>],
    wishes: &Wishes,
    generation: u64,
    now: Time,
) -> Entry {
    let listed = || list.iter().flatten();
    let keys = || {
        listed().filter_map(|entry| match entry {
            Entry::Key(key) => Some(key),
            Entry::Tomb(_) => None,
        })
    };
    let destroyed = listed().find_map(|entry| match entry {
        Entry::Tomb(tomb) => Some(tomb.destroyed),
        Entry::Key(_) => None,
    });
    let stays_destroyed = wishes.destroyed.contains(&KeyId::new(seq, &commitment));
    let Some(key) = keys().next().filter(|_| !stays_destroyed) else {
        return Entry::Tomb(Tomb { seq, commitment, destroyed: destroyed.unwrap_or(generation) });
    };
    let is_disabled = |entry: &&Entry| matches!(entry, Entry::Key(key) if key.state == State::Disabled);
    let state = if listed().all(is_disabled) { State::Disabled } else { State::DecryptOnly };
    let promoted = keys().find_map(|key| key.promoted);
    let demoted = keys().find_map(|key| key.demoted).or(promoted.map(|_| now));
    Entry::Key(Key { state, promoted, demoted, ..key.clone() })
}

fn state(entry: &Entry) -> &'static str {
    match entry {
        Entry::Key(key) => key.state.as_str(),
        Entry::Tomb(_) => "destroyed",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::rngs::SysRng;

    use super::*;
    use crate::{
        crypto::Uuid,
        keyring::{record, testing::now},
    };

    const UUID: Uuid = Uuid([5; 16]);
    const RECORD: Digest = Digest([1; 32]);

    struct Fixture {
        root: RootKey,
        /// One key, primary.
        first: Keyring,
    }

    fn fixture() -> Fixture {
        let root = RootKey::generate(&mut SysRng).unwrap();
        let first = Keyring::create(&mut SysRng, &root, UUID, Vec::new(), now()).unwrap();
        Fixture { root, first }
    }

    impl Fixture {
        /// `keyring` with one key more, which is promoted.
        fn rotated(&self, keyring: &Keyring) -> Keyring {
            let (added, key_id) = keyring.add(&mut SysRng, &self.root, RECORD, now()).unwrap();
            added.promote(key_id, RECORD, now()).unwrap()
        }

        fn merge(&self, keyrings: &[&Keyring], mark: Option<&Mark>, wishes: &Wishes) -> Result<Merge, MergeError> {
            let sources = Sources { keyrings, mark, recoveries: Vec::new(), prev: Some(RECORD) };
            let merged = merge(&mut SysRng, &self.root, &sources, wishes, now())?;
            // What cannot be written and read is no keyring.
            let bytes = record::encode(&merged.keyring, &self.root).unwrap();
            record::decode(&bytes, &self.root, UUID).unwrap();
            Ok(merged)
        }
    }

    fn after(merge: &Merge) -> Vec<&'static str> {
        merge.rows.iter().map(|row| row.after).collect()
    }

    #[test]
    fn two_lines_that_grew_apart_keep_every_key_and_a_fresh_one_wraps() {
        let fixture = fixture();
        let (ours, theirs) = (fixture.rotated(&fixture.first), fixture.rotated(&fixture.first));
        let theirs = fixture.rotated(&theirs);
        let merge = fixture.merge(&[&ours, &theirs], None, &Wishes::default()).unwrap();
        assert_eq!(merge.rows.len(), 4);
        assert_eq!(after(&merge), ["decrypt-only"; 4]);
        assert_eq!(merge.rows[0].before, [Some("decrypt-only"), Some("decrypt-only")]);
        assert_eq!(merge.keyring.primary().id(), merge.fresh);
        assert!(merge.fresh.to_string().starts_with("k4-"));
        assert_eq!(merge.keyring.generation(), 1 + theirs.generation());
        for key in ours.keys().chain(theirs.keys()) {
            let kept = merge.keyring.keys().find(|kept| kept.id() == key.id()).unwrap();
            assert_eq!(kept.kek().commitment(), key.kek().commitment());
            assert!(kept.demoted().is_some());
        }
    }

    #[test]
    fn disabled_is_what_all_call_disabled_and_key_bytes_beat_a_tomb_unless_it_is_named() {
        let fixture = fixture();
        let old = fixture.first.primary().id();
        let rotated = fixture.rotated(&fixture.first);
        let disabled = rotated.disable(old, RECORD).unwrap();
        let destroyed = disabled.destroy(old, RECORD).unwrap();
        let first = |keyrings: &[&Keyring], wishes: &Wishes| {
            let merge = fixture.merge(keyrings, None, wishes).unwrap();
            assert_eq!(merge.rows[0].key_id, old);
            merge.rows[0].after
        };
        let none = Wishes::default();
        assert_eq!(first(&[&disabled, &disabled], &none), "disabled");
        assert_eq!(first(&[&disabled, &rotated], &none), "decrypt-only");
        assert_eq!(first(&[&destroyed, &disabled], &none), "decrypt-only");
        assert_eq!(first(&[&destroyed, &destroyed], &none), "destroyed");
        let wishes = Wishes { destroyed: vec![old], ..Wishes::default() };
        assert_eq!(first(&[&destroyed, &rotated], &wishes), "destroyed");
        let refused = fixture.merge(&[&disabled, &rotated], None, &wishes).unwrap_err();
        assert_eq!(refused.to_string(), format!("{old} cannot stay destroyed: no record says that it is"));
    }

    #[test]
    fn a_key_of_the_mark_that_is_nowhere_stops_the_merge_unless_it_is_named() {
        let fixture = fixture();
        let seen = fixture.rotated(&fixture.first);
        let mark = Mark::of(&seen, RECORD, 0);
        let missing = seen.primary().id();
        let sources = [&fixture.first, &fixture.first];
        let stopped = fixture.merge(&sources, Some(&mark), &Wishes::default()).unwrap_err();
        assert!(matches!(stopped, MergeError::Missing(keys) if keys == [missing]));
        let merge = |lost| fixture.merge(&sources, Some(&mark), &Wishes { lost, ..Wishes::default() });
        let merged = merge(vec![missing]).unwrap();
        assert_eq!(merged.keyring.generation(), 1 + seen.generation());
        assert_eq!(merged.rows.len(), 1, "a lost key gets no tomb");
        assert!(matches!(merge(vec![fixture.first.primary().id()]), Err(MergeError::Named { .. })));
        fixture.merge(&[&fixture.first, &seen], Some(&mark), &Wishes::default()).unwrap();
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

        /// Two random lives from one beginning, merged: what either can unwrap, the merged one can, in any order of the two.
        #[test]
        fn no_key_that_anybody_holds_is_lost(lives in prop::array::uniform2(prop::collection::vec((0..5_usize, 0..5_usize), 0..8))) {
            let fixture = fixture();
            let live = |life: &[(usize, usize)]| {
                let mut keyring = fixture.first.clone();
                for (step, place) in life {
                    let at = keyring.entries()[place % keyring.entries().len()].id();
                    let next = match step {
                        0 => keyring.add(&mut SysRng, &fixture.root, RECORD, now()).map(|(next, _)| next),
                        1 => keyring.promote(at, RECORD, now()),
                        2 => keyring.disable(at, RECORD),
                        3 => keyring.enable(at, RECORD),
                        _ => keyring.destroy(at, RECORD),
                    };
                    keyring = next.unwrap_or(keyring);
                }
                keyring
            };
            let [ours, theirs] = [live(&lives[0]), live(&lives[1])];
            let merge = fixture.merge(&[&ours, &theirs], None, &Wishes::default()).unwrap();
            let other = fixture.merge(&[&theirs, &ours], None, &Wishes::default()).unwrap();
            prop_assert_eq!(after(&merge), after(&other));
            for key in ours.keys().chain(theirs.keys()) {
                prop_assert!(merge.keyring.keys().any(|kept| kept.id() == key.id()));
            }
            prop_assert!(merge.keyring.entries().len() == merge.rows.len() + 1);
            // Merged again with what it came from, nothing is lost either.
            let again = fixture.merge(&[&merge.keyring, &theirs], None, &Wishes::default()).unwrap();
            prop_assert_eq!(again.rows.len(), merge.rows.len() + 1);
        }
    }
}
