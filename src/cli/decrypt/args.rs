//! The arguments of `claviger decrypt`.

use std::path::PathBuf;

use clap::Args;

use super::{
    super::{
        arguments::named,
        at_hand::AtHandArgs,
        etcd::{EtcdArgs, LIVE},
    },
    chosen::ChosenArgs,
};

/// Decrypt objects from a snapshot or a live etcd, without an API server
///
/// The keys are those of the keyring in the state directory, or those of backups, on any machine. With
/// --encryption-config the command opens values of aescbc, aesgcm and secretbox, too. Secrets and ConfigMaps are
/// written as YAML that kubectl takes, without what belongs to the old object only: uid, owners, finalizers, times.
/// Custom resources are written as the JSON that is stored, other objects as they are stored. Each use is an audit
/// event before the first byte, in the state directory, or on standard error if there is none. Exits with 1 if an
/// object is not there, and with 7 if one cannot be opened or something may be missing; the others are written.
#[derive(Args)]
#[command(after_help = "\
Examples:
  sudo claviger decrypt secrets/default/user --show
  claviger decrypt --resource secrets --snapshot etcd.db --backup claviger.age --to secrets
  claviger decrypt --resource secrets --snapshot etcd.db --backup claviger.age | kubectl apply -f -
  claviger decrypt --all --raw --snapshot etcd.db --encryption-config enc.yaml --to everything")]
pub(in crate::cli) struct DecryptArgs {
    #[command(flatten)]
    pub(super) chosen: ChosenArgs,
    /// Read this file instead of a live etcd: a snapshot, or a copy of member/snap/db
    #[arg(long, value_name = "FILE", conflicts_with_all = LIVE)]
    pub(super) snapshot: Option<PathBuf>,
    #[command(flatten)]
    pub(super) etcd: EtcdArgs,
    #[command(flatten)]
    pub(super) at_hand: AtHandArgs,
    /// EncryptionConfiguration with keys of aescbc, aesgcm and secretbox [default: for a live etcd, the one that the
    /// flags of kube-apiserver name]
    #[arg(long, value_name = "FILE")]
    pub(super) encryption_config: Option<PathBuf>,
    /// Write one file for each object into this new directory [default: write all to standard output]
    #[arg(long, value_name = "DIR", value_parser = named())]
    pub(super) to: Option<PathBuf>,
    /// Write every object as kube-apiserver encrypted it. On standard output, a line with the length in bytes,
    /// revision, type and key comes before each object, except for a single named object
    #[arg(long)]
    pub(super) raw: bool,
    /// Show one object on the terminal
    #[arg(long, conflicts_with_all = ["to", "raw"])]
    pub(super) show: bool,
}
