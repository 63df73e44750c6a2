//! Writes the files of a keyring: key file, root file, record, its copy, ledger and mark, and the plan of a rotation.
//! Nothing else writes them. Other modules also add lines to the audit log, and create the files that they lock. Every
//! operation that changes these files builds a [`Commit`].
//!
//! ```text
//! encode the record, decode it, keep the reserve            pure: nothing is written yet
//! check that root file and record are still the ones that were read
//! audit line -> backup -> unfinished files aside -> key file -> root file -> copy of the record -> record -> ledger -> mark
//!                                                                                                         or plan, alone
//! ```
//!
//! A commit does the steps that it needs, in this order. Each step is durable before the next one begins. A commit ends
//! at the first step that fails. Invariant: after a crash between any two steps, either the whole old keyring opens or
//! the whole new one. An error says which keyring opens. [`CommitError::InDoubt`] is the exception: the store must be
//! read to find out. The caller holds the lock. Source: `docs/formats.md`, "Files".

mod step;
#[cfg(test)]
pub(super) mod testing;

use std::path::PathBuf;

pub(super) use self::step::CommitStep;
use self::step::done;
use super::{
    error::OpenError,
    open::Opened,
    state_dir::{KEYRING, KEYRING_PREV, LEDGER, MARK, ROOT, ROTATION, StateFiles, Writing, load_by},
};
use crate::{
    audit::{self, Event, KeyringEvent},
    crypto::{Digest, root_key::RootKey},
    durable::{DurableError, export},
    keyring::{
        Keyring,
        home::Home,
        ledger::ListedBackup,
        mark::Standing,
        record::{self, RECORD_MAX, RecordError},
    },
    memory::SecretError,
    root::Sealer,
    store::{Held, KeyringStore, StoreError, Swapped},
};

/// The bytes of a record that a change may not use if it can make the record longer. So the keys that exist can always
/// be promoted, disabled, destroyed and put under a new root key.
pub(super) const RESERVE: usize = 1024 + 64 * 256;

