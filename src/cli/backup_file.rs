//! Reads a backup from a file, and opens it with the identities that the operator gives.

use std::{io, path::Path};

use zeroize::Zeroizing;

use super::failure::{Failure, reading, unreadable};
use crate::{
    durable::read_input,
    escrow::{BACKUP_MAX, Backup, Identities, OpenBackupError},
    keyring::Keyring,
};

/// Returns the command that makes a backup of `keyring`. If the keyring has no recovery recipient, the command names
/// one.
pub(super) fn create_command(keyring: &Keyring) -> &'static str {
    if keyring.recoveries().is_empty() {
        "claviger backup create FILE --recipient age1…"
    } else {
        "claviger backup create FILE"
    }
}

/// Returns the absolute path of a file, because the ledger may be read from another directory.
pub(super) fn whole(file: &Path) -> String {
    std::path::absolute(file).unwrap_or_else(|_| file.to_owned()).display().to_string()
}

/// Reads the file of a backup or of a keyring.
pub(super) fn read(file: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let failed = |error: io::Error| {
        Failure::new(reading(&error), &format!("reading {}: {error}", file.display()), unreadable(file, &error))
    };
    let bytes = read_input(file, BACKUP_MAX).map_err(failed)?;
    // Before anybody is asked for an identity.
    Backup::check_form(&bytes).map_err(|error| about(file, error))?;
    Ok(bytes)
}

fn about(file: &Path, error: OpenBackupError) -> Failure {
    Failure::from(error).about(&format!("backup {}", file.display()))
}

/// Opens the backup that was read from `file`.
pub(super) fn open(file: &Path, bytes: &[u8], identities: &Identities) -> Result<Backup, Failure> {
    Backup::open(bytes, identities).map_err(|error| about(file, error))
}
