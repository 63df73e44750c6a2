//! Why a configuration is refused.

use std::{io, net::SocketAddr, path::PathBuf};

use crate::{durable::Untrusted, listen::AddressError};

use super::kinds::ValueKind;
#[cfg(not(feature = "metrics"))]
use super::metrics::MetricsAddress;

/// Why a configuration was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file could not be read.
    #[error("configuration {}: {source}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The file is not TOML, or has an unknown key.
    #[error("configuration {}{}: {reason}", path.display(), line.map_or_else(String::new, |line| format!(", line {line}")))]
    Syntax {
        /// Which file.
        path: PathBuf,
        /// Where, counted from one.
        line: Option<usize>,
        /// What is wrong.
        reason: String,
    },
    /// A setting has a value of another kind.
    #[error("configuration {}, line {line}: {key} = {value}: expected {}", path.display(), kind.expected())]
    Value {
        /// Which file.
        path: PathBuf,
        /// Where, counted from one.
        line: usize,
        /// Which setting.
        key: &'static str,
        /// Its value, as the file has it.
        value: String,
        /// What the value should be.
        kind: ValueKind,
    },
    /// A setting has one value where a list is expected.
    #[error("configuration {}, line {line}: {key} = {value}: expected a list", path.display())]
    NoList {
        /// Which file.
        path: PathBuf,
        /// Where, counted from one.
        line: usize,
        /// Which setting.
        key: String,
        /// Its value, as the file has it.
        value: String,
    },
    /// A flag names a file for TLS, and nothing says where etcd is.
    #[error("--{flag} {}: nothing uses this file, because no address of etcd is given", path.display())]
    UnusedFile {
        /// The flag, without the dashes.
        flag: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// A flag names a file for TLS, and no connection uses TLS.
    #[error("--{flag} {}: nothing uses this file, because no address of etcd begins with https://", path.display())]
    NoTls {
        /// The flag, without the dashes.
        flag: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// The file could be changed by others, who would decide then which keys are used.
    #[error("configuration {}: {reason}", path.display())]
    Untrusted {
        /// Which file.
        path: PathBuf,
        /// Who may write it.
        reason: Untrusted,
    },
    /// The file has a relative path.
    #[error("configuration {}: {key} = {value:?}: expected an absolute path", path.display())]
    Relative {
        /// Which file.
        path: PathBuf,
        /// Which setting.
        key: &'static str,
        /// Its value.
        value: PathBuf,
    },
    /// The state directory has no name.
    #[error("the state directory has an empty name")]
    StateDir,
    /// The socket's address is malformed.
    #[error(transparent)]
    Socket(#[from] AddressError),
    /// The address of the metrics is malformed.
    #[error("metrics address {address:?}: expected {expected}")]
    MetricsAddress {
        /// As it was given.
        address: String,
        /// What it should be.
        expected: &'static str,
    },
    /// The path of the metrics' socket is malformed.
    #[error("metrics: {0}")]
    MetricsSocket(#[source] AddressError),
    /// Other machines could read the metrics.
    #[error("refusing to serve metrics on {0}: not a loopback address")]
    NotLoopback(SocketAddr),
    /// The address would not be served.
    #[cfg(not(feature = "metrics"))]
    #[error("cannot serve metrics on {0}: this claviger was built without them")]
    NoMetrics(MetricsAddress),
    /// The same socket cannot serve calls and metrics.
    #[error("refusing to serve metrics on {}: it is the plugin's own socket", .0.display())]
    MetricsOnSocket(PathBuf),
    /// Kubernetes would refuse the provider's name, or it would be hard to read.
    #[error("provider name {0:?} is not 1 to 63 of a-z, A-Z, 0-9, '.', '_' and '-'")]
    ProviderName(String),
}
