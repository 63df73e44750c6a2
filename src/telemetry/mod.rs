//! What an operator sees of the daemon: logs here, metrics in [`metrics`].
//!
//! Logs are a constant message and fields; text on a terminal, JSON otherwise. info: a state changed; warn: it healed
//! itself; error: an operator must act. Never bytes, never lengths of secrets; and nothing of the libraries, whose lines
//! show what is not ours to show.

mod exposition;
pub mod metrics;
mod process;
pub mod quota;

use std::io::{self, IsTerminal};

use serde::Deserialize;
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{
    filter::{LevelFilter, Targets},
    fmt,
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum LogLevel {
    /// An operator must act.
    Error,
    /// It healed itself.
    Warn,
    /// A state changed.
    Info,
    /// Every call.
    Debug,
}

/// The messages of the daemon, so that whoever watches logs finds them in one place. Those of single calls and
/// connections are in `listen` and `grpc`.
pub mod event {
    /// The socket is there; calls are answered with UNAVAILABLE until the keyring is open.
    pub const LISTENING: &str = "listening";
    /// What the process has given up, layer by layer.
    pub const PROTECTED: &str = "protected";
    /// A layer that this kernel has could not be put in force; the others are.
    pub const UNPROTECTED: &str = "a layer of protection failed";
    /// The keyring is open; calls are answered.
    pub const UNSEALED: &str = "unsealed";
    /// The keyring was changed; calls are answered from the new one.
    pub const FOLLOWED: &str = "keyring changed";
    /// This node had no mark: it trusts the record that it sees first.
    pub const TRUSTED_ON_FIRST_USE: &str = "no mark: trusting the keyring as it is seen first";
    /// The keyring was changed since this node marked it.
    pub const MARK_ADVANCED: &str = "mark advanced";
    /// The unsealing could not be put on the audit record; the plugin serves all the same.
    pub const NOT_AUDITED: &str = "unsealing is not on the audit record";
    /// Asked to look at the keyring again.
    pub const RELOADING: &str = "looking at the keyring again";
    /// It is the one that is served.
    pub const UNCHANGED: &str = "the keyring is unchanged";
    /// It does not open, or is an older one or another's: what was served is served on.
    pub const RELOAD_FAILED: &str = "the keyring was not taken, serving on with the one from before";
    /// Another plugin serves from the state directory: the one that this one replaces, or one that should end now.
    pub const WAITING: &str = "another plugin serves from this state directory, waiting for its end";
    /// That plugin has ended, and this one holds the lock of the state directory.
    pub const ALONE: &str = "no other plugin serves from this state directory any more";
    /// The system does not say whether that plugin has ended.
    pub const NOT_LOCKED: &str = "cannot lock the state directory, still trying";
    /// Metrics and health are served at this address.
    pub const METRICS_LISTENING: &str = "serving metrics";
    /// Metrics and health cannot be served for now; everything else is.
    pub const METRICS_WAITING: &str = "cannot serve metrics, still trying";
    /// Asked to end; what is in flight is answered.
    pub const STOPPING: &str = "stopping";
    /// Ended.
    pub const STOPPED: &str = "stopped";
}

/// Lines that wait to be written; what comes beyond them is dropped.
const WAITING_LINES: usize = 1024;

/// Writes what is left when it is dropped, for at most a second.
#[must_use = "without it nothing is written"]
pub struct Log {
    _writer: WorkerGuard,
}

/// Starts logging to standard error; JSON if asked for, or without a terminal.
///
/// A thread of its own writes: whoever reads the log, or does not, never makes a call wait. A log that cannot be written
/// is nobody's problem here, so nothing is said about it on the very stream that failed.
pub fn start(level: LogLevel, json: bool) -> Log {
    let level = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
    };
    let terminal = io::stderr().is_terminal();
    let (lines, writer) =
        NonBlockingBuilder::default().buffered_lines_limit(WAITING_LINES).lossy(true).finish(io::stderr());
    let ours = Targets::new().with_target(env!("CARGO_CRATE_NAME"), level);
    let builder = fmt()
        .with_max_level(level)
        .with_writer(lines)
        .with_target(false)
        .with_ansi(terminal)
        .log_internal_errors(false);
    if json || !terminal {
        builder.json().flatten_event(true).finish().with(ours).init();
    } else {
        builder.finish().with(ours).init();
    }
    Log { _writer: writer }
}
