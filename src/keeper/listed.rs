//! Reads the ledger of a keyring, which lists the backups that count.
//!
//! A daemon serves even if the ledger is refused. But then no key counts as backed up, and no backup can be added to
//! the ledger until an operator begins an empty one.

use std::{collections::HashSet, sync::Arc};

use super::{
    error::{OpenError, ReadLedgerError},
    roots::Roots,
    state_dir::StateFiles,
};
use crate::{
    crypto::{RootId, Uuid, root_key::RootKey},
    keyring::{
        key_id::KeyId,
        ledger::{Ledger, LedgerError, LedgerFull, ListedBackup},
        listed_snapshot::ListedSnapshot,
        mark::Mark,
        unused::EtcdRevision,
    },
    memory::SecretError,
};

/// The ledger of a keyring, or the reason why it was refused.
#[derive(Debug)]
pub(super) struct Listed {
    ledger: Result<Ledger, Arc<ReadLedgerError>>,
    /// The ledger's count of changes in the mark.
    marked: u64,
    /// The root key and the count of the ledger's file. `None` if there is no file, or the ledger was refused.
    on_disk: Option<(RootId, u64)>,
}

impl Listed {
    /// Reads the ledger and compares it with `mark`, which is under the root key `marked_under`. Does not fail if the
    /// ledger is refused: the operations that need the ledger return the reason.
    pub(super) fn read(
        state: StateFiles<'_>,
        roots: &Roots,
        mark: Option<&Mark>,
        marked_under: Option<RootId>,
    ) -> Result<Self, OpenError> {
        let marked = mark.map_or(0, Mark::ledger);
        let uuid = roots.file.uuid();
        let bytes = match state.ledger() {
            Ok(Some(bytes)) => bytes,
            Ok(None) => {
                let empty = || Ledger::empty(uuid, roots.current.id(uuid));
                let missing = || Arc::new(LedgerError::Missing(marked).into());
                let ledger = if marked == 0 { Ok(empty()) } else { Err(missing()) };
                return Ok(Self { ledger, marked, on_disk: None });
            }
            Err(error) => return Ok(Self { ledger: Err(Arc::new(error.into())), marked, on_disk: None }),
        };
        let ledger = match Ledger::named_root(&bytes) {
            // During a rekey the ledger is under the root key of the mark, or already under the current one.
            Ok(root_id) if marked_under == Some(root_id) => {
                Ledger::decode(&bytes, &*roots.key(root_id, state)?, uuid, marked)
            }
            Ok(_) => Ledger::decode(&bytes, &roots.current, uuid, marked),
            Err(error) => Err(error.into()),
        };
        let on_disk = ledger.as_ref().ok().map(|ledger| (ledger.root_id(), ledger.count()));
        Ok(Self { ledger: ledger.map_err(|error| Arc::new(error.into())), marked, on_disk })
    }

