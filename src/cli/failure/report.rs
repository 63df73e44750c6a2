//! A failed command: its message, its hint and its exit code, and how they are printed.
//!
//! The hint is separate data. It is made here and in the files beside this one, from the type of the error.

#[cfg(feature = "scan")]
use std::path::Path;
use std::{
    error::Error,
    fmt::Display,
    io::{self, Write},
    process::ExitCode,
};

use clap::builder::styling;
use serde::Serialize;

#[cfg(feature = "scan")]
use super::scan::snapshot;
use super::{
    super::arguments::{Format, Global},
    exit::{Exit, Explain},
    files::export,
};
#[cfg(feature = "scan")]
use crate::scan::snapshot::SnapshotError;
use crate::{
    durable::DurableError,
    root::{RootError, SlotError},
    telemetry::escape,
};

/// A failed command.
#[derive(Debug)]
pub(in crate::cli) struct Failure {
    message: String,
    hint: Option<String>,
    exit: Exit,
    /// The flag whose value failed. The hint does not repeat it.
    failed: Option<&'static str>,
}

#[derive(Serialize)]
struct ErrorReport<'a> {
    format: &'static str,
    error: &'a str,
    hint: Option<&'a str>,
    exit: u8,
}

#[derive(Serialize)]
struct WarningReport<'a> {
    format: &'static str,
    warning: &'a str,
    hint: &'a str,
}

impl Failure {
    pub(in crate::cli) fn new(exit: Exit, error: &impl Display, hint: impl Into<Option<String>>) -> Self {
        Self { message: error.to_string(), hint: hint.into(), exit, failed: None }
    }
    /// Returns the same with another hint.
    pub(in crate::cli) fn with_hint(self, hint: &str) -> Self {
        Self { hint: Some(hint.to_owned()), ..self }
    }
    /// Returns the same with another hint, if there is one.
    pub(in crate::cli) fn with_any_hint(self, hint: Option<String>) -> Self {
        Self { hint: hint.or(self.hint), ..self }
    }
    /// Returns the same for a flag whose value failed, so that the hint does not repeat it.
    pub(in crate::cli) fn without(self, flag: &'static str) -> Self {
        Self { failed: Some(flag), ..self }
    }
    /// Adds another way to go on to the hint.
    pub(in crate::cli) fn or(self, way: &str) -> Self {
        let hint = self.hint.map_or_else(|| way.to_owned(), |hint| format!("{hint}; {way}"));
        Self { hint: Some(hint), ..self }
    }
    /// Puts the usual way to go on before the hint.
    #[cfg(feature = "scan")]
    pub(in crate::cli) fn first(self, way: &str) -> Self {
        let hint = self.hint.map_or_else(|| way.to_owned(), |hint| format!("{way}; or {hint}"));
        Self { hint: Some(hint), ..self }
    }
    /// Puts `what` before the message: what succeeded before the failure, or which object failed.
    pub(in crate::cli) fn about(self, what: &str) -> Self {
        Self { message: format!("{what}: {}", self.message), ..self }
    }
    pub(in crate::cli) fn hardening(error: &io::Error) -> Self {
        Self::new(Exit::Refused, &format!("forbidding core dumps: {error}"), None)
    }
    /// Returns a file outside of the state directory, such as a backup, that cannot be written.
    pub(in crate::cli) fn export(error: &DurableError) -> Self {
        let (exit, hint) = export(error);
        Self::new(exit, error, hint)
    }
    /// Returns a snapshot that cannot be scanned.
    #[cfg(feature = "scan")]
    pub(in crate::cli) fn snapshot(error: &SnapshotError, file: &Path) -> Self {
        let (exit, hint) = snapshot(error, file);
        Self::new(exit, &format!("{}: {error}", file.display()), hint)
    }
    /// Returns the exit code.
    pub(in crate::cli) fn exit(&self) -> Exit {
        self.exit
    }
    /// Returns what went wrong, without the hint.
    pub(in crate::cli) fn message(&self) -> &str {
        &self.message
    }
    /// Returns what went wrong, with the hint, in one sentence.
    #[cfg(feature = "scan")]
    pub(in crate::cli) fn sentence(self) -> String {
        let Self { message, hint, .. } = self;
        hint.map_or_else(|| message.clone(), |hint| format!("{message}; {hint}"))
    }
    /// Prints the failure to standard error, for people or as JSON.
    ///
    /// Prints nothing if the reader of standard output has ended, as in `claviger status | head -1`.
    pub(in crate::cli) fn report(&self, global: &Global) -> ExitCode {
        if self.exit == Exit::PipeClosed {
            return self.exit.into();
        }
        let given = global.given.without(&self.message, self.failed);
        let hint = self.hint.as_deref().map(|hint| given.repeat_in(hint));
        let hint = hint.as_deref();
        match global.output {
            Format::Text => print(Severity::Error, &self.message, hint),
            Format::Json => self.print_json(hint),
        }
        self.exit.into()
    }
    /// Prints the failure as JSON, before it is known what a hint should repeat.
    pub(in crate::cli) fn report_as_json(&self) -> ExitCode {
        self.print_json(self.hint.as_deref());
        self.exit.into()
    }
    fn print_json(&self, hint: Option<&str>) {
        let Self { message, exit, .. } = self;
        print_json(&ErrorReport { format: "claviger/error/v1", error: message, hint, exit: *exit as u8 });
    }
}

