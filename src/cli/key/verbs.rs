//! The verbs of `claviger key`.

use clap::{Args, Subcommand};
use serde::Serialize;

use crate::{
    config::{Backups, Config, Settings},
    durable::LifeLock,
    keeper::{self, BackedUp, Changed, Expect, Opened, PromoteKeyError, Promotion, Usage, UsageDoubt},
    keyring::{Entry, Key, Keyring, key_id::KeyId, state::Verb, time::Time},
    rotate::RotationClock,
};

use super::{
    super::{
        Format, Global, KeyringArgs, Site, Socket,
        adoption::{self, Awaited},
        arguments::full_key_id,
        backup_file::create_command,
        etcd::EtcdArgs,
        failure::{Exit, Failure, ledger_hint, warn},
        given::quoted,
        live::{PluginSearch, ServesFrom},
        output::{self, OutputError},
        probe::find_plugin,
        rotation::check_promotion,
        tables::{KeyRow, all_of, fitting_key_table, key_row, key_rows, terminal_width},
    },
    retire::{self, GateArgs},
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
  claviger key disable k1-9f2c51e07b3a4d68a1c0f4e2d7b65839 --wait
  claviger key disable k1-9f2c51e07b3a4d68a1c0f4e2d7b65839 --etcd-servers https://127.0.0.1:2379 --etcd-cafile ca.crt …")
    )]
    #[cfg_attr(
        not(feature = "scan"),
        command(after_help = "\
Example:
  claviger key disable k1-9f2c51e07b3a4d68a1c0f4e2d7b65839 --risk-unreadable-secrets")
    )]
    Disable {
        #[command(flatten)]
        one: Full,
        #[command(flatten)]
        etcd: EtcdArgs,
        #[command(flatten)]
        socket: Socket,
        #[command(flatten)]
        gates: GateArgs,
        /// Disable the key without reading etcd. Values under it cannot be read until it is enabled again
        #[arg(long)]
        #[cfg_attr(feature = "scan", arg(conflicts_with_all = ["wait", "api_servers"]))]
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
        risk_losing_secrets: bool,
    },
}

/// The arguments of a verb about one key.
#[derive(Args)]
struct KeyArg {
    /// Key, by its key_id or by its number, for example k2
    #[arg(value_name = "KEY")]
    key: String,
    #[command(flatten)]
    keyring: KeyringArgs,
}

/// The arguments of a verb that does harm if it gets the wrong key.
#[derive(Args)]
struct Full {
    /// Key, by its full key_id as `claviger key list` prints it
    #[arg(value_name = "KEY_ID", value_parser = full_key_id)]
    key_id: KeyId,
    #[command(flatten)]
    keyring: KeyringArgs,
}

#[derive(Serialize)]
struct KeyListReport {
    format: &'static str,
    uuid: String,
    generation: u64,
    keys: Vec<KeyRow>,
}

#[derive(Serialize)]
struct ChangeReport {
    format: &'static str,
    uuid: String,
    generation: u64,
    key: KeyRow,
    expect: String,
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
            let retiring = Retiring { site: &site, key: one.key_id, verb: Verb::Disable, clock, global };
            give_up(&retiring, &gates, risk_unreadable_secrets)
        }
        KeyVerb::Destroy { one, etcd, socket: Socket { socket }, gates, risk_losing_secrets } => {
            let site = Site::find(Settings { socket, ..etcd.put_into(one.keyring.settings()) }, global)?;
            let retiring = Retiring { site: &site, key: one.key_id, verb: Verb::Destroy, clock, global };
            give_up(&retiring, &gates, risk_losing_secrets)
        }
    }
}

