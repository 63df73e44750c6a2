//! Changes the recovery recipients in the record.

use super::{
    commit::{Commit, CommitError, PrevCopy},
    open::{BeginError, Opened, open_to_change},
    state_dir::StateFiles,
};
use crate::{
    audit::{Event, RecoveryEvent},
    crypto::root_key::RootKey,
    durable::Dir,
    escrow::{self, Identities, OpenRecoveryError, Recipient, SealRecoveryError},
    keyring::{ChangeRecipientError, Keyring, recovery::Recovery},
    root::Means,
};

/// Whether the last recovery recipient may be removed. Without one, nobody can recover the root key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LastRecipient {
    /// The last recovery recipient is kept.
    Kept,
    /// The last recovery recipient may be removed, because the operator accepts the risk.
    MayGo,
}

/// Why a recovery recipient was not added.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AddRecoveryError {
    /// The keyring did not open, the lock is held, or a rekey is unfinished. Nothing was changed.
    #[error(transparent)]
    Begin(#[from] BeginError),
    /// The root key could not be sealed to the recipient.
    #[error(transparent)]
    Seal(#[from] SealRecoveryError),
    /// The identity did not open the recovery blob.
    #[error(transparent)]
    Untried(#[from] OpenRecoveryError),
    /// The keyring has this recipient already, or the greatest generation.
    #[error(transparent)]
    Refused(#[from] ChangeRecipientError),
    /// Writing the change failed. The error says what was changed.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

/// Why a recovery recipient was not removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RemoveRecoveryError {
    /// The keyring did not open, the lock is held, or a rekey is unfinished. Nothing was changed.
    #[error(transparent)]
    Begin(#[from] BeginError),
    /// The keyring lacks this recipient, or has the greatest generation.
    #[error(transparent)]
    Refused(#[from] ChangeRecipientError),
    /// The recipient is the last one. Without it nobody could recover the root key.
    #[error("{0} is the last recovery recipient, so it is not removed")]
    LastRecipient(String),
    /// Writing the change failed. The error says what was changed.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

/// Adds a recovery recipient to the keyring in `dir`: seals the root key to it, and opens the result with its identity,
/// because an identity that was never tried may not work. Returns the new keyring.
///
/// # Errors
/// When the keyring does not open or has this recipient, the identity does not open the recovery blob, or a file cannot
/// be written.
pub fn add_recovery(
    dir: &Dir,
    means: &Means,
    recipient: &Recipient,
    identities: &Identities,
) -> Result<Keyring, AddRecoveryError> {
    let state = StateFiles::new(dir);
    let (opened, _lock) = open_to_change(state, means)?;
    let Opened { keyring, digest, root, .. } = &opened;
    let recovery = escrow::recovery::seal(recipient, keyring.uuid(), root)?;
    escrow::recovery::open(&recovery, identities, keyring.uuid(), keyring.root_id())?;
    let next = keyring.add_recovery(recovery, *digest)?;
    let event = Event::RecoveryAdd(event(&next, recipient.to_string()));
    commit(state, &opened, &next, event)?;
    Ok(next)
}

/// Removes the recovery recipient `recipient` and its blob from the keyring in `dir`. Returns the new keyring.
///
/// # Errors
/// When the keyring does not open or lacks this recipient, it is the last one, or a file cannot be written.
pub fn remove_recovery(
    dir: &Dir,
    means: &Means,
    recipient: &str,
    last: LastRecipient,
) -> Result<Keyring, RemoveRecoveryError> {
    let state = StateFiles::new(dir);
    let (opened, _lock) = open_to_change(state, means)?;
    let next = opened.keyring.remove_recovery(recipient, opened.digest)?;
    if next.recoveries().is_empty() && last == LastRecipient::Kept {
        return Err(RemoveRecoveryError::LastRecipient(recipient.to_owned()));
    }
    let event = Event::RecoveryRemove(event(&next, recipient.to_owned()));
    commit(state, &opened, &next, event)?;
    Ok(next)
}

fn commit(state: StateFiles<'_>, opened: &Opened, next: &Keyring, event: Event<'_>) -> Result<(), CommitError> {
    let (commit, _) = Commit::change(opened, next, event, PrevCopy::Before)?;
    commit.run(state, &mut state.store()).map(drop)
}

fn event(next: &Keyring, recipient: String) -> RecoveryEvent {
    RecoveryEvent { keyring: next.uuid().to_hex(), generation: next.generation(), recipient }
}

impl Opened {
    /// Whether one of `identities` recovers the root key from `recovery`.
    pub fn recovers(&self, recovery: &Recovery, identities: &Identities) -> bool {
        escrow::recovery::open(recovery, identities, self.keyring.uuid(), self.keyring.root_id()).is_ok()
    }
}

/// Seals `root` to the recovery `recipients` of `keyring`. Returns the recovery blobs.
pub(super) fn recoveries_under(
    keyring: &Keyring,
    recipients: &[Recipient],
    root: &RootKey,
) -> Result<Vec<Recovery>, SealRecoveryError> {
    recipients.iter().map(|recipient| escrow::recovery::seal(recipient, keyring.uuid(), root)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        escrow::testing::identity,
        keeper::{
            rekey,
            testing::{events, opened, set_up_recoverable},
        },
    };

    fn remove(dir: &Dir, recipient: &Recipient, last: LastRecipient) -> Result<Keyring, RemoveRecoveryError> {
        remove_recovery(dir, &Means::default(), &recipient.to_string(), last)
    }

    #[test]
    fn the_last_recipient_stays_unless_the_operator_insists() {
        let (_keep, dir, first, _) = set_up_recoverable();
        let (second, identities) = identity();
        add_recovery(&dir, &Means::default(), &second, &identities).unwrap();
        assert_eq!(remove(&dir, &first, LastRecipient::Kept).unwrap().recoveries().len(), 1);
        let refused = remove(&dir, &second, LastRecipient::Kept).unwrap_err().to_string();
        assert_eq!(refused, format!("{second} is the last recovery recipient, so it is not removed"));
        assert_eq!(opened(&dir).keyring.recoveries().len(), 1);
        assert!(remove(&dir, &second, LastRecipient::MayGo).unwrap().recoveries().is_empty());
        let events = events(&dir).into_iter().map(|event| (event["event"].clone(), event["recipient"].clone()));
        let expected = [("recovery-add", &second), ("recovery-remove", &first), ("recovery-remove", &second)];
        let expected = expected.map(|(event, recipient)| (event.into(), recipient.to_string().into()));
        assert_eq!(events.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_recipient_is_added_only_with_an_identity_that_opens_its_blob() {
        let (_keep, dir, _, _) = set_up_recoverable();
        let (recipient, identities) = (identity().0, identity().1);
        let refused = add_recovery(&dir, &Means::default(), &recipient, &identities);
        let expected = format!("no given identity opens the recovery blob for {recipient}");
        assert_eq!(refused.unwrap_err().to_string(), expected);
        assert_eq!(opened(&dir).keyring.recoveries().len(), 1);
    }

    #[test]
    fn after_a_rekey_the_same_identities_recover_the_new_root_key() {
        let (_keep, dir, _, identities) = set_up_recoverable();
        let before = opened(&dir).keyring.root_id();
        rekey(&dir, &Means::default()).unwrap();
        let opened = opened(&dir);
        assert_ne!(opened.keyring.root_id(), before);
        let [recovery] = opened.keyring.recoveries() else { panic!("one recipient") };
        assert!(opened.recovers(recovery, &identities));
    }
}
