//! Opens a state directory: root file, slot, mark, record, ledger, in this order. Opening changes nothing.
//!
//! Source: `docs/formats.md`, "mark" and "Files".

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    error::{OpenError, ReadLedgerError, UnfinishedRekey},
    expect::Expect,
    listed::Listed,
    roots::{Roots, SlotSummary},
    state_dir::{ROOT, StateFiles, load_by},
};
use crate::{
    crypto::{Digest, RootId, root_key::RootKey},
    durable::{Dir, DurableError, Lock, Privacy},
    keyring::{
        Key, Keyring,
        key_id::KeyId,
        ledger::{Ledger, ListedBackup},
        listed_snapshot::ListedSnapshot,
        mark::{Mark, RecordChoice, Standing},
        record,
        unused::EtcdRevision,
    },
    root::{Means, ROOT_MAX, RootFile},
    store::KeyringStore,
};

/// How often the files are read at most, if they change during reading.
const ATTEMPTS: usize = 10;

/// The contents of a state directory, opened and checked.
#[derive(Debug)]
pub struct Opened {
    /// The keyring that the record contains.
    pub keyring: Keyring,
    /// The SHA-256 of the record.
    pub digest: Digest,
    /// The slots, which seal the root key.
    pub slots: Vec<SlotSummary>,
    /// Whether the mark names this record or an earlier one. `None` if there is no mark.
    pub standing: Option<Standing>,
    /// The root key of the record. During a rekey this may be an earlier one.
    pub(super) root: Arc<RootKey>,
    pub(super) current: Arc<RootKey>,
    pub(super) root_file: RootFile,
    pub(super) listed: Listed,
    marked_under: Option<RootId>,
    mark: Option<Mark>,
}

impl Opened {
    /// Whether a rekey has begun and not finished. Then the root file contains the new root key, but the record or the
    /// mark is still under the earlier one.
    pub fn is_being_rekeyed(&self) -> bool {
        !self.is_record_current() || self.marked_under.is_some_and(|root_id| root_id != self.keyring.root_id())
    }

    /// Whether the keyring was restored or merged, and was not rotated to a new key after that.
    pub fn wants_rotation(&self) -> bool {
        self.next_mark(&self.keyring, self.digest).wants_rotation()
    }

    /// Returns the keys that no listed backup contains. Returns all keys if the ledger was refused.
    pub fn unbacked(&self) -> Vec<KeyId> {
        match self.listed.ledger() {
            Ok(ledger) => ledger.unbacked(&self.keyring),
            Err(_) => self.keyring.keys().map(Key::id).collect(),
        }
    }

    /// Returns the listed backup of the latest generation. If there are several of that generation, returns the one
    /// that was proven last.
    ///
    /// # Errors
    /// When the ledger was refused.
    pub fn newest_backup(&self) -> Result<Option<&ListedBackup>, &ReadLedgerError> {
        self.listed.ledger().map(Ledger::newest).map_err(AsRef::as_ref)
    }

    /// Returns the listed backups. The one that was proven last is the last one.
    ///
    /// # Errors
    /// When the ledger was refused.
    pub fn backups(&self) -> Result<&[ListedBackup], &ReadLedgerError> {
        self.listed.ledger().map(Ledger::backups).map_err(AsRef::as_ref)
    }

    /// Returns the keys in listed backups, and the keys that listed snapshots need. A ledger that is newer than the
    /// keyring names keys that the keyring lacks.
    pub(super) fn listed_keys(&self) -> Vec<KeyId> {
        let ledger = self.listed.ledger().ok();
        let backups = ledger.into_iter().flat_map(Ledger::backups).flat_map(ListedBackup::keys);
        let snapshots = ledger.into_iter().flat_map(Ledger::snapshots).flat_map(ListedSnapshot::keys);
        backups.chain(snapshots).copied().collect()
    }

    /// Returns the listed snapshots of etcd. The one that was read last is the last one.
    ///
    /// # Errors
    /// When the ledger was refused.
    pub fn snapshots(&self) -> Result<&[ListedSnapshot], &ReadLedgerError> {
        self.listed.ledger().map(Ledger::snapshots).map_err(AsRef::as_ref)
    }

