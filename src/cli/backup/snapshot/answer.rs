//! Compares what the values in a snapshot need with the keys that are at hand.
//!
//! A key opens a value if it has the key_id that the value names and the commitment in the value's wrapped seed. So
//! nobody can forge a backup that seems to have the key. Invariant: each live object is counted exactly once.

use std::{collections::BTreeSet, path::Path};

use serde::Serialize;

use super::super::super::{
    at_hand::{HeldKeyring, KeyringOrigin},
    failure::Exit,
};
use crate::{
    crypto::{Commitment, Uuid},
    keeper::ListBackupError,
    keyring::{Entry, Key, Keyring, key_id::KeyId, state::State},
    scan::needs::{LockedValues, SnapshotNeeds, ValueLock},
};

/// The answer for the objects that need one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum KeyAnswer {
    /// A keyring has the key.
    Held,
    /// Every keyring that has the key has disabled it. The key opens values when it is enabled again.
    Disabled,
    /// No keyring has the key, and one of them has destroyed it.
    Destroyed,
    /// No keyring has the key.
    Missing,
    /// The values name the key, and are under another one.
    Misnamed,
    /// The key does not belong to claviger.
    Foreign,
}

impl KeyAnswer {
    pub(super) fn is_lost(self) -> bool {
        !matches!(self, Self::Held | Self::Disabled)
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Disabled => "disabled",
            Self::Destroyed => "destroyed",
            Self::Missing => "missing",
            Self::Misnamed => "misnamed",
            Self::Foreign => "foreign",
        }
    }
}

/// The row for one needed key, and for the objects that need it.
#[derive(Debug, Serialize)]
pub(super) struct NeededRow {
    /// The provider, as its prefix names it. `None` if the key is claviger's, whatever the name of its provider is.
    pub(super) provider: Option<String>,
    /// The key_id that the values name.
    pub(super) key_id: Option<String>,
    pub(super) objects: u64,
    pub(super) answer: KeyAnswer,
    /// The keyrings that have the key.
    pub(super) held_by: Vec<HolderRow>,
    /// The keys in etcd of some of these objects.
    pub(super) samples: Vec<String>,
}

/// A keyring that has a needed key.
#[derive(Debug, Serialize)]
pub(super) struct HolderRow {
    pub(super) file: String,
    pub(super) state: &'static str,
}

/// The row for one opened keyring.
#[derive(Debug, Serialize)]
pub(super) struct KeyringRow {
    /// The path of the backup or of the state directory.
    pub(super) file: String,
    pub(super) is_backup: bool,
    pub(super) uuid: String,
    pub(super) root_id: String,
    pub(super) generation: u64,
    /// The number of needed keys that the keyring has.
    pub(super) holds: usize,
}

/// The answer for the whole snapshot.
#[derive(Debug, Serialize)]
pub(super) struct SnapshotAnswer {
    format: &'static str,
    pub(super) snapshot: String,
    pub(super) sha256: String,
    pub(super) revision: u64,
    pub(super) objects: u64,
    /// The number of objects that would be lost.
    pub(super) lost: u64,
    /// The number of objects that do not show which key they need.
    pub(super) unclear: u64,
    /// The number of objects that need no key.
    pub(super) plaintext: u64,
    pub(super) keys: Vec<NeededRow>,
    pub(super) keyrings: Vec<KeyringRow>,
    /// The reason why the answer covers only a part of the snapshot.
    pub(super) incomplete: Option<String>,
    /// Whether the ledger lists the snapshot. `None` if the snapshot needs no key of the keyring here, or if there is
    /// no keyring here.
    pub(super) listed: Option<bool>,
    /// The reason why the ledger does not list the snapshot.
    pub(super) not_listed_because: Option<String>,
    /// The needed keys that the keyring in the state directory has destroyed, with the backups that have them.
    #[serde(skip)]
    pub(super) only_in_backups: Vec<(String, Vec<String>)>,
}