/// Prints a warning to standard error, for people or as JSON. `--quiet` does not silence it.
pub(in crate::cli) fn warn(message: &str, hint: &str, global: &Global) {
    let hint = global.given.repeat_in(hint);
    match global.output {
        Format::Text => print(Severity::Warning, message, Some(&hint)),
        Format::Json => print_json(&WarningReport { format: "claviger/warning/v1", warning: message, hint: &hint }),
    }
}

#[derive(Clone, Copy)]
enum Severity {
    Error,
    Warning,
}

/// Prints lines for people. If standard error is closed, nobody reads them.
fn print(severity: Severity, message: &str, hint: Option<&str>) {
    let (word, colour) = match severity {
        Severity::Error => ("error", styling::AnsiColor::Red),
        Severity::Warning => ("warning", styling::AnsiColor::Yellow),
    };
    let (colour, bold) = (colour.on_default().bold(), styling::Style::new().bold());
    let mut err = anstream::stderr().lock();
    let _ = writeln!(err, "{colour}{word}{colour:#}: {}", escape::line(message));
    if let Some(hint) = hint {
        let _ = writeln!(err, "{bold}hint{bold:#}:  {}", escape::line(hint));
    }
}

fn print_json(report: &impl Serialize) {
    if let Ok(json) = serde_json::to_string(report) {
        let _ = writeln!(io::stderr(), "{}", escape::json(&json));
    }
}

impl<E: Explain + Error + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        let (exit, hint) = error.explain();
        Self { failed: wrong_passphrase(&error), ..Self::new(exit, &error, hint) }
    }
}

/// Returns the flag that gives a passphrase, if a slot refused it.
fn wrong_passphrase(error: &(dyn Error + 'static)) -> Option<&'static str> {
    let is_wrong = |error: &SlotError| matches!(error, SlotError::WrongPassphrase | SlotError::Passphrase(_));
    let is_cause = |error: &(dyn Error + 'static)| match error.downcast_ref() {
        Some(RootError::NoSlotOpens(slots)) => slots.iter().any(|(_, error)| is_wrong(error)),
        _ => error.downcast_ref().is_some_and(is_wrong),
    };
    let mut cause = Some(error);
    while let Some(error) = cause.filter(|error| !is_cause(*error)) {
        cause = error.source();
    }
    cause.map(|_| "passphrase-file")
}
