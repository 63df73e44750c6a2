//! The steps of a commit, after each of which a test lets the process die.

#[cfg(not(test))]
use crate::durable::DurableError;

/// The steps of a commit after which a process may die, in their order. The mark is not among them, because it
/// completes the commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::keeper) enum CommitStep {
    Audit,
    Backup,
    Aside,
    KeyFile,
    Root,
    Copy,
    Swap,
    Ledger,
    Plan,
}

/// Does nothing after a step. In tests, another function of this name lets the process die.
#[cfg(not(test))]
#[expect(clippy::unnecessary_wraps, reason = "a test's fails")]
pub(super) fn done(_: CommitStep) -> Result<(), DurableError> {
    Ok(())
}

#[cfg(test)]
pub(super) use super::testing::done;
