//! The report of a re-encryption: the objects that were rewritten, those that are left, and the exit code that follows.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{
    apiclient::CredentialsError,
    reencrypt::{FailureKind, NamedFailure, SweepEnd, SweepFailure, SweepOutcome},
    scan::{
        judge::FindingKind,
        report::{Finding, GroupRow, ScanReport},
    },
};

use super::{
    super::failure::{Exit, no_space_in},
    census::Census,
    migrating::{Migrated, MigrationEnd, NamedMigration},
    rounds::Rounds,
};

/// The end of a re-encryption.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum ReencryptEnd {
    /// The last scan found nothing left over.
    Done,
    /// The last scan found objects that are left over.
    LeftOver,
    /// Nothing was written, because of `--dry-run`.
    DryRun,
    /// A scan could not read everything.
    Incomplete,
    /// The operator interrupted the command.
    Interrupted,
    /// The API server did not adopt the primary key.
    NotAdopted,
    /// The user lacks a right that is needed.
    Denied,
    /// The API server does not accept the credentials.
    Unauthenticated,
    /// There are no credentials for the API server.
    NoCredentials,
    /// The API server belongs to another cluster.
    OtherCluster,
    /// etcd refuses every write.
    NoSpace,
    /// A migration failed, as the cluster's migrator says.
    MigrationFailed,
    /// Nobody takes up the migrations.
    NoMigrator,
    /// The API server did not answer any more.
    Unreachable,
    /// The server is no API server that can be used.
    NotAnApiServer,
}

/// The provider with which the EncryptionConfiguration makes the API server write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReencryptTarget {
    /// Claviger's provider, for at least one resource.
    PrimaryKey,
    /// Other providers for all resources.
    OtherProvider,
    /// No provider that encrypts, as the operator wants.
    Plaintext,
}

/// The number of objects of a resource that have to be rewritten.
#[derive(Debug, Serialize)]
pub(super) struct StaleResource {
    pub(super) resource: String,
    /// The number that the first scan found.
    pub(super) before: u64,
    /// The number that the last scan found.
    pub(super) now: u64,
}

/// The report of a re-encryption. As JSON it is a public interface.
#[derive(Debug, Serialize)]
pub(super) struct ReencryptReport {
    pub(super) format: &'static str,
    pub(super) end: ReencryptEnd,
    /// The last answer of the API server, if it ended the command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<String>,
    /// The address of the etcd that refuses every write, for the hint.
    #[serde(skip)]
    pub(super) full: Option<String>,
    /// Why the credentials cannot be used, which decides the hint.
    #[serde(skip)]
    pub(super) credentials: Option<CredentialsError>,
    /// The sentence that says that the API server lacks its plugin, and how to start one. `None` if it has one, or if
    /// that is not known.
    #[serde(skip)]
    pub(super) no_plugin: Option<String>,
    /// The address of the API server. `None` if no request was sent.
    pub(super) api_server: Option<String>,
    /// The resources that have, or had, objects to rewrite.
    pub(super) resources: Vec<StaleResource>,
    /// The number of findings of the last scan, by kind.
    pub(super) found: BTreeMap<FindingKind, u64>,
    /// The revision of the last scan.
    pub(super) revision: u64,
    pub(super) sweeps: u32,
    /// The number of objects that have a new revision.
    pub(super) written: u64,
    /// The number of new revisions. An object that two sweeps wrote has two.
    pub(super) writes: u64,
    pub(super) unchanged: u64,
    pub(super) gone: u64,
    pub(super) conflicts: u64,
    pub(super) busy: u64,
    /// The number of objects that the last sweep could not rewrite, by reason.
    pub(super) failures: BTreeMap<FailureKind, u64>,
    /// The first objects that could not be rewritten, with reasons.
    pub(super) failed: Vec<NamedFailure>,
    /// The keys in etcd of the damaged values that the last scan names.
    #[serde(skip)]
    pub(super) damaged: Vec<String>,
    /// The objects that are left by name and are not as configured.
    pub(super) left: Vec<String>,
    /// The number of objects that are still to be written, without those that are left by name.
    pub(super) rest: u64,
    #[serde(skip)]
    pub(super) target: ReencryptTarget,
    /// The number of events that are not as configured.
    pub(super) events: u64,
    pub(super) seconds: f64,
    /// The migrations that were created.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) migrations: Vec<NamedMigration>,
    /// Whether the cluster's migrator was asked, which decides the hint.
    #[serde(skip)]
    pub(super) is_via_migrator: bool,
    /// The reasons why a scan may have missed something.
    pub(super) incomplete: Vec<String>,
}

/// The API server that was asked to rewrite objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Asked {
    /// None: a preview asks no API server.
    NotInPreview,
    /// None: nothing could be rewritten.
    NotNeeded,
    /// The API server with this address.
    ApiServer(String),
}

