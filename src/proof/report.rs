//! The report of a verification: what was read, what was counted, and what speaks against a clean cluster.

use std::{collections::BTreeMap, path::PathBuf};

use crate::{
    crypto::{Commitment, Digest, RootId, Uuid},
    keyring::{key_id::KeyId, time::Time},
    scan::judge::FindingKind,
};

/// The keyring whose primary key all values should be under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyringNow {
    /// The uuid of the keyring.
    pub uuid: Uuid,
    /// The root key that authenticates the report.
    pub root_id: RootId,
    /// The generation of the record.
    pub generation: u64,
    /// The SHA-256 of the keyring's record.
    pub record: Digest,
    /// The generation that the last restore or merge made, if there was one.
    pub restored: Option<u64>,
    /// The name of the primary key.
    pub primary: KeyId,
    /// The commitment of the primary key.
    pub commitment: Commitment,
}

/// A file that the values were compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadFile {
    /// The path of the file.
    pub path: PathBuf,
    /// The SHA-256 of the file.
    pub sha256: Digest,
}

/// An etcd that was read, with its revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadEtcd {
    /// The revision at which the whole etcd was read.
    pub revision: u64,
    /// The number of the etcd cluster. kine has none.
    pub cluster: Option<u64>,
    /// The addresses of the etcd, in the order in which they were declared.
    pub addresses: Vec<String>,
}

/// A resource that the API server keeps in an etcd of its own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct MovedResource {
    /// The name of the resource, as the flag of kube-apiserver has it.
    pub resource: String,
    /// The addresses of the etcd with this resource.
    pub addresses: Vec<String>,
}

/// The live values of one resource under one provider and key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedGroup {
    /// The name of the resource.
    pub resource: String,
    /// The provider that wrote the values, as their prefix names it.
    pub provider: String,
    /// The KMS v2 key that the values name.
    pub key_id: Option<String>,
    /// The commitment of the key that wrapped their seeds.
    pub commitment: Option<Commitment>,
    /// The number of values.
    pub objects: u64,
    /// The number of distinct wrapped seeds in the values.
    pub seeds: u64,
    /// The revision of the value that was written first.
    pub first: u64,
    /// The revision of the value that was written last.
    pub last: u64,
    /// The findings that hold for all values of the group.
    pub found: Vec<FindingKind>,
}

/// The names that identify a group: resource, provider, key_id and commitment.
pub type GroupNames<'a> = (&'a str, &'a str, Option<&'a str>, Option<Commitment>);

impl VerifiedGroup {
    /// Returns the names that identify the group. Groups are sorted by them.
    pub fn names(&self) -> GroupNames<'_> {
        (&self.resource, &self.provider, self.key_id.as_deref(), self.commitment)
    }
}

/// A reason why a cluster is not proven clean, besides the findings of its objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shortfall {
    /// The prefix is not the API server's.
    WrongPrefix,
    /// Something else was not read, for example a damaged page.
    Unread,
    /// There are too many kinds of values to count them apart.
    TooManyGroups,
    /// An etcd was not read at one revision.
    SeveralRevisions,
    /// Some flags of kube-apiserver that say where objects are were not understood.
    UnclearFlags,
    /// etcd has no namespaces, although every API server makes some.
    NoNamespaces,
    /// The EncryptionConfiguration writes no resource with the provider.
    NothingWritten,
    /// New Secrets are written in plaintext.
    PlaintextFirst,
    /// Values name the primary key and are under another one.
    OtherCommitment,
}

impl Shortfall {
    /// All reasons, in the order of reports.
    pub const ALL: [Self; 9] = [
        Self::WrongPrefix,
        Self::Unread,
        Self::TooManyGroups,
        Self::SeveralRevisions,
        Self::UnclearFlags,
        Self::NoNamespaces,
        Self::NothingWritten,
        Self::PlaintextFirst,
        Self::OtherCommitment,
    ];

    /// Returns the word for the reason in reports and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WrongPrefix => "wrong-prefix",
            Self::Unread => "unread",
            Self::TooManyGroups => "too-many-groups",
            Self::SeveralRevisions => "several-revisions",
            Self::UnclearFlags => "unclear-flags",
            Self::NoNamespaces => "no-namespaces",
            Self::NothingWritten => "nothing-written",
            Self::PlaintextFirst => "plaintext-first",
            Self::OtherCommitment => "other-commitment",
        }
    }

    /// Whether the scan may have missed something. If not, the scan has found something wrong.
    pub fn is_incomplete(self) -> bool {
        self <= Self::NoNamespaces
    }
}

/// The outcome of a verification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VerifyOutcome {
    /// Every value is as configured.
    Clean,
    /// Some value is not as configured.
    LeftOver,
    /// Something may have been missed, or is damaged.
    Incomplete,
}

impl VerifyOutcome {
    /// All outcomes, the best first.
    pub const ALL: [Self; 3] = [Self::Clean, Self::LeftOver, Self::Incomplete];

    /// Returns the word for the outcome in reports and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::LeftOver => "left-over",
            Self::Incomplete => "incomplete",
        }
    }
}

/// The report of one verification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyReport {
    /// The keyring whose primary key the values should be under.
    pub keyring: KeyringNow,
    /// The time when the scan ended.
    pub time: Time,
    /// The name of claviger's provider in the EncryptionConfiguration.
    pub provider: String,
    /// The prefix of all keys of the API server, `--etcd-prefix`.
    pub prefix: String,
    /// The path and the SHA-256 of the EncryptionConfiguration.
    pub encryption_config: ReadFile,
    /// The place where the flags of kube-apiserver were found.
    pub flags: Option<String>,
    /// Each etcd that was read, the main one first.
    pub etcds: Vec<ReadEtcd>,
    /// The resources that the flags of kube-apiserver move to other etcds, sorted.
    pub overrides: Vec<MovedResource>,
    /// The reasons against a clean cluster besides findings, sorted.
    pub shortfalls: Vec<Shortfall>,
    /// The number of findings of each kind.
    pub found: BTreeMap<FindingKind, u64>,
    /// The groups of all values, sorted by [`VerifiedGroup::names`].
    pub groups: Vec<VerifiedGroup>,
}

impl VerifyReport {
    /// Returns the outcome of the verification. A damaged value may hide anything, so it makes the verification
    /// incomplete.
    pub fn outcome(&self) -> VerifyOutcome {
        let is_damaged = self.found.contains_key(&FindingKind::Damaged);
        if is_damaged || self.shortfalls.iter().any(|shortfall| shortfall.is_incomplete()) {
            VerifyOutcome::Incomplete
        } else if self.found.is_empty() && self.shortfalls.is_empty() {
            VerifyOutcome::Clean
        } else {
            VerifyOutcome::LeftOver
        }
    }

    /// Returns how many values are under the primary key.
    pub fn under_primary(&self) -> u64 {
        let is_under = |group: &&VerifiedGroup| group.commitment == Some(self.keyring.commitment);
        self.groups.iter().filter(is_under).map(|group| group.objects).sum()
    }

    /// Returns how many values were counted.
    pub fn objects(&self) -> u64 {
        self.groups.iter().map(|group| group.objects).sum()
    }
}