/// Makes a pending key, and warns if keys of the keyring are missing here.
fn add(keyring: KeyringArgs, Socket { socket }: Socket, global: &Global) -> Result<Exit, Failure> {
    let site = Site::find(Settings { socket, ..keyring.settings() }, global)?;
    let search = find_plugin(&site.config)?;
    let opened = site.open()?;
    let missing = search.plugin().map(|plugin| plugin.missing_in(&opened.keyring)).unwrap_or_default();
    let now = Time::new(jiff::Timestamp::now());
    let changed = keeper::add_key(&site.dir, &site.means, &missing, now)?;
    match opened.newest_backup() {
        Err(error) if site.config.backups != Backups::None => {
            report_change(&changed, Some(MEND_LEDGER), global);
            let hint = ledger_hint(error, &opened.keyring.uuid().to_hex()).unwrap_or_default();
            warn(&format!("no backup counts, so the key cannot be promoted yet: {error}"), &hint, global);
        }
        _ => report_change(&changed, Some(ADDED), global),
    }
    warn_of_plugin(&search, &opened.keyring, &site.config, global);
    if !missing.is_empty() {
        let missing: Vec<String> = missing.iter().map(ToString::to_string).collect();
        let message =
            format!("the keyring here lacks {}, which the plugin serves or stored values need", all_of(&missing));
        warn(
            &message,
            "before you promote the new key, merge a backup that has it: claviger backup restore FILE; `claviger status` says whether a \
             listed one does",
            global,
        );
    }
    Ok(Exit::Done)
}

/// Warns if no plugin that was found takes the new key up.
fn warn_of_plugin(search: &PluginSearch, keyring: &Keyring, config: &Config, global: &Global) {
    let dir = &config.state_dir;
    let (why, next) = match search {
        PluginSearch::Absent { socket, reason } => {
            let next = if LifeLock::is_held(dir).unwrap_or(false) {
                "a plugin serves from this state directory at another socket: give its socket, which its log line `listening` names, here \
                 and to later commands: --socket SOCKET"
                    .to_owned()
            } else {
                format!(
                    "a plugin reads the key when it starts; if one runs at another socket, give that to later commands: --socket \
                     SOCKET; if none runs, start it: {}",
                    search.start(keyring, dir)
                )
            };
            (format!("none answers at {socket}: {reason}"), next)
        }
        PluginSearch::Found(plugin) => match plugin.serves_from(dir) {
            ServesFrom::Elsewhere(path) => (
                format!(
                    "the one at {} serves from {}, and not from {}",
                    search.socket(),
                    path.display(),
                    dir.display()
                ),
                format!("if you meant the keyring that it serves: --state-dir {}", quoted(path)),
            ),
            ServesFrom::Here | ServesFrom::BeforeHere | ServesFrom::Unknown => return,
        },
        PluginSearch::Unanswered { socket, error } => {
            (format!("the one at {socket} does not answer: {error}"), "see how it is: claviger status".to_owned())
        }
        PluginSearch::Silent { .. } => return,
    };
    warn(&format!("no plugin is known to take the new key up: {why}"), &next, global);
}

/// What the operator says about a promotion.
#[derive(Clone, Copy)]
struct PromotionWishes {
    backed_up: BackedUp,
    despite_rotation: bool,
}

fn promote(
    KeyArg { key, keyring }: KeyArg,
    PromotionWishes { backed_up, despite_rotation }: PromotionWishes,
    wait: Option<Socket>,
    global: &Global,
) -> Result<Exit, Failure> {
    let is_waiting = wait.is_some();
    let socket = wait.and_then(|Socket { socket }| socket);
    let site = Site::find(Settings { socket, ..keyring.settings() }, global)?;
    let opened = site.open()?;
    let keyring = &opened.keyring;
    let key_id = named(keyring, &key)?;
    if !despite_rotation {
        check_promotion(&site, &opened, key_id)?;
    }
    let change = || {
        let now = Time::new(jiff::Timestamp::now());
        let promotion = Promotion { key_id, backed_up, compromised_up_to: None };
        keeper::promote_key(&site.dir, &site.means, promotion, now).map_err(|error| refused(error, keyring))
    };
    if !is_waiting {
        return Ok(end(&change()?, Some(&promoted()), global));
    }
    let generation = if keyring.primary().id() == key_id {
        keyring.generation()
    } else {
        adoption::check(&site.config)?;
        let changed = change()?;
        report_change(&changed, Some(BACK_UP), global);
        changed.keyring.generation()
    };
    adoption::wait(&site.config, &Awaited { key_id, generation }, global)?;
    Ok(output::end_change(output::advice(REWRITE, global), global))
}

fn backed_up(waived: bool) -> BackedUp {
    if waived { BackedUp::Waived } else { BackedUp::Required }
}

