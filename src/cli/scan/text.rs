//! The report for people: one sentence, a table, examples of what is wrong, and what to do next.

use crate::{
    scan::{
        count::Count,
        judge::FindingKind,
        report::{ComparedWith, Finding, ScanReport},
    },
    telemetry::escape,
};

use super::{
    super::output,
    table::{table, terminal_width},
};

/// How many objects of each kind of finding are named.
const NAMED: usize = 5;

/// Returns what follows the first sentence. `all` shows every resource, and `quiet` omits notes and hints.
pub(super) fn page(report: &ScanReport, hints: &[String], all: bool, quiet: bool) -> String {
    let mut parts = vec![output::fields(&facts(report)), table(report, all, terminal_width())];
    parts.extend(report.incomplete.iter().map(|reason| format!("! {}", escape::line(reason))));
    parts.extend(FindingKind::ALL.into_iter().filter_map(|kind| named(report, kind)));
    if !quiet {
        let notes = report.notes.iter().map(|note| format!("note:  {}", escape::line(note)));
        let hints = hints.iter().map(|hint| format!("hint:  {}", escape::line(hint)));
        parts.push(notes.chain(hints).collect::<Vec<_>>().join("\n"));
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
    facts.push(("compared with", compared_with(&report.given)));
    facts
}

/// Says what the values were compared with.
pub(super) fn compared_with(given: &ComparedWith) -> String {
    let keys = match &given.keyring {
        Some(file) => format!("the keys of {file}"),
        None => "the primary key".to_owned(),
    };
    match (given.encryption_config, given.keys) {
        (true, true) => format!("the EncryptionConfiguration and {keys}"),
        (true, false) => "the EncryptionConfiguration (no keys given)".to_owned(),
        (false, true) => format!("{keys} (no EncryptionConfiguration given)"),
        (false, false) => "nothing (no EncryptionConfiguration and no keys given)".to_owned(),
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
        FindingKind::Damaged => "these values or pages are damaged",
        FindingKind::PlaintextAlthoughCovered => {
            "anyone with access to etcd can read these values, although they are configured to be encrypted"
        }
        FindingKind::Plaintext => "anyone with access to etcd can read these values",
        FindingKind::NoProvider => {
            "the API server cannot read these values, because their provider is not in the entry for their resource"
        }
        FindingKind::UnknownKey => {
            "the API server cannot read these values, because the keyring does not have their key"
        }
        FindingKind::DisabledKey => "the API server cannot read these values, because their key is disabled",
        FindingKind::NotFirstProvider => {
            "these values are not under the provider and key that the API server writes with"
        }
        FindingKind::Stale => "these values are not under the primary key",
    }
}
