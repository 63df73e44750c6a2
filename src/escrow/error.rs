//! Why a recovery blob, or the identity for one, was refused.

use crate::crypto::secret::SecretError;

use super::share::ShareError;

/// Why a recovery blob could not be made or opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecoveryError {
    /// The text is not a recipient.
    #[error("not an age recipient, expected age1…")]
    Recipient,
    /// The text contains no identity, or something that is not an identity.
    #[error("not an age identity file, expected lines of AGE-SECRET-KEY-1…")]
    Identity,
    /// age could not write the file.
    #[error("sealing to {recipient}: {reason}")]
    Seal {
        /// The recipients.
        recipient: String,
        /// The reason in age's words.
        reason: String,
    },
    /// No given identity opens the blob.
    #[error("no given identity opens the recovery blob for {0}")]
    NoIdentity(String),
    /// The blob opened, and its contents are not the root key of this keyring.
    #[error("the recovery blob for {0} does not contain this keyring's root key")]
    Contents(String),
    /// The shares of an identity were refused.
    #[error(transparent)]
    Share(#[from] ShareError),
    /// There is no locked memory for the root key.
    #[error(transparent)]
    Memory(#[from] SecretError),
}
