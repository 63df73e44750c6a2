//! Merges several records of one keyring, for example after a fork or a rollback. No key that any of them holds is lost.
//!
//! Pure. The newest key becomes primary that a backup holds and that no record disables or calls compromised; if there is none, a
//! fresh one, which the caller backs up first. Every other key only unwraps, and is disabled if all that list it say so. Key bytes beat a tomb,
//! as restored data may need them, unless an operator names the key. A key that this node's mark has seen and no record holds stops
//! the merge. A record under an earlier root key gives key bytes and nothing else: whoever kept that root key could have made it.
//! Source: `docs/formats.md`, "Merging".

use std::collections::BTreeMap;

use crate::crypto::{Commitment, Digest, kdf::RootKey};

use super::{
    ChangeError, Entry, Key, Keyring, Tomb,
    change::next_generation,
    home::Home,
    key_id::KeyId,
    lineage::{Lineage, Past},
    mark::Mark,
    node::Node,
    recovery::Recovery,
    restore::mark_compromised,
    seal,
    state::State,
    time::Time,
};

/// How far a record may be ahead of all that this node knows: a forged one must not use the numbers up.
const AHEAD_MAX: u64 = 1 << 20;

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

/// What becomes of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The key.
    pub key_id: KeyId,
    /// Its commitment.
    pub commitment: Commitment,
    /// What it is in each record; none where it is not listed.
    pub before: Vec<Option<&'static str>>,
    /// What it will be.
    pub after: &'static str,
    /// Whether it will be marked as compromised.
    pub is_compromised: bool,
}

/// What a merge does.
#[derive(Debug)]
pub struct Merge {
    /// The keyring as it would be.
    pub keyring: Keyring,
    /// Every key that was there before.
    pub rows: Vec<Row>,
    /// The primary key, if it had to be made: no backup holds it yet.
    pub fresh: Option<KeyId>,
}

/// Why records are not merged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MergeError {
    /// This node has seen keys that none of the records holds.
    #[error("this node has seen keys that are in none of these: {}", names(.0))]
    Missing(Vec<KeyId>),
    /// A flag names keys that it does not fit.
    #[error("{} {}", names(keys), what)]
    Named {
        /// The keys.
        keys: Vec<KeyId>,
        /// What they are not.
        what: &'static str,
    },
    /// A record is further ahead than any honest one.
    #[error("a record has {what} {found}, which is too far above the greatest known here, {known}")]
    Beyond {
        /// Which number.
        what: &'static str,
        /// The record's.
        found: u64,
        /// The greatest one known.
        known: u64,
    },
    /// No key could be made.
    #[error(transparent)]
    Change(#[from] ChangeError),
}

fn names(keys: &[KeyId]) -> String {
    keys.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
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

/// Merges `sources` under `root`.
///
/// # Errors
/// When a key that the mark has seen is in none of them, a wish names another key, a record is too far ahead, no number is left, or
/// no key can be made.
pub fn merge(
    rng: &mut impl rand::TryCryptoRng,
    root: &RootKey,
    sources: &Sources<'_>,
    wishes: &Wishes,
    now: Time,
) -> Result<Merge, MergeError> {
    check_bounds(sources)?;
    let lists = lists(sources.records);
    check_mark(&lists, sources.mark, wishes)?;
    check_destroyed(&lists, wishes)?;
    check_not_here(sources.records, wishes)?;
    let mut keyring = skeleton(sources, root)?;
    for (order, list) in &lists {
        keyring.entries.push(merged(*order, list, wishes, keyring.generation, now));
    }
    mark_compromised(&mut keyring, &wishes.compromised)?;
    let sealed: Result<Vec<_>, _> = keyring.keys().map(|key| seal(rng, root, &keyring, key.seq, &key.kek)).collect();
    let sealed = sealed.map_err(ChangeError::from)?;
    for (key, sealed) in keyring.keys_mut().zip(sealed) {
        key.sealed = sealed;
    }
    let may_wrap = |key: &Key| sources.backed.contains(&key.id()) && !is_disabled_by_any(&lists, key);
    let fresh = keyring.wrap_under_newest(rng, root, may_wrap, now)?;
    let row = |(entry, list): (&Entry, &Vec<Option<Listing<'_>>>)| Row {
        key_id: entry.id(),
        commitment: entry.order().1,
        before: list.iter().map(|listing| listing.map(|listing| state(listing.entry))).collect(),
        after: state(entry),
        is_compromised: matches!(entry, Entry::Key(key) if key.compromised),
    };
    let rows = keyring.entries.iter().zip(lists.values()).map(row).collect();
    Ok(Merge { keyring, rows, fresh })
}

/// What a record says of a key.
#[derive(Debug, Clone, Copy)]
struct Listing<'a> {
    entry: &'a Entry,
    weight: Weight,
}

