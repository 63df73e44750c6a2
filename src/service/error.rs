//! Why a call is refused. The texts reach clients of the API server. They contain a public key_id at most.

use std::sync::Arc;

use crate::{crypto::seed::SeedSize, memory::RandomError};

/// The keyring is not open yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("sealed: the keyring is not open yet")]
pub struct Sealed;

/// Why a seed was not wrapped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncryptError {
    /// The keyring is not open yet.
    #[error(transparent)]
    Sealed(#[from] Sealed),
    /// The seed is empty or too long.
    #[error(transparent)]
    Size(#[from] SeedSize),
    /// The machine is at fault. The reason is for the log only.
    #[error("internal error")]
    Random(#[from] RandomError),
}

/// Why a seed was not unwrapped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecryptError {
    /// The keyring is not open yet.
    #[error(transparent)]
    Sealed(#[from] Sealed),
    /// No key has this name.
    #[error("unknown key_id")]
    UnknownKey {
        /// Whether the log names the key. It does at most once a minute, because an API server tries again for every
        /// object.
        is_logged: bool,
    },
    /// The key exists and must not be used.
    #[error("key {key_id} is disabled")]
    Disabled {
        /// The key.
        key_id: Arc<str>,
        /// Whether the log names the key, as for an unknown one.
        is_logged: bool,
    },
    /// The bytes are no wrapped seed.
    #[error("ciphertext is malformed")]
    Malformed,
    /// The bytes name another key than the request.
    #[error("ciphertext is wrapped under another key")]
    OtherKey,
    /// The tag does not match.
    #[error("ciphertext failed authentication")]
    Authentication,
    /// The request has annotations. This plugin never emits any, so they come from another plugin.
    #[error("annotations are not supported")]
    Annotations,
}
