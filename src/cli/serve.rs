//! `claviger serve`: checks the configuration, confines the process, and runs the daemon.

use clap::Args;

use crate::{
    config::{Config, MetricsAddress, Settings},
    daemon::{self, DaemonError, SocketUse},
    durable::{Dir, Privacy},
    hardening::{self, FilesError, Layer, Needs, Restricted},
    keeper::{self, Expect},
    listen::{self, Address, SocketError},
    memory::Protection,
    root::Means,
    telemetry::{self, LogLevel},
};

use super::{
    Format, Global, KeyringArgs, Socket,
    arguments::Expected,
    failure::{Exit, Failure},
    passphrase,
    probe::find_plugin,
    runtime::event_loop,
};

/// Run the plugin
///
/// The plugin listens first and unseals then. Until the keyring is open it answers UNAVAILABLE. On SIGTERM it answers
/// the calls in flight and ends; on SIGHUP it looks at the keyring again. It reports to a service manager by
/// `sd_notify` when it is ready. Only one plugin serves from a state directory: a second one is refused, unless it
/// takes over from the first.
#[derive(Args)]
#[command(after_help = "\
Examples:
  claviger serve
  claviger serve --socket @claviger    # abstract: for API servers up to 1.31
  claviger serve --take-over           # an upgrade: no call fails
  claviger serve --socket-group 1001 --allow-uid 1001
  claviger serve --metrics-listen 127.0.0.1:9808
  claviger serve --state-dir ./state --socket /tmp/claviger/kms.sock")]
pub(super) struct ServeArgs {
    #[command(flatten)]
    keyring: KeyringArgs,
    #[command(flatten)]
    socket: Socket,
    /// A group that may open the socket, by its number; its mode is then 0660 rather than 0600
    #[arg(long, value_name = "GID", value_parser = gid)]
    socket_group: Option<u32>,
    /// Replace the running plugin: unseal, take over its socket, and let it finish its calls
    #[arg(long)]
    take_over: bool,
    /// A user who may connect, besides root and the plugin's own; may be given several times
    #[arg(long, value_name = "UID", value_parser = uid)]
    allow_uid: Option<Vec<u32>>,
    /// Serve only this record, or on a node with a mark also a successor of it: uuid:generation:sha256, as `claviger
    /// status` prints it
    #[arg(long, value_name = "EXPECT")]
    expect: Option<Expect>,
    /// Serve /metrics, /livez and /readyz here: a loopback address and port, or a socket's path [default: nowhere]
    #[arg(long, value_name = "ADDRESS")]
    metrics_listen: Option<String>,
    /// A layer of protection to switch off, if this kernel does not support it; may be given several times
    #[arg(long, value_enum, value_name = "LAYER")]
    without: Option<Vec<Layer>>,
    /// How much to log [default: info]
    #[arg(long, value_enum, value_name = "LEVEL")]
    log_level: Option<LogLevel>,
}

fn gid(text: &str) -> Result<u32, Expected> {
    text.parse().map_err(|_| Expected("a group's number, as `getent group NAME` prints it"))
}

fn uid(text: &str) -> Result<u32, Expected> {
    text.parse().map_err(|_| Expected("a user's number, as `id -u NAME` prints it"))
}

