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
    escrow::{self, Identities, Recipient, RecoveryError},
    keyring::{ChangeRecipientError, Keyring, recovery::Recovery},
    root::Means,
};

/// A change of the recovery recipients.
pub enum RecoveryAct {
    /// Adds a recipient: seals the root key to it, and opens the result with its identity. An identity that was never
    /// tried may not work.
    Add(Recipient, Identities),
    /// Removes a recipient and its recovery blob.
    Remove {
        /// The recipient, as the record names it.
        recipient: String,
        /// Whether the last recipient may be removed.
        last: bool,
    },
}

/// Why the recovery recipients were not changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeRecoveryError {
    /// The change did not begin.
    #[error(transparent)]
    Begin(#[from] BeginError),
    /// The root key could not be sealed to the recipient, or the identity did not open what was sealed.
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
    /// The keyring does not allow the change.
    #[error(transparent)]
    Refused(#[from] ChangeRecipientError),
    /// The recipient is the last one. Without it nobody could recover the root key.
    #[error("{0} is the last recovery recipient, so it is not removed")]
    LastRecipient(String),
    /// Writing the change failed. The error says what was changed.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

/// Makes the change `act` in the keyring in `dir`. Returns the new keyring.
///
/// # Errors
/// When the keyring does not open or does not allow the change, the identity does not open the recovery blob, the
/// recipient is the last one, or a file cannot be written.
pub fn change_recovery(dir: &Dir, means: &Means, act: &RecoveryAct) -> Result<Keyring, ChangeRecoveryError> {
    let state = StateFiles::new(dir);
    let (opened, _lock) = open_to_change(state, means)?;
    let next = act.on(&opened)?;
    let (commit, _) = Commit::change(&opened, &next, act.event(&next), PrevCopy::Before)?;
    commit.run(state, &mut state.store())?;
    Ok(next)
}

impl RecoveryAct {
    fn on(&self, opened: &Opened) -> Result<Keyring, ChangeRecoveryError> {
        let Opened { keyring, digest, root, .. } = opened;
        match self {
            Self::Add(recipient, identities) => {
                let recovery = escrow::recovery::seal(recipient, keyring.uuid(), root)?;
                escrow::recovery::open(&recovery, identities, keyring.uuid(), keyring.root_id())?;
                Ok(keyring.add_recovery(recovery, *digest)?)
            }
            Self::Remove { recipient, last } => {
                let next = keyring.remove_recovery(recipient, *digest)?;
                if next.recoveries().is_empty() && !last {
                    return Err(ChangeRecoveryError::LastRecipient(recipient.clone()));
                }
                Ok(next)
            }
        }
    }

    fn event(&self, next: &Keyring) -> Event<'static> {
        let event =
            |recipient| RecoveryEvent { keyring: next.uuid().to_hex(), generation: next.generation(), recipient };
        match self {
            Self::Add(recipient, _) => Event::RecoveryAdd(event(recipient.to_string())),
            Self::Remove { recipient, .. } => Event::RecoveryRemove(event(recipient.clone())),
        }
    }
}

impl Opened {
    /// Whether one of `identities` recovers the root key from `recovery`.
    pub fn recovers(&self, recovery: &Recovery, identities: &Identities) -> bool {
        escrow::recovery::open(recovery, identities, self.keyring.uuid(), self.keyring.root_id()).is_ok()
    }
}

/// Seals `root` to the recovery recipients of `keyring`. Returns the recovery blobs.
pub(super) fn recoveries_under(keyring: &Keyring, root: &RootKey) -> Result<Vec<Recovery>, RecoveryError> {
    let seal = |before: &Recovery| {
        let recipient: Recipient = before.recipient().parse()?;
        escrow::recovery::seal(&recipient, keyring.uuid(), root)
    };
    keyring.recoveries().iter().map(seal).collect()
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

    fn remove(dir: &Dir, recipient: &Recipient, last: bool) -> Result<Keyring, ChangeRecoveryError> {
        let act = RecoveryAct::Remove { recipient: recipient.to_string(), last };
        change_recovery(dir, &Means::default(), &act)
    }

    #[test]
    fn the_last_recipient_stays_unless_the_operator_insists() {
        let (_keep, dir, first, _) = set_up_recoverable();
        let (second, identities) = identity();
        change_recovery(&dir, &Means::default(), &RecoveryAct::Add(second.clone(), identities)).unwrap();
        assert_eq!(remove(&dir, &first, false).unwrap().recoveries().len(), 1);
        let refused = remove(&dir, &second, false).unwrap_err().to_string();
        assert_eq!(refused, format!("{second} is the last recovery recipient, so it is not removed"));
        assert_eq!(opened(&dir).keyring.recoveries().len(), 1);
        assert!(remove(&dir, &second, true).unwrap().recoveries().is_empty());
        let events = events(&dir).into_iter().map(|event| (event["event"].clone(), event["recipient"].clone()));
        let expected = [("recovery-add", &second), ("recovery-remove", &first), ("recovery-remove", &second)];
        let expected = expected.map(|(event, recipient)| (event.into(), recipient.to_string().into()));
        assert_eq!(events.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_recipient_is_added_only_with_an_identity_that_opens_its_blob() {
        let (_keep, dir, _, _) = set_up_recoverable();
        let (recipient, identities) = (identity().0, identity().1);
        let refused = change_recovery(&dir, &Means::default(), &RecoveryAct::Add(recipient.clone(), identities));
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
