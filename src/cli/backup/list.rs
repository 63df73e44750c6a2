//! `claviger backup list` and `claviger backup forget`: both show the backups that count, and the listed snapshots.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::super::{
    Format, Global, KeyringArgs, Site,
    backup_file::create_command,
    failure::{Exit, Failure, ID_DIGITS, no_backup_counts},
    output,
    tables::{all_of, date, fitting, terminal_width},
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
    /// The reason why the ledger cannot be used.
    error: Option<String>,
    /// The same reason, with a hint.
    #[serde(skip)]
    advice: Option<String>,
    /// The key_ids of the keys and tombs of the keyring here.
    #[serde(skip)]
    here: Vec<String>,
    /// The command that makes a backup of this keyring.
    #[serde(skip)]
    create: &'static str,
}

#[derive(Serialize)]
struct ListedReport {
    /// The SHA-256 of the backup's record, in hex.
    record: String,
    generation: u64,
    keys: Vec<String>,
    written: Option<String>,
    checked: Option<String>,
    file: Option<String>,
}

#[derive(Serialize)]
struct SnapshotReport {
    /// The SHA-256 of the snapshot's bytes, in hex.
    sha256: String,
    revision: u64,
    /// The keys of this keyring that the snapshot needs.
    keys: Vec<String>,
    checked: String,
    file: Option<String>,
}

/// Prints the listed backups and snapshots.
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
        Format::Text => output::text_line(&global.given.repeat_in(&text(&report, terminal_width())))?,
    }
    Ok(if report.error.is_some() { Exit::Found } else { Exit::Done })
}

