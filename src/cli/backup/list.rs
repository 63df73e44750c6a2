//! `claviger backup list` and `claviger backup forget`: both show the backups that count, and the listed snapshots.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::super::{
    Format, Global, KeyringArgs, Site,
    failure::{Exit, Failure, ID_DIGITS, no_backup_counts},
    output,
    tables::all_of,
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
    /// The keys and tombs of the keyring here.
    #[serde(skip)]
    here: Vec<String>,
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
        here: opened.keyring.entries().iter().map(|entry| entry.id().to_string()).collect(),
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
    let names = KeyNames::of(report);
    let table = match report.backups.as_slice() {
        [] => "no backup is listed".to_owned(),
        backups => {
            let head = ["ID", "GENERATION", "KEYS", "WRITTEN", "CHECKED", "FILE"];
            output::table(&head, backups.iter().map(|backup| cells(backup, &names)))
        }
    };
    let error = report.error.iter().map(|error| format!("! {}", no_backup_counts(error, &report.uuid)));
    let unbacked = match report.unbacked.as_slice() {
        [] => None,
        [key] => Some(format!("! {key} is in no listed backup: {CREATE} it: claviger backup check FILE")),
        keys => Some(format!("! {} are in no listed backup: {CREATE} them: claviger backup check FILE", all_of(keys))),
    };
    let snapshots = (!report.snapshots.is_empty()).then(|| {
        let head = ["ID", "REVISION", "NEEDS", "CHECKED", "SNAPSHOT"];
        output::table(&head, report.snapshots.iter().map(|snapshot| snapshot_cells(snapshot, &names)))
    });
    [table].into_iter().chain(snapshots).chain(error).chain(unbacked).collect::<Vec<_>>().join("\n\n")
}

fn cells(backup: &ListedReport, names: &KeyNames<'_>) -> Vec<String> {
    let (id, generation) = (id(&backup.record), backup.generation.to_string());
    let keys = names.short(&backup.keys);
    vec![id, generation, keys, dash(backup.written.as_ref()), dash(backup.checked.as_ref()), dash(backup.file.as_ref())]
}

fn snapshot_cells(snapshot: &SnapshotReport, names: &KeyNames<'_>) -> Vec<String> {
    let (id, revision) = (id(&snapshot.sha256), snapshot.revision.to_string());
    vec![id, revision, names.short(&snapshot.keys), snapshot.checked.clone(), dash(snapshot.file.as_ref())]
}

fn id(digest: &str) -> String {
    digest.chars().take(ID_DIGITS).collect()
}

/// The key_ids of a list, and of the keyring, by their numbers.
struct KeyNames<'r>(BTreeMap<&'r str, BTreeSet<&'r str>>);

impl<'r> KeyNames<'r> {
    fn of(report: &'r ListReport) -> Self {
        let listed = report.backups.iter().map(|backup| &backup.keys);
        let needed = report.snapshots.iter().map(|snapshot| &snapshot.keys);
        let mut names = BTreeMap::<_, BTreeSet<_>>::new();
        for key_id in listed.chain(needed).chain([&report.here]).flatten() {
            names.entry(number(key_id)).or_default().insert(key_id.as_str());
        }
        Self(names)
    }

    /// Returns the numbers of keys, as in "k1 k2". Twins may have made keys of the same number: those are named in
    /// full.
    fn short(&self, keys: &'r [String]) -> String {
        let short = |key_id: &'r String| {
            let is_one = self.0.get(number(key_id)).is_none_or(|names| names.len() == 1);
            if is_one { number(key_id) } else { key_id }
        };
        keys.iter().map(short).collect::<Vec<_>>().join(" ")
    }
}

fn number(key_id: &str) -> &str {
    key_id.split('-').next().unwrap_or(key_id)
}

fn dash(text: Option<&String>) -> String {
    text.cloned().unwrap_or_else(|| "-".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_the_same_number_are_named_in_full() {
        let backup = |keys: &[&str]| ListedReport {
            record: "ab".repeat(32),
            generation: 3,
            keys: keys.iter().map(ToString::to_string).collect(),
            written: None,
            checked: None,
            file: None,
        };
        let report = ListReport {
            format: "",
            uuid: String::new(),
            backups: vec![backup(&["k1-aa", "k3-bb"]), backup(&["k1-aa", "k2-cc"])],
            snapshots: Vec::new(),
            unbacked: Vec::new(),
            error: None,
            here: vec!["k1-aa".to_owned(), "k3-dd".to_owned()],
        };
        let text = text(&report);
        assert!(text.contains(" k1 k3-bb ") && text.contains(" k1 k2 "), "{text}");
    }
}
