//! Tests each gate of a rotation separately.

use std::time::Duration;

use super::{
    count::CountDoubt,
    next,
    progress::RotationProgress,
    retire::Unsettled,
    rotation::{Aim, Phase, RotationPlan},
    step::{Action, Hold, NextStep, Refused, Wait},
    testing::{clean, connection, counted, key, plan, record, world},
    world::{ClusterNow, ConnectionNow, NodeNow, Scanned, ServedNow, Ticks},
};
use crate::{crypto::Digest, keyring::state::State};

const SCAN: NextStep = NextStep::Do(Action::Scan { is_settled: true });
const BEGIN: Action = Action::Begin(Aim::NewKey);
const NOW: Ticks = Ticks(Duration::from_hours(1));

/// Returns a world at one o'clock.
fn at_one() -> ClusterNow {
    ClusterNow { now: NOW, ..world() }
}

/// Returns the facts of a run that has seen everything that the gates ask for.
fn seen() -> RotationProgress {
    let mut seen = RotationProgress { scanned: Some(clean(NOW)), counted: Some(counted(NOW, 1)), ..Default::default() };
    seen.see_published(key(2), Ticks::default());
    seen
}

/// Returns the facts of [`seen`], while this key was primary.
fn seen_under(seq: u32) -> RotationProgress {
    with_scan(|scanned| scanned.primary = key(seq))
}

fn with_scan(change: impl FnOnce(&mut Scanned)) -> RotationProgress {
    let mut scanned = clean(NOW);
    change(&mut scanned);
    RotationProgress { scanned: Some(scanned), ..seen() }
}

/// Returns the aim of a rotation that finishes an earlier one.
fn finish(seq: u32) -> Aim {
    Aim::Finish(key(seq))
}

fn step(world: &ClusterNow, plan: &RotationPlan, progress: &RotationProgress) -> NextStep {
    next(world, Some(plan), progress)
}

#[test]
fn a_rotation_looks_before_it_begins() {
    let fresh = RotationProgress::default();
    assert_eq!(next(&at_one(), None, &fresh), SCAN);
    let scanned = RotationProgress { scanned: Some(clean(NOW)), ..fresh };
    assert_eq!(next(&at_one(), None, &scanned), NextStep::Do(Action::Count));
    assert_eq!(next(&at_one(), None, &seen()), NextStep::Do(BEGIN));
    let mut silent = at_one();
    silent.nodes[0].serves = None;
    let acknowledge = NextStep::Wait(Wait::Acknowledge(vec!["a".to_owned()]));
    assert_eq!(next(&silent, None, &seen()), acknowledge, "no key is made for a plugin that does not run");
    let done = RotationPlan { phase: Phase::Done, ..plan() };
    assert_eq!(step(&at_one(), &done, &seen()), NextStep::Do(BEGIN));
    let incomplete = with_scan(|scanned| scanned.is_incomplete = true);
    assert_eq!(next(&at_one(), None, &incomplete), NextStep::Refuse(Refused::Incomplete));
    let uncovered = with_scan(|scanned| scanned.uncovered = 3);
    assert_eq!(next(&at_one(), None, &uncovered), NextStep::Refuse(Refused::Uncovered(3)));
    let unreadable = with_scan(|scanned| scanned.unchangeable = 2);
    assert_eq!(next(&at_one(), None, &unreadable), NextStep::Refuse(Refused::Unreadable(2)));
}

#[test]
fn values_under_another_key_mean_that_a_rotation_is_unfinished() {
    let unfinished = with_scan(|scanned| (scanned.stale, scanned.under_other_keys) = (5, 1));
    assert_eq!(next(&at_one(), None, &unfinished), NextStep::Do(Action::Begin(finish(2))));
    let plaintext = with_scan(|scanned| scanned.stale = 5);
    assert_eq!(next(&at_one(), None, &plaintext), NextStep::Do(BEGIN));
}

