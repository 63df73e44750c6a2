//! Sentences that the text report and the HTML page share.

use crate::{
    proof::{ReadEtcd, ReportChange, Shortfall, VerifyOutcome, VerifyReport},
    scan::count::Count,
};

use super::verified::{Since, Verified};

/// Returns the headline: whether the cluster is clean, and if not, why.
pub(super) fn headline(verified: &Verified) -> String {
    let report = &verified.report;
    if report.shortfalls.contains(&Shortfall::WrongPrefix) {
        return format!("Not proven clean. {}", verified.scan.headline());
    }
    let mut reasons: Vec<String> = report.shortfalls.iter().filter_map(|one| sentence(*one, report)).collect();
    if !report.found.is_empty() || report.shortfalls.contains(&Shortfall::PlaintextFirst) {
        reasons.push(verified.scan.headline());
    }
    let reasons = reasons.join(". ");
    match (report.outcome(), &verified.since) {
        (VerifyOutcome::Incomplete, _) => format!("Not proven clean. {reasons}"),
        (VerifyOutcome::LeftOver, _) => format!("Not clean. {reasons}"),
        (VerifyOutcome::Clean, Some(since)) if verified.is_voided() => {
            format!("{}, but the report of {} does not count any more", clean(report), since.earlier.report.time)
        }
        (VerifyOutcome::Clean, _) => clean(report),
    }
}

fn clean(report: &VerifyReport) -> String {
    let count = report.under_primary();
    let values = if count == 1 { "1 value is".to_owned() } else { format!("{} values are", Count(count)) };
    format!("Clean: {values} under the primary key, and nothing is left over")
}

/// Returns the sentence for a shortfall, unless the headline of the scan has it.
fn sentence(shortfall: Shortfall, report: &VerifyReport) -> Option<String> {
    let text = match shortfall {
        Shortfall::WrongPrefix | Shortfall::PlaintextFirst => return None,
        Shortfall::Unread => "Something could not be read",
        Shortfall::TooManyGroups => "There are too many kinds of values to count them apart",
        Shortfall::SeveralRevisions => "etcd was not read at one revision, because it compacted during the scan",
        Shortfall::UnclearFlags => "Flags of kube-apiserver that say where its objects are were not understood",
        Shortfall::NoNamespaces => "There are no namespaces, which every API server makes",
        Shortfall::NothingWritten => {
            return Some(format!("The EncryptionConfiguration writes nothing with the provider {}", report.provider));
        }
        Shortfall::OtherCommitment => "There are values that name the primary key and are under another one",
    };
    Some(text.to_owned())
}

/// Returns the words for an etcd that was read: its addresses, cluster and revision.
pub(super) fn etcd(etcd: &ReadEtcd) -> String {
    let cluster = etcd.cluster.map_or_else(String::new, |id| format!(", cluster {id:x}"));
    format!("{}{cluster}, revision {}", etcd.addresses.join(", "), etcd.revision)
}

/// Returns the words for the earlier report and its outcome.
pub(super) fn compared(since: &Since) -> String {
    let report = &since.earlier.report;
    format!("{}, of {}: {}", since.earlier.file.display(), report.time, report.outcome().as_str())
}

/// Returns the words for one change.
pub(super) fn change(ReportChange { what, before, now }: &ReportChange) -> String {
    let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".to_owned());
    format!("{what}: {}, now {}", shown(before), shown(now))
}
