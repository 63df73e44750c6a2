//! Backups of a keyring, and a keyring out of a backup.

use std::path::PathBuf;

use super::{
    ChangeFailed, Expect, ExpectError, InitError, Initialised, Opened,
    init::{Files, SetUp},
    ledger, open,
};
use crate::{
    audit::{self, Event, KeyringEvent},
    durable::Dir,
    keyring::{
        Key, Keyring,
        backup::{self, Backup},
        key_id::KeyId,
        record,
        recovery::{Recipient, Recovery},
        time::Time,
    },
    root::Means,
};

/// A backup that was made, and is not on any disk yet.
pub struct Made {
    /// The age file.
    pub bytes: Vec<u8>,
    /// Who can open it.
    pub recipients: Vec<String>,
    /// The keyring that it is of.
    pub opened: Opened,
}

/// Makes a backup of the keyring in `dir` for `recipients`, or for those of the keyring if there are none.
///
/// # Errors
/// When the keyring does not open or is being rekeyed, nobody could open the backup, or it cannot be put on the audit record.
pub fn back_up(dir: &Dir, means: &Means, recipients: Vec<Recipient>, now: Time) -> Result<Made, ChangeFailed> {
    let opened = open(dir, means)?;
    if opened.is_being_rekeyed() {
        return Err(ChangeFailed::Rekeying);
    }
    let Opened { keyring, current, root_file, .. } = &opened;
    let recipients = if recipients.is_empty() { of_keyring(&opened)? } else { recipients };
    let record = record::encode(keyring, current)?;
    let earlier = root_file.earlier(current)?;
    let bytes = backup::seal(keyring, &record, (current, &earlier), &recipients, now)?;
    let recipients: Vec<String> = recipients.iter().map(ToString::to_string).collect();
    let event = Event::Backup { keyring: keyring_event(&opened.keyring), recipients: recipients.clone() };
    audit::record(dir, &event).map_err(ChangeFailed::NotAudited)?;
    Ok(Made { bytes, recipients, opened })
}

fn of_keyring(opened: &Opened) -> Result<Vec<Recipient>, ChangeFailed> {
    let recoveries = opened.keyring.recoveries();
    let recipients = recoveries.iter().map(Recovery::recipient).map(str::parse).collect::<Result<Vec<_>, _>>()?;
    if recipients.is_empty() { Err(ChangeFailed::NoRecipient) } else { Ok(recipients) }
}

impl Opened {
    /// The keys that would be lost if this backup were all that is left.
    ///
    /// # Errors
    /// When it is another keyring's.
    pub fn missing_in(&self, backup: &Backup) -> Result<Vec<KeyId>, ExpectError> {
        let (found, expected) = (backup.keyring.uuid(), self.keyring.uuid());
        if found != expected {
            return Err(ExpectError::OtherKeyring { found, expected });
        }
        let has = |key: &&Key| backup.keyring.keys().any(|other| other.id() == key.id());
        Ok(self.keyring.keys().filter(|key| !has(key)).map(Key::id).collect())
    }
}

/// Which keyring is to be set up, and where.
pub struct RestorePlan {
    /// What it comes from.
    pub backup: Backup,
    /// Where the key file of its slot goes; the state directory if none.
    pub slot_file: Option<PathBuf>,
    /// Whether a set-up that broke off is moved aside.
    pub restart: bool,
    /// When it was opened.
    pub now: Time,
}

/// Sets `dir` up with the keyring of a backup, under the same root key, which a new slot seals. No key and no key_id changes.
///
/// # Errors
/// When a keyring is there, or a file cannot be written. Before the first write nothing has changed; after it, `restart`
/// begins again.
pub fn restore(dir: &Dir, plan: RestorePlan) -> Result<Initialised, InitError> {
    let RestorePlan { backup, slot_file, restart, now } = plan;
    let ledger = ledger::first(&backup, now)?;
    let Backup { keyring, record, root, earlier, .. } = backup;
    let event = Event::Restore(keyring_event(&keyring));
    let files = Files::of(keyring, &root, &earlier, record.to_vec(), slot_file, Some(ledger))?;
    files.set_up(dir, &SetUp { restart, event: Some(event) })
}

pub(super) fn keyring_event(keyring: &Keyring) -> KeyringEvent {
    KeyringEvent { keyring: keyring.uuid().to_hex(), generation: keyring.generation() }
}

impl Backup {
    /// What names its record.
    pub fn expect(&self) -> Expect {
        Expect::of(&self.keyring, self.digest())
    }
}
