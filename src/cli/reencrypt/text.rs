//! The report of a re-encryption for people: one sentence, the figures, what is left, and what to do next.

use crate::{
    reencrypt::{FailureKind, NamedFailure},
    scan::count::Count,
    telemetry::escape,
};

use super::{
    super::{given::Given, output},
    report::{ReencryptEnd, ReencryptReport, ReencryptTarget},
};

/// The greatest number of objects that are named for each kind.
const NAMED: usize = 5;

/// Returns the headline: one sentence with the result.
pub(super) fn headline(report: &ReencryptReport) -> String {
    let (written, rest) = (were_written(report.written), left(report.rest));
    match report.end {
        ReencryptEnd::Done if report.sweeps == 0 && report.target == ReencryptTarget::PrimaryKey => {
            "Nothing to re-encrypt: every value that must be encrypted is under the primary key".to_owned()
        }
        ReencryptEnd::Done if report.sweeps == 0 => {
            "Nothing to re-encrypt: every value is under the provider that the EncryptionConfiguration names first"
                .to_owned()
        }
        ReencryptEnd::Done if report.target == ReencryptTarget::Plaintext => {
            format!("All in plaintext: {written}, and a scan found nothing that is encrypted")
        }
        ReencryptEnd::Done => format!("All re-encrypted: {written}, and a scan found nothing left over"),
        ReencryptEnd::DryRun => format!("{} would be rewritten", Count(report.rest).of("object")),
        ReencryptEnd::Incomplete => "A scan could not read everything, so something may be left over".to_owned(),
        ReencryptEnd::Interrupted => format!("Interrupted: {written}, {rest}"),
        ReencryptEnd::NotAdopted if report.target != ReencryptTarget::PrimaryKey => {
            format!("The API server does not write as the EncryptionConfiguration says: {written}, {rest}")
        }
        ReencryptEnd::NotAdopted => format!("The API server does not write under the primary key: {written}, {rest}"),
        ReencryptEnd::OtherCluster => format!("The API server is another cluster's: it does not use this etcd; {rest}"),
        ReencryptEnd::Denied => format!("This user lacks a right: {written}, {rest}"),
        ReencryptEnd::Unauthenticated => format!("The API server does not accept the credentials: {rest}"),
        ReencryptEnd::NoCredentials => format!("There are no credentials for the API server: {written}, {rest}"),
        ReencryptEnd::MigrationFailed => format!("A migration failed: {written}, {rest}"),
        ReencryptEnd::NoMigrator => format!("No migrator takes up the migration: {written}, {rest}"),
        ReencryptEnd::NoSpace => format!("etcd refuses every write: {written}, {rest}"),
        ReencryptEnd::Unreachable => format!("The API server does not answer: {written}, {rest}"),
        ReencryptEnd::NotAnApiServer => {
            format!("What answers there is no API server that can be used: {written}, {rest}")
        }
        ReencryptEnd::LeftOver if report.rest == 0 => format!("{}; something else is left over", sentence(&written)),
        ReencryptEnd::LeftOver => format!("{}, {rest}", sentence(&written)),
    }
}

fn were_written(count: u64) -> String {
    let verb = if count == 1 { "was" } else { "were" };
    if count == 0 {
        "nothing was rewritten".to_owned()
    } else {
        format!("{} {verb} rewritten", Count(count).of("object"))
    }
}

fn left(count: u64) -> String {
    format!("{} {} left", Count(count).of("object"), if count == 1 { "is" } else { "are" })
}

/// Returns `text` with a capital letter at its beginning.
fn sentence(text: &str) -> String {
    let (first, rest) = text.split_at(1);
    first.to_uppercase() + rest
}

/// Returns the page below the headline.
pub(super) fn page(report: &ReencryptReport, hints: &[String], given: &Given, quiet: bool) -> String {
    let mut parts = vec![output::fields(&facts(report))];
    if !report.resources.is_empty() {
        parts.push(table(report));
    }
    parts.extend(report.incomplete.iter().map(|reason| format!("! {}", escape::line(reason))));
    parts.extend(report.failures.iter().map(|(kind, count)| failures(report, *kind, *count)));
    parts.extend(damaged(&report.damaged, &given.command("claviger scan --list")));
    if !report.left.is_empty() {
        let names = report.left.iter().map(|key| format!("  {}", escape::line(key)));
        parts.push(format!(
            "left by name ({}):\n{}",
            Count(report.left.len() as u64),
            names.collect::<Vec<_>>().join("\n")
        ));
    }
    if !quiet {
        parts.push(hints.iter().map(|hint| format!("hint:  {}", escape::line(hint))).collect::<Vec<_>>().join("\n"));
    }
    parts.retain(|part| !part.is_empty());
    parts.join("\n\n")
}