    /// Returns since which revision of each etcd no value needs the key, as the ledger notes it.
    ///
    /// # Errors
    /// When the ledger was refused.
    pub fn unused(&self, key_id: KeyId) -> Result<Vec<EtcdRevision>, &ReadLedgerError> {
        self.listed.ledger().map(|ledger| ledger.unused(key_id).cloned().collect()).map_err(AsRef::as_ref)
    }

    /// Returns the mark for `keyring`, which is the opened keyring or its successor.
    pub(super) fn next_mark(&self, keyring: &Keyring, digest: Digest) -> Mark {
        Mark::of(keyring, digest, self.listed.count()).after(self.mark.as_ref(), keyring)
    }

    /// Copies from `before` which slot opened, if no slot was opened now because the root key was known.
    fn after(mut self, before: &Self) -> Self {
        if self.slots.iter().all(|slot| !slot.opened) {
            let opened = |name: &str| before.slots.iter().any(|slot| slot.opened && slot.name == name);
            self.slots.iter_mut().for_each(|slot| slot.opened = opened(&slot.name));
        }
        self
    }

    /// Switches to the current root key, so that the next commit writes under it.
    pub(super) fn under_current(self) -> Self {
        Self { root: Arc::clone(&self.current), ..self }
    }

    /// Takes the ledger that `earlier` has read. Nobody has changed it since, because the caller holds the lock.
    pub(super) fn with_ledger_of(self, earlier: Self) -> Self {
        Self { listed: earlier.listed, ..self }
    }

    /// Whether the record is under the current root key.
    pub(super) fn is_record_current(&self) -> bool {
        self.root_file.is_under(&self.root)
    }
}

/// Why a change did not begin. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BeginError {
    /// The keyring in the state directory did not open.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Another command holds the lock, or the lock cannot be taken.
    #[error(transparent)]
    Lock(DurableError),
    /// An earlier rekey did not finish.
    #[error(transparent)]
    Rekeying(#[from] UnfinishedRekey),
}

/// Returns the key files that are outside of the state directory. The list is empty if the root file cannot be read;
/// opening the keyring then returns the reason.
pub fn key_files(state_dir: &Path) -> Vec<PathBuf> {
    let read = || {
        let dir = Dir::open(state_dir, Privacy::Private).ok()?;
        RootFile::parse(&dir.read(ROOT, ROOT_MAX).ok()?).ok()
    };
    let slots = read().into_iter().flat_map(|root| root.slots().to_vec());
    slots.filter_map(|slot| slot.parameter("path").map(PathBuf::from)).collect()
}

/// Whether a set-up was ever finished in `dir`.
///
/// # Errors
/// When the directory or its audit log cannot be read.
pub fn is_set_up(dir: &Dir) -> Result<bool, DurableError> {
    StateFiles::new(dir).is_set_up()
}

/// Opens the keyring in `dir` with the slot secrets of `means`.
///
/// # Errors
/// When a file is missing, damaged or belongs to another keyring, no slot opens, or the record is older than the mark
/// or a fork.
pub fn open(dir: &Dir, means: &Means) -> Result<Opened, OpenError> {
    open_with(StateFiles::new(dir), means, None, None)
}

/// Opens the keyring again. Needs no slot if the root key is still the one of `before`.
///
/// # Errors
/// As [`open`].
pub fn open_again(dir: &Dir, means: &Means, before: &Opened) -> Result<Opened, OpenError> {
    open_after(StateFiles::new(dir), means, None, before)
}

/// Opens the keyring again, as [`open_again`] does. If `expect` identifies the record, the record may be further ahead
/// of the mark than its past reaches.
pub(super) fn open_after(
    state: StateFiles<'_>,
    means: &Means,
    expect: Option<&Expect>,
    before: &Opened,
) -> Result<Opened, OpenError> {
    Ok(open_with(state, means, Some(&before.current), expect)?.after(before))
}

/// Opens the keyring. Needs no slot if `known` is the root key. If `expect` identifies the record, the record may be
/// further ahead of the mark than its past reaches.
///
/// The files are read one after the other. Without the lock, a command may change them meanwhile. If the files do not
/// match each other and have changed meanwhile, they are read again.
pub(super) fn open_with(
    state: StateFiles<'_>,
    means: &Means,
    known: Option<&Arc<RootKey>>,
    expect: Option<&Expect>,
) -> Result<Opened, OpenError> {
    for _ in 1..ATTEMPTS {
        let before = state.versions();
        let outcome = open_once(state, means, known, expect);
        if outcome.as_ref().is_ok_and(|opened| opened.newest_backup().is_ok()) || state.versions() == before {
            return outcome;
        }
    }
    open_once(state, means, known, expect)
}

