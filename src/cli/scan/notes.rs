//! What an operator should know besides the findings. Text, HTML and JSON have the same notes.

use crate::{
    apiserver::coverage::Coverage,
    scan::{SourceKind, count::Count, outcome::Incomplete, report::ScanReport},
};

use super::super::{
    given::{Given, quoted},
    scanning::{SNAPSHOT, idle},
};

/// The number that kine reports for every cluster.
const KINE: &str = "0";

/// Returns the notes about a report. `etcdctl` is the command line of etcdctl for the etcd that was scanned.
pub(super) fn notes(report: &ScanReport, coverage: Option<&Coverage>, given: &Given, etcdctl: &str) -> Vec<String> {
    let idle = coverage.and_then(|coverage| idle(report, coverage));
    [outside(report), uncovered(report), idle, history(report, given, etcdctl)].into_iter().flatten().collect()
}

fn outside(report: &ScanReport) -> Option<String> {
    let (values, were) = if report.outside == 1 { ("value", "was") } else { ("values", "were") };
    let (outside, prefix) = (Count(report.outside), &report.prefix);
    let keys = report.outside_keys.join(", ");
    let such_as = if keys.is_empty() { keys } else { format!(", such as {keys}") };
    let other = report.other_prefixes.first().map_or_else(|| "PREFIX".to_owned(), quoted);
    (report.outside > 0).then(|| {
        format!(
            "{outside} {values} outside {prefix} {were} not scanned{such_as} (to scan others: --etcd-prefix {other})"
        )
    })
}

fn uncovered(report: &ScanReport) -> Option<String> {
    let rows: Vec<String> =
        report.uncovered().map(|row| format!("{} ({})", row.resource, Count(row.objects).of("object"))).collect();
    let rows = rows.join(", ");
    (!rows.is_empty()).then(|| format!("the EncryptionConfiguration does not cover {rows}: do they contain secrets?"))
}

fn history(report: &ScanReport, given: &Given, etcdctl: &str) -> Option<String> {
    let source = &report.source;
    match source.kind {
        // A free page stays in the file until etcd overwrites it.
        SourceKind::Snapshot => source.compacted.map(|_| {
            "free pages of the file may still contain values that etcd has compacted away; `etcdctl defrag` before the next \
             snapshot removes them"
                .to_owned()
        }),
        SourceKind::Etcd if source.cluster_id.as_deref() == Some(KINE) => {
            Some("kine may still have older values in its database, which no scan shows".to_owned())
        }
        // With the wrong prefix, another scan of the same kind shows nothing.
        SourceKind::Etcd if report.reasons.iter().any(Incomplete::is_wrong_prefix) => None,
        SourceKind::Etcd => Some(format!(
            "etcd may still have older values, which only a snapshot shows: {etcdctl} snapshot save FILE && {}",
            given.command(SNAPSHOT)
        )),
    }
}
