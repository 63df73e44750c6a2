//! Sets up a directory with the keyring of a backup. The directory must not have a keyring yet.
//!
//! Anyone who knows a recipient can make a backup. So something has to show that the backup is the right one: either
//! the operator names its record, or the caller names the keys that values in etcd need. The backup must contain every
//! key that the caller names, and the caller must name at least one. Source: `docs/formats.md`, "Restoring".

use std::path::PathBuf;

use rand::rngs::SysRng;

use super::{
    commit::{EncodeRecordError, Export, Limit, NewRecord, keyring_event},
    expect::{Expect, ExpectError},
    fresh::FreshBackup,
    init::{BegunSetUp, Contents, Files, Initialised, SetUpError},
};
use crate::{
    audit::Event,
    crypto::{Commitment, Digest, root_key::RootKeys},
    durable::Dir,
    escrow::{Backup, NotRecipient, SealBackupError},
    keyring::{
        Entry, Key, Keyring, UnknownKey,
        home::Home,
        key_id::KeyId,
        ledger::{Ledger, LedgerFull, ListedBackup, Proven},
        listed_snapshot::ListedSnapshot,
        restore::{self as restoring, Candidates, RestoreKeysError, Restored},
        state::State,
        time::Time,
    },
};

/// The wishes of an operator for a restore.
pub struct RestoreRequest {
    /// The backup, opened with an identity.
    pub backup: Backup,
    /// The path of the backup, for the ledger. `None` if the backup was not in a file.
    pub file: Option<String>,
    /// The record that the operator named. `None` if the operator named no record.
    pub expect: Option<Expect>,
    /// The keys that values in etcd or in a snapshot need. `None` if neither was scanned.
    pub needed: Option<Vec<NeededKey>>,
    /// The snapshot that was scanned, for the ledger. `None` if no snapshot was scanned.
    pub snapshot: Option<ReadSnapshot>,
    /// The keys that somebody else may know.
    pub compromised: Vec<KeyId>,
    /// The file and the recipients of the backup that is made if the restore makes a new key.
    pub fresh: FreshBackup,
    /// The path of the new slot's key file. `None` means the state directory.
    pub slot_file: Option<PathBuf>,
    /// The current time.
    pub now: Time,
}

/// A key that values in etcd need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NeededKey {
    /// The name of the key, as the values contain it.
    pub name: String,
    /// The commitment of the key, as the wrapped seeds of the values contain it.
    pub commitment: Commitment,
    /// The number of live objects that need the key.
    pub objects: u64,
    /// The key in etcd of one object that needs the key.
    pub example: String,
}

/// A snapshot of etcd that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadSnapshot {
    /// The SHA-256 of the snapshot's bytes, without the digest at its end.
    pub sha256: Digest,
    /// The newest revision in the snapshot.
    pub revision: u64,
    /// The path of the snapshot.
    pub file: String,
}

/// The result of a scan of etcd: the keys that values need, and the snapshot, if one was scanned.
#[derive(Debug)]
pub struct ScannedNeeds {
    /// The keys that values need.
    pub keys: Vec<NeededKey>,
    /// The snapshot. `None` if a live etcd was scanned.
    pub snapshot: Option<ReadSnapshot>,
}

/// The result of a restore.
#[derive(Debug)]
pub struct RestoredKeyring {
    /// The keyring that was set up.
    pub initialised: Initialised,
    /// The path of the backup of a new primary key, and whether that backup counts. `None` if the restore made no key.
    pub fresh: Option<(PathBuf, bool)>,
    /// The keys that values need and that stay disabled.
    pub disabled: Vec<NeededKey>,
}