/// Reads the files once, and opens the keyring if they match each other.
fn open_once(
    state: StateFiles<'_>,
    means: &Means,
    known: Option<&Arc<RootKey>>,
    expect: Option<&Expect>,
) -> Result<Opened, OpenError> {
    let roots = Roots::open(state, means, known)?;
    let uuid = roots.file.uuid();
    let mark_error = |source| OpenError::mark(state, source);
    let marked = state.mark()?;
    let marked_under = marked.as_deref().map(|bytes| Mark::root_id(bytes)).transpose();
    let marked_under = marked_under.map_err(|error| mark_error(error.into()))?;
    let held = state.store().load(load_by())?.ok_or_else(|| OpenError::missing_record(state))?;
    let root = root_of_record(state, &roots, marked_under, &held.bytes)?;
    let keyring = record::decode(&held.bytes, &root, uuid).map_err(|source| OpenError::record(state, source))?;
    let digest = Digest::of(&held.bytes);
    let mark_root = marked_under.map(|root_id| roots.key(root_id, state)).transpose()?;
    let mark = marked.zip(mark_root).map(|(bytes, root)| Mark::decode(&bytes, &root, uuid));
    let mark = mark.transpose().map_err(mark_error)?;
    let is_named = expect.is_some_and(|expect| expect.is(&keyring, digest));
    let choice = if is_named { RecordChoice::Named } else { RecordChoice::Found };
    let standing = mark.as_ref().map(|mark| mark.check(&keyring, digest, choice));
    let standing = standing.transpose().map_err(mark_error)?;
    // A commit writes the ledger before the mark. So the ledger is read after the mark.
    let listed = Listed::read(state, &roots, mark.as_ref(), marked_under)?;
    let Roots { file, current, slots } = roots;
    Ok(Opened { keyring, digest, slots, standing, root, current, root_file: file, listed, marked_under, mark })
}

/// Returns the root key that has to open `record`. An earlier root key counts only during a rekey, until the mark is
/// under the current one. After that, anyone who kept the earlier root key could make a record.
fn root_of_record(
    state: StateFiles<'_>,
    roots: &Roots,
    marked_under: Option<RootId>,
    record: &[u8],
) -> Result<Arc<RootKey>, OpenError> {
    if marked_under.is_none_or(|marked_under| marked_under == roots.current.id(roots.file.uuid())) {
        return Ok(Arc::clone(&roots.current));
    }
    let named = record::root_id(record).map_err(|error| OpenError::record(state, error.into()))?;
    roots.key(named, state)
}

