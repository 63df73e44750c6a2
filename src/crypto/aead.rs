//! XAES-256-GCM, and keys wrapped with it. No other file names the crate of the AEAD.
//!
//! A random 192-bit nonce is safe for 2^80 messages under one key. The AEAD does not commit to its key, so code that
//! must know which key opened something compares a commitment as well. Source: <https://c2sp.org/XAES-256-GCM>.
//! `vectors.rs` checks the specification's test vectors, including the accumulated ones.

use subtle::ConstantTimeEq;
use xaes_256_gcm::{
    Key, Nonce, Tag, Xaes256Gcm,
    aead::{AeadInOut, KeyInit},
};

use crate::memory::{RandomError, Secret, SecretError, fill_random, without_traces};

/// The length of an XAES-256-GCM nonce in bytes.
pub(super) const NONCE: usize = 24;
/// The length of an AEAD tag in bytes.
pub(super) const TAG: usize = 16;
/// Bytes of a wrapped key: `nonce24 | ct32 | tag16`.
const WRAPPED_KEY: usize = NONCE + 32 + TAG;

/// The tag does not match: the key, the associated data or the bytes differ from those of the encryption.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("ciphertext failed authentication")]
pub struct NotAuthentic;

/// Why a wrapped key did not open.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenKeyError {
    /// The key, the associated data or the bytes differ from those of the wrapping.
    #[error(transparent)]
    NotAuthentic(#[from] NotAuthentic),
    /// There is no locked memory for the key.
    #[error(transparent)]
    Memory(#[from] SecretError),
}

/// Encrypts `buffer` in place and returns the tag.
///
/// # Panics
/// Never for the sizes used here: the algorithm accepts up to 64 GiB.
pub(super) fn protect_in_place(key: &[u8; 32], nonce: &[u8; NONCE], aad: &[u8], buffer: &mut [u8]) -> [u8; TAG] {
    let protected = without_traces(|| cipher(key).encrypt_inout_detached(&Nonce::from(*nonce), aad, buffer.into()));
    match protected {
        Ok(tag) => tag.into(),
        Err(_) => unreachable!("a buffer of at most 64 KiB is within the algorithm's limits"),
    }
}

/// Authenticates and decrypts `buffer` in place.
///
/// # Errors
/// When the tag does not match. Then `buffer` contains no plaintext.
pub(super) fn open_in_place(
    key: &[u8; 32],
    nonce: &[u8; NONCE],
    aad: &[u8],
    buffer: &mut [u8],
    tag: &[u8; TAG],
) -> Result<(), NotAuthentic> {
    let (nonce, tag) = (Nonce::from(*nonce), Tag::from(*tag));
    let opened = without_traces(|| cipher(key).decrypt_inout_detached(&nonce, aad, buffer.into(), &tag));
    opened.map_err(|_| NotAuthentic)
}

fn cipher(key: &[u8; 32]) -> Xaes256Gcm {
    // The cipher gets a reference, because a copy of the key would outlive it.
    Xaes256Gcm::new(<&Key>::from(key))
}

/// A key that wraps keys. Only `crypto` derives one.
#[derive(Debug)]
pub struct WrapKey(pub(super) Secret<32>);

/// A 32-byte key, wrapped under another key, as it is stored: `nonce24 | ct32 | tag16`.
#[derive(Clone, PartialEq, Eq)]
pub struct WrappedKey(pub [u8; WRAPPED_KEY]);

impl std::fmt::Debug for WrappedKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WrappedKey")
    }
}

impl WrappedKey {
    /// Wraps `secret` under `key` with a random nonce.
    ///
    /// # Errors
    /// When the random source fails.
    pub fn wrap(
        rng: &mut impl rand::TryCryptoRng,
        key: &WrapKey,
        aad: &[u8],
        secret: &Secret<32>,
    ) -> Result<Self, RandomError> {
        let mut nonce = [0; NONCE];
        fill_random(rng, &mut nonce)?;
        let mut wrapped = [0; WRAPPED_KEY];
        wrapped[..NONCE].copy_from_slice(&nonce);
        let body = &mut wrapped[NONCE..NONCE + 32];
        body.copy_from_slice(secret.expose());
        let tag = protect_in_place(key.0.expose(), &nonce, aad, body);
        wrapped[NONCE + 32..].copy_from_slice(&tag);
        Ok(Self(wrapped))
    }

    /// Unwraps the key straight into locked memory.
    ///
    /// # Errors
    /// When it is not authentic under `key` and `aad`, or no memory can be locked.
    pub fn open(&self, key: &WrapKey, aad: &[u8]) -> Result<Secret<32>, OpenKeyError> {
        let (nonce, body, tag) = self.parts();
        let mut secret = Secret::zeroed()?;
        secret.expose_mut().copy_from_slice(body);
        open_in_place(key.0.expose(), nonce, aad, secret.expose_mut(), tag)?;
        Ok(secret)
    }

    fn parts(&self) -> (&[u8; NONCE], &[u8; 32], &[u8; TAG]) {
        let whole = || -> Option<_> {
            let (nonce, rest) = self.0.split_first_chunk::<NONCE>()?;
            let (body, rest) = rest.split_first_chunk::<32>()?;
            Some((nonce, body, rest.first_chunk::<TAG>()?))
        };
        whole().unwrap_or_else(|| unreachable!("the lengths add up to WRAPPED_KEY"))
    }
}

/// Compares public or secret bytes in constant time.
pub fn equal(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}

#[cfg(test)]
mod tests {
    use rand::rngs::SysRng;

    use super::*;

    #[test]
    fn a_wrapped_key_opens_under_its_key_and_aad_only() {
        let (key, other, secret) = (
            WrapKey(Secret::random(&mut SysRng).unwrap()),
            WrapKey(Secret::random(&mut SysRng).unwrap()),
            Secret::random(&mut SysRng).unwrap(),
        );
        let wrapped = WrappedKey::wrap(&mut SysRng, &key, b"role", &secret).unwrap();
        assert_eq!(wrapped.open(&key, b"role").unwrap().expose(), secret.expose());
        assert!(matches!(wrapped.open(&other, b"role"), Err(OpenKeyError::NotAuthentic(_))));
        assert!(matches!(wrapped.open(&key, b"another role"), Err(OpenKeyError::NotAuthentic(_))));
        for bit in 0..WRAPPED_KEY * 8 {
            let mut bytes = wrapped.0;
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(WrappedKey(bytes).open(&key, b"role").is_err(), "bit {bit}");
        }
    }

    #[test]
    fn wrapping_twice_gives_other_bytes_and_debug_prints_none() {
        let key = WrapKey(Secret::random(&mut SysRng).unwrap());
        let wrap = || WrappedKey::wrap(&mut SysRng, &key, b"", &key.0).unwrap();
        assert_ne!(wrap(), wrap());
        assert_eq!(format!("{:?}", wrap()), "WrappedKey");
    }
}
