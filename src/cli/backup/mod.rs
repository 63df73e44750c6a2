//! `claviger backup`, with the verbs `create`, `check`, `list`, `forget` and `restore`.

mod check;
mod check_args;
mod create;
mod file;
mod list;
mod listing;
mod restore;
#[cfg(feature = "scan")]
mod snapshot;

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{
    Global, KeyringArgs,
    arguments::Expected,
    failure::{Exit, Failure},
};
use crate::{config::Settings, crypto::Uuid, text::hex_array};

use self::{check_args::CheckArgs, restore::RestoreArgs};

/// Manage backups: encrypted files that bring the keys back after this machine is lost
///
/// A backup is a tar file encrypted with age, so the usual `age` and `tar` open it, too. Keep it apart from this
/// machine and from etcd's snapshots, and keep its identity in a third place. Make a new backup after each `key add`,
/// `key promote` and `rekey`.
#[derive(Args)]
pub(super) struct BackupArgs {
    #[command(subcommand)]
    verb: BackupVerb,
}

#[derive(Subcommand)]
enum BackupVerb {
    /// Write a backup, encrypted to the keyring's recovery recipients or to others
    ///
    /// The command prints a line `expect`, which `backup restore` asks for. It is no secret; keep it apart from the
    /// backup. A key can be promoted only if a backup that counts contains it. A backup counts at once if it is on
    /// another disk than the state directory, and if `init` or `recovery add` tried the identity of its recipient. Any
    /// other backup counts after `backup check`.
    #[command(after_help = "\
Examples:
  claviger backup create /media/usb/claviger-2026-11-24.age
  claviger backup create - --recipient age1… | ssh vault 'cat > claviger.age'")]
    Create {
        /// File to write, which must not exist, or - for standard output
        file: PathBuf,
        /// age recipient (age1…) who can open it, instead of the keyring's recovery recipients; may be given several
        /// times
        #[arg(long, value_name = "RECIPIENT")]
        recipient: Vec<String>,
        #[command(flatten)]
        keyring: KeyringArgs,
    },
    Check(Box<CheckArgs>),
    /// List the backups that count, so that the keys in them can be promoted, and the snapshots that need keys
    ///
    /// The ledger lists them; it is the file `ledger` of the state directory. It does not say whether they still exist.
    /// Exits with 1 if the ledger is missing or damaged.
    #[command(after_help = "\
Example:
  claviger backup list --output json")]
    List(KeyringArgs),
    /// Remove a lost or discarded backup or snapshot from the ledger
    ///
    /// The file itself is not deleted. From then on, a key that is in no other listed backup counts as not backed up,
    /// and a key that no other listed snapshot needs can be destroyed.
    #[command(after_help = "\
Examples:
  claviger backup forget 3f2a9c51e07b
  claviger backup forget --all 9013569b706b2f07af22dfd169b48818    when the ledger itself is lost or damaged")]
    Forget {
        /// Backup or snapshot, by the ID that `backup list` shows
        #[arg(value_name = "ID", required_unless_present = "all", conflicts_with = "all")]
        backup: Option<String>,
        /// Begin an empty ledger, even if the present one is intact; give the keyring's uuid. `key destroy` then needs
        /// --risk-losing-secrets for every key that exists now, because a snapshot that is no longer listed may need it
        #[arg(long, value_name = "UUID", value_parser = uuid)]
        all: Option<Uuid>,
        #[command(flatten)]
        keyring: KeyringArgs,
    },
    Restore(Box<RestoreArgs>),
}

fn uuid(text: &str) -> Result<Uuid, Expected> {
    hex_array(text).map(Uuid).ok_or(Expected("32 hexadecimal digits, as `claviger status` shows them"))
}

/// Runs `claviger backup …`.
///
/// # Errors
/// When a keyring or a backup does not open, or a file cannot be written.
pub(super) fn run(args: BackupArgs, global: &Global) -> Result<Exit, Failure> {
    match args.verb {
        BackupVerb::Create { file, recipient, keyring } => create::run(&file, &recipient, keyring, global),
        BackupVerb::Check(args) => check(*args, global),
        BackupVerb::List(keyring) => list::run(keyring, global),
        BackupVerb::Forget { backup, all, keyring } => list::forget(backup, all, keyring, global),
        BackupVerb::Restore(args) => restore::run(*args, global),
    }
}

fn check(args: CheckArgs, global: &Global) -> Result<Exit, Failure> {
    #[cfg(feature = "scan")]
    if args.snapshot.snapshot.is_some() {
        return snapshot::run(args, global);
    }
    let settings = Settings { socket: args.socket.socket, ..args.keyring.settings() };
    let [file] = args.backups.as_slice() else {
        let message = "several backups are checked only against a snapshot of etcd";
        let hint = "check each one by itself: claviger backup check FILE";
        return Err(Failure::new(Exit::Usage, &message, hint.to_owned()));
    };
    check::run(file, &args.identity, settings, global)
}
