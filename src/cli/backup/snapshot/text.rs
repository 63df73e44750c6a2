//! The answer for people: a sentence, the needed keys, the keyrings, and what would be lost.

use std::{collections::BTreeSet, path::Path};

use super::{
    super::super::{
        given::quoted,
        output,
        tables::{fitting, short_key_id},
    },
    answer::{KeyAnswer, NeededRow, SnapshotAnswer},
};
use crate::scan::count::Count;

/// Returns the answer in one sentence.
pub(super) fn headline(answer: &SnapshotAnswer) -> String {
    let SnapshotAnswer { objects, lost, incomplete, .. } = answer;
    match (incomplete, lost) {
        (None, 0) => format!("this snapshot can be restored: the keys open all {}", Count(*objects).of("object")),
        (None, _) => format!("{} of {} would be lost", Count(*lost), Count(*objects).of("object")),
        (Some(_), 0) => {
            format!("unknown: the keys open what was read of this snapshot, {}", Count(*objects).of("object"))
        }
        (Some(_), _) => {
            format!("at least {} would be lost, and not all of this snapshot was read", Count(*lost).of("object"))
        }
    }
}

/// Returns the tables, and the objects that would be lost, for a terminal of `width` columns.
pub(super) fn body(answer: &SnapshotAnswer, width: Option<usize>) -> String {
    let fields = output::fields(&[
        ("snapshot", answer.snapshot.clone()),
        ("sha256", answer.sha256.clone()),
        ("revision", answer.revision.to_string()),
        ("plaintext", format!("{}, which need no key", Count(answer.plaintext).of("object"))),
    ]);
    let listed = listed(answer).map(|listed| format!("\n{}", output::fields(&[("listed   ", listed)])));
    let fields = fields + &listed.unwrap_or_default();
    let keys = (!answer.keys.is_empty()).then(|| {
        fitting(
            width,
            [FileNames::Whole, FileNames::Last, FileNames::Stacked].map(|names| move || key_table(answer, names)),
        )
    });
    let keyrings = fitting(
        width,
        [FileNames::Whole, FileNames::Last, FileNames::Stacked].map(|names| move || keyrings(answer, names)),
    );
    let incomplete =
        answer.incomplete.iter().map(|doubts| format!("! the answer is only about what was read: {doubts}"));
    let lost = answer.keys.iter().filter(|row| row.answer.is_lost()).map(lost);
    [fields].into_iter().chain(keys).chain([keyrings]).chain(incomplete).chain(lost).collect::<Vec<_>>().join("\n\n")
}

/// Returns the line that says whether `key destroy` keeps the keys of the snapshot.
fn listed(answer: &SnapshotAnswer) -> Option<String> {
    Some(match (answer.listed?, &answer.not_listed_because) {
        (true, _) if answer.keys.iter().any(|row| row.answer == KeyAnswer::Destroyed) => {
            "yes: `key destroy` keeps those of its keys that are left here until you forget it".to_owned()
        }
        (true, _) if !answer.only_in_backups.is_empty() => {
            let keep = answer.only_in_backups.iter().map(|(key_id, files)| {
                format!("{key_id} is destroyed here, so keep a backup that has it: {}", files.join(" or "))
            });
            format!("yes, but {}", keep.collect::<Vec<_>>().join("; "))
        }
        (true, _) => "yes: `key destroy` keeps the keys that it needs until you forget it".to_owned(),
        (false, Some(reason)) if claviger_keys(answer).all(|row| row.answer.is_lost()) => format!("no: {reason}"),
        (false, reason) => format!("not yet: {}", reason.as_deref().unwrap_or_default()),
    })
}

/// The form of file names in a table.
#[derive(Clone, Copy, PartialEq, Eq)]
enum FileNames {
    /// Whole paths.
    Whole,
    /// File names without their directories.
    Last,
    /// Whole paths, each on a line of its own below its row.
    Stacked,
}

impl FileNames {
    fn show(self, file: &str) -> String {
        let last = Path::new(file).file_name().map(|name| name.to_string_lossy().into_owned());
        if self == Self::Last { last.unwrap_or_else(|| file.to_owned()) } else { file.to_owned() }
    }
}

fn key_table(answer: &SnapshotAnswer, names: FileNames) -> String {
    let cells = |row: &NeededRow| {
        let holders: Vec<String> =
            row.held_by.iter().map(|holder| format!("{} ({})", names.show(&holder.file), holder.state)).collect();
        let start = [key_name(row), Count(row.objects).to_string(), row.answer.as_str().to_owned()];
        (start, holders)
    };
    let rows = answer.keys.iter().map(cells);
    if names == FileNames::Stacked {
        let stacked = rows.map(|([key, objects, answer], holders)| {
            let below = [format!("{objects} objects: {answer}")].into_iter().chain(holders);
            [key].into_iter().chain(below.map(|line| format!("  {line}"))).collect::<Vec<_>>().join("\n")
        });
        return stacked.collect::<Vec<_>>().join("\n");
    }
    let rows = rows.map(|(start, holders)| {
        let holders = if holders.is_empty() { "-".to_owned() } else { holders.join(", ") };
        start.into_iter().chain([holders]).collect()
    });
    output::table(&["NEEDED KEY", "OBJECTS", "ANSWER", "HELD BY"], rows)
}

