//! Changes of the ledger: listing a backup, and listing one no more.

use super::{
    backup::RootKeyError,
    commit::{Commit, CommitError, keyring_event},
    listed::LedgerRefused,
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
pub enum ListError {
    /// The change did not begin.
    #[error(transparent)]
    Begin(#[from] BeginError),
    /// The backup is not known to be of this keyring.
    #[error(transparent)]
    RootKey(#[from] RootKeyError),
    /// The ledger is not believed.
    #[error(transparent)]
    Refused(#[from] LedgerRefused),
    /// The ledger has no room.
    #[error(transparent)]
    Full(#[from] LedgerFull),
    /// The change was not written, or not all of it.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

/// Why a backup is still listed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ForgetError {
    /// The change did not begin.
    #[error(transparent)]
    Begin(#[from] BeginError),
    /// The ledger is not believed.
    #[error(transparent)]
    Refused(#[from] LedgerRefused),
    /// No listed backup has an ID that begins so, or several have.
    #[error("{} with {name}", beginning(*found))]
    Unknown {
        /// What was given.
        name: String,
        /// How many there are.
        found: usize,
    },
    /// The operator typed the uuid of another keyring.
    #[error("--all names keyring {}, and the keyring here is {}", found.to_hex(), expected.to_hex())]
    OtherUuid {
        /// What was given.
        found: Uuid,
        /// The keyring's.
        expected: Uuid,
    },
    /// The change was not written, or not all of it.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

fn beginning(found: usize) -> String {
    match found {
        0 => "no listed backup has an ID that begins".to_owned(),
        found => format!("{found} listed backups have an ID that begins"),
    }
}

/// The count of the next ledger.
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

/// The ledger, if it is believed.
fn believed(opened: &mut Opened) -> Result<Ledger, LedgerRefused> {
    opened.listed.believe()?;
    let empty = || Ledger::empty(opened.keyring.uuid(), opened.root.id(opened.keyring.uuid()));
    Ok(opened.listed.ledger().cloned().unwrap_or_else(|_| empty()))
}

/// Lists a backup of the keyring in `dir` that was proven to be one, in the ledger. Its record is `under` this root key.
///
/// # Errors
/// When the keyring does not open or has no mark, the backup is not authentic, the ledger is not believed or full, or a file cannot be
/// written; the ledger is then as it was, or ahead of the mark.
pub fn list_backup(dir: &Dir, means: &Means, under: RootId, backup: ListedBackup) -> Result<Opened, ListError> {
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
pub fn forget_backups(dir: &Dir, means: &Means, forget: &Forget) -> Result<Opened, ForgetError> {
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
                return Err(ForgetError::OtherUuid { found: *uuid, expected });
            }
            let empty = Ledger::empty(expected, opened.root.id(expected));
            let ledger = empty.begun_anew(next_count(&opened)?, opened.keyring.greatest_seq());
            (Event::BackupForgetAll(keyring_event(&opened.keyring)), ledger)
        }
    };
    Ok(write(state, opened, event, ledger)?)
}

/// The one backup in `ledger` whose ID begins with `name`.
fn named<'a>(ledger: &'a Ledger, name: &str) -> Result<&'a ListedBackup, ForgetError> {
    let is_it = |backup: &&ListedBackup| !name.is_empty() && backup.record().to_hex().starts_with(name);
    let found: Vec<&ListedBackup> = ledger.backups().iter().filter(is_it).collect();
    match found.as_slice() {
        [backup] => Ok(backup),
        found => Err(ForgetError::Unknown { name: name.to_owned(), found: found.len() }),
    }
}
