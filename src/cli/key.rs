//! `claviger key`

use clap::{Args, Subcommand};
use serde::Serialize;

use crate::{
    config::Settings,
    keyring::{Entry, Keyring},
};

use super::{
    Format, Global, StateDir,
    failure::{Exit, Failure},
    open, output,
};

/// Look at the keys of the keyring
#[derive(Args)]
pub(super) struct KeyArgs {
    #[command(subcommand)]
    verb: KeyVerb,
}

#[derive(Subcommand)]
enum KeyVerb {
    /// List the keys, and the tombs of destroyed ones
    #[command(after_help = "\
Example:
  claviger key list --output json")]
    List(StateDir),
}

/// A row of the table, in JSON and in text.
#[derive(Serialize)]
pub(super) struct Row {
    key_id: String,
    state: &'static str,
    created: Option<String>,
    promoted: Option<String>,
    demoted: Option<String>,
    destroyed_generation: Option<u64>,
}

#[derive(Serialize)]
struct Report {
    format: &'static str,
    uuid: String,
    generation: u64,
    keys: Vec<Row>,
}

/// Runs `claviger key …`.
///
/// # Errors
/// When the keyring does not open.
pub(super) fn run(args: KeyArgs, global: &Global) -> Result<Exit, Failure> {
    let KeyVerb::List(StateDir { state_dir }) = args.verb;
    let keyring = open(&global.config(Settings { state_dir, ..Settings::default() })?)?.keyring;
    match global.output {
        Format::Text => output::text_line(&table(&rows(&keyring)))?,
        Format::Json => output::json(&Report {
            format: "claviger/key-list/v1",
            uuid: keyring.uuid().to_hex(),
            generation: keyring.generation(),
            keys: rows(&keyring),
        })?,
    }
    Ok(Exit::Done)
}

/// Keys and tombs, in the record's order.
pub(super) fn rows(keyring: &Keyring) -> Vec<Row> {
    keyring.entries().iter().map(row).collect()
}

fn row(entry: &Entry) -> Row {
    let key_id = entry.id().to_string();
    match entry {
        Entry::Key(key) => Row {
            key_id,
            state: key.state().as_str(),
            created: Some(key.created().to_string()),
            promoted: key.promoted().map(|time| time.to_string()),
            demoted: key.demoted().map(|time| time.to_string()),
            destroyed_generation: None,
        },
        Entry::Tomb(tomb) => Row {
            key_id,
            state: "destroyed",
            created: None,
            promoted: None,
            demoted: None,
            destroyed_generation: Some(tomb.destroyed()),
        },
    }
}

/// The rows for people.
pub(super) fn table(rows: &[Row]) -> String {
    let cell = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
    let cells = |row: &Row| vec![row.key_id.clone(), row.state.to_owned(), cell(&row.created), cell(&row.promoted)];
    output::table(&["KEY", "STATE", "CREATED", "PROMOTED"], rows.iter().map(cells))
}