#[test]
fn there_must_not_be_more_api_servers_than_nodes() {
    let refused = |count, connections| {
        let mut world = at_one();
        world.nodes[0].connections.resize(connections, connection(None, Duration::ZERO));
        next(&world, None, &RotationProgress { counted: Some(counted(NOW, count)), ..seen() })
    };
    assert_eq!(refused(0, 1), NextStep::Refuse(Refused::Count(CountDoubt::Unknown)));
    assert_eq!(refused(3, 1), NextStep::Refuse(Refused::Count(CountDoubt::TooMany { count: 3, nodes: 1 })));
    assert_eq!(
        refused(1, 2),
        NextStep::Refuse(Refused::Count(CountDoubt::TooManyConnected { connected: 2, count: 1 }))
    );
    assert_eq!(refused(1, 0), NextStep::Do(BEGIN), "an API server that reconnects later");
    let connected = |processes: &[Option<i32>]| {
        let mut world = at_one();
        let of = |process| ConnectionNow { process, ..connection(None, Duration::ZERO) };
        world.nodes[0].connections = processes.iter().copied().map(of).collect();
        next(&world, None, &seen())
    };
    let too_many = |connected| NextStep::Refuse(Refused::Count(CountDoubt::TooManyConnected { connected, count: 1 }));
    assert_eq!(connected(&[Some(7), Some(7)]), NextStep::Do(BEGIN), "two provider entries of one API server");
    assert_eq!(connected(&[Some(7), Some(8), Some(7)]), too_many(2));
    assert_eq!(connected(&[None, None, Some(7)]), too_many(3), "processes in another namespace");
    let unknown = |entries, connections| {
        let mut world = ClusterNow { entries, ..at_one() };
        world.nodes[0].connections.resize(connections, connection(None, Duration::ZERO));
        next(&world, None, &seen())
    };
    assert_eq!(unknown(2, 2), NextStep::Do(BEGIN), "two provider entries, and a process in another namespace");
    assert_eq!(unknown(2, 3), too_many(2));
    let old = RotationProgress { counted: Some(counted(Ticks::default(), 1)), ..seen() };
    assert_eq!(next(&at_one(), None, &old), NextStep::Do(Action::Count));
}

#[test]
fn a_run_that_died_before_it_noted_its_key_takes_that_key_and_no_other() {
    let plan = RotationPlan { phase: Phase::Prepare, key: None, began: Digest([2; 32]), newest: 1, ..plan() };
    let primary = (1, State::Primary);
    let made_by = |plan: &RotationPlan, number, keys: &[_]| {
        let mut world = ClusterNow { record: record(number, keys), ..at_one() };
        world.nodes[0].serves.as_mut().unwrap().record = world.record.digest;
        step(&world, plan, &seen_under(1))
    };
    let made = |number, keys: &[_]| made_by(&plan, number, keys);
    let (pending, anew) = ((2, State::Pending), NextStep::Do(BEGIN));
    assert_eq!(made(2, &[primary]), NextStep::Do(Action::Add));
    assert_eq!(made(2, &[primary, pending]), NextStep::Do(Action::Add), "a pending key from before");
    assert_eq!(made(3, &[primary, pending]), NextStep::Do(Action::Take(key(2))));
    assert_eq!(made(3, &[primary, (2, State::Disabled)]), anew);
    assert_eq!(made(3, &[primary, pending, (3, State::Pending)]), anew, "two new keys");
    assert_eq!(made(4, &[primary, pending]), anew, "somebody else was here");
    let old = RotationPlan { newest: 2, ..plan.clone() };
    assert_eq!(made_by(&old, 3, &[primary, pending]), anew, "an old pending key, and another change");
}

