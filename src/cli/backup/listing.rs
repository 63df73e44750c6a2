//! The failure of a backup that exists and could not be listed in the ledger.

use super::super::failure::Failure;
use crate::keeper::{CommitError, ListBackupError};

/// Returns the failure of listing a backup. `what` says what the command has done all the same.
pub(super) fn not_listed(error: ListBackupError, what: &str) -> Failure {
    let is_listed = matches!(error, ListBackupError::Commit(CommitError::LedgerNotMarked(_)));
    let what = if is_listed { what.to_owned() } else { format!("{what}, and is not listed") };
    Failure::from(error).about(&what)
}
