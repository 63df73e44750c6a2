//! Why the API server could not read encrypted values, or leaves Secrets in plaintext: no entry of the
//! EncryptionConfiguration covers their resource, or the entry does not list their provider. A name may be misspelt,
//! which kube-apiserver accepts.

use super::{
    super::failure::{Exit, Failure},
    provider::{KMS_V2, is_plain},
};
use crate::{
    apiserver::coverage::{Coverage, IDENTITY},
    config::nearest_of,
    scan::{
        count::Count,
        judge::FindingKind,
        report::{GroupRow, ScanReport},
    },
};

/// Values of one resource and provider that the EncryptionConfiguration leaves out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct Unlisted {
    resource: String,
    /// The provider of the values, as an EncryptionConfiguration names it. `None` for values in plaintext.
    provider: Option<String>,
    objects: u64,
    /// Whether an entry covers the resource. Then the entry does not list the provider.
    is_covered: bool,
    /// A similar name in the EncryptionConfiguration that no value in etcd has.
    similar: Option<String>,
}

impl Unlisted {
    /// Returns encrypted values that the EncryptionConfiguration leaves out, or Secrets in plaintext that it leaves out
    /// because of a misspelt name. Returns `None` if there are no such values.
    pub(in crate::cli) fn find(report: &ScanReport, coverage: &Coverage) -> Option<Self> {
        Self::encrypted(report, coverage).or_else(|| Self::in_plaintext(report, coverage))
    }

    /// Returns encrypted values that the EncryptionConfiguration leaves out, first those for which it has a similar
    /// name.
    pub(super) fn encrypted(report: &ScanReport, coverage: &Coverage) -> Option<Self> {
        let is_lost = |row: &&GroupRow| row.provider != IDENTITY && row.found.contains(&FindingKind::NoProvider);
        Self::first(report.groups.iter().filter(is_lost).map(|row| Self::of(row, report, coverage)))
    }

    /// Returns Secrets in plaintext for whose resource the EncryptionConfiguration has only a similar name.
    pub(super) fn in_plaintext(report: &ScanReport, coverage: &Coverage) -> Option<Self> {
        let is_plain = |row: &&GroupRow| row.provider == IDENTITY && row.found.contains(&FindingKind::Plaintext);
        let found = report.groups.iter().filter(is_plain).map(|row| Self::of(row, report, coverage));
        Self::first(found.filter(|one| !one.is_covered && one.is_misspelt()))
    }

    fn first(found: impl Iterator<Item = Self>) -> Option<Self> {
        let found = found.filter(|one| one.objects > 0);
        found.max_by_key(|one| (one.similar.is_some(), !one.is_covered, one.objects))
    }

    fn of(row: &GroupRow, report: &ScanReport, coverage: &Coverage) -> Self {
        let is_covered = coverage.covers(&row.resource);
        let rows = || report.groups.iter().filter(|row| row.objects > 0);
        let name = row.provider.strip_prefix(KMS_V2);
        let similar = if is_covered {
            let unused = coverage.providers().filter(|provider| rows().all(|row| row.provider != *provider));
            let unused = unused.filter_map(|provider| provider.strip_prefix(KMS_V2));
            name.and_then(|name| nearest_of(name, unused)).map(ToOwned::to_owned)
        } else {
            let idle = coverage.idle(report.groups.iter().map(|row| row.resource.as_str()));
            nearest_of(&row.resource, idle.iter().map(String::as_str)).map(ToOwned::to_owned)
        };
        Self {
            resource: row.resource.clone(),
            provider: (row.provider != IDENTITY).then(|| name.unwrap_or(&row.provider).to_owned()),
            objects: row.objects,
            is_covered,
            // Values that were not read may have the name.
            similar: similar.filter(|name| is_plain(name) && report.reasons.is_empty()),
        }
    }

    /// Whether the EncryptionConfiguration has a similar name, which is probably misspelt.
    pub(in crate::cli) fn is_misspelt(&self) -> bool {
        self.similar.is_some()
    }

    /// Whether the values are in plaintext, so the API server can read them.
    pub(in crate::cli) fn is_plaintext(&self) -> bool {
        self.provider.is_none()
    }

    /// Whether no entry covers the resource, or a similar name is listed. Otherwise the provider is only missing.
    pub(super) fn has_cause(&self) -> bool {
        self.is_misspelt() || !self.is_covered
    }

    /// Returns the sentence that says which values the API server could not read, and why.
    pub(in crate::cli) fn message(&self) -> String {
        let Self { resource, provider, objects, is_covered, similar } = self;
        let objects = Count(*objects).of("object");
        let Some(provider) = provider else {
            return format!(
                "no entry of the EncryptionConfiguration covers {resource}, so {objects} would stay in plaintext"
            );
        };
        let so = format!("so the API server could not read {objects}");
        match similar {
            _ if !is_covered => {
                format!("no entry of the EncryptionConfiguration covers {resource}, {so} under the provider {provider}")
            }
            Some(similar) => format!(
                "the EncryptionConfiguration lists the provider {similar}, and not {provider}, {so} of {resource}"
            ),
            None => format!("the entry for {resource} does not list the provider {provider}, {so}"),
        }
    }

    /// Returns the advice that mends the EncryptionConfiguration.
    pub(in crate::cli) fn remedy(&self) -> String {
        let Self { resource, provider, is_covered, similar, .. } = self;
        let provider = provider.as_deref().unwrap_or(IDENTITY);
        match similar {
            Some(similar) if !is_covered => {
                format!("it lists {similar}, and etcd has no object of that name: write {resource} there")
            }
            None if !is_covered => format!("add {resource} to the entry that lists the provider {provider}"),
            Some(similar) => format!(
                "if {similar} is misspelt, write {provider} there; if it is a new name on purpose, list {provider} again, after the \
                 first one, until nothing is under it"
            ),
            None => format!("list the provider {provider} again, after the first one, until nothing is under it"),
        }
    }

    /// Returns the message and the advice.
    pub(super) fn sentence(&self) -> String {
        format!("{}: {}", self.message(), self.remedy())
    }

    /// Returns the failure of a command that would have such values rewritten, or encrypted.
    pub(in crate::cli) fn failure(&self) -> Failure {
        Failure::new(Exit::Found, &self.message(), self.remedy())
    }
}
