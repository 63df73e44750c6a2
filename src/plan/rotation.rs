//! The plan of a rotation: towards which key it goes, and how far it is.

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

/// How far a rotation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Phase {
    /// A key is made, every node proves that it can read with it, and a backup holds it.
    Prepare,
    /// The key is primary, and every node begins to serve it.
    Promote,
    /// Every value is written under the key.
    Sweep,
    /// A scan has proved it.
    Done,
}

impl Phase {
    /// All phases, in their order.
    pub const ALL: [Self; 4] = [Self::Prepare, Self::Promote, Self::Sweep, Self::Done];

    /// Returns the word that files and JSON have for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Prepare => "prepare",
            Self::Promote => "promote",
            Self::Sweep => "sweep",
            Self::Done => "done",
        }
    }
}

/// What a rotation is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Aim {
    /// A new key.
    NewKey,
    /// A new key, because others may know those that exist.
    Compromise,
    /// The end of an earlier rotation to this key, whose plan is lost or void.
    Finish(KeyId),
}

/// The plan of a rotation. It is kept on the disk, and is a hint: a command that goes on checks every gate again.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RotationPlan {
    /// Identifies it.
    pub id: PlanId,
    /// How far it is.
    pub phase: Phase,
    /// The record when it began.
    pub began: Digest,
    /// The greatest number of a key when it began, tombs included.
    pub newest: u32,
    /// Whether others may know every key up to `newest`. Then it does not end before all compromised keys are disabled.
    pub is_compromise: bool,
    /// The key towards which it goes. `None` until the key is made.
    pub key: Option<KeyId>,
    /// Objects that stay as they are, by their keys in etcd.
    pub left: BTreeSet<Vec<u8>>,
    /// When it began. Only for people.
    pub since: Time,
    /// The SHA-256 of the report that ended it.
    pub report: Option<Digest>,
}

/// The record at which a rotation begins.
#[derive(Debug, Clone, Copy)]
pub struct BeganAt {
    /// Its SHA-256.
    pub record: Digest,
    /// The greatest number that a key has there.
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

    /// Whether it has not come to its end.
    pub fn is_unfinished(&self) -> bool {
        self.phase != Phase::Done
    }
}