/// Disables or destroys a key that nothing in etcd needs, or whose values the operator gives up.
fn give_up(retiring: &Retiring<'_>, gates: &GateArgs, is_waived: bool) -> Result<Exit, Failure> {
    let Retiring { site, key, verb, global, .. } = *retiring;
    let opened = site.open()?;
    let usage = if is_waived { Usage::Waived } else { usage(retiring, opened, gates)? };
    let (changed, next) = if verb == Verb::Destroy {
        (keeper::destroy_key(&site.dir, &site.means, key, &usage)?, DESTROYED)
    } else {
        (keeper::disable_key(&site.dir, &site.means, key, &usage)?, DISABLED)
    };
    Ok(end(&changed, Some(next), global))
}

/// Finds out whether values need the key. Does nothing if the keyring refuses the change in any case.
fn usage(retiring: &Retiring<'_>, opened: Opened, gates: &GateArgs) -> Result<Usage, Failure> {
    let is_allowed = |key: &Key| key.id() == retiring.key && key.state().after(retiring.verb).is_some();
    if opened.keyring.keys().any(is_allowed) {
        retire::usage(retiring, opened, gates)
    } else {
        Ok(Usage::Unknown(UsageDoubt::NotRead))
    }
}

fn list(keyring: KeyringArgs, global: &Global) -> Result<Exit, Failure> {
    let keyring = Site::find(keyring.settings(), global)?.open()?.keyring;
    match global.output {
        Format::Text => {
            output::text_line(&fitting_key_table(&key_rows(&keyring), None, terminal_width()))?;
        }
        Format::Json => output::json(&KeyListReport {
            format: "claviger/key-list/v1",
            uuid: keyring.uuid().to_hex(),
            generation: keyring.generation(),
            keys: key_rows(&keyring),
        })?,
    }
    Ok(Exit::Done)
}

/// Prints what changed and what to do next, and ends the command.
fn end(changed: &Changed, next: Option<&str>, global: &Global) -> Exit {
    report_change(changed, next, global);
    Exit::Done
}

fn report_change(changed: &Changed, next: Option<&str>, global: &Global) {
    output::end_change(report(changed, next, global), global);
}

/// Returns the failure of a promotion. Without a recovery recipient in `keyring`, a backup needs one of its own.
fn refused(error: PromoteKeyError, keyring: &Keyring) -> Failure {
    let is_unbacked = matches!(error, PromoteKeyError::Unbacked { ledger: None, .. });
    let failure = Failure::from(error);
    let hint = failure.hint().filter(|_| is_unbacked).map(|hint| hint.replace(CREATE, create_command(keyring)));
    failure.with_any_hint(hint)
}

/// Finds the key that `text` names: by its full key_id, or by its number if only one key has that number.
fn named(keyring: &Keyring, text: &str) -> Result<KeyId, Failure> {
    if let Ok(key_id) = text.parse() {
        return Ok(key_id);
    }
    let numbered = format!("{text}-");
    let mut found = keyring.entries().iter().map(Entry::id).filter(|id| id.to_string().starts_with(&numbered));
    match (found.next(), found.next()) {
        (Some(key_id), None) => Ok(key_id),
        (None, _) => Err(unnamed(keyring, text)),
        (Some(first), Some(second)) => {
            let ids: Vec<String> = [first, second].into_iter().chain(found).map(|id| id.to_string()).collect();
            let message = format!("there are several keys {text}: {}", all_of(&ids));
            let hint = "give the key_id in full; `claviger key list` shows the state of each".to_owned();
            Err(Failure::new(Exit::Refused, &message, hint))
        }
    }
}

/// Returns the failure of a `text` that names no key. Its hint names the key that was probably meant.
fn unnamed(keyring: &Keyring, text: &str) -> Failure {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let ids: Vec<String> = keyring.entries().iter().map(|entry| entry.id().to_string()).collect();
    let hint = if let Some((id, (number, _))) = meant(&ids, text).and_then(|id| Some((id, id.split_once('-')?))) {
        format!("a key is named by k and its number, or by its whole key_id: {number} or {id}")
    } else if is_number {
        format!(
            "a key is named by k and its number, as in k{text}, or by its key_id; `claviger key list` shows the keys"
        )
    } else {
        "`claviger key list` shows the keys".to_owned()
    };
    Failure::new(Exit::Refused, &format!("there is no key {text}"), hint)
}

