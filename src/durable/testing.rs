//! Directories for tests, and processes that die in the middle of a write.

use std::{cell::Cell, io, path::Path};

use super::{
    dir::Dir,
    error::{DurableError, Result},
};

thread_local! {
    /// The number of further steps of writes that this thread survives.
    static STEPS: Cell<Option<usize>> = const { Cell::new(None) };
}

/// Calls `act` as a process that dies after so many steps of writes. Returns whether it died.
pub fn dying_after<T>(steps: usize, act: impl FnOnce() -> T) -> (T, bool) {
    STEPS.set(Some(steps));
    let outcome = act();
    (outcome, STEPS.take() == Some(0))
}

pub(super) fn survive(path: &Path) -> Result<()> {
    match STEPS.get() {
        Some(0) => {
            let source = io::Error::other("the process died");
            Err(DurableError::Io { action: "writing", path: path.to_owned(), source })
        }
        steps => {
            STEPS.set(steps.map(|steps| steps - 1));
            Ok(())
        }
    }
}

/// Returns an empty private directory. It is removed when the first of the two is dropped.
pub fn private() -> (tempfile::TempDir, Dir) {
    let keep = tempfile::tempdir().unwrap();
    let dir = Dir::open_or_create(keep.path()).unwrap();
    (keep, dir)
}
