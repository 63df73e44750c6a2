//! Starts a daemon in a fixed order.
//!
//! 1. Catch signals, because anybody who sees the socket may send one.
//! 2. Bind the socket, and take the lock of the state directory: a second daemon is refused before it opens a key.
//! 3. Start all threads, then restrict the system calls: the restriction holds for the threads that exist then. The
//!    files were restricted before the first thread started.
//! 4. Open the keyring. Only now a key is in memory.
//! 5. Answer calls.
//!
//! A take-over differs in the second step: it opens the keyring first, and then replaces the socket of the daemon that
//! serves, so that calls are always answered. Source: `docs/threat-model.md`, "Process".

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use super::{attend::Daemon, error::DaemonError, protect::protect, signals::Signals, unsealer::Unsealer};
#[cfg(feature = "metrics")]
use crate::{admin::AdminSocket, config::Backups};
use crate::{
    config::Config,
    hardening::{FilesError, Restricted},
    keeper::{Expect, Published, Publisher, ServeError, Serving},
    listen::{self, Access, Address, Drained, Listener, Peers, SocketError},
    root::Means,
    service::Service,
    systemd::Systemd,
    telemetry::event,
};

/// How long a take-over waits until an earlier take-over is complete.
const FOLLOW_WITHIN: Duration = Duration::from_secs(3);

/// How long a daemon waits until another daemon ends. After that it refuses to start. A daemon that a signal ends
/// answers the calls in flight for up to 5 s, and then releases its state directory.
const ENDED_WITHIN: Duration = Duration::from_secs(6);

/// How a daemon gets its socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketUse {
    /// It binds the socket, which no other plugin may have.
    Bind,
    /// It takes the socket over from the plugin that serves there now.
    TakeOver,
}

/// Serves until a signal ends the daemon, or until another plugin has taken over. `files` is the outcome of restricting
/// the files of this process.
///
/// # Errors
/// When the socket cannot be opened, the keyring does not open, or another daemon serves from the state directory.
pub async fn run(
    config: &Config,
    means: Means,
    expect: Option<Expect>,
    socket: SocketUse,
    files: &Result<Option<Restricted>, FilesError>,
) -> Result<(), DaemonError> {
    // Catches signals before the socket exists, because anybody who sees the socket may send one.
    let mut signals = Signals::catch().map_err(DaemonError::Signals)?;
    let systemd = Systemd::from_env().map_err(DaemonError::Notify)?;
    listen::keep_new_sockets_private();
    let keys = Arc::new(Published::default());
    let publisher = Publisher::new(config.state_dir.clone(), means, expect, Arc::clone(&keys));
    let bound = match socket {
        SocketUse::TakeOver => None,
        SocketUse::Bind => Some(listen(config, listen::bind)?),
    };
    let mut serving = Serving::open(&config.state_dir, Arc::clone(&keys)).map_err(ServeError::Open)?;
    if bound.is_some()
        && let BeforeServing::SignalToEnd = become_alone(&serving, &mut signals, config).await?
    {
        return Ok(());
    }
    #[cfg(feature = "metrics")]
    let metrics = config.metrics_listen.as_ref().and_then(AdminSocket::prepare);
    let mut daemon = Daemon::new(signals, systemd, Unsealer::start(publisher));
    // All threads exist now, and no key is in memory yet.
    let layers = protect(config, files);
    daemon.unsealer.again();
    let listener = match bound {
        Some(listener) => BeforeServing::Ready(listener),
        None => replace(&mut daemon, &mut serving, config).await?,
    };
    let BeforeServing::Ready(listener) = listener else { return Ok(()) };
    daemon.unsealer.keep(serving);
    let service = Service::new(keys, layers.by_name());
    #[cfg(feature = "metrics")]
    let service = if config.backups == Backups::None { service.without_backups() } else { service };
    let service = Arc::new(service);
    #[cfg(feature = "metrics")]
    if let Some(metrics) = metrics {
        tokio::spawn(metrics.serve(Arc::clone(&service)));
    }
    answer(listener, service, daemon, config).await
}

