//! A new root key: no key_id changes, no Secret is touched, and a daemon goes on.
//!
//! The order is root file, record, mark, each durable. The root file keeps the root key from before, so that a record under
//! that one still opens: run again, a rekey that broke off goes on where it was. Source: `docs/formats.md`, "Files".

use std::sync::Arc;

use rand::rngs::SysRng;

use super::{
    commit::{Commit, CommitError, Copy, NewRoot},
    open::{BeginError, Opened, open_after, open_with},
    recovery::recoveries_under,
    state_dir::StateFiles,
};
use crate::{
    audit::Event,
    crypto::{RootId, kdf::RootKey, secret::SecretError},
    durable::Dir,
    escrow::RecoveryError,
    keyring::{ChangeError, Keyring, mark::Standing},
    root::{Means, RootError},
};

/// What a rekey has made.
#[derive(Debug)]
pub struct Rekeyed {
    /// The keyring under the new root key.
    pub keyring: Keyring,
    /// Whether it went on with one that had broken off.
    pub resumed: bool,
}

/// Why the keyring is not under a new root key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RekeyError {
    /// The rekey did not begin.
    #[error(transparent)]
    Begin(#[from] BeginError),
    /// A slot could not be sealed anew, or an earlier root key does not open.
    #[error("root file: {0}")]
    Root(#[from] RootError),
    /// The root key could not be sealed to a recovery recipient.
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
    /// The keyring does not allow the change.
    #[error(transparent)]
    Refused(#[from] ChangeError),
    /// No memory could be locked for the new root key.
    #[error(transparent)]
    Memory(#[from] SecretError),
    /// Nothing is under the new root key yet.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The root file has the new root key already, and the record or the mark does not.
    #[error("the rekey is not finished: {0}")]
    Unfinished(#[source] CommitError),
}

/// Puts the keyring in `dir` under a new root key.
///
/// # Errors
/// When the keyring does not open, the secret of a slot is not there, or a file cannot be written; a rekey that broke off
/// goes on when it is run again, and the keyring opens meanwhile.
pub fn rekey(dir: &Dir, means: &Means) -> Result<Rekeyed, RekeyError> {
    let state = StateFiles::new(dir);
    // Before the lock: somebody may have to be asked for passphrases.
    let before = open_with(state, means, None, None).map_err(BeginError::Open)?;
    let begun = if before.is_being_rekeyed() { None } else { Some(Begun::make(dir, means, &before)?) };
    let _lock = state.lock().map_err(BeginError::Lock)?;
    let opened = open_after(state, means, None, &before).and_then(Opened::with_readable_ledger);
    let opened = opened.map_err(BeginError::Open)?;
    let resumed = begun.is_none();
    match opened.standing {
        None => return Err(CommitError::NoMark.into()),
        // Only the mark is missing: of a change that was not marked, or of a rekey.
        Some(Standing::Ahead) => drop(Commit::mark(&opened)?.run(state, &mut state.store())?),
        Some(Standing::Current) => {}
    }
    if resumed && opened.is_record_current() {
        return Ok(Rekeyed { keyring: opened.keyring, resumed });
    }
    let opened = match begun {
        Some(begun) => begun.write(state, means, &before)?,
        None => opened,
    };
    let next = resealed(&opened)?;
    finish(state, opened, &next).map_err(RekeyError::Unfinished)?;
    Ok(Rekeyed { keyring: next, resumed })
}

/// Puts the record under the root key that the root file has.
fn finish(state: StateFiles<'_>, opened: Opened, next: &Keyring) -> Result<(), CommitError> {
    let event = event(next, next.root_id());
    let (commit, _) = Commit::change(&opened.under_current(), next, event, Copy::Before)?;
    commit.run(state, &mut state.store()).map(drop)
}

/// A root file with a new root key, before it is written.
struct Begun {
    root: Arc<RootKey>,
    bytes: Vec<u8>,
}

impl Begun {
    fn make(dir: &Dir, means: &Means, opened: &Opened) -> Result<Self, RekeyError> {
        let root = RootKey::generate(&mut SysRng)?;
        let bytes = opened.root_file.rekey(&mut SysRng, &opened.current, &root, (dir, means))?;
        Ok(Self { root: Arc::new(root), bytes })
    }

    /// Writes the root file, and opens the keyring again. The caller holds the lock.
    fn write(self, state: StateFiles<'_>, means: &Means, opened: &Opened) -> Result<Opened, RekeyError> {
        let commit = Commit {
            root_before: Some(opened.root_file.bytes()),
            event: Some(event(&opened.keyring, self.root.id(opened.keyring.uuid()))),
            root: Some(NewRoot { bytes: &self.bytes, key_file: None }),
            ..Commit::default()
        };
        commit.run(state, &mut state.store()).map_err(|error| match error {
            CommitError::RootNotConfirmed(_) => RekeyError::Unfinished(error),
            error => error.into(),
        })?;
        let opened = open_with(state, means, Some(&self.root), None).and_then(Opened::with_readable_ledger);
        opened.map_err(|error| RekeyError::Unfinished(CommitError::Unchecked(Box::new(error))))
    }
}

fn event(keyring: &Keyring, root_id: RootId) -> Event<'static> {
    let (keyring, generation) = (keyring.uuid().to_hex(), keyring.generation());
    Event::Rekey { keyring, generation, root_id: root_id.to_hex() }
}

/// The same keys and recovery recipients under the current root key.
fn resealed(opened: &Opened) -> Result<Keyring, RekeyError> {
    let Opened { keyring, digest, current, .. } = opened;
    Ok(keyring.rekey(&mut SysRng, current, recoveries_under(keyring, current)?, *digest)?)
}
