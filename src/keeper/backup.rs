//! Makes backups of a keyring, and compares a backup with the keyring here.

use super::{
    commit::keyring_event,
    error::{NoBackupRecipient, OpenError, RootFileError, RootKeyError, UnfinishedRekey},
    expect::{Expect, ExpectError},
    open::{Opened, open},
};
use crate::{
    audit::{self, Event},
    crypto::{RootId, root_key::RootKeys},
    durable::{Dir, DurableError},
    escrow::{
        NotRecipient, Recipient, SealBackupError,
        backup::{self, Backup},
        recovery,
    },
    keyring::{
        Key,
        key_id::KeyId,
        ledger::{ListedBackup, Proven},
        past::KEPT,
        record,
        time::Time,
    },
    memory::SecretError,
    root::Means,
};

/// A backup that is sealed, and not on any disk yet.
pub struct Made {
    /// The bytes of the age file.
    pub bytes: Vec<u8>,
    /// The recipients, whose identities can open the backup.
    pub recipients: Vec<String>,
    /// The keyring that the backup contains, as it was opened.
    pub opened: Opened,
}

/// Why no backup of a keyring was made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MakeBackupError {
    /// The keyring in the state directory did not open.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// An earlier rekey did not finish.
    #[error(transparent)]
    Rekeying(#[from] UnfinishedRekey),
    /// There is no recipient, so nobody could open the backup.
    #[error(transparent)]
    NoRecipient(#[from] NoBackupRecipient),
    /// A recovery recipient in the record is not a valid age recipient.
    #[error(transparent)]
    Recipient(#[from] NotRecipient),
    /// An earlier root key, which a backup contains, does not open.
    #[error(transparent)]
    Root(#[from] RootFileError),
    /// No memory could be locked for a root key.
    #[error(transparent)]
    Memory(#[from] SecretError),
    /// The backup could not be sealed.
    #[error(transparent)]
    Seal(#[from] SealBackupError),
    /// The audit line could not be written.
    #[error("no backup was made, because the audit log cannot be written: {0}")]
    NotAudited(#[source] DurableError),
}

/// Makes a backup of the keyring in `dir` for `recipients`. If they are empty, makes it for the keyring's recovery
/// recipients.
///
/// # Errors
/// When the keyring does not open or is being rekeyed, there is no recipient, or the audit line cannot be written.
pub fn back_up(dir: &Dir, means: &Means, recipients: Vec<Recipient>, now: Time) -> Result<Made, MakeBackupError> {
    let opened = open(dir, means)?;
    if opened.is_being_rekeyed() {
        return Err(UnfinishedRekey.into());
    }
    let Opened { keyring, current, root_file, .. } = &opened;
    let recipients = if recipients.is_empty() { of_keyring(&opened)? } else { recipients };
    let record = record::encode(keyring, current)?;
    let earlier = root_file.earlier(current).map_err(RootFileError)?;
    let bytes = backup::seal(keyring, &record, RootKeys { current, earlier: &earlier }, &recipients, now)?;
    let recipients: Vec<String> = recipients.iter().map(ToString::to_string).collect();
    let event = Event::Backup { keyring: keyring_event(&opened.keyring), recipients: recipients.clone() };
    audit::write(dir, &event).map_err(MakeBackupError::NotAudited)?;
    Ok(Made { bytes, recipients, opened })
}

impl Made {
    /// Whether one of the backup's recipients is a recovery recipient of the keyring. `init` and `recovery add` have
    /// tried the identity of every recovery recipient.
    pub fn is_for_proven_recipient(&self) -> bool {
        let recoveries = self.opened.keyring.recoveries();
        recoveries.iter().any(|recovery| self.recipients.iter().any(|recipient| recipient == recovery.recipient()))
    }

    /// Returns the ledger's entry of this backup. The caller has written the backup to `file` on another disk.
    pub fn listed(&self, file: Option<String>, now: Time) -> ListedBackup {
        ListedBackup::of(&self.opened.keyring, self.opened.digest, Proven::Written(now), file)
    }
}

fn of_keyring(opened: &Opened) -> Result<Vec<Recipient>, MakeBackupError> {
    let recipients = recovery::recipients(opened.keyring.recoveries())?;
    if recipients.is_empty() { Err(NoBackupRecipient.into()) } else { Ok(recipients) }
}

impl Opened {
    /// Returns the keys of this keyring that `backup` does not contain.
    ///
    /// # Errors
    /// When `backup` is of another keyring.
    pub fn missing_in(&self, backup: &Backup) -> Result<Vec<KeyId>, ExpectError> {
        let (found, expected) = (backup.keyring.uuid(), self.keyring.uuid());
        if found != expected {
            return Err(ExpectError::OtherKeyring { found, expected });
        }
        let has = |key: &&Key| backup.keyring.keys().any(|other| other.id() == key.id());
        Ok(self.keyring.keys().filter(|key| !has(key)).map(Key::id).collect())
    }
}

/// The keys of a backup that a keyring does not have.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Additional {
    /// The keys that the keyring does not know.
    pub unknown: Vec<KeyId>,
    /// The keys that the keyring has destroyed.
    pub destroyed: Vec<KeyId>,
}

impl Opened {
    /// Returns the keys of `backup` that this keyring does not have.
    pub fn additional_in(&self, backup: &Backup) -> Additional {
        let has = |key_id: KeyId| self.keyring.keys().any(|key| key.id() == key_id);
        let is_known = |key_id: &KeyId| self.keyring.entries().iter().any(|entry| entry.id() == *key_id);
        let additional = backup.keyring.keys().map(Key::id).filter(|key_id| !has(*key_id));
        let (destroyed, unknown) = additional.partition(is_known);
        Additional { unknown, destroyed }
    }

    /// Whether the backup contains the record of this keyring or an earlier record of it. If not, the state directory
    /// was put back, or one of the two is a fork. Returns true, too, if the backup is more than `KEPT` generations
    /// older, because the keyring does not list records that old.
    pub fn may_descend_from(&self, backup: &Backup) -> bool {
        let (theirs, ours) = (backup.keyring.generation(), self.keyring.generation());
        let is_same = backup.digest() == self.digest;
        let is_past = self.keyring.past().names(theirs, backup.digest());
        is_same || is_past || theirs + KEPT < ours
    }

    /// Makes sure that `under` is a root key that this keyring has or had. Anyone who knows only a recipient can make a
    /// backup, but not under such a root key.
    ///
    /// # Errors
    /// When this keyring never had that root key, or an earlier root key does not open.
    pub fn check_root_key(&self, under: RootId) -> Result<(), RootKeyError> {
        let is_current = self.current.id(self.keyring.uuid()) == under;
        if is_current || self.root_file.old(under, &self.current).map_err(RootFileError)?.is_some() {
            Ok(())
        } else {
            Err(RootKeyError::Unknown)
        }
    }
}

impl Backup {
    /// Returns the text that identifies the opened record: uuid, generation and SHA-256.
    pub fn expect(&self) -> Expect {
        Expect::of(&self.keyring, self.digest())
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::SysRng;

    use super::*;
    use crate::escrow::OpenBackupError;
    use crate::{
        crypto::{Digest, Uuid, root_key::RootKey},
        escrow::testing::identity,
        keeper::{
            rekey,
            testing::{backup, events, keys, opened, rotate, set_up, set_up_recoverable},
        },
        keyring::{
            Keyring,
            testing::{self, digest, later, now},
        },
    };

    /// Makes a backup of `keyring` under a root key of its own.
    fn foreign(keyring: Keyring) -> Backup {
        let root = RootKey::generate(&mut SysRng).unwrap();
        Backup { keyring, record: b"record".to_vec().into(), root, earlier: Vec::new(), created: None }
    }

    /// Returns what opening `dir` returns if `keyring` is there.
    fn with(dir: &Dir, keyring: &Keyring, digest: Digest) -> Opened {
        let mut opened = opened(dir);
        (opened.keyring, opened.digest) = (keyring.clone(), digest);
        opened
    }

    #[test]
    fn a_backup_is_for_the_recovery_recipients_unless_others_are_given() {
        let (_keep, dir, recipient, identities) = set_up_recoverable();
        let made = back_up(&dir, &Means::default(), Vec::new(), now()).unwrap();
        assert_eq!(made.recipients, [recipient.to_string()]);
        assert!(made.is_for_proven_recipient());
        assert_eq!(Backup::open(&made.bytes, &identities).unwrap().digest(), made.opened.digest);
        let other = identity().0;
        let made = back_up(&dir, &Means::default(), vec![other.clone()], now()).unwrap();
        assert_eq!(made.recipients, [other.to_string()]);
        assert!(!made.is_for_proven_recipient());
        assert!(matches!(Backup::open(&made.bytes, &identities), Err(OpenBackupError::NoIdentity)));
        let named: Vec<_> = events(&dir).iter().map(|event| event["recipients"][0].clone()).collect();
        assert_eq!(named, [recipient.to_string(), other.to_string()]);

        let (_keep, dir) = set_up();
        let refused = back_up(&dir, &Means::default(), Vec::new(), now()).map(drop).unwrap_err().to_string();
        let expected = "nobody could open a backup: the keyring has no recovery recipient, and none was given";
        assert_eq!(refused, expected);
    }

    #[test]
    fn the_keys_that_were_made_after_a_backup_are_missing_in_it() {
        let (_keep, dir) = set_up();
        let backup = backup(&dir);
        assert_eq!(opened(&dir).missing_in(&backup), Ok(Vec::new()));
        let added = rotate(&dir);
        assert_eq!(opened(&dir).missing_in(&backup), Ok(vec![added]));
        let newer = self::backup(&dir);
        let fewer = with(&dir, &backup.keyring, backup.digest());
        assert_eq!(fewer.missing_in(&newer), Ok(Vec::new()), "keys that only the backup has are not missing");
        let (found, expected) = (Uuid([7; 16]), backup.keyring.uuid());
        let other = foreign(testing::keyring(&backup.root, found));
        assert_eq!(opened(&dir).missing_in(&other), Err(ExpectError::OtherKeyring { found, expected }));
    }

    #[test]
    fn a_keyring_descends_from_its_backup_unless_its_past_says_otherwise() {
        let (_keep, dir) = set_up();
        let before = backup(&dir);
        assert!(opened(&dir).may_descend_from(&before), "the same record");
        rotate(&dir);
        let ours = opened(&dir);
        assert!(ours.may_descend_from(&before), "an earlier record");
        let fork = foreign(before.keyring.clone());
        assert!(!ours.may_descend_from(&fork));
        assert!(!with(&dir, &before.keyring, before.digest()).may_descend_from(&backup(&dir)), "a later record");
        // The past of a keyring reaches 256 generations back. The backup is older.
        let mut keyring = before.keyring.clone();
        while keyring.generation() < 1 + KEPT {
            keyring = later(&keyring, |_| {});
        }
        let next = later(&keyring, |_| {});
        assert!(!with(&dir, &keyring, digest(1 + KEPT)).may_descend_from(&fork));
        assert!(with(&dir, &next, digest(2 + KEPT)).may_descend_from(&fork), "nobody knows");
    }

    #[test]
    fn a_backup_is_authentic_under_a_root_key_that_the_keyring_has_or_had() {
        let (_keep, dir) = set_up();
        let earlier = opened(&dir).keyring.root_id();
        rekey(&dir, &Means::default()).unwrap();
        let opened = opened(&dir);
        opened.check_root_key(earlier).unwrap();
        opened.check_root_key(opened.keyring.root_id()).unwrap();
        let refused = opened.check_root_key(RootId([7; 32])).unwrap_err().to_string();
        assert_eq!(refused, "the backup is under a root key that this keyring has never had");
        assert_eq!(keys(&opened).len(), 1);
    }
}