impl ReencryptReport {
    /// Makes the report. `before` is the census of the first scan.
    pub(super) fn new(before: BTreeMap<String, u64>, rounds: Rounds, asked: Asked, target: ReencryptTarget) -> Self {
        let Rounds { census, outcome, sweeps } = rounds;
        let (end, reason) = end(&census, outcome.as_ref(), &asked, target);
        let sum = |of: fn(&SweepOutcome) -> u64| outcome.as_ref().map_or(0, of);
        let (written, writes) = (sum(SweepOutcome::objects), sum(|one| one.written));
        let (unchanged, gone) = (sum(|one| one.unchanged), sum(|one| one.gone));
        let (conflicts, busy) = (sum(|one| one.conflicts), sum(|one| one.busy));
        let failures = outcome.as_ref().map(|one| &one.failures);
        Self {
            format: "claviger/reencrypt/v1",
            end,
            reason,
            full: outcome.as_ref().and_then(|outcome| full(&outcome.end)),
            credentials: outcome.as_ref().and_then(|outcome| unusable(&outcome.end)),
            no_plugin: None,
            api_server: if let Asked::ApiServer(url) = asked { Some(url) } else { None },
            rest: census.count(),
            target,
            resources: resources(before, &census.stale),
            damaged: damaged(&census.report.findings),
            found: census.report.found,
            revision: census.report.source.revision,
            sweeps,
            written,
            writes,
            unchanged,
            gone,
            conflicts,
            busy,
            failures: failures.map(|list| list.counts().clone()).unwrap_or_default(),
            failed: failures.map(|list| list.named().to_vec()).unwrap_or_default(),
            left: census.left.iter().map(|key| String::from_utf8_lossy(key).into_owned()).collect(),
            events: census.events,
            seconds: 0.0,
            migrations: Vec::new(),
            is_via_migrator: false,
            incomplete: census.report.reasons.iter().map(ToString::to_string).collect(),
        }
    }

    /// Makes the report of migrations. `before` is the census of the first scan.
    pub(super) fn of_migrations(
        before: BTreeMap<String, u64>,
        migrated: Migrated,
        asked: Asked,
        target: ReencryptTarget,
    ) -> Self {
        let Migrated { census, end, migrations, rounds } = migrated;
        let stale: u64 = before.values().sum();
        let rounds = Rounds { census, outcome: None, sweeps: rounds };
        let mut report = Self::new(before, rounds, asked, target);
        // The migrator does not tell which objects it has written. The scans do.
        report.written = stale.saturating_sub(report.rest);
        report.writes = report.written;
        if report.end == ReencryptEnd::LeftOver {
            (report.end, report.reason) = migration_end(&end, &migrations);
            if let MigrationEnd::Unusable(SweepFailure::NoCredentials(reason)) = end {
                report.credentials = Some(reason);
            }
        }
        (report.migrations, report.is_via_migrator) = (migrations, true);
        report
    }

    /// Returns the exit code of the command.
    pub(super) fn exit(&self) -> Exit {
        match self.end {
            ReencryptEnd::Done => Exit::Done,
            ReencryptEnd::DryRun if self.found.is_empty() => Exit::Done,
            ReencryptEnd::LeftOver if self.found.contains_key(&FindingKind::Damaged) => Exit::Damaged,
            ReencryptEnd::DryRun
            | ReencryptEnd::LeftOver
            | ReencryptEnd::NotAdopted
            | ReencryptEnd::MigrationFailed => Exit::Found,
            ReencryptEnd::Incomplete => Exit::Damaged,
            ReencryptEnd::Interrupted => Exit::Interrupted,
            ReencryptEnd::Denied
            | ReencryptEnd::Unauthenticated
            | ReencryptEnd::NoCredentials
            | ReencryptEnd::NoSpace => Exit::Refused,
            ReencryptEnd::OtherCluster | ReencryptEnd::NotAnApiServer => Exit::Usage,
            ReencryptEnd::Unreachable | ReencryptEnd::NoMigrator => Exit::Unreachable,
        }
    }
}

/// Whether the only findings are Secrets in plaintext that an entry covers. If no entry encrypts, they should be
/// plaintext.
fn is_wanted_plaintext(report: &ScanReport) -> bool {
    let is_uncovered = |row: &GroupRow| row.is_uncovered && row.found.contains(&FindingKind::Plaintext);
    report.found.keys().all(|kind| *kind == FindingKind::Plaintext) && !report.groups.iter().any(is_uncovered)
}

fn damaged(findings: &[Finding]) -> Vec<String> {
    let damaged = findings.iter().filter(|finding| finding.kind == FindingKind::Damaged);
    damaged.filter_map(|finding| finding.key.clone()).collect()
}

fn resources(mut before: BTreeMap<String, u64>, now: &BTreeMap<String, u64>) -> Vec<StaleResource> {
    for resource in now.keys() {
        before.entry(resource.clone()).or_default();
    }
    let now = |resource: &str| now.get(resource).copied().unwrap_or(0);
    before.into_iter().map(|(resource, before)| StaleResource { now: now(&resource), resource, before }).collect()
}

