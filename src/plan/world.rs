//! What is known of a cluster at one moment.

use std::{collections::BTreeSet, time::Duration};

use crate::{
    crypto::Digest,
    keyring::{key_id::KeyId, state::State},
};

/// A moment on the boot-time clock of the machine that runs the rotation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticks(pub Duration);

impl Ticks {
    /// Returns the moment that comes after `wait`.
    #[must_use]
    pub fn after(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(wait))
    }
}

/// How long kube-apiserver may take, where its flags or its EncryptionConfiguration say more than the defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Timeouts {
    /// `timeout` of the provider: how long it waits for the plugin.
    pub kms: Duration,
    /// `--request-timeout`: how long a write may be under way.
    pub request: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { kms: Duration::from_secs(3), request: Duration::from_mins(1) }
    }
}

impl Timeouts {
    /// For how long kube-apiserver goes on writing under a seed without a good Status. A constant in k8s.io/apiserver.
    const COASTING: Duration = Duration::from_mins(3);
    /// How long the kernel may take to deliver a write that was given up.
    const DELIVERY: Duration = Duration::from_secs(20);

    /// Returns for how long an API server may still write under the old key after its plugin serves another primary
    /// key.
    pub fn quiet(self) -> Duration {
        let standard = Self::default();
        let longest = self.kms.max(standard.kms).saturating_add(self.request.max(standard.request));
        longest.saturating_add(Self::COASTING).saturating_add(Self::DELIVERY)
    }

    /// Returns for how long every Status of an API server has to announce one key, with no Encrypt between, until no
    /// write under another key can be under way. A write that was begun before the first of them has arrived or was
    /// given up by then.
    pub fn settled(self) -> Duration {
        /// The longest time between two Status that count as one after the other, and some more.
        const GAP: Duration = Duration::from_secs(100);
        self.request.max(Self::default().request).saturating_add(GAP).saturating_add(Self::DELIVERY)
    }
}

/// A key of the keyring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyNow {
    /// Its name.
    pub id: KeyId,
    /// Its state.
    pub state: State,
    /// Whether a backup that counts holds it.
    pub is_backed_up: bool,
    /// Whether others may know it.
    pub is_compromised: bool,
}

/// The keyring's record.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RecordNow {
    /// Its SHA-256.
    pub digest: Digest,
    /// The records before it, the newest first.
    pub past: Vec<Digest>,
    /// Its keys that are not destroyed.
    pub keys: Vec<KeyNow>,
}

impl RecordNow {
    /// Returns the primary key.
    pub fn primary(&self) -> Option<KeyId> {
        self.keys.iter().find(|key| key.state == State::Primary).map(|key| key.id)
    }

    /// Returns the keys that others may know and that still unwrap: who has one can plant values.
    pub fn exposed(&self) -> impl Iterator<Item = KeyId> {
        let exposed = self.keys.iter().filter(|key| key.is_compromised && key.state.unwraps());
        exposed.map(|key| key.id)
    }

    /// Returns the key of this name.
    pub fn key(&self, id: KeyId) -> Option<&KeyNow> {
        self.keys.iter().find(|key| key.id == id)
    }
}

/// What a node's plugin serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ServedNow {
    /// The SHA-256 of the record.
    pub record: Digest,
    /// The primary key.
    pub primary: KeyId,
    /// The key under which it has opened a canary.
    pub canary: Option<KeyId>,
    /// For how long it has served this primary key, without a restart.
    pub primary_for: Duration,
}

/// A connection of an API server to a plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConnectionNow {
    /// The process of the API server. It has a connection for each of its provider entries, and for a while another one
    /// after it has read its EncryptionConfiguration again. `None` if it is in another namespace.
    pub process: Option<i32>,
    /// The key that the last Status announced.
    pub announced: Option<KeyId>,
    /// For how long every Status has announced that key, with no gap and no Encrypt between.
    pub steady: Duration,
    /// Whether the API server has called lately. One that is paused has not.
    pub is_alive: bool,
}

