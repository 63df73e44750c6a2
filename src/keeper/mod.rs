//! Root, store and keyring together: make them, open them, change them, and publish what the serving path reads.
//!
//! Opening is: root file, slot, record, mark, in this order. Invariant: a record is durable before it is marked, and
//! marked before it is published. Source: `docs/formats.md`, "mark" and "Files".

mod backup;
mod change;
mod expect;
mod init;
mod ledger;
mod merge;
#[cfg(test)]
mod model;
mod publisher;
mod recovery;
mod rekey;
mod restore;
mod serving;
mod slots;
mod snapshot;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    audit,
    crypto::{Digest, RootId, kdf::RootKey, secret::SecretError},
    durable::{Dir, DurableError, Lock, Privacy, version},
    keyring::{
        Keyring,
        home::Home,
        mark::{Mark, MarkError, Standing},
        record::{self, RECORD_MAX, RecordError},
    },
    root::{Kind, Means, ROOT_FILE, ROOT_MAX, RootError, RootFile, Slot},
    store::{FileStore, KEYRING, KEYRING_PREV, LEDGER, MARK},
};

use self::ledger::Listed;

pub use self::{
    backup::{Made, back_up},
    change::{Act, BackedUp, ChangeFailed, Changed, Usage, change_keys},
    expect::{Expect, ExpectError},
    init::{InitError, Initialised, Plan, init},
    ledger::{Forget, LedgerRefused, forget_backups, list_backup},
    merge::{MergePlan, Source, plan_merge},
    publisher::{Publisher, Unsealed},
    recovery::{RecoveryAct, change_recovery},
    rekey::{Rekeyed, rekey},
    restore::{FreshBackup, NeededKey, RestoreFailed, RestorePlan, RestoredKeyring, restore},
    serving::Serving,
    slots::{SlotAct, SlotsChanged, change_slots, slots, test_slots},
    snapshot::{Published, ServingKey, Snapshot},
};

/// How often files that change while they are read are read.
const ATTEMPTS: usize = 10;

/// What a state directory holds, opened and checked.
#[derive(Debug)]
pub struct Opened {
    /// The keys.
    pub keyring: Keyring,
    /// The SHA-256 of the record.
    pub digest: Digest,
    /// How the root key is sealed.
    pub slots: Vec<SlotSummary>,
    /// How the record stands to the mark; none without a mark.
    pub standing: Option<Standing>,
    /// What the record is under: the current root key, or an earlier one while a rekey is under way.
    root: Arc<RootKey>,
    current: Arc<RootKey>,
    root_file: RootFile,
    marked_under: Option<RootId>,
    mark: Option<Mark>,
    listed: Listed,
}

impl Opened {
    /// Whether a rekey is under way: the root file has the new root key, and the record or the mark has not.
    pub fn is_being_rekeyed(&self) -> bool {
        !self.is_record_current() || self.marked_under.is_some_and(|root_id| root_id != self.keyring.root_id())
    }

    /// Whether the keyring was restored or merged, and no rotation to a new key was done since.
    pub fn wants_rotation(&self) -> bool {
        self.mark.as_ref().is_some_and(|mark| mark.clone().after(Some(mark), &self.keyring).wants_rotation())
    }

    /// The mark of this keyring as it goes on from what was marked before.
    fn next_mark(&self, keyring: &Keyring, digest: Digest) -> Mark {
        Mark::of(keyring, digest, self.listed.count()).after(self.mark.as_ref(), keyring)
    }

    /// Opened with the root key that `before` had of a slot: it is still that slot that opened.
    fn after(mut self, before: &Self) -> Self {
        if self.slots.iter().all(|slot| !slot.opened) {
            let opened = |name: &str| before.slots.iter().any(|slot| slot.opened && slot.name == name);
            self.slots.iter_mut().for_each(|slot| slot.opened = opened(&slot.name));
        }
        self
    }

    fn is_record_current(&self) -> bool {
        self.root_file.is_under(&self.root)
    }
}

/// A slot, without anything secret.
#[derive(Debug, Clone)]
pub struct SlotSummary {
    /// Its name.
    pub name: String,
    /// What seals it.
    pub kind: Kind,
    /// Whether it is the one that opened; none is where the root key was known already.
    pub opened: bool,
}

