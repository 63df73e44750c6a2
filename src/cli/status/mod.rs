//! `claviger status`: asks the running plugin first and reads the disk then, because the plugin may serve while the
//! disk is lost.

mod connections;
mod disk;
mod findings;
mod missing;
mod report;
mod text;

use std::{thread, time::Duration};

use clap::Args;

use crate::config::{Backups, Settings};

use self::{disk::Disk, report::StatusReport, text::text};
use super::{
    Format, Global, KeyringArgs, Socket,
    failure::{Exit, Failure},
    output::{self, OutputError},
    probe::probe_plugin,
    tables::terminal_width,
};

/// How long `--watch` waits before it updates the screen.
const WATCH: Duration = Duration::from_secs(1);

/// Show the keyring, its keys, slots and recovery recipients, and whether the plugin answers
///
/// Exits with 1 if something needs attention, and says what. If the keyring on the disk does not open while the plugin
/// serves it from memory, the command says so, and exits with the code of the disk's error.
///
/// For each API server, the command shows when it was TOLD the key, when it was first answered with the key (IN USE;
/// `earlier` is before it connected), and when it had CONFIRMED the key by two calls of Status. It writes under the key
/// from the time when it is in use. A key that is not confirmed may still be in use.
#[derive(Args)]
#[command(after_help = "\
Examples:
  claviger status --watch
  claviger status --output json | jq .plugin")]
pub(super) struct StatusArgs {
    #[command(flatten)]
    keyring: KeyringArgs,
    #[command(flatten)]
    socket: Socket,
    /// Whether a listed backup has to hold each key in use, or whether you keep none, on purpose [default: listed]
    #[arg(long, value_enum, value_name = "BACKUPS")]
    backups: Option<Backups>,
    /// Update the screen every second
    #[arg(long)]
    watch: bool,
}

/// Runs `claviger status`.
///
/// # Errors
/// When the keyring does not open. If the plugin answers nevertheless, the report is printed first.
pub(super) fn run(args: StatusArgs, global: &Global) -> Result<Exit, Failure> {
    let StatusArgs { keyring, socket, backups, watch } = args;
    let config = global.config(Settings { socket: socket.socket, backups, ..keyring.settings() })?;
    let mut disk = Disk::default();
    loop {
        let answer = probe_plugin(&config)?;
        let opened = disk.open(&config);
        // A slot may take seconds to open, and the plugin opens the same one when it starts.
        let answer = if answer.is_err() && opened.is_ok() { probe_plugin(&config)? } else { answer };
        let (report, outcome) = match (opened, answer) {
            (Err(error), Err(_)) => return Err(error.failure),
            (Err(error), answer) => {
                let report = StatusReport::of(&config, Err(&error), answer);
                (report, Err(error.with_plugin()))
            }
            (Ok(opened), answer) => {
                let report = StatusReport::of(&config, Ok(opened), answer);
                let exit = if report.findings.is_empty() { Exit::Done } else { Exit::Found };
                (report, Ok(exit))
            }
        };
        show(&report, watch, global)?;
        if !watch {
            return outcome;
        }
        thread::sleep(WATCH);
    }
}

/// Prints the report. If it stays on the screen, it replaces what was printed before.
fn show(report: &StatusReport, stays: bool, global: &Global) -> Result<(), OutputError> {
    if global.output == Format::Json {
        return output::json(report);
    }
    let page = text(report, terminal_width());
    let page = global.given.repeat_in(&page);
    if stays { output::screen(&page) } else { output::text_line(&page) }
}
