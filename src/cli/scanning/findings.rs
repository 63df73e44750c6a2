//! What a scan found, for people: each kind with its meaning and the first objects that have it.

use crate::{
    scan::{
        count::Count,
        judge::FindingKind,
        report::{Finding, OlderValues, ScanReport},
    },
    telemetry::escape,
};

/// The greatest number of objects that are named for each kind of finding.
const NAMED: usize = 5;

/// The meaning of older values in plaintext.
pub(in crate::cli) const OLDER: &str = "anyone with this file can read these values, which objects had before";

/// Returns a paragraph for each kind of finding, the worst first, and one for older values. `list` is the command that
/// names all objects.
pub(in crate::cli) fn findings(report: &ScanReport, list: &str) -> Vec<String> {
    let older = report.history.as_ref().and_then(|history| older(history, list));
    FindingKind::ALL.into_iter().filter_map(|kind| named(report, kind, list)).chain(older).collect()
}

/// Names the first older values in plaintext. `list` is the command that names all of them.
fn older(history: &OlderValues, list: &str) -> Option<String> {
    let mut lines = vec![format!("older values ({}): {OLDER}", Count(history.readable))];
    let values = history.findings.iter().take(NAMED);
    lines.extend(values.map(|value| format!("  {} at revision {}", escape::line(&value.key), value.mod_revision)));
    lines.extend(more(history.readable, list));
    (history.readable > 0).then(|| lines.join("\n"))
}

/// Describes one kind of finding, with the first objects that have it. `list` is the command that names all of them.
fn named(report: &ScanReport, kind: FindingKind, list: &str) -> Option<String> {
    let count = *report.found.get(&kind)?;
    let mut lines = vec![format!("{} ({}): {}", kind.as_str(), Count(count), meaning(kind))];
    let findings = report.findings.iter().filter(|finding| finding.kind == kind);
    lines.extend(findings.take(NAMED).map(|finding| format!("  {}", name(finding))));
    lines.extend(more(count, list));
    Some(lines.join("\n"))
}

/// Returns how many of `count` objects are not named, and the command that names them.
fn more(count: u64, list: &str) -> Option<String> {
    let more = count.saturating_sub(NAMED as u64);
    (more > 0).then(|| format!("  and {} more: {list} names all", Count(more)))
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

/// Returns the meaning of a kind of finding.
pub(in crate::cli) fn meaning(kind: FindingKind) -> &'static str {
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
            "the keyring does not have the key of these values, so the API server cannot read them, unless its plugin serves another \
             keyring"
        }
        FindingKind::DisabledKey => "the API server cannot read these values, because their key is disabled",
        FindingKind::NotFirstProvider => {
            "these values are not under the provider and key that the API server writes with"
        }
        FindingKind::OldKey => "these values are not under the primary key",
    }
}
