//! The errors of a configuration: of its file, of a setting, and of settings that contradict each other.

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
        /// The path of the file.
        path: PathBuf,
        /// The reason that the system gives.
        source: io::Error,
    },
    /// The file is not TOML.
    #[error("configuration {}{}: {reason}", path.display(), line.map_or_else(String::new, |line| format!(", line {line}")))]
    Syntax {
        /// The path of the file.
        path: PathBuf,
        /// The number of the line, from one.
        line: Option<usize>,
        /// The message of the TOML parser.
        reason: String,
    },
    /// The file has a key that is not the name of a setting.
    #[error("configuration {}, line {line}: {key:?} is no setting", path.display())]
    UnknownKey {
        /// The path of the file.
        path: PathBuf,
        /// The number of the line, from one.
        line: usize,
        /// The unknown key.
        key: String,
    },
    /// A setting has a value of another kind.
    #[error("configuration {}, line {line}: {key} = {value}: expected {}", path.display(), kind.expected())]
    Value {
        /// The path of the file.
        path: PathBuf,
        /// The number of the line, from one.
        line: usize,
        /// The name of the setting.
        key: &'static str,
        /// The value, as the file has it.
        value: String,
        /// The kind of value that was expected.
        kind: ValueKind,
    },
    /// A setting has one value where a list is expected.
    #[error("configuration {}, line {line}: {key} = {value}: expected a list", path.display())]
    NoList {
        /// The path of the file.
        path: PathBuf,
        /// The number of the line, from one.
        line: usize,
        /// The name of the setting.
        key: String,
        /// The value, as the file has it.
        value: String,
    },
    /// A flag names a file for TLS, and nothing says where etcd is.
    #[error("--{flag} {}: nothing uses this file, because no address of etcd is given", path.display())]
    UnusedFile {
        /// The flag, without the dashes.
        flag: &'static str,
        /// The path that the flag names.
        path: PathBuf,
    },
    /// A flag names a file for TLS, and no connection uses TLS.
    #[error("--{flag} {}: nothing uses this file, because no address of etcd begins with https://", path.display())]
    NoTls {
        /// The flag, without the dashes.
        flag: &'static str,
        /// The path that the flag names.
        path: PathBuf,
    },
    /// Other users could change the file, and so decide which keys are used.
    #[error("configuration {}: {reason}", path.display())]
    Untrusted {
        /// The path of the file.
        path: PathBuf,
        /// The user or group that may write the file.
        reason: Untrusted,
    },
    /// The file contains a relative path.
    #[error("configuration {}: {key} = {value:?}: expected an absolute path", path.display())]
    Relative {
        /// The path of the file.
        path: PathBuf,
        /// The name of the setting.
        key: &'static str,
        /// The relative path.
        value: PathBuf,
    },
    /// The path of the state directory is empty.
    #[error("the state directory has an empty name")]
    StateDir,
    /// The address of the plugin's socket is malformed.
    #[error(transparent)]
    Socket(#[from] AddressError),
    /// The address of the metrics is malformed.
    #[error("metrics address {address:?}: expected {expected}")]
    MetricsAddress {
        /// The address, as it was given.
        address: String,
        /// The form that was expected.
        expected: &'static str,
    },
    /// The path of the metrics' socket is malformed.
    #[error("metrics: {0}")]
    MetricsSocket(#[source] AddressError),
    /// The address can be reached from other machines, which could read the metrics.
    #[error("refusing to serve metrics on {0}: not a loopback address")]
    NotLoopback(SocketAddr),
    /// This build cannot serve metrics, so the address would not be served.
    #[cfg(not(feature = "metrics"))]
    #[error("cannot serve metrics on {0}: this claviger was built without them")]
    NoMetrics(MetricsAddress),
    /// The same socket cannot serve calls and metrics.
    #[error("refusing to serve metrics on {}: it is the plugin's own socket", .0.display())]
    MetricsOnSocket(PathBuf),
    /// kube-apiserver would refuse the name of the provider, or people could not read it.
    #[error("provider name {0:?} is not 1 to 63 of a-z, A-Z, 0-9, '.', '_' and '-'")]
    ProviderName(String),
}
