//! The arguments of `claviger rotate`.

use std::{ffi::OsString, path::PathBuf};

use clap::Args;

use super::super::{
    KeyringArgs, Socket,
    etcd::EtcdArgs,
    reencrypt::{KubeArgs, Rate, rate},
    verify::KeptArgs,
};

/// Rotate the key: make a new one, promote it, re-encrypt everything under it, and prove that nothing is left
///
/// The command can be interrupted at any line. Called again, it goes on where it stopped. First it scans etcd and
/// counts the API servers. If it sees a reason why the rotation could not end, it refuses. It makes a key, has the
/// plugin prove that it can read with the key, and sees that a backup holds it. Then it promotes the key, and has the
/// API server write every object again, as `claviger reencrypt` does. An API server may write under the old key for
/// minutes after a promotion. So the command waits until no API server can any more, scans again, and ends with the
/// report of `claviger verify`.
///
/// If values are under other keys, an earlier rotation is unfinished. The command then finishes that rotation instead
/// of making a key. Values that `--leave` named do not count.
///
/// Exits with 0 if everything is under the primary key, and with 1 if something is left over.
#[derive(Args)]
#[command(after_help = "\
Examples:
  sudo claviger rotate --dry-run
  sudo claviger rotate --backup-dir /mnt/usb    # on a control-plane node: reads the API server's manifest and admin.conf
  sudo claviger rotate --to after-rotation.report --leave /registry/secrets/default/broken
  claviger rotate --without-backup --output json")]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag")]
pub(in crate::cli) struct RotateArgs {
    #[command(flatten)]
    pub(super) keyring: KeyringArgs,
    #[command(flatten)]
    pub(super) socket: Socket,
    #[command(flatten)]
    pub(super) etcd: EtcdArgs,
    /// EncryptionConfiguration, which says what has to be encrypted [default: the one that the flags of kube-apiserver
    /// name]
    #[arg(long, value_name = "FILE")]
    pub(super) encryption_config: Option<PathBuf>,
    /// Feature gates of kube-apiserver, if its flags are not read: KMSv1=true lets the configuration name KMS v1
    #[arg(long, value_name = "GATES")]
    pub(super) feature_gates: Option<String>,
    /// KMS provider of claviger's in the EncryptionConfiguration [default: claviger]
    #[arg(long, value_name = "NAME")]
    pub(super) provider_name: Option<String>,
    #[command(flatten)]
    pub(super) access: KubeArgs,
    /// The most objects to rewrite in a second, or `unlimited` [default: 200]
    #[arg(long, value_name = "NUMBER", value_parser = rate)]
    pub(super) rate: Option<Rate>,
    /// Directory on another disk for a backup that holds the new key [default: stop unless a listed backup holds it,
    /// and go on when called again]
    #[arg(long, value_name = "DIR")]
    pub(super) backup_dir: Option<PathBuf>,
    /// Promote the key even if no listed backup contains it. If this disk is lost, every Secret under the key is lost
    #[arg(long, conflicts_with = "backup_dir")]
    pub(super) without_backup: bool,
    /// How many API servers use this etcd, at least 1; they are not counted then [default: as many as etcd shows]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) api_servers: Option<u64>,
    /// Object to leave as it is, by its key in etcd as `claviger scan --list` prints it, or without the prefix; the
    /// exit code is 1 then. May be repeated
    #[arg(long, value_name = "ETCD_KEY")]
    pub(super) leave: Vec<OsString>,
    /// Replace keys that others may know: make a new key even if a rotation is unfinished, mark the earlier keys as
    /// compromised, and disable them at the end
    #[arg(long)]
    pub(super) compromise: bool,
    /// End an unfinished rotation whose key is not primary yet. Its key stays pending, and `claviger key promote`
    /// accepts any key again
    #[arg(long, conflicts_with_all = ["dry_run", "compromise", "leave", "backup_dir", "without_backup", "api_servers", "rate", "to"])]
    pub(super) give_up: bool,
    /// Show what a rotation would do and what would stop it, and change nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    #[command(flatten)]
    pub(super) files: KeptArgs,
}
