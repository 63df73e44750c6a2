//! The damage of a stored value, as far as its bytes show it.

/// Why a value does not have the form that its prefix promises. It takes one byte, because a scan keeps one for each of
/// millions of values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ValueDamage {
    /// The prefix ends before it names a provider or key.
    #[error("its prefix names no provider or key")]
    Name,
    /// A value of aesgcm is too short.
    #[error("shorter than a nonce of 12 bytes and a tag of 16")]
    AesGcm,
    /// A value of aescbc is too short, or does not end with a whole block.
    #[error("not an IV of 16 bytes followed by whole blocks of 16")]
    AesCbc,
    /// A value of secretbox is too short.
    #[error("shorter than a nonce of 24 bytes and a tag of 16")]
    Secretbox,
    /// A value of KMS v1 lacks one of its parts.
    #[error("not a wrapped key with its length, a nonce of 12 bytes and a tag of 16")]
    KmsV1,
    /// A value of KMS v2 is not the message that its prefix promises.
    #[error("not a message of KMS v2")]
    Message,
    /// The encrypted data of a value of KMS v2 is too short.
    #[error("its encrypted data is shorter than its nonce and tag")]
    Data,
    /// The wrapped seed of a value of KMS v2 is missing, too long, or of an unknown type.
    #[error("its wrapped seed is not 1 to 1,024 bytes long, or is of an unknown type")]
    Seed,
    /// The key_id of a value of KMS v2 is missing, too long, or no text.
    #[error("its key_id is not 1 to 1,024 bytes of UTF-8")]
    KeyId,
    /// A value of KMS v2 names one key of claviger's and is under another one. An API server asks for the named key,
    /// which does not open the seed.
    #[error("its key_id names another key than its wrapped seed")]
    OtherKey,
    /// A value begins like an object in protobuf and does not contain one.
    #[error("not an object in protobuf")]
    Object,
    /// A value begins like an object in JSON and does not end like one.
    #[error("not a whole object in JSON")]
    Json,
    /// A value is neither encrypted nor in an encoding of Kubernetes.
    #[error("neither encrypted nor in an encoding of Kubernetes")]
    Raw,
}