impl SnapshotAnswer {
    /// Answers for `snapshot`, whose values need `needs`, if `held` are the only keyrings that are left.
    pub(super) fn of(needs: &SnapshotNeeds, held: &[HeldKeyring], snapshot: &Path) -> Self {
        let objects_of = |lock: &ValueLock| needs.by_lock.get(lock).map_or(0, |values| values.objects);
        let keys: Vec<NeededRow> = needs.by_lock.iter().filter_map(|(lock, values)| row(lock, values, held)).collect();
        Self {
            format: "claviger/backup-check-snapshot/v1",
            snapshot: snapshot.display().to_string(),
            sha256: needs.source.digest.as_ref().map(|digest| digest.sha256.clone()).unwrap_or_default(),
            revision: needs.source.revision,
            objects: needs.by_lock.values().map(|values| values.objects).sum(),
            lost: keys.iter().filter(|row| row.answer.is_lost()).map(|row| row.objects).sum(),
            unclear: objects_of(&ValueLock::Unclear),
            plaintext: objects_of(&ValueLock::Plaintext),
            keyrings: held.iter().map(|held| keyring_row(held, needs)).collect(),
            only_in_backups: keys.iter().filter_map(|row| only_in_backups(row, held)).collect(),
            keys,
            incomplete: needs.check_complete().err().map(|doubts| doubts.to_string()),
            listed: None,
            not_listed_because: None,
        }
    }

    /// Notes that the ledger does not list the snapshot, if its keys are destroyed.
    pub(super) fn with_destroyed(self) -> Self {
        if self.keys.iter().all(|row| row.answer != KeyAnswer::Destroyed) {
            return self;
        }
        let reason = Some("the keyring here has none of the keys that it needs, and has destroyed some".to_owned());
        Self { listed: Some(false), not_listed_because: reason, ..self }
    }

    /// Notes whether the ledger lists the snapshot.
    pub(super) fn with_listed(self, listed: &Result<(), ListBackupError>) -> Self {
        Self {
            listed: Some(listed.is_ok()),
            not_listed_because: listed.as_ref().err().map(ToString::to_string),
            ..self
        }
    }

    /// Returns the exit code. That a snapshot cannot be read whole takes precedence over lost objects.
    pub(super) fn exit(&self) -> Exit {
        match (&self.incomplete, self.lost) {
            (Some(_), _) => Exit::Damaged,
            (None, 0) => Exit::Done,
            (None, _) => Exit::Found,
        }
    }
}

/// Returns the needed keys that the keyring `uuid` has. A destroyed key opens nothing any more, so it does not count.
pub(super) fn needed_of(needs: &SnapshotNeeds, held: &[HeldKeyring], uuid: Uuid) -> Vec<KeyId> {
    needed_keys(needs.by_lock.keys(), held.iter().map(|held| &held.keyring).filter(|keyring| keyring.uuid() == uuid))
}

fn needed_keys<'a>(
    locks: impl Iterator<Item = &'a ValueLock>,
    keyrings: impl Iterator<Item = &'a Keyring>,
) -> Vec<KeyId> {
    let keys: BTreeSet<KeyId> = keyrings.flat_map(Keyring::keys).map(Key::id).collect();
    let needed = locks.filter_map(|lock| match lock {
        ValueLock::Claviger { key_id, .. } => key_id.parse().ok(),
        _ => None,
    });
    needed.filter(|key_id| keys.contains(key_id)).collect()
}

fn row(lock: &ValueLock, values: &LockedValues, held: &[HeldKeyring]) -> Option<NeededRow> {
    let row = |provider: Option<&String>, key_id: Option<&String>, answer, held_by| NeededRow {
        provider: provider.cloned(),
        key_id: key_id.cloned(),
        objects: values.objects,
        answer,
        held_by,
        samples: values.samples.clone(),
    };
    match lock {
        ValueLock::Plaintext | ValueLock::Unclear => None,
        ValueLock::Foreign { provider, key_id } => {
            Some(row(Some(provider), key_id.as_ref(), KeyAnswer::Foreign, Vec::new()))
        }
        ValueLock::Misnamed { key_id } => Some(row(None, Some(key_id), KeyAnswer::Misnamed, Vec::new())),
        ValueLock::Claviger { key_id, commitment } => {
            let found: Vec<(&KeyringOrigin, &Key)> =
                held.iter().filter_map(|held| Some((&held.origin, key_of(held, key_id, commitment)?))).collect();
            let holders =
                found.iter().map(|(place, key)| HolderRow { file: place.to_string(), state: key.state().as_str() });
            Some(row(None, Some(key_id), answer_of(key_id, &found, held), holders.collect()))
        }
    }
}