impl NodeNow {
    /// Counts the API servers with a connection of this kind. If the process of a connection is unknown, the connection
    /// counts as an API server of its own.
    pub(super) fn connected(&self, is_counted: impl Fn(&ConnectionNow) -> bool) -> u64 {
        let processes: Vec<Option<i32>> =
            self.connections.iter().filter(|connection| is_counted(connection)).map(|one| one.process).collect();
        let unknown = processes.iter().filter(|process| process.is_none()).count();
        let known: BTreeSet<i32> = processes.into_iter().flatten().collect();
        u64::try_from(known.len() + unknown).unwrap_or(u64::MAX)
    }
}

/// A node as the others see it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NodeNow {
    /// Its name.
    pub name: String,
    /// Whether the operator has said that it may be left behind.
    pub is_skipped: bool,
    /// What its plugin serves. `None` if it does not say.
    pub serves: Option<ServedNow>,
    /// The connections of API servers to its plugin.
    pub connections: Vec<ConnectionNow>,
}

/// A count of the API servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ApiServers {
    /// When it ended.
    pub at: Ticks,
    /// How many there are. 0 means that it is not known.
    pub count: u64,
}

impl ApiServers {
    /// How old a count may be when a gate opens by it.
    const FRESH: Duration = Duration::from_mins(2);

    /// Whether a gate may open by it.
    pub(super) fn is_fresh(&self, now: Ticks) -> bool {
        self.at.after(Self::FRESH) >= now
    }
}

/// What a scan found, without the objects that are left by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Scanned {
    /// When it began.
    pub at: Ticks,
    /// The key that was primary, which the values were compared with.
    pub primary: KeyId,
    /// Values that have to be under the primary key, and are not.
    pub stale: u64,
    /// How many of these are under another key of ours.
    pub under_other_keys: u64,
    /// Values under another key of ours, with events and with the objects that are left by name.
    pub in_need: u64,
    /// How many of the stale ones could not be rewritten when it was tried last.
    pub failed: u64,
    /// Events that are not under the primary key. They are not rewritten, because that would renew their lifetime.
    pub events: u64,
    /// Values that a write does not change: they are damaged, or under a key that is missing or disabled.
    pub unchangeable: u64,
    /// Secrets that no entry of the EncryptionConfiguration encrypts.
    pub uncovered: u64,
    /// Whether no API server could write under another key any more when it began.
    pub is_settled: bool,
    /// Whether something may have been missed.
    pub is_incomplete: bool,
}

/// Everything that is known at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ClusterNow {
    /// Now.
    pub now: Ticks,
    /// The keyring.
    pub record: RecordNow,
    /// Every node that is enrolled.
    pub nodes: Vec<NodeNow>,
    /// How long the API servers may take.
    pub timeouts: Timeouts,
    /// Whether the command can write a backup by itself.
    pub can_back_up: bool,
    /// Whether the operator promotes a key that no backup holds.
    pub needs_no_backup: bool,
    /// Whether the operator says that others may know the keys.
    pub is_compromise: bool,
}

impl ClusterNow {
    /// Counts the API servers with a connection of this kind, of all nodes.
    pub(super) fn connected(&self, is_counted: impl Fn(&ConnectionNow) -> bool) -> u64 {
        self.nodes.iter().map(|node| node.connected(&is_counted)).sum()
    }

    /// Returns the nodes for which a gate is closed, each once. Skipped nodes do not count.
    pub(super) fn nodes_without(&self, is_open: impl Fn(&ServedNow) -> bool) -> Vec<String> {
        let is_missing = |node: &&NodeNow| !node.is_skipped && !node.serves.as_ref().is_some_and(&is_open);
        let names: BTreeSet<&String> = self.nodes.iter().filter(is_missing).map(|node| &node.name).collect();
        names.into_iter().cloned().collect()
    }
}
