//! The clock by which a rotation waits. It tells whether the machine was suspended, because then every wait has to
//! begin anew.

use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime};

use crate::plan::Ticks;

/// A clock that also tells how long the machine was suspended.
pub trait RotationClock {
    /// Returns the time since the machine was started, including the time in suspension.
    fn since_boot(&self) -> Duration;

    /// Returns the time since the machine was started, without the time in suspension.
    fn running(&self) -> Duration;

    /// Returns how long the process really sleeps for a wait of this length.
    fn sleep(&self, wait: Duration) -> Duration;

    /// Converts a time that a plugin has measured to this clock.
    fn measured(&self, time: Duration) -> Duration;
}

/// Returns the present moment.
pub fn now(clock: &dyn RotationClock) -> Ticks {
    Ticks(clock.since_boot())
}

/// Returns for how long the machine was suspended in all.
pub(super) fn suspended(clock: &dyn RotationClock) -> Duration {
    clock.since_boot().saturating_sub(clock.running())
}

/// The boot-time and the monotonic clock of the kernel.
#[derive(Debug, Clone, Copy, Default)]
pub struct BootClock;

impl RotationClock for BootClock {
    fn since_boot(&self) -> Duration {
        read(ClockId::Boottime)
    }

    fn running(&self) -> Duration {
        read(ClockId::Monotonic)
    }

    fn sleep(&self, wait: Duration) -> Duration {
        wait
    }

    fn measured(&self, time: Duration) -> Duration {
        time
    }
}

fn read(clock: ClockId) -> Duration {
    let Timespec { tv_sec, tv_nsec } = clock_gettime(clock);
    let seconds = Duration::from_secs(tv_sec.try_into().unwrap_or(0));
    seconds + Duration::from_nanos(tv_nsec.try_into().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_boot_time_clock_goes_on_and_is_never_behind_the_other() {
        let (running, before) = (BootClock.running(), now(&BootClock));
        assert!(now(&BootClock) >= before && before.0 >= running);
        assert_eq!(BootClock.sleep(Duration::from_secs(7)), Duration::from_secs(7));
    }
}
