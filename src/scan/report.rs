//! The report of a scan: the figures, what was found, and what could not be read. People, programs and auditors get the
//! same.
//!
//! As JSON it is a public interface, `claviger/scan/v1`: fields are added, never changed. `docs/scan.md` explains each.

use std::{borrow::Cow, collections::BTreeMap};

use serde::{Serialize, Serializer};

use super::{
    bolt::{BoundKey, Bounds, DamageList, PageDamage},
    judge::{FindingKind, Judge},
    outcome::{Incomplete, ScanOutcome},
    revision::Revision,
    smallest::Smallest,
    source::{ScanSource, SourceKind},
    tally::{Counts, GroupCount, ListedObject, ObjectFinding},
};
use crate::{apiserver::coverage::IDENTITY, crypto::Commitment};

/// One row of the report: the values of one resource under one provider and key.
#[derive(Debug, Clone, Serialize)]
pub struct GroupRow {
    /// The resource, as an EncryptionConfiguration names it.
    pub resource: String,
    /// The provider, as its prefix names it, or `identity`.
    pub provider: String,
    /// The key_id that the values name. `None` for other providers than KMS v2.
    pub key_id: Option<String>,
    /// The commitment of the key that wrapped the seeds of the values, in hexadecimal digits. `None` if the seeds do
    /// not have the shape of claviger's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commitment: Option<String>,
    /// The number of live objects.
    pub objects: u64,
    /// The number of older values that are still in the database. `None` for a live etcd, which does not show them.
    pub older_values: Option<u64>,
    /// The number of distinct wrapped seeds of live objects. After its next start, an API server has each of them
    /// decrypted.
    pub seeds: u64,
    /// The revision at which the least recently written live object was written.
    pub first_revision: Option<u64>,
    /// The revision at which the most recently written live object was written.
    pub last_revision: Option<u64>,
    /// The number of live objects that are not encrypted, by their encoding.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub encodings: BTreeMap<&'static str, u64>,
    /// The first keys of live objects, in alphabetical order.
    pub samples: Vec<String>,
    /// The findings that hold for all values of this row.
    pub found: Vec<FindingKind>,
    /// Whether the values are plaintext that no entry of the EncryptionConfiguration covers.
    #[serde(skip)]
    pub is_uncovered: bool,
    /// Whether the resource is a custom resource.
    #[serde(skip)]
    pub is_custom: bool,
    /// The number of older values in plaintext that should be encrypted.
    #[serde(skip)]
    pub readable_older_values: u64,
}

impl GroupRow {
    /// Returns the names by which the rows of a report are sorted.
    fn names(&self) -> (&str, &str, Option<&str>, Option<&str>) {
        (&self.resource, &self.provider, self.key_id.as_deref(), self.commitment.as_deref())
    }

    /// Whether the API server cannot decrypt the values: it has no provider for them, or cannot use their key.
    pub fn is_undecryptable(&self) -> bool {
        let kinds = [FindingKind::NoProvider, FindingKind::UnknownKey, FindingKind::DisabledKey];
        kinds.iter().any(|kind| self.found.contains(kind))
    }

    /// Whether the only finding is that the compared keyring lacks the values' key. A plugin that serves another
    /// keyring may have the key.
    pub(super) fn lacks_only_key(&self) -> bool {
        let others = [FindingKind::NoProvider, FindingKind::DisabledKey];
        self.found.contains(&FindingKind::UnknownKey) && others.iter().all(|kind| !self.found.contains(kind))
    }

    /// Whether the values are plaintext, so that anyone with access to etcd can read them.
    pub fn is_plaintext(&self) -> bool {
        self.provider == IDENTITY
    }
}

/// A finding: an object with a fault, or a page that cannot be read.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    /// The kind of the finding.
    pub kind: FindingKind,
    /// The key of the object in etcd. `None` for a page.
    pub key: Option<String>,
    /// The resource of the object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// The provider of the value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// The key_id that the value names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_id: Option<String>,
    /// The revision at which the value was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mod_revision: Option<u64>,
    /// The number of the page that cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub page: Option<u64>,
    /// Details of the finding, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The number of objects, and how many of them are plaintext or unreadable.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct ReadableCount {
    /// The number of live objects.
    pub objects: u64,
    /// The number of live objects in plaintext.
    pub readable: u64,
    /// The number of live objects that the API server cannot read: it has no provider for them, or the keyring cannot
    /// use their key.
    pub unreadable: u64,
}

