//! The life of a plugin: listen, unseal, tell systemd, look again when asked to, end.
//!
//! It listens first and unseals then, so that an API server finds somebody who tells it to wait; a plugin that takes over
//! from another unseals first, because that one answers until then. One daemon serves from a state directory: another one
//! ends before it serves, and one that takes over waits for the lock while it serves. SIGTERM and SIGINT end it, SIGHUP makes it look at
//! the keyring again; a changed one is noticed without. Invariant: what fails after the start is logged and changes nothing
//! that is served.

use std::{
    error::Error,
    io,
    path::PathBuf,
    pin::pin,
    sync::{Arc, mpsc::RecvTimeoutError},
    thread,
    time::Duration,
};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
    time::{Instant, Interval, interval, sleep},
};
use tracing::{error, info, warn};

use crate::{
    admin,
    config::Config,
    crypto::secret::Protection,
    grpc::address::Address,
    hardening::{self, FilesError, Layer, Layers, Restricted, State},
    keeper::{Expect, Published, Publisher, ServeError, Serving, Unsealed},
    keyring::mark::Standing,
    listen::{self, Access, Listener, Peers, SocketError},
    root::Means,
    service::Service,
    systemd::Systemd,
    telemetry::event,
};

/// How long systemd's start jobs wait for the keyring. What is ordered after us, the kubelet, must not wait for ever for a
/// slot that opens late: an API server can wait for a sealed plugin.
const READY_WITHIN: Duration = Duration::from_secs(5);

/// How long a take-over waits for an earlier one to be complete.
const FOLLOW_WITHIN: Duration = Duration::from_secs(3);

/// How long a daemon waits for another one to end before it is refused. One that was told to end answers what is in flight
/// for up to 5 s, and its state directory is then free.
const ENDED_WITHIN: Duration = Duration::from_secs(6);

/// From one look at the record's file to the next. A change is to be served within a second.
const FOLLOW: Duration = Duration::from_millis(250);

/// What systemd shows until the keyring is open.
const SEALED: &str = "sealed: the keyring is not open yet";

