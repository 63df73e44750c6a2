//! The report for people: one sentence, a table, examples of what is wrong, and what to do next.

use crate::{
    scan::{
        count::Count,
        report::{ComparedWith, ScanReport},
    },
    telemetry::escape,
};

use super::super::{
    output,
    scanning::{findings, table, terminal_width},
};

/// Returns the page below the headline. Without `hints`, it omits notes and hints. With `more`, it omits some
/// resources, and names this flag, which shows them.
pub(super) fn page(report: &ScanReport, hints: Option<&[String]>, more: Option<&str>) -> String {
    let mut parts = vec![output::fields(&facts(report)), table(report, more, terminal_width())];
    parts.extend(report.reasons.iter().map(|reason| format!("! {}", escape::line(&reason.to_string()))));
    parts.extend(findings(report, "--list"));
    if let Some(hints) = hints {
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

/// Returns the words for the inputs that the values were compared with.
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
