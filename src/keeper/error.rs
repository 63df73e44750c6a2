//! The errors of opening a state directory, its ledger, its root file and its root keys.

use std::path::PathBuf;

use super::state_dir::{KEYRING, MARK, ROOT, StateFiles};
use crate::{
    durable::DurableError,
    keyring::{ledger::LedgerError, mark::MarkError, record::RecordError},
    memory::SecretError,
    root::RootError,
    store::StoreError,
    text::TextError,
};

/// Why the ledger was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadLedgerError {
    /// The ledger's file cannot be read.
    #[error(transparent)]
    File(#[from] DurableError),
    /// The ledger is damaged, or is not the one that this node wrote last.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

impl ReadLedgerError {
    /// Whether only a copy of the ledger can help. A file with wrong permissions, for example, can be repaired in
    /// place.
    pub fn is_lost(&self) -> bool {
        match self {
            Self::File(error) => matches!(error, DurableError::TooLong { .. }),
            Self::Ledger(LedgerError::Text(error)) => !matches!(error, TextError::TooNew { .. }),
            Self::Ledger(LedgerError::Memory(_)) => false,
            Self::Ledger(
                LedgerError::Origin(_)
                | LedgerError::RolledBack { .. }
                | LedgerError::Missing(_)
                | LedgerError::NotCanonical(_),
            ) => true,
        }
    }
}

/// Why a state directory did not open.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The directory was never set up.
    #[error("{} holds no keyring", .0.display())]
    NotInitialised(PathBuf),
    /// A set-up began here and did not finish.
    #[error("{} holds an unfinished set-up: there is a root file and no keyring", .0.display())]
    Unfinished(PathBuf),
    /// The state directory itself could not be opened.
    #[error(transparent)]
    StateDir(DurableError),
    /// The root file is missing, and the other files show that it existed.
    #[error("the root file {} is missing beside the other files of the keyring", .0.display())]
    MissingRoot(PathBuf),
    /// The record is missing, and the other files show that it existed.
    #[error("the record {} is missing beside the other files of the keyring", .0.display())]
    MissingRecord(PathBuf),
    /// A file of this node could not be read.
    #[error(transparent)]
    File(#[from] DurableError),
    /// The store could not read the record.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The root file is damaged or belongs to another keyring, or none of its slots opens.
    #[error("root file {}: {source}", path.display())]
    Root {
        /// The path of the root file.
        path: PathBuf,
        /// Why the root file was refused.
        source: RootError,
    },
    /// The record is damaged or belongs to another keyring.
    #[error("keyring {}: {source}", path.display())]
    Record {
        /// The path of the record.
        path: PathBuf,
        /// Why the record was refused.
        source: RecordError,
    },
    /// The mark is damaged or belongs to another keyring, or the record does not follow from it.
    #[error("mark {}: {source}", path.display())]
    Mark {
        /// The path of the mark.
        path: PathBuf,
        /// Why the mark or the record was refused.
        source: MarkError,
    },
    /// No memory could be locked for a key.
    #[error(transparent)]
    Memory(#[from] SecretError),
}

/// Why the root file was refused. The text does not name its directory, because the command has named it already.
#[derive(Debug, thiserror::Error)]
#[error("root file: {0}")]
pub struct RootFileError(#[from] pub RootError);

/// Why a record is not known to be authentic.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RootKeyError {
    /// An earlier root key in the root file does not open.
    #[error(transparent)]
    Root(#[from] RootFileError),
    /// The keyring never had the root key of the record.
    #[error("the backup is under a root key that this keyring has never had")]
    Unknown,
}

/// An earlier rekey did not finish.
#[derive(Debug, thiserror::Error)]
#[error("a rekey is not finished: the keyring or its mark is still under the earlier root key")]
pub struct UnfinishedRekey;

/// There is no recipient for a backup, so nobody could open it.
#[derive(Debug, thiserror::Error)]
#[error("nobody could open a backup: the keyring has no recovery recipient, and none was given")]
pub struct NoBackupRecipient;

impl OpenError {
    pub(super) fn root(state: StateFiles<'_>, source: RootError) -> Self {
        Self::Root { path: state.path_of(ROOT), source }
    }

    pub(super) fn record(state: StateFiles<'_>, source: RecordError) -> Self {
        Self::Record { path: state.path_of(KEYRING), source }
    }

    pub(super) fn mark(state: StateFiles<'_>, source: MarkError) -> Self {
        Self::Mark { path: state.path_of(MARK), source }
    }

    /// Returns the error for a directory without a root file.
    pub(super) fn missing_root(state: StateFiles<'_>) -> Self {
        match state.is_set_up() {
            Ok(true) => Self::MissingRoot(state.path_of(ROOT)),
            Ok(false) => Self::NotInitialised(state.dir().path().to_owned()),
            Err(error) => error.into(),
        }
    }

    /// Returns the error for a directory that has a root file and no record.
    pub(super) fn missing_record(state: StateFiles<'_>) -> Self {
        match state.is_set_up() {
            Ok(true) => Self::MissingRecord(state.path_of(KEYRING)),
            Ok(false) => Self::Unfinished(state.dir().path().to_owned()),
            Err(error) => error.into(),
        }
    }
}
