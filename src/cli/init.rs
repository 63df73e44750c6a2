//! `claviger init`: sets up a state directory with a new keyring.

use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args};
use serde::Serialize;

use crate::{
    config::Settings,
    durable::{Dir, Privacy, volatile},
    escrow::{Identities, Recipient},
    keeper::{self, Expect, InitRequest, Initialised, SetUpError},
    keyring::{recovery::Recovery, time::Time},
};

use super::{
    Format, Global, Socket, StateDir,
    arguments::named,
    failure::{Exit, Failure, warn},
    files::absolute,
    given::quoted,
    identities::{Purpose, identities, recipient},
    live::PluginSearch,
    output::{self, OutputError},
    probe::find_plugin,
    site::check_apart,
};

/// Set up a state directory: make a root key, a slot that seals it, and a keyring with one key
///
/// If the directory has a keyring already, nothing is changed. If you name a recovery recipient, its identity and a
/// copy of the keyring are enough to restore everything after this machine is lost. The identity is read once, to prove
/// that it works, and is not stored.
///
/// A plugin may still serve from memory after its state directory was lost. The command asks the plugin at --socket,
/// and refuses if that plugin serves what was in this directory before, because a new keyring would not read what is
/// encrypted. It also refuses if that plugin does not answer. It does not find a plugin at another socket: it says
/// where it looked.
#[derive(Args)]
#[command(group = ArgGroup::new("recovery").args(["recovery_recipient", "without_recovery"]).required(true))]
#[command(after_help = "\
Examples:
  age-keygen -o identity.txt    # keep it offline, and a copy of it
  claviger init --recovery-recipient age1… --recovery-identity identity.txt
  claviger init --state-dir ./state --without-recovery")]
pub(super) struct InitArgs {
    #[command(flatten)]
    state_dir: StateDir,
    /// age recipient (age1…) whose identity can recover the root key; may be given several times
    #[arg(long, value_name = "RECIPIENT")]
    recovery_recipient: Vec<String>,
    /// File with the identity of a recipient, or with shares of it, or - for standard input; may be given several times
    /// [default: ask on the terminal]
    #[arg(long, value_name = "FILE", requires = "recovery_recipient")]
    recovery_identity: Vec<PathBuf>,
    /// Have no recovery recipient. If the state directory is lost, every Secret is lost, because nothing else opens the
    /// keyring
    #[arg(long, conflicts_with = "recovery_identity")]
    without_recovery: bool,
    /// Where to write the slot's key file, preferably on another disk [default: slot-file.key in the state directory]
    #[arg(long, value_name = "FILE", value_parser = named())]
    slot_file: Option<PathBuf>,
    /// Move an unfinished `init` aside, and begin again
    #[arg(long)]
    restart: bool,
    #[command(flatten)]
    socket: Socket,
    /// Make a new keyring although a plugin serves another one that was here before, or may do so. After a restart that
    /// plugin reads none of the Secrets that are encrypted now
    #[arg(long)]
    risk_unreadable_secrets: bool,
}

#[derive(Serialize)]
struct InitReport<'a> {
    format: &'static str,
    state_dir: &'a Path,
    uuid: String,
    generation: u64,
    key_id: String,
    expect: String,
    recovery_recipients: Vec<&'a str>,
    slot_file: Option<&'a Path>,
    moved_aside: Option<&'a Path>,
    /// The socket at which a running plugin was looked for.
    plugin_socket: &'a str,
    /// Whether a plugin there reported which keyring it serves.
    plugin_found: bool,
    /// The sentence that says where no plugin was found.
    #[serde(skip)]
    no_plugin: Option<String>,
    /// The command that starts a plugin for the keyring.
    #[serde(skip)]
    start: String,
}

/// Runs `claviger init`.
///
/// # Errors
/// When the directory has a keyring, an identity does not open its blob, or a file cannot be written.
pub(super) fn run(args: &InitArgs, global: &Global) -> Result<Exit, Failure> {
    let (state_dir, socket) = (args.state_dir.state_dir.clone(), args.socket.socket.clone());
    let config = global.config(Settings { state_dir, socket, ..Settings::default() })?;
    let state_dir = config.state_dir.clone();
    let search = find_plugin(&config)?;
    let is_checked = !is_set_up(&state_dir) && !args.risk_unreadable_secrets;
    let beside = if is_checked { check_plugin(&search, &state_dir)? } else { None };
    let plan = InitRequest {
        recovery: recovery(args)?,
        slot_file: args.slot_file.as_deref().map(absolute).transpose()?,
        restart: args.restart,
        now: Time::new(jiff::Timestamp::now()),
    };
    if !is_set_up(&state_dir) {
        check_apart(&state_dir)?;
    }
    let dir = Dir::open_or_create(&state_dir).map_err(SetUpError::File)?;
    let made = keeper::init(&dir, &plan)?;
    // A command that refuses prints no warning.
    if let Some(beside) = beside {
        warn(&beside, "this is right if another plugin, at another socket, is to serve the new keyring", global);
    }
    if let Some(kind) = volatile(&dir) {
        let place = state_dir.display();
        let message = format!("{place} is on {kind}: a restart may remove the keyring, and then every Secret is lost");
        warn(&message, "give a --state-dir on a disk, unless this is a trial", global);
    }
    Ok(output::end_change(print(&report(&made, &plan, &state_dir, &search), global), global))
}