    /// Fails if the ledger's file cannot be read, because a rekey has to write it again under the new root key. A
    /// damaged ledger is accepted here.
    pub(super) fn check_readable(&self) -> Result<(), Arc<ReadLedgerError>> {
        match &self.ledger {
            Err(error) if matches!(**error, ReadLedgerError::File(_)) => Err(Arc::clone(error)),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Returns the ledger.
    ///
    /// # Errors
    /// When it was refused.
    pub(super) fn ledger(&self) -> Result<&Ledger, &Arc<ReadLedgerError>> {
        self.ledger.as_ref()
    }

    /// Returns the keys that the listed backups contain. Returns no keys if the ledger was refused.
    pub(super) fn backed(&self) -> HashSet<KeyId> {
        self.ledger.as_ref().map(Ledger::backed).unwrap_or_default()
    }

    /// Adds `backups` to the ledger, and skips those for which the ledger has no room. Adds nothing if the ledger was
    /// refused.
    pub(super) fn with(self, backups: Vec<ListedBackup>) -> Self {
        let Ok(mut ledger) = self.ledger else { return self };
        for backup in backups {
            let count = ledger.count().saturating_add(1);
            ledger = ledger.with(backup, count).unwrap_or(ledger);
        }
        Self { ledger: Ok(ledger), ..self }
    }

    /// Returns why the ledger has no room for `snapshot` beside `backups`. Returns `None` if it has room, or was
    /// refused.
    pub(super) fn lacks_room(&self, backups: &[ListedBackup], snapshot: &ListedSnapshot) -> Option<LedgerFull> {
        let mut ledger = self.ledger.as_ref().ok()?.clone();
        for backup in backups {
            ledger = ledger.with(backup.clone(), ledger.count().saturating_add(1)).unwrap_or(ledger);
        }
        ledger.with_snapshot(snapshot.clone(), ledger.count().saturating_add(1)).err()
    }

    /// Adds `snapshot` to the ledger. Adds nothing if the ledger has no room or was refused.
    pub(super) fn with_snapshot(self, snapshot: Option<ListedSnapshot>) -> Self {
        let (Ok(ledger), Some(snapshot)) = (&self.ledger, snapshot) else { return self };
        match ledger.with_snapshot(snapshot, ledger.count().saturating_add(1)) {
            Ok(ledger) => Self { ledger: Ok(ledger), ..self },
            Err(_) => self,
        }
    }

    /// Notes that from these revisions on, no value needs the key. Replaces an earlier note about the key. Does nothing
    /// without revisions, or if the ledger was refused or is full; `key destroy` will note them then.
    pub(super) fn note_unused(&mut self, key_id: KeyId, etcds: &[EtcdRevision]) {
        let Ok(ledger) = &self.ledger else { return };
        let count = ledger.count().saturating_add(1);
        let has_changed = !etcds.is_empty() || ledger.unused(key_id).next().is_some();
        if has_changed {
            let next = ledger.with_unused(key_id, etcds, count);
            self.ledger = Ok(next.unwrap_or_else(|_| ledger.without_unused(key_id, count)));
        }
    }

    /// Replaces the ledger by `ledger`.
    pub(super) fn replaced_by(&mut self, ledger: Ledger) {
        self.ledger = Ok(ledger);
    }

    /// Returns the bytes of the ledger under `root`, for a commit to write. Returns `None` if the file already has the
    /// same contents under this root key, if there never was a ledger, or if it was refused.
    pub(super) fn to_write(&self, uuid: Uuid, root: &RootKey) -> Result<Option<Vec<u8>>, SecretError> {
        let root_id = root.id(uuid);
        match &self.ledger {
            Ok(ledger) if ledger.count() > 0 && self.on_disk != Some((root_id, ledger.count())) => {
                ledger.under(root_id).encode(root).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Returns the ledger's count of changes, which the mark has to contain.
    pub(super) fn count(&self) -> u64 {
        self.ledger.as_ref().map_or(self.marked, Ledger::count)
    }
}

#[cfg(test)]
mod tests {
    use super::{LedgerFull, ListedSnapshot};
    use crate::{
        crypto::Digest,
        durable::version,
        keeper::{
            rekey,
            state_dir::LEDGER,
            testing::{added, keys, list, opened, set_up},
        },
        keyring::{ledger::LEDGER_MAX, listed_snapshot::SNAPSHOTS_MAX, testing::now},
        root::Means,
    };

    #[test]
    fn the_keys_of_listed_backups_are_backed_up() {
        let (_keep, dir) = set_up();
        assert!(opened(&dir).listed.backed().is_empty());
        list(&dir);
        let opened = opened(&dir);
        assert_eq!(opened.listed.backed().into_iter().collect::<Vec<_>>(), keys(&opened));
    }

    #[test]
    fn a_full_ledger_has_no_room_for_a_further_snapshot() {
        let (_keep, dir) = set_up();
        let mut listed = opened(&dir).listed;
        let needed = keys(&opened(&dir));
        let snapshot =
            |number: u64| ListedSnapshot::new(Digest::of(&number.to_be_bytes()), 17, now(), None, needed.clone());
        for number in 0..SNAPSHOTS_MAX as u64 {
            assert_eq!(listed.lacks_room(&[], &snapshot(number)), None);
            listed = listed.with_snapshot(Some(snapshot(number)));
        }
        let full = Some(LedgerFull::Listed { backups: 0, snapshots: SNAPSHOTS_MAX });
        assert_eq!(listed.lacks_room(&[], &snapshot(999)), full);
        assert_eq!(listed.lacks_room(&[], &snapshot(0)), None, "it is listed already");
    }

    #[test]
    fn a_change_of_the_keyring_leaves_the_ledger_alone() {
        let (_keep, dir) = set_up();
        let path = dir.path_of(LEDGER);
        added(&dir);
        assert!(!path.exists(), "there is no ledger before the first backup is listed");
        list(&dir);
        let before = version(&path).unwrap();
        added(&dir);
        assert_eq!(version(&path), Some(before));
        rekey(&dir, &Means::default()).unwrap();
        assert_ne!(version(&path), Some(before), "it is under the new root key");
        assert_eq!(opened(&dir).backups().unwrap().len(), 1);
    }

    #[test]
    fn a_ledger_under_an_earlier_root_key_is_refused() {
        let (_keep, dir) = set_up();
        list(&dir);
        let earlier = dir.read(LEDGER, LEDGER_MAX).unwrap();
        rekey(&dir, &Means::default()).unwrap();
        dir.replace(LEDGER, &earlier).unwrap();
        let opened = opened(&dir);
        assert_eq!(opened.backups().map(drop).unwrap_err().to_string(), "the ledger is under another root key");
        assert_eq!(opened.unbacked(), keys(&opened), "no key counts as backed up");
    }

    #[test]
    fn no_rekey_begins_while_the_ledger_cannot_be_read() {
        let (_keep, dir) = set_up();
        std::fs::create_dir(dir.path_of(LEDGER)).unwrap();
        let before = opened(&dir).keyring.root_id();
        let refused = rekey(&dir, &Means::default()).unwrap_err().to_string();
        assert!(refused.ends_with("ledger is a directory, expected a regular file"), "{refused}");
        assert_eq!(opened(&dir).keyring.root_id(), before);
        std::fs::remove_dir(dir.path_of(LEDGER)).unwrap();
        // A damaged ledger is lost anyway.
        dir.create(LEDGER, b"no ledger").unwrap();
        rekey(&dir, &Means::default()).unwrap();
    }
}
