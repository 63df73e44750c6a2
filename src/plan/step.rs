//! The steps of a rotation that [`next`](super::next()) returns: an action, a wait, or a reason to stop.

use crate::keyring::key_id::KeyId;

use super::{count::CountDoubt, retire::Unsettled, rotation::Aim, world::Ticks};

/// The next step of a rotation.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum NextStep {
    /// Do this, and ask the planner again.
    Do(Action),
    /// Wait, and ask the planner again later.
    Wait(Wait),
    /// Stop, because somebody has to act first.
    Refuse(Refused),
}

/// An action that the hands of a rotation carry out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Scan every declared etcd.
    Scan {
        /// Whether no API server can write under another key than the primary one any more.
        is_settled: bool,
    },
    /// Count the API servers that use the etcd.
    Count,
    /// Begin a plan with this aim.
    Begin(Aim),
    /// Make the key of the plan, as a pending key.
    Add,
    /// Note in the plan that this key becomes primary.
    Take(KeyId),
    /// Write a backup that holds this key.
    BackUp(KeyId),
    /// Promote this key.
    Promote(KeyId),
    /// Note in the plan that its key is primary.
    Promoted,
    /// Note in the plan that every node serves its key.
    Published,
    /// Have the API servers rewrite the stale objects that the last scan found.
    Rewrite,
    /// Disable this key, which others may know. Nothing is under it, and no API server can write under it.
    Disable(KeyId),
    /// Note in the plan that the rotation has ended, and keep the report of the last scan.
    Finish,
}

/// The condition that a rotation waits for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Wait {
    /// These nodes serve another record, do not answer, or have not opened the canary.
    Acknowledge(Vec<String>),
    /// These nodes do not serve the promoted key yet.
    Publish(Vec<String>),
    /// The quiet time, which ends at this moment: until then API servers may write under the old key.
    Quiet(Ticks),
    /// Compromised keys cannot be disabled yet, because API servers may still write under them.
    Settle(Unsettled),
    /// This many events are under an old key. They are not rewritten, and expire.
    Events(u64),
}

/// Why a rotation stops before its end.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Refused {
    /// The last scan may have missed something.
    Incomplete,
    /// The count of the API servers shows that not all of them use this keyring.
    Count(CountDoubt),
    /// No listed backup contains this key.
    NotBackedUp(KeyId),
    /// This many values cannot be read under any key of this keyring.
    Unreadable(u64),
    /// This many Secrets would stay in plaintext, because no entry of the EncryptionConfiguration encrypts them.
    Uncovered(u64),
    /// Objects are left that the API server does not rewrite.
    Hold(Hold),
    /// This many objects that the operator left by name need a compromised key.
    InNeed(u64),
}

/// The objects that keep a rotation from its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hold {
    /// The number of values that are not under the primary key.
    pub stale: u64,
    /// The number of values that a write does not change.
    pub unchangeable: u64,
}