/// Which inputs the values were compared with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ComparedWith {
    /// Whether an EncryptionConfiguration was given.
    pub encryption_config: bool,
    /// Whether keys were given.
    pub keys: bool,
    /// The path of the keyring file that lists the keys.
    pub keyring: Option<String>,
}

/// The older values in a file that etcd has not compacted away.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct OlderValues {
    /// The number of all older values.
    pub values: u64,
    /// The number of older values in plaintext that should be encrypted: Secrets, and the resources that the
    /// EncryptionConfiguration covers.
    pub readable: u64,
    /// Up to 1,000 of the values that `readable` counts, in the order of their keys.
    pub findings: Vec<ReadableValue>,
}

/// An older value that is in plaintext and should be encrypted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReadableValue {
    /// The object's key in etcd.
    pub key: String,
    /// The resource of the object.
    pub resource: String,
    /// The revision at which the value was written.
    pub mod_revision: u64,
}

/// The answer of a scan in one word. The exit code follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReportOutcome {
    /// Every value is as configured.
    Clean,
    /// All live objects are as configured, but the file has older values that can be read and should be encrypted.
    OlderValues,
    /// Some live object has a finding, or new Secrets are written in plaintext.
    LeftOver,
    /// Something is damaged or missing.
    Incomplete,
}

/// The report of a scan.
#[derive(Debug, Clone, Serialize)]
pub struct ScanReport {
    /// The name of the format, `claviger/scan/v1`.
    pub format: &'static str,
    /// What the scan ended with.
    pub outcome: ReportOutcome,
    /// The time when the scan ended.
    pub time: String,
    /// The source that was scanned.
    pub source: ScanSource,
    /// The other etcds that were read, if the API server keeps some resources elsewhere.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub overrides: Vec<ScanSource>,
    /// The place where the flags of kube-apiserver were found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flags: Option<String>,
    /// The prefix of all keys of the API server.
    pub prefix: String,
    /// The inputs that the values were compared with.
    pub given: ComparedWith,
    /// The counts of Secrets alone.
    pub secrets: ReadableCount,
    /// Whether `identity` comes first for Secrets: new Secrets are written in plaintext, although the
    /// EncryptionConfiguration lists a provider that encrypts them.
    pub identity_first: bool,
    /// The counts of all objects.
    pub all: ReadableCount,
    /// The counts of older values in the file. `None` for a live etcd, which does not show them.
    pub history: Option<OlderValues>,
    /// The number of values whose keys are outside the prefix.
    pub outside: u64,
    /// The first of the keys outside the prefix, at most three.
    pub outside_keys: Vec<String>,
    /// The prefixes of API servers that were seen outside the prefix, as `--etcd-prefix` takes them.
    pub other_prefixes: Vec<String>,
    /// The counts for each resource, provider and key_id, sorted by these.
    pub groups: Vec<GroupRow>,
    /// The number of findings of each kind.
    pub found: BTreeMap<FindingKind, u64>,
    /// Up to 1,000 findings of each kind, in the order of their keys. `scan --list` prints all findings.
    pub findings: Vec<Finding>,
    /// The reasons why something may be missing.
    #[serde(rename = "incomplete", serialize_with = "as_texts")]
    pub reasons: Vec<Incomplete>,
    /// Notes for the operator besides the findings.
    pub notes: Vec<String>,
    /// Whether live objects have no findings, and nothing is missing.
    pub clean: bool,
}

/// An object, as one line of `scan --list`.
#[derive(Serialize)]
pub struct ObjectLine<'a> {
    key: Cow<'a, str>,
    resource: String,
    provider: &'a str,
    key_id: Option<&'a str>,
    mod_revision: u64,
    bytes: u32,
    finding: Option<FindingKind>,
    older: bool,
}