/// Why there is no plugin.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DaemonError {
    /// No socket.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// systemd handed over something else than a socket.
    #[error("taking systemd's socket: {0}")]
    Handed(#[source] io::Error),
    /// The event loop.
    #[error("starting the event loop: {0}")]
    Runtime(#[from] io::Error),
    /// The keyring is not served.
    #[error(transparent)]
    Keyring(#[from] ServeError),
    /// Another daemon holds the lock of this state directory.
    #[error("refusing to serve: another plugin serves from {}", .0.display())]
    Occupied(PathBuf),
}

/// Serves until a signal, or until another plugin has taken over. `files` is what came of restricting them.
///
/// # Errors
/// When the socket cannot be had, the keyring does not open, or another daemon serves from the state directory.
pub async fn run(
    config: &Config,
    means: Means,
    expect: Option<Expect>,
    take_over: bool,
    files: &Result<Option<Restricted>, FilesError>,
) -> Result<(), DaemonError> {
    // Before the socket is there: whoever sees it may already send a signal.
    let mut signals = Signals::catch()?;
    let systemd = Systemd::from_env()?;
    let keys = Arc::new(Published::default());
    let publisher = Publisher::new(config.state_dir.clone(), means, expect, Arc::clone(&keys));
    let bound = if take_over { None } else { Some(listen(config, listen::bind)?) };
    let mut serving = Serving::open(&config.state_dir, Arc::clone(&keys))?;
    if bound.is_some() && !become_alone(&serving, &mut signals, config).await? {
        return Ok(());
    }
    let mut daemon = Daemon { signals, systemd, unsealer: Unsealer::start(publisher), status: SEALED.to_owned() };
    // All threads are there, and no key yet.
    let layers = protect(config, files);
    daemon.unsealer.again();
    let listener = if let Some(listener) = bound {
        listener
    } else {
        daemon.unseal().await?;
        let listener = take_over_socket(config).await?;
        if listener.follows() {
            info!(message = event::WAITING);
            serving.succeed()?;
        } else if !become_alone(&serving, &mut daemon.signals, config).await? {
            // It replaces nobody, so nobody is about to end.
            return Ok(());
        }
        listener
    };
    daemon.unsealer.keep(serving);
    let mut outcome = Ok(());
    let attended = async { outcome = daemon.attend().await };
    let service = Arc::new(Service::new(keys, layers.by_name()));
    if let Some(address) = &config.metrics_listen {
        tokio::spawn(admin::serve(address.clone(), Arc::clone(&service)));
    }
    let peers = Peers::new(config.allow_uid.iter().copied());
    let drained = listen::serve(listener, service, peers, attended).await?;
    info!(message = event::STOPPED, ?drained);
    outcome
}

/// Takes the lock of the state directory before anything is served. False when a signal ends the daemon first.
async fn become_alone(serving: &Serving, signals: &mut Signals, config: &Config) -> Result<bool, DaemonError> {
    if serving.try_lock()? {
        return Ok(true);
    }
    info!(message = event::WAITING);
    let until = Instant::now() + ENDED_WITHIN;
    while Instant::now() < until {
        tokio::select! {
            () = signals.end() => return Ok(false),
            () = sleep(Duration::from_millis(50)) => {}
        }
        if serving.try_lock()? {
            info!(message = event::ALONE);
            return Ok(true);
        }
    }
    Err(DaemonError::Occupied(config.state_dir.clone()))
}

/// Gives up the system calls that nothing needs from here on, and says what is in force.
fn protect(config: &Config, files: &Result<Option<Restricted>, FilesError>) -> Layers {
    let landlock = match files {
        Ok(restricted) => restricted.as_ref().map_or(State::Off, |restricted| restricted.state),
        Err(error) => failed("landlock", error),
    };
    let seccomp = if config.without.contains(&Layer::Seccomp) {
        State::Off
    } else {
        hardening::restrict_calls().unwrap_or_else(|error| failed("seccomp", &error))
    };
    let layers = Layers { memory: Protection::here().as_str(), landlock, seccomp };
    info!(message = event::PROTECTED, memory = layers.memory, %landlock, %seccomp);
    layers
}

fn failed(layer: &str, error: &dyn Error) -> State {
    warn!(message = event::UNPROTECTED, layer, %error);
    State::Failed
}

/// On systemd's socket, which outlives restarts, or on one of our own.
fn listen(
    config: &Config,
    how: impl FnOnce(&Address, Access) -> Result<Listener, SocketError>,
) -> Result<Listener, DaemonError> {
    if let Some(listener) = listen::inherited().map_err(DaemonError::Handed)? {
        info!(message = event::LISTENING, socket = "from systemd");
        return Ok(listener);
    }
    let listener = how(&config.socket, config.socket_access)?;
    info!(message = event::LISTENING, socket = %config.socket);
    Ok(listener)
}

/// In the place of the plugin that serves now. That one may itself be about to get the lock of the one before.
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

/// The signals that mean something to us.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// Catches them from now on, and those that would end us while they mean something else to other daemons.
    fn catch() -> io::Result<Self> {
        for ignored in [SignalKind::user_defined1(), SignalKind::user_defined2()] {
            // What catches it stays in place when the stream is dropped.
            drop(signal(ignored)?);
        }
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for one that ends the daemon.
    async fn end(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

type Outcome = Result<Option<Unsealed>, ServeError>;

/// What the thread of an [`Unsealer`] is asked to do.
enum Task {
    /// Open the keyring.
    Open,
    /// Keep the lock of the state directory until the end, and take it as soon as it is free.
    Keep(Serving),
}

/// Opens the keyring on a thread of its own, follows its changes, and takes the lock of the state directory: that may wait
/// for a disk or a lock, and calls are answered meanwhile.
struct Unsealer {
    requests: std::sync::mpsc::Sender<Task>,
    outcomes: mpsc::UnboundedReceiver<Outcome>,
}

impl Unsealer {
    /// Begins when it is asked to.
    fn start(mut publisher: Publisher) -> Self {
        let (requests, requested) = std::sync::mpsc::channel();
        let (tell, outcomes) = mpsc::unbounded_channel();
        thread::spawn(move || {
            let mut lock = None;
            loop {
                let outcome = match requested.recv_timeout(FOLLOW) {
                    Ok(Task::Open) => Some(publisher.publish()),
                    Ok(Task::Keep(serving)) => {
                        lock = Some(KeptLock { serving, failed: false });
                        None
                    }
                    Err(RecvTimeoutError::Timeout) => publisher.follow().map(|followed| followed.map(Some)),
                    Err(RecvTimeoutError::Disconnected) => return,
                };
                lock.iter_mut().for_each(KeptLock::look);
                if outcome.is_some_and(|outcome| tell.send(outcome).is_err()) {
                    return;
                }
            }
        });
        Self { requests, outcomes }
    }

    fn again(&self) {
        self.ask(Task::Open);
    }

    fn keep(&self, serving: Serving) {
        self.ask(Task::Keep(serving));
    }

    fn ask(&self, task: Task) {
        // The thread is gone only when the process ends.
        let _ = self.requests.send(task);
    }
}

/// The lock of the state directory, of a daemon that may have to wait for the one that it replaced.
struct KeptLock {
    serving: Serving,
    /// Whether a failure was logged.
    failed: bool,
}

impl KeptLock {
    /// Takes the lock if it is free by now.
    fn look(&mut self) {
        if self.serving.is_locked() {
            return;
        }
        match self.serving.try_lock() {
            Ok(true) => info!(message = event::ALONE),
            Err(error) if !self.failed => {
                error!(message = event::NOT_LOCKED, %error);
                self.failed = true;
            }
            Ok(false) | Err(_) => {}
        }
    }
}

/// What goes on beside the calls.
struct Daemon {
    signals: Signals,
    systemd: Systemd,
    unsealer: Unsealer,
    /// For systemd's eyes.
    status: String,
}

impl Daemon {
    /// Waits for the first outcome.
    async fn unseal(&mut self) -> Result<(), DaemonError> {
        match self.unsealer.outcomes.recv().await {
            Some(outcome) => self.note(outcome),
            None => Ok(()),
        }
    }

    /// Looks after everything but calls, until a signal ends it.
    async fn attend(&mut self) -> Result<(), DaemonError> {
        let mut ready = self.status != SEALED;
        if ready {
            self.systemd.ready(&self.status).await;
        }
        let mut patience = pin!(sleep(READY_WITHIN));
        let mut heartbeat = self.systemd.heartbeat().map(interval);
        loop {
            tokio::select! {
                _ = self.signals.terminate.recv() => break,
                _ = self.signals.interrupt.recv() => break,
                _ = self.signals.hangup.recv() => self.look_again().await,
                Some(outcome) = self.unsealer.outcomes.recv() => {
                    self.note(outcome)?;
                    ready = true;
                    self.systemd.ready(&self.status).await;
                }
                () = &mut patience, if !ready => {
                    ready = true;
                    self.systemd.ready(&self.status).await;
                }
                () = beat(heartbeat.as_mut()) => self.systemd.alive().await,
            }
        }
        info!(message = event::STOPPING);
        self.systemd.stopping().await;
        Ok(())
    }

    async fn look_again(&self) {
        info!(message = event::RELOADING);
        self.systemd.reloading().await;
        self.unsealer.again();
    }

    /// Puts an outcome on the record. Only the first one can be fatal: later there is something to serve.
    fn note(&mut self, outcome: Outcome) -> Result<(), DaemonError> {
        match outcome {
            Ok(Some(unsealed)) => {
                log(&unsealed);
                self.status = format!("serving generation {}, primary {}", unsealed.generation, unsealed.key_id);
            }
            Ok(None) => info!(message = event::UNCHANGED),
            Err(error) if self.status == SEALED => return Err(error.into()),
            Err(error) => error!(message = event::RELOAD_FAILED, %error),
        }
        Ok(())
    }
}

/// Completes at the next beat; never without a heart.
async fn beat(heartbeat: Option<&mut Interval>) {
    match heartbeat {
        Some(interval) => drop(interval.tick().await),
        None => std::future::pending().await,
    }
}

fn log(unsealed: &Unsealed) {
    let Unsealed { standing, expected, expect, keyring, generation, key_id, slot_opened, audited } = unsealed;
    match standing {
        Some(Standing::Current) => {}
        Some(Standing::Ahead) => warn!(message = event::MARK_ADVANCED, generation),
        None if *expected => info!(message = event::MARK_ADVANCED, generation),
        None => warn!(message = event::TRUSTED_ON_FIRST_USE, %expect),
    }
    if let Err(error) = audited {
        warn!(message = event::NOT_AUDITED, %error);
    }
    let message = if *slot_opened { event::UNSEALED } else { event::FOLLOWED };
    info!(message, keyring, generation, key_id = &**key_id);
}
