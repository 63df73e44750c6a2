//! The loop that drives a rotation: looks at the cluster, asks the planner ([`next`]) for a step, has the [`Hands`] do
//! it, and asks again.
//!
//! Invariant: if the machine was suspended between two steps, every wait begins anew, because a time that was measured
//! before proves nothing.

use std::time::Duration;

use super::clock::{RotationClock, suspended};
use crate::plan::{Action, ClusterNow, NextStep, Refused, RotationPlan, RotationProgress, Wait, next};

/// The shortest suspension between two steps after which every wait begins anew.
const NAP: Duration = Duration::from_secs(1);

/// Whether a rotation continues after a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acted {
    /// The rotation continues: the planner is asked again.
    GoOn,
    /// The rotation has ended: the last scan has proved it, or the operator has interrupted.
    Over,
}

/// The caller of [`drive`], which sees and changes the cluster for the planner.
pub trait Hands {
    /// The error of the hands.
    type Error;

    /// Looks at the keyring, the plan on the disk, and the nodes.
    ///
    /// # Errors
    /// When the keyring does not open, the configuration cannot be read, or another command has replaced the plan.
    fn look(&mut self) -> Result<(ClusterNow, Option<RotationPlan>), Self::Error>;

    /// Does one step. What it learns goes into `progress`.
    ///
    /// # Errors
    /// When the step fails. Then the rotation can be begun anew.
    fn act(&mut self, action: Action, progress: &mut RotationProgress) -> Result<Acted, Self::Error>;

    /// Says what the rotation waits for, and waits for a while.
    ///
    /// # Errors
    /// When a plugin does not do its part in time, or nothing can be printed.
    fn wait(&mut self, wait: &Wait) -> Result<Acted, Self::Error>;
}

/// The end of a rotation.
#[derive(Debug, PartialEq, Eq)]
pub enum RotationEnd {
    /// The hands have ended the rotation.
    Over,
    /// The rotation cannot continue until somebody acts.
    Refused(Refused),
}

/// Drives a rotation until it is over, or cannot go on.
///
/// # Errors
/// When the hands fail.
pub fn drive<H: Hands>(hands: &mut H, clock: &dyn RotationClock) -> Result<RotationEnd, H::Error> {
    let mut progress = RotationProgress::default();
    let mut slept = suspended(clock);
    loop {
        let (world, plan) = hands.look()?;
        if suspended(clock).saturating_sub(slept) > NAP {
            slept = suspended(clock);
            progress.forget_waits();
        }
        let acted = match next(&world, plan.as_ref(), &progress) {
            NextStep::Do(action) => hands.act(action, &mut progress)?,
            NextStep::Wait(wait) => hands.wait(&wait)?,
            NextStep::Refuse(refused) => return Ok(RotationEnd::Refused(refused)),
        };
        if acted == Acted::Over {
            return Ok(RotationEnd::Over);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, convert::Infallible};

    use super::{super::clock::now, *};
    use crate::plan::{
        Ticks,
        testing::{clean, counted, plan, world},
    };

    /// A clock that moves only during a wait, and that may have been suspended.
    #[derive(Default)]
    struct Sleepy {
        running: Cell<Duration>,
        asleep: Cell<Duration>,
    }

    impl RotationClock for Sleepy {
        fn since_boot(&self) -> Duration {
            self.running.get() + self.asleep.get()
        }

        fn running(&self) -> Duration {
            self.running.get()
        }

        fn sleep(&self, wait: Duration) -> Duration {
            self.running.set(self.running.get() + wait);
            Duration::ZERO
        }

        fn measured(&self, time: Duration) -> Duration {
            time
        }
    }

    /// Hands for a rotation whose key is published and whose values are all written.
    struct Written<'a> {
        clock: &'a Sleepy,
        /// How long the machine sleeps during the first wait.
        nap: Duration,
        finished: Option<Ticks>,
    }

    impl Hands for Written<'_> {
        type Error = Infallible;

        fn look(&mut self) -> Result<(ClusterNow, Option<RotationPlan>), Infallible> {
            Ok((ClusterNow { now: now(self.clock), ..world() }, Some(plan())))
        }

        fn act(&mut self, action: Action, progress: &mut RotationProgress) -> Result<Acted, Infallible> {
            let now = now(self.clock);
            match action {
                Action::Published => progress.see_published(plan().key.unwrap(), now),
                Action::Scan { .. } => progress.scanned = Some(clean(now)),
                Action::Count => progress.counted = Some(counted(now, 1)),
                Action::Finish => {
                    self.finished = Some(now);
                    return Ok(Acted::Over);
                }
                other => panic!("{other:?}"),
            }
            Ok(Acted::GoOn)
        }

        fn wait(&mut self, _: &Wait) -> Result<Acted, Infallible> {
            self.clock.sleep(Duration::from_secs(10));
            self.clock.asleep.set(self.clock.asleep.get() + std::mem::take(&mut self.nap));
            Ok(Acted::GoOn)
        }
    }

    #[test]
    fn a_machine_that_was_suspended_waits_anew() {
        let finished = |nap| {
            let clock = Sleepy::default();
            let mut hands = Written { clock: &clock, nap, finished: None };
            assert_eq!(drive(&mut hands, &clock), Ok(RotationEnd::Over));
            hands.finished.unwrap().0
        };
        let quiet = world().timeouts.quiet();
        let awake = finished(Duration::ZERO);
        assert!(awake >= quiet && awake < quiet + Duration::from_secs(20), "{awake:?}");
        let nap = Duration::from_hours(1);
        assert!(finished(nap) >= nap + quiet, "the sleep is no part of the wait");
    }
}