impl<'a> From<&'a ListedObject<'a>> for ObjectLine<'a> {
    fn from(listed: &'a ListedObject<'a>) -> Self {
        Self {
            key: String::from_utf8_lossy(listed.key),
            resource: listed.group.resource.to_string(),
            provider: &listed.group.provider,
            key_id: listed.group.key_id.as_deref(),
            mod_revision: listed.mod_revision,
            bytes: listed.length,
            finding: listed.finding,
            older: listed.is_older,
        }
    }
}

const ENCODINGS: [&str; 4] = ["protobuf", "json", "cbor", "raw"];

impl ScanReport {
    /// Makes the report of a scan below `prefix` that ended at `time`. `judge` knows what the values were compared
    /// with.
    pub fn new(outcome: ScanOutcome, counts: Counts, judge: &Judge, prefix: &[u8], time: String) -> Self {
        let prefix = String::from_utf8_lossy(prefix).into_owned();
        let reasons = outcome.reasons(&prefix, counts.has_merged_groups);
        let ScanOutcome { source, overrides, damage, outside, other_prefixes, .. } = outcome;
        let has_history = source.kind == SourceKind::Snapshot;
        let mut groups: Vec<GroupRow> = counts.by_group.into_iter().map(|count| row(count, has_history)).collect();
        groups.sort_by(|a, b| a.names().cmp(&b.names()));
        let found = found(&counts.findings, &damage);
        let history = has_history.then(|| older(&groups, counts.readable_older));
        let clean = found.is_empty() && reasons.is_empty() && !judge.writes_plaintext_secrets();
        let is_incomplete = !reasons.is_empty() || found.contains_key(&FindingKind::Damaged);
        let outcome = match &history {
            _ if is_incomplete => ReportOutcome::Incomplete,
            _ if !clean => ReportOutcome::LeftOver,
            Some(history) if history.readable > 0 => ReportOutcome::OlderValues,
            _ => ReportOutcome::Clean,
        };
        let findings = findings(counts.findings, &damage);
        Self {
            format: "claviger/scan/v1",
            outcome,
            time,
            source,
            overrides,
            flags: None,
            prefix,
            given: ComparedWith {
                encryption_config: judge.coverage.is_some(),
                keys: judge.keys.is_some(),
                keyring: None,
            },
            secrets: readable(groups.iter().filter(|row| row.resource == "secrets")),
            identity_first: judge.writes_plaintext_secrets(),
            all: readable(groups.iter()),
            history,
            outside: outside.count,
            outside_keys: outside.keys.iter().map(|key| String::from_utf8_lossy(key).into_owned()).collect(),
            other_prefixes,
            clean,
            groups,
            found,
            findings,
            reasons,
            notes: Vec::new(),
        }
    }

    /// Whether something is damaged, or may be missing.
    pub fn is_incomplete(&self) -> bool {
        self.outcome == ReportOutcome::Incomplete
    }

    /// Whether the report is good news: no findings, nothing missing, and no older value in the file in plaintext that
    /// should be encrypted.
    pub fn is_good(&self) -> bool {
        self.outcome == ReportOutcome::Clean
    }

    /// Returns the number of older values in the file that are plaintext and should be encrypted.
    pub fn older_readable(&self) -> u64 {
        self.history.as_ref().map_or(0, |history| history.readable)
    }

    /// Returns the rows of plaintext that no entry covers and that may contain secrets.
    pub fn uncovered(&self) -> impl Iterator<Item = &GroupRow> {
        self.groups
            .iter()
            .filter(|row| row.is_uncovered && row.objects > 0)
            .filter(|row| row.resource == "configmaps" || row.is_custom)
    }
}

fn as_texts<S: Serializer>(reasons: &[Incomplete], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(reasons.iter().map(ToString::to_string))
}

/// Returns the number of findings of each kind.
fn found(
    of_objects: &BTreeMap<FindingKind, Smallest<ObjectFinding>>,
    damage: &DamageList,
) -> BTreeMap<FindingKind, u64> {
    let mut found: BTreeMap<FindingKind, u64> = of_objects.iter().map(|(kind, all)| (*kind, all.count)).collect();
    if damage.count() > 0 {
        *found.entry(FindingKind::Damaged).or_default() += damage.count();
    }
    found
}

