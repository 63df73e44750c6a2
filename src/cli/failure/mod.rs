//! Tells the operator why a command failed: one line, a hint on its own line, and an exit code.
//!
//! `report` prints a failed command. The other files map the errors of an operation to a hint and an exit code. No
//! other module knows exit codes.

mod exit;
mod files;
mod keyring;
mod operations;
mod report;
#[cfg(feature = "scan")]
mod scan;
mod serving;
mod set_up;

pub(super) use self::{exit::Exit, operations::no_backup_counts, report::Failure};