/// Returns the key of a row and the backups that have it, if the keyring in the state directory has destroyed the key.
fn only_in_backups(row: &NeededRow, held: &[HeldKeyring]) -> Option<(String, Vec<String>)> {
    let key_id = row.key_id.as_ref().filter(|_| !row.held_by.is_empty())?;
    let is_tomb = |entry: &Entry| matches!(entry, Entry::Tomb(_)) && entry.id().to_string() == *key_id;
    let is_here = |held: &&HeldKeyring| matches!(held.origin, KeyringOrigin::StateDir(_));
    held.iter().filter(is_here).find(|held| held.keyring.entries().iter().any(is_tomb))?;
    Some((key_id.clone(), row.held_by.iter().map(|holder| holder.file.clone()).collect()))
}

fn answer_of(key_id: &str, found: &[(&KeyringOrigin, &Key)], held: &[HeldKeyring]) -> KeyAnswer {
    let is_tomb = |entry: &Entry| matches!(entry, Entry::Tomb(_)) && entry.id().to_string() == key_id;
    if found.iter().any(|(_, key)| key.state() != State::Disabled) {
        KeyAnswer::Held
    } else if !found.is_empty() {
        KeyAnswer::Disabled
    } else if held.iter().any(|held| held.keyring.entries().iter().any(is_tomb)) {
        KeyAnswer::Destroyed
    } else {
        KeyAnswer::Missing
    }
}

fn key_of<'a>(held: &'a HeldKeyring, key_id: &str, commitment: &Commitment) -> Option<&'a Key> {
    held.keyring.keys().find(|key| key.kek().commitment() == *commitment && key.id().to_string() == key_id)
}

fn keyring_row(held: &HeldKeyring, needs: &SnapshotNeeds) -> KeyringRow {
    let has = |lock: &&ValueLock| match lock {
        ValueLock::Claviger { key_id, commitment } => key_of(held, key_id, commitment).is_some(),
        _ => false,
    };
    KeyringRow {
        file: held.origin.to_string(),
        is_backup: matches!(held.origin, KeyringOrigin::Backup(_)),
        uuid: held.keyring.uuid().to_hex(),
        root_id: held.keyring.root_id().to_hex(),
        generation: held.keyring.generation(),
        holds: needs.by_lock.keys().filter(has).count(),
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::SysRng;

    use super::*;
    use crate::{crypto::root_key::RootKey, keyring::testing};

    #[test]
    fn a_snapshot_is_listed_for_the_keys_that_are_left() {
        let root = RootKey::generate(&mut SysRng).unwrap();
        let held = testing::keyring(&root, Uuid([5; 16]));
        let here = testing::with_tomb(held.clone(), 2);
        let (kept, tomb) = (held.primary().id(), here.entries()[1].id());
        let lock = |key_id: KeyId| ValueLock::Claviger { key_id: key_id.to_string(), commitment: Commitment([9; 32]) };
        let locks = [lock(kept), lock(tomb), ValueLock::Plaintext];
        assert_eq!(needed_keys(locks.iter(), [&here].into_iter()), [kept]);
        assert_eq!(needed_keys(locks[1..].iter(), [&here, &held].into_iter()), []);
    }

    #[test]
    fn a_backup_is_kept_if_it_alone_has_a_key() {
        let root = RootKey::generate(&mut SysRng).unwrap();
        let here = testing::with_tomb(testing::keyring(&root, Uuid([5; 16])), 2);
        let tomb = here.entries()[1].id().to_string();
        let holder = |file: &str| HolderRow { file: file.to_owned(), state: "decrypt-only" };
        let row = |held_by| NeededRow {
            provider: None,
            key_id: Some(tomb.clone()),
            objects: 1,
            answer: KeyAnswer::Held,
            held_by,
            samples: Vec::new(),
        };
        let at = |origin, keyring: &Keyring| HeldKeyring { origin, keyring: keyring.clone() };
        let held = [at(KeyringOrigin::StateDir("/st".into()), &here)];
        let found = only_in_backups(&row(vec![holder("old.age")]), &held);
        assert_eq!(found, Some((tomb.clone(), vec!["old.age".to_owned()])));
        assert_eq!(only_in_backups(&row(Vec::new()), &held), None, "no file has it");
        let elsewhere = [at(KeyringOrigin::Backup("other.age".into()), &here)];
        assert_eq!(only_in_backups(&row(vec![holder("old.age")]), &elsewhere), None, "it is not destroyed here");
    }
}
