//! A place where values are.

use std::{fmt, path::PathBuf};

use crate::etcd::Servers;

/// A place where values are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScanPlace {
    /// A file: a snapshot, or a copy of a member's database.
    Snapshot(PathBuf),
    /// A live etcd.
    Etcd(Servers),
}

impl fmt::Display for ScanPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Snapshot(file) => write!(f, "{}", file.display()),
            Self::Etcd(servers) => f.write_str(&servers.urls.join(",")),
        }
    }
}
