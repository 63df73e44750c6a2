//! Decides what a scan proves.
//!
//! A cluster is clean if every value of every resource that the EncryptionConfiguration writes with the provider is
//! under the primary key, in every declared etcd, each read as a whole at one revision. The findings of the scan show
//! the values that are not. This adds what findings cannot show: a scan that proves nothing, because it did not look
//! everywhere, or because nothing has to be encrypted.

use crate::{
    crypto::Commitment,
    keyring::time::Time,
    scan::{
        ScanSource,
        outcome::Incomplete,
        report::{GroupRow, ScanReport},
    },
    text::hex_array,
};

use super::report::{KeyringNow, MovedResource, ReadEtcd, ReadFile, Shortfall, VerifiedGroup, VerifyReport};

/// The subject of a verification: the keyring, and what should be encrypted.
#[derive(Debug, Clone)]
pub struct Subject {
    /// The keyring whose primary key the values should be under.
    pub keyring: KeyringNow,
    /// The name of claviger's provider in the EncryptionConfiguration.
    pub provider: String,
    /// The path and the SHA-256 of the EncryptionConfiguration.
    pub encryption_config: ReadFile,
    /// Whether the EncryptionConfiguration writes any resource with the provider.
    pub is_provider_used: bool,
    /// The resources that the flags of kube-apiserver move to other etcds.
    pub overrides: Vec<MovedResource>,
    /// Whether flags that say where objects are were not understood.
    pub are_flags_unclear: bool,
}

impl VerifyReport {
    /// Makes the report of a scan of live etcds that ended at `time`.
    pub fn new(scan: &ScanReport, subject: Subject, time: Time) -> Self {
        let groups = groups(&scan.groups);
        let shortfalls = shortfalls(scan, &subject, &groups);
        let Subject { keyring, provider, encryption_config, mut overrides, .. } = subject;
        overrides.sort();
        overrides.dedup();
        Self {
            keyring,
            time,
            provider,
            prefix: scan.prefix.clone(),
            encryption_config,
            flags: scan.flags.clone(),
            etcds: sources(scan).map(read_etcd).collect(),
            overrides,
            shortfalls,
            found: scan.found.clone(),
            groups,
        }
    }
}

fn sources(scan: &ScanReport) -> impl Iterator<Item = &ScanSource> {
    [&scan.source].into_iter().chain(&scan.overrides)
}

/// Returns what speaks against a clean cluster besides findings, sorted.
fn shortfalls(scan: &ScanReport, subject: &Subject, groups: &[VerifiedGroup]) -> Vec<Shortfall> {
    let KeyringNow { primary, commitment, .. } = &subject.keyring;
    let primary = primary.to_string();
    let is_misnamed =
        |group: &VerifiedGroup| group.key_id.as_ref() == Some(&primary) && group.commitment != Some(*commitment);
    let is_namespace = |group: &VerifiedGroup| group.resource == "namespaces";
    let others = [
        (Shortfall::SeveralRevisions, sources(scan).any(|source| source.pins.len() > 1)),
        (Shortfall::UnclearFlags, subject.are_flags_unclear),
        (Shortfall::NoNamespaces, !groups.iter().any(is_namespace)),
        (Shortfall::NothingWritten, !subject.is_provider_used),
        (Shortfall::PlaintextFirst, scan.identity_first),
        (Shortfall::OtherCommitment, groups.iter().any(is_misnamed)),
    ];
    let others = others.into_iter().filter(|(_, is_so)| *is_so).map(|(shortfall, _)| shortfall);
    let mut all: Vec<Shortfall> = scan.reasons.iter().map(of_reason).chain(others).collect();
    all.sort_unstable();
    all.dedup();
    all
}

fn of_reason(reason: &Incomplete) -> Shortfall {
    match reason {
        reason if reason.is_wrong_prefix() => Shortfall::WrongPrefix,
        Incomplete::Groups => Shortfall::TooManyGroups,
        _ => Shortfall::Unread,
    }
}

fn read_etcd(source: &ScanSource) -> ReadEtcd {
    let cluster = source.cluster_id.as_deref().and_then(|id| u64::from_str_radix(id, 16).ok());
    ReadEtcd {
        revision: source.revision,
        // kine calls every cluster 0.
        cluster: cluster.filter(|id| *id != 0),
        addresses: source.endpoints.clone(),
    }
}