/// The end of a wait before the daemon serves.
enum BeforeServing<T> {
    /// The result that the daemon waited for.
    Ready(T),
    /// A signal asked the daemon to end first.
    SignalToEnd,
}

/// Takes over the socket of the plugin that serves now, after unsealing the keyring.
async fn replace(
    daemon: &mut Daemon,
    serving: &mut Serving,
    config: &Config,
) -> Result<BeforeServing<Listener>, DaemonError> {
    daemon.unseal().await?;
    let listener = take_over_socket(config).await?;
    if listener.takes_over() {
        info!(message = event::WAITING);
        serving.succeed().map_err(ServeError::Lock)?;
        return Ok(BeforeServing::Ready(listener));
    }
    // No plugin was replaced, so no plugin will end and release the lock.
    Ok(match become_alone(serving, &mut daemon.signals, config).await? {
        BeforeServing::Ready(()) => BeforeServing::Ready(listener),
        BeforeServing::SignalToEnd => BeforeServing::SignalToEnd,
    })
}

/// Answers calls until the daemon ends. Then answers the calls in flight.
async fn answer(
    listener: Listener,
    service: Arc<Service>,
    mut daemon: Daemon,
    config: &Config,
) -> Result<(), DaemonError> {
    let mut outcome = Ok(());
    let attended = async { outcome = daemon.attend().await };
    let peers = Peers::new(config.allow_uid.iter().copied());
    let drained = listen::serve(listener, service, peers, attended).await.map_err(DaemonError::Register)?;
    let cut_off = match drained {
        Drained::Complete => 0,
        Drained::Cut(connections) => connections,
    };
    info!(message = event::STOPPED, cut_off);
    outcome
}

/// Takes the lock of the state directory, before anything is served.
async fn become_alone(
    serving: &Serving,
    signals: &mut Signals,
    config: &Config,
) -> Result<BeforeServing<()>, DaemonError> {
    if serving.try_lock().map_err(ServeError::Lock)? {
        return Ok(BeforeServing::Ready(()));
    }
    info!(message = event::WAITING);
    let until = Instant::now() + ENDED_WITHIN;
    while Instant::now() < until {
        tokio::select! {
            () = signals.end() => return Ok(BeforeServing::SignalToEnd),
            () = sleep(Duration::from_millis(50)) => {}
        }
        if serving.try_lock().map_err(ServeError::Lock)? {
            info!(message = event::LOCKED);
            return Ok(BeforeServing::Ready(()));
        }
    }
    Err(DaemonError::Occupied(config.state_dir.clone()))
}

/// Listens on the socket that systemd passed on, which outlives restarts. Without one, makes a socket.
fn listen(
    config: &Config,
    how: impl FnOnce(&Address, Access) -> Result<Listener, SocketError>,
) -> Result<Listener, DaemonError> {
    if let Some(listener) = listen::inherited().map_err(DaemonError::Inherited)? {
        info!(message = event::LISTENING, socket = "from systemd");
        if config.socket_access.group.is_some() {
            warn!(message = event::GROUP_UNUSED);
        }
        return Ok(listener);
    }
    let listener = how(&config.socket, config.socket_access)?;
    if matches!(config.socket, Address::Abstract(_)) {
        warn!(message = event::ABSTRACT);
    }
    info!(message = event::LISTENING, socket = %config.socket);
    Ok(listener)
}

/// Takes the socket of the plugin that serves now. Retries while that plugin still waits for the lock of its own
/// predecessor.
async fn take_over_socket(config: &Config) -> Result<Listener, DaemonError> {
    let until = Instant::now() + FOLLOW_WITHIN;
    loop {
        match listen(config, listen::take_over) {
            Err(DaemonError::Socket(SocketError::Followed(_))) if Instant::now() < until => {
                sleep(Duration::from_millis(50)).await;
            }
            outcome => return outcome,
        }
    }
}
