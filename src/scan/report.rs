//! What a scan says: the figures, what was found, and what could not be read. The same for people, programs and auditors.
//!
//! As JSON it is a public interface, `claviger/scan/v1`: fields are added, never changed. `docs/scan.md` explains each.

use std::{collections::BTreeMap, path::Path};

use indicatif::HumanCount;
use serde::Serialize;

use super::{
    Scan,
    bolt::PageDamage,
    judge::{Judge, Kind},
    tally::{Found, GROUPS_MAX, GroupCount, Listed},
    value::IDENTITY,
};
use crate::crypto::Commitment;

/// Where it was scanned.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Source {
    /// `snapshot` or `etcd`.
    pub kind: &'static str,
    /// The newest revision that it has; of a live etcd, the one at which it was read last.
    pub revision: u64,
    /// Up to which revision it was compacted; none if it was not, or if nobody says.
    pub compacted: Option<u64>,
    /// The file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Its length.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Its digest, if that was computed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// Where etcd is.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<String>,
    /// Its number, in hexadecimal digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster_id: Option<String>,
    /// At which revisions it was read, if compaction took the first ones away.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pins: Vec<u64>,
}

/// The SHA-256 of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Digest {
    /// In hexadecimal digits, without the digest at the end of the file.
    pub sha256: String,
    /// Whether it is the one at the end of the file; none if there is none.
    pub matches: Option<bool>,
}

impl Source {
    pub(super) fn snapshot(path: &Path, bytes: u64, revision: u64, compacted: Option<u64>) -> Self {
        let file = Some(path.display().to_string());
        Self { kind: "snapshot", revision, compacted, file, bytes: Some(bytes), ..Self::default() }
    }

    pub(super) fn etcd(endpoints: Vec<String>) -> Self {
        Self { kind: "etcd", endpoints, ..Self::default() }
    }

    /// Notes at which revision a page was read.
    pub(super) fn pin(&mut self, revision: u64, cluster_id: u64) {
        if self.pins.last() != Some(&revision) {
            self.pins.push(revision);
        }
        self.revision = revision;
        self.cluster_id = Some(format!("{cluster_id:x}"));
    }
}

/// Why something may be missing in a report.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Incomplete {
    /// One of the two meta pages.
    #[error("meta page {page} is damaged: what the last transaction wrote may be missing")]
    Meta {
        /// Which one.
        page: u64,
    },
    /// It has fewer bytes than pages.
    #[error("the file was cut off: it has {found} of {expected} bytes")]
    Cut {
        /// Bytes of the file.
        found: u64,
        /// Bytes of the database.
        expected: u64,
    },
    /// Its SHA-256 is another one.
    #[error("the digest at the end of the file is not that of what stands before it")]
    Digest,
    /// Somebody wrote to it.
    #[error("the file changed while it was read")]
    Changed,
    /// Nothing says how far it was compacted.
    #[error("the bucket meta cannot be read")]
    NoMeta,
    /// A wrong prefix looks like an etcd in which all is well.
    #[error("no key lies below {prefix}: is that the prefix of the API server?")]
    Nothing {
        /// The prefix.
        prefix: String,
    },
    /// Somebody makes names up, or there are far more resources and keys than in any cluster.
    #[error(
        "there are more than {GROUPS_MAX} different resources, providers and keys: values of the others are counted as one"
    )]
    Groups,
    /// Some of its pages or records.
    #[error("{count} {} cannot be read", if *.count == 1 { "page or record" } else { "pages or records" })]
    Pages {
        /// How many.
        count: usize,
    },
}

/// A row: what is under one provider and key, of one resource.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// The resource, as an EncryptionConfiguration calls it.
    pub resource: String,
    /// The provider by its stored prefix, or `identity`.
    pub provider: String,
    /// The KMS v2 key that the values name.
    pub key_id: Option<String>,
    /// The commitment of the key that wrapped their seeds, in hexadecimal digits, if the seeds have the shape of claviger's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commitment: Option<String>,
    /// Live objects.
    pub objects: u64,
    /// Older values that are still in the database; none of a live etcd, which does not show them.
    pub revisions: Option<u64>,
    /// Distinct wrapped seeds of the live objects: the Decrypt calls of an API server's next start.
    pub seeds: u64,
    /// The oldest modification of a live object.
    pub first_revision: Option<u64>,
    /// The newest one.
    pub last_revision: Option<u64>,
    /// Live objects that are not encrypted, by their encoding.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub encodings: BTreeMap<&'static str, u64>,
    /// The first keys in the order of the alphabet.
    pub samples: Vec<String>,
    /// What was found of all of them.
    pub found: Vec<Kind>,
    /// Whether it is plaintext that no entry of the EncryptionConfiguration covers.
    #[serde(skip)]
    pub is_uncovered: bool,
    /// Whether people define the resource.
    #[serde(skip)]
    pub is_custom: bool,
}

