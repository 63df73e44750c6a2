//! Sets up a state directory: writes key file, root file, record, ledger and mark, in this order. Each is durable
//! before the next one is written, and none of them may exist.
//!
//! A crash before the record is written leaves a root file or key files without a keyring. This is an unfinished
//! set-up, and nothing depends on it yet. A restore, or an init with `--restart`, moves these files together into
//! a new directory and begins again. It overwrites nothing.

use std::path::PathBuf;

use rand::rngs::SysRng;

use super::{
    commit::{
        Commit, CommitError, EncodeRecordError, Export, Followers, KeyFile, Limit, NewRecord, NewRoot, PrevCopy, Swap,
        keyring_event,
    },
    error::OpenError,
    open::open,
    state_dir::StateFiles,
};
use crate::{
    audit::Event,
    crypto::{
        Digest, Uuid,
        root_key::{RootKey, RootKeys},
    },
    durable::{Dir, DurableError, Lock},
    escrow::{Identities, OpenRecoveryError, Recipient, SealRecoveryError, recovery},
    keyring::{KeyError, Keyring, ledger::Ledger, mark::Mark, recovery::Recovery, time::Time},
    memory::{RandomError, SecretError, fill_random},
    root::{FileSlot, Means, RootFile, RootIn, Sealer, Slot, SlotError, key_file_name},
    store::StoreError,
};

/// The name of the slot that a set-up makes.
const SLOT: &str = "file";

/// Returns the name of the file in the state directory that has the secret of that slot.
pub fn first_key_file() -> String {
    key_file_name(SLOT)
}

/// The wishes of an operator for a set-up.
pub struct InitRequest {
    /// The recovery recipients, and the identities that prove that the root key can be recovered. `None` with
    /// `--without-recovery`.
    pub recovery: Option<(Vec<Recipient>, Identities)>,
    /// The path of the slot's key file. `None` means the state directory.
    pub slot_file: Option<PathBuf>,
    /// `--restart`: whether the files of an unfinished set-up are moved aside.
    pub restart: bool,
    /// The current time, which the record contains.
    pub now: Time,
}

/// The result of a set-up.
#[derive(Debug)]
pub struct Initialised {
    /// The keyring that was made.
    pub keyring: Keyring,
    /// The SHA-256 of the keyring's record.
    pub digest: Digest,
    /// The directory to which the files of an unfinished set-up were moved.
    pub moved_aside: Option<PathBuf>,
}

