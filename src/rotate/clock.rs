//! The clock by which a rotation waits.

use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime};

use crate::plan::Ticks;

/// A clock that also says when the machine was suspended.
pub trait RotationClock {
    /// Returns the time since the machine was started, with the time in which it was suspended.
    fn since_boot(&self) -> Duration;

    /// Returns the time since the machine was started, without the time in which it was suspended.
    fn running(&self) -> Duration;

    /// Returns how long to really sleep, for a wait of this length.
    fn sleep(&self, wait: Duration) -> Duration;

    /// Returns a time that a plugin has measured, as this clock counts it.
    fn measured(&self, time: Duration) -> Duration;
}

/// Returns this moment.
pub fn now(clock: &dyn RotationClock) -> Ticks {
    Ticks(clock.since_boot())
}

/// Returns for how long the machine was suspended in all.
pub(super) fn suspended(clock: &dyn RotationClock) -> Duration {
    clock.since_boot().saturating_sub(clock.running())
}

/// The clocks of the kernel.
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