/// Runs `claviger serve` until a signal.
///
/// # Errors
/// When the socket cannot be had, the keyring does not open, or another plugin serves from the state directory.
pub(super) fn run(args: ServeArgs, global: &Global) -> Result<Exit, Failure> {
    let settings = Settings {
        socket: args.socket.socket,
        socket_group: args.socket_group,
        allow_uid: args.allow_uid,
        metrics_listen: args.metrics_listen,
        without: args.without,
        log_level: args.log_level,
        ..args.keyring.settings()
    };
    let config = global.config(settings)?;
    if config.without.contains(&Layer::MemfdSecret) {
        Protection::choose_locked();
    }
    // This only finds out which slots there are. The daemon opens the directory itself, and reports why it cannot.
    let dir = Dir::open(&config.state_dir, Privacy::Private).ok();
    if args.take_over {
        check_taken_over(&config, dir.as_ref())?;
        check_no_stranger(&config)?;
        let search = find_plugin(&config)?;
        search.plugin().map_or(Ok(()), |plugin| plugin.check_alone(&config.state_dir))?;
    }
    let means = passphrase::means_of_daemon(&config, dir.as_ref())?;
    // Restricts the files before the thread of the log starts: the rules hold for this thread and the threads that it
    // starts.
    let files = restrict_files(&config);
    let reaching = global.given.reaching(&config);
    telemetry::advice::complete(|advice| reaching.repeat_in(advice).into_owned());
    let _log = telemetry::start(config.log_level, global.output == Format::Json);
    // The daemon uses one thread: compared with two workers, it serves more calls and uses less of the machine.
    let socket = if args.take_over { SocketUse::TakeOver } else { SocketUse::Bind };
    let ended = event_loop()?.block_on(daemon::run(&config, means, args.expect, socket, &files));
    ended.map_err(|error| failed(error, &config, dir.as_ref()))?;
    Ok(Exit::Done)
}

/// Returns the failure of the daemon. If a plugin with another keyring holds the socket, the hint does not suggest to
/// take it over.
fn failed(error: DaemonError, config: &Config, dir: Option<&Dir>) -> Failure {
    let is_held = matches!(&error, DaemonError::Socket(SocketError::Held(_)));
    let failure = Failure::from(error);
    if !is_held || check_taken_over(config, dir).is_ok() {
        return failure;
    }
    failure.with_hint(
        "it serves another keyring: let it run, and give this one another --socket; to see which keyring it serves, and from which \
         directory: claviger status",
    )
}

/// Refuses to replace a plugin that serves another keyring, because API servers could then read nothing that is
/// encrypted. A plugin that does not answer may be replaced, because that may be the reason for the take-over. The
/// daemon reports whether the keyring here opens.
fn check_taken_over(config: &Config, dir: Option<&Dir>) -> Result<(), Failure> {
    let Some(Ok(ours)) = dir.map(keeper::uuid_of) else { return Ok(()) };
    let search = find_plugin(config)?;
    search.plugin().map_or(Ok(()), |plugin| Ok(plugin.check_taken_over(&ours.to_hex())?))
}

/// Refuses to replace the socket of a program that is no plugin. The daemon reports every other fault of the path, and
/// uses no path if systemd passes a socket on.
fn check_no_stranger(config: &Config) -> Result<(), Failure> {
    if std::env::var_os("LISTEN_FDS").is_some() {
        return Ok(());
    }
    match listen::check_stranger(&config.socket) {
        Err(error @ SocketError::Stranger(_)) => Err(DaemonError::Socket(error).into()),
        _ => Ok(()),
    }
}

/// Restricts the process to the files that a daemon with this configuration needs. Returns `None` if the operator
/// switched this layer off.
fn restrict_files(config: &Config) -> Result<Option<Restricted>, FilesError> {
    if config.without.contains(&Layer::Landlock) { Ok(None) } else { hardening::restrict(&needs(config)).map(Some) }
}

/// Returns the files, directories and ports that a daemon with this configuration needs.
fn needs(config: &Config) -> Needs {
    let mut needs = Needs::default();
    needs.change.insert(config.state_dir.clone());
    needs.read_file.extend(keeper::key_files(&config.state_dir));
    needs.read.extend(Means::credentials_directory());
    needs.read_file.extend(config.passphrase_file.clone());
    if let Address::Path(path) = &config.socket {
        needs.socket(path);
    }
    match &config.metrics_listen {
        Some(MetricsAddress::Socket(path)) => needs.socket(path),
        Some(MetricsAddress::Loopback(address)) => drop(needs.ports.insert(address.port())),
        None => {}
    }
    needs
}
