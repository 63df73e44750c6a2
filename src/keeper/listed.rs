//! The ledger beside a keyring: which backups count.
//!
//! A ledger that is not believed hinders no serving. It only means that no key counts as backed up, and that no backup is listed until
//! an operator begins an empty list.

use std::collections::HashSet;

use super::{error::OpenError, roots::Roots, state_dir::StateFiles};
use crate::{
    crypto::{RootId, Uuid, kdf::RootKey, secret::SecretError},
    durable::DurableError,
    keyring::{
        key_id::KeyId,
        ledger::{Ledger, LedgerError, ListedBackup},
        mark::Mark,
    },
};

/// Why the ledger is not believed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerRefused {
    /// It cannot be read.
    #[error(transparent)]
    File(#[from] DurableError),
    /// It is not what this node has written last.
    #[error("the ledger {0}")]
    Ledger(#[from] LedgerError),
}

/// The ledger beside a keyring.
#[derive(Debug)]
pub(super) struct Listed {
    ledger: Result<Ledger, LedgerRefused>,
    /// The count in the mark.
    marked: u64,
    /// The root key and the count of the file, if there is one and it is believed.
    on_disk: Option<(RootId, u64)>,
}

impl Listed {
    /// Reads the ledger that fits to `mark`, which is under `marked_under`. A ledger that is wrong is no failure here: the
    /// operations that need it say what is wrong.
    pub(super) fn read(
        state: StateFiles<'_>,
        roots: &Roots,
        mark: Option<&Mark>,
        marked_under: Option<RootId>,
    ) -> Result<Self, OpenError> {
        let marked = mark.map_or(0, Mark::ledger);
        let uuid = roots.file.uuid();
        let bytes = match state.ledger() {
            Ok(Some(bytes)) => bytes,
            Ok(None) => {
                let empty = || Ledger::empty(uuid, roots.current.id(uuid));
                let ledger = if marked == 0 { Ok(empty()) } else { Err(LedgerError::Missing(marked).into()) };
                return Ok(Self { ledger, marked, on_disk: None });
            }
            Err(error) => return Ok(Self { ledger: Err(error.into()), marked, on_disk: None }),
        };
        let ledger = match Ledger::named_root(&bytes) {
            // During a rekey the ledger is under the root key of the mark, or already under the current one.
            Ok(root_id) if marked_under == Some(root_id) => {
                Ledger::decode(&bytes, &*roots.key(root_id, state)?, uuid, marked)
            }
            Ok(_) => Ledger::decode(&bytes, &roots.current, uuid, marked),
            Err(error) => Err(error.into()),
        };
        let on_disk = ledger.as_ref().ok().map(|ledger| (ledger.root_id(), ledger.count()));
        Ok(Self { ledger: ledger.map_err(Into::into), marked, on_disk })
    }

    /// Refuses a ledger whose file could not be read. Whatever else is wrong with it is no failure: but what cannot be read now
    /// cannot be put under another root key, and would not be believed from then on.
    pub(super) fn readable(self) -> Result<Self, DurableError> {
        match self.ledger {
            Err(LedgerRefused::File(error)) => Err(error),
            ledger => Ok(Self { ledger, ..self }),
        }
    }

    /// The ledger.
    ///
    /// # Errors
    /// When it is not believed, with the reason.
    pub(super) fn ledger(&self) -> Result<&Ledger, &LedgerRefused> {
        self.ledger.as_ref()
    }

    /// Takes the reason out if the ledger is not believed.
    ///
    /// # Errors
    /// That reason.
    pub(super) fn believe(&mut self) -> Result<(), LedgerRefused> {
        if self.ledger.is_ok() {
            return Ok(());
        }
        let missing = LedgerRefused::Ledger(LedgerError::Missing(self.marked));
        std::mem::replace(&mut self.ledger, Err(missing)).map(drop)
    }

    /// The keys that its backups hold; no keys if it is not believed.
    pub(super) fn backed(&self) -> HashSet<KeyId> {
        self.ledger.as_ref().map(Ledger::backed).unwrap_or_default()
    }

    /// Lists these backups as well, as far as there is room for them. A ledger that is not believed stays as it is.
    pub(super) fn with(self, backups: Vec<ListedBackup>) -> Self {
        let Ok(mut ledger) = self.ledger else { return self };
        for backup in backups {
            let count = ledger.count().saturating_add(1);
            ledger = ledger.with(backup, count).unwrap_or(ledger);
        }
        Self { ledger: Ok(ledger), ..self }
    }

    /// Puts another ledger in its place.
    pub(super) fn replaced_by(&mut self, ledger: Ledger) {
        self.ledger = Ok(ledger);
    }

    /// What a commit has to write, under `root`: nothing if the file says the same already, or if the ledger is not believed.
    pub(super) fn to_write(&self, uuid: Uuid, root: &RootKey) -> Result<Option<Vec<u8>>, SecretError> {
        let root_id = root.id(uuid);
        match &self.ledger {
            Ok(ledger) if ledger.count() > 0 && self.on_disk != Some((root_id, ledger.count())) => {
                ledger.under(root_id).encode(root).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// What the mark has to hold.
    pub(super) fn count(&self) -> u64 {
        self.ledger.as_ref().map_or(self.marked, Ledger::count)
    }
}
