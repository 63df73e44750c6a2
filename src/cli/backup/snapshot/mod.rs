//! `claviger backup check --snapshot`: can this snapshot of etcd be restored with these keys?

mod answer;
mod text;

use std::path::PathBuf;

use super::{
    super::{
        Format, Global,
        at_hand::{GivenBackups, StateDirUse},
        failure::{Exit, Failure},
        needed, output,
        tables::terminal_width,
    },
    check_args::CheckArgs,
};
use crate::config::Settings;

use self::answer::SnapshotAnswer;

/// Reads the snapshot, and says which of its objects the given keys open.
///
/// # Errors
/// When a keyring does not open, or the snapshot cannot be read at all.
pub(super) fn run(args: CheckArgs, global: &Global) -> Result<Exit, Failure> {
    let CheckArgs { backups, snapshot, identity, socket, keyring } = args;
    let is_named = keyring.has_state_dir();
    let settings = Settings { socket: socket.socket, etcd_prefix: snapshot.etcd_prefix, ..keyring.settings() };
    let file: PathBuf = snapshot.snapshot.unwrap_or_default();
    let or = "or give a backup: claviger backup check FILE";
    let given = GivenBackups { files: backups, identity, is_named, state_dir: StateDirUse::IfThere, or };
    let config = global.config(settings)?;
    let prefix = needed::snapshot_prefix(&config)?;
    let at_hand = given.open(config)?;
    let needs = needed::in_snapshot(&file, &prefix, global)?;
    let answer = SnapshotAnswer::of(&needs, &at_hand.held, &file);
    print(&answer, global)?;
    Ok(answer.exit())
}

fn print(answer: &SnapshotAnswer, global: &Global) -> Result<(), Failure> {
    if global.output == Format::Json {
        return Ok(output::json(answer)?);
    }
    output::headline(&text::headline(answer), answer.exit() == Exit::Done)?;
    output::text_line(&text::body(answer, terminal_width()))?;
    let hints: Vec<String> = text::hints(answer).iter().map(|hint| format!("hint:  {hint}")).collect();
    if !hints.is_empty() {
        output::advice(&format!("\n{}", hints.join("\n")), global)?;
    }
    Ok(())
}