impl Row {
    /// What the rows of a report are sorted by.
    fn names(&self) -> (&str, &str, Option<&str>, Option<&str>) {
        (&self.resource, &self.provider, self.key_id.as_deref(), self.commitment.as_deref())
    }

    /// Whether whoever has etcd's bytes can read it.
    pub fn is_readable(&self) -> bool {
        self.provider == IDENTITY
    }
}

/// One thing that was found.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    /// What.
    pub kind: Kind,
    /// The object's key in etcd; none of a page.
    pub key: Option<String>,
    /// The resource.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// The provider.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// The KMS v2 key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_id: Option<String>,
    /// When it was written last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mod_revision: Option<u64>,
    /// The page that cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub page: Option<u64>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// How many there are, and how many of them can be read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Readable {
    /// Live objects.
    pub objects: u64,
    /// In plaintext.
    pub readable: u64,
}

/// What was known beside etcd's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Given {
    /// An EncryptionConfiguration.
    pub encryption_config: bool,
    /// Keys.
    pub keys: bool,
}

/// All of it.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// `claviger/scan/v1`.
    pub format: &'static str,
    /// When the scan ended.
    pub time: String,
    /// Where.
    pub source: Source,
    /// What all keys begin with.
    pub prefix: String,
    /// What it was held against.
    pub given: Given,
    /// Secrets alone.
    pub secrets: Readable,
    /// All objects.
    pub all: Readable,
    /// Values of keys outside the prefix.
    pub outside: u64,
    /// By resource, provider and key_id, in this order.
    pub groups: Vec<Row>,
    /// How often each kind was found.
    pub found: BTreeMap<Kind, u64>,
    /// The first ones of each kind in the order of their keys, 1,000 at most; `scan --list` names all.
    pub findings: Vec<Finding>,
    /// Why something may be missing.
    pub incomplete: Vec<String>,
    /// What the operator should know beside.
    pub notes: Vec<String>,
    /// Nothing was found, and nothing is missing.
    pub clean: bool,
}

/// A line of `scan --list`.
#[derive(Serialize)]
pub struct Line<'a> {
    key: std::borrow::Cow<'a, str>,
    resource: String,
    provider: &'a str,
    key_id: Option<&'a str>,
    mod_revision: u64,
    bytes: u32,
    finding: Option<Kind>,
}

impl<'a> From<&'a Listed<'a>> for Line<'a> {
    fn from(listed: &'a Listed<'a>) -> Self {
        Self {
            key: String::from_utf8_lossy(listed.key),
            resource: listed.group.resource.to_string(),
            provider: &listed.group.provider,
            key_id: listed.group.key_id.as_deref(),
            mod_revision: listed.mod_revision,
            bytes: listed.bytes,
            finding: listed.finding,
        }
    }
}

const ENCODINGS: [&str; 4] = ["protobuf", "json", "cbor", "raw"];

/// So many damaged pages are named; they are counted all.
const PAGES_MAX: usize = 1000;

