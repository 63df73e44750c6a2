//! The gates, in their order.

use std::time::Duration;

use crate::keyring::{key_id::KeyId, state::State};

use super::{
    count,
    progress::RotationProgress,
    retire::settled,
    rotation::{Aim, Phase, RotationPlan},
    rules::{Rule, Rules},
    step::{Action, Hold, NextStep, Refused, Wait},
    world::{ClusterNow, KeyNow, RecordNow, Scanned, ServedNow, Ticks},
};

/// Decides the next step. `plan` is the plan on the disk, and `progress` what this run has seen.
pub fn next(world: &ClusterNow, plan: Option<&RotationPlan>, progress: &RotationProgress) -> NextStep {
    next_by(Rules::default(), world, plan, progress)
}

/// Decides by these rules.
pub(super) fn next_by(
    rules: Rules,
    world: &ClusterNow,
    plan: Option<&RotationPlan>,
    progress: &RotationProgress,
) -> NextStep {
    decide(rules, world, plan, progress).unwrap_or_else(|step| step)
}

/// How long after a scan the next one looks whether events have expired.
const RESCAN: Duration = Duration::from_mins(1);

/// The error contains what to do while the gate is closed.
type Gate<T = ()> = Result<T, NextStep>;

fn decide(
    rules: Rules,
    world: &ClusterNow,
    plan: Option<&RotationPlan>,
    progress: &RotationProgress,
) -> Gate<NextStep> {
    // A plan for keys that others may know takes over any other.
    let goes_on = |plan: &&RotationPlan| plan.is_unfinished() && (plan.is_compromise || !world.is_compromise);
    let Some(plan) = plan.filter(goes_on) else {
        return begin(rules, world, world.is_compromise, progress);
    };
    let Some(key) = plan.key else { return make_key(rules, world, plan, progress) };
    match world.record.key(key).map(|key| key.state) {
        Some(State::Primary) => finish(rules, world, plan, key, progress),
        Some(State::Pending) if plan.phase == Phase::Prepare => prepare(rules, world, plan, key, progress),
        // Another key was promoted, or the keyring was restored: the plan is void.
        _ => begin(rules, world, plan.is_compromise, progress),
    }
}

/// Begins with a scan. If an earlier rotation is unfinished, this one finishes it: it goes towards the present primary
/// key.
fn begin(rules: Rules, world: &ClusterNow, is_compromise: bool, progress: &RotationProgress) -> Gate<NextStep> {
    let scanned = may_end(rules, world, is_compromise, progress)?;
    let missing = world.nodes_without(|serves: &ServedNow| serves.record == world.record.digest);
    if !missing.is_empty() {
        return Ok(NextStep::Wait(Wait::Acknowledge(missing)));
    }
    let is_unfinished = if is_compromise { is_superseded(&world.record) } else { scanned.under_other_keys > 0 };
    let key = world.record.primary().filter(|_| is_unfinished);
    Ok(NextStep::Do(Action::Begin(Aim { key, is_compromise })))
}

/// Whether others may know every key before the primary one, and one of them still unwraps. Then an earlier rotation
/// has replaced the compromised keys, and its plan is lost.
fn is_superseded(record: &RecordNow) -> bool {
    let Some(primary) = record.primary() else { return false };
    let mut before = record.keys.iter().filter(|key| key.id.seq() < primary.seq());
    before.all(|key| key.is_compromised) && record.exposed().any(|key| key != primary)
}

/// Opens if nothing is known that would keep a rotation from its end. Values that no key of ours opens do not matter in
/// an emergency.
fn may_end(rules: Rules, world: &ClusterNow, is_compromise: bool, progress: &RotationProgress) -> Gate<Scanned> {
    let scanned = scanned_now(rules, world, progress)?;
    readable(&scanned)?;
    let refused = match scanned {
        _ if is_compromise => return count_holds(rules, world, progress).map(|()| scanned),
        Scanned { unchangeable: 1.., .. } => Refused::Unreadable(scanned.unchangeable),
        Scanned { uncovered: 1.., .. } => Refused::Uncovered(scanned.uncovered),
        _ => return count_holds(rules, world, progress).map(|()| scanned),
    };
    Err(NextStep::Refuse(refused))
}

/// Returns the last scan, if it compared the values with the key that is primary now.
fn scanned_now(rules: Rules, world: &ClusterNow, progress: &RotationProgress) -> Gate<Scanned> {
    let scanned = progress.scanned.filter(|scanned| Some(scanned.primary) == world.record.primary());
    scanned.ok_or_else(|| scan(rules, world))
}

/// Makes the key of a plan. If the record is the direct successor of the one that the plan began with, and has exactly
/// one pending key that is newer than all keys of that one, then a run before has made it for this plan, and died
/// before it noted that.
fn make_key(rules: Rules, world: &ClusterNow, plan: &RotationPlan, progress: &RotationProgress) -> Gate<NextStep> {
    let record = &world.record;
    if record.digest == plan.began {
        return Ok(NextStep::Do(Action::Add));
    }
    let is_new = |key: &&KeyNow| key.state == State::Pending && key.id.seq() > plan.newest;
    let mut made = record.keys.iter().filter(is_new).filter(|_| record.past.first() == Some(&plan.began));
    match (made.next(), made.next()) {
        (Some(key), None) => Ok(NextStep::Do(Action::Take(key.id))),
        // The keyring was changed otherwise.
        _ => begin(rules, world, plan.is_compromise, progress),
    }
}

