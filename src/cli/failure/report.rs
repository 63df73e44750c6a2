//! A failed command: its message, its hint and its exit code, and how they are printed.
//!
//! The hint is separate data. It is made here and in the files beside this one, from the type of the error.

use std::{
    error::Error,
    fmt::Display,
    io::{self, Write},
    path::Path,
    process::ExitCode,
};

use clap::builder::styling;
use serde::Serialize;

use super::{
    super::{
        arguments::{Format, Global},
        given::quoted,
    },
    exit::{Exit, Explain, Explanation},
    files::export,
};
use crate::{
    durable::DurableError,
    root::{RootError, SlotError},
    telemetry::escape,
};

/// A failed command, with its message, hint and exit code.
#[derive(Debug)]
pub(in crate::cli) struct Failure {
    message: String,
    explanation: Explanation,
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
        Self::explained(error, Explanation { exit, hint: hint.into() })
    }

    /// Returns the failure with this explanation.
    pub(in crate::cli) fn explained(error: &impl Display, explanation: Explanation) -> Self {
        Self { message: error.to_string(), explanation, failed: None }
    }

    /// Returns the same failure with another hint.
    pub(in crate::cli) fn with_hint(self, hint: &str) -> Self {
        Self { explanation: self.explanation.with_hint(hint), ..self }
    }

    /// Returns the same failure with another hint, if `hint` is one.
    pub(in crate::cli) fn with_any_hint(self, hint: Option<String>) -> Self {
        match hint {
            Some(hint) => self.with_hint(&hint),
            None => self,
        }
    }

    /// Returns the same failure for a flag whose value failed, so that the hint does not repeat this flag.
    pub(in crate::cli) fn without(self, flag: &'static str) -> Self {
        Self { failed: Some(flag), ..self }
    }

    /// Adds another way to continue to the end of the hint.
    pub(in crate::cli) fn or(self, way: &str) -> Self {
        let hint = self.hint().map_or_else(|| way.to_owned(), |hint| format!("{hint}; {way}"));
        self.with_hint(&hint)
    }

    /// Puts the usual way to continue before the hint.
    #[cfg(feature = "scan")]
    pub(in crate::cli) fn first(self, way: &str) -> Self {
        let hint = self.hint().map_or_else(|| way.to_owned(), |hint| format!("{way}; or {hint}"));
        self.with_hint(&hint)
    }

    /// Puts the name of `file` into `command` in the hint, which ends with the word FILE.
    pub(in crate::cli) fn naming(self, command: &str, file: &Path) -> Self {
        let named = command.replace("FILE", &quoted(file));
        let hint = self.hint().map(|hint| hint.replace(command, &named));
        self.with_any_hint(hint)
    }

    /// Puts `what` before the message: the part that succeeded, or the object that failed.
    pub(in crate::cli) fn about(self, what: &str) -> Self {
        Self { message: format!("{what}: {}", self.message), ..self }
    }

    pub(in crate::cli) fn hardening(error: &io::Error) -> Self {
        Self::new(Exit::Refused, &format!("forbidding core dumps: {error}"), None)
    }

    /// Makes the failure for a file outside of the state directory, such as a backup, that cannot be written.
    pub(in crate::cli) fn export(error: &DurableError) -> Self {
        Self::explained(error, export(error))
    }

    /// Returns the exit code of the command.
    pub(in crate::cli) fn exit(&self) -> Exit {
        self.explanation.exit
    }

    /// Returns the message, without the hint.
    pub(in crate::cli) fn message(&self) -> &str {
        &self.message
    }

    /// Returns the hint, if there is one.
    pub(in crate::cli) fn hint(&self) -> Option<&str> {
        self.explanation.hint.as_deref()
    }

    /// Returns the message and the hint in one sentence.
    pub(in crate::cli) fn sentence(&self) -> String {
        match self.hint() {
            Some(hint) => format!("{}; {hint}", self.message),
            None => self.message.clone(),
        }
    }

    /// Prints the failure to standard error, for people or as JSON.
    ///
    /// Prints nothing if the reader of standard output has ended, as in `claviger scan --list | head -1`.
    pub(in crate::cli) fn report(&self, global: &Global) -> ExitCode {
        if self.exit() == Exit::PipeClosed {
            return self.exit().into();
        }
        let given = global.given.without(&self.message, self.failed);
        let hint = self.hint().map(|hint| given.repeat_in(hint));
        let hint = hint.as_deref();
        match global.output {
            Format::Text => print(Severity::Error, &self.message, hint),
            Format::Json => self.print_json(hint),
        }
        self.exit().into()
    }

    /// Prints the failure as JSON. For a failure before the command line is read: a hint cannot repeat its flags yet.
    pub(in crate::cli) fn report_as_json(&self) -> ExitCode {
        self.print_json(self.hint());
        self.exit().into()
    }

    fn print_json(&self, hint: Option<&str>) {
        let exit = self.exit() as u8;
        print_json(&ErrorReport { format: "claviger/error/v1", error: &self.message, hint, exit });
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

/// Prints lines for people. If standard error is closed, they are lost.
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
        Self { failed: wrong_passphrase(&error), ..Self::explained(&error, error.explain()) }
    }
}

/// Returns the flag that names a passphrase, if a slot refused that passphrase.
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
