//! What an operator should know besides the findings. Text, HTML and JSON have the same notes.

use crate::scan::{SourceKind, count::Count, outcome::Incomplete, report::ScanReport};

use super::{
    super::given::{Given, quoted},
    hints::SNAPSHOT,
};

/// kine calls every cluster 0.
const KINE: &str = "0";

/// Returns the notes about a report. `etcdctl` is how etcdctl is called for the etcd that was scanned.
pub(super) fn notes(report: &ScanReport, given: &Given, etcdctl: &str) -> Vec<String> {
    [outside(report), uncovered(report), history(report, given, etcdctl)].into_iter().flatten().collect()
}

fn outside(report: &ScanReport) -> Option<String> {
    let (values, were) = if report.outside == 1 { ("value", "was") } else { ("values", "were") };
    let (outside, prefix) = (Count(report.outside), &report.prefix);
    let other = report.other_prefixes.first().map_or_else(|| "PREFIX".to_owned(), quoted);
    (report.outside > 0).then(|| {
        format!("{outside} {values} outside {prefix} {were} not scanned (to scan others: --etcd-prefix {other})")
    })
}

fn uncovered(report: &ScanReport) -> Option<String> {
    let rows: Vec<String> = report.uncovered().map(|row| format!("{} {}", Count(row.objects), row.resource)).collect();
    let rows = rows.join(", ");
    (!rows.is_empty()).then(|| format!("the EncryptionConfiguration does not cover {rows}: do they contain secrets?"))
}

fn history(report: &ScanReport, given: &Given, etcdctl: &str) -> Option<String> {
    let source = &report.source;
    match source.kind {
        // A free page is in the file until etcd writes over it.
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
