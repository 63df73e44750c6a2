//! The arguments of `claviger reencrypt`.

use std::{ffi::OsString, path::PathBuf};

use clap::{Args, ValueEnum};

use crate::apiclient::KubeAccess;

use super::super::{StateDir, etcd::EtcdArgs};

/// How many objects are rewritten in a second, unless --rate says otherwise.
pub(super) const DEFAULT_RATE: u32 = 200;

/// Re-encrypt every object that is not under the primary key, through the API server
///
/// The command scans etcd as `claviger scan` does, and sends an empty patch for each object that is in plaintext, under
/// an old key, or under another provider than the EncryptionConfiguration puts first. The API server answers with
/// metadata only. Afterwards the command scans again, until nothing is left that can be written. Run it again after an
/// interruption: the scan shows what is left.
///
/// Events are not patched, because that would renew their lifetime. Exits with 0 if the last scan found nothing that is
/// left over, and with 1 if it found anything.
#[derive(Args)]
#[command(after_help = "\
Examples:
  sudo claviger reencrypt --dry-run
  sudo claviger reencrypt    # on a control-plane node: reads the API server's manifest, the keyring and admin.conf
  claviger reencrypt --etcd-servers https://127.0.0.1:2379 --etcd-cafile ca.crt … --encryption-config encryption.yaml --primary KEY_ID
  sudo claviger reencrypt --rate unlimited --leave /registry/secrets/default/broken")]
pub(in crate::cli) struct ReencryptArgs {
    #[command(flatten)]
    pub(super) etcd: EtcdArgs,
    /// EncryptionConfiguration, which says what has to be encrypted [default: the one that the flags of kube-apiserver
    /// name]
    #[arg(long, value_name = "FILE")]
    pub(super) encryption_config: Option<PathBuf>,
    /// Feature gates of kube-apiserver, if its flags are not read: KMSv1=true lets the configuration name KMS v1
    #[arg(long, value_name = "GATES")]
    pub(super) feature_gates: Option<String>,
    /// Keyring file that names the primary key; only key_ids and states are read from it [default: the keyring in the
    /// state directory]
    #[arg(long, value_name = "FILE")]
    pub(super) keyring: Option<PathBuf>,
    #[command(flatten)]
    pub(super) state_dir: StateDir,
    /// Primary key by its full key_id, as `claviger key list` prints it, on a machine without the keyring
    #[arg(long, value_name = "KEY_ID", conflicts_with = "keyring")]
    pub(super) primary: Option<String>,
    /// KMS provider whose values must all be under the primary key [default: claviger]
    #[arg(long, value_name = "NAME")]
    pub(super) provider_name: Option<String>,
    #[command(flatten)]
    pub(super) access: KubeArgs,
    /// The most objects to rewrite in a second, or `unlimited` [default: 200]
    #[arg(long, value_name = "NUMBER", value_parser = rate)]
    pub(super) rate: Option<Rate>,
    /// Object to leave as it is, by its key in etcd as `claviger scan --list` prints it, or without the prefix, as in
    /// secrets/default/db; the exit code is 1 then. May be repeated
    #[arg(long, value_name = "ETCD_KEY")]
    pub(super) leave: Vec<OsString>,
    /// What writes the objects: the cluster's own migrator, in kube-controller-manager of Kubernetes 1.37 or newer. It
    /// writes every object of each resource that has stale objects, and stops at the first object that is refused.
    /// [default: the command itself patches the stale objects]
    #[arg(long, value_enum, value_name = "MIGRATOR", conflicts_with_all = ["rate", "leave"])]
    pub(super) via: Option<Via>,
    /// Have encrypted values written in plaintext if the EncryptionConfiguration puts `identity` first
    #[arg(long)]
    pub(super) risk_plaintext: bool,
    /// Show what would be rewritten, and write nothing; asks no API server
    #[arg(long)]
    pub(super) dry_run: bool,
}

/// How the API server is reached.
#[derive(Args, Default)]
pub(in crate::cli) struct KubeArgs {
    /// Kubeconfig with the address of the API server and credentials [default: as kubectl; on a control-plane node also
    /// /etc/kubernetes/admin.conf]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Context in the kubeconfig [default: its current context]
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
}

impl KubeArgs {
    pub(in crate::cli) fn access(&self) -> KubeAccess {
        KubeAccess { kubeconfig: self.kubeconfig.clone(), context: self.context.clone() }
    }
}

/// The means other than patches by which objects are rewritten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Via {
    /// Objects of the kind StorageVersionMigration
    StorageVersionMigration,
}

/// The most objects in a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) struct Rate(pub(in crate::cli) Option<u32>);

impl Default for Rate {
    fn default() -> Self {
        Self(Some(DEFAULT_RATE))
    }
}

/// The error for a text that is not a rate.
#[derive(Debug, thiserror::Error)]
#[error("expected a number of at least 1, or `unlimited`")]
pub(in crate::cli) struct NoRate;

pub(in crate::cli) fn rate(text: &str) -> Result<Rate, NoRate> {
    match text {
        "unlimited" => Ok(Rate(None)),
        number => number.parse().ok().filter(|rate| *rate > 0).map(|rate| Rate(Some(rate))).ok_or(NoRate),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_positive_number_or_unlimited() {
        assert_eq!(rate("50").unwrap(), Rate(Some(50)));
        assert_eq!(rate("unlimited").unwrap(), Rate(None));
        for wrong in ["0", "-1", "", "fast", "1.5"] {
            assert_eq!(rate(wrong).unwrap_err().to_string(), "expected a number of at least 1, or `unlimited`");
        }
    }
}
