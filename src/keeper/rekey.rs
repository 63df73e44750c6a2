//! Puts a keyring under a new root key. No key_id changes, no Secret is rewritten, and a running daemon continues to
//! serve.
//!
//! A rekey writes root file, record, ledger and mark, in this order. Each is durable before the next one is written.
//! The new root file contains the earlier root key, so a record under the earlier one still opens. If a rekey breaks
//! off, the next rekey finishes it. Source: `docs/formats.md`, "Files".

use std::sync::Arc;

use rand::rngs::SysRng;

use super::{
    commit::{Commit, CommitError, KeyFile, NewRoot, PrevCopy},
    error::ReadLedgerError,
    open::{BeginError, Opened, open_after, open_with},
    recovery::recoveries_under,
    state_dir::StateFiles,
};
use crate::{
    audit::Event,
    crypto::{RootId, root_key::RootKey},
    durable::Dir,
    escrow::{NotRecipient, SealRecoveryError, recovery::recipients},
    keyring::{Keyring, RewrapError, mark::Standing},
    memory::SecretError,
    root::{Means, ResealError},
};

/// The result of a rekey.
#[derive(Debug)]
pub struct Rekeyed {
    /// The keyring under the new root key.
    pub keyring: Keyring,
    /// Whether this rekey finished an earlier one that was interrupted.
    pub resumed: bool,
}

/// Why a rekey failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RekeyError {
    /// The keyring did not open, or the lock is held. Nothing was changed.
    #[error(transparent)]
    Begin(#[from] BeginError),
    /// The ledger could not be read, so it could not be written again under the new root key. Nothing was changed.
    #[error(transparent)]
    Ledger(#[from] Arc<ReadLedgerError>),
    /// A slot could not be sealed again, or an earlier root key does not open.
    #[error(transparent)]
    Root(#[from] ResealError),
    /// A recovery recipient in the record is not a valid age recipient.
    #[error(transparent)]
    Recipient(#[from] NotRecipient),
    /// The root key could not be sealed to a recovery recipient.
    #[error(transparent)]
    Recovery(#[from] SealRecoveryError),
    /// The keyring does not allow the change.
    #[error(transparent)]
    Refused(#[from] RewrapError),
    /// No memory could be locked for the new root key.
    #[error(transparent)]
    Memory(#[from] SecretError),
    /// A file could not be written. Nothing is under the new root key yet.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The root file has the new root key already, and the record or the mark is not under it yet.
    #[error("the rekey is not finished: {0}")]
    Unfinished(#[source] CommitError),
}

/// Puts the keyring in `dir` under a new root key.
///
/// # Errors
/// When the keyring does not open, the secret of a slot cannot be read, or a file cannot be written. If a rekey broke
/// off, the next one finishes it. The keyring opens meanwhile.
pub fn rekey(dir: &Dir, means: &Means) -> Result<Rekeyed, RekeyError> {
    let state = StateFiles::new(dir);
    // Opens before taking the lock, because the operator may have to type passphrases.
    let before = open_with(state, means, None, None).map_err(BeginError::Open)?;
    let begun = if before.is_being_rekeyed() { None } else { Some(Begun::make(dir, means, &before)?) };
    let _lock = state.lock().map_err(BeginError::Lock)?;
    let opened = open_after(state, means, None, &before).map_err(BeginError::Open)?;
    opened.listed.check_readable()?;
    let resumed = begun.is_none();
    match opened.standing {
        None => return Err(CommitError::NoMark.into()),
        // An earlier change or rekey wrote its record, but not its mark.
        Some(Standing::Ahead) => drop(Commit::mark(&opened)?.run(state, &mut state.store())?),
        Some(Standing::Current) => {}
    }
    if resumed && opened.is_record_current() {
        return Ok(Rekeyed { keyring: opened.keyring, resumed });
    }
    // Everything that the rekey writes later is made before the root file changes. So only a failed write can leave the
    // rekey unfinished.
    let next = resealed(&opened, begun.as_ref().map_or(&opened.current, |begun| &begun.root))?;
    let opened = match begun {
        Some(begun) => begun.write(state, means, &before)?.with_ledger_of(opened),
        None => opened,
    };
    finish(state, opened, &next).map_err(RekeyError::Unfinished)?;
    Ok(Rekeyed { keyring: next, resumed })
}

/// Writes the record, the ledger and the mark under the root key in the root file.
fn finish(state: StateFiles<'_>, opened: Opened, next: &Keyring) -> Result<(), CommitError> {
    let event = event(next, next.root_id());
    let (commit, _) = Commit::change(&opened.under_current(), next, event, PrevCopy::Before)?;
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

    /// Writes the root file and opens the keyring again. The caller holds the lock.
    fn write(self, state: StateFiles<'_>, means: &Means, opened: &Opened) -> Result<Opened, RekeyError> {
        let commit = Commit {
            root_before: Some(opened.root_file.bytes()),
            event: Some(event(&opened.keyring, self.root.id(opened.keyring.uuid()))),
            root: Some(NewRoot { bytes: &self.bytes, key_file: KeyFile::Kept }),
            ..Commit::default()
        };
        commit.run(state, &mut state.store()).map_err(|error| match error {
            CommitError::RootNotConfirmed(_) => RekeyError::Unfinished(error),
            error => error.into(),
        })?;
        let opened = open_with(state, means, Some(&self.root), None);
        opened.map_err(|error| RekeyError::Unfinished(CommitError::DoesNotOpen(Box::new(error))))
    }
}

fn event(keyring: &Keyring, root_id: RootId) -> Event<'static> {
    let (keyring, generation) = (keyring.uuid().to_hex(), keyring.generation());
    Event::Rekey { keyring, generation, root_id: root_id.to_hex() }
}

/// Returns the same keys and recovery recipients under the root key `root`.
fn resealed(opened: &Opened, root: &RootKey) -> Result<Keyring, RekeyError> {
    let Opened { keyring, digest, .. } = opened;
    let recoveries = recoveries_under(keyring, &recipients(keyring.recoveries())?, root)?;
    Ok(keyring.rekey(&mut SysRng, root, recoveries, *digest)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keeper::{
        slots,
        testing::{add_passphrase, events, opened, set_up, slow},
    };

    #[test]
    fn a_slot_that_somebody_adds_meanwhile_is_not_lost() {
        let (_keep, dir) = set_up();
        add_passphrase(&dir, "spoken");
        let before = opened(&dir).keyring.root_id();
        let refused = rekey(&dir, &slow(&dir, |dir| add_passphrase(dir, "third"))).unwrap_err().to_string();
        assert_eq!(refused, format!("{} was changed while this command ran", dir.path_of("root").display()));
        assert_eq!((slots(&dir).unwrap().len(), opened(&dir).keyring.root_id()), (3, before));
    }

    #[test]
    fn the_audit_log_names_the_new_root_key_before_each_of_both_steps() {
        let (_keep, dir) = set_up();
        let rekeyed = rekey(&dir, &Means::default()).unwrap();
        assert!(!rekeyed.resumed);
        let root_id = rekeyed.keyring.root_id().to_hex();
        let found: Vec<_> =
            events(&dir).iter().map(|event| (event["event"].clone(), event["generation"].clone())).collect();
        assert_eq!(found, [("rekey".into(), 1.into()), ("rekey".into(), 2.into())]);
        assert!(events(&dir).iter().all(|event| event["root_id"] == root_id));
        assert_eq!(opened(&dir).keyring.root_id().to_hex(), root_id);
    }
}
