//! Opens the keyring for a daemon, at its start and whenever it is asked to look again, and publishes what it finds.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    error::OpenError,
    expect::Expect,
    open::Opened,
    serve::{ServeError, Served, open_to_serve},
    snapshot::{Published, Snapshot},
    state_dir::{KEYRING, LEDGER, StateFiles},
};
use crate::{
    audit,
    crypto::kdf::RootKey,
    durable::{Dir, DurableError, Privacy, Version, version},
    keyring::mark::{Mark, Standing},
    root::Means,
};

/// From one attempt to take a changed keyring to the next, if it fails.
const RETRY: Duration = Duration::from_secs(10);

/// What a daemon serves from. Invariant: it never goes back to an older record, or on to one that lacks a key which it serves.
#[derive(Debug)]
pub struct Publisher {
    state_dir: PathBuf,
    means: Means,
    /// The record that the operator expects; none after the first one was published.
    expect: Option<Expect>,
    published: Arc<Published>,
    /// What was published last. The mark on the disk may be a twin's: all files of a twin match each other.
    last: Option<Mark>,
    /// Kept for the keyring's next change: a slot may need somebody who is not there then.
    root: Option<Arc<RootKey>>,
    /// What the record is under that was published last: a later root key has to keep it as an earlier one.
    under: Option<Arc<RootKey>>,
    seen: Seen,
}

/// What a publisher saw of the files of record and ledger when it last opened them.
#[derive(Debug, Default)]
struct Seen {
    versions: [Option<Version>; 2],
    /// When it did not open, and why.
    failed: Option<(Instant, String)>,
}

/// What was published.
#[derive(Debug)]
pub struct Unsealed {
    /// How the record stood to the mark; none without a mark.
    pub standing: Option<Standing>,
    /// Whether it had to be a certain record, or one that follows it.
    pub expected: bool,
    /// What names the record: uuid, generation and SHA-256.
    pub expect: Expect,
    /// The keyring's uuid, in hex.
    pub keyring: String,
    /// The keyring's generation.
    pub generation: u64,
    /// The primary key.
    pub key_id: Arc<str>,
    /// Whether a slot was opened for it, or the root key was known from before.
    pub slot_opened: bool,
    /// Whether the event is on the record: a full disk must not take a cluster down, so it was published all the same.
    pub audited: Result<(), DurableError>,
}

impl Publisher {
    /// Will publish the keyring in `state_dir`, if it is what is expected.
    pub fn new(state_dir: PathBuf, means: Means, expect: Option<Expect>, published: Arc<Published>) -> Self {
        Self { state_dir, means, expect, published, last: None, root: None, under: None, seen: Seen::default() }
    }

    /// Opens the keyring and publishes it; none if it is what was published last.
    ///
    /// # Errors
    /// When a file is missing, damaged or another installation's, no slot opens, the record is not an expected one, or the
    /// mark cannot be written; what was published before stays.
    pub fn publish(&mut self) -> Result<Option<Unsealed>, ServeError> {
        // Before it is opened: what changes meanwhile is seen next time.
        self.seen.versions = self.versions();
        let outcome = self.open_and_publish();
        self.seen.failed = outcome.as_ref().err().map(|error| (Instant::now(), error.to_string()));
        self.published.degrade(outcome.as_ref().err().map(ToString::to_string));
        outcome
    }

    /// The same if the file of record or ledger is another one since, or did not open a while ago. The same failure is told once.
    pub fn follow(&mut self) -> Option<Result<Unsealed, ServeError>> {
        self.published.current().as_ref()?;
        let is_due = self.seen.failed.as_ref().is_some_and(|(when, _)| when.elapsed() >= RETRY);
        if !is_due && self.seen.versions == self.versions() {
            return None;
        }
        let told = self.seen.failed.take().map(|(_, error)| error);
        match self.publish() {
            Err(error) if told.is_some_and(|told| told == error.to_string()) => None,
            outcome => outcome.transpose(),
        }
    }

    fn versions(&self) -> [Option<Version>; 2] {
        [KEYRING, LEDGER].map(|name| version(&self.state_dir.join(name)))
    }

    fn open_and_publish(&mut self) -> Result<Option<Unsealed>, ServeError> {
        let dir = Dir::open(&self.state_dir, Privacy::Private).map_err(OpenError::StateDir)?;
        let served = Served { root: self.root.as_ref(), under: self.under.as_ref(), last: self.last.as_ref() };
        let opened = open_to_serve(StateFiles::new(&dir), &self.means, served, self.expect.as_ref())?;
        let is_same = self.last.as_ref().is_some_and(|last| last.record() == opened.digest);
        self.root = Some(Arc::clone(&opened.current));
        self.under = Some(Arc::clone(&opened.root));
        // The root key is known from here on: a passphrase that somebody typed need not be.
        self.means.forget();
        let unbacked = opened.unbacked().len();
        let snapshot = Snapshot::after(self.published.current().as_deref(), &opened.keyring, unbacked);
        if is_same {
            // The same keys; what is known of their backups may be more.
            self.published.publish(snapshot);
            return Ok(None);
        }
        let key_id = Arc::clone(&snapshot.primary().id);
        let slot = opened.slots.iter().find(|slot| slot.opened);
        let audited = slot.map_or(Ok(()), |slot| audit::record(&dir, &unseal_event(&opened, &slot.name, &key_id)));
        let unsealed = Unsealed {
            standing: opened.standing,
            expected: self.expect.is_some(),
            expect: Expect::of(&opened.keyring, opened.digest),
            keyring: opened.keyring.uuid().to_hex(),
            generation: snapshot.generation(),
            key_id,
            slot_opened: slot.is_some(),
            audited,
        };
        self.expect = None;
        self.last = Some(Mark::of(&opened.keyring, opened.digest, 0));
        self.published.publish(snapshot);
        Ok(Some(unsealed))
    }
}

fn unseal_event<'a>(opened: &Opened, slot: &'a str, key_id: &'a str) -> audit::Event<'a> {
    audit::Event::Unseal {
        keyring: opened.keyring.uuid().to_hex(),
        generation: opened.keyring.generation(),
        key_id,
        slot,
    }
}
