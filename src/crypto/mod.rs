//! Bytes to bytes: no I/O, no clock, no async, no serialisation framework.
//!
//! `docs/hierarchy.md` has the hierarchy of keys and every label, `docs/formats.md` the shapes. Only [`aead`] names the
//! crate of the AEAD, and only `foreign` those of the ciphers of other providers. Invariant: the bytes of claviger's
//! keys are in a [`Secret`](crate::memory::Secret) or on their way into one. Seeds, and the keys of other providers,
//! are wiped after use. Nothing here prints any of them.

pub mod aead;
pub mod canary;
#[cfg(feature = "recover")]
pub mod foreign;
pub mod kdf;
pub mod root_key;
pub mod seed;
pub mod slot;
pub mod stretch;
pub mod wrap;

#[cfg(test)]
mod vectors;

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

/// Returns `LP(part) | LP(part) | …`, where `LP(x)` is the length of `x` as u32, big-endian, followed by `x`. Two
/// different lists of parts never give the same bytes.
///
/// # Panics
/// If a part is longer than `u32::MAX` bytes. Callers pass only labels, identifiers and lines, whose length was checked
/// when they were read.
fn length_prefixed(parts: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::with_capacity(parts.iter().map(|part| 4 + part.len()).sum());
    for part in parts {
        let length = u32::try_from(part.len()).unwrap_or_else(|_| unreachable!("parts are bounded when read"));
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(part);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_prefixes_keep_parts_apart() {
        assert_eq!(length_prefixed(&[b"ab", b""]), b"\0\0\0\x02ab\0\0\0\0");
        assert_ne!(length_prefixed(&[b"ab", b"c"]), length_prefixed(&[b"a", b"bc"]));
    }

    #[test]
    fn debug_of_public_bytes_is_hex() {
        assert_eq!(format!("{:?}", Uuid([0xab; 16])), format!("Uuid({})", "ab".repeat(16)));
    }
}
