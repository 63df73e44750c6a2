//! What a rotation does next.

use crate::keyring::key_id::KeyId;

use super::{count::CountDoubt, retire::Unsettled, rotation::Aim, world::Ticks};

/// The next step.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum NextStep {
    /// Do this, and ask again.
    Do(Action),
    /// Look again later.
    Wait(Wait),
    /// The rotation cannot go on until somebody acts.
    Refuse(Refused),
}

/// Something to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Scan every etcd.
    Scan {
        /// Whether no API server can write under another key than the primary one any more.
        is_settled: bool,
    },
    /// Count the API servers.
    Count,
    /// Begin a plan for this.
    Begin(Aim),
    /// Make the key of the plan.
    Add,
    /// Note in the plan that its key is this one.
    Take(KeyId),
    /// Write a backup that holds this key.
    BackUp(KeyId),
    /// Make this key primary.
    Promote(KeyId),
    /// Note in the plan that its key is primary.
    Promoted,
    /// Note in the plan that every node serves its key.
    Published,
    /// Have the API servers write what the last scan found.
    Rewrite,
    /// Disable this key, which others may know. Nothing is under it, and no API server can write under it.
    Disable(KeyId),
    /// Note in the plan that it is over, and keep the report of the last scan.
    Finish,
}

/// What a rotation waits for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Wait {
    /// These nodes serve another record, do not answer, or have not opened the canary.
    Acknowledge(Vec<String>),
    /// These nodes do not serve the promoted key yet.
    Publish(Vec<String>),
    /// API servers may write under the old key until then.
    Quiet(Ticks),
    /// Compromised keys cannot be disabled yet.
    Settle(Unsettled),
    /// This many events are under an old key until they expire.
    Events(u64),
}

/// Why a rotation stops.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Refused {
    /// A scan may have missed something.
    Incomplete,
    /// The count of the API servers speaks against it.
    Count(CountDoubt),
    /// No backup holds this key.
    NotBackedUp(KeyId),
    /// Values cannot be read under any key of this keyring.
    Unreadable(u64),
    /// Secrets would stay in plaintext.
    Uncovered(u64),
    /// Objects are left over that the API server does not write.
    Hold(Hold),
    /// This many objects that are left by name need a compromised key.
    InNeed(u64),
}

/// Objects that are left over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hold {
    /// How many are not under the primary key.
    pub stale: u64,
    /// How many a write does not change.
    pub unchangeable: u64,
}
