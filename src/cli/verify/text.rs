//! The report for people: what was read, a table, what has changed, what is left over, and what to do next.

use crate::{scan::count::Count, telemetry::escape};

use super::{
    super::{
        output,
        scanning::{findings, table, terminal_width},
    },
    verified::{Since, Verified},
    words,
};

/// The greatest number of changes that are shown.
const CHANGES: usize = 20;

/// Returns the page below the headline. `quiet` omits notes and hints.
pub(in crate::cli) fn page(verified: &Verified, quiet: bool) -> String {
    let mut parts =
        vec![output::fields(&facts(verified)), table(&verified.scan, Some(&verified.all), terminal_width())];
    parts.extend(verified.since.as_ref().map(since));
    parts.extend(verified.scan.reasons.iter().map(|reason| format!("! {}", escape::line(&reason.to_string()))));
    parts.extend(findings(&verified.scan, &verified.list));
    if !quiet {
        let notes = verified.notes.iter().map(|note| format!("note:  {}", escape::line(note)));
        let hints = verified.hints.iter().map(|hint| format!("hint:  {}", escape::line(hint)));
        parts.push(notes.chain(hints).collect::<Vec<_>>().join("\n"));
    }
    parts.retain(|part| !part.is_empty());
    parts.join("\n\n")
}

fn facts(verified: &Verified) -> Vec<(&'static str, String)> {
    let report = &verified.report;
    let keyring = &report.keyring;
    let since = verified.promoted.map_or_else(String::new, |time| format!(", since {time}"));
    let config = &report.encryption_config;
    let mut facts = vec![
        ("keyring", format!("{}, generation {}", keyring.uuid.to_hex(), keyring.generation)),
        ("primary key", format!("{}{since}", keyring.primary)),
    ];
    let names = ["etcd"].into_iter().chain(std::iter::repeat("and etcd"));
    facts.extend(names.zip(report.etcds.iter().map(words::etcd)));
    facts.push(("keys below", report.prefix.clone()));
    facts.extend(report.flags.iter().map(|place| ("flags from", place.clone())));
    facts.push(("compared with", format!("{}, sha256 {}", config.path.display(), config.sha256.to_hex())));
    facts.push(("time", report.time.to_string()));
    facts.push(("report", format!("sha256 {}", verified.sha256().to_hex())));
    facts
}

/// Returns the changes since the earlier report.
fn since(since: &Since) -> String {
    let comparison = &since.comparison;
    let mut lines = vec![format!("compared with the report {}", escape::line(&words::compared(since)))];
    lines.extend(comparison.voided.iter().map(|reason| format!("! {}", escape::line(&reason.to_string()))));
    lines.extend(
        comparison.changes.iter().take(CHANGES).map(|change| format!("  {}", escape::line(&words::change(change)))),
    );
    let more = comparison.changes.len().saturating_sub(CHANGES);
    if more > 0 {
        lines.push(format!("  and {} more: --output json has all", Count(more as u64)));
    } else if comparison.changes.is_empty() {
        lines.push("  nothing has changed".to_owned());
    }
    lines.join("\n")
}
