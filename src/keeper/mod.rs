//! Root, store and keyring together: make them, open them, and publish what the serving path reads.
//!
//! Opening is: root file, slot, record, mark, in this order. Invariant: a record is durable before it is marked, and
//! marked before it is published. Source: `docs/formats.md`, "The mark" and "Files".

mod expect;
mod init;
mod publisher;
mod snapshot;

use std::path::{Path, PathBuf};

use crate::{
    crypto::{Digest, kdf::RootKey, secret::SecretError},
    durable::{Dir, DurableError, Privacy},
    keyring::{
        Keyring,
        mark::{Mark, MarkError, Standing},
        record::{self, RECORD_MAX, RecordError},
    },
    root::{Kind, ROOT_FILE, ROOT_MAX, RootError, RootFile},
    store::{FileStore, KEYRING, KEYRING_PREV, MARK},
};

pub use self::{
    expect::{Expect, ExpectError},
    init::{InitError, Initialised, Plan, init},
    publisher::{Publisher, Unsealed},
    snapshot::{Published, ServingKey, Snapshot},
};

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
    root: RootKey,
    ledger: u64,
}

/// A slot, without anything secret.
#[derive(Debug, Clone)]
pub struct SlotSummary {
    /// Its name.
    pub name: String,
    /// What seals it.
    pub kind: Kind,
    /// Whether it is the one that opened.
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
    #[error("{} holds an unfinished init: there is a root file and no keyring", .0.display())]
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

/// Opens the keyring in `dir` and changes nothing.
///
/// # Errors
/// When a file is missing, damaged or another installation's, no slot opens, or the record was rolled back or forked.
pub fn open(dir: &Dir) -> Result<Opened, OpenError> {
    let (root, slots, uuid) = open_root(dir)?;
    let store = FileStore::new(dir, RECORD_MAX);
    let bytes = store.load()?.ok_or_else(|| missing_record(dir))?;
    let keyring = record::decode(&bytes, &root, uuid)
        .map_err(|source| OpenError::Record { path: dir.path_of(KEYRING), source })?;
    let digest = Digest::of(&bytes);
    let mark_error = |source| OpenError::Mark { path: dir.path_of(MARK), source };
    let mark = store.load_mark()?.map(|bytes| Mark::decode(&bytes, &root, uuid)).transpose().map_err(mark_error)?;
    let standing = mark.as_ref().map(|mark| mark.check(&keyring, digest)).transpose().map_err(mark_error)?;
    Ok(Opened { keyring, digest, slots, standing, root, ledger: mark.map_or(0, |mark| mark.ledger()) })
}

/// Opens the keyring in `dir` to serve from it: what is served was marked first.
///
/// # Errors
/// As [`open`]; when the record is not `expect`'s or a later one; or when the mark cannot be written.
pub fn open_to_serve(dir: &Dir, expect: Option<&Expect>) -> Result<Opened, OpenError> {
    let opened = open_expected(dir, expect)?;
    if opened.standing == Some(Standing::Current) {
        return Ok(opened);
    }
    let _lock = dir.lock()?;
    let store = FileStore::new(dir, RECORD_MAX);
    store.sync()?;
    // Read again: what was seen before the lock and before the sync may have changed.
    let opened = open_expected(dir, expect)?;
    let mark = Mark::of(&opened.keyring, opened.digest, opened.ledger);
    store.save_mark(&mark.encode(&opened.root)?)?;
    Ok(opened)
}

fn open_expected(dir: &Dir, expect: Option<&Expect>) -> Result<Opened, OpenError> {
    let opened = open(dir)?;
    if let Some(expect) = expect {
        expect.check(&opened.keyring, opened.digest)?;
    }
    Ok(opened)
}

fn open_root(dir: &Dir) -> Result<(RootKey, Vec<SlotSummary>, crate::crypto::Uuid), OpenError> {
    let root_error = |source: RootError| OpenError::Root { path: dir.path_of(ROOT_FILE), source };
    let bytes = dir.read(ROOT_FILE, ROOT_MAX).map_err(|error| match error {
        DurableError::Missing(_) => missing_root(dir),
        error => error.into(),
    })?;
    let file = RootFile::parse(&bytes).map_err(|error| root_error(error.into()))?;
    let (root, opened) = file.unseal(dir).map_err(root_error)?;
    let summary = |slot: &crate::root::Slot| SlotSummary {
        name: slot.name().to_owned(),
        kind: slot.kind(),
        opened: slot.name() == opened.name(),
    };
    Ok((root, file.slots().iter().map(summary).collect(), file.uuid()))
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

/// Whether an init has ever finished its record here.
fn is_set_up(dir: &Dir) -> Result<bool, DurableError> {
    for name in [KEYRING, KEYRING_PREV, MARK] {
        if dir.contains(name)? {
            return Ok(true);
        }
    }
    Ok(false)
}
