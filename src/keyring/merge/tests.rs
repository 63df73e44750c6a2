//! Merges of forks, rolled-back records and forged ones.

use proptest::prelude::*;
use rand::rngs::SysRng;

use super::{
    check::{AHEAD_MAX, Numbered},
    *,
};
use crate::{
    crypto::{Digest, Uuid, root_key::RootKey},
    keyring::{
        key::{Entry, Key},
        key_id::KeyId,
        mark::Mark,
        node::Node,
        record,
        ring::Keyring,
        state::{Fate, State},
        testing::now,
    },
};

const UUID: Uuid = Uuid([5; 16]);
const RECORD: Digest = Digest([1; 32]);

struct Fixture {
    root: RootKey,
    /// A keyring of one key, which is primary.
    first: Keyring,
}

fn fixture() -> Fixture {
    let root = RootKey::generate(&mut SysRng).unwrap();
    let first = Keyring::create(&mut SysRng, &root, UUID, Vec::new(), now()).unwrap();
    Fixture { root, first }
}

/// Everything that a merge gets besides the records.
#[derive(Default)]
struct Surroundings<'a> {
    mark: Option<&'a Mark>,
    backed: Vec<KeyId>,
    wishes: Wishes,
}

fn whole(keyring: &Keyring) -> MergeSource<'_> {
    MergeSource { keyring, record: digest(keyring), weight: Weight::Whole, is_here: false }
}

fn key_bytes(keyring: &Keyring) -> MergeSource<'_> {
    MergeSource { weight: Weight::KeyBytes, ..whole(keyring) }
}

/// Returns a made-up digest for the record of `keyring`.
fn digest(keyring: &Keyring) -> Digest {
    Digest::of(format!("{:?}", keyring.entries().iter().map(Entry::id).collect::<Vec<_>>()).as_bytes())
}

fn ids(keyring: &Keyring) -> Vec<KeyId> {
    keyring.keys().map(Key::id).collect()
}

impl Fixture {
    fn added(&self, keyring: &Keyring) -> Keyring {
        keyring.add(&[], &mut SysRng, &self.root, RECORD, now()).unwrap().0
    }

    /// Adds a key to `keyring` and promotes it.
    fn rotated(&self, keyring: &Keyring) -> Keyring {
        let (added, key_id) = keyring.add(&[], &mut SysRng, &self.root, RECORD, now()).unwrap();
        added.promote(key_id, RECORD, now()).unwrap()
    }

    fn merge(&self, records: &[MergeSource<'_>], given: &Surroundings<'_>) -> Result<Merge, MergeError> {
        let (first, others) = records.split_first().unwrap();
        let known = Greatest::of(first.keyring);
        let Surroundings { mark, backed, wishes } = given;
        let sources = Sources { first: *first, others, known, mark: *mark, backed, recoveries: Vec::new() };
        let merged = merge(&mut SysRng, &self.root, &sources, wishes, now())?;
        // A merged keyring must survive being written and read.
        let bytes = record::encode(&merged.keyring, &self.root).unwrap();
        record::decode(&bytes, &self.root, UUID).unwrap();
        Ok(merged)
    }
}

fn after(merge: &Merge) -> Vec<&'static str> {
    merge.rows.iter().map(|row| row.after.as_str()).collect()
}

