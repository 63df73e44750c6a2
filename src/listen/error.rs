//! The errors of getting a socket that listens.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::address::Address;
use crate::durable::DurableError;

/// Why the plugin has no socket to listen on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SocketError {
    /// The directory of the socket does not exist.
    #[error("refusing to listen: directory {0} does not exist")]
    Missing(PathBuf),
    /// The path of the directory leads to something else.
    #[error("refusing to listen: {0} is not a directory")]
    NotADirectory(PathBuf),
    /// The directory belongs to the system. The plugin could change everything in it, because it needs the directory of
    /// its socket.
    #[error("refusing to listen: {0} is a system directory, and the socket needs a directory of its own")]
    System(PathBuf),
    /// Other users could put their own socket into the directory.
    #[error("refusing to listen: {path} is writable by {} (mode {mode:04o})", writers(*mode))]
    Writable {
        /// The directory of the socket.
        path: PathBuf,
        /// The permission bits of the directory.
        mode: u32,
    },
    /// Other users could put their own directory in the place of the socket's directory.
    #[error("refusing to listen: {0}")]
    Ancestor(#[from] DurableError),
    /// A user who is neither root nor us owns the directory.
    #[error("refusing to listen: {path} is owned by uid {owner}, expected {}", owners(*ours))]
    Owner {
        /// The directory of the socket.
        path: PathBuf,
        /// The uid of the owner that was found.
        owner: u32,
        /// The user that this process runs as.
        ours: u32,
    },
    /// This user may not create files in the directory.
    #[error("refusing to listen: directory {path} is not writable by uid {ours}")]
    Unwritable {
        /// The directory of the socket.
        path: PathBuf,
        /// The user that this process runs as.
        ours: u32,
    },
    /// Another process holds the socket.
    #[error("refusing to listen: {0} is held by a live plugin")]
    Held(Address),
    /// A program listens at the path and does not hold the lock that every plugin holds.
    #[error("refusing to listen: another program listens at {0}, and it does not hold the lock of a plugin")]
    Stranger(PathBuf),
    /// Another process is already taking the socket over.
    #[error("refusing to listen: another plugin is taking {0} over")]
    Followed(PathBuf),
    /// The address is abstract. Its name belongs to its socket until that is closed.
    #[error("refusing to listen: {0} is an abstract socket, which cannot be taken over")]
    AbstractTakeOver(Address),
    /// The address is abstract, and has no group.
    #[error("refusing to listen: @{0} is an abstract socket, which has no group")]
    AbstractGroup(String),
    /// This user may not give the socket to the group.
    #[error("refusing to listen: uid {ours} may not give the socket to group {group}")]
    Group {
        /// The number of the group.
        group: u32,
        /// The user that this process runs as.
        ours: u32,
    },
    /// The file at the path is no socket, so it is not replaced.
    #[error("refusing to listen: {0} is not a socket")]
    Occupied(PathBuf),
    /// The kernel refused a step.
    #[error("cannot {step} {path}: {error}")]
    Io {
        /// The step, as a verb, for example `bind`.
        step: &'static str,
        /// The path to which the step was applied.
        path: PathBuf,
        /// The reason that the kernel gives.
        #[source]
        error: io::Error,
    },
}

fn owners(ours: u32) -> String {
    if ours == 0 { "root".to_owned() } else { format!("root or uid {ours}") }
}

fn writers(mode: u32) -> &'static str {
    if mode & 0o002 == 0 { "its group" } else { "others" }
}

/// Returns the error of a step that the kernel refused.
pub(super) fn failed(step: &'static str, path: &Path, error: impl Into<io::Error>) -> SocketError {
    SocketError::Io { step, path: path.to_owned(), error: error.into() }
}
