//! Decides the next step of a rotation. Each gate (a method of [`Gates`]) checks one condition, in a fixed order, and
//! the first closed gate returns the step that leads to its opening.
//!
//! Pure. Invariant: the decision depends only on the cluster as it is seen now ([`ClusterNow`]), on the plan, and on
//! what this run has seen. Source: `docs/rotate.md`, "The phases".

use std::time::Duration;

use crate::keyring::{key_id::KeyId, state::State};

use super::{
    count,
    progress::RotationProgress,
    retire::settled,
    rotation::{Aim, Phase, RotationPlan},
    rules::{Rule, Rules},
    step::{Action, Hold, NextStep, Refused, Wait},
    world::{ClusterNow, KeyNow, Scanned, ServedNow, Ticks},
};

/// Decides the next step. `plan` is the plan on the disk, and `progress` what this run has seen.
pub fn next(world: &ClusterNow, plan: Option<&RotationPlan>, progress: &RotationProgress) -> NextStep {
    next_by(Rules::default(), world, plan, progress)
}

/// Decides the next step by `rules`. A test can leave out one of the rules.
pub(super) fn next_by(
    rules: Rules,
    world: &ClusterNow,
    plan: Option<&RotationPlan>,
    progress: &RotationProgress,
) -> NextStep {
    Gates { rules, world, progress }.decide(plan).unwrap_or_else(|step| step)
}

/// How long after a scan for expired events the next scan begins.
const RESCAN: Duration = Duration::from_mins(1);

/// The result of a gate, or of a decision that passes gates. A closed gate ends the decision: its error is the step
/// that leads to its opening.
type Gate<T = ()> = Result<T, NextStep>;

/// The gates of a rotation, with everything that is known at this moment.
struct Gates<'a> {
    rules: Rules,
    world: &'a ClusterNow,
    progress: &'a RotationProgress,
}