#[test]
fn two_lines_that_grew_apart_keep_every_key_and_both_lead_to_the_merge() {
    let fixture = fixture();
    let (ours, theirs) = (fixture.rotated(&fixture.first), fixture.rotated(&fixture.first));
    let theirs = fixture.rotated(&theirs);
    let given = Surroundings { backed: ids(&theirs), ..Surroundings::default() };
    let merge = fixture.merge(&[whole(&ours), whole(&theirs)], &given).unwrap();
    assert_eq!(after(&merge)[3], "primary");
    assert_eq!(after(&merge)[..3], ["decrypt-only"; 3]);
    assert_eq!(merge.rows[0].before, [Some(Fate::Becomes(State::DecryptOnly)); 2]);
    assert!(merge.fresh.is_none() && merge.keyring.primary().id().to_string().starts_with("k3-"));
    assert_eq!(merge.keyring.generation(), 1 + theirs.generation());
    assert_eq!(merge.keyring.restored(), Some(merge.keyring.generation()));
    assert_eq!(fixture.added(&merge.keyring).restored(), merge.keyring.restored());
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
        let given = Surroundings { backed: backed.to_vec(), ..Surroundings::default() };
        let merge = fixture.merge(&[whole(&ours), whole(theirs)], &given).unwrap();
        (merge.keyring.primary().id(), merge.fresh)
    };
    assert_eq!(primary(&all, &twin), (all[2], None));
    assert_eq!(primary(&all[..2], &twin), (all[1], None));
    // The pending key of the other record may have been promoted there.
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
    let given = Surroundings { backed: ids(&fixture.first), ..Surroundings::default() };
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
    let given = Surroundings { backed: [ids(&ours), ids(&forged)].concat(), ..Surroundings::default() };
    let merge = fixture.merge(&[whole(&ours), key_bytes(&forged)], &given).unwrap();
    assert_eq!(merge.keyring.primary().id(), ours.primary().id(), "the newest key of a record that counts");
    assert_eq!(merge.keyring.generation(), ours.generation() + 1);
    assert!(!merge.keyring.past().names(forged.generation(), digest(&forged)));
    assert!(merge.keyring.nodes().is_empty());
    for row in &merge.rows {
        let is_ours = row.key_id == ours.primary().id();
        assert_eq!(row.is_compromised, !is_ours, "{row:?}");
        assert_eq!(row.after.as_str(), if is_ours { "primary" } else { "decrypt-only" });
    }
    // Its tombs destroy nothing, and its states disable nothing.
    let both = fixture.rotated(&fixture.first);
    let theirs = both.disable(ids(&both)[0], RECORD).unwrap();
    let given = Surroundings { backed: ids(&both), ..Surroundings::default() };
    let merge = fixture.merge(&[whole(&both), key_bytes(&theirs)], &given).unwrap();
    assert_eq!(after(&merge), ["decrypt-only", "primary"]);
    let theirs = theirs.destroy(ids(&both)[0], RECORD).unwrap();
    let keep = Wishes { keep_destroyed: vec![ids(&both)[0]], ..Wishes::default() };
    let merge = fixture.merge(&[whole(&both), key_bytes(&theirs)], &given).unwrap();
    assert_eq!(after(&merge), ["decrypt-only", "primary"]);
    let given = Surroundings { wishes: keep, ..given };
    assert!(matches!(fixture.merge(&[whole(&both), key_bytes(&theirs)], &given), Err(MergeError::Named { .. })));
}

#[test]
fn a_record_that_is_too_far_ahead_is_refused() {
    let fixture = fixture();
    let mut forged = fixture.first.clone();
    forged.generation = 2 + AHEAD_MAX;
    let refused = fixture.merge(&[whole(&fixture.first), whole(&forged)], &Surroundings::default()).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "a record has generation 1048578, which is too far above the greatest known here, 1"
    );
    let mut forged = fixture.added(&fixture.first);
    forged.keys_mut().last().unwrap().seq = u32::try_from(2 + AHEAD_MAX).unwrap();
    for weight in [whole(&forged), key_bytes(&forged)] {
        let refused = fixture.merge(&[whole(&fixture.first), weight], &Surroundings::default()).unwrap_err();
        assert!(matches!(refused, MergeError::Beyond { what: Numbered::Seq, .. }), "{refused}");
    }
    // The greatest numbers that are not too far ahead.
    let mut far = fixture.added(&fixture.first);
    far.generation = 1 + AHEAD_MAX;
    far.keys_mut().last().unwrap().seq = u32::try_from(1 + AHEAD_MAX).unwrap();
    let merge = fixture.merge(&[whole(&fixture.first), whole(&far)], &Surroundings::default()).unwrap();
    assert_eq!(merge.keyring.generation(), 2 + AHEAD_MAX);
}

#[test]
fn disabled_is_what_all_call_disabled_and_key_bytes_beat_a_tomb_unless_it_is_named() {
    let fixture = fixture();
    let old = fixture.first.primary().id();
    let rotated = fixture.rotated(&fixture.first);
    let disabled = rotated.disable(old, RECORD).unwrap();
    let destroyed = disabled.destroy(old, RECORD).unwrap();
    let given = |wishes: &Wishes| Surroundings { backed: ids(&rotated), wishes: wishes.clone(), mark: None };
    let first = |keyrings: [&Keyring; 2], wishes: &Wishes| {
        let merge = fixture.merge(&keyrings.map(whole), &given(wishes)).unwrap();
        assert_eq!(merge.rows[0].key_id, old);
        merge.rows[0].after.as_str()
    };
    let none = Wishes::default();
    assert_eq!(first([&disabled, &disabled], &none), "disabled");
    assert_eq!(first([&disabled, &rotated], &none), "decrypt-only");
    assert_eq!(first([&destroyed, &disabled], &none), "decrypt-only");
    assert_eq!(first([&destroyed, &destroyed], &none), "destroyed");
    let wishes = Wishes { keep_destroyed: vec![old], ..Wishes::default() };
    assert_eq!(first([&destroyed, &rotated], &wishes), "destroyed");
    // Unless this node still has the key. Its other keys do not matter.
    let here = MergeSource { is_here: true, ..whole(&destroyed) };
    let merge = fixture.merge(&[here, whole(&rotated)], &given(&wishes)).unwrap();
    assert_eq!(merge.rows[0].after, Fate::Tomb);
    let here = MergeSource { is_here: true, ..whole(&rotated) };
    let refused = fixture.merge(&[here, whole(&destroyed)], &given(&wishes)).unwrap_err();
    let text = "is not destroyed here";
    assert_eq!(refused.to_string(), format!("{old} {text}"));
    let refused = fixture.merge(&[whole(&disabled), whole(&rotated)], &given(&wishes)).unwrap_err();
    assert_eq!(refused.to_string(), format!("{old} is destroyed in no record"));
}

