//! What an operator sees of the daemon: logs here, metrics in [`metrics`].
//!
//! A line of the log has a constant message and fields. It is text on a terminal, and JSON otherwise. info: a state changed. warn: the
//! daemon healed itself. error: an operator must act. Invariants: no line contains bytes or lengths of secrets; no line comes from a
//! library, because it could contain them.

pub mod escape;
#[cfg(feature = "metrics")]
mod exposition;
pub mod method;
#[cfg_attr(not(feature = "metrics"), path = "no_metrics.rs")]
pub mod metrics;
#[cfg(feature = "metrics")]
mod process;
pub mod quota;

use std::io::{self, IsTerminal};

use serde::Deserialize;
use tracing::field::Field;
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{
    field::MakeExt,
    filter::{LevelFilter, Targets},
    fmt::{
        self, FormatFields,
        format::{Writer, debug_fn},
    },
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

use self::escape::{Escaped, JsonWriter};

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
    /// The plugin listens on the socket. It answers calls with UNAVAILABLE until the keyring is open.
    pub const LISTENING: &str = "listening";
    /// Names the layers of protection that are active.
    pub const PROTECTED: &str = "protected";
    /// The kernel has this layer of protection and refused it. The other layers are active.
    pub const UNPROTECTED: &str = "a layer of protection failed";
    /// The keyring is open. The plugin answers calls.
    pub const UNSEALED: &str = "unsealed";
    /// A command changed the keyring, and the plugin serves the new one.
    pub const FOLLOWED: &str = "keyring changed";
    /// This node had no mark, so it trusts the first record that it reads.
    pub const TRUSTED_ON_FIRST_USE: &str = "no mark yet, trusting the keyring that was found";
    /// The keyring was changed after this node marked it. The mark names the new record now.
    pub const MARK_ADVANCED: &str = "mark advanced";
    /// The event could not be written to the audit log. The plugin serves the keyring nevertheless.
    pub const NOT_AUDITED: &str = "unsealed without a line in the audit log";
    /// The plugin received SIGHUP, so it reads the keyring again.
    pub const RELOADING: &str = "reading the keyring again";
    /// The plugin serves this keyring already.
    pub const UNCHANGED: &str = "the keyring is unchanged";
    /// The changed keyring does not open, is older, or belongs to another installation. The plugin still serves the one
    /// before.
    pub const RELOAD_FAILED: &str = "refused the changed keyring, still serving the one before";
    /// Another plugin serves from the state directory: this plugin replaces it, or it should end now.
    pub const WAITING: &str = "another plugin serves from this state directory, waiting until it ends";
    /// The other plugin has ended, and this one holds the lock of the state directory.
    pub const ALONE: &str = "no other plugin serves from this state directory any more";
    /// The file system cannot lock, so it is unknown whether the other plugin has ended.
    pub const NOT_LOCKED: &str = "cannot lock the state directory, still trying";
    /// Metrics and health are served at this address.
    pub const METRICS_LISTENING: &str = "serving metrics";
    /// The address of metrics and health cannot be bound yet. Calls are answered.
    pub const METRICS_WAITING: &str = "cannot serve metrics, still trying";
    /// The socket has no permissions.
    pub const ABSTRACT: &str = "an abstract socket: local users and pods with hostNetwork can impersonate either side";
    /// This system has no such network. Calls are answered, and metrics are not served.
    pub const METRICS_MISSING: &str = "cannot serve metrics on this system";
    /// The plugin received a signal to end. It still answers the calls in flight.
    pub const STOPPING: &str = "stopping";
    /// The plugin has ended.
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
    let builder = fmt::fmt().with_max_level(level).with_target(false).with_ansi(terminal).log_internal_errors(false);
    if json || !terminal {
        let escaped = move || JsonWriter(lines.clone());
        builder.json().flatten_event(true).with_writer(escaped).finish().with(ours).init();
    } else {
        builder.fmt_fields(escaped_fields()).with_writer(lines).finish().with(ours).init();
    }
    Log { _writer: writer }
}

/// Writes the fields of a line for a terminal. A field may have a text of whoever called.
fn escaped_fields() -> impl for<'w> FormatFields<'w> + 'static {
    let field = |writer: &mut Writer<'_>, field: &Field, value: &dyn std::fmt::Debug| match field.name() {
        "message" => write!(writer, "{}", Escaped(value)),
        name => write!(writer, "{name}={}", Escaped(value)),
    };
    debug_fn(field).delimited(" ")
}