impl Gates<'_> {
    fn decide(&self, plan: Option<&RotationPlan>) -> Gate<NextStep> {
        // A plan to replace compromised keys takes precedence over any other plan.
        let goes_on = |plan: &&RotationPlan| plan.is_unfinished() && (plan.is_compromise || !self.world.is_compromise);
        let Some(plan) = plan.filter(goes_on) else {
            return self.begin(self.world.is_compromise);
        };
        let Some(key) = plan.key else { return self.make_key(plan) };
        match self.world.record.key(key).map(|key| key.state) {
            Some(State::Primary) => self.finish(plan, key),
            Some(State::Pending) if plan.phase == Phase::Prepare => self.prepare(plan, key),
            // Another key was promoted, or the keyring was restored, so the plan is void.
            _ => self.begin(plan.is_compromise),
        }
    }

    /// Begins with a scan. If an earlier rotation is unfinished, this one finishes it: its key is the present primary
    /// key.
    fn begin(&self, is_compromise: bool) -> Gate<NextStep> {
        let scanned = self.may_end(is_compromise)?;
        let missing = self.world.nodes_without(|serves: &ServedNow| serves.record == self.world.record.digest);
        if !missing.is_empty() {
            return Ok(NextStep::Wait(Wait::Acknowledge(missing)));
        }
        let aim = match self.world.record.primary() {
            _ if is_compromise => Aim::Compromise,
            Some(primary) if self.rules.has(Rule::Finish) && scanned.under_other_keys > 0 => Aim::Finish(primary),
            _ => Aim::NewKey,
        };
        Ok(NextStep::Do(Action::Begin(aim)))
    }

    /// Opens if no known reason prevents the rotation from ending. In a compromise, values that no key of ours opens do
    /// not matter.
    fn may_end(&self, is_compromise: bool) -> Gate<Scanned> {
        let scanned = self.scanned_now()?;
        readable(&scanned)?;
        let refused = match scanned {
            _ if is_compromise => return self.count_holds().map(|()| scanned),
            Scanned { unchangeable: 1.., .. } => Refused::Unreadable(scanned.unchangeable),
            Scanned { uncovered: 1.., .. } => Refused::Uncovered(scanned.uncovered),
            _ => return self.count_holds().map(|()| scanned),
        };
        Err(NextStep::Refuse(refused))
    }

    /// Returns the last scan, if it compared the values with the present primary key.
    fn scanned_now(&self) -> Gate<Scanned> {
        let scanned = self.progress.scanned.filter(|scanned| Some(scanned.primary) == self.world.record.primary());
        scanned.ok_or_else(|| self.scan())
    }

    /// Makes the key of a plan. If an earlier run died after it made the key, the plan does not name the key. Two facts
    /// identify such a key: the record is the direct successor of the one at which the plan began, and it has exactly
    /// one newer pending key.
    fn make_key(&self, plan: &RotationPlan) -> Gate<NextStep> {
        let record = &self.world.record;
        if record.digest == plan.began {
            return Ok(NextStep::Do(Action::Add));
        }
        let is_new = |key: &&KeyNow| key.state == State::Pending && key.id.seq() > plan.newest;
        let mut made = record.keys.iter().filter(is_new).filter(|_| record.past.first() == Some(&plan.began));
        match (made.next(), made.next()) {
            (Some(key), None) => Ok(NextStep::Do(Action::Take(key.id))),
            // The keyring was changed in another way, so the plan is void.
            _ => self.begin(plan.is_compromise),
        }
    }

    /// Returns the promotion, if the key is backed up and every node has proved that it can read with it.
    fn prepare(&self, plan: &RotationPlan, key: KeyId) -> Gate<NextStep> {
        let has_acknowledged =
            |serves: &ServedNow| serves.record == self.world.record.digest && serves.canary == Some(key);
        let missing = self.world.nodes_without(has_acknowledged);
        if self.rules.has(Rule::Acknowledge) && !missing.is_empty() {
            return Ok(NextStep::Wait(Wait::Acknowledge(missing)));
        }
        let needs_backup = self.rules.has(Rule::BackUp) && !self.world.needs_no_backup;
        if needs_backup && !self.world.record.key(key).is_some_and(|key| key.is_backed_up) {
            let refusal = NextStep::Refuse(Refused::NotBackedUp(key));
            return Ok(if self.world.can_back_up { NextStep::Do(Action::BackUp(key)) } else { refusal });
        }
        let scanned = self.may_end(plan.is_compromise)?;
        if self.rules.has(Rule::Finish) && scanned.under_other_keys > 0 && !plan.is_compromise {
            // Another key was promoted meanwhile, so the plan is void.
            return self.begin(false);
        }
        Ok(NextStep::Do(Action::Promote(key)))
    }

    /// Continues after the promotion, until a scan that began after the quiet time is clean.
    fn finish(&self, plan: &RotationPlan, key: KeyId) -> Gate<NextStep> {
        if plan.phase == Phase::Prepare {
            return Ok(NextStep::Do(Action::Promoted));
        }
        let missing = self.world.nodes_without(|serves: &ServedNow| {
            serves.primary == key && (!self.rules.has(Rule::Chain) || is_known(self.world, serves))
        });
        let published = self.progress.published(key);
        if !missing.is_empty() && published.is_none() {
            return Ok(NextStep::Wait(Wait::Publish(missing)));
        }
        let published = match published {
            Some(published) if plan.phase != Phase::Promote => published,
            _ => return Ok(NextStep::Do(Action::Published)),
        };
        let quiet = if self.rules.has(Rule::Quiet) { self.world.timeouts.quiet() } else { Duration::ZERO };
        self.sweep(plan, published.after(quiet))
    }

    /// Has the API servers write every stale object, and waits until no API server writes under the old key.
    fn sweep(&self, plan: &RotationPlan, quiet: Ticks) -> Gate<NextStep> {
        let scanned = self.scanned_now()?;
        readable(&scanned)?;
        let has_rest = scanned.stale > scanned.failed;
        if has_rest {
            return Ok(NextStep::Do(Action::Rewrite));
        }
        if self.world.now < quiet {
            return Ok(NextStep::Wait(Wait::Quiet(quiet)));
        }
        if scanned.at < quiet {
            return Ok(self.scan());
        }
        if plan.is_compromise && scanned.under_other_keys == 0 {
            self.events_gone(&scanned)?;
            self.disabled(&scanned)?;
        }
        if scanned.stale > 0 || scanned.unchangeable > 0 {
            let Scanned { stale, unchangeable, .. } = scanned;
            return Ok(NextStep::Refuse(Refused::Hold(Hold { stale, unchangeable })));
        }
        if scanned.uncovered > 0 {
            return Ok(NextStep::Refuse(Refused::Uncovered(scanned.uncovered)));
        }
        self.events_gone(&scanned)?;
        self.count_holds()?;
        Ok(NextStep::Do(Action::Finish))
    }

    /// Opens if no event is under another key.
    fn events_gone(&self, scanned: &Scanned) -> Gate {
        match scanned.events {
            0 => Ok(()),
            _ if scanned.at.after(RESCAN) <= self.world.now => Err(self.scan()),
            events => Err(NextStep::Wait(Wait::Events(events))),
        }
    }

    /// Returns the step that scans every etcd.
    fn scan(&self) -> NextStep {
        NextStep::Do(Action::Scan { is_settled: settled(self.rules, self.world).is_ok() })
    }

    /// Opens if every compromised key is disabled. The gates are those of `claviger key disable`.
    fn disabled(&self, scanned: &Scanned) -> Gate {
        let Some(key) = self.world.record.exposed().next() else { return Ok(()) };
        if scanned.in_need > 0 {
            return Err(NextStep::Refuse(Refused::InNeed(scanned.in_need)));
        }
        settled(self.rules, self.world).map_err(|unsettled| NextStep::Wait(Wait::Settle(unsettled)))?;
        if !scanned.is_settled {
            return Err(self.scan());
        }
        self.count_holds()?;
        Err(NextStep::Do(Action::Disable(key)))
    }

    /// Opens if there are at most as many API servers as nodes, and an API server for every connection.
    fn count_holds(&self) -> Gate {
        let counted = self
            .progress
            .counted
            .filter(|counted| counted.is_fresh(self.world.now))
            .ok_or(NextStep::Do(Action::Count))?;
        count::doubt(self.rules, self.world, counted)
            .map_or(Ok(()), |doubt| Err(NextStep::Refuse(Refused::Count(doubt))))
    }
}

/// Whether a node serves this record or a predecessor of it, and no fork.
fn is_known(world: &ClusterNow, serves: &ServedNow) -> bool {
    serves.record == world.record.digest || world.record.past.contains(&serves.record)
}

fn readable(scanned: &Scanned) -> Gate {
    if scanned.is_incomplete { Err(NextStep::Refuse(Refused::Incomplete)) } else { Ok(()) }
}
