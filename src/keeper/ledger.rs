//! What this node knows of checked backups: a ledger that cannot be trusted hinders no serving, and no key counts as backed.

use super::{ChangeFailed, OpenError, Opened, Roots, advance_mark, backup::keyring_event, open_to_change};
use crate::{
    audit::{self, Event},
    crypto::{RootId, Uuid, kdf::RootKey, secret::SecretError},
    durable::{Dir, DurableError},
    keyring::{
        backup::Backup,
        key_id::KeyId,
        ledger::{CheckedBackup, LEDGER_MAX, Ledger, LedgerError},
        mark::Mark,
        time::Time,
    },
    root::Means,
    store::LEDGER,
};

/// Why the ledger is not believed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerRefused {
    /// It cannot be read.
    #[error(transparent)]
    File(#[from] DurableError),
    /// It is not what this node has written last.
    #[error("the ledger {0}")]
    Ledger(#[from] LedgerError),
}

/// The ledger beside a keyring.
#[derive(Debug)]
pub(super) struct Listed {
    ledger: Result<Ledger, LedgerRefused>,
    /// The mark's count.
    marked: u64,
}

impl Listed {
    /// Reads it as `mark`, which is under `marked_under`, has seen it. It never fails: what is wrong is told when it is needed.
    pub(super) fn read(
        dir: &Dir,
        roots: &Roots,
        mark: Option<&Mark>,
        marked_under: Option<RootId>,
    ) -> Result<Self, OpenError> {
        let marked = mark.map_or(0, Mark::ledger);
        let uuid = roots.file.uuid();
        let current = roots.current.id(uuid);
        let bytes = match dir.read(LEDGER, LEDGER_MAX) {
            Ok(bytes) => bytes,
            Err(DurableError::Missing(_)) if marked == 0 => {
                return Ok(Self { ledger: Ok(Ledger::empty(uuid, current)), marked });
            }
            Err(DurableError::Missing(_)) => {
                let ledger = Err(LedgerError::RolledBack { found: 0, marked }.into());
                return Ok(Self { ledger, marked });
            }
            Err(error) => return Ok(Self { ledger: Err(error.into()), marked }),
        };
        let ledger = match Ledger::named_root(&bytes) {
            // While a rekey is under way it is under the root key of the mark, or under the current one already.
            Ok(root_id) if marked_under == Some(root_id) => {
                Ledger::decode(&bytes, &*roots.key(root_id, dir)?, uuid, marked)
            }
            Ok(_) => Ledger::decode(&bytes, &roots.current, uuid, marked),
            Err(error) => Err(error.into()),
        };
        Ok(Self { ledger: ledger.map_err(Into::into), marked })
    }

    /// Itself, if its file could be read, whatever was in it: what cannot be read now cannot be put under another root key, and would
    /// not be believed from then on.
    pub(super) fn readable(self) -> Result<Self, DurableError> {
        match self.ledger {
            Err(LedgerRefused::File(error)) => Err(error),
            ledger => Ok(Self { ledger, ..self }),
        }
    }

    /// Puts it under `root`, if it is under another one.
    pub(super) fn carry(&self, dir: &Dir, uuid: Uuid, root: &RootKey) -> Result<(), OpenError> {
        let root_id = root.id(uuid);
        match &self.ledger {
            Ok(ledger) if ledger.count() > 0 && ledger.root_id() != root_id => {
                Ok(dir.replace(LEDGER, &ledger.under(root_id).encode(root)?)?)
            }
            _ => Ok(()),
        }
    }

    /// What the mark is to hold.
    pub(super) fn count(&self) -> u64 {
        self.ledger.as_ref().map_or(self.marked, Ledger::count)
    }
}

impl Opened {
    /// The keys that no checked backup holds: one lost disk loses them.
    pub fn unbacked(&self) -> Vec<KeyId> {
        match &self.listed.ledger {
            Ok(ledger) => ledger.unbacked(&self.keyring),
            Err(_) => self.keyring.keys().map(crate::keyring::Key::id).collect(),
        }
    }

    /// The backup that was checked last, or why no ledger says so.
    ///
    /// # Errors
    /// When the ledger is not believed.
    pub fn last_backup(&self) -> Result<Option<&CheckedBackup>, &LedgerRefused> {
        self.listed.ledger.as_ref().map(Ledger::last)
    }

    /// Puts the ledger under the root key of the record. The caller holds the lock.
    pub(super) fn carry_ledger(&self, dir: &Dir) -> Result<(), OpenError> {
        self.listed.carry(dir, self.keyring.uuid(), &self.root)
    }
}

/// Lists `backup`, which was opened and read, in the ledger of the keyring in `dir`.
///
/// A ledger that is not believed is begun anew: that a backup is not listed is never more than a needless warning.
///
/// # Errors
/// When the keyring does not open or has no mark, or a file cannot be written; the ledger is then as it was, or ahead of the mark.
pub fn list_backup(dir: &Dir, means: &Means, backup: &Backup, now: Time) -> Result<Opened, ChangeFailed> {
    let (mut opened, _lock) = open_to_change(dir, means)?;
    if opened.standing.is_none() {
        return Err(ChangeFailed::NoMark);
    }
    let uuid = opened.keyring.uuid();
    let empty = Ledger::empty(uuid, opened.root.id(uuid));
    let count = opened.listed.count().checked_add(1).ok_or(ChangeFailed::Full)?;
    let entry = CheckedBackup::of(&backup.keyring, backup.digest(), now);
    let ledger = opened.listed.ledger.as_ref().unwrap_or(&empty).with(entry, count);
    let bytes = ledger.encode(&opened.root)?;
    let event = Event::BackupCheck { keyring: keyring_event(&backup.keyring), record: backup.digest().to_hex() };
    audit::record(dir, &event).map_err(ChangeFailed::NotAudited)?;
    dir.replace(LEDGER, &bytes)?;
    opened.listed.ledger = Ok(ledger);
    advance_mark(dir, &opened)?;
    Ok(opened)
}

/// The bytes of a first ledger, of a keyring that comes out of `backup`.
///
/// # Errors
/// When no memory can be locked.
pub(super) fn first(backup: &Backup, now: Time) -> Result<(Vec<u8>, u64), SecretError> {
    let (uuid, root_id) = (backup.keyring.uuid(), backup.keyring.root_id());
    let ledger = Ledger::empty(uuid, root_id).with(CheckedBackup::of(&backup.keyring, backup.digest(), now), 1);
    Ok((ledger.encode(&backup.root)?, ledger.count()))
}
