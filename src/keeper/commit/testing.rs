//! Lets a commit die after one of its steps.

use std::{cell::Cell, io};

use super::step::CommitStep;
use crate::durable::DurableError;

thread_local! {
    /// The step after which a commit of this thread fails, as if the process died.
    static LAST: Cell<Option<CommitStep>> = const { Cell::new(None) };
}

/// Runs `act` as a process that dies after `step`. Returns the outcome, and whether it reached that step.
pub(in crate::keeper) fn dying_after<T>(step: CommitStep, act: impl FnOnce() -> T) -> (T, bool) {
    LAST.set(Some(step));
    let outcome = act();
    (outcome, LAST.take().is_none())
}

pub(super) fn done(step: CommitStep) -> Result<(), DurableError> {
    if LAST.get() != Some(step) {
        return Ok(());
    }
    LAST.set(None);
    let source = io::Error::other("the process died");
    Err(DurableError::Io { action: "going on after", path: format!("{step:?}").into(), source })
}
