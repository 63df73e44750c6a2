//! Why there is no socket to listen on.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::address::Address;
use crate::durable::DurableError;

/// Why there is no socket to listen on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SocketError {
    /// There is no directory for the socket.
    #[error("refusing to listen: directory {0} does not exist")]
    Missing(PathBuf),
    /// There is something else in the place of the directory.
    #[error("refusing to listen: {0} is not a directory")]
    NotADirectory(PathBuf),
    /// A plugin may change everything in the directory of its socket, and below it.
    #[error("refusing to listen: {0} is a system directory, and the socket needs a directory of its own")]
    System(PathBuf),
    /// Other users could put their own socket into the directory.
    #[error("refusing to listen: {path} is writable by {} (mode {mode:04o})", writers(*mode))]
    Writable {
        /// The socket's directory.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// Other users could put their own directory in the place of the socket's.
    #[error("refusing to listen: {0}")]
    Ancestor(#[from] DurableError),
    /// A user who is neither root nor us owns the directory.
    #[error("refusing to listen: {path} is owned by uid {owner}, expected {}", owners(*ours))]
    Owner {
        /// The directory.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// The user whom this process runs as.
        ours: u32,
    },
    /// This user may not create files in the directory.
    #[error("refusing to listen: directory {path} is not writable by uid {ours}")]
    Unwritable {
        /// The directory.
        path: PathBuf,
        /// The user whom this process runs as.
        ours: u32,
    },
    /// Another process holds the socket.
    #[error("refusing to listen: {0} is held by a live plugin")]
    Held(Address),
    /// Another process is already taking the socket over.
    #[error("refusing to listen: another plugin is taking {0} over")]
    Followed(PathBuf),
    /// A name in the abstract namespace belongs to its socket until that is closed.
    #[error("refusing to listen: {0} is an abstract socket, which cannot be taken over")]
    AbstractTakeOver(Address),
    /// A name in the abstract namespace has no group.
    #[error("refusing to listen: @{0} is an abstract socket, which has no group")]
    AbstractGroup(String),
    /// This user may not give the socket to the group.
    #[error("refusing to listen: uid {ours} may not give the socket to group {group}")]
    Group {
        /// The group's number.
        group: u32,
        /// The user whom this process runs as.
        ours: u32,
    },
    /// What is in the socket's place is no socket, and is not replaced.
    #[error("refusing to listen: {0} is not a socket")]
    Occupied(PathBuf),
    /// The kernel refused a step.
    #[error("cannot {step} {path}: {error}")]
    Io {
        /// The step, as a verb.
        step: &'static str,
        /// What it was done to.
        path: PathBuf,
        /// The kernel's reason.
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
