//! The report of a verification: what was read, what was counted, and what speaks against a clean cluster.

use std::{collections::BTreeMap, path::PathBuf};

use crate::{
    crypto::{Commitment, Digest, RootId, Uuid},
    keyring::{key_id::KeyId, time::Time},
    scan::judge::FindingKind,
};

/// The keyring whose primary key all values have to be under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyringNow {
    /// Identifies the keyring.
    pub uuid: Uuid,
    /// The root key that authenticates the report.
    pub root_id: RootId,
    /// The generation of the record.
    pub generation: u64,
    /// The SHA-256 of the record.
    pub record: Digest,
    /// The generation that the last restore or merge made, if there was one.
    pub restored: Option<u64>,
    /// The name of the primary key.
    pub primary: KeyId,
    /// The commitment of the primary key.
    pub commitment: Commitment,
}

/// A file that was compared with, and its SHA-256.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadFile {
    /// Where it is.
    pub path: PathBuf,
    /// The SHA-256 of its bytes.
    pub sha256: Digest,
}

/// An etcd that was read, and at which revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadEtcd {
    /// The revision at which all was read.
    pub revision: u64,
    /// The number of its cluster. kine has none.
    pub cluster: Option<u64>,
    /// Its addresses, in the order in which they were declared.
    pub addresses: Vec<String>,
}

/// A resource that the API server keeps in an etcd of its own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct MovedResource {
    /// As the flag of kube-apiserver names it.
    pub resource: String,
    /// The addresses of that etcd.
    pub addresses: Vec<String>,
}

/// The live values of one resource under one provider and key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedGroup {
    /// The resource.
    pub resource: String,
    /// The provider, by the prefix that it stores.
    pub provider: String,
    /// The KMS v2 key that the values name.
    pub key_id: Option<String>,
    /// The commitment of the key that wrapped their seeds.
    pub commitment: Option<Commitment>,
    /// How many there are.
    pub objects: u64,
    /// How many distinct wrapped seeds they have.
    pub seeds: u64,
    /// The revision at which the least recently written one was written.
    pub first: u64,
    /// The revision at which the most recently written one was written.
    pub last: u64,
    /// What is wrong with all of them.
    pub found: Vec<FindingKind>,
}

/// What identifies a group: resource, provider, key_id and commitment.
pub type GroupNames<'a> = (&'a str, &'a str, Option<&'a str>, Option<Commitment>);

impl VerifiedGroup {
    /// Returns what identifies the group. Groups are sorted by it.
    pub fn names(&self) -> GroupNames<'_> {
        (&self.resource, &self.provider, self.key_id.as_deref(), self.commitment)
    }
}

/// Why a cluster is not proven clean, besides the findings of its objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shortfall {
    /// The prefix is not the API server's.
    WrongPrefix,
    /// Something else could not be read.
    Unread,
    /// There are too many kinds of values to count them apart.
    TooManyGroups,
    /// An etcd was not read at one revision.
    SeveralRevisions,
    /// Flags of kube-apiserver that say where objects are were not understood.
    UnclearFlags,
    /// There are no namespaces, which every API server makes.
    NoNamespaces,
    /// The EncryptionConfiguration writes nothing with the provider.
    NothingWritten,
    /// New Secrets are written in plaintext.
    PlaintextFirst,
    /// Values name the primary key and are under another one.
    OtherCommitment,
}

impl Shortfall {
    /// All of them.
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

    /// Returns the word for it in reports and JSON.
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

    /// Whether something may have been missed. Otherwise something was found.
    pub fn is_incomplete(self) -> bool {
        self <= Self::NoNamespaces
    }
}

/// What a verification ended with.
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
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Clean, Self::LeftOver, Self::Incomplete];

    /// Returns the word for it in reports and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::LeftOver => "left-over",
            Self::Incomplete => "incomplete",
        }
    }
}

/// What one verification read and found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyReport {
    /// The keyring.
    pub keyring: KeyringNow,
    /// When the scan ended.
    pub time: Time,
    /// The provider of claviger's, by its name in the EncryptionConfiguration.
    pub provider: String,
    /// What all keys of the API server begin with.
    pub prefix: String,
    /// The EncryptionConfiguration.
    pub encryption_config: ReadFile,
    /// Where the flags of kube-apiserver were found.
    pub flags: Option<String>,
    /// Each etcd that was read, the main one first.
    pub etcds: Vec<ReadEtcd>,
    /// The resources that the flags of kube-apiserver move to other etcds, sorted.
    pub overrides: Vec<MovedResource>,
    /// What speaks against a clean cluster, besides findings, sorted.
    pub shortfalls: Vec<Shortfall>,
    /// How often each kind was found.
    pub found: BTreeMap<FindingKind, u64>,
    /// All values, sorted by [`VerifiedGroup::names`].
    pub groups: Vec<VerifiedGroup>,
}

impl VerifyReport {
    /// Returns what the verification ended with. A damaged value may hide anything, so it makes the scan incomplete.
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

    /// Returns how many values there are.
    pub fn objects(&self) -> u64 {
        self.groups.iter().map(|group| group.objects).sum()
    }
}
