//! Changes the ledger: adds a backup to it, or removes backups from it.

use super::{
    backup::RootKeyError,
    commit::{Commit, CommitError, keyring_event},
    listed::ReadLedgerError,
    open::{BeginError, Opened, open_to_change},
    state_dir::StateFiles,
};
use crate::{
    audit::{BackupEvent, Event, KeyringEvent},
    crypto::{RootId, Uuid},
    durable::Dir,
    keyring::ledger::{Ledger, LedgerFull, ListedBackup},
    root::Means,
};

/// Why a backup was not listed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListBackupError {
    /// The change did not begin.
    #[error(transparent)]
    Begin(#[from] BeginError),
    /// The backup is not known to belong to this keyring.
    #[error(transparent)]
    RootKey(#[from] RootKeyError),
    /// The ledger was refused.
    #[error(transparent)]
    Refused(#[from] ReadLedgerError),
    /// The ledger has no room.
    #[error(transparent)]
    Full(#[from] LedgerFull),
    /// Writing the change failed. The error says what was changed.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

/// Why a backup is still listed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ForgetBackupsError {
    /// The change did not begin.
    #[error(transparent)]
    Begin(#[from] BeginError),
    /// The ledger was refused.
    #[error(transparent)]
    Refused(#[from] ReadLedgerError),
    /// No listed backup has an ID that begins with the given digits, or several have one.
    #[error("{} with {name}", beginning(*found))]
    Unknown {
        /// The given digits.
        name: String,
        /// How many listed backups have such an ID.
        found: usize,
    },
    /// The operator typed the uuid of another keyring.
    #[error("--all names keyring {}, and the keyring here is {}", found.to_hex(), expected.to_hex())]
    OtherUuid {
        /// The given uuid.
        found: Uuid,
        /// The uuid of the keyring.
        expected: Uuid,
    },
    /// Writing the change failed. The error says what was changed.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

fn beginning(found: usize) -> String {
    match found {
        0 => "no listed backup has an ID that begins".to_owned(),
        found => format!("{found} listed backups have an ID that begins"),
    }
}

/// Returns the count of the next ledger.
fn next_count(opened: &Opened) -> Result<u64, CommitError> {
    opened.standing.ok_or(CommitError::NoMark)?;
    opened.listed.count().checked_add(1).ok_or(CommitError::LedgerSpent)
}

/// Writes `ledger` and marks it. The caller holds the lock.
fn write(state: StateFiles<'_>, mut opened: Opened, event: Event<'_>, ledger: Ledger) -> Result<Opened, CommitError> {
    opened.listed.replaced_by(ledger);
    Commit { event: Some(event), ..Commit::mark(&opened)? }.run(state, &mut state.store())?;
    Ok(opened)
}

/// Returns the ledger unless it was refused.
fn believed(opened: &mut Opened) -> Result<Ledger, ReadLedgerError> {
    opened.listed.believe()?;
    let empty = || Ledger::empty(opened.keyring.uuid(), opened.root.id(opened.keyring.uuid()));
    Ok(opened.listed.ledger().cloned().unwrap_or_else(|_| empty()))
}

/// Adds a backup of the keyring in `dir` to the ledger, or adds a proof to a listed one. `under` identifies the root
/// key of its record.
///
/// # Errors
/// When the keyring does not open or has no mark, it never had the root key `under`, the ledger was refused or is full,
/// or a file cannot be written. A failed write leaves the old ledger, or a new ledger that the mark does not name yet.
pub fn list_backup(dir: &Dir, means: &Means, under: RootId, backup: ListedBackup) -> Result<Opened, ListBackupError> {
    let state = StateFiles::new(dir);
    let (mut opened, _lock) = open_to_change(state, means)?;
    opened.check_root_key(under)?;
    let ledger = believed(&mut opened)?;
    let event = BackupEvent { keyring: keyring_event_of(&opened, &backup), record: backup.record().to_hex() };
    let event = if backup.checked().is_some() { Event::BackupCheck(event) } else { Event::BackupWritten(event) };
    let ledger = ledger.with(backup, next_count(&opened)?)?;
    Ok(write(state, opened, event, ledger)?)
}

fn keyring_event_of(opened: &Opened, backup: &ListedBackup) -> KeyringEvent {
    KeyringEvent { keyring: opened.keyring.uuid().to_hex(), generation: backup.generation() }
}

/// Which backups are removed from the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Forget {
    /// The one whose record's SHA-256 begins with these hexadecimal digits.
    One(String),
    /// All backups, even if the ledger is unreadable. Afterwards any existing key may still be needed by a backup that
    /// it listed. The operator has to name the uuid of the keyring.
    All(Uuid),
}

/// Removes the backups `forget` from the ledger of the keyring in `dir`.
///
/// # Errors
/// When the keyring does not open or has no mark, the ledger was refused, not exactly one backup has the given digits,
/// the uuid is another keyring's, or a file cannot be written.
pub fn forget_backups(dir: &Dir, means: &Means, forget: &Forget) -> Result<Opened, ForgetBackupsError> {
    let state = StateFiles::new(dir);
    let (mut opened, _lock) = open_to_change(state, means)?;
    let (event, ledger) = match forget {
        Forget::One(name) => {
            let ledger = believed(&mut opened)?;
            let backup = named(&ledger, name)?;
            let event = BackupEvent { keyring: keyring_event_of(&opened, backup), record: backup.record().to_hex() };
            (Event::BackupForget(event), ledger.without(backup.record(), next_count(&opened)?))
        }
        Forget::All(uuid) => {
            let expected = opened.keyring.uuid();
            if *uuid != expected {
                return Err(ForgetBackupsError::OtherUuid { found: *uuid, expected });
            }
            let empty = Ledger::empty(expected, opened.root.id(expected));
            let ledger = empty.begun_anew(next_count(&opened)?, opened.keyring.greatest_seq());
            (Event::BackupForgetAll(keyring_event(&opened.keyring)), ledger)
        }
    };
    Ok(write(state, opened, event, ledger)?)
}

/// Returns the only backup in `ledger` whose ID begins with `name`.
fn named<'a>(ledger: &'a Ledger, name: &str) -> Result<&'a ListedBackup, ForgetBackupsError> {
    let is_it = |backup: &&ListedBackup| !name.is_empty() && backup.record().to_hex().starts_with(name);
    let found: Vec<&ListedBackup> = ledger.backups().iter().filter(is_it).collect();
    match found.as_slice() {
        [backup] => Ok(backup),
        found => Err(ForgetBackupsError::Unknown { name: name.to_owned(), found: found.len() }),
    }
}
