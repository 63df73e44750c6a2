//! Backups of a keyring.

use super::{
    commit::keyring_event,
    error::OpenError,
    expect::{Expect, ExpectError},
    open::{Opened, open},
};
use crate::{
    audit::{self, Event},
    crypto::{RootId, secret::SecretError},
    durable::{Dir, DurableError},
    escrow::{
        BackupError, Recipient, RecoveryError,
        backup::{self, Backup},
        recovery,
    },
    keyring::{
        Key,
        key_id::KeyId,
        ledger::{ListedBackup, Proven},
        lineage::KEPT,
        record,
        time::Time,
    },
    root::{Means, RootError},
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

/// Why no backup was made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupFailed {
    /// The keyring did not open.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// An earlier rekey did not finish.
    #[error("a rekey is not finished: the keyring is still under the root key from before")]
    Rekeying,
    /// Nobody could open a backup.
    #[error("nobody could open a backup: the keyring has no recovery recipient, and none was given")]
    NoRecipient,
    /// A recovery recipient of the keyring is none.
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
    /// An earlier root key does not open.
    #[error("root file: {0}")]
    Root(#[from] RootError),
    /// No memory could be locked.
    #[error(transparent)]
    Memory(#[from] SecretError),
    /// The backup could not be sealed.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// The audit line could not be written.
    #[error("no backup was made, because it cannot be put on the audit record: {0}")]
    NotAudited(#[source] DurableError),
}

/// Why a record is not known to be authentic.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RootKeyError {
    /// An earlier root key does not open.
    #[error("root file: {0}")]
    Root(#[from] RootError),
    /// The keyring never had the root key of the record.
    #[error("the backup is under a root key that this keyring has never had")]
    Strange,
}

/// Makes a backup of the keyring in `dir` for `recipients`, or for those of the keyring if there are none.
///
/// # Errors
/// When the keyring does not open or is being rekeyed, nobody could open the backup, or it cannot be put on the audit record.
pub fn back_up(dir: &Dir, means: &Means, recipients: Vec<Recipient>, now: Time) -> Result<Made, BackupFailed> {
    let opened = open(dir, means)?;
    if opened.is_being_rekeyed() {
        return Err(BackupFailed::Rekeying);
    }
    let Opened { keyring, current, root_file, .. } = &opened;
    let recipients = if recipients.is_empty() { of_keyring(&opened)? } else { recipients };
    let record = record::encode(keyring, current)?;
    let earlier = root_file.earlier(current)?;
    let bytes = backup::seal(keyring, &record, (current, &earlier), &recipients, now)?;
    let recipients: Vec<String> = recipients.iter().map(ToString::to_string).collect();
    let event = Event::Backup { keyring: keyring_event(&opened.keyring), recipients: recipients.clone() };
    audit::record(dir, &event).map_err(BackupFailed::NotAudited)?;
    Ok(Made { bytes, recipients, opened })
}

impl Made {
    /// Whether the identity of one of its recipients was tried before: `init` and `recovery add` try it.
    pub fn is_for_proven_recipient(&self) -> bool {
        let recoveries = self.opened.keyring.recoveries();
        recoveries.iter().any(|recovery| self.recipients.iter().any(|recipient| recipient == recovery.recipient()))
    }

    /// What the ledger is to say of it, once it was written to `file` on another disk.
    pub fn listed(&self, file: Option<String>, now: Time) -> ListedBackup {
        ListedBackup::of(&self.opened.keyring, self.opened.digest, Proven::Written(now), file)
    }
}

fn of_keyring(opened: &Opened) -> Result<Vec<Recipient>, BackupFailed> {
    let recipients = recovery::recipients(opened.keyring.recoveries())?;
    if recipients.is_empty() { Err(BackupFailed::NoRecipient) } else { Ok(recipients) }
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

impl Opened {
    /// Whether the keyring here does not follow from that of `backup`, as far as its past reaches: then the directory was put back, or
    /// one of the two is a fork.
    pub fn is_behind(&self, backup: &Backup) -> bool {
        let (theirs, ours) = (backup.keyring.generation(), self.keyring.generation());
        let is_same = backup.digest() == self.digest;
        let is_past = self.keyring.past().names(theirs, backup.digest());
        !is_same && !is_past && theirs + KEPT >= ours
    }

    /// Makes sure that a record under the root key `under` is authentic: anyone who has a recipient can make a backup under a root key
    /// that this keyring never had.
    ///
    /// # Errors
    /// When this keyring never had that root key.
    pub fn check_root_key(&self, under: RootId) -> Result<(), RootKeyError> {
        let is_current = self.current.id(self.keyring.uuid()) == under;
        if is_current || self.root_file.old(under, &self.current)?.is_some() {
            Ok(())
        } else {
            Err(RootKeyError::Strange)
        }
    }
}

impl Backup {
    /// What names its record.
    pub fn expect(&self) -> Expect {
        Expect::of(&self.keyring, self.digest())
    }
}
