//! How keys survive the loss of a machine: age files, tar, shares of an identity, and recovery blobs.
//!
//! [`identity`] seals to age recipients and opens with age identities, [`share`] splits an identity among several
//! people, [`recovery`] seals the root key into the record, and [`backup`] puts the record and the root keys into one
//! file. This module reads and writes no files: bytes come in and go out. The keyring carries a recovery blob as data
//! and does not know this module. Source: `docs/formats.md`.

pub mod backup;
pub mod identity;
mod line;
pub mod recovery;
#[cfg(feature = "shares")]
pub mod share;
#[cfg(test)]
pub mod testing;

#[cfg(feature = "shares")]
pub use self::share::{CombineError, Share, SplitError};
pub use self::{
    backup::{BACKUP_MAX, Backup, OpenBackupError, SealBackupError},
    identity::{Identities, IdentityError, NotRecipient, Recipient},
    recovery::{OpenRecoveryError, SealRecoveryError},
};
