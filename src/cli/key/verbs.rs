//! The verbs of `claviger key` and their arguments.

use clap::{Args, Subcommand};

use crate::{
    cli::{
        Global, KeyringArgs, Site, Socket,
        etcd::EtcdArgs,
        failure::{Exit, Failure},
    },
    config::Settings,
    keeper,
    keyring::{key_id::KeyId, state::Verb},
    rotate::RotationClock,
};

use super::{
    add::add,
    change::end,
    give_up::give_up,
    list::list,
    name::{KeyArg, named},
    promote::{PromotionWishes, backed_up, promote},
    retire::GateArgs,
    retiring::Retiring,
};

/// Manage the keys of the keyring, from their creation to their destruction
///
/// A new key is pending. `promote` makes it primary, so that it wraps, and makes the previous primary key decrypt-only.
/// `disable` and `destroy` take a key out of use that nothing needs any more. A running plugin follows each change
/// within a second.
#[derive(Args)]
pub(in crate::cli) struct KeyArgs {
    #[command(subcommand)]
    verb: KeyVerb,
}

#[derive(Subcommand)]
enum KeyVerb {
    /// List the keys, including the tombs of destroyed ones
    #[command(after_help = "\
Example:
  claviger key list --output json")]
    List(KeyringArgs),
    /// Make a key, which is pending until it is promoted
    ///
    /// A pending key can unwrap, but does not wrap. So each node can read values under the new key before any node
    /// writes them.
    ///
    /// The command asks the plugin at --socket which keys it serves and which ones stored values need. The new key gets
    /// a number that none of them has, because a merge may bring them back.
    #[command(after_help = "\
Example:
  claviger key add
  claviger backup create /mnt/usb/claviger.age
  claviger key promote k2")]
    Add {
        #[command(flatten)]
        keyring: KeyringArgs,
        #[command(flatten)]
        socket: Socket,
    },
    /// Make a pending key primary, so that it wraps from now on; the previous primary key only unwraps
    ///
    /// This re-encrypts nothing. Each Secret moves to the new key when it is next written; `claviger reencrypt` has all
    /// of them written. An API server wraps under the new key within a minute. The key must be in a backup that
    /// `claviger backup list` shows; otherwise one lost disk would lose every Secret under it.
    #[command(after_help = "\
Examples:
  claviger key promote k2
  claviger key promote k2 --without-backup
  claviger key promote k2 --wait && claviger reencrypt")]
    Promote {
        #[command(flatten)]
        one: KeyArg,
        /// Promote the key even if no listed backup contains it. If this disk is lost, every Secret under the key is
        /// lost
        #[arg(long)]
        without_backup: bool,
        /// Promote the key although a rotation is unfinished. Values may then be under three keys or more, until
        /// everything is re-encrypted
        #[arg(long)]
        despite_rotation: bool,
        /// Wait until every connected API server has adopted the key, which takes two to three minutes
        #[arg(long)]
        wait: bool,
        #[command(flatten)]
        socket: Socket,
    },
    /// Take a key out of use. Its bytes are kept, and `claviger key enable` brings it back
    ///
    /// A disabled key neither wraps nor unwraps, so values under it cannot be read.
    #[cfg_attr(
        feature = "scan",
        doc = "Therefore the command first reads all of etcd, as `claviger scan` does, and refuses if a live object is under \
               the key. It also refuses as long as an API server may still be writing under the key: the plugin has \
               to serve the primary key for about five minutes, and every connected API server has to use it alone for \
               about three. --wait waits for that. What the state directory says about the past does not count, because \
               the directory may have been restored or cloned."
    )]
    #[cfg_attr(
        not(feature = "scan"),
        doc = "This claviger was built without the feature `scan`, and cannot see whether a value is under the key. \
               Therefore the command needs --risk-unreadable-secrets."
    )]
    #[cfg_attr(
        feature = "scan",
        command(after_help = "\
Examples:
  claviger key disable k1 --wait
  claviger key disable k1 --etcd-servers https://127.0.0.1:2379 --etcd-cafile ca.crt …")
    )]
    #[cfg_attr(
        not(feature = "scan"),
        command(after_help = "\
Example:
  claviger key disable k1 --risk-unreadable-secrets")
    )]
    Disable {
        #[command(flatten)]
        one: KeyArg,
        #[command(flatten)]
        etcd: EtcdArgs,
        #[command(flatten)]
        socket: Socket,
        #[command(flatten)]
        gates: GateArgs,
        /// Disable the key without reading etcd. Values under it cannot be read until it is enabled again
        #[arg(long)]
        #[cfg_attr(feature = "scan", arg(conflicts_with_all = ["wait", "api_servers"]))]
        #[cfg_attr(feature = "recover", arg(conflicts_with = "leave"))]
        risk_unreadable_secrets: bool,
    },
    /// Bring a disabled key back, so that it unwraps again
    #[command(after_help = "\
