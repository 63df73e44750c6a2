//! The state of a cluster at one moment ([`ClusterNow`]), as the planner sees it.

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

/// The time limits of kube-apiserver: the defaults, or greater ones from its flags and its EncryptionConfiguration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Timeouts {
    /// The `timeout` of the provider: how long the API server waits for the plugin.
    pub kms: Duration,
    /// `--request-timeout`: how long a write may take.
    pub request: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { kms: Duration::from_secs(3), request: Duration::from_mins(1) }
    }
}

impl Timeouts {
    /// How long kube-apiserver continues to write under a seed without a good Status. This is a constant in
    /// k8s.io/apiserver.
    const COASTING: Duration = Duration::from_mins(3);
    /// How long the kernel may take to deliver a write that the API server has given up.
    const DELIVERY: Duration = Duration::from_secs(20);

    /// Returns the quiet time: how long an API server may still write under the old key after its plugin serves another
    /// primary key.
    pub fn quiet(self) -> Duration {
        let standard = Self::default();
        let longest = self.kms.max(standard.kms).saturating_add(self.request.max(standard.request));
        longest.saturating_add(Self::COASTING).saturating_add(Self::DELIVERY)
    }

    /// Returns the time after which an API server has settled: if every Status announced one key for this long, with no
    /// Encrypt between, no write under another key can be under way. Every write that was begun before the first of
    /// these Status has arrived by then, or was given up.
    pub fn settled(self) -> Duration {
        /// The longest time between two Status of an unbroken run, with a margin.
        const GAP: Duration = Duration::from_secs(100);
        self.request.max(Self::default().request).saturating_add(GAP).saturating_add(Self::DELIVERY)
    }
}

/// A key of the keyring, as the planner sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyNow {
    /// The name of the key.
    pub id: KeyId,
    /// The state of the key.
    pub state: State,
    /// Whether a listed backup contains the key.
    pub is_backed_up: bool,
    /// Whether somebody else may know the key.
    pub is_compromised: bool,
}

/// The keyring's record, as the planner sees it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RecordNow {
    /// The SHA-256 of the served record.
    pub digest: Digest,
    /// The SHA-256 of each predecessor of the record, the newest first.
    pub past: Vec<Digest>,
    /// The keys of the keyring that are not destroyed.
    pub keys: Vec<KeyNow>,
}

impl RecordNow {
    /// Returns the primary key.
    pub fn primary(&self) -> Option<KeyId> {
        self.keys.iter().find(|key| key.state == State::Primary).map(|key| key.id)
    }

    /// Returns the compromised keys that still unwrap. Anyone who has such a key can plant values.
    pub fn exposed(&self) -> impl Iterator<Item = KeyId> {
        let exposed = self.keys.iter().filter(|key| key.is_compromised && key.state.unwraps());
        exposed.map(|key| key.id)
    }

    /// Returns the key of this name.
    pub fn key(&self, id: KeyId) -> Option<&KeyNow> {
        self.keys.iter().find(|key| key.id == id)
    }
}

/// The keyring that a node's plugin serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ServedNow {
    /// The SHA-256 of the served record.
    pub record: Digest,
    /// The primary key of the served keyring.
    pub primary: KeyId,
    /// The key under which the plugin has opened a canary.
    pub canary: Option<KeyId>,
    /// For how long the plugin has served this primary key, without a restart.
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
    /// For how long every Status has announced the key in `announced`, with no gap and no Encrypt between.
    pub steady: Duration,
    /// Whether the API server has called lately. A paused API server has not.
    pub is_alive: bool,
}

