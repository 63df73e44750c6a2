//! Tests refusals that no test of the command line reaches, for example of keyrings in etcd, of backups that nobody
//! could open, and of a store that stops answering.

use std::sync::Arc;

use rand::rngs::SysRng;
use zeroize::Zeroizing;

use super::{
    FreshBackup, NeededKey, Publisher, RestoreRequest, add_key, back_up,
    commit::{Commit, Limit, NewRecord, PrevCopy, Swap},
    list_backup, open, restore,
    state_dir::StateFiles,
    testing::set_up,
};
use crate::{
    crypto::{
        Uuid,
        root_key::{RootKey, RootKeys},
    },
    durable::{self, Dir, DurableError},
    escrow::Backup,
    keyring::{
        Keyring,
        ledger::{Ledger, ListedBackup, Proven},
        mark::Mark,
        record,
        recovery::Recovery,
        testing::{self, now},
    },
    root::{FileSlot, Means, RootFile, RootIn, Sealer, Slot},
    store::{Deadline, Held, KeyringStore, RecordVersion, StoreError, Swapped},
};

const UUID: Uuid = Uuid([5; 16]);

fn publisher(dir: &Dir) -> Publisher {
    Publisher::new(dir.path().to_owned(), Means::default(), None, Arc::default())
}

/// Makes a backup of a keyring with one key, which `change` has changed.
fn backup(recoveries: Vec<Recovery>, change: impl FnOnce(Keyring) -> Keyring) -> Backup {
    let root = RootKey::generate(&mut SysRng).unwrap();
    let keyring = change(Keyring::create(&mut SysRng, &root, UUID, recoveries, now()).unwrap());
    let record = Zeroizing::new(record::encode(&keyring, &root).unwrap());
    Backup { keyring, record, root, earlier: Vec::new(), created: None }
}

/// Plans to restore `backup`, and calls its primary key compromised, so that the restore has to make another key.
fn plan(backup: Backup, needed: Option<Vec<NeededKey>>) -> RestoreRequest {
    RestoreRequest {
        expect: needed.is_none().then(|| backup.expect()),
        needed,
        snapshot: None,
        compromised: vec![backup.keyring.primary().id()],
        backup,
        file: None,
        fresh: FreshBackup { file: "/nowhere/fresh.age".into(), recipients: Vec::new() },
        slot_file: None,
        now: now(),
    }
}

fn shared(keyring: &Keyring, record: crate::crypto::Digest) -> Keyring {
    testing::moved_to_etcd(keyring, record, "/claviger")
}

#[test]
fn a_copy_of_a_keyring_in_etcd_is_not_served_changed_or_restored() {
    let (_keep, dir) = set_up();
    let opened = open(&dir, &Means::default()).unwrap();
    let bytes = record::encode(&shared(&opened.keyring, opened.digest), &opened.current).unwrap();
    dir.replace("keyring", &bytes).unwrap();
    let served = publisher(&dir).publish().map(drop).unwrap_err();
    let expected = "the keyring's home is etcd, below /claviger; this build serves a keyring file only";
    assert_eq!(served.to_string(), expected);
    let changed = add_key(&dir, &Means::default(), &[], now()).map(drop).unwrap_err();
    let expected = "the keyring's home is etcd, below /claviger, and this file is a copy of it";
    assert_eq!(changed.to_string(), expected);
    let restored = plan(backup(Vec::new(), |keyring| shared(&keyring, testing::digest(1))), None).check().unwrap_err();
    let expected = "the keyring's home is etcd, below /claviger; this build restores a keyring file only";
    assert_eq!(restored.to_string(), expected);
}

#[test]
fn a_backup_that_nothing_needs_proves_nothing() {
    let refused = plan(backup(Vec::new(), |keyring| keyring), Some(Vec::new())).check().unwrap_err();
    let expected = "no value in etcd needs a key of this backup, so nothing shows that it is the right one";
    assert_eq!(refused.to_string(), expected);
}

#[test]
fn no_key_is_made_whose_backup_nobody_could_open() {
    let (_keep, dir) = durable::testing::private();
    let refused = restore(&dir, plan(backup(Vec::new(), |keyring| keyring), None)).map(drop).unwrap_err();
    assert_eq!(refused.to_string(), "the restore has to make a new key, and nobody could open a backup of it");
    // This recipient has the right shape and a wrong checksum.
    let recovery = Recovery::new(&format!("age1{}", "q".repeat(58)), Vec::new()).unwrap();
    let refused = restore(&dir, plan(backup(vec![recovery], |keyring| keyring), None)).map(drop).unwrap_err();
    assert_eq!(refused.to_string(), "a recovery recipient in the backup: not an age recipient, expected age1…");
}

