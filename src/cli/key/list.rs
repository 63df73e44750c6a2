//! `claviger key list`: prints the keys of the keyring with their states.

use serde::Serialize;

use crate::cli::{
    Format, Global, KeyringArgs, Site,
    failure::{Exit, Failure},
    output,
    tables::{KeyRow, fitting_key_table, key_rows, terminal_width},
};

#[derive(Serialize)]
struct KeyListReport {
    format: &'static str,
    uuid: String,
    generation: u64,
    keys: Vec<KeyRow>,
}

pub(super) fn list(keyring: KeyringArgs, global: &Global) -> Result<Exit, Failure> {
    let keyring = Site::find(keyring.settings(), global)?.open()?.keyring;
    match global.output {
        Format::Text => {
            output::text_line(&fitting_key_table(&key_rows(&keyring), None, terminal_width()))?;
        }
        Format::Json => output::json(&KeyListReport {
            format: "claviger/key-list/v1",
            uuid: keyring.uuid().to_hex(),
            generation: keyring.generation(),
            keys: key_rows(&keyring),
        })?,
    }
    Ok(Exit::Done)
}
