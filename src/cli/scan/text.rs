//! The report for people: one sentence, a table of at most 80 columns, examples of what is wrong, and what to do next.

use std::collections::BTreeSet;

use crate::scan::{
    SourceKind,
    count::Count,
    judge::FindingKind,
    report::{Finding, GroupRow, ScanReport},
};

use super::super::output;
use crate::telemetry::escape;

/// How many objects of each kind of finding are named.
const NAMED: usize = 5;

/// The columns of a terminal, and those that `output::table` leaves between columns of a table.
const WIDTH: usize = 80;
const GAP: usize = 3;

/// How much of a key_id is shown. That is enough to distinguish keys: `k12-0123abcd…`.
const KEY_ID: usize = 12;

/// Returns what follows the first sentence. `all` shows every resource, and `quiet` omits notes and hints.
pub(super) fn page(report: &ScanReport, all: bool, quiet: bool) -> String {
    let mut parts = vec![output::fields(&facts(report)), table(report, all)];
    parts.extend(report.incomplete.iter().map(|reason| format!("! {reason}")));
    parts.extend(FindingKind::ALL.into_iter().filter_map(|kind| named(report, kind)));
    if !quiet {
        parts.extend(notes(report));
    }
    parts.retain(|part| !part.is_empty());
    parts.join("\n\n")
}

fn facts(report: &ScanReport) -> Vec<(&'static str, String)> {
    let source = &report.source;
    let mut facts = Vec::new();
    match (&source.file, source.bytes) {
        (Some(file), Some(bytes)) => facts.push(("snapshot", format!("{file}, {} bytes", Count(bytes)))),
        _ => facts.push(("etcd", source.endpoints.join(", "))),
    }
    facts.extend(report.overrides.iter().map(|other| ("and etcd", other.endpoints.join(", "))));
    let compacted = source.compacted.map_or_else(String::new, |revision| format!(", compacted to {revision}"));
    let pins = match source.pins.as_slice() {
        [] => String::new(),
        [first, _] => format!(", read from revision {first} on, because etcd compacted during the scan"),
        [first, ..] => format!(
            ", read from revision {first} on, because etcd compacted {} times during the scan",
            source.pins.len() - 1
        ),
    };
    facts.push(("revision", format!("{}{compacted}{pins}", source.revision)));
    if let Some(digest) = &source.digest {
        let matches = match digest.matches {
            Some(true) => ", matches the digest in the file",
            Some(false) => ", does not match the digest in the file",
            None => "",
        };
        facts.push(("sha256", format!("{}{matches}", digest.sha256)));
    }
    facts.extend(report.flags.iter().map(|place| ("flags from", place.clone())));
    let against = match (report.given.encryption_config, report.given.keys) {
        (true, true) => "the EncryptionConfiguration and the keys",
        (true, false) => "the EncryptionConfiguration (no keys given)",
        (false, true) => "the keys (no EncryptionConfiguration given)",
        (false, false) => "nothing (no EncryptionConfiguration and no keys given)",
    };
    facts.push(("compared with", against.to_owned()));
    facts
}

fn table(report: &ScanReport, all: bool) -> String {
    let is_shown = |row: &&GroupRow| all || !row.is_readable() || !row.found.is_empty() || row.resource == "secrets";
    let (mut rows, hidden): (Vec<&GroupRow>, Vec<&GroupRow>) = report.groups.iter().partition(is_shown);
    // Secrets come first, because they matter most.
    rows.sort_by_key(|row| row.resource != "secrets");
    let mut lines = Vec::new();
    if !rows.is_empty() {
        lines.push(columns(&rows, report.source.kind == SourceKind::Snapshot));
    }
    if !hidden.is_empty() {
        let objects: u64 = hidden.iter().map(|row| row.objects).sum();
        let resources = hidden.iter().map(|row| &row.resource).collect::<BTreeSet<_>>().len();
        let noun = if resources == 1 { "resource" } else { "resources" };
        lines.push(format!("and {} objects of {resources} other {noun} in plaintext: --all", Count(objects)));
    }
    lines.join("\n")
}

fn columns(rows: &[&GroupRow], has_history: bool) -> String {
    let number = |count: u64| Count(count).to_string();
    let mut numbers = vec![("OBJECTS", rows.iter().map(|row| number(row.objects)).collect::<Vec<_>>())];
    if has_history {
        numbers.push(("OLDER", rows.iter().map(|row| number(row.revisions.unwrap_or(0))).collect()));
    }
    let seeds = |row: &&GroupRow| if row.seeds == 0 { "-".to_owned() } else { number(row.seeds) };
    numbers.push(("SEEDS", rows.iter().map(seeds).collect()));
    let numbers: Vec<(String, Vec<String>)> = numbers.into_iter().map(|(head, cells)| right(head, cells)).collect();
    let taken: usize = numbers.iter().map(|(head, _)| head.len() + GAP).sum();
    let left = WIDTH.saturating_sub(taken + KEY_ID + 1 + 2 * GAP);
    let longest = rows.iter().map(|row| escape::line(&row.provider).chars().count()).max().unwrap_or(0);
    // The provider gets at most half of the width, and the resource gets the rest.
    let provider = longest.min(left / 2);
    let resource = left - provider;
    let head: Vec<&str> =
        ["RESOURCE", "PROVIDER", "KEY"].into_iter().chain(numbers.iter().map(|(head, _)| &**head)).collect();
    let cells = rows.iter().enumerate().map(|(index, row)| {
        let names = [cut(&row.resource, resource), cut(&row.provider, provider), short(row.key_id.as_deref())];
        names.into_iter().chain(numbers.iter().map(|(_, cells)| cells[index].clone())).collect()
    });
    output::table(&head, cells)
}

