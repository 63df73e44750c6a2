//! The arguments of `claviger backup check`.

use std::path::PathBuf;

use clap::Args;

use super::super::{KeyringArgs, Socket, identities::IdentityArgs};

/// Open a backup, and check whether it has every key of the keyring here
///
/// A backup that opens counts from then on, so its keys can be promoted. Without a keyring here, the command shows what
/// the backup contains. If the keyring here is another one, the command asks the plugin at --socket whether it serves
/// the keyring of the backup. Exits with 1 if a key is missing in the backup, or if
/// the keyring here does not follow from it.
#[cfg_attr(
    feature = "scan",
    doc = "",
    doc = "With --snapshot: can this snapshot of etcd be restored with these keys? The keys are those of any number of \
           backups, and of the keyring in the state directory if there is one. The command shows which keys the snapshot \
           needs, which file has each of them, and which objects would be lost. It needs neither a node nor an API \
           server, and it does not list the backups. If the snapshot needs a key of the keyring in the state directory, the \
           ledger lists the snapshot: `key destroy` keeps its keys until `backup forget` removes it.",
    doc = "",
    doc = "Exits with 1 if an object would be lost: no given file has its key, or its key is another plugin's or the API \
           server's own, as that of aescbc is. Such an object counts as lost, because these keys do not open it. \
           Exits with 7 if the snapshot cannot be read whole. Then the answer is only about what was read."
)]
#[derive(Args)]
#[cfg_attr(
    feature = "scan",
    command(after_help = "\
Examples:
  claviger backup check /media/usb/claviger.age --recovery-identity /media/usb2/identity.txt
  claviger backup check --snapshot etcd.db /media/usb/claviger.age --recovery-identity /media/usb2/identity.txt
  claviger backup check --snapshot etcd.db --state-dir /var/lib/claviger")
)]
#[cfg_attr(
    not(feature = "scan"),
    command(after_help = "\
Example:
  claviger backup check /media/usb/claviger.age --recovery-identity /media/usb2/identity.txt")
)]
pub(super) struct CheckArgs {
    #[cfg_attr(feature = "scan", doc = "Backup to open; with --snapshot there may be several, or none")]
    #[cfg_attr(not(feature = "scan"), doc = "Backup to open")]
    #[arg(value_name = "BACKUP")]
    #[cfg_attr(feature = "scan", arg(required_unless_present = "snapshot"))]
    #[cfg_attr(not(feature = "scan"), arg(required = true))]
    pub(super) backups: Vec<PathBuf>,
    #[cfg(feature = "scan")]
    #[command(flatten)]
    pub(super) snapshot: SnapshotArgs,
    #[command(flatten)]
    pub(super) identity: IdentityArgs,
    #[command(flatten)]
    pub(super) socket: Socket,
    #[command(flatten)]
    pub(super) keyring: KeyringArgs,
}

/// The snapshot that the keys are compared with.
#[cfg(feature = "scan")]
#[derive(Args)]
pub(super) struct SnapshotArgs {
    /// Snapshot of etcd: check whether it can be restored with these keys
    #[arg(long, value_name = "FILE")]
    pub(super) snapshot: Option<PathBuf>,
    /// Prefix of the API server's keys in the snapshot [default: /registry]
    #[arg(long, value_name = "PREFIX", requires = "snapshot")]
    pub(super) etcd_prefix: Option<String>,
}
