//! The settings of a file or of flags ([`Settings`]), and the valid configuration that they make ([`Config`]).

use std::{path::PathBuf, str::FromStr};

use serde::Deserialize;

use crate::{
    etcd::Servers,
    hardening::Layer,
    listen::{Access, Address},
    telemetry::LogLevel,
};

use super::metrics::MetricsAddress;

/// The settings that a file or flags contain, before they are checked.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Settings {
    pub state_dir: Option<PathBuf>,
    pub passphrase_file: Option<PathBuf>,
    pub socket: Option<String>,
    pub socket_group: Option<u32>,
    pub allow_uid: Option<Vec<u32>>,
    pub metrics_listen: Option<String>,
    pub provider_name: Option<String>,
    pub without: Option<Vec<Layer>>,
    pub log_level: Option<LogLevel>,
    pub etcd_servers: Option<Vec<String>>,
    pub etcd_cafile: Option<PathBuf>,
    pub etcd_certfile: Option<PathBuf>,
    pub etcd_keyfile: Option<PathBuf>,
    pub etcd_prefix: Option<String>,
    pub apiserver_manifest: Option<PathBuf>,
    /// The running kube-apiserver. Only a flag sets it, because a process has another number after each start.
    #[serde(skip)]
    pub apiserver_process: Option<ApiServerProcess>,
    pub encryption_config: Option<PathBuf>,
    /// The feature gates. Only a flag sets them, because they are those of one kube-apiserver that is not running here.
    #[serde(skip)]
    pub feature_gates: Option<String>,
    pub backups: Option<Backups>,
}

/// A valid configuration, after all checks.
#[derive(Debug)]
pub struct Config {
    /// The state directory, which contains keyring, root file and mark.
    pub state_dir: PathBuf,
    /// The file with the passphrase of a slot.
    pub passphrase_file: Option<PathBuf>,
    /// The address at which the API server connects to the plugin.
    pub socket: Address,
    /// The group that may open that socket.
    pub socket_access: Access,
    /// The users who may connect, besides root and the plugin's own user.
    pub allow_uid: Vec<u32>,
    /// The address of metrics and health. `None` by default: then they are not served.
    pub metrics_listen: Option<MetricsAddress>,
    /// The name of the provider in the EncryptionConfiguration, which is part of every stored value.
    pub provider_name: String,
    /// The layers of protection that the operator switched off.
    pub without: Vec<Layer>,
    /// The least important level that is logged.
    pub log_level: LogLevel,
    /// Whether the operator keeps backups.
    pub backups: Backups,
    /// The settings about the cluster's etcd and encryption.
    pub cluster: Cluster,
}

/// Whether the operator keeps backups of the keyring.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Backups {
    /// A listed backup has to hold every key that values may be under.
    #[default]
    Listed,
    /// The operator keeps no backups. A lost disk loses every Secret.
    None,
}

/// The settings about the cluster's etcd and encryption. The API server's flags may contain the rest.
#[derive(Debug, Default)]
pub struct Cluster {
    /// The endpoints of etcd, and the files that secure the connection. Without endpoints, etcd is not configured.
    pub etcd: Servers,
    /// The prefix of all keys of the API server, `--etcd-prefix`.
    pub prefix: Option<String>,
    /// The file with the flags of kube-apiserver.
    pub manifest: Option<PathBuf>,
    /// The running kube-apiserver whose flags count.
    pub process: Option<ApiServerProcess>,
    /// The path of the EncryptionConfiguration.
    pub encryption_config: Option<PathBuf>,
    /// The feature gates of kube-apiserver, if a flag gives them.
    pub feature_gates: Option<String>,
}

/// The running kube-apiserver whose flags are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApiServerProcess {
    /// The only kube-apiserver on this machine.
    Only,
    /// The process with this PID.
    Pid(u32),
}

impl FromStr for ApiServerProcess {
    type Err = std::num::ParseIntError;

    /// Parses `only`, or a PID.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "only" { Ok(Self::Only) } else { text.parse().map(Self::Pid) }
    }
}