/// Aligns a column of numbers to the right.
fn right(head: &str, cells: Vec<String>) -> (String, Vec<String>) {
    let width = cells.iter().map(String::len).chain([head.len()]).max().unwrap_or(0);
    (format!("{head:>width$}"), cells.into_iter().map(|cell| format!("{cell:>width$}")).collect())
}

/// Cuts a name to a width.
fn cut(name: &str, width: usize) -> String {
    let text = escape::line(name);
    if text.chars().count() <= width {
        return text;
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

/// Returns as much of a key_id as distinguishes keys.
pub(super) fn short(key_id: Option<&str>) -> String {
    match key_id {
        None => "-".to_owned(),
        Some(key_id) => cut(key_id, KEY_ID + 1),
    }
}

/// Describes one kind of finding, with the first objects that have it.
fn named(report: &ScanReport, kind: FindingKind) -> Option<String> {
    let count = *report.found.get(&kind)?;
    let mut lines = vec![format!("{} ({}): {}", kind.as_str(), Count(count), meaning(kind))];
    let findings = report.findings.iter().filter(|finding| finding.kind == kind);
    lines.extend(findings.take(NAMED).map(|finding| format!("  {}", name(finding))));
    if count > NAMED as u64 {
        lines.push(format!("  and {} more: --list names all", Count(count - NAMED as u64)));
    }
    Some(lines.join("\n"))
}

fn name(finding: &Finding) -> String {
    let what = match (&finding.key, finding.page) {
        (Some(key), _) => escape::line(key),
        (None, page) => format!("page {}", page.unwrap_or(0)),
    };
    match &finding.reason {
        Some(reason) => format!("{what}: {reason}"),
        None => what,
    }
}

/// Returns what a kind of finding means.
pub(super) fn meaning(kind: FindingKind) -> &'static str {
    match kind {
        FindingKind::Damaged => "the value or page is damaged",
        FindingKind::PlaintextAlthoughCovered => {
            "anyone with access to etcd can read it, although it is configured to be encrypted"
        }
        FindingKind::Plaintext => "anyone with access to etcd can read it",
        FindingKind::NoProvider => {
            "its provider is not in the configuration for this resource, so the API server cannot read it"
        }
        FindingKind::UnknownKey => "the keyring does not have its key, so the API server cannot read it",
        FindingKind::DisabledKey => "its key is disabled, so the API server cannot read it",
        FindingKind::NotFirstProvider => "its provider or key is not the one that the API server writes with",
        FindingKind::Stale => "its key is not the primary key",
    }
}

fn notes(report: &ScanReport) -> Vec<String> {
    let mut notes: Vec<String> = report.notes.iter().map(|note| format!("note:  {note}")).collect();
    if report.outside > 0 {
        let values = if report.outside == 1 { "value outside" } else { "values outside" };
        let outside = Count(report.outside);
        notes.push(format!(
            "note:  not scanned: {outside} {values} {} (to scan another prefix: --etcd-prefix)",
            report.prefix
        ));
    }
    let uncovered: Vec<String> =
        report.uncovered().map(|row| format!("{} {}", Count(row.objects), escape::line(&row.resource))).collect();
    if !uncovered.is_empty() {
        notes.push(format!(
            "note:  the EncryptionConfiguration does not cover {}: do they contain secrets?",
            uncovered.join(", ")
        ));
    }
    notes.extend(next(report).map(|hint| format!("hint:  {hint}")));
    if notes.is_empty() { notes } else { vec![notes.join("\n")] }
}

/// Whether a name is safe in a command that someone copies into a shell.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
}

/// Returns what to do next about the worst thing that was found.
fn next(report: &ScanReport) -> Option<String> {
    let worst = FindingKind::ALL.into_iter().find(|kind| report.found.contains_key(kind));
    if report.groups.is_empty() && report.is_incomplete() {
        return Some("give the prefix of the API server: --etcd-prefix PREFIX".to_owned());
    }
    if !report.incomplete.is_empty() {
        return Some("take another snapshot and scan that: etcdctl snapshot save FILE".to_owned());
    }
    if report.identity_first {
        return Some(
            "put a provider that encrypts first in the entry that lists Secrets, before anything is written".to_owned(),
        );
    }
    let rows = || report.groups.iter().filter(|row| row.found.iter().any(|kind| Some(*kind) == worst));
    let rewrite = || {
        let mut resources: Vec<&str> = rows().map(|row| &*row.resource).filter(|name| is_plain(name)).collect();
        resources.dedup();
        let resources = resources.join(",");
        format!("rewrite them: kubectl get {resources} --all-namespaces -o json | kubectl replace -f -")
    };
    let key_id = || rows().filter_map(|row| row.key_id.as_deref()).find(|name| is_plain(name)).unwrap_or("KEY");
    match worst? {
        FindingKind::Damaged => Some(
            "the API server cannot read it either: restore the object from a backup, or delete its key in etcd"
                .to_owned(),
        ),
        FindingKind::PlaintextAlthoughCovered | FindingKind::NotFirstProvider | FindingKind::Stale => Some(rewrite()),
        FindingKind::Plaintext if report.given.encryption_config => {
            Some("encrypt them: claviger generate encryption-configuration".to_owned())
        }
        FindingKind::Plaintext => Some(
            "should they be encrypted? to compare them with the API server's configuration: --encryption-config FILE"
                .to_owned(),
        ),
        FindingKind::NoProvider => Some(
            "add the provider to the resource's entry, after the first one, until all objects are rewritten".to_owned(),
        ),
        FindingKind::UnknownKey => Some(format!("restore {} from a backup: claviger backup restore FILE", key_id())),
        FindingKind::DisabledKey => Some(format!("enable the key: claviger key enable {}", key_id())),
    }
}
