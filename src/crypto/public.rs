//! Public bytes: identifiers, commitments, hashes and salts. Nothing here is secret.

use std::fmt;

/// Defines a type for public bytes: a hash, an identifier or a commitment.
macro_rules! public_bytes {
    ($(#[$doc:meta])* $name:ident, $length:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $length]);

        impl $name {
            /// Returns the bytes as lower-case hexadecimal digits.
            pub fn to_hex(self) -> String {
                base16ct::lower::encode_string(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.to_hex())
            }
        }
    };
}

public_bytes!(
    /// Identifies a keyring. It never changes, and is the salt of every key that is derived for the keyring.
    Uuid, 16
);
public_bytes!(
    /// The public commitment of the root key: identifies the key without revealing it.
    RootId, 32
);
public_bytes!(
    /// The public commitment of a KEK, `C` in the formats.
    Commitment, 32
);
public_bytes!(
    /// A SHA-256 digest of a record, of a snapshot of etcd, or of another file.
    Digest, 32
);

public_bytes!(
    /// The salt of derived keys. Keys of one keyring have the keyring's uuid as salt. Each slot has a random salt, so
    /// that two slots with the same secret have different keys.
    Salt, 16
);

/// The public name of a root key: files say it, and the associated data of a slot binds a sealed key to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RootName {
    /// The uuid of the keyring.
    pub uuid: Uuid,
    /// The public commitment of the root key.
    pub root_id: RootId,
}

impl From<Uuid> for Salt {
    fn from(uuid: Uuid) -> Self {
        Self(uuid.0)
    }
}

impl Commitment {
    /// Returns the first 16 bytes of the commitment, which a key_id shows as 32 hexadecimal digits.
    pub fn first_half(&self) -> [u8; 16] {
        let mut half = [0; 16];
        half.copy_from_slice(&self.0[..16]);
        half
    }
}

impl Digest {
    /// Computes the SHA-256 of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
        let mut out = [0; 32];
        out.copy_from_slice(digest.as_ref());
        Self(out)
    }
}
