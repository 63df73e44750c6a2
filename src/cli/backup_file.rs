//! Reads a backup from a file, and opens it with the identities that the operator gives.

use std::{
    io,
    path::{Component, Path},
};

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

/// Returns the absolute path of a file, because the ledger may be read from another directory. The path has no `..`: to
/// remove one, the directory is resolved with its links, because only then the path still leads to the same file.
pub(super) fn whole(file: &Path) -> String {
    let path = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let is_winding = path.components().any(|part| part == Component::ParentDir);
    let straight = || Some(path.parent()?.canonicalize().ok()?.join(path.file_name()?));
    is_winding.then(straight).flatten().unwrap_or(path).display().to_string()
}

/// Reads the file of a backup or of a keyring.
pub(super) fn read(file: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let failed = |error: io::Error| {
        Failure::new(reading(&error), &format!("reading {}: {error}", file.display()), unreadable(file, &error))
    };
    let bytes = read_input(file, BACKUP_MAX).map_err(failed)?;
    // Checks this before anybody is asked for an identity.
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

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn a_path_in_the_ledger_has_no_way_back_and_leads_to_the_same_file() {
        let keep = tempfile::tempdir().unwrap();
        let dir = keep.path().canonicalize().unwrap();
        fs::create_dir_all(dir.join("usb/deep")).unwrap();
        fs::create_dir(dir.join("here")).unwrap();
        symlink(dir.join("usb/deep"), dir.join("here/link")).unwrap();
        let whole = |path: &str| whole(&dir.join(path));
        let expected = |path: &str| dir.join(path).display().to_string();
        assert_eq!(whole("here/../usb/f.age"), expected("usb/f.age"));
        assert_eq!(
            whole("here/link/../f.age"),
            expected("usb/f.age"),
            "`..` is above the directory that the link names"
        );
        assert_eq!(whole("here/link/f.age"), expected("here/link/f.age"), "a path without `..` stays as it was given");
        assert_eq!(whole("none/../f.age"), expected("none/../f.age"), "there is no such directory");
    }
}
