//! Changes of the recovery recipients in the record.

use super::{
    commit::{Commit, CommitError, Copy},
    open::{BeginError, Opened, open_to_change},
    state_dir::StateFiles,
};
use crate::{
    audit::{Event, RecoveryEvent},
    crypto::kdf::RootKey,
    durable::Dir,
    escrow::{self, Identities, Recipient, RecoveryError},
    keyring::{ChangeError, Keyring, recovery::Recovery},
    root::Means,
};

/// What is to be done with recovery recipients.
pub enum RecoveryAct {
    /// Seal the root key to this one, and open it with its identity: one that was never tried is no recovery.
    Add(Recipient, Identities),
    /// Remove what is sealed to one.
    Remove {
        /// As the record has it.
        recipient: String,
        /// Even if none is left then.
        last: bool,
    },
}

/// Why the recovery recipients were not changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecoveryChangeError {
    /// The change did not begin.
    #[error(transparent)]
    Begin(#[from] BeginError),
    /// The root key could not be sealed to the recipient, or the identity did not open what was sealed.
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
    /// The keyring does not allow the change.
    #[error(transparent)]
    Refused(#[from] ChangeError),
    /// Nobody could recover the root key any more.
    #[error("{0} is the last recovery recipient, so it is not removed")]
    LastRecipient(String),
    /// The change was not written, or not all of it.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

/// Does `act` with the keyring in `dir`, and gives it as it is then.
///
/// # Errors
/// As [`change_keys`](super::change_keys); or when the identity does not open what was sealed.
pub fn change_recovery(dir: &Dir, means: &Means, act: &RecoveryAct) -> Result<Keyring, RecoveryChangeError> {
    let state = StateFiles::new(dir);
    let (opened, _lock) = open_to_change(state, means)?;
    let next = act.on(&opened)?;
    let (commit, _) = Commit::change(&opened, &next, act.event(&next), Copy::Before)?;
    commit.run(state, &mut state.store())?;
    Ok(next)
}

impl RecoveryAct {
    fn on(&self, opened: &Opened) -> Result<Keyring, RecoveryChangeError> {
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
                    return Err(RecoveryChangeError::LastRecipient(recipient.clone()));
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
    /// Whether one of these identities gets the root key out of `recovery`.
    pub fn recovers(&self, recovery: &Recovery, identities: &Identities) -> bool {
        escrow::recovery::open(recovery, identities, self.keyring.uuid(), self.keyring.root_id()).is_ok()
    }
}

/// Seals `root` to the recovery recipients of `keyring`.
pub(super) fn recoveries_under(keyring: &Keyring, root: &RootKey) -> Result<Vec<Recovery>, RecoveryError> {
    let seal = |before: &Recovery| {
        let recipient: Recipient = before.recipient().parse()?;
        escrow::recovery::seal(&recipient, keyring.uuid(), root)
    };
    keyring.recoveries().iter().map(seal).collect()
}