/// Why a commit failed. Each error says whether the old keyring opens or the new one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// There is no mark, so this node cannot notice that an older keyring was put back.
    #[error("this node has no mark: it cannot tell whether the keyring is the newest")]
    NoMark,
    /// The record that counts is in etcd. The file is a copy of it.
    #[error("the keyring's home is etcd, below {0}, and this file is a copy of it")]
    HomeInEtcd(String),
    /// The ledger's count has reached its maximum.
    #[error("the ledger's count of changes has reached its maximum")]
    LedgerSpent,
    /// There is no new record to write.
    #[error(transparent)]
    Encode(#[from] EncodeRecordError),
    /// No memory could be locked for a key.
    #[error(transparent)]
    Memory(#[from] SecretError),
    /// Somebody else has changed the root file or the record since it was read. This commit has not changed the
    /// keyring.
    #[error("{} was changed while this command ran", .0.display())]
    Overtaken(PathBuf),
    /// A file could not be read again before the change. Nothing was changed.
    #[error(transparent)]
    Unread(Box<OpenError>),
    /// The backup that has to exist before the change could not be written. Nothing was changed.
    #[error(transparent)]
    NotExported(DurableError),
    /// The audit line could not be written. Nothing was changed.
    #[error("nothing was changed, because the audit log cannot be written: {0}")]
    NotAudited(#[source] DurableError),
    /// A file of this node could not be written. The keyring was not changed.
    #[error(transparent)]
    NotWritten(DurableError),
    /// The store did not accept the record. The keyring was not changed.
    #[error(transparent)]
    NotSwapped(StoreError),
    /// The store failed while it swapped the record, and then could not be read. Nobody knows whether the keyring was
    /// changed until the store can be read again.
    #[error("it is not known whether the keyring was changed: {failed}; reading it again: {unread}")]
    InDoubt {
        /// The error of the swap.
        failed: StoreError,
        /// The error of reading the store afterwards.
        unread: Box<StoreError>,
    },
    /// The store has the new record, and may still lose it in a crash.
    #[error("the keyring was changed, but may not be on the disk yet: {0}")]
    NotConfirmed(#[source] StoreError),
    /// The new root file was written, and may still be lost in a crash.
    #[error("the root file was changed, but may not be on the disk yet: {0}")]
    RootNotConfirmed(#[source] DurableError),
    /// The record was written. The ledger or the mark, which follows it, was not.
    #[error("the keyring was changed, but not marked: {0}")]
    NotMarked(#[source] DurableError),
    /// The ledger was written, and the mark was not. The keyring was not changed.
    #[error("the ledger was changed, but not marked: {0}")]
    LedgerNotMarked(#[source] DurableError),
    /// All files were written, and the keyring does not open.
    #[error("the keyring was changed, but does not open: {0}")]
    DoesNotOpen(#[source] Box<OpenError>),
}

/// Why a keyring cannot become a record. Nothing was written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeRecordError {
    /// The record would use bytes of the reserve.
    #[error("the keyring has no room for more: {RESERVE} bytes are kept for changes of the keys that exist")]
    Full,
    /// The record would be longer than [`RECORD_MAX`].
    #[error("the keyring would have {0} bytes, and at most {RECORD_MAX} are allowed")]
    TooLong(usize),
    /// The new record cannot be decoded. This is a defect of this build.
    #[error("the new keyring does not read back: {0}")]
    NotReadBack(#[from] RecordError),
    /// No memory could be locked for a key.
    #[error(transparent)]
    Memory(#[from] SecretError),
}

/// A backup of a keyring that is about to be written.
#[derive(Debug)]
pub(super) struct Export {
    /// The path where the backup is written.
    pub(super) file: PathBuf,
    /// The bytes of the age file.
    pub(super) bytes: Vec<u8>,
    /// The ledger's entry of the backup. `None` if the backup does not count.
    pub(super) listed: Option<ListedBackup>,
}

/// Which record `keyring.prev` contains after a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PrevCopy {
    /// The record before the change.
    Before,
    /// The new record, so that no copy of the removed key bytes remains.
    After,
}

/// Whether a change may use the bytes of [`RESERVE`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Limit {
    /// The record may not use the reserve, because the change can make the record longer.
    Reserved,
    /// The record may use the reserve.
    Whole,
}

/// The bytes of a record, which this build has decoded again.
#[derive(Debug)]
pub(super) struct NewRecord {
    bytes: Vec<u8>,
    digest: Digest,
}

impl NewRecord {
    /// Encodes `keyring` under `root` and decodes the bytes again.
    ///
    /// # Errors
    /// When the record is too long or cannot be decoded, or no memory can be locked.
    pub(super) fn encode(keyring: &Keyring, root: &RootKey, limit: Limit) -> Result<Self, EncodeRecordError> {
        let bytes = record::encode(keyring, root)?;
        if limit == Limit::Reserved && bytes.len() + RESERVE > RECORD_MAX {
            return Err(EncodeRecordError::Full);
        }
        if bytes.len() > RECORD_MAX {
            return Err(EncodeRecordError::TooLong(bytes.len()));
        }
        // A record that this build cannot decode must not be written.
        record::decode(&bytes, root, keyring.uuid())?;
        Ok(Self { digest: Digest::of(&bytes), bytes })
    }

    /// Returns the bytes of the record.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the SHA-256 of the record.
    pub(super) fn digest(&self) -> Digest {
        self.digest
    }
}

/// A new record, and the record that it replaces.
#[derive(Debug)]
pub(super) struct Swap {
    /// The SHA-256 of the record that the store must have. `None` if the store must have no record.
    pub(super) before: Option<Digest>,
    /// The new record.
    pub(super) record: NewRecord,
    /// Which of the two records is copied to `keyring.prev`.
    pub(super) copy: PrevCopy,
}

/// A new root file, which replaces the old one.
#[derive(Debug)]
pub(super) struct NewRoot<'a> {
    /// The bytes of the root file.
    pub(super) bytes: &'a [u8],
    /// The key file that is written before the root file, or removed after it.
    pub(super) key_file: KeyFile<'a>,
}

/// The key file that is written before a new root file, or removed after it.
#[derive(Debug)]
pub(super) enum KeyFile<'a> {
    /// No key file is written or removed.
    Kept,
    /// The secret of the new slot with this name. Its [`Sealer`] writes the key file before the root file is written.
    New(&'a str, &'a dyn Sealer),
    /// The key file of the removed slot with this name. It is removed last.
    Removed(&'a str),
}

/// The files that are written after the record.
#[derive(Default)]
pub(super) enum Followers {
    /// No file follows.
    #[default]
    None,
    /// Ledger and mark follow.
    Mark {
        /// The bytes of the ledger, if the ledger has changed.
        ledger: Option<Vec<u8>>,
        /// The bytes of the mark.
        mark: Vec<u8>,
    },
    /// The plan of a rotation, alone: no other file depends on the plan.
    Plan(Vec<u8>),
}

/// A change, with all bytes that it writes.
#[derive(Default)]
pub(super) struct Commit<'a> {
    /// For a set-up: the names of the files of an unfinished set-up, which are moved aside. No file that the commit
    /// writes may exist yet. `None` for every other change.
    pub(super) set_up: Option<&'a [String]>,
    /// The root file that the directory must have. `None` if the change does not depend on the root file.
    pub(super) root_before: Option<&'a [u8]>,
    /// Whether another process may have written the record and died before it synced the file.
    pub(super) is_unsynced: bool,
    /// The backup that is written before the change.
    pub(super) backup: Option<&'a Export>,
    /// The event that is written to the audit log before the change.
    pub(super) event: Option<Event<'a>>,
    /// The new root file.
    pub(super) root: Option<NewRoot<'a>>,
    /// The new record, and the copy in `keyring.prev`.
    pub(super) swap: Option<Swap>,
    /// The files that are written after the record.
    pub(super) followers: Followers,
}

/// The outcome of a commit.
#[derive(Debug, Default)]
pub(super) struct Committed {
    /// The directory to which the files of an unfinished set-up were moved.
    pub(super) aside: Option<PathBuf>,
    /// Why the key file of the removed slot could not be removed. The key file opens nothing any more.
    pub(super) key_file_left: Option<DurableError>,
}

impl<'a> Commit<'a> {
    /// Makes a commit that replaces the opened keyring by `keyring`. Also returns the SHA-256 of the new record.
    ///
    /// # Errors
    /// When there is no mark, the keyring's home is etcd, or `keyring` does not fit into a record.
    pub(super) fn change(
        opened: &Opened,
        keyring: &Keyring,
        event: Event<'a>,
        copy: PrevCopy,
    ) -> Result<(Self, Digest), CommitError> {
        if let Home::Etcd(prefix) = opened.keyring.home() {
            return Err(CommitError::HomeInEtcd(prefix.clone()));
        }
        let standing = opened.standing.ok_or(CommitError::NoMark)?;
        let size = |keyring: &Keyring| keyring.entries().len() + keyring.recoveries().len();
        let limit = if size(keyring) > size(&opened.keyring) { Limit::Reserved } else { Limit::Whole };
        let record = NewRecord::encode(keyring, &opened.root, limit)?;
        let digest = record.digest;
        let commit = Self {
            is_unsynced: standing == Standing::Ahead,
            event: Some(event),
            swap: Some(Swap { before: Some(opened.digest), record, copy }),
            followers: Followers::Mark {
                ledger: opened.listed.to_write(keyring.uuid(), &opened.root)?,
                mark: opened.next_mark(keyring, digest).encode(&opened.root)?,
            },
            ..Self::default()
        };
        Ok((commit, digest))
    }

    /// Makes a commit that marks the opened record and its ledger.
    ///
    /// # Errors
    /// When no memory can be locked.
    pub(super) fn mark(opened: &Opened) -> Result<Self, CommitError> {
        Ok(Self {
            is_unsynced: true,
            followers: Followers::Mark {
                ledger: opened.listed.to_write(opened.keyring.uuid(), &opened.root)?,
                mark: opened.next_mark(&opened.keyring, opened.digest).encode(&opened.root)?,
            },
            ..Self::default()
        })
    }

    /// Writes all files of the change. The caller holds the lock.
    ///
    /// # Errors
    /// When a step fails. The error says whether the old keyring or the new one opens, except after
    /// [`CommitError::InDoubt`].
    pub(super) fn run(self, state: StateFiles<'_>, store: &mut dyn KeyringStore) -> Result<Committed, CommitError> {
        let held = self.check(state, store)?;
        if let Some(event) = &self.event {
            audit::write(state.dir(), event).map_err(CommitError::NotAudited)?;
            done(CommitStep::Audit).map_err(CommitError::NotWritten)?;
        }
        if let Some(Export { file, bytes, .. }) = self.backup {
            export(file, bytes).and_then(|()| done(CommitStep::Backup)).map_err(CommitError::NotExported)?;
        }
        let aside = self.move_aside(state).map_err(CommitError::NotWritten)?;
        self.write_root(state)?;
        self.swap(state, store, held.as_ref())?;
        self.write_followers(state)?;
        // The slot is gone, so its key file opens nothing. The commit succeeds even if the file cannot be removed.
        let key_file_left = match &self.root {
            Some(NewRoot { key_file: KeyFile::Removed(slot), .. }) => state.remove_key_file(slot).err(),
            _ => None,
        };
        Ok(Committed { aside, key_file_left })
    }

    /// Checks that nobody has changed root file and record since they were read. Returns the record in the store.
    fn check(&self, state: StateFiles<'_>, store: &mut dyn KeyringStore) -> Result<Option<Held>, CommitError> {
        if self.is_unsynced {
            state.sync_record().map_err(CommitError::NotWritten)?;
        }
        if let Some(before) = self.root_before {
            let root = state.root().map_err(|error| CommitError::Unread(Box::new(error.into())))?;
            let root = root.ok_or_else(|| CommitError::Unread(Box::new(OpenError::missing_root(state))))?;
            if **root != *before {
                return Err(CommitError::Overtaken(state.path_of(ROOT)));
            }
        }
        self.check_record(state, store)
    }

    fn check_record(&self, state: StateFiles<'_>, store: &mut dyn KeyringStore) -> Result<Option<Held>, CommitError> {
        let Some(swap) = &self.swap else { return Ok(None) };
        let held = store.load(load_by()).map_err(|error| CommitError::Unread(Box::new(error.into())))?;
        if held.as_ref().map(|held| Digest::of(&held.bytes)) != swap.before {
            return Err(CommitError::Overtaken(state.path_of(KEYRING)));
        }
        Ok(held)
    }

    fn writing(&self) -> Writing {
        if self.set_up.is_some() { Writing::Create } else { Writing::Replace }
    }

    fn move_aside(&self, state: StateFiles<'_>) -> Result<Option<PathBuf>, DurableError> {
        let Some(unfinished) = self.set_up.filter(|unfinished| !unfinished.is_empty()) else { return Ok(None) };
        let aside = state.move_aside(unfinished)?;
        done(CommitStep::Aside)?;
        Ok(Some(aside))
    }

    fn write_root(&self, state: StateFiles<'_>) -> Result<(), CommitError> {
        let Some(NewRoot { bytes, key_file }) = &self.root else { return Ok(()) };
        if let KeyFile::New(slot, sealer) = key_file {
            let kept = sealer.keep(slot, state.dir()).and_then(|()| done(CommitStep::KeyFile));
            kept.map_err(CommitError::NotWritten)?;
        }
        let written = state.write(ROOT, bytes, self.writing()).and_then(|()| done(CommitStep::Root));
        written.map_err(|error| match state.root() {
            // The step that failed came after the rename, so the new root file is there. For a set-up, `init` says how
            // far it came, because it has more files to write.
            Ok(Some(root)) if **root == **bytes && self.set_up.is_none() => CommitError::RootNotConfirmed(error),
            _ => CommitError::NotWritten(error),
        })
    }

    fn swap(
        &self,
        state: StateFiles<'_>,
        store: &mut dyn KeyringStore,
        held: Option<&Held>,
    ) -> Result<(), CommitError> {
        let Some(Swap { record, copy, .. }) = &self.swap else { return Ok(()) };
        if let Some(held) = held {
            // Checks again, so that keyring.prev is not replaced if the record has changed.
            self.check_record(state, store)?;
            let bytes = if *copy == PrevCopy::Before { &**held.bytes } else { record.bytes() };
            let copied = state.write(KEYRING_PREV, bytes, Writing::Replace).and_then(|()| done(CommitStep::Copy));
            copied.map_err(CommitError::NotWritten)?;
        }
        match store.swap(held.map(|held| &held.version), record.bytes()) {
            Ok(Swapped::Done) => done(CommitStep::Swap).map_err(CommitError::NotMarked),
            Ok(Swapped::Lost) => Err(CommitError::Overtaken(state.path_of(KEYRING))),
            Ok(Swapped::Unknown(failed)) => Err(failed_swap(store, record, failed)),
            Err(error) => Err(CommitError::NotSwapped(error)),
        }
    }

    fn write_followers(&self, state: StateFiles<'_>) -> Result<(), CommitError> {
        match &self.followers {
            Followers::None => Ok(()),
            Followers::Mark { ledger, mark } => self.write_mark(state, ledger.as_deref(), mark),
            Followers::Plan(plan) => {
                let written = state.write(ROTATION, plan, Writing::Replace).and_then(|()| done(CommitStep::Plan));
                written.map_err(CommitError::NotWritten)
            }
        }
    }

    /// Writes ledger and mark. The mark comes last, because a new mark would refuse the old record and the old ledger.
    fn write_mark(&self, state: StateFiles<'_>, ledger: Option<&[u8]>, mark: &[u8]) -> Result<(), CommitError> {
        let failed = |otherwise: fn(DurableError) -> CommitError| {
            if self.swap.is_some() { CommitError::NotMarked } else { otherwise }
        };
        let mut unmarked = failed(CommitError::NotWritten);
        if let Some(ledger) = ledger {
            state.write(LEDGER, ledger, self.writing()).map_err(unmarked)?;
            unmarked = failed(CommitError::LedgerNotMarked);
            done(CommitStep::Ledger).map_err(unmarked)?;
        }
        // The mark is the last file of the keyring, so no later step can fail.
        state.write(MARK, mark, self.writing()).map_err(unmarked)
    }
}

/// Loads the record again after a swap that `failed`, and returns the error that says whether the store has `record`.
fn failed_swap(store: &mut dyn KeyringStore, record: &NewRecord, failed: StoreError) -> CommitError {
    match store.load(load_by()) {
        Ok(Some(held)) if *held.bytes == record.bytes => CommitError::NotConfirmed(failed),
        Ok(_) => CommitError::NotSwapped(failed),
        Err(unread) => CommitError::InDoubt { failed, unread: Box::new(unread) },
    }
}

/// Returns the keyring and its generation, for the audit log.
pub(super) fn keyring_event(keyring: &Keyring) -> KeyringEvent {
    KeyringEvent { keyring: keyring.uuid().to_hex(), generation: keyring.generation() }
}

#[cfg(test)]
mod tests {
    use rand::rngs::SysRng;

    use super::*;
    use crate::{
        crypto::Uuid,
        durable::{self, Dir},
        keeper::{
            self,
            testing::{events, set_up},
        },
        keyring::testing::{self, now},
        root::Means,
        store::{LostAnswer, MemoryStore},
    };

    /// Makes a state directory, opens its keyring, and copies its record into a store in memory.
    fn world() -> (tempfile::TempDir, Dir, MemoryStore, Opened) {
        let (keep, dir) = set_up();
        let mut store = MemoryStore::default();
        store.swap(None, &dir.read(KEYRING, RECORD_MAX).unwrap()).unwrap();
        let opened = keeper::open(&dir, &Means::default()).unwrap();
        (keep, dir, store, opened)
    }

    fn add(dir: &Dir, store: &mut MemoryStore, opened: &Opened) -> Result<Committed, CommitError> {
        let (next, key_id) = opened.keyring.add(&[], &mut SysRng, &opened.root, opened.digest, now()).unwrap();
        let event = audit::KeyEvent {
            keyring: String::new(),
            generation: next.generation(),
            key_id: key_id.to_string(),
            unproven: None,
            left: Vec::new(),
        };
        Commit::change(opened, &next, Event::Add(event), PrevCopy::Before)?.0.run(StateFiles::new(dir), store)
    }

    fn held(store: &mut MemoryStore) -> Digest {
        Digest::of(&store.load(load_by()).unwrap().unwrap().bytes)
    }

    #[test]
    fn what_the_store_holds_settles_a_swap_whose_answer_got_lost() {
        for is_held in [false, true] {
            let (_keep, dir, mut store, opened) = world();
            let error = || StoreError::File(DurableError::Missing("answer".into()));
            store.fail(LostAnswer { is_held, error: error() });
            let mark = dir.read(MARK, RECORD_MAX).unwrap();
            let failed = add(&dir, &mut store, &opened).unwrap_err();
            assert_eq!(is_held, held(&mut store) != opened.digest);
            match failed {
                CommitError::NotConfirmed(_) => assert!(is_held),
                CommitError::NotSwapped(_) => assert!(!is_held),
                error => panic!("{error}"),
            }
            assert_eq!(dir.read(MARK, RECORD_MAX).unwrap(), mark, "nothing follows a record that is not confirmed");
        }
    }

    #[test]
    fn a_record_that_somebody_else_changed_stays() {
        let (_keep, dir, mut store, opened) = world();
        let version = store.load(load_by()).unwrap().unwrap().version;
        store.swap(Some(&version), b"another one").unwrap();
        let failed = add(&dir, &mut store, &opened).unwrap_err();
        assert_eq!(
            failed.to_string(),
            format!("{} was changed while this command ran", dir.path_of(KEYRING).display())
        );
        assert_eq!(held(&mut store), Digest::of(b"another one"));
        assert!(events(&dir).is_empty() && !dir.contains(KEYRING_PREV).unwrap());
    }

    #[test]
    fn a_root_file_that_somebody_else_changed_stays() {
        let (_keep, dir, mut store, opened) = world();
        let root = Some(NewRoot { bytes: b"new", key_file: KeyFile::Kept });
        let commit = Commit { root_before: Some(b"another one"), root, ..Commit::default() };
        let failed = commit.run(StateFiles::new(&dir), &mut store).unwrap_err();
        assert_eq!(failed.to_string(), format!("{} was changed while this command ran", dir.path_of(ROOT).display()));
        assert_eq!(**dir.read(ROOT, RECORD_MAX).unwrap(), *opened.root_file.bytes());
    }

    #[test]
    fn a_failed_step_says_whether_the_root_file_is_the_new_one() {
        let (_keep, dir, mut store, _) = world();
        let mut write = |is_first: bool| {
            let root = Some(NewRoot { bytes: b"new", key_file: KeyFile::Kept });
            let set_up = is_first.then_some(&[][..]);
            Commit { set_up, root, ..Commit::default() }.run(StateFiles::new(&dir), &mut store).unwrap_err()
        };
        let failed = durable::testing::dying_after(0, || write(false)).0;
        assert!(matches!(failed, CommitError::NotWritten(_)), "{failed}");
        let failed = super::testing::dying_after(CommitStep::Root, || write(false)).0;
        assert!(matches!(failed, CommitError::RootNotConfirmed(_)), "{failed}");
        std::fs::remove_file(dir.path_of(ROOT)).unwrap();
        let failed = super::testing::dying_after(CommitStep::Root, || write(true)).0;
        assert!(matches!(failed, CommitError::NotWritten(_)), "a set-up has more files to write: {failed}");
    }

    #[test]
    fn a_record_that_may_not_be_on_the_disk_is_synced_before_a_change() {
        let (_keep, dir, mut store, mut opened) = world();
        // The file store cannot sync a file that is gone. The store in memory still has the record.
        std::fs::remove_file(dir.path_of(KEYRING)).unwrap();
        opened.standing = Some(Standing::Ahead);
        let failed = add(&dir, &mut store, &opened).unwrap_err();
        assert!(matches!(failed, CommitError::NotWritten(DurableError::Missing(_))), "{failed}");
        let failed = Commit::mark(&opened).unwrap().run(StateFiles::new(&dir), &mut store).unwrap_err();
        assert!(matches!(failed, CommitError::NotWritten(DurableError::Missing(_))), "{failed}");
        opened.standing = Some(Standing::Current);
        add(&dir, &mut store, &opened).unwrap();
    }

    #[test]
    fn a_record_may_fill_everything_but_the_reserve() {
        let root = RootKey::generate(&mut SysRng).unwrap();
        let keyring = testing::keyring(&root, Uuid([5; 16]));
        let filled = |tombs: u32, prefix: usize| {
            let keyring = (1000..1000 + tombs).fold(keyring.clone(), testing::with_tomb);
            testing::moved_to_etcd(&keyring, testing::digest(1), &format!("/{}", "a".repeat(prefix)))
        };
        let length = |tombs| record::encode(&filled(tombs, 1), &root).unwrap().len();
        let (first, line) = (length(1), length(2) - length(1));
        let rest = RECORD_MAX - RESERVE - first;
        let (tombs, prefix) = (1 + u32::try_from(rest / line).unwrap(), 1 + rest % line);
        let longest = NewRecord::encode(&filled(tombs, prefix), &root, Limit::Reserved).unwrap();
        assert_eq!(longest.bytes().len() + RESERVE, RECORD_MAX);
        let longer = filled(tombs, prefix + 1);
        assert!(matches!(NewRecord::encode(&longer, &root, Limit::Reserved), Err(EncodeRecordError::Full)));
        NewRecord::encode(&longer, &root, Limit::Whole).unwrap();
    }
}
