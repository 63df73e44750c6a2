//! The address at which metrics and health are served.

use std::{fmt, net::SocketAddr, path::PathBuf};

/// The address of metrics and health. Only this machine can reach it, because nobody is authenticated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MetricsAddress {
    /// A port of the loopback interface.
    Loopback(SocketAddr),
    /// A Unix socket at this path.
    Socket(PathBuf),
}

impl fmt::Display for MetricsAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Loopback(address) => address.fmt(f),
            Self::Socket(path) => path.display().fmt(f),
        }
    }
}
