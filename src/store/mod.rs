//! Where the keyring's record is kept: one value with a version, replaced by compare-and-swap. A store knows nothing of
//! keys.
//!
//! Invariant: a swap replaces the whole value or none of it, and only the value that the caller has read. Every store
//! passes the tests in `suite.rs`.

#[cfg(feature = "scan")]
#[cfg_attr(not(test), expect(dead_code, reason = "no command keeps a keyring in etcd yet"))]
mod etcd;
mod file;
#[cfg(test)]
mod memory;
#[cfg(test)]
mod suite;
#[cfg(feature = "scan")]
#[cfg(test)]
mod testing;

use std::time::Instant;

use zeroize::Zeroizing;

use crate::durable::DurableError;
#[cfg(feature = "scan")]
use crate::etcd::EtcdError;

pub use self::file::FileStore;
#[cfg(test)]
pub use self::memory::{LostAnswer, MemoryStore};

/// A record as a store holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The bytes of the record.
    pub bytes: Zeroizing<Vec<u8>>,
    /// Distinguishes this record from every other record that the store has held.
    pub version: RecordVersion,
}

/// Distinguishes one record in a store from another. Only the store that made it understands it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordVersion(Vec<u8>);

/// The outcome of a swap.
#[derive(Debug)]
pub enum Swapped {
    /// The new record is in the store.
    Done,
    /// The store holds another record than the caller has read. The swap changed nothing.
    Lost,
    /// The answer was lost: the store may hold the old record, the new one, or another one that replaced the new one.
    /// Load it again to find out. Contains the cause.
    Unknown(StoreError),
}

/// The time when a load gives up.
pub type Deadline = Instant;

/// A store of one record. Its calls block.
pub trait KeyringStore: Send {
    /// Reads the newest record, and gives up at `by`; `None` if the store holds none.
    ///
    /// # Errors
    /// When the record cannot be read, or its file cannot be trusted.
    fn load(&mut self, by: Deadline) -> Result<Option<Held>, StoreError>;

    /// Replaces the record of the version `old` by `new`. `None` expects a store without a record.
    ///
    /// # Errors
    /// When the store refuses; it then holds what it held before.
    fn swap(&mut self, old: Option<&RecordVersion>, new: &[u8]) -> Result<Swapped, StoreError>;
}

/// Why a store did not answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The file of the record could not be read or written.
    #[error(transparent)]
    File(#[from] DurableError),
    /// etcd did not answer, or refused.
    #[cfg(feature = "scan")]
    #[error(transparent)]
    Etcd(#[from] EtcdError),
    /// The record in etcd, or the one to write there, is longer than a record may be.
    #[cfg(feature = "scan")]
    #[error("{key} in etcd: the record has {found} bytes, expected at most {limit}")]
    TooLong {
        /// The key of the record.
        key: String,
        /// The length of the record in bytes.
        found: usize,
        /// The greatest length in bytes.
        limit: usize,
    },
    /// etcd holds no record, but has not answered when it was to write a first one.
    #[cfg(feature = "scan")]
    #[error("{key} in etcd: there is no record yet, but a write without an answer may still add it")]
    Unsettled {
        /// The key of the record.
        key: String,
    },
}
