//! The note about entries of the EncryptionConfiguration that cover nothing in etcd.

use crate::{apiserver::coverage::Coverage, scan::report::ScanReport};

/// The greatest number of names in the note.
const NAMED: usize = 5;

/// Returns a note about the entries that cover nothing in etcd. A name may be misspelt, which kube-apiserver accepts.
/// If the report is incomplete, an entry may cover the missing part.
pub(in crate::cli) fn idle(report: &ScanReport, coverage: &Coverage) -> Option<String> {
    let idle = coverage.idle(report.groups.iter().map(|row| row.resource.as_str()));
    let more = idle.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    (!idle.is_empty() && report.reasons.is_empty()).then(|| {
        format!(
            "the EncryptionConfiguration lists {}{more}, and etcd has no object of that name: is it written as `kubectl \
             api-resources` shows it, with its group?",
            idle[..idle.len().min(NAMED)].join(", ")
        )
    })
}