/// Why a new keyring could not be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InitError {
    /// An earlier set-up did not finish.
    #[error("{} holds an unfinished set-up", .0.display())]
    Unfinished(PathBuf),
    /// The root key could not be sealed to a recovery recipient.
    #[error(transparent)]
    Seal(#[from] SealRecoveryError),
    /// No identity opened a recovery blob.
    #[error(transparent)]
    Untried(#[from] OpenRecoveryError),
    /// The first key of the keyring could not be made.
    #[error(transparent)]
    Keyring(#[from] KeyError),
    /// The recovery blobs make the record too long, or it does not read back.
    #[error(transparent)]
    Record(EncodeRecordError),
    /// No memory could be locked for a key.
    #[error(transparent)]
    Memory(#[from] SecretError),
    /// The random source of the system failed.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// The directory could not be set up.
    #[error(transparent)]
    SetUp(#[from] SetUpError),
}

/// Why a directory could not be set up with a keyring.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SetUpError {
    /// The directory has a keyring, or files that only a finished keyring leaves.
    #[error("{} already holds a keyring, or what is left of one", .0.display())]
    Exists(PathBuf),
    /// A file could not be read, or exists and must not. Nothing was written.
    #[error(transparent)]
    File(#[from] DurableError),
    /// The set-up failed, and the directory contains no file of it.
    #[error(transparent)]
    NotBegun(CommitError),
    /// The set-up failed, and has left files in the directory. There is no keyring yet.
    #[error("the set-up broke off: {0}")]
    BrokenOff(#[source] CommitError),
    /// The record may have been written, and may still be lost in a crash.
    #[error("the keyring was written, but may not be on the disk yet: {0}")]
    NotConfirmed(#[source] StoreError),
    /// The record was written. A file that has to follow it was not.
    #[error("the keyring was written, but not marked: {0}")]
    NotMarked(#[source] DurableError),
    /// All files were written, and the keyring does not open.
    #[error("the keyring was written, but does not open: {0}")]
    DoesNotOpen(#[source] Box<OpenError>),
    /// The slot could not seal the root key.
    #[error("slot {SLOT}: {0}")]
    Slot(#[from] SlotError),
    /// No memory could be locked for a key.
    #[error(transparent)]
    Memory(#[from] SecretError),
}

/// Sets up `dir`.
///
/// # Errors
/// When the directory has a keyring, no identity opens a recovery blob, or a file cannot be written. After a failed
/// write, a set-up with `restart` begins again.
pub fn init(dir: &Dir, plan: &InitRequest) -> Result<Initialised, InitError> {
    let files = Files::make(plan)?;
    let begun = BegunSetUp::lock(dir)?;
    if !begun.leftovers.is_empty() && !plan.restart {
        return Err(InitError::Unfinished(dir.path().to_owned()));
    }
    let event = Event::Init(keyring_event(&files.keyring));
    Ok(files.set_up(begun, event, None)?)
}

/// A directory without a keyring, and its lock.
pub(super) struct BegunSetUp<'d> {
    state: StateFiles<'d>,
    _lock: Lock,
    /// The files of an unfinished set-up, which the set-up moves aside.
    leftovers: Vec<String>,
}

impl<'d> BegunSetUp<'d> {
    /// Takes the lock, and makes sure that the directory has no keyring.
    pub(super) fn lock(dir: &'d Dir) -> Result<Self, SetUpError> {
        let state = StateFiles::new(dir);
        let lock = state.lock()?;
        if state.is_set_up()? {
            return Err(SetUpError::Exists(dir.path().to_owned()));
        }
        Ok(Self { state, _lock: lock, leftovers: state.leftovers()? })
    }
}

/// The keyring and the root keys that the files will contain.
pub(super) struct Contents {
    pub(super) keyring: Keyring,
    pub(super) record: NewRecord,
    pub(super) ledger: Option<Ledger>,
    /// Whether the keyring comes from a backup.
    pub(super) is_restored: bool,
}

/// The bytes of every file of a set-up, made before the first file is written.
pub(super) struct Files {
    slot: FileSlot,
    root: Vec<u8>,
    record: NewRecord,
    ledger: Option<Vec<u8>>,
    mark: Vec<u8>,
    keyring: Keyring,
}

impl Files {
    fn make(plan: &InitRequest) -> Result<Self, InitError> {
        let rng = &mut SysRng;
        let mut uuid = Uuid([0; 16]);
        fill_random(rng, &mut uuid.0)?;
        let root = RootKey::generate(rng)?;
        let recoveries = seal_recoveries(plan, uuid, &root)?;
        let keyring = Keyring::create(rng, &root, uuid, recoveries, plan.now)?;
        let record = NewRecord::encode(&keyring, &root, Limit::Whole).map_err(InitError::Record)?;
        let contents = Contents { keyring, record, ledger: None, is_restored: false };
        Ok(Self::of(contents, RootKeys::only(&root), plan.slot_file.clone())?)
    }

    /// Makes the files of a keyring under the given root key, with a new slot.
    pub(super) fn of(
        Contents { keyring, record, ledger, is_restored }: Contents,
        roots: RootKeys<'_>,
        slot_file: Option<PathBuf>,
    ) -> Result<Self, SetUpError> {
        let (rng, uuid) = (&mut SysRng, keyring.uuid());
        let mark = Mark::of(&keyring, record.digest(), ledger.as_ref().map_or(0, Ledger::count));
        let mark = if is_restored { mark.after_restore(&keyring) } else { mark }.encode(roots.current)?;
        let ledger = ledger.map(|ledger| ledger.encode(roots.current)).transpose()?;
        let slot = FileSlot::generate(rng, slot_file)?;
        let sealed = Slot::seal(rng, SLOT, &slot, RootIn { uuid, root: roots.current })?;
        let root = RootFile::encode(rng, uuid, roots, &[sealed])?;
        Ok(Self { slot, root, record, ledger, mark, keyring })
    }

    /// Writes the files, and opens the keyring from the disk, as a daemon does at its start. Before them, it writes
    /// the audit event `event` and the backup `export`.
    pub(super) fn set_up(
        self,
        BegunSetUp { state, _lock, leftovers }: BegunSetUp<'_>,
        event: Event<'_>,
        export: Option<&Export>,
    ) -> Result<Initialised, SetUpError> {
        let dir = state.dir();
        // Checks this first, because a key file outside of the state directory is never moved aside.
        if self.slot.is_elsewhere() {
            self.slot.check_keep(SLOT, dir)?;
        }
        let digest = self.record.digest();
        let commit = Commit {
            set_up: Some(&leftovers),
            backup: export,
            event: Some(event),
            root: Some(NewRoot { bytes: &self.root, key_file: KeyFile::New(SLOT, &self.slot) }),
            swap: Some(Swap { before: None, record: self.record, copy: PrevCopy::Before }),
            followers: Followers::Mark { ledger: self.ledger, mark: self.mark },
            ..Commit::default()
        };
        let committed = commit.run(state, &mut state.store()).map_err(|error| broken_off(state, error))?;
        open(dir, &Means::default()).map_err(|error| SetUpError::DoesNotOpen(Box::new(error)))?;
        Ok(Initialised { keyring: self.keyring, digest, moved_aside: committed.aside })
    }
}

/// Returns the error that says which files the set-up has written.
fn broken_off(state: StateFiles<'_>, error: CommitError) -> SetUpError {
    let is_set_up = state.is_set_up().unwrap_or(true);
    let is_begun = state.leftovers().map_or(true, |leftovers| !leftovers.is_empty());
    match error {
        CommitError::NotMarked(error) => SetUpError::NotMarked(error),
        CommitError::NotConfirmed(failed) => SetUpError::NotConfirmed(failed),
        CommitError::InDoubt { failed, .. } if is_set_up => SetUpError::NotConfirmed(failed),
        error if is_begun => SetUpError::BrokenOff(error),
        error => SetUpError::NotBegun(error),
    }
}

/// Seals the root key to every recipient, and opens each blob again with an identity, because an identity that was
/// never tried may not work.
fn seal_recoveries(plan: &InitRequest, uuid: Uuid, root: &RootKey) -> Result<Vec<Recovery>, InitError> {
    let Some((recipients, identities)) = &plan.recovery else {
        return Ok(Vec::new());
    };
    let root_id = root.id(uuid);
    let seal = |recipient: &Recipient| {
        let sealed = recovery::seal(recipient, uuid, root)?;
        recovery::open(&sealed, identities, uuid, root_id)?;
        Ok(sealed)
    };
    recipients.iter().map(seal).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        durable,
        escrow::testing::identity,
        keeper::testing::{opened, set_up, set_up_recoverable},
        keyring::testing::now,
    };

    fn plan(restart: bool) -> InitRequest {
        InitRequest { recovery: None, slot_file: None, restart, now: now() }
    }

    #[test]
    fn the_first_slot_has_its_secret_in_a_file_of_the_directory() {
        let (_keep, dir) = set_up();
        assert!(dir.contains(&first_key_file()).unwrap());
        assert_eq!(opened(&dir).slots.iter().map(|slot| slot.name.as_str()).collect::<Vec<_>>(), [SLOT]);
        std::fs::remove_file(dir.path_of(&first_key_file())).unwrap();
        open(&dir, &Means::default()).unwrap_err();
    }

    #[test]
    fn the_audit_log_begins_with_the_set_up() {
        let (_keep, dir) = set_up();
        let log = std::fs::read_to_string(dir.path_of("audit.jsonl")).unwrap();
        let line: serde_json::Value = serde_json::from_str(log.lines().next().unwrap()).unwrap();
        assert_eq!(line["event"], "init");
        assert_eq!(line["keyring"], opened(&dir).keyring.uuid().to_hex());
        assert_eq!(line["generation"], 1);
    }

    #[test]
    fn only_files_of_a_set_up_are_moved_aside_and_only_on_request() {
        let (_keep, dir) = durable::testing::private();
        for name in ["root", "slot-file.key", "notes"] {
            dir.create(name, b"half").unwrap();
        }
        let refused = init(&dir, &plan(false)).unwrap_err().to_string();
        assert_eq!(refused, format!("{} holds an unfinished set-up", dir.path().display()));
        let aside = init(&dir, &plan(true)).unwrap().moved_aside.unwrap();
        assert_eq!(aside, dir.path_of("unfinished-1"));
        for name in ["root", "slot-file.key"] {
            assert_eq!(std::fs::read(aside.join(name)).unwrap(), b"half");
        }
        assert_eq!(std::fs::read(dir.path_of("notes")).unwrap(), b"half");
        let refused = init(&dir, &plan(true)).unwrap_err().to_string();
        assert_eq!(refused, format!("{} already holds a keyring, or what is left of one", dir.path().display()));
    }

    #[test]
    fn every_recovery_recipient_is_tried_before_anything_is_written() {
        let (_keep, dir, recipient, identities) = set_up_recoverable();
        let opened = opened(&dir);
        let [recovery] = opened.keyring.recoveries() else { panic!("one recipient") };
        assert_eq!(recovery.recipient(), recipient.to_string());
        assert!(opened.recovers(recovery, &identities) && !opened.recovers(recovery, &identity().1));

        let (_keep, dir) = durable::testing::private();
        let (recipients, identities) = (vec![recipient, identity().0], identities);
        let untried = recipients[1].to_string();
        let refused = init(&dir, &InitRequest { recovery: Some((recipients, identities)), ..plan(false) }).unwrap_err();
        assert_eq!(refused.to_string(), format!("no given identity opens the recovery blob for {untried}"));
        assert!(dir.names().unwrap().is_empty());
    }

    #[test]
    fn a_set_up_whose_last_answer_got_lost_says_what_is_in_the_directory() {
        let doubt = || {
            let error = || StoreError::File(DurableError::Missing("store".into()));
            CommitError::InDoubt { failed: error(), unread: Box::new(error()) }
        };
        let (_keep, dir) = durable::testing::private();
        assert!(matches!(broken_off(StateFiles::new(&dir), doubt()), SetUpError::NotBegun(_)));
        dir.create("root", b"half").unwrap();
        assert!(matches!(broken_off(StateFiles::new(&dir), doubt()), SetUpError::BrokenOff(_)));
        let (_keep, dir) = set_up();
        assert!(matches!(broken_off(StateFiles::new(&dir), doubt()), SetUpError::NotConfirmed(_)));
    }
}