#[test]
fn no_key_is_promoted_before_every_node_reads_with_it_and_a_backup_holds_it() {
    let plan = RotationPlan { phase: Phase::Prepare, ..plan() };
    let serves =
        ServedNow { record: Digest([3; 32]), primary: key(1), canary: Some(key(2)), primary_for: Duration::ZERO };
    let mut world = ClusterNow { record: record(3, &[(1, State::Primary), (2, State::Pending)]), ..at_one() };
    world.nodes[0].serves = Some(serves);
    assert_eq!(step(&world, &plan, &seen_under(1)), NextStep::Do(Action::Promote(key(2))));
    let acknowledge = NextStep::Wait(Wait::Acknowledge(vec!["a".to_owned()]));
    for serves in [
        None,
        Some(ServedNow { canary: None, ..serves }),
        Some(ServedNow { canary: Some(key(1)), ..serves }),
        Some(ServedNow { record: Digest([2; 32]), ..serves }),
    ] {
        let mut world = world.clone();
        world.nodes[0].serves = serves;
        assert_eq!(step(&world, &plan, &seen_under(1)), acknowledge, "{serves:?}");
        world.nodes[0].is_skipped = true;
        assert_eq!(step(&world, &plan, &seen_under(1)), NextStep::Do(Action::Promote(key(2))), "a skipped node");
    }
    let old = RotationProgress { counted: None, ..seen_under(1) };
    assert_eq!(step(&world, &plan, &old), NextStep::Do(Action::Count));
    let unread = RotationProgress { scanned: None, ..seen_under(1) };
    let look = NextStep::Do(Action::Scan { is_settled: false });
    assert_eq!(step(&world, &plan, &unread), look, "a run that goes on looks again");
    world.record.keys[1].is_backed_up = false;
    assert_eq!(step(&world, &plan, &seen_under(1)), NextStep::Refuse(Refused::NotBackedUp(key(2))));
    world.can_back_up = true;
    assert_eq!(step(&world, &plan, &seen_under(1)), NextStep::Do(Action::BackUp(key(2))));
    world.needs_no_backup = true;
    assert_eq!(step(&world, &plan, &seen_under(1)), NextStep::Do(Action::Promote(key(2))));
}

#[test]
fn every_node_is_waited_for_by_name() {
    let plan = RotationPlan { phase: Phase::Prepare, ..plan() };
    let mut world = ClusterNow { record: record(3, &[(1, State::Primary), (2, State::Pending)]), ..at_one() };
    let silent =
        |name: &str| NodeNow { name: name.to_owned(), is_skipped: false, serves: None, connections: Vec::new() };
    world.nodes = vec![silent("c"), world.nodes[0].clone(), silent("b")];
    let names = vec!["b".to_owned(), "c".to_owned()];
    assert_eq!(step(&world, &plan, &seen()), NextStep::Wait(Wait::Acknowledge(names)));
}

#[test]
fn the_quiet_time_begins_when_every_node_was_seen_to_serve_the_key() {
    let fresh = RotationProgress { scanned: Some(clean(NOW)), ..RotationProgress::default() };
    let promoted = RotationPlan { phase: Phase::Promote, ..plan() };
    assert_eq!(step(&at_one(), &promoted, &fresh), NextStep::Do(Action::Published));
    assert_eq!(step(&at_one(), &plan(), &fresh), NextStep::Do(Action::Published), "also after a resume");
    let publish = NextStep::Wait(Wait::Publish(vec!["a".to_owned()]));
    for serves in [
        None,
        Some(ServedNow { record: Digest([3; 32]), primary: key(1), canary: None, primary_for: Duration::ZERO }),
        Some(ServedNow { record: Digest([8; 32]), primary: key(2), canary: None, primary_for: Duration::ZERO }),
    ] {
        let mut world = at_one();
        world.nodes[0].serves = serves;
        assert_eq!(step(&world, &promoted, &fresh), publish, "{serves:?}");
    }
    let mut published = fresh;
    published.see_published(key(2), NOW);
    let quiet = NOW.after(Duration::from_secs(263));
    assert_eq!(step(&at_one(), &plan(), &published), NextStep::Wait(Wait::Quiet(quiet)));
    published.see_published(key(2), quiet);
    assert_eq!(published.published(key(2)), Some(NOW), "the first time counts");
    let after = ClusterNow { now: quiet, ..at_one() };
    assert_eq!(step(&after, &plan(), &published), SCAN, "a scan from before the end proves nothing");
    let mut slow = ClusterNow { now: quiet, ..at_one() };
    slow.timeouts.request = Duration::from_mins(5);
    assert_eq!(step(&slow, &plan(), &published), NextStep::Wait(Wait::Quiet(NOW.after(Duration::from_secs(503)))));
}