fn facts(report: &ReencryptReport) -> Vec<(&'static str, String)> {
    let mut facts: Vec<_> = report.api_server.iter().map(|url| ("API server", url.clone())).collect();
    facts.push(("revision", report.revision.to_string()));
    let is_own = matches!(report.end, ReencryptEnd::NoCredentials | ReencryptEnd::NoSpace);
    let whose = match report.end {
        ReencryptEnd::MigrationFailed => "migration",
        _ if is_own => "because",
        _ => "it says",
    };
    facts.extend(report.reason.iter().map(|reason| (whose, reason.clone())));
    if report.sweeps > 0 {
        facts.push(("written", rate(report)));
        let others = [
            ("unchanged", report.unchanged),
            ("deleted", report.gone),
            ("conflicts", report.conflicts),
            ("busy", report.busy),
        ];
        let others: Vec<_> = others
            .iter()
            .filter(|(_, count)| *count > 0)
            .map(|(what, count)| format!("{} {what}", Count(*count)))
            .collect();
        if !others.is_empty() {
            facts.push(("answers", others.join(", ")));
        }
    }
    if report.events > 0 {
        facts.push(("events", format!("{} are not patched, and expire", Count(report.events))));
    }
    facts
}

fn rate(report: &ReencryptReport) -> String {
    let sweeps = if report.sweeps == 1 { "1 sweep".to_owned() } else { format!("{} sweeps", report.sweeps) };
    let writes =
        if report.writes > report.written { format!(", {} writes", Count(report.writes)) } else { String::new() };
    let speed = speed(report.writes, report.seconds).map_or_else(String::new, |speed| format!("{speed}, "));
    format!("{} in {:.1} s, {speed}{sweeps}{writes}", Count(report.written), report.seconds)
}

/// Returns the number of writes per second, unless it is below one. The seconds include the time in which the command
/// waited for an API server.
fn speed(written: u64, seconds: f64) -> Option<String> {
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        reason = "shown to people"
    )]
    let rate = (written as f64 / seconds.max(0.001)) as u64;
    (rate > 0).then(|| format!("{}/s", Count(rate)))
}

fn table(report: &ReencryptReport) -> String {
    let count = |count| Count(count).to_string();
    let rows = report.resources.iter().map(|one| vec![one.resource.clone(), count(one.before), count(one.now)]);
    output::table(&["RESOURCE", "STALE BEFORE", "STALE NOW"], rows)
}

fn failures(report: &ReencryptReport, kind: FailureKind, count: u64) -> String {
    let mut lines = vec![format!("{} ({}): {}", kind.as_str(), Count(count), meaning(kind))];
    let named = report.failed.iter().filter(|failure| failure.kind == kind).take(NAMED);
    lines.extend(
        named.map(|NamedFailure { key, reason, .. }| format!("  {}: {}", escape::line(key), escape::line(reason))),
    );
    if count > NAMED as u64 {
        lines.push(format!("  and {} more: --output json names up to 1,000", Count(count - NAMED as u64)));
    }
    lines.join("\n")
}

/// Names damaged values. `list` is the command that names all of them. A scan cannot name the objects of a damaged
/// page.
fn damaged(keys: &[String], list: &str) -> Option<String> {
    let first = format!("damaged ({}): the API server cannot decrypt these values", Count(keys.len() as u64));
    let named = keys.iter().take(NAMED).map(|key| format!("  {}", escape::line(key)));
    let more = keys.len().saturating_sub(NAMED);
    let more = (more > 0).then(|| format!("  and {} more: {list}", Count(more as u64)));
    (!keys.is_empty()).then(|| [first].into_iter().chain(named).chain(more).collect::<Vec<_>>().join("\n"))
}

fn meaning(kind: FailureKind) -> &'static str {
    match kind {
        FailureKind::Denied => "this user may not patch these objects",
        FailureKind::Refused => "the API server cannot decrypt these objects, or does not accept them as they are",
        FailureKind::NotServed => "the API server does not serve these objects",
        FailureKind::NoObject => "these keys of etcd are not those of objects",
        FailureKind::Conflict => "something else writes these objects all the time",
        FailureKind::Busy => "the API server was too busy for these objects",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fewer_objects_than_one_a_second_have_no_rate() {
        assert_eq!(speed(3, 10.1), None);
        assert_eq!(speed(1_234_567, 10.0).as_deref(), Some("123,456/s"));
    }

    #[test]
    fn a_damaged_value_is_named() {
        assert_eq!(damaged(&[], "scan"), None);
        let keys: Vec<String> = (1..=7).map(|number| format!("/registry/secrets/default/{number}")).collect();
        let one = "damaged (1): the API server cannot decrypt these values\n  /registry/secrets/default/1";
        assert_eq!(damaged(&keys[..1], "scan").as_deref(), Some(one));
        let all = damaged(&keys, "claviger scan --list").unwrap();
        assert_eq!(all.lines().count(), 7);
        assert!(all.ends_with("\n  /registry/secrets/default/5\n  and 2 more: claviger scan --list"), "{all}");
    }
}
