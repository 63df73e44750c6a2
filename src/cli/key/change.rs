//! Prints the change that a verb of `claviger key` has made, as a line for people or as JSON.

use serde::Serialize;

use crate::{
    cli::{
        Format, Global,
        backup_file::create_command,
        failure::Exit,
        output::{self, OutputError},
        tables::{KeyRow, key_row},
    },
    keeper::{Changed, Expect},
};

#[derive(Serialize)]
struct ChangeReport<'a> {
    format: &'static str,
    uuid: String,
    generation: u64,
    key: KeyRow,
    expect: String,
    /// The keys in etcd of the objects that stay although the key was given up.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    left: &'a [String],
}

/// Prints the change and the next step, and returns the exit code.
pub(super) fn end(changed: &Changed, next: Option<&str>, global: &Global) -> Exit {
    report_change(changed, next, global);
    Exit::Done
}

pub(super) fn report_change(changed: &Changed, next: Option<&str>, global: &Global) {
    output::end_change(report(changed, next, global), global);
}

fn report(changed: &Changed, next: Option<&str>, global: &Global) -> Result<(), OutputError> {
    let Changed { keyring, digest, key_id, left } = changed;
    let Some(row) = keyring.entries().iter().find(|entry| entry.id() == *key_id).map(key_row) else { return Ok(()) };
    if global.output == Format::Json {
        return output::json(&ChangeReport {
            format: "claviger/key-change/v1",
            uuid: keyring.uuid().to_hex(),
            generation: keyring.generation(),
            key: row,
            expect: Expect::of(keyring, *digest).to_string(),
            left,
        });
    }
    output::text_line(&format!("{key_id} is {} (generation {})", row.state, keyring.generation()))?;
    let Some(next) = next else { return Ok(()) };
    let next = next.replace(KEY, &key_id.to_string()).replace(CREATE, create_command(keyring));
    output::advice(&next, global)
}

/// The placeholder in an advice that is replaced by the key_id.
const KEY: &str = "KEY_ID";

/// The placeholder in an advice that is replaced by the command that makes a backup of this keyring.
pub(super) const CREATE: &str = "claviger backup create FILE";
