//! Why a file was not read or written.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use rustix::io::Errno;

/// The result of most functions of this module.
pub(super) type Result<T> = std::result::Result<T, DurableError>;

/// What a path leads to.
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
    /// The system does not say what it is.
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
        /// Its path.
        path: PathBuf,
        /// What it is.
        found: FileKind,
        /// The expected kind.
        expected: FileKind,
    },
    /// The path cannot lead to such a file.
    #[error("{} is {found}, expected {expected}", path.display())]
    Path {
        /// The path.
        path: PathBuf,
        /// What is wrong with it.
        found: &'static str,
        /// What it should be.
        expected: &'static str,
    },
    /// Others may read or write the file.
    #[error("{} has mode {mode:04o}, expected {expected:04o}", path.display())]
    Mode {
        /// Its path.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// The expected permission bits.
        expected: u32,
    },
    /// Others may look into a directory, or write to it.
    #[error("directory {} has mode {mode:04o}, expected {expected:04o}", path.display())]
    DirectoryMode {
        /// Its path.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// The expected permission bits.
        expected: u32,
    },
    /// A directory belongs to somebody else.
    #[error("directory {} is owned by uid {found}, expected uid {expected}", path.display())]
    DirectoryOwner {
        /// Its path.
        path: PathBuf,
        /// The uid of its owner.
        found: u32,
        /// The uid of the expected owner.
        expected: u32,
    },
    /// A file belongs to somebody else.
    #[error("{} is owned by uid {found}, expected uid {expected}", path.display())]
    Owner {
        /// Its path.
        path: PathBuf,
        /// The uid of its owner.
        found: u32,
        /// The uid of the expected owner.
        expected: u32,
    },
    /// Others may write to a directory above, so they can replace what is below it.
    #[error("{} is writable by others (mode {mode:04o}), and is above {}", path.display(), below.display())]
    Ancestor {
        /// The directory above.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// The path that should have been opened.
        below: PathBuf,
    },
    /// A directory or link above belongs to somebody who is neither root nor the expected owner.
    #[error("{} is owned by uid {found}, and is above {}", path.display(), below.display())]
    AncestorOwner {
        /// The directory or the link above.
        path: PathBuf,
        /// The uid of its owner.
        found: u32,
        /// The path that should have been opened.
        below: PathBuf,
    },
    /// The file is longer than any file of its kind.
    #[error("{} is longer than {limit} bytes", path.display())]
    TooLong {
        /// Its path.
        path: PathBuf,
        /// The greatest length in bytes.
        limit: usize,
    },
    /// Another command, or the daemon, is changing this directory.
    #[error("{} is locked by another claviger", .0.display())]
    Locked(PathBuf),
    /// A backup is on the disk of the state directory, or not on a disk.
    #[error("{} is on {what}", path.display())]
    SharedDisk {
        /// Its path.
        path: PathBuf,
        /// Where it is.
        what: &'static str,
    },
    /// The bytes that were read back are not those that were written.
    #[error("{} did not read back as it was written", .0.display())]
    ReadBack(PathBuf),
    /// A system call failed.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// What was tried, for example `writing`.
        action: &'static str,
        /// The path.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

/// Makes the error for a system call that failed. `action` is what was tried, for example `writing`.
pub(super) fn io_error(action: &'static str, path: &Path) -> impl FnOnce(Errno) -> DurableError {
    let path = path.to_owned();
    move |errno| DurableError::Io { action, path, source: errno.into() }
}