/// Why a state directory did not open.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Nothing was ever set up here.
    #[error("{} holds no keyring", .0.display())]
    NotInitialised(PathBuf),
    /// A set-up was begun here and did not finish.
    #[error("{} holds an unfinished set-up: there is a root file and no keyring", .0.display())]
    Unfinished(PathBuf),
    /// The state directory itself.
    #[error(transparent)]
    StateDir(DurableError),
    /// A file that belongs here is gone.
    #[error("{} is missing beside the other files of the keyring", .0.display())]
    Missing(PathBuf),
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] DurableError),
    /// The root file.
    #[error("root file {}: {source}", path.display())]
    Root {
        /// Where it is.
        path: PathBuf,
        /// What is wrong.
        source: RootError,
    },
    /// The record.
    #[error("keyring {}: {source}", path.display())]
    Record {
        /// Where it is.
        path: PathBuf,
        /// What is wrong.
        source: RecordError,
    },
    /// The mark, or the record as the mark sees it.
    #[error("mark {}: {source}", path.display())]
    Mark {
        /// Where it is.
        path: PathBuf,
        /// What is wrong.
        source: MarkError,
    },
    /// The record is not the expected one.
    #[error(transparent)]
    Expect(#[from] ExpectError),
    /// The record that counts is in etcd, and the file is a copy of it.
    #[error("the keyring's home is etcd, below {0}; this build serves a keyring file only")]
    HomeInEtcd(String),
    /// No locked memory.
    #[error(transparent)]
    Memory(#[from] SecretError),
}

/// The directories outside of the state directory in which its root file looks for key files. None if it cannot be read:
/// opening it will say why.
pub fn key_directories(state_dir: &Path) -> Vec<PathBuf> {
    let read = || {
        let dir = Dir::open(state_dir, Privacy::Private).ok()?;
        RootFile::parse(&dir.read(ROOT_FILE, ROOT_MAX).ok()?).ok()
    };
    let slots = read().into_iter().flat_map(|root| root.slots().to_vec());
    slots.filter_map(|slot| Some(Path::new(slot.parameter("path")?).parent()?.to_owned())).collect()
}

/// Opens the keyring in `dir` by `means` and changes nothing.
///
/// # Errors
/// When a file is missing, damaged or another installation's, no slot opens, or the record was rolled back or forked.
pub fn open(dir: &Dir, means: &Means) -> Result<Opened, OpenError> {
    open_with(dir, means, None, None)
}

/// The same again, with the root key that is known from before if it still is the root key.
///
/// # Errors
/// As [`open`].
pub fn open_again(dir: &Dir, means: &Means, before: &Opened) -> Result<Opened, OpenError> {
    Ok(open_with(dir, means, Some(&before.current), None)?.after(before))
}

/// As [`open`]; a root key that is `known` already needs no slot. A record that `expect` names exactly may be further ahead of the
/// mark than its past reaches.
///
/// The files are read one after the other, and without the lock a command may change them in between: if the files do not match
/// each other and have changed meanwhile, they are read again.
fn open_with(
    dir: &Dir,
    means: &Means,
    known: Option<&Arc<RootKey>>,
    expect: Option<&Expect>,
) -> Result<Opened, OpenError> {
    let versions = || [ROOT_FILE, KEYRING, LEDGER, MARK].map(|name| version(&dir.path_of(name)));
    for _ in 1..ATTEMPTS {
        let before = versions();
        let outcome = open_once(dir, means, known, expect);
        if outcome.as_ref().is_ok_and(|opened| opened.last_backup().is_ok()) || versions() == before {
            return outcome;
        }
    }
    open_once(dir, means, known, expect)
}

fn open_once(
    dir: &Dir,
    means: &Means,
    known: Option<&Arc<RootKey>>,
    expect: Option<&Expect>,
) -> Result<Opened, OpenError> {
    let roots = Roots::open(dir, means, known)?;
    let uuid = roots.file.uuid();
    let store = FileStore::new(dir, RECORD_MAX);
    let record_error = |source| OpenError::Record { path: dir.path_of(KEYRING), source };
    let mark_error = |source| OpenError::Mark { path: dir.path_of(MARK), source };
    let marked = store.load_mark()?;
    let marked_under = marked.as_deref().map(|bytes| Mark::root_id(bytes)).transpose();
    let marked_under = marked_under.map_err(|error| mark_error(error.into()))?;
    let bytes = store.load()?.ok_or_else(|| missing_record(dir))?;
    let root = match marked_under {
        // An earlier root key counts while a rekey is under way, and not once the mark names the current one: whoever
        // kept a revoked root key could make a record.
        Some(marked_under) if marked_under != roots.current.id(uuid) => {
            roots.key(record::root_id(&bytes).map_err(|error| record_error(error.into()))?, dir)?
        }
        _ => Arc::clone(&roots.current),
    };
    let keyring = record::decode(&bytes, &root, uuid).map_err(record_error)?;
    let digest = Digest::of(&bytes);
    let mark_root = marked_under.map(|root_id| roots.key(root_id, dir)).transpose()?;
    let mark = marked.zip(mark_root).map(|(bytes, root)| Mark::decode(&bytes, &root, uuid));
    let mark = mark.transpose().map_err(mark_error)?;
    let is_named = expect.is_some_and(|expect| expect.is(&keyring, digest));
    let standing = mark.as_ref().map(|mark| mark.check(&keyring, digest, is_named));
    let standing = standing.transpose().map_err(mark_error)?;
    // After the mark, as it is written before it.
    let listed = Listed::read(dir, &roots, mark.as_ref(), marked_under)?;
    let Roots { file, current, slots } = roots;
    Ok(Opened { keyring, digest, slots, standing, root, current, root_file: file, marked_under, mark, listed })
}

/// Opens the keyring in `dir` to change it, and holds the lock from then on.
fn open_to_change(dir: &Dir, means: &Means) -> Result<(Opened, Lock), ChangeFailed> {
    // Before the lock: somebody may have to be asked for a passphrase.
    let before = open(dir, means)?;
    let lock = dir.lock()?;
    let opened = open_again(dir, means, &before)?;
    if opened.is_being_rekeyed() { Err(ChangeFailed::Rekeying) } else { Ok((opened, lock)) }
}

/// What a daemon serves already.
#[derive(Debug, Clone, Copy, Default)]
struct Served<'a> {
    /// The current root key, which needs no slot; none before the first keyring is served.
    root: Option<&'a Arc<RootKey>>,
    /// What the record is under: an earlier root key while a rekey is under way.
    under: Option<&'a Arc<RootKey>>,
    /// The record that is served, as a mark would name it.
    last: Option<&'a Mark>,
}

