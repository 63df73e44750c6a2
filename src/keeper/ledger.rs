//! Changes of the ledger: listing a backup, and listing one no more.

use super::{
    commit::{Commit, CommitError, keyring_event},
    keys::ChangeFailed,
    open::{Opened, open_to_change},
    state_dir::StateFiles,
};
use crate::{
    audit::{BackupEvent, Event, KeyringEvent},
    crypto::{RootId, Uuid},
    durable::Dir,
    keyring::ledger::{Ledger, ListedBackup},
    root::Means,
};

/// Writes what `change` makes of the ledger and its next count, and marks it. The caller holds the lock.
fn change_ledger(
    state: StateFiles<'_>,
    opened: &mut Opened,
    event: Event<'_>,
    change: impl FnOnce(&Ledger, u64) -> Result<Ledger, ChangeFailed>,
) -> Result<(), ChangeFailed> {
    if opened.standing.is_none() {
        return Err(CommitError::NoMark.into());
    }
    let count = opened.listed.count().checked_add(1).ok_or(CommitError::Full)?;
    let empty = Ledger::empty(opened.keyring.uuid(), opened.root.id(opened.keyring.uuid()));
    let ledger = change(opened.listed.ledger().unwrap_or(&empty), count)?;
    opened.listed.replaced_by(ledger);
    Commit { event: Some(event), ..Commit::mark(opened)? }.run(state, &mut state.store())?;
    Ok(())
}

/// Lists a backup of the keyring in `dir` that was proven to be one, in the ledger. Its record is `under` this root key.
///
/// # Errors
/// When the keyring does not open or has no mark, the backup is not authentic, the ledger is not believed or full, or a file cannot be
/// written; the ledger is then as it was, or ahead of the mark.
pub fn list_backup(dir: &Dir, means: &Means, under: RootId, backup: ListedBackup) -> Result<Opened, ChangeFailed> {
    let state = StateFiles::new(dir);
    let (mut opened, _lock) = open_to_change(state, means)?;
    opened.check_root_key(under)?;
    opened.listed.believe().map_err(ChangeFailed::Ledger)?;
    let event = BackupEvent { keyring: keyring_event_of(&opened, &backup), record: backup.record().to_hex() };
    let event = if backup.checked().is_some() { Event::BackupCheck(event) } else { Event::BackupWritten(event) };
    change_ledger(state, &mut opened, event, |ledger, count| Ok(ledger.with(backup, count)?))?;
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
    let state = StateFiles::new(dir);
    let (mut opened, _lock) = open_to_change(state, means)?;
    match forget {
        Forget::One(name) => {
            opened.listed.believe().map_err(ChangeFailed::Ledger)?;
            let backup = opened.named_backup(name)?.clone();
            let event = BackupEvent { keyring: keyring_event_of(&opened, &backup), record: backup.record().to_hex() };
            let event = Event::BackupForget(event);
            change_ledger(state, &mut opened, event, |ledger, count| Ok(ledger.without(backup.record(), count)))?;
        }
        Forget::All(uuid) => {
            let expected = opened.keyring.uuid();
            if *uuid != expected {
                return Err(ChangeFailed::OtherUuid { found: *uuid, expected });
            }
            let seq = opened.keyring.greatest_seq();
            let empty = Ledger::empty(expected, opened.root.id(expected));
            let event = Event::BackupForgetAll(keyring_event(&opened.keyring));
            change_ledger(state, &mut opened, event, |_, count| Ok(empty.begun_anew(count, seq)))?;
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
