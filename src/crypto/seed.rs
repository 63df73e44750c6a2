//! A DEK seed in the clear. An API server derives its data-encryption keys from it, and a plugin sees it only to wrap
//! or unwrap it.

use std::fmt;

use zeroize::Zeroizing;

use crate::memory::{RandomError, fill_random};

/// The longest seed in bytes. Those of kube-apiserver have 32.
pub const SEED_MAX: usize = 512;

/// A DEK seed of 1 to 512 bytes. Its memory is wiped on drop, and nothing prints it.
pub struct Seed(Zeroizing<Vec<u8>>);

/// The seed has the wrong length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("plaintext must be 1 to 512 bytes")]
pub struct SeedSize;

impl Seed {
    /// Takes `bytes`, without a copy. Wipes them if they are refused.
    ///
    /// # Errors
    /// When there are not 1 to 512 bytes.
    pub fn new(bytes: Vec<u8>) -> Result<Self, SeedSize> {
        let bytes = Zeroizing::new(bytes);
        if (1..=SEED_MAX).contains(&bytes.len()) { Ok(Self(bytes)) } else { Err(SeedSize) }
    }

    /// Makes a seed of 32 random bytes.
    ///
    /// # Errors
    /// When the random source fails.
    pub fn random(rng: &mut impl rand::TryCryptoRng) -> Result<Self, RandomError> {
        let mut bytes = Zeroizing::new(vec![0; 32]);
        fill_random(rng, &mut bytes)?;
        Ok(Self(bytes))
    }

    /// Returns the bytes of the seed.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Returns the bytes of the seed, to decrypt them in place.
    pub(super) fn expose_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }

    /// Moves the bytes of the seed out, without a copy.
    pub fn into_bytes(self) -> Zeroizing<Vec<u8>> {
        self.0
    }
}

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seed")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_of_no_bytes_or_too_many_are_refused() {
        for length in [0, 513, 65_536] {
            assert_eq!(Seed::new(vec![0; length]).unwrap_err().to_string(), "plaintext must be 1 to 512 bytes");
        }
        for length in [1, 32, 512] {
            assert_eq!(Seed::new(vec![7; length]).unwrap().expose(), vec![7; length]);
        }
    }

    #[test]
    fn a_seed_prints_nothing_of_itself() {
        assert_eq!(format!("{:?}", Seed::new(b"shown nowhere".to_vec()).unwrap()), "Seed");
    }
}