/// Whether the directory has a keyring. Then no keyring is made there, whatever a plugin serves.
fn is_set_up(state_dir: &Path) -> bool {
    // If the directory has a fault, the code that uses the directory reports it.
    Dir::open(state_dir, Privacy::Private).and_then(|dir| keeper::is_set_up(&dir)).unwrap_or(false)
}

/// Refuses to continue if the running plugin still serves, from memory, a keyring that this state directory held
/// earlier. Returns a warning if the plugin serves another keyring.
fn check_plugin(search: &PluginSearch, state_dir: &Path) -> Result<Option<String>, Failure> {
    let risk = "if nothing is encrypted that you need: --risk-unreadable-secrets";
    let plugin = search.answered().map_err(|error| Failure::from(error).or(risk))?;
    Ok(plugin.map(|plugin| plugin.check_new(state_dir)).transpose()?)
}

fn recovery(args: &InitArgs) -> Result<Option<(Vec<Recipient>, Identities)>, Failure> {
    if args.without_recovery {
        return Ok(None);
    }
    let recipients = args.recovery_recipient.iter().map(|text| recipient(text)).collect::<Result<_, _>>()?;
    Ok(Some((recipients, identities(&args.recovery_identity, Purpose::Accept)?)))
}

fn print(report: &InitReport<'_>, global: &Global) -> Result<(), OutputError> {
    match global.output {
        Format::Json => output::json(report),
        Format::Text if global.quiet => Ok(()),
        Format::Text => print_text(report, global),
    }
}

fn report<'a>(
    made: &'a Initialised,
    plan: &'a InitRequest,
    state_dir: &'a Path,
    search: &'a PluginSearch,
) -> InitReport<'a> {
    let Initialised { keyring, digest, moved_aside } = made;
    InitReport {
        format: "claviger/init/v1",
        state_dir,
        uuid: keyring.uuid().to_hex(),
        generation: keyring.generation(),
        key_id: keyring.primary().id().to_string(),
        expect: Expect::of(keyring, *digest).to_string(),
        recovery_recipients: keyring.recoveries().iter().map(Recovery::recipient).collect(),
        slot_file: plan.slot_file.as_deref(),
        moved_aside: moved_aside.as_deref(),
        plugin_socket: search.socket(),
        plugin_found: search.plugin().is_some(),
        no_plugin: search.absence(),
        start: search.start(keyring, state_dir),
    }
}

fn print_text(report: &InitReport<'_>, global: &Global) -> Result<(), OutputError> {
    if let Some(path) = report.moved_aside {
        output::text_line(&format!("moved the unfinished init to {}", path.display()))?;
    }
    output::text_line(&fields(report))?;
    let dir = quoted(report.state_dir);
    let recipient = if report.recovery_recipients.is_empty() { " --recipient age1…" } else { "" };
    let next = format!(
        "\nnext:  claviger backup create FILE --state-dir {dir}{recipient}    # somewhere that is not lost with this machine\n       \
         {}",
        report.start
    );
    output::advice(&next, global)
}

fn fields(report: &InitReport<'_>) -> String {
    let recovery = match report.recovery_recipients.as_slice() {
        [] => "none: if this disk is lost and there is no backup, every Secret is lost".to_owned(),
        [recipient] => format!("{recipient} (opened once with its identity)"),
        recipients => format!("{} (each opened once with its identity)", recipients.join(", ")),
    };
    let slot = match report.slot_file {
        Some(file) => format!("file, its key in {}: anyone who has that file", file.display()),
        None => "file: anyone who has its key file".to_owned(),
    };
    let mut fields = vec![
        ("keyring", format!("{} in {}", report.uuid, report.state_dir.display())),
        ("key", format!("{}, primary", report.key_id)),
        ("slot", format!("{slot} and the root file has the keys")),
        ("recovery", recovery),
    ];
    fields.extend(report.no_plugin.iter().map(|absence| ("plugin", absence.clone())));
    output::fields(&fields)
}
