//! The points between two steps of a write at which a test lets the process die.

#[cfg(not(test))]
use std::path::Path;

#[cfg(not(test))]
use super::error::Result;

#[cfg(test)]
pub(super) use super::testing::survive;

/// Does nothing outside of tests.
///
/// # Errors
/// Never; the function of the same name in tests can fail.
#[cfg(not(test))]
#[expect(clippy::unnecessary_wraps, reason = "that of the tests fails")]
pub(super) fn survive(_: &Path) -> Result<()> {
    Ok(())
}