impl<'a> Listing<'a> {
    /// What it says if it counts whole.
    fn whole(self) -> Option<&'a Entry> {
        (self.weight == Weight::Whole).then_some(self.entry)
    }
}

/// What each record says of each key.
type Lists<'a> = BTreeMap<(u32, Commitment), Vec<Option<Listing<'a>>>>;

fn lists<'a>(records: &[Source<'a>]) -> Lists<'a> {
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

fn check_bounds(sources: &Sources<'_>) -> Result<(), MergeError> {
    let (generation, seq) = sources.known;
    for keyring in sources.records.iter().map(|source| source.keyring) {
        let seq_found = u64::from(keyring.greatest_seq());
        for (what, found, known) in
            [("generation", keyring.generation, generation), ("sequence number", seq_found, u64::from(seq))]
        {
            if found > known + AHEAD_MAX {
                return Err(MergeError::Beyond { what, found, known });
            }
        }
    }
    Ok(())
}

fn check_mark(lists: &Lists<'_>, mark: Option<&Mark>, wishes: &Wishes) -> Result<(), MergeError> {
    let seen = mark.map_or(&[][..], Mark::has);
    let is_listed = |key_id: &KeyId| lists.keys().any(|(seq, c)| KeyId::new(*seq, c) == *key_id);
    let missing: Vec<KeyId> = seen.iter().filter(|key_id| !is_listed(key_id)).copied().collect();
    let keys = differing(&wishes.lost, |key_id| missing.contains(key_id));
    if !keys.is_empty() {
        return Err(MergeError::Named { keys, what: "is not missing, so --lost cannot name it" });
    }
    let missing = differing(&missing, |key_id| wishes.lost.contains(key_id));
    if missing.is_empty() { Ok(()) } else { Err(MergeError::Missing(missing)) }
}

fn check_destroyed(lists: &Lists<'_>, wishes: &Wishes) -> Result<(), MergeError> {
    let has_tomb = |key_id: &KeyId| {
        let entries = lists.values().flatten().flatten().map(|listing| listing.entry);
        entries.filter(|entry| entry.id() == *key_id).any(|entry| matches!(entry, Entry::Tomb(_)))
    };
    let keys = differing(&wishes.destroyed, has_tomb);
    let what = "is destroyed in no record, so --keep-destroyed cannot name it";
    if keys.is_empty() { Ok(()) } else { Err(MergeError::Named { keys, what }) }
}

/// A key that this node still has is destroyed by the command for that, which asks etcd first.
fn check_not_here(records: &[Source<'_>], wishes: &Wishes) -> Result<(), MergeError> {
    let here = || records.iter().filter(|source| source.is_here).flat_map(|source| source.keyring.keys());
    let keys = differing(&wishes.destroyed, |key_id| here().all(|key| key.id() != *key_id));
    let what = "is not destroyed here, so --keep-destroyed cannot name it; see `claviger key destroy`";
    if keys.is_empty() { Ok(()) } else { Err(MergeError::Named { keys, what }) }
}

fn differing(keys: &[KeyId], is_right: impl Fn(&KeyId) -> bool) -> Vec<KeyId> {
    keys.iter().filter(|key_id| !is_right(key_id)).copied().collect()
}

/// The merged keyring without its entries.
fn skeleton(sources: &Sources<'_>, root: &RootKey) -> Result<Keyring, ChangeError> {
    let first = sources.records.first().ok_or(ChangeError::Exhausted)?.keyring;
    let whole = || sources.records.iter().filter(|source| source.weight == Weight::Whole);
    let marked = sources.mark.map(|mark| Past { generation: mark.generation(), record: mark.record() });
    let record = |source: &Source<'_>| Past { generation: source.keyring.generation, record: source.record };
    let past = Lineage::united(
        whole().flat_map(|source| [record(source)].into_iter().chain(source.keyring.past.iter())).chain(marked),
    );
    let greatest = past.iter().next().map_or(0, |past| past.generation);
    Ok(Keyring {
        uuid: first.uuid,
        generation: next_generation(greatest)?,
        home: sources.mark.map_or(Home::File, |mark| mark.home().clone()),
        root_id: root.id(first.uuid),
        past,
        merged: None,
        nodes: nodes(whole().map(|source| source.keyring)),
        recoveries: sources.recoveries.clone(),
        entries: Vec::new(),
    })
}

/// All nodes: one has left only if all records that list it agree, and is gone if any says so.
fn nodes<'a>(keyrings: impl Iterator<Item = &'a Keyring>) -> Vec<Node> {
    let mut nodes: BTreeMap<&str, Node> = BTreeMap::new();
    for node in keyrings.flat_map(|keyring| &keyring.nodes) {
        let known = nodes.entry(&node.name).or_insert_with(|| node.clone());
        known.left = known.left.and(node.left);
        known.gone = known.gone.or(node.gone);
    }
    nodes.into_values().collect()
}

