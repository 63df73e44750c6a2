//! claviger with another clock: a wait of more than a second is over after a tenth of a second, and
//! what a plugin measures counts a hundred times. The program itself has
//! no such input. Tests of rotations run this one.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use claviger::RotationClock;

#[global_allocator]
static ALLOCATOR: zeroizing_alloc::ZeroAlloc<std::alloc::System> = zeroizing_alloc::ZeroAlloc(std::alloc::System);

/// A clock that is ahead by what was not slept.
struct Hurried {
    begin: Instant,
    ahead: Cell<Duration>,
}

impl RotationClock for Hurried {
    fn since_boot(&self) -> Duration {
        self.begin.elapsed() + self.ahead.get()
    }

    fn running(&self) -> Duration {
        self.since_boot()
    }

    fn sleep(&self, wait: Duration) -> Duration {
        const REAL: Duration = Duration::from_millis(100);
        if wait <= Duration::from_secs(1) {
            return wait;
        }
        self.ahead.set(self.ahead.get() + wait.saturating_sub(REAL));
        REAL
    }

    fn measured(&self, time: Duration) -> Duration {
        time * 100
    }
}

fn main() -> std::process::ExitCode {
    let clock = Hurried { begin: Instant::now(), ahead: Cell::new(Duration::ZERO) };
    claviger::run_words(&std::env::args_os().collect::<Vec<_>>(), &clock)
}