impl Report {
    /// Makes a report of what a scan found below `prefix`, held against what `judge` knows.
    pub fn new(scan: Scan, judge: &Judge, prefix: &[u8], time: String) -> Self {
        let prefix = String::from_utf8_lossy(prefix).into_owned();
        let incomplete: Vec<String> = scan.reasons(&prefix).iter().map(ToString::to_string).collect();
        let Scan { source, tallied, damage, outside, .. } = scan;
        let has_history = source.kind == "snapshot";
        let mut groups: Vec<Row> = tallied.counts.into_iter().map(|count| row(count, has_history)).collect();
        groups.sort_by(|a, b| a.names().cmp(&b.names()));
        let mut found: BTreeMap<Kind, u64> = tallied.found.iter().map(|(kind, all)| (*kind, all.count)).collect();
        if !damage.is_empty() {
            *found.entry(Kind::Damaged).or_default() += damage.len() as u64;
        }
        let mut findings: Vec<Finding> = damage.iter().take(PAGES_MAX).map(page_finding).collect();
        let mut by_kind: Vec<_> = tallied.found.into_iter().collect();
        by_kind.sort_by_key(|(kind, _)| *kind);
        findings.extend(
            by_kind
                .into_iter()
                .flat_map(|(kind, all)| all.into_sorted().into_iter().map(move |found| object_finding(kind, found))),
        );
        Self {
            format: "claviger/scan/v1",
            time,
            source,
            prefix,
            given: Given { encryption_config: judge.coverage.is_some(), keys: judge.keys.is_some() },
            secrets: readable(groups.iter().filter(|row| row.resource == "secrets")),
            all: readable(groups.iter()),
            outside,
            clean: found.is_empty() && incomplete.is_empty(),
            groups,
            found,
            findings,
            incomplete,
            notes: Vec::new(),
        }
    }

    /// Whether something is damaged or missing.
    pub fn is_incomplete(&self) -> bool {
        !self.incomplete.is_empty() || self.found.contains_key(&Kind::Damaged)
    }

    /// The one sentence that matters most.
    pub fn headline(&self) -> String {
        let Readable { objects, readable } = self.secrets;
        let missing = if self.is_incomplete() { ", as far as it can be read" } else { "" };
        let is = if readable == 1 { "is" } else { "are" };
        match (objects, readable) {
            (0, _) if self.all.objects == 0 => format!("There is no object below {}", self.prefix),
            (0, _) => format!("There are no Secrets among {} objects{missing}", HumanCount(self.all.objects)),
            (1, 0) => format!("The only Secret is encrypted in etcd{missing}"),
            (_, 0) => format!("All {} Secrets are encrypted in etcd{missing}", HumanCount(objects)),
            (1, _) => format!("The only Secret is readable in etcd{missing}"),
            _ => format!("{} of {} Secrets {is} readable in etcd{missing}", HumanCount(readable), HumanCount(objects)),
        }
    }

    /// Plaintext that no entry covers and that may hold secrets, by resource.
    pub fn uncovered(&self) -> impl Iterator<Item = &Row> {
        self.groups
            .iter()
            .filter(|row| row.is_uncovered && row.objects > 0)
            .filter(|row| row.resource == "configmaps" || row.is_custom)
    }
}

fn readable<'r>(rows: impl Iterator<Item = &'r Row>) -> Readable {
    rows.fold(Readable::default(), |sum, row| Readable {
        objects: sum.objects + row.objects,
        readable: sum.readable + if row.is_readable() { row.objects } else { 0 },
    })
}

fn row(count: GroupCount, has_history: bool) -> Row {
    let encodings = ENCODINGS.into_iter().zip(count.encodings).filter(|(_, objects)| *objects > 0);
    Row {
        resource: count.group.resource.to_string(),
        provider: count.group.provider.clone(),
        key_id: count.group.key_id.clone(),
        commitment: count.group.commitment.map(Commitment::to_hex),
        objects: count.objects,
        revisions: has_history.then_some(count.revisions),
        seeds: count.seeds,
        first_revision: count.first_revision,
        last_revision: count.last_revision,
        encodings: encodings.collect(),
        samples: count.samples.into_sorted(),
        found: if count.objects > 0 { count.verdict.kinds } else { Vec::new() },
        is_uncovered: count.verdict.is_uncovered,
        is_custom: count.group.resource.is_custom(),
    }
}

fn object_finding(kind: Kind, found: Found) -> Finding {
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

fn page_finding(damage: &PageDamage) -> Finding {
    let lost = damage.bounds.as_ref().map(|bounds| match bounds.revisions() {
        (None, None) => "; any revision may be missing".to_owned(),
        (Some(low), None) => format!("; revisions from {low} on are missing"),
        (None, Some(high)) => format!("; revisions up to {high} may be missing"),
        (Some(low), Some(high)) if low == high => format!("; something of revision {low} is missing"),
        (Some(low), Some(high)) => format!("; revisions {low} to {high} are missing"),
    });
    Finding {
        kind: Kind::Damaged,
        key: None,
        resource: None,
        provider: None,
        key_id: None,
        mod_revision: None,
        page: Some(damage.page),
        reason: Some(format!("{}{}", damage.reason, lost.unwrap_or_default())),
    }
}
