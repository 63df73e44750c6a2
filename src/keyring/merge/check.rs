//! The checks before a merge: its numbers, the keys that this node has seen, and the keys that the operator names.

use std::fmt;

use crate::keyring::{
    change::{MakeKeyError, UnknownKey},
    key::Entry,
    key_id::KeyId,
    mark::Mark,
};

use super::sources::{Greatest, Sources, Statements, Wishes};

/// How far the generation and the sequence numbers of a record may be above those that this node knows. A forged record
/// must not use up the numbers.
pub(super) const AHEAD_MAX: u64 = 1 << 20;

/// Why records are not merged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MergeError {
    /// This node has seen keys that none of the records lists.
    #[error("this node has seen keys that are in none of these: {}", names(.0))]
    Missing(Vec<KeyId>),
    /// The operator named keys for which the flag is not allowed.
    #[error("{} {reason}", names(keys))]
    Named {
        /// The keys that the operator named.
        keys: Vec<KeyId>,
        /// Why the flag is not allowed for the named keys.
        reason: NamedWrongly,
    },
    /// A record has a greater number than any honest one.
    #[error("a record has {what} {found}, which is too far above the greatest known here, {known}")]
    Beyond {
        /// The kind of the number.
        what: Numbered,
        /// The number in the record.
        found: u64,
        /// The greatest number that this node knows.
        known: u64,
    },
    /// A key that the operator called compromised is in no record.
    #[error(transparent)]
    Unknown(#[from] UnknownKey),
    /// No key could be made, or no number is left.
    #[error(transparent)]
    Make(#[from] MakeKeyError),
}

/// Why an operator may not give a flag for a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NamedWrongly {
    /// `--lost` names a key that a record lists.
    #[error("is not missing")]
    NotMissing,
    /// `--keep-destroyed` names a key that is destroyed in no record.
    #[error("is destroyed in no record")]
    Undestroyed,
    /// `--keep-destroyed` names a key whose bytes this node still has.
    #[error("is not destroyed here")]
    KeptHere,
}

/// The kinds of numbers in a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Numbered {
    /// The generation, which counts changes.
    Generation,
    /// The sequence number of a key.
    Seq,
}

impl fmt::Display for Numbered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Generation => "generation",
            Self::Seq => "sequence number",
        })
    }
}

fn names(keys: &[KeyId]) -> String {
    keys.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

pub(super) fn check_bounds(sources: &Sources<'_>) -> Result<(), MergeError> {
    let known = sources.known;
    for found in sources.records().map(|source| Greatest::of(source.keyring)) {
        for (what, found, known) in [
            (Numbered::Generation, found.generation, known.generation),
            (Numbered::Seq, found.seq.into(), known.seq.into()),
        ] {
            if found > known + AHEAD_MAX {
                return Err(MergeError::Beyond { what, found, known });
            }
        }
    }
    Ok(())
}

pub(super) fn check_mark(statements: &Statements<'_>, mark: Option<&Mark>, wishes: &Wishes) -> Result<(), MergeError> {
    let seen = mark.map_or(&[][..], Mark::has);
    let is_listed = |key_id: &KeyId| statements.keys().any(|order| order.key_id() == *key_id);
    let missing: Vec<KeyId> = seen.iter().filter(|key_id| !is_listed(key_id)).copied().collect();
    let keys = differing(&wishes.lost, |key_id| missing.contains(key_id));
    if !keys.is_empty() {
        return Err(MergeError::Named { keys, reason: NamedWrongly::NotMissing });
    }
    let missing = differing(&missing, |key_id| wishes.lost.contains(key_id));
    if missing.is_empty() { Ok(()) } else { Err(MergeError::Missing(missing)) }
}

pub(super) fn check_destroyed(statements: &Statements<'_>, wishes: &Wishes) -> Result<(), MergeError> {
    let has_tomb = |key_id: &KeyId| {
        let entries = statements.values().flatten().flatten().map(|statement| statement.entry);
        entries.filter(|entry| entry.id() == *key_id).any(|entry| matches!(entry, Entry::Tomb(_)))
    };
    let keys = differing(&wishes.keep_destroyed, has_tomb);
    let reason = NamedWrongly::Undestroyed;
    if keys.is_empty() { Ok(()) } else { Err(MergeError::Named { keys, reason }) }
}

/// Refuses `--keep-destroyed` for a key whose bytes this node still has. `claviger key destroy` destroys such a key,
/// and asks etcd first.
pub(super) fn check_not_here(sources: &Sources<'_>, wishes: &Wishes) -> Result<(), MergeError> {
    let here = || sources.records().filter(|source| source.is_here).flat_map(|source| source.keyring.keys());
    let keys = differing(&wishes.keep_destroyed, |key_id| here().all(|key| key.id() != *key_id));
    let reason = NamedWrongly::KeptHere;
    if keys.is_empty() { Ok(()) } else { Err(MergeError::Named { keys, reason }) }
}

fn differing(keys: &[KeyId], is_right: impl Fn(&KeyId) -> bool) -> Vec<KeyId> {
    keys.iter().filter(|key_id| !is_right(key_id)).copied().collect()
}