#[test]
fn only_a_clean_scan_after_the_quiet_time_ends_it() {
    assert_eq!(step(&at_one(), &plan(), &seen()), NextStep::Do(Action::Finish));
    let rest = with_scan(|scanned| (scanned.stale, scanned.failed) = (3, 2));
    assert_eq!(step(&at_one(), &plan(), &rest), NextStep::Do(Action::Rewrite));
    let held = with_scan(|scanned| (scanned.stale, scanned.failed) = (3, 3));
    let rest = Hold { stale: 3, unchangeable: 0 };
    assert_eq!(step(&at_one(), &plan(), &held), NextStep::Refuse(Refused::Hold(rest)));
    let events = with_scan(|scanned| scanned.events = 4);
    assert_eq!(step(&at_one(), &plan(), &events), NextStep::Wait(Wait::Events(4)));
    let later = ClusterNow { now: NOW.after(Duration::from_mins(1)), ..at_one() };
    assert_eq!(step(&later, &plan(), &events), SCAN);
    let uncounted = RotationProgress { counted: None, ..seen() };
    assert_eq!(step(&at_one(), &plan(), &uncounted), NextStep::Do(Action::Count));
    let others = RotationProgress { counted: Some(counted(NOW, 2)), ..seen() };
    let refused = Refused::Count(CountDoubt::TooMany { count: 2, nodes: 1 });
    assert_eq!(step(&at_one(), &plan(), &others), NextStep::Refuse(refused));
}

#[test]
fn a_plan_whose_key_was_replaced_is_void() {
    for (keys, primary) in
        [([(2, State::DecryptOnly), (3, State::Primary)], 3), ([(1, State::Primary), (3, State::Pending)], 1)]
    {
        let mut world = ClusterNow { record: record(5, &keys), ..at_one() };
        world.nodes[0].serves.as_mut().unwrap().record = world.record.digest;
        let look = step(&world, &plan(), &seen());
        assert!(matches!(look, NextStep::Do(Action::Scan { .. })), "the last scan was about another key");
        assert_eq!(step(&world, &plan(), &seen_under(primary)), NextStep::Do(BEGIN));
        let mut stale = seen_under(primary);
        stale.scanned.as_mut().unwrap().under_other_keys = 1;
        assert_eq!(step(&world, &plan(), &stale), NextStep::Do(Action::Begin(finish(primary))));
    }
}

#[test]
fn the_words_of_phases_are_those_of_the_file() {
    assert_eq!(Phase::ALL.map(Phase::as_str), ["prepare", "promote", "sweep", "done"]);
    assert!(Phase::ALL.is_sorted());
}

/// Returns the cluster and the plan after a rotation to key 2, because others may know key 1.
fn superseded() -> (ClusterNow, RotationPlan) {
    let mut world = at_one();
    world.record.keys[0].is_compromised = true;
    (world, RotationPlan { is_compromise: true, ..plan() })
}