/// Takes the lock and opens the keyring to change it. Returns the lock, too.
pub(super) fn open_to_change(state: StateFiles<'_>, means: &Means) -> Result<(Opened, Lock), BeginError> {
    // Opens before taking the lock, because the operator may have to type a passphrase.
    let before = open_with(state, means, None, None)?;
    let lock = state.lock().map_err(BeginError::Lock)?;
    let opened = open_after(state, means, None, &before)?;
    if opened.is_being_rekeyed() { Err(UnfinishedRekey.into()) } else { Ok((opened, lock)) }
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use super::*;
    use crate::{
        durable,
        keeper::{
            InitRequest, Publisher, init, remove_slot,
            state_dir::{KEYRING, MARK},
            testing::{
                add_passphrase, added, backup, copies, list, merged, opened, passphrase, planned, put_back, rotate,
                set_up, slow, source,
            },
        },
        keyring::testing::now,
        root::{Passphrase, Passphrases},
    };

    /// Counts how often a passphrase is asked for.
    #[derive(Debug, Clone, Default)]
    struct Counting(Arc<AtomicUsize>);

    impl Passphrases for Counting {
        fn of(&self, _: &str, _: u32) -> io::Result<Option<Arc<Passphrase>>> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Ok(Some(passphrase()))
        }
    }

    fn opened_by(opened: &Opened) -> Vec<(&str, bool)> {
        opened.slots.iter().map(|slot| (slot.name.as_str(), slot.opened)).collect()
    }

    #[test]
    fn a_slot_opens_once_and_is_remembered() {
        let (_keep, dir) = set_up();
        add_passphrase(&dir, "spoken");
        let before = opened(&dir);
        assert_eq!(opened_by(&before), [("file", true), ("spoken", false)]);
        std::fs::remove_file(dir.path_of("slot-file.key")).unwrap();
        let again = open_again(&dir, &Means::default(), &before).unwrap();
        assert_eq!(opened_by(&again), [("file", true), ("spoken", false)]);
        let spoken = open(&dir, &slow(&dir, |_| {})).unwrap();
        assert_eq!(opened_by(&spoken), [("file", false), ("spoken", true)]);
    }

    #[test]
    fn nobody_types_a_passphrase_twice_because_a_file_is_damaged() {
        let (_keep, dir) = set_up();
        add_passphrase(&dir, "spoken");
        remove_slot(&dir, &slow(&dir, |_| {}), "file").unwrap();
        let asked = Counting::default();
        let means = Means::new(None, Box::new(asked.clone()));
        open(&dir, &means).unwrap();
        assert_eq!(asked.0.swap(0, Ordering::Relaxed), 1);
        dir.replace(KEYRING, b"damaged").unwrap();
        open(&dir, &means).unwrap_err();
        assert_eq!(asked.0.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_keyring_wants_a_rotation_after_a_restore_until_it_is_rotated() {
        let (_keep, dir) = set_up();
        let opened = opened(&dir);
        assert!(!opened.wants_rotation());
        let mark = opened.next_mark(&opened.keyring, opened.digest).after_restore(&opened.keyring);
        dir.replace(MARK, &mark.encode(&opened.current).unwrap()).unwrap();
        assert!(self::opened(&dir).wants_rotation());
        rotate(&dir);
        assert!(!self::opened(&dir).wants_rotation());
    }

    #[test]
    fn a_keyring_that_was_restored_wants_a_rotation_whoever_makes_its_mark_anew() {
        let (_keep, dir) = set_up();
        rotate(&dir);
        let lose_mark = || {
            std::fs::remove_file(dir.path_of(MARK)).unwrap();
            let wanted = opened(&dir).wants_rotation();
            Publisher::new(dir.path().to_owned(), Means::default(), None, Arc::default()).publish().unwrap();
            assert!(opened(&dir).standing.is_some() && opened(&dir).wants_rotation() == wanted);
            wanted
        };
        assert!(!lose_mark(), "nothing was restored");
        let backup = backup(&dir);
        rotate(&dir);
        std::fs::remove_file(dir.path_of(KEYRING)).unwrap();
        merged(&dir, planned(&dir, &[source(&backup)]).unwrap());
        assert!(lose_mark());
        list(&dir);
        assert!(opened(&dir).wants_rotation());
        rotate(&dir);
        assert!(!opened(&dir).wants_rotation());
    }

    #[test]
    fn a_new_key_does_not_get_the_number_of_one_that_only_a_listed_backup_holds() {
        let (_keep, dir) = set_up();
        let older = copies(&dir, [KEYRING]);
        added(&dir);
        list(&dir);
        std::fs::remove_file(dir.path_of(MARK)).unwrap();
        put_back(&dir, older);
        Publisher::new(dir.path().to_owned(), Means::default(), None, Arc::default()).publish().unwrap();
        assert_eq!(added(&dir).seq(), 3);
    }

    #[test]
    fn a_key_file_outside_of_the_state_directory_is_named() {
        let (_keep, dir) = set_up();
        assert!(key_files(dir.path()).is_empty());
        let ((_keep, dir), (elsewhere, _)) = (durable::testing::private(), durable::testing::private());
        assert!(key_files(dir.path()).is_empty() && !is_set_up(&dir).unwrap());
        let slot_file = Some(elsewhere.path().join("claviger.key"));
        init(&dir, &InitRequest { recovery: None, slot_file, restart: false, now: now() }).unwrap();
        assert_eq!(key_files(dir.path()), [elsewhere.path().join("claviger.key")]);
        assert!(is_set_up(&dir).unwrap());
    }
}
