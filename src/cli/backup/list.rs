//! `claviger backup list` and `claviger backup forget`: both show the backups that count.

use serde::Serialize;

use super::super::{
    Format, Global, KeyringArgs, Site,
    failure::{Exit, Failure, no_backup_counts},
    output,
};
use crate::{
    crypto::Uuid,
    keeper::{self, Forget, Opened},
    keyring::ledger::ListedBackup,
};

#[derive(Serialize)]
struct ListReport {
    format: &'static str,
    uuid: String,
    backups: Vec<ListedReport>,
    /// The keys that no listed backup contains.
    unbacked: Vec<String>,
    /// Why the ledger cannot be used.
    error: Option<String>,
}

#[derive(Serialize)]
struct ListedReport {
    /// The SHA-256 of its record.
    record: String,
    generation: u64,
    keys: Vec<String>,
    written: Option<String>,
    checked: Option<String>,
    file: Option<String>,
}

/// Shows the backups that count.
///
/// # Errors
/// When the keyring does not open.
pub(super) fn run(keyring: KeyringArgs, global: &Global) -> Result<Exit, Failure> {
    let site = Site::find(keyring.settings(), global)?;
    print(&site.open()?, global)
}

/// Removes the backup with the ID `backup` from the ledger, or begins an empty ledger of the keyring `all`.
///
/// # Errors
/// When the keyring does not open, no such backup is listed, or the ledger cannot be written.
pub(super) fn forget(
    backup: Option<String>,
    all: Option<Uuid>,
    keyring: KeyringArgs,
    global: &Global,
) -> Result<Exit, Failure> {
    let site = Site::find(keyring.settings(), global)?;
    let forget = match (all, backup) {
        (Some(uuid), _) => Forget::All(uuid),
        (None, backup) => Forget::One(backup.unwrap_or_default()),
    };
    let opened = keeper::forget_backups(&site.dir, &site.means, &forget)?;
    print(&opened, global)
}

fn print(opened: &Opened, global: &Global) -> Result<Exit, Failure> {
    let report = report(opened);
    match global.output {
        Format::Json => output::json(&report)?,
        Format::Text => output::text_line(&global.given.repeat_in(&text(&report)))?,
    }
    Ok(if report.error.is_some() { Exit::Found } else { Exit::Done })
}

fn report(opened: &Opened) -> ListReport {
    ListReport {
        format: "claviger/backup-list/v1",
        uuid: opened.keyring.uuid().to_hex(),
        backups: opened.backups().unwrap_or_default().iter().map(listed_report).collect(),
        unbacked: opened.unbacked().iter().map(ToString::to_string).collect(),
        error: opened.backups().err().map(ToString::to_string),
    }
}

fn listed_report(backup: &ListedBackup) -> ListedReport {
    ListedReport {
        record: backup.record().to_hex(),
        generation: backup.generation(),
        keys: backup.keys().iter().map(ToString::to_string).collect(),
        written: backup.written().map(|time| time.to_string()),
        checked: backup.checked().map(|time| time.to_string()),
        file: backup.file().map(ToOwned::to_owned),
    }
}

fn text(report: &ListReport) -> String {
    let table = match report.backups.as_slice() {
        [] => "no backup is listed".to_owned(),
        backups => {
            let head = ["ID", "GENERATION", "KEYS", "WRITTEN", "CHECKED", "FILE"];
            output::table(&head, backups.iter().map(cells))
        }
    };
    let error = report.error.iter().map(|error| format!("! {}", no_backup_counts(error, &report.uuid)));
    let unbacked = report.unbacked.iter().map(|key| {
        format!(
            "! {key} is in no listed backup: claviger backup create FILE, or open one that has it: claviger backup check FILE"
        )
    });
    [table].into_iter().chain(error).chain(unbacked).collect::<Vec<_>>().join("\n\n")
}

/// How many digits name a backup: enough to distinguish those of one ledger.
const ID_DIGITS: usize = 12;

fn cells(backup: &ListedReport) -> Vec<String> {
    let dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let keys: Vec<&str> = backup.keys.iter().filter_map(|key| key.split('-').next()).collect();
    let id = backup.record.chars().take(ID_DIGITS).collect();
    let (generation, keys) = (backup.generation.to_string(), keys.join(" "));
    vec![id, generation, keys, dash(&backup.written), dash(&backup.checked), dash(&backup.file)]
}
