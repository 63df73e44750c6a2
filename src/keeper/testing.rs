//! Keyrings in state directories, and their backups, for tests.

use std::{
    io,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use super::{
    BackedUp, FreshBackup, InitRequest, MergePreview, Needing, Opened, Promotion, RestoreRequest, Source, Usage,
    add_key, add_slot, back_up,
    commit::RESERVE,
    destroy_key, disable_key, enable_key, init, list_backup, open, preview_merge, promote_key, restore,
    state_dir::{KEYRING, MARK},
};
use crate::{
    crypto::{Digest, stretch::Cost},
    durable::{self, Dir, Privacy},
    escrow::{Backup, Identities, Recipient, testing::identity},
    keyring::{
        Key,
        key_id::KeyId,
        ledger::{ListedBackup, Proven},
        mark::Mark,
        merge::Wishes,
        record::{self, RECORD_MAX},
        testing::{now, with_tomb},
    },
    root::{Means, Passphrase, PassphraseSlot, Passphrases},
};

/// Sets up a keyring without recovery recipients.
pub fn set_up() -> (tempfile::TempDir, Dir) {
    let (keep, dir) = durable::testing::private();
    init(&dir, &InitRequest { recovery: None, slot_file: None, restart: false, now: now() }).unwrap();
    (keep, dir)
}

/// Opens the keyring in `dir`.
pub fn opened(dir: &Dir) -> Opened {
    open(dir, &Means::default()).unwrap()
}

/// Adds a pending key, and returns its name.
pub fn added(dir: &Dir) -> KeyId {
    add_key(dir, &Means::default(), &[], now()).unwrap().key_id
}

/// Makes a key primary.
pub fn promoted(dir: &Dir, key_id: KeyId, backed_up: BackedUp) {
    promote_key(
        dir,
        &Means::default(),
        Promotion { key_id, backed_up, compromised_up_to: None, rotation: None },
        now(),
    )
    .unwrap();
}

/// Disables a key.
pub fn disabled(dir: &Dir, key_id: KeyId, usage: &Usage) {
    disable_key(dir, &Means::default(), key_id, usage).unwrap();
}

/// Enables a key.
pub fn enabled(dir: &Dir, key_id: KeyId) {
    enable_key(dir, &Means::default(), key_id).unwrap();
}

/// Destroys a key.
pub fn destroyed(dir: &Dir, key_id: KeyId, usage: &Usage) {
    destroy_key(dir, &Means::default(), key_id, usage).unwrap();
}

/// Returns the result of a scan that found no value under a key.
pub fn unused(dir: &Dir) -> Usage {
    let needing = Needing { objects: 0, example: None };
    Usage::Scanned { needing, record: opened(dir).digest, etcds: Vec::new(), left: Vec::new() }
}

/// Adds a key and makes it primary. Returns the key.
pub fn rotate(dir: &Dir) -> KeyId {
    let key_id = added(dir);
    promoted(dir, key_id, BackedUp::Waived);
    key_id
}

/// Makes a key primary and disables the one before. Returns the disabled key.
pub fn disable_first(dir: &Dir) -> KeyId {
    let first = opened(dir).keyring.primary().id();
    rotate(dir);
    disabled(dir, first, &Usage::Waived);
    first
}

/// Sets up a keyring with a recovery recipient. Returns the recipient and its identity, too.
pub fn set_up_recoverable() -> (tempfile::TempDir, Dir, Recipient, Identities) {
    let (keep, dir) = durable::testing::private();
    let (recipient, identities) = identity();
    let plan =
        InitRequest { recovery: Some((vec![recipient], identities)), slot_file: None, restart: false, now: now() };
    init(&dir, &plan).unwrap();
    let (mut recipients, identities) = plan.recovery.unwrap();
    (keep, dir, recipients.remove(0), identities)
}

/// Makes a backup and opens it.
pub fn backup(dir: &Dir) -> Backup {
    let (recipient, identities) = identity();
    let made = back_up(dir, &Means::default(), vec![recipient], now()).unwrap();
    Backup::open(&made.bytes, &identities).unwrap()
}

/// Returns the entry of `backup` for the ledger.
pub fn entry(backup: &Backup) -> ListedBackup {
    ListedBackup::of(&backup.keyring, backup.digest(), Proven::Checked(now()), None)
}

/// Makes a backup and lists it.
pub fn list(dir: &Dir) -> Backup {
    let backup = backup(dir);
    list_backup(dir, &Means::default(), backup.keyring.root_id(), entry(&backup)).unwrap();
    backup
}

/// Returns the keys of `opened`.
pub fn keys(opened: &Opened) -> Vec<KeyId> {
    opened.keyring.keys().map(Key::id).collect()
}

/// Returns files, to put them back later.
pub fn copies<const N: usize>(dir: &Dir, names: [&'static str; N]) -> [(&'static str, Vec<u8>); N] {
    names.map(|name| (name, std::fs::read(dir.path_of(name)).unwrap()))
}

/// Puts copies of files back into `dir`.
pub fn put_back<const N: usize>(dir: &Dir, copies: [(&'static str, Vec<u8>); N]) {
    for (name, bytes) in copies {
        dir.replace(name, &bytes).unwrap();
    }
}

/// Plans the merge of `sources`, without wishes.
pub fn planned(dir: &Dir, sources: &[Source]) -> Option<MergePreview> {
    preview_merge(dir, &Means::default(), sources, &Wishes::default(), now()).unwrap()
}

/// Carries out a merge that makes no key.
pub fn merged(dir: &Dir, plan: MergePreview) -> Opened {
    plan.carry_out(dir, &Means::default(), None).unwrap()
}

/// Restores `backup`, which an operator named, to a new directory.
pub fn restored(backup: Backup) -> (tempfile::TempDir, Dir) {
    let (keep, dir) = durable::testing::private();
    let fresh = FreshBackup { file: "/nowhere/fresh.age".into(), recipients: Vec::new() };
    let (expect, needed, compromised) = (Some(backup.expect()), None, Vec::new());
    let (file, snapshot, slot_file) = (None, None, None);
    let now = now();
    restore(&dir, RestoreRequest { backup, file, expect, needed, snapshot, compromised, fresh, slot_file, now })
        .unwrap();
    (keep, dir)
}

/// Returns `backup` as a source of a merge.
pub fn source(backup: &Backup) -> Source {
    Source::of_backup(backup, "backup.age".to_owned())
}

/// Returns the events in the audit log, without that of `init`.
pub fn events(dir: &Dir) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(dir.path_of("audit.jsonl")).unwrap_or_default();
    let all = text.lines().map(|line| serde_json::from_str(line).unwrap());
    all.filter(|event: &serde_json::Value| event["event"] != "init").collect()
}

/// Fills the record with tombs until it has used half of the reserve.
pub fn fill(dir: &Dir) {
    let Opened { keyring, root, .. } = opened(dir);
    let filled = |count: u32| (1000..1000 + count).fold(keyring.clone(), with_tomb);
    let encoded = |count| record::encode(&filled(count), &root).unwrap();
    let (first, second) = (encoded(1).len(), encoded(2).len());
    let count = (RECORD_MAX - RESERVE / 2 - first).div_ceil(second - first) + 1;
    let (filled, record) = (filled(count.try_into().unwrap()), encoded(count.try_into().unwrap()));
    dir.replace(KEYRING, &record).unwrap();
    dir.replace(MARK, &Mark::of(&filled, Digest::of(&record), 0).encode(&root).unwrap()).unwrap();
}

/// A person who knows the passphrase of a slot. Before they type it, another command runs.
#[derive(Debug)]
struct Slow {
    path: PathBuf,
    meanwhile: Mutex<Option<fn(&Dir)>>,
}

impl Passphrases for Slow {
    fn of(&self, _: &str, _: u32) -> io::Result<Option<Arc<Passphrase>>> {
        let act = self.meanwhile.lock().unwrap().take();
        if let Some(act) = act {
            act(&Dir::open(&self.path, Privacy::Private).unwrap());
        }
        Ok(Some(passphrase()))
    }
}

/// Returns the passphrase of every slot with one.
pub fn passphrase() -> Arc<Passphrase> {
    Arc::new(Passphrase::new(b"correct horse").unwrap())
}

/// Adds a slot with a passphrase.
pub fn add_passphrase(dir: &Dir, name: &str) {
    let sealer = PassphraseSlot { passphrase: passphrase(), cost: Cost::new(1, 64, 1).unwrap() };
    add_slot(dir, &Means::default(), name, &sealer).unwrap();
}

/// Returns means that open this slot. The first time, `meanwhile` runs before the slot opens.
pub fn slow(dir: &Dir, meanwhile: fn(&Dir)) -> Means {
    Means::new(None, Box::new(Slow { path: dir.path().to_owned(), meanwhile: Mutex::new(Some(meanwhile)) }))
}
