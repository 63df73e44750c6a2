//! Bytes to bytes: no I/O, no clock, no async, no serialisation framework.
//!
//! The hierarchy and every label are in `docs/hierarchy.md`, the shapes in `docs/formats.md`. Only [`aead`] names the
//! AEAD's crate, only [`secret`] and [`traces`] hold `unsafe`. Invariant: key bytes live in a [`secret::Secret`] or are on
//! their way there; nothing here prints them.

pub mod aead;
pub mod kdf;
pub mod secret;
pub mod stretch;
mod traces;
pub mod wrap;

#[cfg(test)]
mod vectors;

use std::fmt;

/// Bytes that are public: a hash, an identifier, a commitment.
macro_rules! public_bytes {
    ($(#[$doc:meta])* $name:ident, $length:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $length]);

        impl $name {
            /// Its lower-case hexadecimal digits.
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
    /// Names a keyring for its whole life; the salt of everything derived for it.
    Uuid, 16
);
public_bytes!(
    /// The root key's public commitment: names it without telling it.
    RootId, 32
);
public_bytes!(
    /// A KEK's public commitment, `C` in the formats.
    Commitment, 32
);
public_bytes!(
    /// The SHA-256 of a whole record.
    Digest, 32
);

impl Commitment {
    /// Its first 16 bytes, which a key_id shows as 32 hexadecimal digits.
    pub fn first_half(&self) -> [u8; 16] {
        let mut half = [0; 16];
        half.copy_from_slice(&self.0[..16]);
        half
    }
}

impl Digest {
    /// SHA-256 of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
        let mut out = [0; 32];
        out.copy_from_slice(digest.as_ref());
        Self(out)
    }
}

/// The operating system's random source failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the system's random source failed")]
pub struct RandomError;

/// Fills `out` with random bytes.
///
/// # Errors
/// When the source fails; `out` is then not to be used.
pub fn fill_random(rng: &mut impl rand::TryCryptoRng, out: &mut [u8]) -> Result<(), RandomError> {
    rng.try_fill_bytes(out).map_err(|_| RandomError)
}

/// `LP(part) | LP(part) | …`, where `LP(x)` is the length of `x` as u32, big-endian, then `x`: no two lists of parts
/// give the same bytes.
///
/// # Panics
/// If a part is longer than `u32::MAX` bytes; every caller passes labels, identifiers and lines that were bounded when
/// they were read.
pub fn length_prefixed(parts: &[&[u8]]) -> Vec<u8> {
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