/// Returns the findings that were kept: damaged pages first, then objects.
fn findings(of_objects: BTreeMap<FindingKind, Smallest<ObjectFinding>>, damage: &DamageList) -> Vec<Finding> {
    let of_objects = of_objects
        .into_iter()
        .flat_map(|(kind, all)| all.into_sorted().into_iter().map(move |finding| object_finding(kind, finding)));
    damage.iter().map(page_finding).chain(of_objects).collect()
}

fn older(rows: &[GroupRow], readable: Smallest<ObjectFinding>) -> OlderValues {
    let value = |ObjectFinding { key, resource, mod_revision, .. }| ReadableValue { key, resource, mod_revision };
    OlderValues {
        values: rows.iter().filter_map(|row| row.older_values).sum(),
        readable: readable.count,
        findings: readable.into_sorted().into_iter().map(value).collect(),
    }
}

fn readable<'r>(rows: impl Iterator<Item = &'r GroupRow>) -> ReadableCount {
    rows.fold(ReadableCount::default(), |sum, row| ReadableCount {
        objects: sum.objects + row.objects,
        readable: sum.readable + if row.is_plaintext() { row.objects } else { 0 },
        unreadable: sum.unreadable + if row.is_undecryptable() { row.objects } else { 0 },
    })
}

/// Returns the row of the report for the counts of a group.
fn row(count: GroupCount, has_history: bool) -> GroupRow {
    let is_readable = count.verdict.is_readable();
    let encodings = ENCODINGS.into_iter().zip(count.encodings).filter(|(_, objects)| *objects > 0);
    GroupRow {
        resource: count.group.resource.to_string(),
        provider: count.group.provider.clone(),
        key_id: count.group.key_id.clone(),
        commitment: count.group.commitment.map(Commitment::to_hex),
        objects: count.objects,
        older_values: has_history.then_some(count.older_values),
        seeds: count.seeds,
        first_revision: count.first_revision,
        last_revision: count.last_revision,
        encodings: encodings.collect(),
        samples: count.samples.into_sorted(),
        found: if count.objects > 0 { count.verdict.kinds } else { Vec::new() },
        is_uncovered: count.verdict.is_uncovered,
        is_custom: count.group.resource.is_custom(),
        readable_older_values: if is_readable { count.older_values } else { 0 },
    }
}

/// Returns the finding of the report about an object.
fn object_finding(kind: FindingKind, found: ObjectFinding) -> Finding {
    Finding {
        kind,
        key: Some(found.key),
        resource: Some(found.resource),
        provider: Some(found.provider),
        key_id: found.key_id,
        mod_revision: Some(found.mod_revision),
        page: None,
        reason: found.reason,
    }
}

/// Returns the finding about a damaged page, with the revisions that may be missing.
fn page_finding(damage: &PageDamage) -> Finding {
    let lost = damage.bounds.as_ref().map(|bounds| match revisions(bounds) {
        (None, None) => "; any revision may be missing".to_owned(),
        (Some(low), None) => format!("; revisions from {low} on are missing"),
        (None, Some(high)) => format!("; revisions up to {high} may be missing"),
        (Some(low), Some(high)) if low == high => format!("; something of revision {low} is missing"),
        (Some(low), Some(high)) => format!("; revisions {low} to {high} are missing"),
    });
    Finding {
        kind: FindingKind::Damaged,
        key: None,
        resource: None,
        provider: None,
        key_id: None,
        mod_revision: None,
        page: Some(damage.page),
        reason: Some(format!("{}{}", damage.error, lost.unwrap_or_default())),
    }
}

/// Returns the first and the last revision that may be missing, as far as the bounds of a page tell.
fn revisions(bounds: &Bounds) -> (Option<u64>, Option<u64>) {
    let main = |key: &Option<BoundKey>| key.as_deref().and_then(Revision::parse).map(|revision| revision.main);
    (main(&bounds.low), main(&bounds.high))
}
