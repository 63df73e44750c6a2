//! Tells the operator why a command failed: one line, a hint on its own line, and an exit code.
//!
//! `report` prints a failed command. The other files map the errors of an operation to a hint and an exit code. A verb
//! chooses the exit code of an outcome that is no error of the library, for example of something that it found.

mod exit;
mod files;
mod keyring;
mod keys;
mod operations;
mod report;
#[cfg(feature = "reencrypt")]
mod room;
#[cfg(feature = "scan")]
mod scan;
mod serving;
mod set_up;
#[cfg(feature = "scan")]
mod silence;

pub(super) use self::{
    exit::{Exit, Explain, Explanation},
    files::{reading, reading_settings, unreadable},
    keyring::{damaged_mark, is_mark_damaged},
    keys::miscounted,
    operations::{ID_DIGITS, ledger_hint, no_backup_counts},
    report::{Failure, warn},
};
#[cfg(feature = "reencrypt")]
pub(super) use self::{
    room::{make_room, no_space, no_space_in},
    scan::{credentials, written_in_plaintext},
    silence::{needs_kubeconfig, silent_api_server},
};
#[cfg(feature = "scan")]
pub(super) use self::{scan::NO_REPORT, silence::is_of_certificate};
