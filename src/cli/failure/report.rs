//! A failed command: its message, its hint and its exit code, and how they are printed.
//!
//! The hint is separate data. It is made here and in the files beside this one, from the type of the error.

#[cfg(feature = "scan")]
use std::path::Path;
use std::{
    fmt::Display,
    io::{self, Write},
    process::ExitCode,
};

use clap::builder::styling;
use serde::Serialize;

#[cfg(feature = "scan")]
use super::scan::snapshot;
use super::{
    exit::{Exit, Explain},
    files::export,
};
#[cfg(feature = "scan")]
use crate::scan::snapshot::SnapshotError;
use crate::{durable::DurableError, telemetry::escape};

/// A failed command.
#[derive(Debug)]
pub(in crate::cli) struct Failure {
    message: String,
    hint: Option<String>,
    exit: Exit,
}

#[derive(Serialize)]
struct Report<'a> {
    format: &'static str,
    error: &'a str,
    hint: Option<&'a str>,
    exit: u8,
}

impl Failure {
    pub(in crate::cli) fn new(exit: Exit, error: &impl Display, hint: impl Into<Option<String>>) -> Self {
        Self { message: error.to_string(), hint: hint.into(), exit }
    }
    /// The same with another hint.
    pub(in crate::cli) fn with_hint(self, hint: &str) -> Self {
        Self { hint: Some(hint.to_owned()), ..self }
    }
    /// Puts `what` before the message: what was done in spite of the failure, or what it is about.
    pub(in crate::cli) fn about(self, what: &str) -> Self {
        Self { message: format!("{what}: {}", self.message), ..self }
    }
    pub(in crate::cli) fn hardening(error: &io::Error) -> Self {
        Self::new(Exit::Refused, &format!("forbidding core dumps: {error}"), None)
    }
    /// A file outside of the state directory, such as a backup, that cannot be written.
    pub(in crate::cli) fn export(error: &DurableError) -> Self {
        let (exit, hint) = export(error);
        Self::new(exit, error, hint)
    }
    /// A snapshot that cannot be scanned.
    #[cfg(feature = "scan")]
    pub(in crate::cli) fn snapshot(error: &SnapshotError, file: &Path) -> Self {
        let (exit, hint) = snapshot(error, file);
        Self::new(exit, &format!("{}: {error}", file.display()), hint)
    }
    /// What went wrong, without the hint.
    pub(in crate::cli) fn message(&self) -> &str {
        &self.message
    }
    /// Prints the failure to standard error, for people or as JSON.
    pub(in crate::cli) fn report(&self, is_json: bool) -> ExitCode {
        // If standard error is closed, nobody reads it.
        let _ = if is_json { self.print_json() } else { self.print_text() };
        self.exit.into()
    }
    fn print_text(&self) -> io::Result<()> {
        let red = styling::AnsiColor::Red.on_default().bold();
        let bold = styling::Style::new().bold();
        let mut err = anstream::stderr().lock();
        writeln!(err, "{red}error{red:#}: {}", escape::line(&self.message))?;
        match &self.hint {
            Some(hint) => writeln!(err, "{bold}hint{bold:#}:  {}", escape::line(hint)),
            None => Ok(()),
        }
    }
    fn print_json(&self) -> io::Result<()> {
        let report = Report {
            format: "claviger/error/v1",
            error: &self.message,
            hint: self.hint.as_deref(),
            exit: self.exit as u8,
        };
        writeln!(io::stderr(), "{}", escape::json(&serde_json::to_string(&report)?))
    }
}

impl<E: Explain + Display> From<E> for Failure {
    fn from(error: E) -> Self {
        let (exit, hint) = error.explain();
        Self::new(exit, &error, hint)
    }
}