/// Decides how the re-encryption ended, from the last scan and the last sweep. Also returns the reason of a failure.
fn end(
    census: &Census,
    outcome: Option<&SweepOutcome>,
    asked: &Asked,
    target: ReencryptTarget,
) -> (ReencryptEnd, Option<String>) {
    let ended = outcome.map(|outcome| &outcome.end);
    match ended {
        _ if census.is_incomplete() => (ReencryptEnd::Incomplete, None),
        _ if *asked == Asked::NotInPreview => (ReencryptEnd::DryRun, None),
        // The last scan decides, whatever the sweeps have met.
        _ if census.is_clean() => (ReencryptEnd::Done, None),
        _ if target == ReencryptTarget::Plaintext && is_wanted_plaintext(&census.report) => (ReencryptEnd::Done, None),
        Some(SweepEnd::Interrupted) => (ReencryptEnd::Interrupted, None),
        Some(SweepEnd::NotAdopted) => (ReencryptEnd::NotAdopted, None),
        Some(SweepEnd::Failed(failure)) => failed(failure),
        Some(SweepEnd::Tried) | None => (ReencryptEnd::LeftOver, None),
    }
}

/// Returns why the credentials cannot be used, if that ended the sweep.
fn unusable(end: &SweepEnd) -> Option<CredentialsError> {
    match end {
        SweepEnd::Failed(SweepFailure::NoCredentials(reason)) => Some(reason.clone()),
        _ => None,
    }
}

/// Decides how the migrations ended, if the last scan has found stale objects.
fn migration_end(end: &MigrationEnd, migrations: &[NamedMigration]) -> (ReencryptEnd, Option<String>) {
    match end {
        MigrationEnd::Succeeded => (ReencryptEnd::LeftOver, None),
        MigrationEnd::Failed => {
            let failed = migrations.iter().find(|one| matches!(one.state, "failed" | "deleted"));
            let reason = |one: &NamedMigration| {
                let message = if one.message.is_empty() { String::new() } else { format!(": {}", one.message) };
                format!("{} ({}) {}{message}", one.name, one.resource, one.state)
            };
            (ReencryptEnd::MigrationFailed, failed.map(reason))
        }
        MigrationEnd::NoMigrator => (ReencryptEnd::NoMigrator, None),
        MigrationEnd::NotAdopted => (ReencryptEnd::NotAdopted, None),
        MigrationEnd::Interrupted => (ReencryptEnd::Interrupted, None),
        MigrationEnd::Unusable(failure) => failed(failure),
    }
}

/// Returns the address of the etcd that refuses every write, if that ended the sweep.
fn full(end: &SweepEnd) -> Option<String> {
    match end {
        SweepEnd::Failed(SweepFailure::NoSpace(url)) => Some(url.clone()),
        _ => None,
    }
}

fn failed(failure: &SweepFailure) -> (ReencryptEnd, Option<String>) {
    let (end, reason) = match failure {
        SweepFailure::OtherCluster => return (ReencryptEnd::OtherCluster, None),
        SweepFailure::Denied(reason) => (ReencryptEnd::Denied, reason.clone()),
        SweepFailure::Unauthenticated(reason) => (ReencryptEnd::Unauthenticated, reason.clone()),
        SweepFailure::NoCredentials(reason) => (ReencryptEnd::NoCredentials, reason.to_string()),
        SweepFailure::NoSpace(url) => (ReencryptEnd::NoSpace, no_space_in(url)),
        SweepFailure::Unreachable(reason) => (ReencryptEnd::Unreachable, reason.clone()),
        SweepFailure::NotAnApiServer(reason) => (ReencryptEnd::NotAnApiServer, reason.to_string()),
    };
    (end, Some(reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_migration_that_failed_is_the_reason() {
        let migration = |state, message: &str| NamedMigration {
            name: "claviger-secrets-a".to_owned(),
            resource: "secrets".to_owned(),
            state,
            message: message.to_owned(),
        };
        let all = [migration("succeeded", ""), migration("failed", "no")];
        let reason = Some("claviger-secrets-a (secrets) failed: no".to_owned());
        assert_eq!(migration_end(&MigrationEnd::Failed, &all), (ReencryptEnd::MigrationFailed, reason));
        let deleted = [migration("deleted", "")];
        let reason = Some("claviger-secrets-a (secrets) deleted".to_owned());
        assert_eq!(migration_end(&MigrationEnd::Failed, &deleted), (ReencryptEnd::MigrationFailed, reason));
        assert_eq!(migration_end(&MigrationEnd::Succeeded, &all), (ReencryptEnd::LeftOver, None));
        let unusable = MigrationEnd::Unusable(SweepFailure::OtherCluster);
        assert_eq!(migration_end(&unusable, &[]), (ReencryptEnd::OtherCluster, None));
    }
}
