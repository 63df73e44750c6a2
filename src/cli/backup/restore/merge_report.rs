//! What `claviger backup restore` prints of a merge, before and after it is carried out.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::{
    keeper::{self, Expect, MergePreview, NeededKey, Opened},
    keyring::{
        key_id::KeyId,
        merge::MergeRow,
        state::{Fate, State},
    },
};

use super::super::super::{
    Format, Global,
    failure::Failure,
    output::{self, OutputError},
    tables::{all_of, counted},
};

#[derive(Serialize)]
struct MergeReport<'a> {
    format: &'static str,
    state_dir: &'a Path,
    /// The fault of the existing keyring, if it has one.
    doubt: Option<&'a str>,
    generation: u64,
    keys: Vec<MergedKey>,
    /// The primary key, if the merge made a new one.
    fresh: Option<String>,
    /// The path of the backup that holds the new primary key.
    fresh_backup: Option<&'a Path>,
    /// The line `expect` of the new record. `None` if nothing was done.
    expect: Option<String>,
}

#[derive(Serialize)]
struct MergedKey {
    key_id: String,
    /// The state of the key in the keyring here, if it can be read, and then in each backup.
    before: Vec<Option<&'static str>>,
    after: &'static str,
    /// Whether the key will be marked as compromised.
    compromised: bool,
    /// The number of live objects in etcd or in the snapshot under the key. `None` if that is not known.
    objects: Option<u64>,
}

/// Prints that the keyring here needs no merge.
pub(super) fn print_nothing_to_do(state_dir: &Path, opened: &Opened, global: &Global) -> Result<(), OutputError> {
    match global.output {
        Format::Text => output::text_line("nothing to do: the keyring here has every key of the backup"),
        Format::Json => output::json(&MergeReport {
            format: "claviger/backup-merge/v1",
            state_dir,
            doubt: None,
            generation: opened.keyring.generation(),
            keys: Vec::new(),
            fresh: None,
            fresh_backup: None,
            expect: Some(Expect::of(&opened.keyring, opened.digest).to_string()),
        }),
    }
}

/// A merge, with everything that its report shows.
pub(super) struct Shown {
    doubt: Option<String>,
    generation: u64,
    columns: Vec<(&'static str, u64)>,
    rows: Vec<MergeRow>,
    fresh: Option<KeyId>,
    /// The path to which the backup with the new key is written.
    to: Option<PathBuf>,
    needed: Option<Vec<NeededKey>>,
    /// The reason why it is not known which keys are needed.
    unknown: Option<String>,
    /// The words for the evidence that the backups were compared with.
    compared: String,
}

/// The evidence with which a backup is compared, besides the state directory.
pub(super) struct BackupEvidence {
    /// Whether --expect is given.
    pub(super) has_expect: bool,
    /// Whether the values that need keys were read.
    pub(super) has_values: bool,
    /// The snapshot that the values were read from. `None` if they are from a live etcd.
    pub(super) snapshot: Option<PathBuf>,
}

impl BackupEvidence {
    /// Returns the words for this evidence, after `others`.
    pub(super) fn sentence(&self, others: impl IntoIterator<Item = String>) -> String {
        let expect = self.has_expect.then(|| "the line of --expect".to_owned());
        let values = self.has_values.then(|| match &self.snapshot {
            Some(file) => format!("the values in the snapshot {}", file.display()),
            None => "the values in etcd".to_owned(),
        });
        let all: Vec<String> = others.into_iter().chain(expect).chain(values).collect();
        if all.is_empty() { "with nothing".to_owned() } else { format!("with {}", all_of(&all)) }
    }

    /// Returns the words for the evidence with which the backups of a merge are compared.
    fn of_merge(&self, plan: &MergePreview) -> String {
        let is_copy = plan.columns.iter().any(|(heading, _)| *heading == keeper::KEYRING_PREV);
        let is_read = is_copy || plan.columns.iter().any(|(heading, _)| *heading == keeper::KEYRING_HERE);
        let keyring = is_read.then_some(if is_copy { keeper::KEYRING_PREV } else { "the keyring here" });
        let mark = plan.has_mark().then_some("its mark");
        let ledger = plan.has_ledger().then_some("its ledger");
        let here = [keyring, mark, ledger].into_iter().flatten().map(ToOwned::to_owned);
        format!("{}; with a running plugin, `claviger status` compares the keyring here", self.sentence(here))
    }
}

impl Shown {
    pub(super) fn of(
        plan: &MergePreview,
        needed: Result<Option<Vec<NeededKey>>, Failure>,
        to: Option<PathBuf>,
        compared: &BackupEvidence,
    ) -> Self {
        let compared = compared.of_merge(plan);
        let MergePreview { doubts, generation, columns, rows, fresh, .. } = plan;
        let doubts: Vec<String> = doubts.iter().map(ToString::to_string).collect();
        let doubt = (!doubts.is_empty()).then(|| doubts.join("; "));
        let (columns, rows) = (columns.clone(), rows.clone());
        let (needed, unknown) = match needed {
            Ok(needed) => (needed, None),
            Err(failure) => (None, Some(failure.message().to_owned())),
        };
        Self { doubt, generation: *generation, columns, rows, fresh: *fresh, to, needed, unknown, compared }
    }