/// Opens the gate to the promotion.
fn prepare(
    rules: Rules,
    world: &ClusterNow,
    plan: &RotationPlan,
    key: KeyId,
    progress: &RotationProgress,
) -> Gate<NextStep> {
    let has_acknowledged = |serves: &ServedNow| serves.record == world.record.digest && serves.canary == Some(key);
    let missing = world.nodes_without(has_acknowledged);
    if rules.has(Rule::Acknowledge) && !missing.is_empty() {
        return Ok(NextStep::Wait(Wait::Acknowledge(missing)));
    }
    if !world.needs_no_backup && !world.record.key(key).is_some_and(|key| key.is_backed_up) {
        let refusal = NextStep::Refuse(Refused::NotBackedUp(key));
        return Ok(if world.can_back_up { NextStep::Do(Action::BackUp(key)) } else { refusal });
    }
    let scanned = may_end(rules, world, plan.is_compromise, progress)?;
    if scanned.under_other_keys > 0 && !plan.is_compromise {
        // Another key was promoted meanwhile.
        return begin(rules, world, false, progress);
    }
    Ok(NextStep::Do(Action::Promote(key)))
}

/// Goes on after the promotion, until a scan that began after the quiet time is clean.
fn finish(
    rules: Rules,
    world: &ClusterNow,
    plan: &RotationPlan,
    key: KeyId,
    progress: &RotationProgress,
) -> Gate<NextStep> {
    if plan.phase == Phase::Prepare {
        return Ok(NextStep::Do(Action::Promoted));
    }
    let missing = world.nodes_without(|serves: &ServedNow| {
        serves.primary == key && (!rules.has(Rule::Chain) || is_known(world, serves))
    });
    let published = progress.published(key);
    if !missing.is_empty() && published.is_none() {
        return Ok(NextStep::Wait(Wait::Publish(missing)));
    }
    let published = match published {
        Some(published) if plan.phase != Phase::Promote => published,
        _ => return Ok(NextStep::Do(Action::Published)),
    };
    let quiet = if rules.has(Rule::Quiet) { world.timeouts.quiet() } else { Duration::ZERO };
    sweep(rules, world, plan, published.after(quiet), progress)
}

/// Whether what a node serves is this record or one before it, and no fork.
fn is_known(world: &ClusterNow, serves: &ServedNow) -> bool {
    serves.record == world.record.digest || world.record.past.contains(&serves.record)
}

/// Has everything written, and waits until no API server writes under the old key.
fn sweep(
    rules: Rules,
    world: &ClusterNow,
    plan: &RotationPlan,
    quiet: Ticks,
    progress: &RotationProgress,
) -> Gate<NextStep> {
    let scanned = scanned_now(rules, world, progress)?;
    readable(&scanned)?;
    let has_rest = scanned.stale > scanned.failed;
    if has_rest {
        return Ok(NextStep::Do(Action::Rewrite));
    }
    if world.now < quiet {
        return Ok(NextStep::Wait(Wait::Quiet(quiet)));
    }
    if scanned.at < quiet {
        return Ok(scan(rules, world));
    }
    if plan.is_compromise && scanned.stale == 0 {
        events_gone(rules, world, &scanned)?;
        disabled(rules, world, &scanned, progress)?;
    }
    if scanned.stale > 0 || scanned.unchangeable > 0 {
        let Scanned { stale, unchangeable, .. } = scanned;
        return Ok(NextStep::Refuse(Refused::Hold(Hold { stale, unchangeable })));
    }
    if scanned.uncovered > 0 {
        return Ok(NextStep::Refuse(Refused::Uncovered(scanned.uncovered)));
    }
    events_gone(rules, world, &scanned)?;
    count_holds(rules, world, progress)?;
    Ok(NextStep::Do(Action::Finish))
}

/// Opens if no event is under another key.
fn events_gone(rules: Rules, world: &ClusterNow, scanned: &Scanned) -> Gate {
    match scanned.events {
        0 => Ok(()),
        _ if scanned.at.after(RESCAN) <= world.now => Err(scan(rules, world)),
        events => Err(NextStep::Wait(Wait::Events(events))),
    }
}

/// Returns the next scan.
fn scan(rules: Rules, world: &ClusterNow) -> NextStep {
    NextStep::Do(Action::Scan { is_settled: settled(rules, world).is_ok() })
}

/// Opens if every compromised key is disabled. The gates are those of `claviger key disable`.
fn disabled(rules: Rules, world: &ClusterNow, scanned: &Scanned, progress: &RotationProgress) -> Gate {
    let Some(key) = world.record.exposed().next() else { return Ok(()) };
    if scanned.in_need > 0 {
        return Err(NextStep::Refuse(Refused::InNeed(scanned.in_need)));
    }
    settled(rules, world).map_err(|unsettled| NextStep::Wait(Wait::Settle(unsettled)))?;
    if !scanned.is_settled {
        return Err(scan(rules, world));
    }
    count_holds(rules, world, progress)?;
    Err(NextStep::Do(Action::Disable(key)))
}

fn readable(scanned: &Scanned) -> Gate {
    if scanned.is_incomplete { Err(NextStep::Refuse(Refused::Incomplete)) } else { Ok(()) }
}

/// Opens if there are no more API servers than nodes, and no connections that no API server accounts for.
fn count_holds(rules: Rules, world: &ClusterNow, progress: &RotationProgress) -> Gate {
    let counted = progress.counted.filter(|counted| counted.is_fresh(world.now)).ok_or(NextStep::Do(Action::Count))?;
    count::doubt(rules, world, counted).map_or(Ok(()), |doubt| Err(NextStep::Refuse(Refused::Count(doubt))))
}