impl NodeNow {
    /// Counts the API servers with a connection of this kind, by their processes. Connections of unknown processes
    /// count as the least number of API servers that can have them, if each API server has `entries` connections.
    pub(super) fn connected(&self, entries: u64, is_counted: impl Fn(&ConnectionNow) -> bool) -> u64 {
        let processes: Vec<Option<i32>> =
            self.connections.iter().filter(|connection| is_counted(connection)).map(|one| one.process).collect();
        let unknown = processes.iter().filter(|process| process.is_none()).count();
        let known: BTreeSet<i32> = processes.into_iter().flatten().collect();
        let of = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        of(known.len()).saturating_add(of(unknown).div_ceil(entries.max(1)))
    }
}

/// A node, as the planner sees it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NodeNow {
    /// The name of the node.
    pub name: String,
    /// Whether the operator has said that the rotation need not wait for the node.
    pub is_skipped: bool,
    /// The keyring that the plugin serves. `None` if the plugin does not say.
    pub serves: Option<ServedNow>,
    /// The connections of API servers to the plugin of this node.
    pub connections: Vec<ConnectionNow>,
}

/// A count of the API servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ApiServers {
    /// The moment when the count ended.
    pub at: Ticks,
    /// The number of API servers. 0 means that it is not known.
    pub count: u64,
}

impl ApiServers {
    /// How old a count may be when a gate opens because of it.
    const FRESH: Duration = Duration::from_mins(2);

    /// Whether the count is new enough to open a gate at `now`.
    pub(super) fn is_fresh(&self, now: Ticks) -> bool {
        self.at.after(Self::FRESH) >= now
    }
}

/// The result of a scan. Except in `in_need`, objects that the operator has left by name do not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Scanned {
    /// The moment when the scan began.
    pub at: Ticks,
    /// The primary key that the scan compared the values with.
    pub primary: KeyId,
    /// The number of values that have to be under the primary key and are not.
    pub stale: u64,
    /// The number of stale values that are under another key of this keyring.
    pub under_other_keys: u64,
    /// The number of values under another key of this keyring, including events and the objects that are left by name.
    pub in_need: u64,
    /// The number of stale values whose last rewrite failed.
    pub failed: u64,
    /// The number of events that are not under the primary key. They are not rewritten, because a rewrite would renew
    /// their lifetime.
    pub events: u64,
    /// The number of values that a write does not change: they are damaged, or under a key that is missing or disabled.
    pub unchangeable: u64,
    /// The number of Secrets that no entry of the EncryptionConfiguration encrypts.
    pub uncovered: u64,
    /// Whether no API server could write under another key any more when the scan began.
    pub is_settled: bool,
    /// Whether the scan may have missed something.
    pub is_incomplete: bool,
}

/// Everything that the planner knows at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ClusterNow {
    /// The present moment.
    pub now: Ticks,
    /// The record of the keyring.
    pub record: RecordNow,
    /// Every enrolled node.
    pub nodes: Vec<NodeNow>,
    /// The time limits of the API servers.
    pub timeouts: Timeouts,
    /// How many provider entries of each API server name its plugin. An API server has a connection for each.
    pub entries: u64,
    /// Whether the command can write a backup without the operator.
    pub can_back_up: bool,
    /// Whether the operator accepts a promotion without a backup.
    pub needs_no_backup: bool,
    /// Whether the operator says that others may know the keys.
    pub is_compromise: bool,
}

impl ClusterNow {
    /// Counts the API servers with a connection of this kind, of all nodes.
    pub(super) fn connected(&self, is_counted: impl Fn(&ConnectionNow) -> bool) -> u64 {
        self.nodes.iter().map(|node| node.connected(self.entries, &is_counted)).sum()
    }

    /// Returns the nodes for which a gate is closed, each node once. Skipped nodes do not count.
    pub(super) fn nodes_without(&self, is_open: impl Fn(&ServedNow) -> bool) -> Vec<String> {
        let is_missing = |node: &&NodeNow| !node.is_skipped && !node.serves.as_ref().is_some_and(&is_open);
        let names: BTreeSet<&String> = self.nodes.iter().filter(is_missing).map(|node| &node.name).collect();
        names.into_iter().cloned().collect()
    }
}
