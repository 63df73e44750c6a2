//! Hints for files, for the text formats in them, and for memory.

use std::io;

use super::exit::{Exit, Explanation};
use crate::{durable::DurableError, memory::SecretError, store::StoreError, text::TextError};

pub(super) const RESTORE: &str = "put it back from your copy of the state directory, or from a backup: claviger backup restore; never \
                       start over with `claviger init`: what is encrypted needs these keys";

/// The hint if the kernel gives no random bytes.
pub(super) const RANDOM: &str = "the kernel gave no random bytes: look for the reason in its log, with dmesg";

/// A hint never contains a command that changes a directory, because other programs may use that directory.
pub(super) fn durable(error: &DurableError) -> Explanation {
    let refused = |hint: String| (Exit::Refused, Some(hint));
    match error {
        DurableError::Missing(_) | DurableError::TooLong { .. } => (Exit::Damaged, None),
        DurableError::Kind { path, found: "a symbolic link", .. } => {
            refused(format!("links are not followed; see where it leads: readlink -f {}", path.display()))
        }
        DurableError::Exists(_) | DurableError::Kind { .. } => (Exit::Refused, None),
        DurableError::Mode { path, expected, .. } => refused(format!("chmod {expected:04o} {}", path.display())),
        DurableError::Owner { path, expected, .. } => refused(format!("chown {expected} {}", path.display())),
        DurableError::DirectoryMode { expected, .. } => refused(format!(
            "use a directory that only claviger uses; if this is one, its mode should be {expected:04o}"
        )),
        DurableError::DirectoryOwner { found, expected, .. } => {
            refused(format!("use a directory of uid {expected}'s, or run it as uid {found}"))
        }
        DurableError::Ancestor { .. } | DurableError::AncestorOwner { .. } => {
            refused("use a directory that nobody but root and its owner can replace, as in /var/lib".to_owned())
        }
        DurableError::Locked(_) => refused("another command or the daemon is at work here; run it again".to_owned()),
        DurableError::SharedDisk { .. } => refused("keep backups on another disk".to_owned()),
        DurableError::ReadBack(_) => (Exit::Disk, Some("check the disk; the old state is whole".to_owned())),
        DurableError::Io { source, .. } => io_hint(source),
    }
}

pub(super) fn io_hint(error: &io::Error) -> Explanation {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            (Exit::Refused, Some("run it as root, or as the owner of the state directory".to_owned()))
        }
        io::ErrorKind::NotADirectory | io::ErrorKind::InvalidFilename => (Exit::Refused, None),
        io::ErrorKind::ReadOnlyFilesystem => (Exit::Disk, Some("mount it writable; nothing was changed".to_owned())),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            (Exit::Disk, Some("free some space and run it again; nothing was lost".to_owned()))
        }
        _ => (Exit::Disk, Some("look for the reason in the kernel's log, with dmesg".to_owned())),
    }
}

pub(super) fn text(error: &TextError) -> Explanation {
    match error {
        TextError::TooNew { .. } => (Exit::Refused, Some("upgrade claviger on this node".to_owned())),
        TextError::NotAuthentic => (Exit::WrongKey, Some(RESTORE.to_owned())),
        TextError::TooLong { .. } | TextError::Foreign(_) | TextError::Line { .. } | TextError::Incomplete => {
            (Exit::Damaged, Some(RESTORE.to_owned()))
        }
    }
}

pub(super) fn store(error: &StoreError) -> Explanation {
    match error {
        StoreError::File(error) => durable(error),
    }
}

pub(super) fn export(error: &DurableError) -> Explanation {
    match error {
        DurableError::Missing(path) => (Exit::Refused, Some(format!("mkdir -p {}", path.display()))),
        error => durable(error),
    }
}

pub(super) fn memory(error: &SecretError) -> Explanation {
    let hint = matches!(error, SecretError::Lock(_))
        .then(|| "raise the limit of locked memory: LimitMEMLOCK=8M in the unit, or `ulimit -l 8192`".to_owned());
    (Exit::Refused, hint)
}
