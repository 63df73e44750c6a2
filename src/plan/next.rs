//! The gates, in their order.

use std::time::Duration;

use crate::keyring::{key_id::KeyId, state::State};

use super::{
    count,
    progress::RotationProgress,
    rotation::{Phase, RotationPlan},
    rules::{Rule, Rules},
    step::{Action, Hold, NextStep, Refused, Wait},
    world::{ClusterNow, KeyNow, Scanned, ServedNow, Ticks},
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
    let Some(plan) = plan.filter(|plan| plan.is_unfinished()) else {
        return begin(rules, world, progress);
    };
    let Some(key) = plan.key else { return make_key(rules, world, plan, progress) };
    match world.record.key(key).map(|key| key.state) {
        Some(State::Primary) => finish(rules, world, plan, key, progress),
        Some(State::Pending) if plan.phase == Phase::Prepare => prepare(rules, world, key, progress),
        // Another key was promoted, or the keyring was restored: the plan is void.
        _ => begin(rules, world, progress),
    }
}

/// Begins with a scan. If values are under other keys of ours, an earlier rotation is unfinished, and this one finishes
/// it: it goes towards the present primary key.
fn begin(rules: Rules, world: &ClusterNow, progress: &RotationProgress) -> Gate<NextStep> {
    let scanned = may_end(rules, world, progress)?;
    let missing = world.nodes_without(|serves: &ServedNow| serves.record == world.record.digest);
    if !missing.is_empty() {
        return Ok(NextStep::Wait(Wait::Acknowledge(missing)));
    }
    let is_unfinished = scanned.under_other_keys > 0;
    Ok(NextStep::Do(Action::Begin(world.record.primary().filter(|_| is_unfinished))))
}

/// Opens if nothing is known that would keep a rotation from its end.
fn may_end(rules: Rules, world: &ClusterNow, progress: &RotationProgress) -> Gate<Scanned> {
    let scanned = scanned_now(world, progress)?;
    readable(&scanned)?;
    let refused = match scanned {
        Scanned { unchangeable: 1.., .. } => Refused::Unreadable(scanned.unchangeable),
        Scanned { uncovered: 1.., .. } => Refused::Uncovered(scanned.uncovered),
        _ => return count_holds(rules, world, progress).map(|()| scanned),
    };
    Err(NextStep::Refuse(refused))
}

/// Returns the last scan, if it compared the values with the key that is primary now.
fn scanned_now(world: &ClusterNow, progress: &RotationProgress) -> Gate<Scanned> {
    let scanned = progress.scanned.filter(|scanned| Some(scanned.primary) == world.record.primary());
    scanned.ok_or(NextStep::Do(Action::Scan))
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
        _ => begin(rules, world, progress),
    }
}

/// Opens the gate to the promotion.
fn prepare(rules: Rules, world: &ClusterNow, key: KeyId, progress: &RotationProgress) -> Gate<NextStep> {
    let has_acknowledged = |serves: &ServedNow| serves.record == world.record.digest && serves.canary == Some(key);
    let missing = world.nodes_without(has_acknowledged);
    if rules.has(Rule::Acknowledge) && !missing.is_empty() {
        return Ok(NextStep::Wait(Wait::Acknowledge(missing)));
    }
    if !world.needs_no_backup && !world.record.key(key).is_some_and(|key| key.is_backed_up) {
        let refusal = NextStep::Refuse(Refused::NotBackedUp(key));
        return Ok(if world.can_back_up { NextStep::Do(Action::BackUp(key)) } else { refusal });
    }
    if may_end(rules, world, progress)?.under_other_keys > 0 {
        // Another key was promoted meanwhile.
        return begin(rules, world, progress);
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
    sweep(rules, world, published.after(quiet), progress)
}

/// Whether what a node serves is this record or one before it, and no fork.
fn is_known(world: &ClusterNow, serves: &ServedNow) -> bool {
    serves.record == world.record.digest || world.record.past.contains(&serves.record)
}

/// Has everything written, and waits until no API server writes under the old key.
fn sweep(rules: Rules, world: &ClusterNow, quiet: Ticks, progress: &RotationProgress) -> Gate<NextStep> {
    let scanned = scanned_now(world, progress)?;
    readable(&scanned)?;
    let has_rest = scanned.stale > scanned.failed;
    if has_rest {
        return Ok(NextStep::Do(Action::Rewrite));
    }
    if world.now < quiet {
        return Ok(NextStep::Wait(Wait::Quiet(quiet)));
    }
    if scanned.at < quiet {
        return Ok(NextStep::Do(Action::Scan));
    }
    if scanned.stale > 0 || scanned.unchangeable > 0 {
        let Scanned { stale, unchangeable, .. } = scanned;
        return Ok(NextStep::Refuse(Refused::Hold(Hold { stale, unchangeable })));
    }
    if scanned.uncovered > 0 {
        return Ok(NextStep::Refuse(Refused::Uncovered(scanned.uncovered)));
    }
    if scanned.events > 0 {
        let is_due = scanned.at.after(RESCAN) <= world.now;
        return Ok(if is_due { NextStep::Do(Action::Scan) } else { NextStep::Wait(Wait::Events(scanned.events)) });
    }
    count_holds(rules, world, progress)?;
    Ok(NextStep::Do(Action::Finish))
}

fn readable(scanned: &Scanned) -> Gate {
    if scanned.is_incomplete { Err(NextStep::Refuse(Refused::Incomplete)) } else { Ok(()) }
}

/// Opens if there are no more API servers than nodes, and no connections that no API server accounts for.
fn count_holds(rules: Rules, world: &ClusterNow, progress: &RotationProgress) -> Gate {
    let counted = progress.counted.filter(|counted| counted.is_fresh(world.now)).ok_or(NextStep::Do(Action::Count))?;
    count::doubt(rules, world, counted).map_or(Ok(()), |doubt| Err(NextStep::Refuse(Refused::Count(doubt))))
}
