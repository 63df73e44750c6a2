//! Why there is no socket to listen on, and what an operator can do about it.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::{
    address::{ADDRESS_LIMIT, Address},
    place::our_uid,
};
use crate::durable::DurableError;

/// Why there is no socket to listen on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SocketError {
    /// The address is none, or kube-apiserver would take it for another.
    #[error("socket address {address:?}: expected {expected}")]
    Address {
        /// As it was given.
        address: String,
        /// What it should be.
        expected: &'static str,
    },
    /// The address does not fit into the kernel's structure.
    #[error(
        "socket address {address:?}: {found} bytes, expected at most {ADDRESS_LIMIT}, the size of the kernel's sun_path"
    )]
    TooLong {
        /// As it was given.
        address: String,
        /// Its length in bytes.
        found: usize,
    },
    /// There is no directory for the socket.
    #[error("refusing to listen: directory {0} does not exist")]
    Missing(PathBuf),
    /// What should be the directory is something else.
    #[error("refusing to listen: {0} is not a directory")]
    NotADirectory(PathBuf),
    /// Other users could put a socket of theirs into the directory.
    #[error("refusing to listen: {path} is writable by {} (mode {mode:04o})", writers(*mode))]
    Writable {
        /// The socket's directory.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// Other users could put a directory of theirs in the place of the socket's.
    #[error("refusing to listen: {0}")]
    Ancestor(#[from] DurableError),
    /// A user who is neither root nor us owns the directory.
    #[error("refusing to listen: {path} is owned by uid {owner}, expected root or uid {ours}")]
    Owner {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Whom this process runs as.
        ours: u32,
    },
    /// This user may not create files in the directory.
    #[error("refusing to listen: directory {path} is not writable by uid {ours}")]
    Unwritable {
        /// The directory.
        path: PathBuf,
        /// Whom this process runs as.
        ours: u32,
    },
    /// Another process holds the socket.
    #[error("refusing to listen: {0} is held by a live plugin")]
    Held(Address),
    /// Another process is about to take the socket over.
    #[error("refusing to listen: another plugin is taking {0} over")]
    Followed(PathBuf),
    /// A name that is bound cannot be given to another socket.
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
        /// Whom this process runs as.
        ours: u32,
    },
    /// Something that nobody should replace is in the socket's place.
    #[error("refusing to listen: {0} is not a socket")]
    Occupied(PathBuf),
    /// The kernel refused a step.
    #[error("cannot {step} {path}: {error}")]
    Io {
        /// What was being done.
        step: &'static str,
        /// To what.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        error: io::Error,
    },
}

impl SocketError {
    /// Says what an operator can do about it, if that is known.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Address { .. } | Self::TooLong { .. } => {
                "--socket /run/claviger/kms.sock, or --socket @claviger".to_owned()
            }
            Self::NotADirectory(_) | Self::Occupied(_) => "move it away, or give another --socket".to_owned(),
            Self::Missing(path) => own_directory(path),
            // Never a command that changes a directory which is there: it may be anybody's.
            Self::Writable { .. } | Self::Ancestor(_) | Self::Owner { .. } | Self::Unwritable { .. } => {
                format!("give the socket a directory of its own: {}", own_directory(Path::new("/run/claviger")))
            }
            Self::Held(Address::Path(path)) => {
                format!("stop it first, or use --take-over; to find it: fuser {}.lock", path.display())
            }
            Self::Followed(path) => {
                format!("the plugin that it replaces has not ended yet; to find both: fuser {}.lock", path.display())
            }
            Self::AbstractTakeOver(_) => "stop the other plugin first, or serve on a path".to_owned(),
            Self::AbstractGroup(_) => "leave --socket-group out: --allow-uid alone says who may connect".to_owned(),
            Self::Group { group, .. } => format!("make the plugin's user a member of group {group}"),
            Self::Held(Address::Abstract(name)) => format!("stop it first; to find it: ss -xlp src @{name}"),
            Self::Io { .. } => return None,
        })
    }
}

fn own_directory(path: &Path) -> String {
    format!("install -d -m 0750 -o {} {}", our_uid(), path.display())
}

fn writers(mode: u32) -> &'static str {
    if mode & 0o002 == 0 { "its group" } else { "others" }
}
