//! Changes the ledger: adds a backup or a snapshot to it, or removes them from it.

use std::sync::Arc;

use super::{
    commit::{Commit, CommitError, keyring_event},
    error::{ReadLedgerError, RootKeyError},
    open::{BeginError, Opened, open_to_change},
    state_dir::StateFiles,
};
use crate::{
    audit::{BackupEvent, Event, KeyringEvent, SnapshotEvent, UnusedIn},
    crypto::{Digest, RootId, Uuid},
    durable::Dir,
    keyring::{
        key_id::KeyId,
        ledger::{Ledger, LedgerFull, ListedBackup},
        listed_snapshot::ListedSnapshot,
        unused::EtcdRevision,
    },
    root::Means,
};

/// Why a backup or a snapshot was not added to the ledger.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListBackupError {
    /// The keyring did not open, the lock is held, or a rekey is unfinished. Nothing was changed.
    #[error(transparent)]
    Begin(#[from] BeginError),
    /// The backup is not known to belong to this keyring.
    #[error(transparent)]
    RootKey(#[from] RootKeyError),
    /// The ledger was refused, so nothing can be added to it.
    #[error(transparent)]
    Refused(#[from] Arc<ReadLedgerError>),
    /// The ledger has no room for another entry.
    #[error(transparent)]
    Full(#[from] LedgerFull),
    /// Writing the change failed. The error says what was changed.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

/// Why `backup forget` failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ForgetBackupsError {
    /// The keyring did not open, the lock is held, or a rekey is unfinished. Nothing was changed.
    #[error(transparent)]
    Begin(#[from] BeginError),
    /// The ledger was refused, so no single entry can be removed.
    #[error(transparent)]
    Refused(#[from] Arc<ReadLedgerError>),
    /// The given digits begin the ID of no listed backup or snapshot, or of several.
    #[error("{} with {name}", beginning(*found))]
    Unknown {
        /// The hexadecimal digits that the operator gave.
        name: String,
        /// The number of entries whose ID begins with these digits.
        found: usize,
    },
    /// The operator gave the uuid of another keyring.
    #[error("keyring {} was named, and the keyring here is {}", found.to_hex(), expected.to_hex())]
    OtherUuid {
        /// The uuid that the operator gave.
        found: Uuid,
        /// The uuid of the keyring here.
        expected: Uuid,
    },
    /// Writing the change failed. The error says what was changed.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

fn beginning(found: usize) -> String {
    match found {
        0 => "no listed backup or snapshot has an ID that begins".to_owned(),
        found => format!("{found} listed backups and snapshots have an ID that begins"),
    }
}

/// Returns the count of changes for the next ledger.
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
fn believed(opened: &Opened) -> Result<Ledger, Arc<ReadLedgerError>> {
    opened.listed.ledger().cloned().map_err(Arc::clone)
}

/// Adds a backup of the keyring in `dir` to the ledger, or adds a proof to a listed one. `under` identifies the root
/// key of its record.
///
/// # Errors
/// When the keyring does not open or has no mark, it never had the root key `under`, the ledger was refused or is full,
/// or a file cannot be written. A failed write leaves the old ledger, or a new ledger that the mark does not name yet.
pub fn list_backup(dir: &Dir, means: &Means, under: RootId, backup: ListedBackup) -> Result<Opened, ListBackupError> {
    let state = StateFiles::new(dir);
    let (opened, _lock) = open_to_change(state, means)?;
    opened.check_root_key(under)?;
    let ledger = believed(&opened)?;
    let event = BackupEvent { keyring: keyring_event_of(&opened, &backup), record: backup.record().to_hex() };
    let event = if backup.checked().is_some() { Event::BackupCheck(event) } else { Event::BackupWritten(event) };
    let ledger = ledger.with(backup, next_count(&opened)?)?;
    Ok(write(state, opened, event, ledger)?)
}

/// Adds a snapshot of etcd to the ledger of the keyring in `dir`, or adds a reading to a listed one. From then on,
/// `key destroy` keeps the keys that it needs.
///
/// # Errors
/// When the keyring does not open or has no mark, the ledger was refused or is full, or a file cannot be written. As
/// [`list_backup`].
pub fn list_snapshot(dir: &Dir, means: &Means, snapshot: ListedSnapshot) -> Result<Opened, ListBackupError> {
    let state = StateFiles::new(dir);
    let (opened, _lock) = open_to_change(state, means)?;
    let ledger = believed(&opened)?;
    let event = Event::SnapshotCheck(snapshot_event(&opened, &snapshot));
    let ledger = ledger.with_snapshot(snapshot, next_count(&opened)?)?;
    Ok(write(state, opened, event, ledger)?)
}

/// Why the ledger did not note that a key is unused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NoteUnusedError {
    /// The keyring did not open, the lock is held, or a rekey is unfinished. Nothing was changed.
    #[error(transparent)]
    Begin(#[from] BeginError),
    /// The ledger was refused, so nothing can be added to it.
    #[error(transparent)]
    Refused(#[from] Arc<ReadLedgerError>),
    /// The ledger has no room for another entry.
    #[error(transparent)]
    Full(#[from] LedgerFull),
    /// Writing the change failed. The error says what was changed.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

/// Notes in the ledger of the keyring in `dir` that no value needs the key from these revisions on. The caller has
/// scanned each etcd at its revision.
///
/// # Errors
/// When the keyring does not open or has no mark, the ledger was refused or is full, or a file cannot be written. As
/// [`list_backup`].
pub fn note_unused(dir: &Dir, means: &Means, key: KeyId, etcds: &[EtcdRevision]) -> Result<Opened, NoteUnusedError> {
    let state = StateFiles::new(dir);
    let (opened, _lock) = open_to_change(state, means)?;
    let ledger = believed(&opened)?.with_unused(key, etcds, next_count(&opened)?)?;
    let event = Event::KeyUnused {
        keyring: keyring_event(&opened.keyring),
        key_id: key.to_string(),
        etcds: etcds.iter().map(|at| UnusedIn { etcd: at.etcd.clone(), revision: at.revision }).collect(),
    };
    Ok(write(state, opened, event, ledger)?)
}

fn snapshot_event(opened: &Opened, snapshot: &ListedSnapshot) -> SnapshotEvent {
    SnapshotEvent { keyring: keyring_event(&opened.keyring), snapshot: snapshot.sha256().to_hex() }
}

fn keyring_event_of(opened: &Opened, backup: &ListedBackup) -> KeyringEvent {
    KeyringEvent { keyring: opened.keyring.uuid().to_hex(), generation: backup.generation() }
}

/// The entries that `backup forget` removes from the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Forget {
    /// The backup whose record's SHA-256, or the snapshot whose SHA-256, begins with these hexadecimal digits.
    One(String),
    /// All entries, even if the ledger is unreadable. From then on claviger assumes that a forgotten snapshot may need
    /// any existing key. The operator has to give the uuid of the keyring.
    All(Uuid),
}

/// Removes the backups and snapshots `forget` from the ledger of the keyring in `dir`.
///
/// # Errors
/// When the keyring does not open or has no mark, the ledger was refused, not exactly one of them has the given
/// digits, the uuid is another keyring's, or a file cannot be written.
pub fn forget_backups(dir: &Dir, means: &Means, forget: &Forget) -> Result<Opened, ForgetBackupsError> {
    let state = StateFiles::new(dir);
    let (opened, _lock) = open_to_change(state, means)?;
    let (event, ledger) = match forget {
        Forget::One(name) => {
            let ledger = believed(&opened)?;
            let named = named(&ledger, name)?;
            (named.event(&opened), ledger.without(named.digest(), next_count(&opened)?))
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

/// The entry of the ledger that an ID identifies.
#[derive(Debug)]
enum NamedEntry<'a> {
    Backup(&'a ListedBackup),
    Snapshot(&'a ListedSnapshot),
}

impl NamedEntry<'_> {
    fn digest(&self) -> Digest {
        match self {
            Self::Backup(backup) => backup.record(),
            Self::Snapshot(snapshot) => snapshot.sha256(),
        }
    }

    fn event(&self, opened: &Opened) -> Event<'static> {
        match self {
            Self::Backup(backup) => {
                let keyring = keyring_event_of(opened, backup);
                Event::BackupForget(BackupEvent { keyring, record: backup.record().to_hex() })
            }
            Self::Snapshot(snapshot) => Event::SnapshotForget(snapshot_event(opened, snapshot)),
        }
    }
}

/// Returns the only backup or snapshot in `ledger` whose ID begins with `name`.
fn named<'a>(ledger: &'a Ledger, name: &str) -> Result<NamedEntry<'a>, ForgetBackupsError> {
    let is_it = |entry: &NamedEntry<'_>| !name.is_empty() && entry.digest().to_hex().starts_with(name);
    let entries = ledger.backups().iter().map(NamedEntry::Backup);
    let mut found: Vec<_> = entries.chain(ledger.snapshots().iter().map(NamedEntry::Snapshot)).filter(is_it).collect();
    match (found.pop(), found.len()) {
        (Some(entry), 0) => Ok(entry),
        (last, others) => {
            let found = others + usize::from(last.is_some());
            Err(ForgetBackupsError::Unknown { name: name.to_owned(), found })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        keeper::{
            BackedUp, DestroyKeyError, Usage, destroy_key,
            state_dir::LEDGER,
            testing::{
                added, backup, disable_first, disabled, entry, events, list, opened, promoted, rotate, set_up, unused,
            },
        },
        keyring::{
            ledger::{LEDGER_MAX, Proven},
            testing::now,
        },
    };

    fn records(dir: &Dir) -> Vec<Digest> {
        opened(dir).backups().unwrap().iter().map(ListedBackup::record).collect()
    }

    #[test]
    fn a_backup_counts_from_the_time_it_is_listed_until_it_is_forgotten() {
        let (_keep, dir) = set_up();
        let first = list(&dir);
        rotate(&dir);
        let second = list(&dir);
        assert_eq!(records(&dir), [first.digest(), second.digest()]);
        assert_eq!(opened(&dir).newest_backup().unwrap().unwrap().record(), second.digest());
        assert!(opened(&dir).unbacked().is_empty());
        let forget = Forget::One(second.digest().to_hex());
        forget_backups(&dir, &Means::default(), &forget).unwrap();
        assert_eq!(records(&dir), [first.digest()]);
        assert_eq!(opened(&dir).unbacked(), [opened(&dir).keyring.primary().id()]);
        let text = forget_backups(&dir, &Means::default(), &forget).unwrap_err().to_string();
        let id = second.digest().to_hex();
        assert_eq!(text, format!("no listed backup or snapshot has an ID that begins with {id}"));
    }

    #[test]
    fn a_few_digits_name_one_backup() {
        let opened = opened(&set_up().1);
        let listed = |byte| ListedBackup::of(&opened.keyring, Digest([byte; 32]), Proven::Checked(now()), None);
        let empty = Ledger::empty(opened.keyring.uuid(), opened.keyring.root_id());
        let ledger = empty.with(listed(0x1a), 1).unwrap().with(listed(0x1b), 2).unwrap();
        let named = |name| named(&ledger, name).map(|named| named.digest()).map_err(|error| error.to_string());
        assert_eq!(named("1a"), Ok(Digest([0x1a; 32])));
        assert_eq!(named("1b1"), Ok(Digest([0x1b; 32])));
        assert_eq!(named("1"), Err("2 listed backups and snapshots have an ID that begins with 1".to_owned()));
        assert_eq!(named("2"), Err("no listed backup or snapshot has an ID that begins with 2".to_owned()));
        assert_eq!(named(""), Err("no listed backup or snapshot has an ID that begins with ".to_owned()));
    }

    #[test]
    fn an_earlier_ledger_that_is_put_back_is_refused() {
        let (_keep, dir) = set_up();
        list(&dir);
        let earlier = dir.read(LEDGER, LEDGER_MAX).unwrap();
        rotate(&dir);
        list(&dir);
        dir.replace(LEDGER, &earlier).unwrap();
        let refused = opened(&dir).backups().map(drop).unwrap_err().to_string();
        assert_eq!(refused, "the ledger was rolled back: it has count 1, this node has seen 2");
        std::fs::remove_file(dir.path_of(LEDGER)).unwrap();
        let refused = opened(&dir).backups().map(drop).unwrap_err().to_string();
        assert_eq!(refused, "the ledger is missing: this node has seen one with count 2");
    }

    #[test]
    fn after_all_backups_are_forgotten_any_earlier_key_may_be_needed() {
        let (_keep, dir) = set_up();
        let first = disable_first(&dir);
        list(&dir);
        let all = |uuid| forget_backups(&dir, &Means::default(), &Forget::All(uuid));
        let (here, other) = (opened(&dir).keyring.uuid(), Uuid([7; 16]));
        let text = all(other).unwrap_err().to_string();
        assert_eq!(text, format!("keyring {} was named, and the keyring here is {}", other.to_hex(), here.to_hex()));
        assert_eq!(records(&dir).len(), 1);
        all(here).unwrap();
        assert_eq!(records(&dir), []);
        let destroy = |key_id| destroy_key(&dir, &Means::default(), key_id, &unused(&dir));
        assert!(matches!(destroy(first), Err(DestroyKeyError::Forgotten { forgot: 2, .. })));
        // A key that was made later cannot be in a forgotten snapshot.
        let third = added(&dir);
        promoted(&dir, third, BackedUp::Waived);
        rotate(&dir);
        disabled(&dir, third, &Usage::Waived);
        destroy(third).unwrap();
    }

    #[test]
    fn the_audit_log_says_which_backups_count() {
        let (_keep, dir) = set_up();
        let backup = backup(&dir);
        let (record, generation) = (backup.digest(), backup.keyring.generation());
        let written = ListedBackup::of(&backup.keyring, record, Proven::Written(now()), None);
        for listed in [written, entry(&backup)] {
            list_backup(&dir, &Means::default(), backup.keyring.root_id(), listed).unwrap();
        }
        let uuid = backup.keyring.uuid();
        for forget in [Forget::One(record.to_hex()), Forget::All(uuid)] {
            forget_backups(&dir, &Means::default(), &forget).unwrap();
        }
        let found: Vec<_> = events(&dir).split_off(1);
        let named = ["backup-written", "backup-check", "backup-forget", "backup-forget-all"];
        assert_eq!(found.iter().map(|event| event["event"].as_str().unwrap()).collect::<Vec<_>>(), named);
        assert!(found.iter().all(|event| event["keyring"] == uuid.to_hex() && event["generation"] == generation));
        assert!(found[..3].iter().all(|event| event["record"] == record.to_hex()));
    }

    #[test]
    fn a_key_that_a_listed_snapshot_needs_is_destroyed_only_after_the_snapshot_is_forgotten() {
        let (_keep, dir) = set_up();
        let first = disable_first(&dir);
        let other = opened(&dir).keyring.primary().id();
        let snapshot = |number: u64, file: Option<&str>, keys: &[_]| {
            let sha256 = Digest::of(&number.to_be_bytes());
            let snapshot = ListedSnapshot::new(sha256, 17, now(), file.map(ToOwned::to_owned), keys.to_vec());
            list_snapshot(&dir, &Means::default(), snapshot).unwrap();
            sha256.to_hex()
        };
        let ids = [
            snapshot(1, Some("/media/usb/etcd.db"), &[first]),
            snapshot(2, None, &[other, first]),
            snapshot(3, Some("/other.db"), &[other]),
        ];
        let destroy = |usage| destroy_key(&dir, &Means::default(), first, &usage);
        let refused = || destroy(unused(&dir)).unwrap_err().to_string();
        let forget = |id: &str| {
            forget_backups(&dir, &Means::default(), &Forget::One(id[..12].to_owned())).unwrap();
        };
        let start = format!("not destroying key {first}: a listed snapshot needs it: ");
        assert_eq!(refused(), format!("{start}/media/usb/etcd.db, and 1 more"));
        // A rekey and another backup keep the entries.
        crate::keeper::rekey(&dir, &Means::default()).unwrap();
        list(&dir);
        assert_eq!(opened(&dir).snapshots().unwrap().len(), 3);
        forget(&ids[0]);
        assert_eq!(refused(), format!("{start}sha256 {}", ids[1]));
        forget(&ids[1]);
        destroy(unused(&dir)).unwrap();
        let forgotten = forget_backups(&dir, &Means::default(), &Forget::One(ids[0].clone())).unwrap_err().to_string();
        assert_eq!(forgotten, format!("no listed backup or snapshot has an ID that begins with {}", ids[0]));
        let uuid = opened(&dir).keyring.uuid().to_hex();
        let events: Vec<_> = events(&dir).into_iter().filter(|event| event["snapshot"].is_string()).collect();
        let named: Vec<_> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
        let [check, forget] = ["snapshot-check", "snapshot-forget"];
        assert_eq!(named, [check, check, check, forget, forget]);
        assert!(events.iter().all(|event| event["keyring"] == uuid && event["generation"].is_u64()));
        assert_eq!(events[3]["snapshot"], *ids[0]);
    }

    #[test]
    fn an_operator_who_accepts_the_risk_destroys_a_key_that_a_snapshot_needs() {
        let (_keep, dir) = set_up();
        let first = disable_first(&dir);
        let snapshot = ListedSnapshot::new(Digest::of(b"snapshot"), 17, now(), None, vec![first]);
        list_snapshot(&dir, &Means::default(), snapshot).unwrap();
        let destroy = |usage| destroy_key(&dir, &Means::default(), first, &usage);
        assert!(matches!(destroy(unused(&dir)), Err(DestroyKeyError::InSnapshot { others: 0, .. })));
        destroy(Usage::Waived).unwrap();
    }
}