#[test]
fn a_compromise_takes_over_whatever_is_unfinished() {
    let compromise = ClusterNow { is_compromise: true, ..at_one() };
    let begin = NextStep::Do(Action::Begin(Aim::Compromise));
    let needed = with_scan(|scanned| (scanned.stale, scanned.under_other_keys, scanned.unchangeable) = (5, 1, 1));
    assert_eq!(next(&compromise, None, &needed), begin, "neither old values nor those that nothing opens matter now");
    assert_eq!(step(&compromise, &plan(), &needed), begin, "another rotation is unfinished");
    let (world, plan) = superseded();
    assert_eq!(step(&world, &plan, &needed), NextStep::Do(Action::Rewrite), "its own plan goes on");
    let lost = ClusterNow { is_compromise: true, ..world.clone() };
    assert_eq!(next(&lost, None, &needed), begin, "its plan is lost; nobody can tell whether key 2 is known, too");
    let mut over = lost;
    over.record.keys[0].state = State::Disabled;
    assert_eq!(next(&over, None, &needed), begin, "the next compromise");
    let miscounted = RotationProgress { counted: Some(counted(NOW, 2)), ..seen() };
    let doubt = CountDoubt::TooMany { count: 2, nodes: 1 };
    assert_eq!(next(&compromise, None, &miscounted), NextStep::Refuse(Refused::Count(doubt)));

    let mut promoting = ClusterNow { record: record(3, &[(1, State::Primary), (2, State::Pending)]), ..at_one() };
    promoting.nodes[0].serves.as_mut().unwrap().primary = key(1);
    let prepared = RotationPlan { phase: Phase::Prepare, ..plan };
    let mut needed = seen_under(1);
    needed.scanned.as_mut().unwrap().under_other_keys = 1;
    assert_eq!(step(&promoting, &prepared, &needed), NextStep::Do(Action::Promote(key(2))));
}

#[test]
fn a_compromise_ends_when_no_compromised_key_unwraps() {
    let (world, plan) = superseded();
    assert_eq!(step(&world, &plan, &seen()), NextStep::Do(Action::Disable(key(1))));
    let damaged = with_scan(|scanned| scanned.unchangeable = 1);
    assert_eq!(step(&world, &plan, &damaged), NextStep::Do(Action::Disable(key(1))), "nothing of it is under the key");
    let unknown = with_scan(|scanned| (scanned.stale, scanned.failed, scanned.unchangeable) = (1, 1, 1));
    assert_eq!(step(&world, &plan, &unknown), NextStep::Do(Action::Disable(key(1))), "a value that no key opens");
    let old = with_scan(|scanned| (scanned.stale, scanned.failed, scanned.under_other_keys) = (1, 1, 1));
    assert!(matches!(step(&world, &plan, &old), NextStep::Refuse(Refused::Hold(_))), "a value under the old key");
    let events = with_scan(|scanned| (scanned.events, scanned.in_need) = (1, 1));
    assert_eq!(step(&world, &plan, &events), NextStep::Wait(Wait::Events(1)));
    let left = with_scan(|scanned| scanned.in_need = 2);
    assert_eq!(step(&world, &plan, &left), NextStep::Refuse(Refused::InNeed(2)));
    let early = with_scan(|scanned| scanned.is_settled = false);
    assert_eq!(step(&world, &plan, &early), SCAN);
    let uncounted = RotationProgress { counted: None, ..seen() };
    assert_eq!(step(&world, &plan, &uncounted), NextStep::Do(Action::Count));
    let mut unsettled = world.clone();
    unsettled.nodes[0].connections[0].steady = Duration::from_secs(179);
    let wait = Unsettled::ApiServers { api_servers: 1, left: Duration::from_secs(1) };
    assert_eq!(step(&unsettled, &plan, &seen()), NextStep::Wait(Wait::Settle(wait)));
    let mut over = world;
    over.record.keys[0].state = State::Disabled;
    assert_eq!(step(&over, &plan, &seen()), NextStep::Do(Action::Finish));
    assert!(matches!(step(&over, &plan, &damaged), NextStep::Refuse(Refused::Hold(_))), "it is not proven");
}
