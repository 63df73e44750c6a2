//! The errors of reading and writing files.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use rustix::io::Errno;

/// The result of most functions of this module.
pub(super) type Result<T> = std::result::Result<T, DurableError>;

/// The kind of a file that a path leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    Regular,
    /// A directory.
    Directory,
    /// A symbolic link, which is not followed.
    SymbolicLink,
    /// A FIFO.
    Fifo,
    /// A Unix socket.
    Socket,
    /// A device, or a kind that only other systems have.
    Device,
    /// The system does not report the kind.
    Unknown,
}

impl fmt::Display for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Regular => "a regular file",
            Self::Directory => "a directory",
            Self::SymbolicLink => "a symbolic link",
            Self::Fifo => "a FIFO",
            Self::Socket => "a socket",
            Self::Device => "a device",
            Self::Unknown => "something else",
        })
    }
}

/// Why a file was not read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DurableError {
    /// The file does not exist.
    #[error("{} does not exist", .0.display())]
    Missing(PathBuf),
    /// The file exists already, and must not.
    #[error("{} already exists", .0.display())]
    Exists(PathBuf),
    /// The file is not of the expected kind.
    #[error("{} is {found}, expected {expected}", path.display())]
    Kind {
        /// The path of the file.
        path: PathBuf,
        /// The kind that was found.
        found: FileKind,
        /// The expected kind.
        expected: FileKind,
    },
    /// The path cannot be used for such a file, for example because it ends in no name.
    #[error("{} is {found}, expected {expected}", path.display())]
    Path {
        /// The path that was given.
        path: PathBuf,
        /// A description of the path.
        found: &'static str,
        /// A description of the expected path.
        expected: &'static str,
    },
    /// Other users may read or write the file.
    #[error("{} has mode {mode:04o}, expected {expected:04o}", path.display())]
    Mode {
        /// The path of the file.
        path: PathBuf,
        /// The permission bits that were found.
        mode: u32,
        /// The expected permission bits.
        expected: u32,
    },
    /// Other users may look into the directory, or write to it.
    #[error("directory {} has mode {mode:04o}, expected {expected:04o}", path.display())]
    DirectoryMode {
        /// The path of the directory.
        path: PathBuf,
        /// The permission bits that were found.
        mode: u32,
        /// The expected permission bits.
        expected: u32,
    },
    /// The directory belongs to another user than expected.
    #[error("directory {} is owned by uid {found}, expected uid {expected}", path.display())]
    DirectoryOwner {
        /// The path of the directory.
        path: PathBuf,
        /// The uid of the owner that was found.
        found: u32,
        /// The uid of the expected owner.
        expected: u32,
    },
    /// The file belongs to another user than expected.
    #[error("{} is owned by uid {found}, expected uid {expected}", path.display())]
    Owner {
        /// The path of the file.
        path: PathBuf,
        /// The uid of the owner that was found.
        found: u32,
        /// The uid of the expected owner.
        expected: u32,
    },
    /// Other users may write to a directory above the file, so they can replace everything below that directory.
    #[error("{} is writable by others (mode {mode:04o}), and is above {}", path.display(), below.display())]
    Ancestor {
        /// The directory that others may write to.
        path: PathBuf,
        /// The permission bits of that directory.
        mode: u32,
        /// The path that should have been opened.
        below: PathBuf,
    },
    /// A directory or link above the file belongs to somebody who is neither root nor the expected owner.
    #[error("{} is owned by uid {found}, and is above {}", path.display(), below.display())]
    AncestorOwner {
        /// The directory or the link above the file.
        path: PathBuf,
        /// The uid of the owner that was found.
        found: u32,
        /// The path that should have been opened.
        below: PathBuf,
    },
    /// The file is longer than any file of its kind.
    #[error("{} is longer than {limit} bytes", path.display())]
    TooLong {
        /// The path of the file.
        path: PathBuf,
        /// The greatest length in bytes.
        limit: usize,
    },
    /// Another command, or the daemon, is changing this directory.
    #[error("{} is locked by another claviger", .0.display())]
    Locked(PathBuf),
    /// The backup is on the disk of the state directory, or on no disk.
    #[error("{} is on {what}", path.display())]
    SharedDisk {
        /// The path of the backup.
        path: PathBuf,
        /// The kind of place that the backup is on.
        what: &'static str,
    },
    /// The bytes that were read back are not those that were written.
    #[error("{} did not read back as it was written", .0.display())]
    ReadBack(PathBuf),
    /// The system refused a step.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// The step, for example `writing`.
        action: &'static str,
        /// The path of the file.
        path: PathBuf,
        /// The reason that the system gives.
        source: io::Error,
    },
}

/// Makes the error for a system call that failed. `action` describes the step, for example `writing`.
pub(super) fn io_error(action: &'static str, path: &Path) -> impl FnOnce(Errno) -> DurableError {
    let path = path.to_owned();
    move |errno| DurableError::Io { action, path, source: errno.into() }
}
