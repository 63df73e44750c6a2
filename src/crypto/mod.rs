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
mod public;
pub mod root_key;
pub mod seed;
pub mod slot;
pub mod stretch;
pub mod wrap;

#[cfg(test)]
mod vectors;

pub use self::public::{Commitment, Digest, RootId, RootName, Salt, Uuid};

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
