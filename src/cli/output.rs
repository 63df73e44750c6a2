//! Tables, JSON and plain lines on standard output.

use std::io::{self, IsTerminal, Write};

use clap::builder::styling;
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

use super::{
    Format, Global,
    failure::{Exit, Failure},
};
use crate::telemetry::escape;

/// Prints `value` as JSON.
///
/// # Errors
/// When standard output is closed or full.
pub(super) fn json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Failure::new(Exit::Disk, &error, None))?;
    self::text(&format!("{}\n", escape::json(&text)))
}

/// Prints lines of text, without characters that a terminal obeys.
///
/// # Errors
/// When standard output is closed or full.
pub(super) fn text_line(line: &str) -> Result<(), Failure> {
    text(&format!("{}\n", escape::page(line)))
}

/// Prints the most important line, in colour on a terminal, and an empty line below it.
///
/// # Errors
/// When standard output is closed or full.
pub(super) fn headline(line: &str, is_good: bool) -> Result<(), Failure> {
    let colour = if is_good { styling::AnsiColor::Green } else { styling::AnsiColor::Red };
    let style = colour.on_default().bold();
    let mut out = anstream::stdout().lock();
    writeln!(out, "{style}{}{style:#}\n", escape::line(line))
        .and_then(|()| out.flush())
        .map_err(|error| Failure::new(Exit::Disk, &format!("writing to standard output: {error}"), None))
}

/// Prints text as it is.
///
/// # Errors
/// When standard output is closed or full.
pub(super) fn text(text: &str) -> Result<(), Failure> {
    bytes(text.as_bytes())
}

/// Prints bytes as they are.
///
/// # Errors
/// When standard output is closed or full.
pub(super) fn bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)
        .and_then(|()| out.flush())
        .map_err(|error| Failure::new(Exit::Disk, &format!("writing to standard output: {error}"), None))
}

/// Prints a line for people to standard error, because standard output carries something else. Prints nothing with `--quiet` or JSON.
pub(super) fn aside(line: &str, global: &Global) {
    if !global.quiet && global.output == Format::Text {
        // If standard error is closed, nobody can read the line.
        let _ = writeln!(io::stderr(), "{}", escape::page(line));
    }
}

/// Prints text in the place of everything on the terminal. Without a terminal, it prints below the earlier text.
///
/// # Errors
/// When standard output is closed or full.
pub(super) fn screen(page: &str) -> Result<(), Failure> {
    let clear = if io::stdout().is_terminal() { "\x1b[H\x1b[2J" } else { "" };
    text(&format!("{clear}{}\n", escape::page(page)))
}

/// Makes a table without lines, as kubectl prints them.
pub(super) fn table(head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled).set_header(head.to_vec());
    for row in rows {
        table.add_row(row.iter().map(|cell| escape::line(cell)));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 3));
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

/// Makes aligned lines of `name  value`.
pub(super) fn fields(fields: &[(&str, String)]) -> String {
    let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    fields.iter().map(|(name, value)| format!("{name:width$}  {}", escape::line(value))).collect::<Vec<_>>().join("\n")
}
