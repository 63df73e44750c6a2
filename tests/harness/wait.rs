//! Waits for what a process does in its own time.

use std::{
    thread,
    time::{Duration, Instant},
};

/// Longer than anything takes that a test waits for, also on a busy machine.
const PATIENCE: Duration = Duration::from_mins(3);

/// The time between two looks.
const POLL: Duration = Duration::from_millis(50);

/// Waits until something is as it should be, and says at the end of its patience what is not.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "waited in vain until {what}");
        thread::sleep(POLL);
    }
}
