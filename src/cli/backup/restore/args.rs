//! The arguments of `claviger backup restore`.

use std::path::PathBuf;

use clap::Args;

use super::super::super::{
    KeyringArgs, Socket,
    arguments::{full_key_id, named},
    identities::IdentityArgs,
    needed::ProofArgs,
};
use crate::{keeper::Expect, keyring::key_id::KeyId};

/// Restore a backup to an empty state directory, or merge its keys into an existing keyring
///
/// FILE is a backup. It may also be a copy of the file `keyring`, if the identity is one of its recovery recipients',
/// or if it is under a root key that the keyring here has or had.
///
/// If the plugin still runs, let it run: it serves from memory. The command asks the plugin at --socket and compares
/// the backup with what that plugin serves. It does not find a plugin at another socket: it says where it looked.
///
/// To restore to an empty directory, you must show that this is the right backup, because anyone who knows a recipient
/// can make one.
#[cfg_attr(
    feature = "scan",
    doc = "Either give --expect, which names exactly one record. Or let the backup be compared with etcd (--etcd-servers, \
           --apiserver-manifest) or with a snapshot of etcd (--snapshot): it must contain every key that the values there \
           need, and at least one value must need one of its keys."
)]
#[cfg_attr(
    not(feature = "scan"),
    doc = "Give --expect, which names exactly one record. A claviger with the feature `scan` can also compare the backup \
           with etcd."
)]
/// Afterwards no key is pending, and `status` asks for a rotation, because a backup does not show what happened after
/// it was made. Never run two machines on copies of one keyring file, because each misses the other's changes.
///
/// To merge, the directory has a keyring, which may be older, newer, damaged or a fork. No key of either is lost. The
/// newest key that is in a backup becomes primary, and all others only unwrap. Without --accept, the command shows what
/// would happen to each key, and exits with 1.
#[derive(Args)]
#[cfg_attr(
    feature = "scan",
    command(after_help = "\
Examples:
  claviger backup restore /media/usb/claviger.age --recovery-identity /media/usb2/identity.txt --expect UUID:7:SHA256
  claviger backup restore /media/usb/claviger.age --recovery-identity /media/usb2/identity.txt --snapshot etcd.db
  claviger backup restore /media/usb/claviger.age --recovery-identity /media/usb2/identity.txt --accept")
)]
#[cfg_attr(
    not(feature = "scan"),
    command(after_help = "\
Examples:
  claviger backup restore /media/usb/claviger.age --recovery-identity /media/usb2/identity.txt --expect UUID:7:SHA256
  claviger backup restore /media/usb/claviger.age --recovery-identity /media/usb2/identity.txt --accept")
)]
pub struct RestoreArgs {
    /// Backup, or copy of a keyring file; several can be merged at once
    #[arg(value_name = "FILE", required = true)]
    pub(super) files: Vec<PathBuf>,
    #[command(flatten)]
    pub(super) identity: IdentityArgs,
    /// The record that the backup must contain, as uuid:generation:sha256; `backup create` and `status` print it. In a
    /// merge, a later record that follows from it is accepted, too
    #[arg(long, value_name = "EXPECT")]
    pub(super) expect: Option<Expect>,
    #[command(flatten)]
    pub(super) proof: ProofArgs,
    /// Where to write the slot's key file, preferably on another disk [default: slot-file.key in the state directory]
    #[arg(long, value_name = "FILE", value_parser = named())]
    pub(super) slot_file: Option<PathBuf>,
    /// Key that others may know, by its full key_id: it never wraps again; may be given several times
    #[arg(long, value_name = "KEY_ID", value_parser = full_key_id)]
    pub(super) compromised: Vec<KeyId>,
    /// Where to write a backup if a new key has to be made [default: in the directory of the backup that is restored]
    #[arg(long, value_name = "FILE", value_parser = named())]
    pub(super) backup_to: Option<PathBuf>,
    /// Carry out the merge that was shown
    #[arg(long)]
    pub(super) accept: bool,
    /// In a merge, leave this key destroyed, by its full key_id. Without the option, a merge brings a destroyed key
    /// back if one of the files still has it; may be given several times
    #[arg(long, value_name = "KEY_ID", value_parser = full_key_id)]
    pub(super) keep_destroyed: Vec<KeyId>,
    /// In a merge, continue without a key that was here and is in no backup, by its full key_id; may be given several
    /// times
    #[arg(long, value_name = "KEY_ID", value_parser = full_key_id)]
    pub(super) lost: Vec<KeyId>,
    #[command(flatten)]
    pub(super) socket: Socket,
    #[command(flatten)]
    pub(super) keyring: KeyringArgs,
}
