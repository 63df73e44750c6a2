//! `claviger serve`

use std::{io, path::Path, sync::Arc, time::Instant};

use clap::Args;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};
use tracing::{info, warn};

use crate::{
    admin,
    config::{Config, Settings},
    durable::{Dir, Privacy},
    grpc::{
        server::{self, Peers},
        socket::{self, Listener},
    },
    hardening,
    keeper::{self, Expect, Opened, Published, Snapshot},
    keyring::mark::Standing,
    service::Service,
    telemetry::{self, LogLevel, event},
};

use super::{
    Format, Global, Socket, StateDir,
    failure::{Exit, Failure},
};

/// Run the plugin
///
/// It listens first and unseals then; until the keyring is open it answers UNAVAILABLE. SIGTERM answers what is in flight
/// and ends.
#[derive(Args)]
#[command(after_help = "\
Examples:
  claviger serve
  claviger serve --socket @claviger    # abstract: for API servers up to 1.31
  claviger serve --metrics-listen 127.0.0.1:9808
  claviger serve --state-dir ./state --socket /tmp/claviger/kms.sock")]
pub(super) struct ServeArgs {
    #[command(flatten)]
    state_dir: StateDir,
    #[command(flatten)]
    socket: Socket,
    /// A user who may connect, besides root and the plugin's own; may be given several times
    #[arg(long, value_name = "UID", value_parser = uid)]
    allow_uid: Option<Vec<u32>>,
    /// The record to trust, uuid:generation:sha256 as `claviger status` prints it, or one that follows it
    #[arg(long, value_name = "EXPECT")]
    expect: Option<Expect>,
    /// Serve /metrics, /livez and /readyz here: a loopback address and port, or a socket's path [default: nowhere]
    #[arg(long, value_name = "ADDRESS")]
    metrics_listen: Option<String>,
    /// How much to log [default: info]
    #[arg(long, value_enum, value_name = "LEVEL")]
    log_level: Option<LogLevel>,
}

fn uid(text: &str) -> Result<u32, &'static str> {
    text.parse().map_err(|_| "expected a user's number, as `id -u NAME` prints it")
}

/// Runs `claviger serve` until a signal.
///
/// # Errors
/// When the socket cannot be had or the keyring does not open.
pub(super) fn run(args: ServeArgs, global: &Global) -> Result<Exit, Failure> {
    let settings = Settings {
        state_dir: args.state_dir.state_dir,
        socket: args.socket.socket,
        allow_uid: args.allow_uid,
        metrics_listen: args.metrics_listen,
        log_level: args.log_level,
        ..Settings::default()
    };
    let config = global.config(settings)?;
    let _log = telemetry::start(config.log_level, global.output == Format::Json);
    hardening::forbid_dumps().map_err(|error| Failure::hardening(&error))?;
    // One thread: measured against two workers it serves more and takes less of the machine.
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| runtime_failure(&error))?;
    runtime.block_on(serve(&config, args.expect))
}

async fn serve(config: &Config, expect: Option<Expect>) -> Result<Exit, Failure> {
    // Before the socket is there: whoever sees it may already send a signal.
    let stop = stop_signal().map_err(|error| runtime_failure(&error))?;
    let listener = listen(config)?;

    let published = Arc::new(Published::default());
    let service = Arc::new(Service::new(Arc::clone(&published)));
    if let Some(address) = &config.metrics_listen {
        tokio::spawn(admin::serve(address.clone(), Arc::clone(&service)));
    }
    let (failed, unseal_failed) = oneshot::channel();
    let state_dir = config.state_dir.clone();
    // A thread of its own: unsealing may wait for a disk or a lock, and calls are answered meanwhile.
    std::thread::spawn(move || {
        if let Err(failure) = unseal(&state_dir, expect.as_ref(), &published) {
            // The receiver is gone only when the process ends anyway.
            let _ = failed.send(failure);
        }
    });

    let mut failure = None;
    let shutdown = async {
        tokio::select! {
            () = stop => info!(message = event::STOPPING),
            Ok(reason) = unseal_failed => failure = Some(reason),
        }
    };
    let peers = Peers::new(config.allow_uid.iter().copied());
    let drained = server::serve(listener, service, peers, shutdown).await.map_err(|error| runtime_failure(&error))?;
    info!(message = event::STOPPED, ?drained);
    failure.map_or(Ok(Exit::Done), Err)
}

/// On systemd's socket, which outlives restarts, or on one of our own.
fn listen(config: &Config) -> Result<Listener, Failure> {
    let handed_over = |error| Failure::new(Exit::Refused, &format!("taking systemd's socket: {error}"), None);
    if let Some(listener) = socket::inherited().map_err(handed_over)? {
        info!(message = event::LISTENING, socket = "from systemd");
        return Ok(listener);
    }
    let listener = socket::bind(&config.socket)?;
    info!(message = event::LISTENING, socket = %config.socket);
    Ok(listener)
}

/// Completes at SIGTERM or SIGINT; both are caught from now on.
///
/// Signals that mean something to other daemons, and by default would end this one, are caught and ignored.
fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    for ignored in [SignalKind::hangup(), SignalKind::user_defined1(), SignalKind::user_defined2()] {
        // What catches it stays in place when the stream is dropped.
        drop(signal(ignored)?);
    }
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

fn runtime_failure(error: &io::Error) -> Failure {
    Failure::new(Exit::Refused, &format!("starting the event loop: {error}"), None)
}

fn unseal(state_dir: &Path, expect: Option<&Expect>, published: &Published) -> Result<(), Failure> {
    let dir = Dir::open(state_dir, Privacy::Private).map_err(|error| Failure::state_dir(error, state_dir))?;
    let opened = keeper::open_to_serve(&dir, expect).map_err(|error| Failure::open(&error, state_dir))?;
    log_standing(&opened, expect.is_some());
    let snapshot = Snapshot::new(&opened.keyring, Instant::now());
    info!(
        message = event::UNSEALED,
        keyring = opened.keyring.uuid().to_hex(),
        generation = snapshot.generation(),
        key_id = &*snapshot.primary().id,
    );
    published.publish(snapshot);
    Ok(())
}

fn log_standing(opened: &Opened, expected: bool) {
    let generation = opened.keyring.generation();
    match opened.standing {
        Some(Standing::Current) => {}
        Some(Standing::Ahead) => warn!(message = event::MARK_ADVANCED, generation),
        None if expected => info!(message = event::MARK_ADVANCED, generation),
        None => {
            let expect = Expect::of(&opened.keyring, opened.digest);
            warn!(message = event::TRUSTED_ON_FIRST_USE, %expect);
        }
    }
}