#[test]
fn a_daemon_does_not_follow_a_root_key_that_does_not_follow_from_its_own() {
    let (_keep, dir) = set_up();
    let mut publisher = publisher(&dir);
    publisher.publish().map(drop).unwrap();
    let opened = open(&dir, &Means::default()).unwrap();
    let (uuid, stranger) = (opened.keyring.uuid(), RootKey::generate(&mut SysRng).unwrap());
    let next = opened.keyring.rekey(&mut SysRng, &stranger, Vec::new(), opened.digest).unwrap();
    let file = FileSlot::generate(&mut SysRng, None).unwrap();
    file.keep("other", &dir).unwrap();
    let slot = Slot::seal(&mut SysRng, "other", &file, RootIn { uuid, root: &stranger }).unwrap();
    let bytes = record::encode(&next, &stranger).unwrap();
    let mark = Mark::of(&next, crate::crypto::Digest::of(&bytes), 0).encode(&stranger).unwrap();
    let root = RootFile::encode(&mut SysRng, uuid, RootKeys::only(&stranger), &[slot]).unwrap();
    for (name, bytes) in [("root", root), ("keyring", bytes), ("mark", mark)] {
        dir.replace(name, &bytes).unwrap();
    }
    let refused = publisher.publish().map(drop).unwrap_err().to_string();
    let expected = ": contains another root key, and does not list the served one as an earlier key";
    assert!(refused.ends_with(expected), "{refused}");
}

/// A store that stops answering at the first swap.
struct Unplugged(Option<Held>);

impl Unplugged {
    fn error() -> StoreError {
        DurableError::Missing("etcd".into()).into()
    }
}

impl KeyringStore for Unplugged {
    fn load(&mut self, _: Deadline) -> Result<Option<Held>, StoreError> {
        self.0.clone().map(Some).ok_or_else(Self::error)
    }

    fn swap(&mut self, _: Option<&RecordVersion>, _: &[u8]) -> Result<Swapped, StoreError> {
        self.0 = None;
        Ok(Swapped::Unknown(Self::error()))
    }
}

#[test]
fn a_store_that_stops_answering_leaves_a_doubt() {
    let (_keep, dir) = set_up();
    let state = StateFiles::new(&dir);
    let opened = open(&dir, &Means::default()).unwrap();
    let held = state.store().load(std::time::Instant::now()).unwrap();
    let record = NewRecord::encode(&testing::later(&opened.keyring, |_| {}), &opened.root, super::commit::Limit::Whole);
    let swap = Swap { before: Some(opened.digest), record: record.unwrap(), copy: PrevCopy::Before };
    let commit = Commit { swap: Some(swap), ..Commit::default() };
    let refused = commit.run(state, &mut Unplugged(held)).map(drop).unwrap_err().to_string();
    let expected =
        "it is not known whether the keyring was changed: etcd does not exist; reading it again: etcd does not exist";
    assert_eq!(refused, expected);
}

#[test]
fn no_backup_is_made_that_the_audit_record_cannot_have() {
    let (_keep, dir) = set_up();
    let audit = dir.path_of("audit.jsonl");
    if audit.exists() {
        std::fs::remove_file(&audit).unwrap();
    }
    std::fs::create_dir(&audit).unwrap();
    let (recipient, _) = crate::escrow::testing::identity();
    let refused = back_up(&dir, &Means::default(), vec![recipient], now()).map(drop).unwrap_err().to_string();
    let expected = "no backup was made, because the audit log cannot be written: ";
    assert!(refused.starts_with(expected), "{refused}");
}

#[test]
fn the_list_of_backups_ends_with_its_numbers() {
    let (_keep, dir) = set_up();
    let opened = open(&dir, &Means::default()).unwrap();
    let (keyring, root) = (&opened.keyring, &opened.current);
    let ledger = Ledger::empty(keyring.uuid(), keyring.root_id()).begun_anew(u64::MAX, 1).encode(root).unwrap();
    dir.create("ledger", &ledger).unwrap();
    dir.replace("mark", &Mark::of(keyring, opened.digest, u64::MAX).encode(root).unwrap()).unwrap();
    let listed = ListedBackup::of(keyring, opened.digest, Proven::Checked(now()), None);
    let refused = list_backup(&dir, &Means::default(), keyring.root_id(), listed).map(drop).unwrap_err();
    assert_eq!(refused.to_string(), "the ledger's count of changes has reached its maximum");
}

#[test]
fn a_record_that_is_too_long_is_not_written() {
    let root = RootKey::generate(&mut SysRng).unwrap();
    let keyring = Keyring::create(&mut SysRng, &root, UUID, Vec::new(), now()).unwrap();
    let long = (2..9000).fold(keyring, testing::with_tomb);
    let bytes = record::encode(&long, &root).unwrap().len();
    assert!(bytes > record::RECORD_MAX);
    let refused = NewRecord::encode(&long, &root, Limit::Whole).unwrap_err().to_string();
    assert_eq!(refused, format!("the keyring would have {bytes} bytes, and at most 524288 are allowed"));
}