/// Returns the groups, sorted. Two rows of a scan can have the same names, if somebody invented the name of a resource.
/// Such rows become one group.
fn groups(rows: &[GroupRow]) -> Vec<VerifiedGroup> {
    let mut groups: Vec<VerifiedGroup> = rows.iter().filter(|row| row.objects > 0).map(group).collect();
    groups.sort_by(|a, b| a.names().cmp(&b.names()));
    groups.dedup_by(|next, kept| {
        let is_same = next.names() == kept.names();
        if is_same {
            add(kept, next);
        }
        is_same
    });
    groups
}

fn add(group: &mut VerifiedGroup, other: &VerifiedGroup) {
    group.objects += other.objects;
    group.seeds += other.seeds;
    group.first = group.first.min(other.first);
    group.last = group.last.max(other.last);
    group.found.extend(&other.found);
    group.found.sort_unstable();
    group.found.dedup();
}

/// Returns the group of a report for a row of the scan.
fn group(row: &GroupRow) -> VerifiedGroup {
    let mut found = row.found.clone();
    found.sort_unstable();
    found.dedup();
    VerifiedGroup {
        resource: row.resource.clone(),
        provider: row.provider.clone(),
        key_id: row.key_id.clone(),
        commitment: row.commitment.as_deref().and_then(hex_array).map(Commitment),
        objects: row.objects,
        seeds: row.seeds,
        first: row.first_revision.unwrap_or(0),
        last: row.last_revision.unwrap_or(0),
        found,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{
        crypto::{Digest, RootId, Uuid},
        keyring::{key_id::KeyId, testing::now},
        proof::{VerifyOutcome, testing::PRIMARY},
        scan::{
            judge::FindingKind,
            report::{ComparedWith, ReadableCount, ReportOutcome},
        },
    };

    fn row(resource: &str, provider: &str, commitment: Option<Commitment>) -> GroupRow {
        GroupRow {
            resource: resource.to_owned(),
            provider: provider.to_owned(),
            key_id: commitment.map(|_| KeyId::new(2, &PRIMARY).to_string()),
            commitment: commitment.map(Commitment::to_hex),
            objects: 3,
            older_values: None,
            seeds: 1,
            first_revision: Some(5),
            last_revision: Some(9),
            encodings: BTreeMap::new(),
            samples: Vec::new(),
            found: Vec::new(),
            is_uncovered: false,
            is_custom: false,
            readable_older_values: 0,
        }
    }

    fn source(pins: &[u64]) -> ScanSource {
        let mut source = ScanSource::etcd(vec!["https://a".to_owned()]);
        for revision in pins {
            source.pin(*revision, 0xabc);
        }
        source
    }

    /// Returns the report of a scan of a clean cluster.
    fn scan() -> ScanReport {
        ScanReport {
            format: "claviger/scan/v1",
            outcome: ReportOutcome::Clean,
            time: String::new(),
            source: source(&[10]),
            overrides: Vec::new(),
            flags: None,
            prefix: "/registry/".to_owned(),
            given: ComparedWith { encryption_config: true, keys: true, keyring: None },
            secrets: ReadableCount::default(),
            identity_first: false,
            all: ReadableCount::default(),
            history: None,
            outside: 0,
            outside_keys: Vec::new(),
            other_prefixes: Vec::new(),
            groups: vec![row("namespaces", "identity", None), row("secrets", "kms:v2:claviger", Some(PRIMARY))],
            found: BTreeMap::new(),
            findings: Vec::new(),
            notes: Vec::new(),
            clean: true,
            reasons: Vec::new(),
        }
    }

    fn subject() -> Subject {
        let (record, generation) = (Digest([5; 32]), 5);
        let (uuid, root_id) = (Uuid([5; 16]), RootId([4; 32]));
        Subject {
            keyring: KeyringNow {
                uuid,
                root_id,
                generation,
                record,
                restored: None,
                primary: KeyId::new(2, &PRIMARY),
                commitment: PRIMARY,
            },
            provider: "claviger".to_owned(),
            encryption_config: ReadFile { path: "/enc.yaml".into(), sha256: Digest([6; 32]) },
            is_provider_used: true,
            overrides: Vec::new(),
            are_flags_unclear: false,
        }
    }

    fn decided(scan: &ScanReport, subject: Subject) -> (VerifyOutcome, Vec<Shortfall>) {
        let report = VerifyReport::new(scan, subject, now());
        (report.outcome(), report.shortfalls)
    }

    #[test]
    fn a_cluster_is_clean_if_nothing_speaks_against_it() {
        let report = VerifyReport::new(&scan(), subject(), now());
        assert_eq!((report.outcome(), report.under_primary(), report.objects()), (VerifyOutcome::Clean, 3, 6));
        let etcd = ReadEtcd { revision: 10, cluster: Some(0xabc), addresses: vec!["https://a".to_owned()] };
        assert_eq!(report.etcds, [etcd]);
    }

    #[test]
    fn whatever_may_hide_a_value_makes_a_scan_incomplete() {
        let clean = scan();
        let nothing = Incomplete::Nothing { prefix: "/registry/".to_owned(), others: Vec::new() };
        for (scan, expected) in [
            (ScanReport { reasons: vec![nothing], ..clean.clone() }, Shortfall::WrongPrefix),
            (ScanReport { reasons: vec![Incomplete::Ended], ..clean.clone() }, Shortfall::Unread),
            (ScanReport { reasons: vec![Incomplete::Groups], ..clean.clone() }, Shortfall::TooManyGroups),
            (ScanReport { source: source(&[10, 11]), ..clean.clone() }, Shortfall::SeveralRevisions),
            (ScanReport { overrides: vec![source(&[10, 11])], ..clean.clone() }, Shortfall::SeveralRevisions),
            (ScanReport { groups: clean.groups[1..].to_vec(), ..clean.clone() }, Shortfall::NoNamespaces),
        ] {
            assert_eq!(decided(&scan, subject()), (VerifyOutcome::Incomplete, vec![expected]));
        }
        let unclear = Subject { are_flags_unclear: true, ..subject() };
        assert_eq!(decided(&clean, unclear), (VerifyOutcome::Incomplete, vec![Shortfall::UnclearFlags]));
        let damaged = ScanReport { found: [(FindingKind::Damaged, 1)].into(), ..clean };
        assert_eq!(decided(&damaged, subject()), (VerifyOutcome::Incomplete, Vec::new()));
    }

    #[test]
    fn whatever_is_not_as_it_has_to_be_is_left_over() {
        let clean = scan();
        let unused = Subject { is_provider_used: false, ..subject() };
        assert_eq!(decided(&clean, unused), (VerifyOutcome::LeftOver, vec![Shortfall::NothingWritten]));
        let plaintext = ScanReport { identity_first: true, ..clean.clone() };
        assert_eq!(decided(&plaintext, subject()), (VerifyOutcome::LeftOver, vec![Shortfall::PlaintextFirst]));
        for kind in FindingKind::ALL.into_iter().filter(|kind| *kind != FindingKind::Damaged) {
            let found = ScanReport { found: [(kind, 1)].into(), ..clean.clone() };
            assert_eq!(decided(&found, subject()), (VerifyOutcome::LeftOver, Vec::new()), "{kind:?}");
        }
        // A key_id shows only half of the commitment of its key.
        let mut half = PRIMARY;
        half.0[16..].fill(8);
        let mut groups = clean.groups.clone();
        groups.push(row("leases", "kms:v2:claviger", Some(half)));
        let other = ScanReport { groups, ..clean };
        assert_eq!(decided(&other, subject()), (VerifyOutcome::LeftOver, vec![Shortfall::OtherCommitment]));
    }

    #[test]
    fn rows_with_the_same_names_become_one_group() {
        let mut scan = scan();
        let other = row("secrets", "kms:v2:claviger", Some(PRIMARY));
        let found = vec![FindingKind::OldKey];
        scan.groups.push(GroupRow { objects: 4, first_revision: Some(2), last_revision: Some(7), found, ..other });
        let report = VerifyReport::new(&scan, subject(), now());
        assert_eq!(report.groups.len(), 2);
        let secrets = &report.groups[1];
        assert_eq!((secrets.objects, secrets.seeds, secrets.first, secrets.last), (7, 2, 2, 9));
        assert_eq!(secrets.found, [FindingKind::OldKey]);
    }
}