Example:
  claviger key enable k1")]
    Enable(KeyArg),
    /// Destroy a disabled key for ever: remove its bytes, and leave a tomb, which shows that it existed
    ///
    /// Values under it are lost for ever.
    #[cfg_attr(
        feature = "scan",
        doc = "Therefore the command first reads all of etcd and asks the plugin, as `claviger key disable` does. It also refuses while a \
               snapshot of etcd that `claviger backup list` shows needs the key."
    )]
    #[cfg_attr(
        not(feature = "scan"),
        doc = "This claviger was built without the feature `scan`, and cannot see whether a value is under the key. \
               Therefore the command needs --risk-losing-secrets."
    )]
    /// Copies of the state directory, backups, and freed blocks of the file system still contain the key, wrapped under
    /// the root key.
    #[cfg_attr(
        feature = "scan",
        command(after_help = "\
Example:
  claviger key destroy k1-9f2c51e07b3a4d68a1c0f4e2d7b65839")
    )]
    #[cfg_attr(
        not(feature = "scan"),
        command(after_help = "\
Example:
  claviger key destroy k1-9f2c51e07b3a4d68a1c0f4e2d7b65839 --risk-losing-secrets")
    )]
    Destroy {
        #[command(flatten)]
        one: Full,
        #[command(flatten)]
        etcd: EtcdArgs,
        #[command(flatten)]
        socket: Socket,
        #[command(flatten)]
        gates: GateArgs,
        /// Destroy the key without reading etcd. Values under it are lost for ever
        #[arg(long)]
        #[cfg_attr(feature = "scan", arg(conflicts_with_all = ["wait", "api_servers"]))]
        #[cfg_attr(feature = "recover", arg(conflicts_with = "leave"))]
        risk_losing_secrets: bool,
    },
}

/// The arguments of a verb that nothing undoes.
#[derive(Args)]
struct Full {
    /// Key, by its full key_id as `claviger key list` prints it, because nothing brings a destroyed key back
    #[arg(value_name = "KEY_ID")]
    key_id: String,
    #[command(flatten)]
    keyring: KeyringArgs,
}

impl Full {
    /// Returns the key_id. A short name such as `k1` is refused on purpose: anyone who types the whole key_id means
    /// this key.
    fn key_id(&self) -> Result<KeyId, Failure> {
        self.key_id.parse().map_err(|error| {
            let hint =
                "a destroyed key never comes back, so name it by its whole key_id, which `claviger key list` shows";
            Failure::new(Exit::Usage, &format!("key {:?}: {error}", self.key_id), hint.to_owned())
        })
    }
}

/// Runs `claviger key …`.
///
/// # Errors
/// When the keyring does not open, or a change is refused or fails.
pub(in crate::cli) fn run(args: KeyArgs, clock: &dyn RotationClock, global: &Global) -> Result<Exit, Failure> {
    match args.verb {
        KeyVerb::List(keyring) => list(keyring, global),
        KeyVerb::Add { keyring, socket } => add(keyring, socket, global),
        KeyVerb::Promote { one, without_backup, despite_rotation, wait, socket } => {
            let wishes = PromotionWishes { backed_up: backed_up(without_backup), despite_rotation };
            promote(one, wishes, wait.then_some(socket), global)
        }
        KeyVerb::Enable(one) => {
            let site = Site::find(one.keyring.settings(), global)?;
            let key_id = named(&site.open()?.keyring, &one.key)?;
            Ok(end(&keeper::enable_key(&site.dir, &site.means, key_id)?, None, global))
        }
        KeyVerb::Disable { one, etcd, socket: Socket { socket }, gates, risk_unreadable_secrets } => {
            let site = Site::find(Settings { socket, ..etcd.put_into(one.keyring.settings()) }, global)?;
            let key = named(&site.open()?.keyring, &one.key)?;
            let retiring = Retiring { site: &site, key, verb: Verb::Disable, clock, global };
            give_up(&retiring, &gates, risk_unreadable_secrets)
        }
        KeyVerb::Destroy { one, etcd, socket: Socket { socket }, gates, risk_losing_secrets } => {
            let key = one.key_id()?;
            let site = Site::find(Settings { socket, ..etcd.put_into(one.keyring.settings()) }, global)?;
            let retiring = Retiring { site: &site, key, verb: Verb::Destroy, clock, global };
            give_up(&retiring, &gates, risk_losing_secrets)
        }
    }
}
