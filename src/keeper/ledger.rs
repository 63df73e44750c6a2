//! What this node knows of its backups. A ledger that is not believed hinders no serving; no key counts as backed up then, and
//! nothing is listed until an operator begins the ledger anew.

use std::collections::HashSet;

use super::{ChangeFailed, OpenError, Opened, Roots, advance_mark, backup::keyring_event, open_to_change};
use crate::{
    audit::{self, BackupEvent, Event, KeyringEvent},
    crypto::{RootId, Uuid, kdf::RootKey},
    durable::{Dir, DurableError},
    keyring::{
        key_id::KeyId,
        ledger::{LEDGER_MAX, Ledger, LedgerError, ListedBackup},
        mark::Mark,
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
                let ledger = Err(LedgerError::Missing(marked).into());
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

    /// Makes sure that it is believed.
    ///
    /// # Errors
    /// When it is not, with the reason.
    pub(super) fn believe(&mut self) -> Result<(), ChangeFailed> {
        if self.ledger.is_ok() {
            return Ok(());
        }
        let missing = LedgerRefused::Ledger(LedgerError::Missing(self.marked));
        match std::mem::replace(&mut self.ledger, Err(missing)) {
            Err(refused) => Err(ChangeFailed::Ledger(refused)),
            Ok(_) => Ok(()),
        }
    }

    /// The keys that its backups hold; none if it is not believed.
    pub(super) fn backed(&self) -> HashSet<KeyId> {
        self.ledger.as_ref().map(Ledger::backed).unwrap_or_default()
    }

    /// With these backups as well, as far as there is room for them; one that is not believed stays as it is. `root` is the root key
    /// that the ledger is written under.
    pub(super) fn with(self, backups: Vec<ListedBackup>, root_id: RootId) -> Self {
        let Ok(ledger) = self.ledger else { return self };
        let mut ledger = ledger.under(root_id);
        for backup in backups {
            let count = ledger.count().saturating_add(1);
            ledger = ledger.with(backup, count).unwrap_or(ledger);
        }
        Self { ledger: Ok(ledger), ..self }
    }

    /// Writes it, if it is another one than `before`.
    pub(super) fn write(&self, dir: &Dir, before: u64, root: &RootKey) -> Result<(), OpenError> {
        match &self.ledger {
            Ok(ledger) if ledger.count() > before => Ok(dir.replace(LEDGER, &ledger.encode(root)?)?),
            _ => Ok(()),
        }
    }

    /// What the mark is to hold.
    pub(super) fn count(&self) -> u64 {
        self.ledger.as_ref().map_or(self.marked, Ledger::count)
    }
}

impl Opened {
    /// The keys that no listed backup holds: one lost disk loses them.
    pub fn unbacked(&self) -> Vec<KeyId> {
        match &self.listed.ledger {
            Ok(ledger) => ledger.unbacked(&self.keyring),
            Err(_) => self.keyring.keys().map(crate::keyring::Key::id).collect(),
        }
    }

    /// The backup that was proven last, or why no ledger says so.
    ///
    /// # Errors
    /// When the ledger is not believed.
    pub fn last_backup(&self) -> Result<Option<&ListedBackup>, &LedgerRefused> {
        self.listed.ledger.as_ref().map(Ledger::last)
    }

    /// The backups that are listed, the one that was proven last comes last.
    ///
    /// # Errors
    /// When the ledger is not believed.
    pub fn backups(&self) -> Result<&[ListedBackup], &LedgerRefused> {
        self.listed.ledger.as_ref().map(Ledger::backups)
    }

    /// The reason if a lost ledger may have listed what needs `key_id`.
    pub(super) fn forgotten(&self, key_id: KeyId) -> Option<String> {
        match &self.listed.ledger {
            Err(refused) => Some(format!("what a lost ledger listed may need it ({refused})")),
            Ok(ledger) => {
                let forgot = ledger.forgot().filter(|seq| key_id.seq() <= *seq)?;
                Some(format!("what a lost ledger listed may need keys up to k{forgot}"))
            }
        }
    }

    /// Puts the ledger under the root key of the record. The caller holds the lock.
    pub(super) fn carry_ledger(&self, dir: &Dir) -> Result<(), OpenError> {
        self.listed.carry(dir, self.keyring.uuid(), &self.root)
    }

    /// Writes what `change` makes of the ledger and its next count, and marks it. The caller holds the lock.
    fn change_ledger(
        &mut self,
        dir: &Dir,
        event: &Event<'_>,
        change: impl FnOnce(&Ledger, u64) -> Result<Ledger, ChangeFailed>,
    ) -> Result<(), ChangeFailed> {
        if self.standing.is_none() {
            return Err(ChangeFailed::NoMark);
        }
        let count = self.listed.count().checked_add(1).ok_or(ChangeFailed::Full)?;
        let empty = Ledger::empty(self.keyring.uuid(), self.root.id(self.keyring.uuid()));
        let ledger = change(self.listed.ledger.as_ref().unwrap_or(&empty), count)?;
        let bytes = ledger.encode(&self.root)?;
        audit::record(dir, event).map_err(ChangeFailed::NotAudited)?;
        dir.replace(LEDGER, &bytes)?;
        self.listed.ledger = Ok(ledger);
        Ok(advance_mark(dir, self)?)
    }
}

/// Lists a backup of the keyring in `dir` that was proven to be one, in the ledger. Its record is `under` this root key.
///
/// # Errors
/// When the keyring does not open or has no mark, the backup is not authentic, the ledger is not believed or full, or a file cannot be
/// written; the ledger is then as it was, or ahead of the mark.
pub fn list_backup(dir: &Dir, means: &Means, under: RootId, backup: ListedBackup) -> Result<Opened, ChangeFailed> {
    let (mut opened, _lock) = open_to_change(dir, means)?;
    opened.check_root_key(under)?;
    opened.listed.believe()?;
    let event = BackupEvent { keyring: keyring_event_of(&opened, &backup), record: backup.record().to_hex() };
    let event = if backup.checked().is_some() { Event::BackupCheck(event) } else { Event::BackupWritten(event) };
    opened.change_ledger(dir, &event, |ledger, count| Ok(ledger.with(backup, count)?))?;
    Ok(opened)
}

fn keyring_event_of(opened: &Opened, backup: &ListedBackup) -> KeyringEvent {
    KeyringEvent { keyring: opened.keyring.uuid().to_hex(), generation: backup.generation() }
}

/// Which backups are to be listed no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Forget {
    /// The one whose record's SHA-256 begins with these hexadecimal digits.
    One(String),
    /// All of this keyring, whatever is in the ledger: what it listed may have needed any key that there is.
    All(Uuid),
}