/// What becomes of a key that at least one record lists, but for the one that will wrap.
fn merged(
    (seq, commitment): (u32, Commitment),
    list: &[Option<Listing<'_>>],
    wishes: &Wishes,
    generation: u64,
    now: Time,
) -> Entry {
    let listed = || list.iter().flatten();
    let whole = || listed().filter_map(|listing| listing.whole());
    let destroyed = whole().find_map(|entry| match entry {
        Entry::Tomb(tomb) => Some(tomb.destroyed),
        Entry::Key(_) => None,
    });
    let stays_destroyed = wishes.destroyed.contains(&KeyId::new(seq, &commitment));
    let keys = || whole().chain(listed().map(|listing| listing.entry));
    let key = keys().find_map(|entry| match entry {
        Entry::Key(key) => Some(key),
        Entry::Tomb(_) => None,
    });
    let Some(key) = key.filter(|_| !stays_destroyed) else {
        return Entry::Tomb(Tomb { seq, commitment, destroyed: destroyed.unwrap_or(generation) });
    };
    let is_disabled = |entry: &Entry| matches!(entry, Entry::Key(key) if key.state == State::Disabled);
    let is_known = whole().next().is_some();
    let mut key = key.clone();
    key.compromised = !is_held(whole()) || whole().any(|entry| matches!(entry, Entry::Key(key) if key.compromised));
    key.give_back(now);
    key.state = if is_known && whole().all(is_disabled) { State::Disabled } else { State::DecryptOnly };
    Entry::Key(key)
}

/// Whether one of these is a key with its bytes.
fn is_held<'a>(mut entries: impl Iterator<Item = &'a Entry>) -> bool {
    entries.any(|entry| matches!(entry, Entry::Key(_)))
}