impl Served<'_> {
    /// Makes sure that `opened` follows from what is served. The files on the disk prove nothing here: a stranger's files match each
    /// other, under a root key of the stranger's. Only someone who has the served root key can list it as an earlier one.
    fn check(self, dir: &Dir, opened: &Opened) -> Result<(), OpenError> {
        let standing = self.last.map(|last| last.check(&opened.keyring, opened.digest, false)).transpose();
        standing.map_err(|source| OpenError::Mark { path: dir.path_of(MARK), source })?;
        let (file, uuid) = (&opened.root_file, opened.keyring.uuid());
        if let Some(root) = self.under.filter(|root| !file.is_under(root)) {
            let earlier = file.old(root.id(uuid), &opened.current).map_err(|error| root_error(dir, error))?;
            earlier.ok_or_else(|| root_error(dir, RootError::NoSuccessor))?;
        }
        Ok(())
    }
}

/// Opens the keyring in `dir` to serve from it: what is served was marked first, and nothing is marked that is not to be served.
///
/// # Errors
/// As [`open`]; when the record is not the one that `expect` names, nor a successor on a node that has a mark; when it does not
/// follow from what is `served`; when its home is etcd; or when the mark cannot be written.
fn open_to_serve(dir: &Dir, means: &Means, served: Served<'_>, expect: Option<&Expect>) -> Result<Opened, OpenError> {
    let opened = open_expected(dir, means, served.root, expect)?;
    served.check(dir, &opened)?;
    if opened.standing == Some(Standing::Current) {
        return Ok(opened);
    }
    let _lock = dir.lock()?;
    // Read again: what was seen before the lock may have changed.
    let opened = open_expected(dir, means, Some(&opened.current), expect)?.after(&opened);
    served.check(dir, &opened)?;
    advance_mark(dir, &opened)?;
    Ok(opened)
}

