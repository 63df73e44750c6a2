//! The report for programs: `claviger/verify/v1`.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{
    crypto::Commitment,
    proof::{MovedResource, ReadEtcd, VerifiedGroup},
    scan::{judge::FindingKind, report::Finding},
};

use super::verified::{Since, Verified};

/// The greatest number of objects that are named for each kind of finding.
const NAMED: usize = 5;

/// The JSON of a verification, `claviger/verify/v1`.
#[derive(Serialize)]
pub(super) struct VerifiedJson<'a> {
    format: &'static str,
    outcome: &'static str,
    time: String,
    keyring: KeyringJson,
    provider: &'a str,
    encryption_config: FileJson,
    flags: Option<&'a str>,
    prefix: &'a str,
    etcds: Vec<EtcdJson<'a>>,
    overrides: Vec<OverrideJson<'a>>,
    shortfalls: Vec<&'static str>,
    found: &'a BTreeMap<FindingKind, u64>,
    groups: Vec<GroupJson<'a>>,
    samples: Vec<SampleJson<'a>>,
    report: ReportJson<'a>,
    since: Option<SinceJson>,
    notes: &'a [String],
    quiet_seconds: Option<u64>,
}

#[derive(Serialize)]
struct KeyringJson {
    uuid: String,
    generation: u64,
    record: String,
    restored: Option<u64>,
    primary: String,
    commitment: String,
}

#[derive(Serialize)]
struct FileJson {
    path: String,
    sha256: String,
}

#[derive(Serialize)]
struct EtcdJson<'a> {
    revision: u64,
    cluster_id: Option<String>,
    endpoints: &'a [String],
}

#[derive(Serialize)]
struct OverrideJson<'a> {
    resource: &'a str,
    endpoints: &'a [String],
}

#[derive(Serialize)]
struct GroupJson<'a> {
    resource: &'a str,
    provider: &'a str,
    key_id: Option<&'a str>,
    commitment: Option<String>,
    objects: u64,
    seeds: u64,
    first_revision: u64,
    last_revision: u64,
    found: &'a [FindingKind],
}

#[derive(Serialize)]
struct SampleJson<'a> {
    kind: FindingKind,
    key: Option<&'a str>,
    reason: Option<&'a str>,
}

#[derive(Serialize)]
struct ReportJson<'a> {
    sha256: String,
    text: &'a str,
}

#[derive(Serialize)]
struct SinceJson {
    file: String,
    sha256: String,
    time: String,
    outcome: &'static str,
    voided: Vec<String>,
    changes: Vec<ChangeJson>,
}

#[derive(Serialize)]
struct ChangeJson {
    what: String,
    before: Option<String>,
    now: Option<String>,
}

/// Returns the JSON of a verification.
pub(super) fn verified(verified: &Verified) -> VerifiedJson<'_> {
    let report = &verified.report;
    let (keyring, config) = (&report.keyring, &report.encryption_config);
    VerifiedJson {
        format: "claviger/verify/v1",
        outcome: report.outcome().as_str(),
        time: report.time.to_string(),
        keyring: KeyringJson {
            uuid: keyring.uuid.to_hex(),
            generation: keyring.generation,
            record: keyring.record.to_hex(),
            restored: keyring.restored,
            primary: keyring.primary.to_string(),
            commitment: keyring.commitment.to_hex(),
        },
        provider: &report.provider,
        encryption_config: FileJson { path: config.path.display().to_string(), sha256: config.sha256.to_hex() },
        flags: report.flags.as_deref(),
        prefix: &report.prefix,
        etcds: report.etcds.iter().map(etcd).collect(),
        overrides: report.overrides.iter().map(moved).collect(),
        shortfalls: report.shortfalls.iter().map(|one| one.as_str()).collect(),
        found: &report.found,
        groups: report.groups.iter().map(group).collect(),
        samples: FindingKind::ALL.into_iter().flat_map(|kind| samples(&verified.scan.findings, kind)).collect(),
        report: ReportJson { sha256: verified.sha256().to_hex(), text: &verified.text },
        since: verified.since.as_ref().map(since),
        notes: &verified.notes,
        quiet_seconds: verified.quiet.map(|quiet| quiet.as_secs()),
    }
}

fn etcd(ReadEtcd { revision, cluster, addresses }: &ReadEtcd) -> EtcdJson<'_> {
    EtcdJson { revision: *revision, cluster_id: cluster.map(|id| format!("{id:x}")), endpoints: addresses }
}

fn moved(MovedResource { resource, addresses }: &MovedResource) -> OverrideJson<'_> {
    OverrideJson { resource, endpoints: addresses }
}

fn group(group: &VerifiedGroup) -> GroupJson<'_> {
    GroupJson {
        resource: &group.resource,
        provider: &group.provider,
        key_id: group.key_id.as_deref(),
        commitment: group.commitment.map(Commitment::to_hex),
        objects: group.objects,
        seeds: group.seeds,
        first_revision: group.first,
        last_revision: group.last,
        found: &group.found,
    }
}

/// Returns the first objects with this finding.
fn samples(findings: &[Finding], kind: FindingKind) -> impl Iterator<Item = SampleJson<'_>> {
    let of_kind = findings.iter().filter(move |finding| finding.kind == kind).take(NAMED);
    of_kind.map(|one| SampleJson { kind: one.kind, key: one.key.as_deref(), reason: one.reason.as_deref() })
}

fn since(Since { earlier, comparison }: &Since) -> SinceJson {
    let changes = comparison.changes.iter();
    SinceJson {
        file: earlier.file.display().to_string(),
        sha256: earlier.sha256.to_hex(),
        time: earlier.report.time.to_string(),
        outcome: earlier.report.outcome().as_str(),
        voided: comparison.voided.iter().map(ToString::to_string).collect(),
        changes: changes
            .map(|one| ChangeJson { what: one.what.clone(), before: one.before.clone(), now: one.now.clone() })
            .collect(),
    }
}
