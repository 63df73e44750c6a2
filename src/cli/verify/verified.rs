//! A finished verification: the scan, the report, the comparison with an earlier report, and the hints.

use std::time::Duration;

use super::earlier::EarlierReport;
use crate::{
    crypto::Digest,
    keyring::time::Time,
    proof::{Comparison, VerifyOutcome, VerifyReport},
    scan::report::ScanReport,
};

use super::super::failure::Exit;

/// A finished verification.
pub(in crate::cli) struct Verified {
    /// The report of the scan.
    pub(in crate::cli) scan: ScanReport,
    /// The report of the verification: what the scan proves.
    pub(in crate::cli) report: VerifyReport,
    /// The authenticated text of the report.
    pub(in crate::cli) text: String,
    /// The time when the primary key became primary, if it replaced another one.
    pub(in crate::cli) promoted: Option<Time>,
    /// The time for which an API server may still write under the previous key after the plugin began to serve the
    /// primary key, unless that time is over.
    pub(in crate::cli) quiet: Option<Duration>,
    /// The earlier report, and the changes since then.
    pub(in crate::cli) since: Option<Since>,
    /// Notes for the operator.
    pub(in crate::cli) notes: Vec<String>,
    /// The command that shows every resource.
    pub(in crate::cli) all: String,
    /// The command that names every object.
    pub(in crate::cli) list: String,
    /// The hints for the operator.
    pub(in crate::cli) hints: Vec<String>,
}

/// An earlier report, and its comparison with this one.
pub(in crate::cli) struct Since {
    pub(super) earlier: EarlierReport,
    pub(in crate::cli) comparison: Comparison,
}

impl Verified {
    /// Returns the SHA-256 of the report's text.
    pub(in crate::cli) fn sha256(&self) -> Digest {
        Digest::of(self.text.as_bytes())
    }

    /// Whether the earlier report does not count any more.
    pub(in crate::cli) fn is_voided(&self) -> bool {
        self.since.as_ref().is_some_and(|since| !since.comparison.voided.is_empty())
    }

    /// Whether the cluster is clean and the earlier report still counts.
    pub(in crate::cli) fn is_good(&self) -> bool {
        self.exit() == Exit::Done
    }

    /// Returns the exit code of the command.
    pub(in crate::cli) fn exit(&self) -> Exit {
        match self.report.outcome() {
            VerifyOutcome::Incomplete => Exit::Damaged,
            VerifyOutcome::LeftOver => Exit::Found,
            VerifyOutcome::Clean if self.is_voided() => Exit::Found,
            VerifyOutcome::Clean => Exit::Done,
        }
    }
}
