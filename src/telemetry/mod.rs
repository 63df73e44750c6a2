//! What an operator sees of the daemon: logs here, metrics in [`metrics`].
//!
//! A line of the log has a constant message and fields. It is text on a terminal, and JSON otherwise. info: a state changed. warn: the
//! daemon healed itself. error: an operator must act. Invariants: no line contains bytes or lengths of secrets; no line comes from a
//! library, because it could contain them.

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
    /// The daemon healed itself.
    Warn,
    /// A state changed.
    Info,
    /// Every call.
    Debug,
}

/// The messages of the daemon, in one place for those who watch logs. Those of single calls and
/// connections are in `listen` and `grpc`.
pub mod event {
    /// The socket is there; calls are answered with UNAVAILABLE until the keyring is open.
    pub const LISTENING: &str = "listening";
    /// What the process has given up, for each layer.
    pub const PROTECTED: &str = "protected";
    /// The kernel refused a layer that it has. The other layers are in force.
    pub const UNPROTECTED: &str = "a layer of protection failed";
    /// The keyring is open; calls are answered.
    pub const UNSEALED: &str = "unsealed";
    /// The keyring was changed, and the new one is served.
    pub const FOLLOWED: &str = "keyring changed";
    /// This node had no mark, so it trusts the first record that it sees.
    pub const TRUSTED_ON_FIRST_USE: &str = "no mark: trusting the keyring as it is seen first";
    /// The keyring was changed since this node marked it.
    pub const MARK_ADVANCED: &str = "mark advanced";
    /// The audit log did not take the event. The plugin serves all the same.
    pub const NOT_AUDITED: &str = "unsealing is not on the audit record";
    /// Asked to look at the keyring again.
    pub const RELOADING: &str = "looking at the keyring again";
    /// It is already served.
    pub const UNCHANGED: &str = "the keyring is unchanged";
    /// It does not open, is older, or belongs to another installation. The keyring from before is still served.
    pub const RELOAD_FAILED: &str = "the keyring was not taken, serving on with the one from before";
    /// Another plugin serves from the state directory: this plugin replaces it, or it should end now.
    pub const WAITING: &str = "another plugin serves from this state directory, waiting for its end";
    /// The other plugin has ended, and this one holds the lock of the state directory.
    pub const ALONE: &str = "no other plugin serves from this state directory any more";
    /// The file system cannot lock, so it is unknown whether the other plugin has ended.
    pub const NOT_LOCKED: &str = "cannot lock the state directory, still trying";
    /// Metrics and health are served at this address.
    pub const METRICS_LISTENING: &str = "serving metrics";
    /// The address of metrics and health cannot be bound yet. Calls are answered.
    pub const METRICS_WAITING: &str = "cannot serve metrics, still trying";
    /// Asked to end; the calls in flight are answered.
    pub const STOPPING: &str = "stopping";
    /// Ended.
    pub const STOPPED: &str = "stopped";
}

/// How many lines may wait to be written. Further lines are dropped.
const WAITING_LINES: usize = 1024;

/// Writes the waiting lines when it is dropped, for at most a second.
#[must_use = "without it nothing is written"]
pub struct Log {
    _writer: WorkerGuard,
}

/// Starts logging to standard error, as JSON if `json` is set or there is no terminal.
///
/// A separate thread writes, so a slow reader of the log delays no call. If the log cannot be written, nothing reports that: the only
/// stream for it is the one that failed.
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
