//! The errors of the three calls. Their texts reach clients of the API server, and contain at most a public key_id.

use std::sync::Arc;

use crate::{crypto::seed::SeedSize, memory::RandomError};

/// The keyring is not open yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("sealed: the keyring is not open yet")]
pub struct Sealed;

/// Why Encrypt did not wrap a seed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncryptError {
    /// The keyring is not open yet.
    #[error(transparent)]
    Sealed(#[from] Sealed),
    /// The seed is not 1 to 512 bytes long.
    #[error(transparent)]
    Size(#[from] SeedSize),
    /// The random source of the machine failed. Only the log contains the reason.
    #[error("internal error")]
    Random(#[from] RandomError),
}

/// Why Decrypt did not unwrap a seed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecryptError {
    /// The keyring is not open yet.
    #[error(transparent)]
    Sealed(#[from] Sealed),
    /// The keyring has no key with this key_id.
    #[error("unknown key_id")]
    UnknownKey {
        /// Whether this call was logged. The log has one such line a minute, because an API server repeats the call for
        /// every object.
        is_logged: bool,
    },
    /// The key is disabled, so it must not unwrap.
    #[error("key {key_id} is disabled")]
    Disabled {
        /// The key_id of the disabled key.
        key_id: Arc<str>,
        /// Whether the log names the key: at most once a minute.
        is_logged: bool,
    },
    /// The bytes do not have the form of a wrapped seed.
    #[error("ciphertext is malformed")]
    Malformed,
    /// The wrapped seed names another key than the request does.
    #[error("ciphertext is wrapped under another key")]
    OtherKey,
    /// The AEAD tag of the wrapped seed does not match.
    #[error("ciphertext failed authentication")]
    Authentication,
    /// The request has annotations. This plugin never returns any, so they come from another plugin.
    #[error("annotations are not supported")]
    Annotations,
}
