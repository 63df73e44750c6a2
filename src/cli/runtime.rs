//! Makes the event loop in which a command runs its asynchronous calls.

use tokio::runtime::{Builder, Runtime};

use super::failure::{Exit, Failure};

/// Starts an event loop that uses only this thread.
///
/// # Errors
/// When the system refuses what it needs.
pub(super) fn event_loop() -> Result<Runtime, Failure> {
    let refused = |error| Failure::new(Exit::Refused, &format!("starting the event loop: {error}"), None);
    Builder::new_current_thread().enable_all().build().map_err(refused)
}
