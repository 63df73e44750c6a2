//! `claviger backup list` and `claviger backup forget`: both show the backups that count, and the listed snapshots.

use serde::Serialize;

use super::super::{
    Format, Global, KeyringArgs, Site,
    failure::{Exit, Failure, ID_DIGITS, no_backup_counts},
    output,
};
use crate::{
    crypto::Uuid,
    keeper::{self, Forget, Opened},
    keyring::{ledger::ListedBackup, listed_snapshot::ListedSnapshot},
};

#[derive(Serialize)]
struct ListReport {
    format: &'static str,
    uuid: String,
    backups: Vec<ListedReport>,
    snapshots: Vec<SnapshotReport>,
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

#[derive(Serialize)]
struct SnapshotReport {
    /// The SHA-256 of its bytes.
    sha256: String,
    revision: u64,
    /// The keys of this keyring that it needs.
    keys: Vec<String>,
    checked: String,
    file: Option<String>,
}

/// Shows the backups that count, and the listed snapshots.
///
/// # Errors
/// When the keyring does not open.
pub(super) fn run(keyring: KeyringArgs, global: &Global) -> Result<Exit, Failure> {
    let site = Site::find(keyring.settings(), global)?;
    print(&site.open()?, global)
}

/// Removes the backup or snapshot with the ID `backup` from the ledger, or begins an empty ledger of the keyring `all`.
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
        snapshots: opened.snapshots().unwrap_or_default().iter().map(snapshot_report).collect(),
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

fn snapshot_report(snapshot: &ListedSnapshot) -> SnapshotReport {
    SnapshotReport {
        sha256: snapshot.sha256().to_hex(),
        revision: snapshot.revision(),
        keys: snapshot.keys().iter().map(ToString::to_string).collect(),
        checked: snapshot.checked().to_string(),
        file: snapshot.file().map(ToOwned::to_owned),
    }
}

/// How a key comes to be in a listed backup.
const CREATE: &str = "claviger backup create FILE, or open one that has";

fn text(report: &ListReport) -> String {
    let table = match report.backups.as_slice() {
        [] => "no backup is listed".to_owned(),
        backups => {
            let head = ["ID", "GENERATION", "KEYS", "WRITTEN", "CHECKED", "FILE"];
            output::table(&head, backups.iter().map(cells))
        }
    };
    let error = report.error.iter().map(|error| format!("! {}", no_backup_counts(error, &report.uuid)));
    let unbacked = match report.unbacked.as_slice() {
        [] => None,
        [key] => Some(format!("! {key} is in no listed backup: {CREATE} it: claviger backup check FILE")),
        keys => {
            Some(format!("! {} are in no listed backup: {CREATE} them: claviger backup check FILE", keys.join(" and ")))
        }
    };
    let snapshots = (!report.snapshots.is_empty()).then(|| {
        let head = ["ID", "REVISION", "NEEDS", "CHECKED", "SNAPSHOT"];
        output::table(&head, report.snapshots.iter().map(snapshot_cells))
    });
    [table].into_iter().chain(snapshots).chain(error).chain(unbacked).collect::<Vec<_>>().join("\n\n")
}

fn cells(backup: &ListedReport) -> Vec<String> {
    let (id, generation) = (id(&backup.record), backup.generation.to_string());
    let keys = numbers(&backup.keys);
    vec![id, generation, keys, dash(backup.written.as_ref()), dash(backup.checked.as_ref()), dash(backup.file.as_ref())]
}

fn snapshot_cells(snapshot: &SnapshotReport) -> Vec<String> {
    let (id, revision) = (id(&snapshot.sha256), snapshot.revision.to_string());
    vec![id, revision, numbers(&snapshot.keys), snapshot.checked.clone(), dash(snapshot.file.as_ref())]
}

fn id(digest: &str) -> String {
    digest.chars().take(ID_DIGITS).collect()
}

/// The numbers of keys, as in "k1 k2".
fn numbers(keys: &[String]) -> String {
    keys.iter().filter_map(|key| key.split('-').next()).collect::<Vec<_>>().join(" ")
}

fn dash(text: Option<&String>) -> String {
    text.cloned().unwrap_or_else(|| "-".to_owned())
}