/// Why a restore failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// The operator named no record, and nothing was scanned.
    #[error("nothing shows that this is the right backup")]
    Unproven,
    /// The backup's record is not the one that the operator named.
    #[error(transparent)]
    Expect(#[from] ExpectError),
    /// Values need keys that the backup does not contain.
    #[error("the backup lacks keys that values in etcd need: {}", lacking(.0))]
    Lacks(Vec<NeededKey>),
    /// Values need keys, and the backup contains none of them.
    #[error("the backup has none of the keys that values in etcd need: {}", lacking(.0))]
    HoldsNone(Vec<NeededKey>),
    /// No value needs a key of the backup.
    #[error("no value in etcd needs a key of this backup, so nothing shows that it is the right one")]
    NothingNeeded,
    /// The record that counts is in etcd, and this build restores a keyring file only.
    #[error("the keyring's home is etcd, below {0}; this build restores a keyring file only")]
    HomeInEtcd(String),
    /// A key that the operator named is not in the backup, or the restored keyring could not be made.
    #[error(transparent)]
    Keyring(#[from] RestoreKeysError),
    /// The backup of the new key could not be made.
    #[error("the backup of the new key: {0}")]
    Backup(#[from] SealBackupError),
    /// A recovery recipient in the backup is not a valid age recipient.
    #[error("a recovery recipient in the backup: {0}")]
    Recipient(#[from] NotRecipient),
    /// There is no recipient, so nobody could open the backup of the new key.
    #[error("the restore has to make a new key, and nobody could open a backup of it")]
    NoRecipient,
    /// The ledger has no room for the backup.
    #[error(transparent)]
    Ledger(#[from] LedgerFull),
    /// The directory could not be set up.
    #[error(transparent)]
    SetUp(#[from] SetUpError),
    /// The record of the restored keyring would be too long, or it does not read back.
    #[error(transparent)]
    Record(EncodeRecordError),
}

fn lacking(keys: &[NeededKey]) -> String {
    let one = |key: &NeededKey| format!("{} ({}, for example {})", key.name, objects(key.objects), key.example);
    keys.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn objects(count: u64) -> String {
    if count == 1 { "1 object".to_owned() } else { format!("{count} objects") }
}

/// Sets up `dir` with the keyring of a backup, under the same root key. A new slot seals the root key. No key_id
/// changes.
///
/// # Errors
/// When nothing shows that it is the right backup, the directory has a keyring, or a file cannot be written. If it
/// breaks off before the record is written, the next restore begins again.
pub fn restore(dir: &Dir, plan: RestoreRequest) -> Result<RestoredKeyring, RestoreError> {
    plan.check()?;
    let Restored { keyring, fresh } = plan.keyring()?;
    let RestoreRequest { backup, file, needed, snapshot, fresh: to, slot_file, now, .. } = plan;
    let root = &backup.root;
    let record = NewRecord::encode(&keyring, root, Limit::Whole).map_err(RestoreError::Record)?;
    let listed = ListedBackup::of(&backup.keyring, backup.digest(), Proven::Checked(now), file);
    let mut ledger = Ledger::empty(keyring.uuid(), keyring.root_id()).with(listed, 1)?;
    let export = match fresh {
        Some(_) => Some(export(&to, dir, &keyring, &record, &backup, now)?),
        None => None,
    };
    if let Some(listed) = export.as_ref().and_then(|export| export.listed.clone()) {
        ledger = ledger.with(listed, 2)?;
    }
    let needed = needed.unwrap_or_default();
    if let Some(entry) = snapshot.and_then(|snapshot| snapshot.entry(&keyring, &needed, now)) {
        ledger = ledger.with_snapshot(entry, ledger.count() + 1)?;
    }
    let event = Event::Restore(keyring_event(&keyring));
    let disabled = stay_disabled(&keyring, needed);
    let contents = Contents { keyring, record, ledger: Some(ledger), is_restored: true };
    let files = Files::of(contents, RootKeys { current: root, earlier: &backup.earlier }, slot_file)?;
    let initialised = files.set_up(BegunSetUp::lock(dir)?, event, export.as_ref())?;
    let fresh = export.map(|export| (export.file, export.listed.is_some()));
    Ok(RestoredKeyring { initialised, fresh, disabled })
}

impl ReadSnapshot {
    /// Returns the ledger's entry of this snapshot, with the keys and tombs of `keyring` that the snapshot needs.
    /// Returns `None` if it needs none of them.
    pub(super) fn entry(self, keyring: &Keyring, needed: &[NeededKey], now: Time) -> Option<ListedSnapshot> {
        let is_needed = |entry: &&Entry| needed.iter().any(|needed| needed.commitment == entry.commitment());
        let keys: Vec<KeyId> = keyring.entries().iter().filter(is_needed).map(Entry::id).collect();
        let Self { sha256, revision, file } = self;
        (!keys.is_empty()).then(|| ListedSnapshot::new(sha256, revision, now, Some(file), keys))
    }
}

impl RestoreRequest {
    /// Checks that the backup is the right one, and that this build can restore it.
    ///
    /// # Errors
    /// When nothing shows that it is the right one, something shows that it is not, it lacks a key that the operator
    /// calls compromised, or the keyring's home is etcd.
    pub fn check(&self) -> Result<(), RestoreError> {
        if let Home::Etcd(prefix) = self.backup.keyring.home() {
            return Err(RestoreError::HomeInEtcd(prefix.clone()));
        }
        let is_unknown = |key_id: &&KeyId| self.backup.keyring.keys().all(|key| key.id() != **key_id);
        if let Some(unknown) = self.compromised.iter().find(is_unknown) {
            return Err(RestoreKeysError::from(UnknownKey(*unknown)).into());
        }
        if let Some(expect) = &self.expect {
            expect.check_exactly(&self.backup.keyring, self.backup.digest())?;
        }
        let Some(needed) = &self.needed else {
            return if self.expect.is_some() { Ok(()) } else { Err(RestoreError::Unproven) };
        };
        let (held, lacking): (Vec<_>, Vec<_>) = needed.iter().cloned().partition(|key| self.holds(key));
        match (held.is_empty(), lacking.is_empty()) {
            (true, false) => Err(RestoreError::HoldsNone(lacking)),
            (false, false) => Err(RestoreError::Lacks(lacking)),
            // If --expect names the record, no value in etcd has to need its keys.
            (true, true) if self.expect.is_none() => Err(RestoreError::NothingNeeded),
            (_, true) => Ok(()),
        }
    }

    fn holds(&self, needed: &NeededKey) -> bool {
        self.backup.keyring.keys().any(|key| key.kek().commitment() == needed.commitment)
    }

    fn keyring(&self) -> Result<Restored, RestoreKeysError> {
        let Backup { keyring, root, .. } = &self.backup;
        let is_needed = |key: &&Key| {
            let commitment = key.kek().commitment();
            self.needed.iter().flatten().any(|needed| needed.commitment == commitment)
        };
        let candidates = match self.expect {
            Some(_) => Candidates::Any,
            None => Candidates::Needed(keyring.keys().filter(is_needed).map(Key::id).collect()),
        };
        let backup = (keyring, self.backup.digest());
        restoring::restore(&mut SysRng, root, backup, &candidates, &self.compromised, self.now)
    }
}

fn stay_disabled(keyring: &Keyring, needed: Vec<NeededKey>) -> Vec<NeededKey> {
    let disabled: Vec<Commitment> =
        keyring.keys().filter(|key| key.state() == State::Disabled).map(|key| key.kek().commitment()).collect();
    needed.into_iter().filter(|key| disabled.contains(&key.commitment)).collect()
}

/// Makes the backup of `keyring`, with the root keys of `backup`. The caller writes it before the record, so that no
/// key wraps before a backup contains it.
fn export(
    to: &FreshBackup,
    dir: &Dir,
    keyring: &Keyring,
    record: &NewRecord,
    backup: &Backup,
    now: Time,
) -> Result<Export, RestoreError> {
    let recipients = to.recipients_of(keyring)?;
    if recipients.is_empty() {
        return Err(RestoreError::NoRecipient);
    }
    let roots = RootKeys { current: &backup.root, earlier: &backup.earlier };
    Ok(to.sealed(dir, keyring, record, roots, &recipients, now)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        durable,
        escrow::testing::identity,
        keeper::testing::{backup, disable_first, keys, opened, rotate, set_up},
        keyring::testing::now,
    };

    fn needed(key: &Key) -> NeededKey {
        let example = format!("/registry/secrets/default/{}", key.id().seq());
        NeededKey { name: key.id().to_string(), commitment: key.kek().commitment(), objects: 3, example }
    }

    /// Plans to restore `backup`, which nothing proves yet.
    fn plan(backup: Backup) -> RestoreRequest {
        let fresh = FreshBackup { file: "/nowhere/fresh.age".into(), recipients: vec![identity().0] };
        let (expect, needed, compromised) = (None, None, Vec::new());
        let (file, snapshot, slot_file) = (None, None, None);
        RestoreRequest { backup, file, expect, needed, snapshot, compromised, fresh, slot_file, now: now() }
    }

    fn refused(plan: &RestoreRequest) -> String {
        plan.check().unwrap_err().to_string()
    }

    #[test]
    fn a_backup_is_the_right_one_if_it_is_named_or_has_every_needed_key() {
        let (_keep, dir) = set_up();
        let first = opened(&dir).keyring.primary().id();
        let mut plan = plan(backup(&dir));
        let added = rotate(&dir);
        let later = backup(&dir);
        let of = |key_id| needed(later.keyring.keys().find(|key| key.id() == key_id).unwrap());
        let (has, lacks) = (of(first), [of(added), NeededKey { objects: 1, ..of(added) }]);
        assert_eq!(refused(&plan), "nothing shows that this is the right backup");
        plan.needed = Some(vec![has.clone()]);
        plan.check().unwrap();
        plan.needed = Some(vec![lacks[0].clone(), has, lacks[1].clone()]);
        let name = format!("{added} (3 objects, for example /registry/secrets/default/2)");
        let again = format!("{added} (1 object, for example /registry/secrets/default/2)");
        assert_eq!(refused(&plan), format!("the backup lacks keys that values in etcd need: {name}, {again}"));
        plan.needed = Some(vec![lacks[0].clone()]);
        assert_eq!(refused(&plan), format!("the backup has none of the keys that values in etcd need: {name}"));
        plan.needed = Some(Vec::new());
        assert!(matches!(plan.check(), Err(RestoreError::NothingNeeded)));
        plan.expect = Some(plan.backup.expect());
        plan.check().unwrap();
        plan.needed = None;
        plan.check().unwrap();
        plan.expect = Some(later.expect());
        assert!(matches!(plan.check(), Err(RestoreError::Expect(_))));
        plan.compromised = vec![first, added];
        assert_eq!(refused(&plan), format!("there is no key {added}"));
    }

    #[test]
    fn a_restored_keyring_wraps_under_the_newest_key_that_values_need() {
        let (_keep, dir) = set_up();
        let first = opened(&dir).keyring.primary().id();
        rotate(&dir);
        let backup = backup(&dir);
        let of_first = needed(backup.keyring.keys().next().unwrap());
        let (_keep, dir) = durable::testing::private();
        let restored = restore(&dir, RestoreRequest { needed: Some(vec![of_first]), ..plan(backup) }).unwrap();
        assert_eq!((restored.fresh, restored.disabled), (None, Vec::new()));
        let opened = opened(&dir);
        assert_eq!((opened.keyring.primary().id(), opened.digest), (first, restored.initialised.digest));
        assert!(opened.unbacked().is_empty() && opened.wants_rotation());
        assert_eq!(opened.keyring.restored(), Some(4));
        rotate(&dir);
        let rotated = self::opened(&dir);
        assert_eq!((rotated.wants_rotation(), rotated.keyring.restored()), (false, Some(4)), "it stays so");
    }

    #[test]
    fn a_restore_says_which_needed_keys_stay_disabled() {
        let (_keep, dir) = set_up();
        disable_first(&dir);
        let backup = backup(&dir);
        let needed: Vec<_> = backup.keyring.keys().map(needed).collect();
        let (_keep, dir) = durable::testing::private();
        let restored = restore(&dir, RestoreRequest { needed: Some(needed.clone()), ..plan(backup) }).unwrap();
        assert_eq!(restored.disabled, needed[..1]);
    }

    #[test]
    fn a_key_that_somebody_may_know_never_wraps_again() {
        let (keep, dir) = set_up();
        let first = opened(&dir).keyring.primary().id();
        let backup = backup(&dir);
        let (_keep, dir) = durable::testing::private();
        let (recipient, identities) = identity();
        let fresh = FreshBackup { file: keep.path().join("fresh.age"), recipients: vec![recipient] };
        let (expect, compromised) = (Some(backup.expect()), vec![first]);
        let plan = RestoreRequest { expect, compromised, fresh, ..plan(backup) };
        let file = plan.fresh.file.clone();
        let restored = restore(&dir, plan).unwrap();
        assert_eq!(restored.fresh, Some((file.clone(), false)), "a backup on the same disk does not count");
        let opened = opened(&dir);
        assert_ne!(opened.keyring.primary().id(), first);
        assert_eq!(opened.unbacked(), [opened.keyring.primary().id()]);
        let fresh = Backup::open(&std::fs::read(file).unwrap(), &identities).unwrap();
        assert_eq!((fresh.digest(), fresh.keyring.primary().id()), (opened.digest, opened.keyring.primary().id()));
    }

    #[test]
    fn a_restore_does_not_overwrite_the_backup_that_it_has_just_made() {
        let (_keep, source) = set_up();
        for name in ["root", "ledger", "mark"] {
            let backup = backup(&source);
            let (_keep, dir) = durable::testing::private();
            let fresh = FreshBackup { file: dir.path_of(name), recipients: vec![identity().0] };
            let (expect, compromised) = (Some(backup.expect()), keys(&opened(&source)));
            let failed = restore(&dir, RestoreRequest { expect, compromised, fresh, ..plan(backup) }).unwrap_err();
            let expected = format!("{} already exists", dir.path_of(name).display());
            assert!(failed.to_string().ends_with(&expected), "{failed}");
            assert!(std::fs::read(dir.path_of(name)).unwrap().starts_with(b"age-encryption.org/"), "{name}");
        }
    }
}
