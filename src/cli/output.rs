//! Prints tables, JSON and plain lines on standard output, and reports a closed pipe or a full disk.

use std::{
    io::{self, IsTerminal, Write},
    iter,
};

use clap::builder::styling;
use serde::Serialize;

use super::{
    Global,
    failure::{Exit, Explain, Explanation, warn},
};
use crate::telemetry::escape;
#[cfg(any(feature = "recover", feature = "reencrypt"))]
use {super::failure::Failure, crate::audit};

/// The error for a standard output that is closed or full.
#[derive(Debug, thiserror::Error)]
#[error("writing to standard output: {0}")]
pub(super) struct OutputError(#[from] io::Error);

impl Explain for OutputError {
    fn explain(&self) -> Explanation {
        let is_closed = self.0.kind() == io::ErrorKind::BrokenPipe;
        Explanation { exit: if is_closed { Exit::PipeClosed } else { Exit::Disk }, hint: None }
    }
}

/// Prints an audit event on standard error, for a command without a state directory.
///
/// # Errors
/// When it cannot be printed.
#[cfg(any(feature = "recover", feature = "reencrypt"))]
pub(super) fn audit_to_stderr(event: &audit::Event<'_>) -> Result<(), Failure> {
    let unwritten =
        |error| Failure::new(Exit::Disk, &format!("writing the audit event to standard error: {error}"), None);
    io::stderr().write_all(&audit::line(event)).map_err(unwritten)
}

/// Ends a command that has changed the keyring, as [`end`] does.
pub(super) fn end_change(printed: Result<(), OutputError>, global: &Global) -> Exit {
    end(printed, "to see the keyring as it is now: claviger status", global)
}

/// Ends a command that has done its work. If its report cannot be printed, prints a warning with `hint` on standard
/// error. The exit code stays 0, because a failure would mean that nothing was changed.
pub(super) fn end(printed: Result<(), OutputError>, hint: &str, global: &Global) -> Exit {
    if let Err(error) = printed {
        warn(&format!("all is done, but the report could not be printed: {error}"), hint, global);
    }
    Exit::Done
}

/// Prints `value` as JSON.
///
/// # Errors
/// When standard output is closed or full.
pub(super) fn json(value: &impl Serialize) -> Result<(), OutputError> {
    let text = serde_json::to_string_pretty(value).map_err(io::Error::from)?;
    self::text(&format!("{}\n", escape::json(&text)))
}

/// Prints `value` as one line of JSON.
///
/// # Errors
/// When standard output is closed or full.
#[cfg(feature = "reencrypt")]
pub(super) fn json_line(value: &impl Serialize) -> Result<(), OutputError> {
    let text = serde_json::to_string(value).map_err(io::Error::from)?;
    self::text(&format!("{}\n", escape::json(&text)))
}

/// Prints lines of text, without characters that a terminal obeys.
///
/// # Errors
/// When standard output is closed or full.
pub(super) fn text_line(line: &str) -> Result<(), OutputError> {
    text(&format!("{}\n", escape::page(line)))
}

/// Prints the headline, in colour on a terminal, and an empty line below it.
///
/// # Errors
/// When standard output is closed or full.
pub(super) fn headline(line: &str, is_good: bool) -> Result<(), OutputError> {
    let colour = if is_good { styling::AnsiColor::Green } else { styling::AnsiColor::Red };
    let style = colour.on_default().bold();
    let mut out = anstream::stdout().lock();
    writeln!(out, "{style}{}{style:#}\n", escape::line(line))?;
    Ok(out.flush()?)
}

/// Prints text without changing it.
///
/// # Errors
/// When standard output is closed or full.
pub(super) fn text(text: &str) -> Result<(), OutputError> {
    bytes(text.as_bytes())
}

/// Prints bytes without changing them.
///
/// # Errors
/// When standard output is closed or full.
pub(super) fn bytes(bytes: &[u8]) -> Result<(), OutputError> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)?;
    Ok(out.flush()?)
}

/// Prints the next step for the operator, and adds the flags of this command to each command in it. Prints nothing with
/// `--quiet` or JSON.
///
/// # Errors
/// When standard output is closed or full.
pub(super) fn advice(text: &str, global: &Global) -> Result<(), OutputError> {
    if global.is_for_people() { text_line(&global.given.repeat_in(text)) } else { Ok(()) }
}

/// The line that is printed before the API servers are counted, because counting takes a while.
#[cfg(feature = "scan")]
pub(super) const COUNTING: &str = "counting the API servers, which takes up to 30 s";

/// Prints a line for people to standard error, because standard output carries something else. Prints nothing with
/// `--quiet` or JSON.
pub(super) fn aside(line: &str, global: &Global) {
    if global.is_for_people() {
        aside_for_people(line);
    }
}

/// Prints a line for people to standard error.
pub(super) fn aside_for_people(line: &str) {
    // If standard error is closed, nobody can read the line.
    let _ = writeln!(io::stderr(), "{}", escape::page(line));
}

/// Prints `value` as a line of JSON to standard error, because standard output carries something else.
#[cfg(feature = "recover")]
pub(super) fn json_aside(value: &impl Serialize) {
    if let Ok(text) = serde_json::to_string(value) {
        // If standard error is closed, nobody can read the line.
        let _ = writeln!(io::stderr(), "{}", escape::json(&text));
    }
}

/// Replaces everything on the terminal by `page`. Without a terminal, prints `page` below the earlier text.
///
/// # Errors
/// When standard output is closed or full.
pub(super) fn screen(page: &str) -> Result<(), OutputError> {
    let clear = if io::stdout().is_terminal() { "\x1b[H\x1b[2J" } else { "" };
    text(&format!("{clear}{}\n", escape::page(page)))
}

/// Makes a table without ruled lines, as kubectl prints them.
pub(super) fn table(head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let rows = rows.into_iter().map(|row| row.iter().map(|cell| escape::line(cell)).collect());
    let rows: Vec<Vec<String>> = iter::once(head.iter().map(|cell| (*cell).to_owned()).collect()).chain(rows).collect();
    let longest =
        |column: usize| rows.iter().filter_map(|row| Some(row.get(column)?.chars().count())).max().unwrap_or(0);
    let widths: Vec<usize> = (0..head.len()).map(longest).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("   ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Makes aligned lines of `name  value`.
pub(super) fn fields(fields: &[(&str, String)]) -> String {
    let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    fields.iter().map(|(name, value)| format!("{name:width$}  {}", escape::line(value))).collect::<Vec<_>>().join("\n")
}