    /// Returns the number of objects that need the key of a row, if that is known.
    fn objects(&self, row: &MergeRow) -> Option<u64> {
        let needed = self.needed.as_ref()?;
        let is_it = |needed: &&NeededKey| needed.commitment == row.commitment;
        Some(needed.iter().find(is_it).map_or(0, |needed| needed.objects))
    }
}

/// Prints what the merge will do. If `opened` is given, prints what the merge did: `opened` is the merged keyring.
pub(super) fn print_merge(
    state_dir: &Path,
    shown: &Shown,
    opened: Option<&Opened>,
    global: &Global,
) -> Result<(), OutputError> {
    let report = report(state_dir, shown, opened);
    if global.output == Format::Json {
        return output::json(&report);
    }
    let fields = global.given.repeat_in(&fields(&report, shown)).into_owned();
    output::text_line(&format!("{fields}\n\n{}", merge_table(shown, report.fresh.as_deref())))?;
    let is_unbacked = opened.is_some_and(|opened| opened.unbacked().contains(&opened.keyring.primary().id()));
    if let Some(file) = report.fresh_backup.filter(|_| is_unbacked) {
        output::text_line(&global.given.repeat_in(&does_not_count(file)))?;
    }
    if let Some(line) = about_primary(shown, report.fresh.as_deref()) {
        output::text_line(&line)?;
    }
    for row in &shown.rows {
        let lines = [about_destroyed(row, opened.is_some()), about_enabled(row), about_compromised(row)];
        lines.iter().flatten().try_for_each(|line| output::text_line(&global.given.repeat_in(line)))?;
    }
    match report.expect {
        Some(_) => output::advice(&format!("\nnext:  {ROTATE}"), global),
        None => output::advice("\nnothing was changed yet; to merge, run the same command with --accept", global),
    }
}

/// Returns a line about the primary key, if the merge gives the keyring here another one. `fresh` is the new key, if
/// the merge has made one.
fn about_primary(shown: &Shown, fresh: Option<&str>) -> Option<String> {
    let primary = Fate::Becomes(State::Primary);
    let is_here = shown.columns.first().is_some_and(|(heading, _)| *heading == keeper::KEYRING_HERE);
    let old = shown.rows.iter().find(|row| is_here && row.before.first() == Some(&Some(primary)))?;
    let new = shown.rows.iter().find(|row| row.after == primary);
    let name = match (new, shown.fresh, fresh) {
        (Some(new), _, _) if new.key_id == old.key_id => return None,
        (Some(new), _, _) => new.key_id.to_string(),
        (None, _, Some(fresh)) => fresh.to_owned(),
        (None, Some(_), None) => "a new key".to_owned(),
        (None, None, None) => return None,
    };
    let objects = shown.objects(old).and_then(|objects| usize::try_from(objects).ok()).filter(|objects| *objects > 0);
    let needed = objects.map_or_else(String::new, |objects| format!(" (the key of {})", counted(objects, "object")));
    Some(format!(
        "\n! the primary key changes from {}{needed} to {name}: API servers write under that key as soon as a plugin serves the \
         merged keyring",
        old.key_id
    ))
}

/// Returns the reason why a key that one record has disabled does not stay disabled.
fn about_enabled(MergeRow { key_id, before, after, .. }: &MergeRow) -> Option<String> {
    let disabled = Fate::Becomes(State::Disabled);
    let is_enabled = before.contains(&Some(disabled)) && *after != disabled && *after != Fate::Tomb;
    is_enabled.then(|| {
        format!(
            "\n! {key_id} is disabled in one keyring, and becomes {after}, because not every keyring that lists it says that it is \
             disabled; if nothing needs it: claviger key disable {key_id}"
        )
    })
}

/// Returns the reason why the merge marks a key as compromised, unless the operator or a record says that it is.
fn about_compromised(row: &MergeRow) -> Option<String> {
    (row.is_of_earlier_root && row.after != Fate::Tomb).then(|| {
        format!(
            "\n! {} counts as compromised, because only a record from before a rekey has it: anyone who kept the root key of that \
             time may know it",
            row.key_id
        )
    })
}

/// Returns a line about a key that one record has and another one has destroyed.
fn about_destroyed(row: &MergeRow, is_done: bool) -> Option<String> {
    let MergeRow { key_id, before, after, .. } = row;
    let is_destroyed = before.contains(&Some(Fate::Tomb));
    let is_held = before.iter().flatten().any(|fate| *fate != Fate::Tomb);
    if !is_destroyed || !is_held {
        return None;
    }
    Some(match (after, is_done) {
        (Fate::Tomb, _) => {
            format!("\n{key_id} stays destroyed, as --keep-destroyed says: what is under it stays unreadable")
        }
        (Fate::Becomes(_), false) => format!(
            "\n! {key_id} was destroyed in one keyring, and the merge brings it back, because another one still has it: what is under it becomes \
             readable again; to leave it destroyed, run the same command with --keep-destroyed {key_id}"
        ),
        (Fate::Becomes(_), true) => format!(
            "\n! {key_id} was destroyed, and is back: what is under it is readable again; if nothing needs it: claviger key disable \
             {key_id}, then claviger key destroy {key_id}"
        ),
    })
}

fn report<'a>(state_dir: &'a Path, shown: &'a Shown, opened: Option<&Opened>) -> MergeReport<'a> {
    let key = |row: &MergeRow| MergedKey {
        key_id: row.key_id.to_string(),
        before: row.before.iter().map(|fate| fate.map(Fate::as_str)).collect(),
        after: row.after.as_str(),
        compromised: row.is_compromised,
        objects: shown.objects(row),
    };
    MergeReport {
        format: "claviger/backup-merge/v1",
        state_dir,
        doubt: shown.doubt.as_deref(),
        generation: shown.generation,
        keys: shown.rows.iter().map(key).collect(),
        // A new key gets its name only when the merge is carried out.
        fresh: opened.and_then(|opened| shown.fresh.map(|_| opened.keyring.primary().id().to_string())),
        fresh_backup: shown.to.as_deref(),
        expect: opened.map(|opened| Expect::of(&opened.keyring, opened.digest).to_string()),
    }
}

/// The words for the record that replaces a keyring that cannot be read.
const INSTEAD: &str = "keyring.prev in this directory, which is the keyring before its last change";

fn fields(report: &MergeReport<'_>, shown: &Shown) -> String {
    let (made, place) = if report.expect.is_some() { ("was made", "is") } else { ("will be made", "goes to") };
    let mut fields = vec![("keyring", report.state_dir.display().to_string())];
    fields.extend(report.doubt.map(|doubt| ("because", doubt.to_owned())));
    let is_copy = shown.columns.iter().any(|(heading, _)| *heading == keeper::KEYRING_PREV);
    fields.extend(is_copy.then(|| ("instead", INSTEAD.to_owned())));
    fields.push(("compared", shown.compared.clone()));
    fields.push(("generation", format!("{} {made}", report.generation)));
    fields
        .extend(shown.unknown.iter().map(|reason| ("etcd", format!("it is not known which keys it needs: {reason}"))));
    fields.extend(report.fresh_backup.map(|file| ("new key", format!("its backup {place} {}", file.display()))));
    fields.extend(report.expect.iter().map(|expect| ("expect", expect.clone())));
    output::fields(&fields)
}

/// Returns the warning that a new backup may be lost together with the keyring.
pub(super) fn does_not_count(file: &Path) -> String {
    let file = file.display();
    format!(
        "\n! {file} does not count yet, because it is not on another disk: move it to one, and test it there: claviger backup check FILE"
    )
}

/// The hint after a restore or a merge. A merge that brings a missing key back is followed by a rotation, too.
#[cfg(feature = "reencrypt")]
pub(super) const ROTATE: &str = "see whether a key is missing: claviger status; if one is, merge the backup that has it (`claviger backup \
                                 check FILE` shows the keys of one); if none is, rotate to a new key, because it is not known what \
                                 happened after the backup was made: claviger rotate --backup-dir DIR";
#[cfg(not(feature = "reencrypt"))]
pub(super) const ROTATE: &str = "see whether a key is missing: claviger status; if one is, merge the backup that has it (`claviger backup \
                                 check FILE` shows the keys of one); if none is, rotate to a new key, because it is not known what \
                                 happened after the backup was made: claviger key add";

fn merge_table(shown: &Shown, made: Option<&str>) -> String {
    let Shown { columns, rows, fresh, needed, .. } = shown;
    let heads: Vec<String> =
        columns.iter().map(|(what, generation)| format!("{}, {generation}", what.to_uppercase())).collect();
    let mut head = vec!["KEY"];
    head.extend(heads.iter().map(String::as_str));
    head.push("BECOMES");
    head.extend(needed.iter().map(|_| "OBJECTS"));
    let objects = |row: &MergeRow| shown.objects(row).map(|objects| objects.to_string());
    let cells = |row: &MergeRow| {
        let before = row.before.iter().map(|fate| fate.map_or("-", Fate::as_str).to_owned());
        let compromised = if row.is_compromised { ", compromised" } else { "" };
        let after = format!("{}{compromised}", row.after);
        [row.key_id.to_string()].into_iter().chain(before).chain([after]).chain(objects(row)).collect::<Vec<_>>()
    };
    let last = fresh.iter().map(|_| {
        let name = made.unwrap_or("a new key").to_owned();
        let none = columns.iter().map(|_| "-".to_owned());
        let objects = needed.iter().map(|_| "-".to_owned());
        [name].into_iter().chain(none).chain(["primary".to_owned()]).chain(objects).collect()
    });
    output::table(&head, rows.iter().map(cells).chain(last))
}
