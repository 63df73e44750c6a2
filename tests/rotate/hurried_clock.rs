//! A clock on which a wait of more than a second is over after a tenth of a second, and on which what a plugin measures
//! counts a hundred times. In a program of the name `impatient` it counts once: then no API server settles in time.

use std::{
    cell::Cell,
    ffi::OsString,
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

use claviger::RotationClock;

/// Runs a command line of claviger with this clock.
pub(crate) fn run(words: &[OsString]) -> ExitCode {
    // The name of the program says whether API servers are as slow on this clock as they are.
    let is_impatient = Path::new(&words[0]).file_stem().is_some_and(|name| name == "impatient");
    let speed = if is_impatient { 1 } else { 100 };
    claviger::run_words(words, &Hurried { begin: Instant::now(), ahead: Cell::new(Duration::ZERO), speed })
}

/// A clock that is ahead by the time that the process did not sleep.
struct Hurried {
    begin: Instant,
    ahead: Cell<Duration>,
    /// How many times what a plugin measures counts.
    speed: u32,
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
        time * self.speed
    }
}
