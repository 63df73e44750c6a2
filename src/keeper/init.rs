//! The first set-up: slot file, root file, keyring, ledger, mark, each durable and only if absent.
//!
//! A crash in between leaves a root or slot file without a keyring: an unfinished init, which nothing depends on yet. It
//! is moved aside whole and begun again, never overwritten.

use std::path::PathBuf;

use rand::rngs::SysRng;

use crate::{
    audit::{self, Event},
    crypto::{Digest, RandomError, Uuid, fill_random, kdf::RootKey, secret::SecretError},
    durable::{Dir, DurableError, export},
    escrow::{Identities, Recipient, RecoveryError, recovery},
    keyring::{
        KeyError, Keyring,
        ledger::{Ledger, ListedBackup},
        mark::Mark,
        record::{self, RECORD_MAX, RecordError},
        recovery::Recovery,
        time::Time,
    },
    root::{FileSlot, Means, ROOT_FILE, RootError, RootFile, Sealer, Slot, SlotError},
    store::{FileStore, LEDGER},
};

use super::OpenError;

/// The name of the slot that a first set-up makes.
const SLOT: &str = "file";
/// Where an unfinished init is moved: `unfinished-<n>`.
const ASIDE: &str = "unfinished";

/// What to set up.
pub struct Plan {
    /// Who can recover the root key, with the identities that prove it; none with `--without-recovery`.
    pub recovery: Option<(Vec<Recipient>, Identities)>,
    /// Where the slot's key file goes; the state directory if none.
    pub slot_file: Option<PathBuf>,
    /// Whether an unfinished init is moved aside.
    pub restart: bool,
    /// The time that the record tells.
    pub now: Time,
}

/// What was set up.
#[derive(Debug)]
pub struct Initialised {
    /// The keyring.
    pub keyring: Keyring,
    /// The SHA-256 of its record.
    pub digest: Digest,
    /// Where an unfinished init was moved to.
    pub moved_aside: Option<PathBuf>,
}

