//! Makes the backup of a new key, if a restore or a merge has to make one.

use std::path::PathBuf;

use super::commit::{Export, NewRecord};
use crate::{
    crypto::root_key::RootKeys,
    durable::{Dir, is_on_another_disk},
    escrow::{NotRecipient, Recipient, SealBackupError, backup, recovery},
    keyring::{
        Keyring,
        ledger::{ListedBackup, Proven},
        time::Time,
    },
};

/// The file and the recipients of the backup of a new key.
#[derive(Debug, Clone)]
pub struct FreshBackup {
    /// The path where the backup is written.
    pub file: PathBuf,
    /// The recipients of the backup if the keyring has no recovery recipient.
    pub recipients: Vec<Recipient>,
}

impl FreshBackup {
    /// Returns the keyring's recovery recipients. If it has none, returns the recipients whose identities opened the
    /// backup.
    pub(super) fn recipients_of(&self, keyring: &Keyring) -> Result<Vec<Recipient>, NotRecipient> {
        let own = recovery::recipients(keyring.recoveries())?;
        Ok(if own.is_empty() { self.recipients.clone() } else { own })
    }

    /// Seals the keyring and its root keys into a backup. The ledger will list the backup only if its file is on
    /// another disk.
    pub(super) fn sealed(
        &self,
        dir: &Dir,
        keyring: &Keyring,
        record: &NewRecord,
        roots: RootKeys<'_>,
        recipients: &[Recipient],
        now: Time,
    ) -> Result<Export, SealBackupError> {
        let bytes = backup::seal(keyring, record.bytes(), roots, recipients, now)?;
        let directory = self.file.parent().unwrap_or(&self.file);
        let is_elsewhere = is_on_another_disk(directory, dir).is_ok();
        let file = Some(self.file.display().to_string());
        let listed = || ListedBackup::of(keyring, record.digest(), Proven::Written(now), file);
        Ok(Export { file: self.file.clone(), bytes, listed: is_elsewhere.then(listed) })
    }
}