/// Does `forget` with the ledger of the keyring in `dir`.
///
/// # Errors
/// When the keyring does not open or has no mark, the ledger is not believed, no single backup is called so, or a file cannot be
/// written.
pub fn forget_backups(dir: &Dir, means: &Means, forget: &Forget) -> Result<Opened, ChangeFailed> {
    let (mut opened, _lock) = open_to_change(dir, means)?;
    match forget {
        Forget::One(name) => {
            opened.listed.believe()?;
            let backup = opened.named_backup(name)?.clone();
            let event = BackupEvent { keyring: keyring_event_of(&opened, &backup), record: backup.record().to_hex() };
            let event = Event::BackupForget(event);
            opened.change_ledger(dir, &event, |ledger, count| Ok(ledger.without(backup.record(), count)))?;
        }
        Forget::All(uuid) => {
            let expected = opened.keyring.uuid();
            if *uuid != expected {
                return Err(ChangeFailed::OtherUuid { found: *uuid, expected });
            }
            let seq = opened.keyring.greatest_seq();
            let empty = Ledger::empty(expected, opened.root.id(expected));
            let event = Event::BackupForgetAll(keyring_event(&opened.keyring));
            opened.change_ledger(dir, &event, |_, count| Ok(empty.begun_anew(count, seq)))?;
        }
    }
    Ok(opened)
}

impl Opened {
    fn named_backup(&self, name: &str) -> Result<&ListedBackup, ChangeFailed> {
        let backups = self.backups().unwrap_or_default();
        let mut found = backups.iter().filter(|backup| !name.is_empty() && backup.record().to_hex().starts_with(name));
        match (found.next(), found.count()) {
            (Some(backup), 0) => Ok(backup),
            (first, others) => {
                let found = usize::from(first.is_some()) + others;
                Err(ChangeFailed::UnknownBackup { name: name.to_owned(), found })
            }
        }
    }
}
