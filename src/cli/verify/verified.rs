//! A verification that has ended, with all that is shown of it.

use super::earlier::EarlierReport;
use crate::{
    crypto::Digest,
    keyring::time::Time,
    proof::{Comparison, VerifyOutcome, VerifyReport},
    scan::report::ScanReport,
};

use super::super::failure::Exit;

/// A verification that has ended.
pub(super) struct Verified {
    /// What the scan saw.
    pub(super) scan: ScanReport,
    /// What it proves.
    pub(super) report: VerifyReport,
    /// The authenticated text of the report.
    pub(super) text: String,
    /// When the primary key became primary, if it replaced another one.
    pub(super) promoted: Option<Time>,
    /// The earlier report, and what has changed since.
    pub(super) since: Option<Since>,
    /// What else the operator should know.
    pub(super) notes: Vec<String>,
    /// What to do next.
    pub(super) hints: Vec<String>,
}

/// An earlier report, and what has changed since.
pub(super) struct Since {
    pub(super) earlier: EarlierReport,
    pub(super) comparison: Comparison,
}

impl Verified {
    /// Returns the SHA-256 of the authenticated text.
    pub(super) fn sha256(&self) -> Digest {
        Digest::of(self.text.as_bytes())
    }

    /// Whether the earlier report does not count any more.
    pub(super) fn is_voided(&self) -> bool {
        self.since.as_ref().is_some_and(|since| !since.comparison.voided.is_empty())
    }

    /// Whether all is as it has to be.
    pub(super) fn is_good(&self) -> bool {
        self.exit() == Exit::Done
    }

    /// Returns the exit code.
    pub(super) fn exit(&self) -> Exit {
        match self.report.outcome() {
            VerifyOutcome::Incomplete => Exit::Damaged,
            VerifyOutcome::LeftOver => Exit::Found,
            VerifyOutcome::Clean if self.is_voided() => Exit::Found,
            VerifyOutcome::Clean => Exit::Done,
        }
    }
}