fn key_name(row: &NeededRow) -> String {
    match (&row.provider, &row.key_id) {
        (Some(provider), Some(key_id)) => format!("{provider} {}", short_key_id(key_id)),
        (Some(provider), None) => provider.clone(),
        (None, key_id) => key_id.clone().unwrap_or_default(),
    }
}

/// The number of digits of a root-id that are shown. It is enough to distinguish root keys.
const ROOT_DIGITS: usize = 12;

fn keyrings(answer: &SnapshotAnswer, names: FileNames) -> String {
    let rows = answer.keyrings.iter().map(|row| {
        let root: String = row.root_id.chars().take(ROOT_DIGITS).collect();
        let holds = format!("{} of {}", row.holds, claviger_keys(answer).count());
        [names.show(&row.file), holds, row.generation.to_string(), root, row.uuid.clone()]
    });
    if names == FileNames::Stacked {
        let stacked = rows.map(|[file, holds, generation, root, uuid]| {
            format!("{file}\n  needed keys: {holds}\n  keyring {uuid}\n  generation {generation}, root key {root}")
        });
        return stacked.collect::<Vec<_>>().join("\n");
    }
    output::table(&["KEYS IN", "NEEDED", "GENERATION", "ROOT KEY", "KEYRING"], rows.map(|row| row.to_vec()))
}

fn claviger_keys(answer: &SnapshotAnswer) -> impl Iterator<Item = &NeededRow> {
    answer.keys.iter().filter(|row| row.provider.is_none() && row.answer != KeyAnswer::Misnamed)
}

/// Returns a line about the objects that would be lost because of one key.
fn lost(row: &NeededRow) -> String {
    let name = key_name(row);
    let why = match row.answer {
        KeyAnswer::Destroyed => format!("{name} was destroyed"),
        KeyAnswer::Misnamed => format!("they name {name}, but are encrypted with another key"),
        KeyAnswer::Foreign => format!("claviger cannot have the key of {name}"),
        KeyAnswer::Missing | KeyAnswer::Held | KeyAnswer::Disabled => format!("no given file has {name}"),
    };
    let first = format!("! {} would be lost: {why}", Count(row.objects).of("object"));
    let left = row.objects.saturating_sub(row.samples.len() as u64);
    let samples = row.samples.iter().map(|sample| format!("  {sample}"));
    let more = (left > 0).then(|| format!("  and {} more", Count(left)));
    [first].into_iter().chain(samples).chain(more).collect::<Vec<_>>().join("\n")
}

/// Returns the hints for the operator.
pub(super) fn hints(answer: &SnapshotAnswer) -> Vec<String> {
    let has = |wanted| answer.keys.iter().find(|row| row.answer == wanted);
    let mut hints = Vec::new();
    if answer.incomplete.is_some() {
        hints.push(
            "take another snapshot, or if the prefix is wrong, give --etcd-prefix; to see the prefixes and what is damaged: \
             claviger scan --snapshot "
                .to_owned()
                + &quoted(&answer.snapshot),
        );
    }
    if has(KeyAnswer::Missing).is_some() {
        hints.push("give every backup and copy of a keyring that may have the missing key: claviger backup check FILE; on a node, this shows which backups have which keys: claviger backup list".to_owned());
    }
    if has(KeyAnswer::Destroyed).is_some() {
        hints.push("a backup from before `key destroy` may still have the key: claviger backup check FILE".to_owned());
    }
    if has(KeyAnswer::Foreign).is_some() {
        hints.push("keep the other plugin, or the EncryptionConfiguration with these keys, beside the snapshot; or put claviger's provider first, re-encrypt, and take another snapshot".to_owned());
    }
    let disabled =
        answer.keys.iter().filter(|row| row.answer == KeyAnswer::Disabled).filter_map(|row| row.key_id.as_ref());
    hints.extend(
        disabled.map(|key_id| format!("after the restore, enable the disabled key: claviger key enable {key_id}")),
    );
    hints.extend(restore(answer));
    hints
}

/// Returns the hint for restoring the snapshot, if every key is held.
fn restore(answer: &SnapshotAnswer) -> Option<String> {
    let needed = claviger_keys(answer).count();
    let is_all_held = claviger_keys(answer).all(|row| !row.answer.is_lost());
    if needed == 0 || !is_all_held || answer.incomplete.is_some() {
        return None;
    }
    let whole = answer.keyrings.iter().filter(|row| row.holds == needed);
    let holders = answer.keyrings.iter().filter(|row| row.holds > 0);
    if let Some(whole) = whole.min_by_key(|row| row.is_backup) {
        return whole.is_backup.then(|| {
            let (file, snapshot) = (quoted(&whole.file), quoted(&answer.snapshot));
            format!("to restore the keys on a new node: claviger backup restore {file} --snapshot {snapshot}")
        });
    }
    let uuids: BTreeSet<&str> = holders.map(|row| row.uuid.as_str()).collect();
    Some(if uuids.len() > 1 {
        "the keys belong to several keyrings: each keyring needs a claviger and a provider of its own".to_owned()
    } else {
        "no single file has all keys: restore the newest one, and merge the others into it: claviger backup restore FILE --accept".to_owned()
    })
}