/// Why nothing was set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InitError {
    /// There is a keyring, or what remains of one.
    #[error("{} already holds a keyring, or what is left of one", .0.display())]
    Exists(PathBuf),
    /// An earlier init did not finish.
    #[error("{} holds an unfinished set-up", .0.display())]
    Unfinished(PathBuf),
    /// A file could not be read, or is in the way; nothing was written.
    #[error(transparent)]
    File(#[from] DurableError),
    /// The first file could not be written, and nothing remains of it.
    #[error(transparent)]
    NotBegun(Box<OpenError>),
    /// A later file could not be written; no keyring was.
    #[error("the set-up broke off: {0}")]
    BrokenOff(Box<OpenError>),
    /// The keyring was written, and what followed failed.
    #[error("the keyring was written, but: {0}")]
    Unchecked(Box<OpenError>),
    /// A recovery blob could not be made, or was not opened by the identity.
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
    /// The slot could not be made.
    #[error("slot {SLOT}: {0}")]
    Slot(#[from] SlotError),
    /// The record that was made does not read back: a defect of this build.
    #[error("the new keyring {0}")]
    Record(#[from] RecordError),
    /// The root file could not be made.
    #[error("root file: {0}")]
    Root(#[from] RootError),
    /// No keyring could be made.
    #[error(transparent)]
    Keyring(#[from] KeyError),
    /// No locked memory.
    #[error(transparent)]
    Memory(#[from] SecretError),
    /// No random bytes.
    #[error(transparent)]
    Random(#[from] RandomError),
}

/// Sets up `dir`.
///
/// # Errors
/// When a keyring is there, an identity does not open its recovery blob, or a file cannot be written. Before the first
/// write nothing has changed; after it, `restart` begins again.
pub fn init(dir: &Dir, plan: &Plan) -> Result<Initialised, InitError> {
    Files::make(plan)?.set_up(dir, &SetUp { restart: plan.restart, event: None, export: None })
}

/// How a set-up begins.
pub(super) struct SetUp<'a> {
    /// Whether an unfinished one is moved aside.
    pub(super) restart: bool,
    /// What is put on the audit record before it.
    pub(super) event: Option<Event<'a>>,
    /// A backup that has to be there before it.
    pub(super) export: Option<&'a Export>,
}

/// A backup of what is about to be set up or merged.
pub(super) struct Export {
    /// Where it goes.
    pub(super) file: PathBuf,
    /// The age file.
    pub(super) bytes: Vec<u8>,
    /// What the ledger says of it, if it counts.
    pub(super) listed: Option<ListedBackup>,
}

/// What the files hold.
pub(super) struct Contents {
    pub(super) keyring: Keyring,
    /// Its bytes.
    pub(super) record: Vec<u8>,
    pub(super) ledger: Option<Ledger>,
    /// Whether it comes out of a backup.
    pub(super) is_restored: bool,
}

/// All that is to be written, before any of it is.
pub(super) struct Files {
    slot: FileSlot,
    root: Vec<u8>,
    record: Vec<u8>,
    ledger: Option<Vec<u8>>,
    mark: Vec<u8>,
    keyring: Keyring,
    digest: Digest,
}

impl Files {
    fn make(plan: &Plan) -> Result<Self, InitError> {
        let rng = &mut SysRng;
        let mut uuid = Uuid([0; 16]);
        fill_random(rng, &mut uuid.0)?;
        let root = RootKey::generate(rng)?;
        let recoveries = seal_recoveries(plan, uuid, &root)?;
        let keyring = Keyring::create(rng, &root, uuid, recoveries, plan.now)?;
        let record = record::encode(&keyring, &root)?;
        let contents = Contents { keyring, record, ledger: None, is_restored: false };
        Self::of(contents, (&root, &[]), plan.slot_file.clone())
    }

    /// The files of a keyring under `root`, with a new slot.
    pub(super) fn of(
        Contents { keyring, record, ledger, is_restored }: Contents,
        (root, earlier): (&RootKey, &[RootKey]),
        slot_file: Option<PathBuf>,
    ) -> Result<Self, InitError> {
        let (rng, uuid) = (&mut SysRng, keyring.uuid());
        // What this build would not read again must not be written.
        record::decode(&record, root, uuid)?;
        let digest = Digest::of(&record);
        let mark = Mark::of(&keyring, digest, ledger.as_ref().map_or(0, Ledger::count));
        let mark = if is_restored { mark.after_restore(&keyring) } else { mark }.encode(root)?;
        let ledger = ledger.map(|ledger| ledger.encode(root)).transpose()?;
        let slot = FileSlot::generate(rng, slot_file)?;
        let sealed = Slot::seal(rng, SLOT, &slot, (uuid, root))?;
        let root = RootFile::encode(rng, uuid, (root, earlier), &[sealed])?;
        Ok(Self { slot, root, record, ledger, mark, keyring, digest })
    }

    /// Sets `dir` up with them.
    pub(super) fn set_up(self, dir: &Dir, how: &SetUp<'_>) -> Result<Initialised, InitError> {
        let _lock = dir.lock()?;
        let leftovers = find_leftovers(dir, how.restart)?;
        // Before anything is moved: one that is elsewhere is not ours to move.
        if self.slot.is_elsewhere() {
            self.slot.check_keep(SLOT, dir)?;
        }
        if let Some(Export { file, bytes, .. }) = how.export {
            export(file, bytes)?;
        }
        if let Some(event) = &how.event {
            audit::record(dir, event)?;
        }
        let moved_aside = move_aside(dir, &leftovers)?;
        self.write(dir).map_err(|source| broken_off(dir, source))?;
        Ok(Initialised { keyring: self.keyring, digest: self.digest, moved_aside })
    }

    /// Writes them in their order, and opens them from the disk by every step that a start takes.
    fn write(&self, dir: &Dir) -> Result<(), OpenError> {
        let store = FileStore::new(dir, RECORD_MAX);
        self.slot.keep(SLOT, dir)?;
        dir.create(ROOT_FILE, &self.root)?;
        store.create(&self.record)?;
        if let Some(ledger) = &self.ledger {
            dir.create(LEDGER, ledger)?;
        }
        store.create_mark(&self.mark)?;
        super::open(dir, &Means::default()).map(drop)
    }
}

/// Says how far it came, which decides what is to be done.
fn broken_off(dir: &Dir, source: OpenError) -> InitError {
    let is_set_up = super::is_set_up(dir).unwrap_or(true);
    let is_begun = leftovers(dir).map_or(true, |leftovers| !leftovers.is_empty());
    let source = Box::new(source);
    match (is_set_up, is_begun) {
        (true, _) => InitError::Unchecked(source),
        (false, true) => InitError::BrokenOff(source),
        (false, false) => InitError::NotBegun(source),
    }
}

/// Makes sure that no keyring is in the way, and names what may be moved aside.
fn find_leftovers(dir: &Dir, restart: bool) -> Result<Vec<String>, InitError> {
    if super::is_set_up(dir)? {
        return Err(InitError::Exists(dir.path().to_owned()));
    }
    let leftovers = leftovers(dir)?;
    if leftovers.is_empty() || restart { Ok(leftovers) } else { Err(InitError::Unfinished(dir.path().to_owned())) }
}

fn move_aside(dir: &Dir, leftovers: &[String]) -> Result<Option<PathBuf>, DurableError> {
    if leftovers.is_empty() { Ok(None) } else { dir.move_aside(leftovers, ASIDE).map(Some) }
}

/// What an init that did not finish has left: root and slot files.
fn leftovers(dir: &Dir) -> Result<Vec<String>, DurableError> {
    let is_leftover = |name: &String| name == ROOT_FILE || name.starts_with("slot-");
    Ok(dir.names()?.into_iter().filter(is_leftover).collect())
}

/// Seals the root key to every recipient, and opens each blob again: an identity that was never tried is no recovery.
fn seal_recoveries(plan: &Plan, uuid: Uuid, root: &RootKey) -> Result<Vec<Recovery>, RecoveryError> {
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
