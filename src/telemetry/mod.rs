//! What an operator sees of the daemon: logs here, with the messages in [`event`], and metrics in [`metrics`].
//!
//! A line of the log has a constant message and fields. It is text on a terminal, and JSON otherwise.
//!
//! | level | when |
//! |---|---|
//! | info | a state changed |
//! | warn | something went wrong, and no operator has to act |
//! | error | an operator must act; the field `advice` says what to do |
//!
//! Invariants: no line contains bytes or lengths of secrets; libraries write no lines, because those could contain
//! secrets; no peer can fill a disk with lines.

pub mod advice;
mod causes;
pub mod code;
pub mod escape;
pub mod event;
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

pub use self::causes::causes;
use self::escape::{Escaped, JsonWriter};

/// The least important level that is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum LogLevel {
    /// An operator must act.
    Error,
    /// Something went wrong, and no operator has to act.
    Warn,
    /// A state changed.
    Info,
    /// Every call.
    Debug,
}

/// The greatest number of lines that wait to be written. Further lines are dropped.
const WAITING_LINES: usize = 1024;

/// The handle of the log. Dropping it writes the waiting lines, for at most a second.
#[must_use = "without it nothing is written"]
pub struct Log {
    _writer: WorkerGuard,
}

/// Starts logging to standard error, as JSON if `json` is set or there is no terminal.
///
/// A separate thread writes, so a slow reader of the log delays no call. If the log cannot be written, nothing reports
/// that: the only stream for it is the one that failed.
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

/// Writes the fields of a line for a terminal. The caller of the plugin may have chosen the text of a field.
fn escaped_fields() -> impl for<'w> FormatFields<'w> + 'static {
    let field = |writer: &mut Writer<'_>, field: &Field, value: &dyn std::fmt::Debug| match field.name() {
        "message" => write!(writer, "{}", Escaped(value)),
        name => write!(writer, "{name}={}", Escaped(value)),
    };
    debug_fn(field).delimited(" ")
}
