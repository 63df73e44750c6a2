//! The plan of a rotation ([`RotationPlan`]): the key that becomes primary, and the phase that the rotation has
//! reached.

use std::{collections::BTreeSet, fmt};

use crate::{
    crypto::Digest,
    keyring::{key_id::KeyId, time::Time},
};

/// Identifies a plan, so that two rotations are not mistaken for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PlanId(pub [u8; 16]);

impl fmt::Display for PlanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base16ct::lower::encode_string(&self.0))
    }
}

/// The progress of a rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Phase {
    /// A key is made, every node proves that it can read with it, and a backup holds it.
    Prepare,
    /// The key is primary, and every node begins to serve it.
    Promote,
    /// Every value is written under the key.
    Sweep,
    /// A scan has proved that every value is under the key.
    Done,
}

impl Phase {
    /// All phases, in the order of a rotation.
    pub const ALL: [Self; 4] = [Self::Prepare, Self::Promote, Self::Sweep, Self::Done];

    /// Returns the word for the phase in files and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Prepare => "prepare",
            Self::Promote => "promote",
            Self::Sweep => "sweep",
            Self::Done => "done",
        }
    }
}

/// The purpose of a rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Aim {
    /// Replace the primary key by a new one.
    NewKey,
    /// Replace all existing keys by a new one, because others may know them.
    Compromise,
    /// The end of an earlier rotation to this key, whose plan is lost or void.
    Finish(KeyId),
}

/// The plan of a rotation. It is kept on the disk as a hint: a command that continues the rotation checks every gate
/// again.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RotationPlan {
    /// The random number that identifies the plan.
    pub id: PlanId,
    /// The phase that the rotation is in.
    pub phase: Phase,
    /// The SHA-256 of the record when the rotation began.
    pub began: Digest,
    /// The greatest sequence number of a key when the rotation began, tombs included.
    pub newest: u32,
    /// Whether others may know every key up to `newest`. Then the rotation ends only after all compromised keys are
    /// disabled.
    pub is_compromise: bool,
    /// The key that becomes primary. `None` until it is made.
    pub key: Option<KeyId>,
    /// The objects that are not rewritten, by their keys in etcd.
    pub left: BTreeSet<Vec<u8>>,
    /// The time when the rotation began, for people.
    pub since: Time,
    /// The SHA-256 of the report that ended the rotation.
    pub report: Option<Digest>,
}

/// The record at which a rotation begins.
#[derive(Debug, Clone, Copy)]
pub struct BeganAt {
    /// The SHA-256 of the record.
    pub record: Digest,
    /// The greatest sequence number of a key in the record, tombs included.
    pub newest: u32,
}

impl RotationPlan {
    /// Begins a plan at a record.
    pub fn begin(id: PlanId, at: BeganAt, aim: Aim, left: BTreeSet<Vec<u8>>, since: Time) -> Self {
        let (key, is_compromise) = match aim {
            Aim::NewKey => (None, false),
            Aim::Compromise => (None, true),
            Aim::Finish(key) => (Some(key), false),
        };
        let phase = if key.is_some() { Phase::Promote } else { Phase::Prepare };
        let BeganAt { record: began, newest } = at;
        Self { id, phase, began, newest, is_compromise, key, left, since, report: None }
    }

    /// Whether the rotation has not ended.
    pub fn is_unfinished(&self) -> bool {
        self.phase != Phase::Done
    }
}
