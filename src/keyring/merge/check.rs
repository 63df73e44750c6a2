//! The checks before a merge.

use crate::keyring::{change::ChangeError, key::Entry, key_id::KeyId, mark::Mark};

use super::sources::{MergeSource, Sources, Statements, Wishes};

/// How far a record's numbers may be above those that this node knows. A forged record must not use up the numbers.
pub(super) const AHEAD_MAX: u64 = 1 << 20;

/// Why records are not merged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MergeError {
    /// This node has seen keys that are in none of the records.
    #[error("this node has seen keys that are in none of these: {}", names(.0))]
    Missing(Vec<KeyId>),
    /// A flag names keys that it must not name.
    #[error("{} {}", names(keys), what)]
    Named {
        /// The keys.
        keys: Vec<KeyId>,
        /// Why it must not name them.
        what: &'static str,
    },
    /// A record has a greater number than any honest one.
    #[error("a record has {what} {found}, which is too far above the greatest known here, {known}")]
    Beyond {
        /// Which number.
        what: &'static str,
        /// The number in the record.
        found: u64,
        /// The greatest number that this node knows.
        known: u64,
    },
    /// No key could be made.
    #[error(transparent)]
    Change(#[from] ChangeError),
}

fn names(keys: &[KeyId]) -> String {
    keys.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

pub(super) fn check_bounds(sources: &Sources<'_>) -> Result<(), MergeError> {
    let (generation, seq) = sources.known;
    for keyring in sources.records.iter().map(|source| source.keyring) {
        let seq_found = u64::from(keyring.greatest_seq());
        for (what, found, known) in
            [("generation", keyring.generation, generation), ("sequence number", seq_found, u64::from(seq))]
        {
            if found > known + AHEAD_MAX {
                return Err(MergeError::Beyond { what, found, known });
            }
        }
    }
    Ok(())
}

pub(super) fn check_mark(statements: &Statements<'_>, mark: Option<&Mark>, wishes: &Wishes) -> Result<(), MergeError> {
    let seen = mark.map_or(&[][..], Mark::has);
    let is_listed = |key_id: &KeyId| statements.keys().any(|(seq, c)| KeyId::new(*seq, c) == *key_id);
    let missing: Vec<KeyId> = seen.iter().filter(|key_id| !is_listed(key_id)).copied().collect();
    let keys = differing(&wishes.lost, |key_id| missing.contains(key_id));
    if !keys.is_empty() {
        return Err(MergeError::Named { keys, what: "is not missing, so --lost cannot name it" });
    }
    let missing = differing(&missing, |key_id| wishes.lost.contains(key_id));
    if missing.is_empty() { Ok(()) } else { Err(MergeError::Missing(missing)) }
}

pub(super) fn check_destroyed(statements: &Statements<'_>, wishes: &Wishes) -> Result<(), MergeError> {
    let has_tomb = |key_id: &KeyId| {
        let entries = statements.values().flatten().flatten().map(|statement| statement.entry);
        entries.filter(|entry| entry.id() == *key_id).any(|entry| matches!(entry, Entry::Tomb(_)))
    };
    let keys = differing(&wishes.destroyed, has_tomb);
    let what = "is destroyed in no record, so --keep-destroyed cannot name it";
    if keys.is_empty() { Ok(()) } else { Err(MergeError::Named { keys, what }) }
}

/// Checks that no key is to stay destroyed that this node still has. `claviger key destroy` destroys such a key, and
/// asks etcd first.
pub(super) fn check_not_here(records: &[MergeSource<'_>], wishes: &Wishes) -> Result<(), MergeError> {
    let here = || records.iter().filter(|source| source.is_here).flat_map(|source| source.keyring.keys());
    let keys = differing(&wishes.destroyed, |key_id| here().all(|key| key.id() != *key_id));
    let what = "is not destroyed here, so --keep-destroyed cannot name it; see `claviger key destroy`";
    if keys.is_empty() { Ok(()) } else { Err(MergeError::Named { keys, what }) }
}

fn differing(keys: &[KeyId], is_right: impl Fn(&KeyId) -> bool) -> Vec<KeyId> {
    keys.iter().filter(|key_id| !is_right(key_id)).copied().collect()
}
