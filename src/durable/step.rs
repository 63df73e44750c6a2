//! Where a process may die between two steps of a write. Only tests let it.

#[cfg(not(test))]
use std::path::Path;

#[cfg(not(test))]
use super::error::Result;

#[cfg(test)]
pub(super) use super::testing::survive;

/// Does nothing: outside of tests a step is survived.
///
/// # Errors
/// Never; that of the tests fails.
#[cfg(not(test))]
#[expect(clippy::unnecessary_wraps, reason = "that of the tests fails")]
pub(super) fn survive(_: &Path) -> Result<()> {
    Ok(())
}
