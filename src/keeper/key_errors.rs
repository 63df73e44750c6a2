//! The errors of changing a key, one for each operation.

use std::{error::Error, fmt, sync::Arc};

use super::{commit::CommitError, error::ReadLedgerError, open::BeginError, rotation::LoadPlanError};
use crate::{
    crypto::Digest,
    keyring::{ChangeKeyError, ChangePrimaryError, MakeKeyError, key_id::KeyId},
    plan::{CountDoubt, Unsettled},
};

/// Why `key add` failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AddKeyError {
    /// The keyring did not open, the lock is held, or a rekey is unfinished. Nothing was changed.
    #[error(transparent)]
    Begin(#[from] BeginError),
    /// The keyring has no number for the key, or the key could not be made.
    #[error(transparent)]
    Refused(#[from] MakeKeyError),
    /// Writing the change failed. The error says what was changed.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

/// Why `key promote` failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PromoteKeyError {
    /// The keyring did not open, the lock is held, or a rekey is unfinished. Nothing was changed.
    #[error(transparent)]
    Begin(#[from] BeginError),
    /// The state of the key does not allow a promotion.
    #[error(transparent)]
    Refused(#[from] ChangePrimaryError),
    /// No listed backup contains the key. If this disk were lost, all values that need the key would be lost.
    #[error("no listed backup holds key {key_id}, so it is not promoted{}", because(ledger.as_deref()))]
    Unbacked {
        /// The name of the key.
        key_id: KeyId,
        /// Why the ledger was refused. `None` if it was accepted.
        ledger: Option<Arc<ReadLedgerError>>,
    },
    /// The rotation that promotes the key was given up or replaced by another command. Nothing was changed.
    #[error("the rotation was given up or replaced meanwhile, so {0} is not promoted")]
    GivenUp(KeyId),
    /// The plan of the rotation could not be read, or was refused. Nothing was changed.
    #[error(transparent)]
    Plan(#[from] LoadPlanError),
    /// Writing the change failed. The error says what was changed.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

/// Why `key disable` failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DisableKeyError {
    /// The keyring did not open, the lock is held, or a rekey is unfinished. Nothing was changed.
    #[error(transparent)]
    Begin(#[from] BeginError),
    /// The state of the key does not allow it to be disabled.
    #[error(transparent)]
    Refused(#[from] ChangeKeyError),
    /// Values in etcd need the key.
    #[error("not disabling key {key_id}: {needing}")]
    Needed {
        /// The name of the key.
        key_id: KeyId,
        /// The number of objects that need the key, and an example.
        needing: Needing,
    },
    /// Values in etcd may need the key.
    #[error("not disabling key {key_id}, which may still be in use: {reason}")]
    Unproven {
        /// The name of the key.
        key_id: KeyId,
        /// The reason for the doubt.
        reason: UsageDoubt,
    },
    /// Writing the change failed. The error says what was changed.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

/// Why `key enable` failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnableKeyError {
    /// The keyring did not open, the lock is held, or a rekey is unfinished. Nothing was changed.
    #[error(transparent)]
    Begin(#[from] BeginError),
    /// The state of the key does not allow it to be enabled.
    #[error(transparent)]
    Refused(#[from] ChangeKeyError),
    /// Writing the change failed. The error says what was changed.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

/// Why `key destroy` failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DestroyKeyError {
    /// The keyring did not open, the lock is held, or a rekey is unfinished. Nothing was changed.
    #[error(transparent)]
    Begin(#[from] BeginError),
    /// The state of the key does not allow it to be destroyed.
    #[error(transparent)]
    Refused(#[from] ChangeKeyError),
    /// The ledger was refused. It may have listed a snapshot of etcd that needs the key.
    #[error("not destroying key {key_id}: a snapshot of etcd that the lost ledger listed may need it ({ledger})")]
    LedgerLost {
        /// The name of the key.
        key_id: KeyId,
        /// Why the ledger was refused.
        ledger: Arc<ReadLedgerError>,
    },
    /// The ledger was begun anew. The lost ledger may have listed a snapshot of etcd that needs the key.
    #[error(
        "not destroying key {key_id}: the earlier ledger is lost, and a snapshot of etcd that it listed may need any key up to k{forgot}"
    )]
    Forgotten {
        /// The name of the key.
        key_id: KeyId,
        /// The greatest sequence number of the keys that existed when the ledger was begun anew.
        forgot: u32,
    },
    /// A listed snapshot of etcd needs the key.
    #[error("not destroying key {key_id}: a listed snapshot needs it: {snapshot}{}", and_more(*others))]
    InSnapshot {
        /// The name of the key.
        key_id: KeyId,
        /// The file of the snapshot, or its SHA-256.
        snapshot: String,
        /// The ID of the snapshot in the ledger.
        id: Digest,
        /// The number of other listed snapshots that need the key.
        others: usize,
    },
    /// Values in etcd need the key.
    #[error("not destroying key {key_id}: {needing}")]
    Needed {
        /// The name of the key.
        key_id: KeyId,
        /// The number of objects that need the key, and an example.
        needing: Needing,
    },
    /// Values in etcd may need the key.
    #[error("not destroying key {key_id}, which may still be in use: {reason}")]
    Unproven {
        /// The name of the key.
        key_id: KeyId,
        /// The reason for the doubt.
        reason: UsageDoubt,
    },
    /// Writing the change failed. The error says what was changed.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

/// Why a key may not be disabled or destroyed. The error of the operation adds the key and the operation.
#[derive(Debug)]
pub(super) enum InUse {
    /// Values in etcd need the key.
    Needed(Needing),
    /// Values in etcd may need the key.
    Unproven(UsageDoubt),
}

/// The live objects in etcd that need a key.
#[derive(Debug, Clone)]
pub struct Needing {
    /// The number of objects that need the key.
    pub objects: u64,
    /// The key in etcd of one object that needs the key.
    pub example: Option<String>,
}

/// Why it is not known whether a key is in use.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum UsageDoubt {
    /// This build of claviger contains no scan of etcd.
    #[cfg(not(feature = "scan"))]
    #[error("this claviger was built without a scan of etcd")]
    CannotScan,
    /// The command has not scanned etcd.
    #[error("etcd was not read")]
    NotRead,
    /// No flag, configuration, file or manifest names an etcd.
    #[error("nothing says where etcd is")]
    NotDeclared,
    /// API servers may still write under the key.
    #[error(transparent)]
    Unsettled(Unsettled),
    /// It is not known whether other API servers write under the key.
    #[error(transparent)]
    Count(CountDoubt),
    /// A plugin may serve on this node, and did not answer. Contains the reason.
    #[error("the plugin did not say which key each API server has adopted: {0}")]
    PluginSilent(Arc<dyn Error + Send + Sync>),
    /// A plugin serves from the state directory, and nobody listens at this socket.
    #[error("a plugin serves from this state directory, and not at {0}")]
    OtherSocket(String),
    /// The plugin answered without a report of its connections. It gives this report only to its own user and to root.
    #[error("the plugin does not report to this user which key each API server has adopted")]
    NotReported,
    /// A declared etcd cannot be read, or values in it may have been missed. Contains the reason.
    #[error(transparent)]
    Incomplete(Arc<dyn Error + Send + Sync>),
    /// A snapshot was taken from the ledger since the command began, and may have been restored.
    #[error("a snapshot of etcd that needs it was removed from the ledger during this command")]
    SnapshotForgotten,
    /// Another key may have been promoted during the scan.
    #[error("the keyring was changed while etcd was read")]
    KeyringChanged,
}

impl DisableKeyError {
    pub(super) fn in_use(key_id: KeyId, in_use: InUse) -> Self {
        match in_use {
            InUse::Needed(needing) => Self::Needed { key_id, needing },
            InUse::Unproven(reason) => Self::Unproven { key_id, reason },
        }
    }
}

impl DestroyKeyError {
    pub(super) fn in_use(key_id: KeyId, in_use: InUse) -> Self {
        match in_use {
            InUse::Needed(needing) => Self::Needed { key_id, needing },
            InUse::Unproven(reason) => Self::Unproven { key_id, reason },
        }
    }
}

impl fmt::Display for Needing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let need = if self.objects == 1 { "object needs" } else { "objects need" };
        write!(f, "{} {need} it", self.objects)?;
        self.example.as_ref().map_or(Ok(()), |example| write!(f, ", for example {example}"))
    }
}

fn and_more(others: usize) -> String {
    if others == 0 { String::new() } else { format!(", and {others} more") }
}

fn because(reason: Option<&ReadLedgerError>) -> String {
    reason.map_or_else(String::new, |reason| format!(": {reason}"))
}
