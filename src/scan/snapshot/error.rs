//! Why a file is not scanned.

use std::io;

use super::super::bolt::BoltError;

/// Why a file is not scanned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// The system cannot open it.
    #[error("opening failed: {0}")]
    Open(#[source] io::Error),
    /// It is a directory, a pipe or a device.
    #[error("not a regular file")]
    Kind,
    /// It is the database of a running etcd.
    #[error("a running etcd holds this file")]
    Running,
    /// It is no database that can be read.
    #[error(transparent)]
    Bolt(#[from] BoltError),
}