fn report(opened: &Opened) -> ListReport {
    let (error, uuid) = (opened.backups().err(), opened.keyring.uuid().to_hex());
    ListReport {
        format: "claviger/backup-list/v1",
        advice: error.map(|error| no_backup_counts(error, &uuid)),
        uuid,
        backups: opened.backups().unwrap_or_default().iter().map(listed_report).collect(),
        snapshots: opened.snapshots().unwrap_or_default().iter().map(snapshot_report).collect(),
        unbacked: opened.unbacked().iter().map(ToString::to_string).collect(),
        error: error.map(ToString::to_string),
        here: opened.keyring.entries().iter().map(|entry| entry.id().to_string()).collect(),
        create: create_command(&opened.keyring),
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

/// The layout of the tables of backups and snapshots. The ID is never cut, because `forget` takes it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ListLayout {
    /// Shows the times when a backup was written and checked.
    Times,
    /// Shows only the dates.
    Dates,
    /// Shows each entry in several lines, below its ID.
    Stacked,
}

/// The layouts, from the widest to the narrowest.
const LAYOUTS: [ListLayout; 3] = [ListLayout::Times, ListLayout::Dates, ListLayout::Stacked];

/// Returns the tables for a terminal of `width` columns.
fn text(report: &ListReport, width: Option<usize>) -> String {
    if let Some(advice) = &report.advice {
        return format!("the ledger was not read\n\n! {advice}");
    }
    let names = KeyNames::of(report);
    let table = match report.backups.as_slice() {
        [] => "no backup is listed".to_owned(),
        backups => {
            let head = ["ID", "GENERATION", "KEYS", "WRITTEN", "CHECKED", "FILE"];
            let table = |layout| fitted(layout, &head, backups.iter().map(|backup| cells(backup, &names)));
            fitting(width, LAYOUTS.map(|layout| move || table(layout)))
        }
    };
    let create = report.create;
    let unbacked = match report.unbacked.as_slice() {
        [] => None,
        [key] => Some(format!(
            "! {key} is in no listed backup: {create}, or open one that has it: claviger backup check FILE"
        )),
        keys => Some(format!(
            "! {} are in no listed backup: {create}, or open one that has them: claviger backup check FILE",
            all_of(keys)
        )),
    };
    let snapshots = (!report.snapshots.is_empty()).then(|| {
        let head = ["ID", "REVISION", "NEEDS", "CHECKED", "SNAPSHOT"];
        let rows = || report.snapshots.iter().map(|snapshot| snapshot_cells(snapshot, &names));
        let table = |layout| fitted(layout, &head, rows());
        fitting(width, LAYOUTS.map(|layout| move || table(layout)))
    });
    [table].into_iter().chain(snapshots).chain(unbacked).collect::<Vec<_>>().join("\n\n")
}

fn fitted<const N: usize>(layout: ListLayout, head: &[&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let is_time = |head: &str| ["WRITTEN", "CHECKED"].contains(&head);
    let short = |row: [String; N]| {
        let cells = row.into_iter().zip(head);
        cells.map(|(cell, head)| if is_time(head) { date(&cell).to_owned() } else { cell }).collect::<Vec<_>>()
    };
    match layout {
        ListLayout::Times => output::table(head, rows.map(|row| row.to_vec())),
        ListLayout::Dates => output::table(head, rows.map(short)),
        ListLayout::Stacked => rows.map(|row| stacked(head, &short(row))).collect::<Vec<_>>().join("\n"),
    }
}

/// Shows an entry in several lines. They fit 60 columns, unless the path is longer.
fn stacked(head: &[&str], row: &[String]) -> String {
    let below = head.iter().zip(row).skip(1).filter(|(_, cell)| *cell != "-");
    let below = below.map(|(head, cell)| format!("\n  {:<10}  {cell}", head.to_lowercase()));
    row[0].clone() + &below.collect::<String>()
}

fn cells(backup: &ListedReport, names: &KeyNames<'_>) -> [String; 6] {
    let (id, generation) = (id(&backup.record), backup.generation.to_string());
    let keys = names.short(&backup.keys);
    [id, generation, keys, dash(backup.written.as_ref()), dash(backup.checked.as_ref()), dash(backup.file.as_ref())]
}

fn snapshot_cells(snapshot: &SnapshotReport, names: &KeyNames<'_>) -> [String; 5] {
    let (id, revision) = (id(&snapshot.sha256), snapshot.revision.to_string());
    [id, revision, names.short(&snapshot.keys), snapshot.checked.clone(), dash(snapshot.file.as_ref())]
}

fn id(digest: &str) -> String {
    digest.chars().take(ID_DIGITS).collect()
}

/// The key_ids in the list and in the keyring, by the numbers of the keys.
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

    /// Returns the numbers of keys, as in "k1 k2". If forks have made two keys of the same number, returns their whole
    /// key_ids.
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

    fn backup(keys: &[&str]) -> ListedReport {
        ListedReport {
            record: "ab".repeat(32),
            generation: 3,
            keys: keys.iter().map(ToString::to_string).collect(),
            written: None,
            checked: None,
            file: None,
        }
    }

    fn listing(backups: Vec<ListedReport>) -> ListReport {
        ListReport {
            format: "",
            uuid: String::new(),
            backups,
            snapshots: Vec::new(),
            unbacked: Vec::new(),
            error: None,
            advice: None,
            here: vec!["k1-aa".to_owned(), "k3-dd".to_owned()],
            create: "",
        }
    }

    #[test]
    fn keys_of_the_same_number_are_named_in_full() {
        let text = text(&listing(vec![backup(&["k1-aa", "k3-bb"]), backup(&["k1-aa", "k2-cc"])]), None);
        assert!(text.contains(" k1 k3-bb ") && text.contains(" k1 k2 "), "{text}");
    }

    #[test]
    fn the_list_fits_the_terminal_and_is_whole_in_a_file() {
        let time = || Some("2026-11-27T17:22:41Z".to_owned());
        let file = Some("/media/usb/claviger.age".to_owned());
        let listed = ListedReport { written: time(), checked: time(), file, ..backup(&["k1-aa", "k2-bb"]) };
        let snapshot = SnapshotReport {
            sha256: "cd".repeat(32),
            revision: 1234,
            keys: vec!["k1-aa".to_owned()],
            checked: "2026-11-27T17:22:41Z".to_owned(),
            file: Some("/media/usb2/etcd-2026-11-27.db".to_owned()),
        };
        let report = ListReport { snapshots: vec![snapshot], ..listing(vec![listed]) };
        for width in [60, 80, 100] {
            let text = text(&report, Some(width));
            let widest = text.lines().map(|line| line.chars().count()).max().unwrap();
            assert!(widest <= width, "{widest} columns of {width}:\n{text}");
            assert!(text.contains(&"ab".repeat(6)) && text.contains("/media/usb/claviger.age"), "{text}");
        }
        assert!(text(&report, None).contains("2026-11-27T17:22:41Z   /media/usb/claviger.age"));
        let expected = "\
abababababab
  generation  3
  keys        k1 k2
  written     2026-11-27
  checked     2026-11-27
  file        /media/usb/claviger.age

cdcdcdcdcdcd
  revision    1234
  needs       k1
  checked     2026-11-27
  snapshot    /media/usb2/etcd-2026-11-27.db";
        assert_eq!(text(&report, Some(60)), expected);
    }
}