#[test]
fn a_key_that_anybody_calls_compromised_stays_so_and_wraps_no_more() {
    let fixture = fixture();
    let ours = fixture.rotated(&fixture.first);
    let [first, second] = ids(&ours)[..] else { unreachable!() };
    let mut theirs = ours.clone();
    theirs.keys_mut().last().unwrap().compromised = true;
    let given = Surroundings { backed: ids(&ours), ..Surroundings::default() };
    let merge = fixture.merge(&[whole(&ours), whole(&theirs)], &given).unwrap();
    assert_eq!(merge.keyring.primary().id(), first);
    assert_eq!(merge.rows.iter().map(|row| row.is_compromised).collect::<Vec<_>>(), [false, true]);
    let wishes = Wishes { compromised: vec![first, second], ..Wishes::default() };
    let merge = fixture.merge(&[whole(&ours)], &Surroundings { wishes, ..given }).unwrap();
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
    let given = Surroundings { backed: ids(&ours), ..Surroundings::default() };
    let merge = fixture.merge(&[whole(&ours), whole(&theirs)], &given).unwrap();
    let lines: Vec<String> = merge.keyring.nodes().iter().map(Node::line).collect();
    assert_eq!(
        lines,
        [format!("a {enrolled} {left}"), format!("b {enrolled} gone=2026-11-25T20:14:48Z"), format!("c {enrolled}")]
    );
}

#[test]
fn a_key_of_the_mark_that_is_nowhere_stops_the_merge_unless_it_is_named() {
    let fixture = fixture();
    let seen = fixture.rotated(&fixture.first);
    let mark = Mark::of(&seen, RECORD, 0);
    let missing = seen.primary().id();
    let sources = [whole(&fixture.first), whole(&fixture.first)];
    let given = |lost| Surroundings {
        mark: Some(&mark),
        backed: ids(&fixture.first),
        wishes: Wishes { lost, ..Wishes::default() },
    };
    let stopped = fixture.merge(&sources, &given(Vec::new())).unwrap_err();
    assert_eq!(stopped.to_string(), format!("this node has seen keys that are in none of these: {missing}"));
    let merged = fixture.merge(&sources, &given(vec![missing])).unwrap();
    assert_eq!(merged.keyring.generation(), 1 + seen.generation());
    assert!(merged.keyring.past().names(seen.generation(), RECORD), "what was marked leads to the merge, too");
    assert_eq!(merged.rows.len(), 1, "a lost key gets no tomb");
    let first = fixture.first.primary().id();
    let wrong = fixture.merge(&sources, &given(vec![first])).unwrap_err();
    assert_eq!(wrong.to_string(), format!("{first} is not missing"));
    fixture.merge(&[whole(&fixture.first), whole(&seen)], &given(Vec::new())).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Two keyrings change at random from a common beginning and are merged in both orders. The merged one unwraps
    /// whatever one of the two unwraps.
    #[test]
    fn no_key_that_anybody_holds_is_lost(lives in prop::array::uniform2(prop::collection::vec((0..5_usize, 0..5_usize), 0..8))) {
        let fixture = fixture();
        let live = |life: &[(usize, usize)]| {
            let mut keyring = fixture.first.clone();
            for (step, place) in life {
                let at = keyring.entries()[place % keyring.entries().len()].id();
                let next = match step {
                    0 => keyring.add(&[], &mut SysRng, &fixture.root, RECORD, now()).ok().map(|(next, _)| next),
                    1 => keyring.promote(at, RECORD, now()).ok(),
                    2 => keyring.disable(at, RECORD).ok(),
                    3 => keyring.enable(at, RECORD).ok(),
                    _ => keyring.destroy(at, RECORD).ok(),
                };
                keyring = next.unwrap_or(keyring);
            }
            keyring
        };
        let [ours, theirs] = [live(&lives[0]), live(&lives[1])];
        let given = Surroundings { backed: ids(&theirs), ..Surroundings::default() };
        let merge = fixture.merge(&[whole(&ours), whole(&theirs)], &given).unwrap();
        let other = fixture.merge(&[whole(&theirs), whole(&ours)], &given).unwrap();
        prop_assert_eq!(after(&merge), after(&other));
        for key in ours.keys().chain(theirs.keys()) {
            prop_assert!(merge.keyring.keys().any(|kept| kept.id() == key.id()));
        }
        prop_assert!(merge.keyring.keys().all(|key| key.state() != State::Pending));
        let made = usize::from(merge.fresh.is_some());
        prop_assert_eq!(merge.keyring.entries().len(), merge.rows.len() + made);
        // A second merge with one of the two loses nothing either.
        let again = fixture.merge(&[whole(&merge.keyring), whole(&theirs)], &given).unwrap();
        prop_assert_eq!(again.rows.len(), merge.keyring.entries().len());
    }
}
