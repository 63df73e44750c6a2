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
use tokio::runtime::Runtime;

use crate::{
    config::{Backups, Config, Settings},
    keeper::Opened,
    probe::{ProbeAnswer, ProbeError},
};

use self::{disk::Disk, report::StatusReport, text::text};
use super::{
    Format, Global, KeyringArgs, Socket,
    failure::{Exit, Failure},
    live::ServesFrom,
    output::{self, OutputError},
    probe::probe_plugin,
    runtime::event_loop,
    tables::terminal_width,
};

/// The time between two updates of the screen with `--watch`.
const WATCH: Duration = Duration::from_secs(1);

/// The longest time that a plugin needs to notice a change of the keyring. It looks four times a second.
const CATCH_UP: Duration = Duration::from_millis(1500);

/// Show the keyring, its keys, slots and recovery recipients, and whether the plugin answers
///
/// Exits with 1 if something needs attention, and says what. If the keyring on the disk does not open while the plugin
/// serves it from memory, the command says so, and exits with the code of the disk's error.
///
/// For each API server, the command shows when the key was ANNOUNCED to it, when it was first answered with the key (IN
/// USE; `earlier` is before it connected), and when it had ADOPTED the key, by two calls of Status. It writes under the
/// key from the time when the key is in use. A key that is not adopted may still be in use.
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
    let (runtime, mut disk) = (event_loop()?, Disk::default());
    loop {
        let answer = probe_plugin(&runtime, &config);
        let opened = disk.open(&config);
        // A slot may take seconds to open, and the plugin opens the same slot when it starts.
        let answer = if answer.is_err() && opened.is_ok() { probe_plugin(&runtime, &config) } else { answer };
        let is_behind = opened.as_ref().is_ok_and(|disk| is_behind(&config, disk.opened, answer.as_ref().ok()));
        let answer = if is_behind { catch_up(&runtime, &config) } else { answer };
        let (report, outcome) = match (opened, answer) {
            (Err(error), Err(_)) => return Err(error.failure),
            (Err(error), answer) => {
                let report = StatusReport::of(&config, Err(&error), answer);
                (report, Err(error.with_plugin()))
            }
            (Ok(disk), answer) => {
                let report = StatusReport::of(&config, Ok(&disk), answer);
                let exit = if report.findings.is_empty() { Exit::Done } else { Exit::Found };
                (report, Ok(exit))
            }
        };
        show(report, watch, global)?;
        if !watch {
            return outcome;
        }
        thread::sleep(WATCH);
    }
}

/// Whether the plugin may not have noticed the keyring on the disk yet: it serves another generation without a reason,
/// or it could not read its directory, which opens now.
fn is_behind(config: &Config, opened: &Opened, answer: Option<&ProbeAnswer>) -> bool {
    let report = answer.and_then(|answer| answer.report.as_ref());
    report.is_some_and(|report| {
        let is_same = report.keyring.as_ref() == Some(&opened.keyring.uuid().to_hex());
        let differs = report.generation != opened.keyring.generation();
        let is_here = matches!(ServesFrom::of(report, &config.state_dir), ServesFrom::Here | ServesFrom::Unknown);
        is_same && if report.degraded.is_some() { is_here } else { differs }
    })
}

/// Asks the plugin again after it had the time to look at the disk, which it does four times a second.
fn catch_up(runtime: &Runtime, config: &Config) -> Result<ProbeAnswer, ProbeError> {
    thread::sleep(CATCH_UP);
    probe_plugin(runtime, config)
}

/// Prints the report. With `stays`, replaces the earlier report on the screen.
fn show(mut report: StatusReport, stays: bool, global: &Global) -> Result<(), OutputError> {
    let given = if report.is_socket_wrong { global.given.at_unknown_socket() } else { global.given.clone() };
    if global.output == Format::Json {
        report.findings.iter_mut().for_each(|finding| *finding = given.repeat_in(finding).into_owned());
        return output::json(&report);
    }
    let page = text(&report, terminal_width());
    let page = given.repeat_in(&page);
    if stays { output::screen(&page) } else { output::text_line(&page) }
}