/// Finds the one key_id that begins with `text`, or whose digits after the number do, in capital letters or not.
fn meant<'i>(ids: &'i [String], text: &str) -> Option<&'i String> {
    const DIGITS: usize = 4;
    let text = text.to_ascii_lowercase();
    let is_it = |id: &&String| {
        let Some((number, digits)) = id.split_once('-') else { return false };
        number == text
            || text.contains('-') && id.starts_with(&text)
            || text.len() >= DIGITS && digits.starts_with(&text)
    };
    let mut found = ids.iter().filter(is_it);
    found.next().filter(|_| found.next().is_none())
}

fn report(changed: &Changed, next: Option<&str>, global: &Global) -> Result<(), OutputError> {
    let Changed { keyring, digest, key_id } = changed;
    let Some(row) = keyring.entries().iter().find(|entry| entry.id() == *key_id).map(key_row) else { return Ok(()) };
    if global.output == Format::Json {
        return output::json(&ChangeReport {
            format: "claviger/key-change/v1",
            uuid: keyring.uuid().to_hex(),
            generation: keyring.generation(),
            key: row,
            expect: Expect::of(keyring, *digest).to_string(),
        });
    }
    output::text_line(&format!("{key_id} is {} (generation {})", row.state, keyring.generation()))?;
    let Some(next) = next else { return Ok(()) };
    let next = next.replace(KEY, &key_id.to_string()).replace(CREATE, create_command(keyring));
    output::advice(&next, global)
}

/// The word in an advice that is replaced by the key_id.
const KEY: &str = "KEY_ID";

/// The word in an advice that is replaced by the command that makes a backup of this keyring.
const CREATE: &str = "claviger backup create FILE";

/// What to do after a key was made while the ledger cannot be read.
const MEND_LEDGER: &str = "next: mend the ledger, as the warning says; then make a backup on another disk: claviger backup create FILE\n\
                           then: claviger key promote KEY_ID";

const BACK_UP: &str = "next: make a backup in which this key is primary: claviger backup create FILE";

const REWRITE: &str = if cfg!(feature = "reencrypt") {
    "then: re-encrypt what is under older keys: claviger reencrypt"
} else {
    "then: write every Secret once, and every object of the other resources that are encrypted: kubectl get secrets \
     --all-namespaces -o json | kubectl replace -f -"
};

/// What to do after a key was added.
const ADDED: &str = "next: make a backup on another disk: claviger backup create FILE (if it says `counts  not yet`: claviger backup \
                     check FILE)\nthen: claviger key promote KEY_ID";

/// What to do after a key was disabled.
const DISABLED: &str = "an API server may go on reading what is under the key, by seeds that it has in memory, until it is \
                        restarted\nto go back: claviger key enable KEY_ID";

/// What to know after a key was destroyed.
const DESTROYED: &str = "copies of the state directory and backups still contain it, wrapped under the root key";

/// Returns what to do after a key was promoted.
fn promoted() -> String {
    format!("{BACK_UP}\nthen: wait until `claviger status` shows that every API server uses the key\n{REWRITE}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_was_probably_meant_is_found() {
        let digits = |start: &str| format!("{start}{}", "0".repeat(28));
        let ids =
            [format!("k1-{}", digits("0aaa")), format!("k2-{}", digits("c195")), format!("k21-{}", digits("c1bb"))];
        let named = |text| meant(&ids, text).map(|id| &id[..id.find('-').unwrap()]);
        for (text, expected) in
            [("K2", "k2"), ("k2-c1", "k2"), ("K2-C195", "k2"), ("c195", "k2"), ("0aaa", "k1"), ("k21-", "k21")]
        {
            assert_eq!(named(text), Some(expected), "{text}");
        }
        for text in ["", "k", "c1", "k3", "k3-c1", "2", "-"] {
            assert_eq!(named(text), None, "{text}");
        }
        let twins = [format!("k2-{}", digits("c195")), format!("k2-{}", digits("c1bb"))];
        assert_eq!(meant(&twins, "K2"), None);
        assert_eq!(meant(&twins, "k2-c1b"), Some(&twins[1]));
    }
}