/// Whether any record that counts whole says that the key is disabled, or destroyed.
fn is_disabled_by_any(lists: &Lists<'_>, key: &Key) -> bool {
    let list = lists.get(&(key.seq, key.kek.commitment()));
    let mut said = list.into_iter().flatten().flatten().filter_map(|listing| listing.whole());
    said.any(|entry| match entry {
        Entry::Key(key) => key.state == State::Disabled,
        Entry::Tomb(_) => true,
    })
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

    /// What a merge is given besides the records.
    #[derive(Default)]
    struct Given<'a> {
        mark: Option<&'a Mark>,
        backed: Vec<KeyId>,
        wishes: Wishes,
    }

    fn whole(keyring: &Keyring) -> Source<'_> {
        Source { keyring, record: digest(keyring), weight: Weight::Whole, is_here: false }
    }

    fn key_bytes(keyring: &Keyring) -> Source<'_> {
        Source { weight: Weight::KeyBytes, ..whole(keyring) }
    }

    /// What stands for the SHA-256 of its record.
    fn digest(keyring: &Keyring) -> Digest {
        Digest::of(format!("{:?}", keyring.entries().iter().map(Entry::id).collect::<Vec<_>>()).as_bytes())
    }

    fn ids(keyring: &Keyring) -> Vec<KeyId> {
        keyring.keys().map(Key::id).collect()
    }

    impl Fixture {
        fn added(&self, keyring: &Keyring) -> Keyring {
            keyring.add(&mut SysRng, &self.root, RECORD, now()).unwrap().0
        }

        /// `keyring` with one key more, which is promoted.
        fn rotated(&self, keyring: &Keyring) -> Keyring {
            let (added, key_id) = keyring.add(&mut SysRng, &self.root, RECORD, now()).unwrap();
            added.promote(key_id, RECORD, now()).unwrap()
        }

        fn merge(&self, records: &[Source<'_>], given: &Given<'_>) -> Result<Merge, MergeError> {
            let known = (records[0].keyring.generation, records[0].keyring.greatest_seq());
            let Given { mark, backed, wishes } = given;
            let sources = Sources { records, known, mark: *mark, backed, recoveries: Vec::new() };
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
    fn two_lines_that_grew_apart_keep_every_key_and_both_lead_to_the_merge() {
        let fixture = fixture();
        let (ours, theirs) = (fixture.rotated(&fixture.first), fixture.rotated(&fixture.first));
        let theirs = fixture.rotated(&theirs);
        let given = Given { backed: ids(&theirs), ..Given::default() };
        let merge = fixture.merge(&[whole(&ours), whole(&theirs)], &given).unwrap();
        assert_eq!(after(&merge)[3], "primary");
        assert_eq!(after(&merge)[..3], ["decrypt-only"; 3]);
        assert_eq!(merge.rows[0].before, [Some("decrypt-only"), Some("decrypt-only")]);
        assert!(merge.fresh.is_none() && merge.keyring.primary().id().to_string().starts_with("k3-"));
        assert_eq!(merge.keyring.generation(), 1 + theirs.generation());
        for keyring in [&ours, &theirs] {
            assert!(merge.keyring.past().names(keyring.generation(), digest(keyring)));
            assert!(keyring.past().iter().all(|past| merge.keyring.past().names(past.generation, past.record)));
        }
        for key in ours.keys().chain(theirs.keys()) {
            let kept = merge.keyring.keys().find(|kept| kept.id() == key.id()).unwrap();
            assert_eq!(kept.kek().commitment(), key.kek().commitment());
            assert_eq!(kept.demoted().is_some(), kept.state() != State::Primary);
        }
    }

    #[test]
    fn nothing_wraps_that_no_backup_holds_or_that_any_record_disables() {
        let fixture = fixture();
        let ours = fixture.rotated(&fixture.rotated(&fixture.first));
        let all = ids(&ours);
        let twin = fixture.added(&ours);
        let primary = |backed: &[KeyId], theirs: &Keyring| {
            let given = Given { backed: backed.to_vec(), ..Given::default() };
            let merge = fixture.merge(&[whole(&ours), whole(theirs)], &given).unwrap();
            (merge.keyring.primary().id(), merge.fresh)
        };
        assert_eq!(primary(&all, &twin), (all[2], None));
        assert_eq!(primary(&all[..2], &twin), (all[1], None));
        // A pending key that came along may have been promoted where it was.
        assert_eq!(primary(&ids(&twin), &twin), (ids(&twin)[3], None));
        let (fresh, made) = primary(&[], &twin);
        assert_eq!(made, Some(fresh));
        assert!(fresh.to_string().starts_with("k5-"));
        let disabled = ours.disable(all[1], RECORD).unwrap();
        assert_eq!(primary(&all[..2], &disabled), (all[0], None));
        let destroyed = disabled.destroy(all[1], RECORD).unwrap();
        assert_eq!(primary(&all[..2], &destroyed), (all[0], None));
    }

    #[test]
    fn no_key_stays_pending() {
        let fixture = fixture();
        let ours = fixture.added(&fixture.first);
        let theirs = fixture.added(&fixture.first);
        let given = Given { backed: ids(&fixture.first), ..Given::default() };
        let merge = fixture.merge(&[whole(&ours), whole(&theirs)], &given).unwrap();
        assert_eq!(after(&merge), ["primary", "decrypt-only", "decrypt-only"]);
    }

    #[test]
    fn a_record_under_an_earlier_root_key_gives_key_bytes_and_nothing_else() {
        let fixture = fixture();
        let ours = fixture.rotated(&fixture.first);
        let old = ids(&ours)[0];
        let ours = ours.disable(old, RECORD).unwrap().destroy(old, RECORD).unwrap();
        let mut forged = fixture.rotated(&fixture.rotated(&fixture.first));
        for _ in 0..9 {
            forged = fixture.added(&forged);
        }
        let node = Node::parse("evil enrolled=2026-11-23T20:14:48Z").unwrap();
        forged.nodes.push(node);
        let given = Given { backed: [ids(&ours), ids(&forged)].concat(), ..Given::default() };
        let merge = fixture.merge(&[whole(&ours), key_bytes(&forged)], &given).unwrap();
        assert_eq!(merge.keyring.primary().id(), ours.primary().id(), "the newest key of a record that counts");
        assert_eq!(merge.keyring.generation(), ours.generation() + 1);
        assert!(!merge.keyring.past().names(forged.generation(), digest(&forged)));
        assert!(merge.keyring.nodes().is_empty());
        for row in &merge.rows {
            let is_ours = row.key_id == ours.primary().id();
            assert_eq!(row.is_compromised, !is_ours, "{row:?}");
            assert_eq!(row.after, if is_ours { "primary" } else { "decrypt-only" });
        }
        // Its tombs destroy nothing, and its states disable nothing.
        let both = fixture.rotated(&fixture.first);
        let theirs = both.disable(ids(&both)[0], RECORD).unwrap();
        let given = Given { backed: ids(&both), ..Given::default() };
        let merge = fixture.merge(&[whole(&both), key_bytes(&theirs)], &given).unwrap();
        assert_eq!(after(&merge), ["decrypt-only", "primary"]);
        let theirs = theirs.destroy(ids(&both)[0], RECORD).unwrap();
        let keep = Wishes { destroyed: vec![ids(&both)[0]], ..Wishes::default() };
        let merge = fixture.merge(&[whole(&both), key_bytes(&theirs)], &given).unwrap();
        assert_eq!(after(&merge), ["decrypt-only", "primary"]);
        let given = Given { wishes: keep, ..given };
        assert!(matches!(fixture.merge(&[whole(&both), key_bytes(&theirs)], &given), Err(MergeError::Named { .. })));
    }

    #[test]
    fn a_record_that_is_too_far_ahead_is_refused() {
        let fixture = fixture();
        let mut forged = fixture.first.clone();
        forged.generation = 2 + AHEAD_MAX;
        let refused = fixture.merge(&[whole(&fixture.first), whole(&forged)], &Given::default()).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "a record has generation 1048578, which is too far above the greatest known here, 1"
        );
        let mut forged = fixture.added(&fixture.first);
        forged.keys_mut().last().unwrap().seq = u32::try_from(2 + AHEAD_MAX).unwrap();
        for weight in [whole(&forged), key_bytes(&forged)] {
            let refused = fixture.merge(&[whole(&fixture.first), weight], &Given::default()).unwrap_err();
            assert!(matches!(refused, MergeError::Beyond { what: "sequence number", .. }), "{refused}");
        }
    }

    #[test]
    fn disabled_is_what_all_call_disabled_and_key_bytes_beat_a_tomb_unless_it_is_named() {
        let fixture = fixture();
        let old = fixture.first.primary().id();
        let rotated = fixture.rotated(&fixture.first);
        let disabled = rotated.disable(old, RECORD).unwrap();
        let destroyed = disabled.destroy(old, RECORD).unwrap();
        let given = |wishes: &Wishes| Given { backed: ids(&rotated), wishes: wishes.clone(), mark: None };
        let first = |keyrings: [&Keyring; 2], wishes: &Wishes| {
            let merge = fixture.merge(&keyrings.map(whole), &given(wishes)).unwrap();
            assert_eq!(merge.rows[0].key_id, old);
            merge.rows[0].after
        };
        let none = Wishes::default();
        assert_eq!(first([&disabled, &disabled], &none), "disabled");
        assert_eq!(first([&disabled, &rotated], &none), "decrypt-only");
        assert_eq!(first([&destroyed, &disabled], &none), "decrypt-only");
        assert_eq!(first([&destroyed, &destroyed], &none), "destroyed");
        let wishes = Wishes { destroyed: vec![old], ..Wishes::default() };
        assert_eq!(first([&destroyed, &rotated], &wishes), "destroyed");
        // Not if this node still has it.
        let here = Source { is_here: true, ..whole(&rotated) };
        let refused = fixture.merge(&[here, whole(&destroyed)], &given(&wishes)).unwrap_err();
        assert!(refused.to_string().starts_with(&format!("{old} is not destroyed here")), "{refused}");
        let refused = fixture.merge(&[whole(&disabled), whole(&rotated)], &given(&wishes)).unwrap_err();
        assert_eq!(refused.to_string(), format!("{old} is destroyed in no record, so --keep-destroyed cannot name it"));
    }

    #[test]
    fn a_key_that_anybody_calls_compromised_stays_so_and_wraps_no_more() {
        let fixture = fixture();
        let ours = fixture.rotated(&fixture.first);
        let [first, second] = ids(&ours)[..] else { unreachable!() };
        let mut theirs = ours.clone();
        theirs.keys_mut().last().unwrap().compromised = true;
        let given = Given { backed: ids(&ours), ..Given::default() };
        let merge = fixture.merge(&[whole(&ours), whole(&theirs)], &given).unwrap();
        assert_eq!(merge.keyring.primary().id(), first);
        assert_eq!(merge.rows.iter().map(|row| row.is_compromised).collect::<Vec<_>>(), [false, true]);
        let wishes = Wishes { compromised: vec![first, second], ..Wishes::default() };
        let merge = fixture.merge(&[whole(&ours)], &Given { wishes, ..given }).unwrap();
        assert_eq!(merge.fresh, Some(merge.keyring.primary().id()));
    }

    #[test]
    fn nodes_are_united() {
        let fixture = fixture();
        let with = |lines: &[&str]| {
            let nodes = lines.iter().map(|line| Node::parse(line).unwrap()).collect();
            Keyring { nodes, ..fixture.first.clone() }
        };
        let enrolled = "enrolled=2026-11-23T20:14:48Z";
        let left = "left=2026-11-24T20:14:48Z";
        let ours = with(&[&format!("a {enrolled} {left}"), &format!("b {enrolled} {left}")]);
        let theirs = with(&[&format!("b {enrolled} gone=2026-11-25T20:14:48Z"), &format!("c {enrolled}")]);
        let given = Given { backed: ids(&ours), ..Given::default() };
        let merge = fixture.merge(&[whole(&ours), whole(&theirs)], &given).unwrap();
        let lines: Vec<String> = merge.keyring.nodes().iter().map(Node::line).collect();
        assert_eq!(
            lines,
            [
                format!("a {enrolled} {left}"),
                format!("b {enrolled} gone=2026-11-25T20:14:48Z"),
                format!("c {enrolled}")
            ]
        );
    }

    #[test]
    fn a_key_of_the_mark_that_is_nowhere_stops_the_merge_unless_it_is_named() {
        let fixture = fixture();
        let seen = fixture.rotated(&fixture.first);
        let mark = Mark::of(&seen, RECORD, 0);
        let missing = seen.primary().id();
        let sources = [whole(&fixture.first), whole(&fixture.first)];
        let given = |lost| Given {
            mark: Some(&mark),
            backed: ids(&fixture.first),
            wishes: Wishes { lost, ..Wishes::default() },
        };
        let stopped = fixture.merge(&sources, &given(Vec::new())).unwrap_err();
        assert!(matches!(stopped, MergeError::Missing(keys) if keys == [missing]));
        let merged = fixture.merge(&sources, &given(vec![missing])).unwrap();
        assert_eq!(merged.keyring.generation(), 1 + seen.generation());
        assert!(merged.keyring.past().names(seen.generation(), RECORD), "what was marked leads to the merge, too");
        assert_eq!(merged.rows.len(), 1, "a lost key gets no tomb");
        let wrong = fixture.merge(&sources, &given(vec![fixture.first.primary().id()]));
        assert!(matches!(wrong, Err(MergeError::Named { .. })));
        fixture.merge(&[whole(&fixture.first), whole(&seen)], &given(Vec::new())).unwrap();
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
            let given = Given { backed: ids(&theirs), ..Given::default() };
            let merge = fixture.merge(&[whole(&ours), whole(&theirs)], &given).unwrap();
            let other = fixture.merge(&[whole(&theirs), whole(&ours)], &given).unwrap();
            prop_assert_eq!(after(&merge), after(&other));
            for key in ours.keys().chain(theirs.keys()) {
                prop_assert!(merge.keyring.keys().any(|kept| kept.id() == key.id()));
            }
            prop_assert!(merge.keyring.keys().all(|key| key.state() != State::Pending));
            let made = usize::from(merge.fresh.is_some());
            prop_assert_eq!(merge.keyring.entries().len(), merge.rows.len() + made);
            // Merged again with what it came from, nothing is lost either.
            let again = fixture.merge(&[whole(&merge.keyring), whole(&theirs)], &given).unwrap();
            prop_assert_eq!(again.rows.len(), merge.keyring.entries().len());
        }
    }
}
