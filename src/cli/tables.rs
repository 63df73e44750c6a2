//! The table of keys, and the words for a number of things, that several verbs show.

use std::collections::BTreeMap;

use serde::Serialize;

use super::output;
use crate::keyring::{Entry, Keyring};

/// One key or tomb, in JSON and in text.
#[derive(Serialize)]
pub(super) struct KeyRow {
    key_id: String,
    pub(super) state: &'static str,
    /// Whether others may know the key.
    compromised: bool,
    created: Option<String>,
    promoted: Option<String>,
    demoted: Option<String>,
    destroyed_generation: Option<u64>,
}

/// One row for each key and each tomb, in the record's order.
pub(super) fn key_rows(keyring: &Keyring) -> Vec<KeyRow> {
    keyring.entries().iter().map(key_row).collect()
}

pub(super) fn key_row(entry: &Entry) -> KeyRow {
    let key_id = entry.id().to_string();
    match entry {
        Entry::Key(key) => KeyRow {
            key_id,
            state: key.state().as_str(),
            compromised: key.is_compromised(),
            created: Some(key.created().to_string()),
            promoted: key.promoted().map(|time| time.to_string()),
            demoted: key.demoted().map(|time| time.to_string()),
            destroyed_generation: None,
        },
        Entry::Tomb(tomb) => KeyRow {
            key_id,
            state: "destroyed",
            compromised: false,
            created: None,
            promoted: None,
            demoted: None,
            destroyed_generation: Some(tomb.destroyed()),
        },
    }
}

/// The rows as a table for people. `unwrapped` says how many seeds each key has unwrapped in a running plugin, if that
/// is known.
pub(super) fn key_table(rows: &[KeyRow], unwrapped: Option<&BTreeMap<String, u64>>) -> String {
    let cell = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
    let cells = |row: &KeyRow| {
        let compromised = if row.compromised { ", compromised" } else { "" };
        let state = format!("{}{compromised}", row.state);
        let mut cells = vec![row.key_id.clone(), state, cell(&row.created), cell(&row.promoted)];
        cells.extend(unwrapped.map(|unwrapped| unwrapped.get(&row.key_id).unwrap_or(&0).to_string()));
        cells
    };
    let head = ["KEY", "STATE", "CREATED", "PROMOTED", "UNWRAPS"];
    let head = if unwrapped.is_some() { &head[..] } else { &head[..4] };
    output::table(head, rows.iter().map(cells))
}

/// Returns the number with its noun, as in "1 key" and "2 keys".
pub(super) fn counted(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}
