//! Why a file was not read or written.

use std::{
    io,
    path::{Path, PathBuf},
};

use rustix::io::Errno;

/// What most functions of this module return.
pub(super) type Result<T> = std::result::Result<T, DurableError>;

/// Why a file was not read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DurableError {
    /// It is not there.
    #[error("{} does not exist", .0.display())]
    Missing(PathBuf),
    /// It is already there, and must not be.
    #[error("{} already exists", .0.display())]
    Exists(PathBuf),
    /// It is not what it should be.
    #[error("{} is {found}, expected {expected}", path.display())]
    Kind {
        /// Which one.
        path: PathBuf,
        /// What it is.
        found: &'static str,
        /// What it should be.
        expected: &'static str,
    },
    /// Others may read or write it.
    #[error("{} has mode {mode:04o}, expected {expected:04o}", path.display())]
    Mode {
        /// Which one.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// What they should be.
        expected: u32,
    },
    /// Others may look into, or write to, a directory.
    #[error("directory {} has mode {mode:04o}, expected {expected:04o}", path.display())]
    DirectoryMode {
        /// Which one.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// What they should be.
        expected: u32,
    },
    /// A directory belongs to somebody else.
    #[error("directory {} is owned by uid {found}, expected uid {expected}", path.display())]
    DirectoryOwner {
        /// Which one.
        path: PathBuf,
        /// Its owner.
        found: u32,
        /// Who should own it.
        expected: u32,
    },
    /// It belongs to somebody else.
    #[error("{} is owned by uid {found}, expected uid {expected}", path.display())]
    Owner {
        /// Which one.
        path: PathBuf,
        /// Its owner.
        found: u32,
        /// Who should own it.
        expected: u32,
    },
    /// A directory above it lets others replace it.
    #[error("{} is writable by others (mode {mode:04o}), and is above {}", path.display(), below.display())]
    Ancestor {
        /// The directory above.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// What was to be opened.
        below: PathBuf,
    },
    /// Whoever is neither root nor the directory's owner decides what stands above it.
    #[error("{} is owned by uid {found}, and is above {}", path.display(), below.display())]
    AncestorOwner {
        /// The directory, or the link to one, above.
        path: PathBuf,
        /// Its owner.
        found: u32,
        /// What was to be opened.
        below: PathBuf,
    },
    /// It is longer than anything of its kind.
    #[error("{} is longer than {limit} bytes", path.display())]
    TooLong {
        /// Which one.
        path: PathBuf,
        /// Bytes that it may have.
        limit: usize,
    },
    /// Another command or the daemon is changing this directory.
    #[error("{} is locked by another claviger", .0.display())]
    Locked(PathBuf),
    /// It is not the one that was read before: somebody else changed it.
    #[error("{} changed underneath", .0.display())]
    Changed(PathBuf),
    /// A backup is on the disk of the state directory, or on no disk.
    #[error("{} is on {what}", path.display())]
    SharedDisk {
        /// Which one.
        path: PathBuf,
        /// What it is on.
        what: &'static str,
    },
    /// The disk gave back other bytes than were written.
    #[error("{} did not read back as it was written", .0.display())]
    ReadBack(PathBuf),
    /// The system refused.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// What was tried, e.g. `writing`.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

/// The error for what the system refused: `action`, such as `writing`, on `path`.
pub(super) fn io_error(action: &'static str, path: &Path) -> impl FnOnce(Errno) -> DurableError {
    let path = path.to_owned();
    move |errno| DurableError::Io { action, path, source: errno.into() }
}