/// Marks the record that was opened. Who wrote it may have died before it was on the disk. The caller holds the lock.
fn advance_mark(dir: &Dir, opened: &Opened) -> Result<(), OpenError> {
    let store = FileStore::new(dir, RECORD_MAX);
    store.sync()?;
    opened.carry_ledger(dir)?;
    let mark = opened.next_mark(&opened.keyring, opened.digest);
    Ok(store.save_mark(&mark.encode(&opened.root)?)?)
}

fn open_expected(
    dir: &Dir,
    means: &Means,
    known: Option<&Arc<RootKey>>,
    expect: Option<&Expect>,
) -> Result<Opened, OpenError> {
    let opened = open_with(dir, means, known, expect)?;
    if let Home::Etcd(prefix) = opened.keyring.home() {
        return Err(OpenError::HomeInEtcd(prefix.clone()));
    }
    match (expect, opened.standing) {
        (Some(expect), Some(_)) => expect.check(&opened.keyring, opened.digest)?,
        // Nothing here tells a successor from a forged record but the operator's word.
        (Some(expect), None) => expect.check_exactly(&opened.keyring, opened.digest)?,
        (None, _) => {}
    }
    Ok(opened)
}

/// The root file, opened.
struct Roots {
    file: RootFile,
    current: Arc<RootKey>,
    slots: Vec<SlotSummary>,
}

impl Roots {
    fn open(dir: &Dir, means: &Means, known: Option<&Arc<RootKey>>) -> Result<Self, OpenError> {
        let file = read_root(dir)?;
        let (current, opened) = if let Some(root) = known.filter(|root| file.is_under(root)) {
            file.check(root).map_err(|error| root_error(dir, error))?;
            (Arc::clone(root), None)
        } else {
            let (root, slot) = file.unseal(dir, means).map_err(|error| root_error(dir, error))?;
            (Arc::new(root), Some(slot.name()))
        };
        let summary = |slot: &Slot| SlotSummary {
            name: slot.name().to_owned(),
            kind: slot.kind(),
            opened: Some(slot.name()) == opened,
        };
        let slots = file.slots().iter().map(summary).collect();
        Ok(Self { file, current, slots })
    }

    /// The root key of this name: an earlier one, or else the current one, which does not fit what names a stranger's.
    fn key(&self, root_id: RootId, dir: &Dir) -> Result<Arc<RootKey>, OpenError> {
        let earlier = self.file.old(root_id, &self.current).map_err(|error| root_error(dir, error))?;
        Ok(earlier.map_or_else(|| Arc::clone(&self.current), Arc::new))
    }
}

/// The root file as it stands there.
fn read_root(dir: &Dir) -> Result<RootFile, OpenError> {
    let bytes = dir.read(ROOT_FILE, ROOT_MAX).map_err(|error| match error {
        DurableError::Missing(_) => missing_root(dir),
        error => error.into(),
    })?;
    RootFile::parse(&bytes).map_err(|error| root_error(dir, error.into()))
}

fn root_error(dir: &Dir, source: RootError) -> OpenError {
    OpenError::Root { path: dir.path_of(ROOT_FILE), source }
}

fn missing_root(dir: &Dir) -> OpenError {
    match is_set_up(dir) {
        Ok(true) => OpenError::Missing(dir.path_of(ROOT_FILE)),
        Ok(false) => OpenError::NotInitialised(dir.path().to_owned()),
        Err(error) => error.into(),
    }
}

fn missing_record(dir: &Dir) -> OpenError {
    match is_set_up(dir) {
        Ok(true) => OpenError::Missing(dir.path_of(KEYRING)),
        Ok(false) => OpenError::Unfinished(dir.path().to_owned()),
        Err(error) => error.into(),
    }
}

/// Whether a keyring was ever finished here: whatever only a finished one leaves behind says so.
///
/// # Errors
/// When the directory or its audit log cannot be read.
pub fn is_set_up(dir: &Dir) -> Result<bool, DurableError> {
    for name in [KEYRING, KEYRING_PREV, MARK, LEDGER] {
        if dir.contains(name)? {
            return Ok(true);
        }
    }
    audit::tells_of_a_keyring(dir)
}
