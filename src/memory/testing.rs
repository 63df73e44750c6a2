//! A random source for tests.

use super::{RandomError, fill_random};

/// A random source that always fails.
pub struct Dry;

impl rand::TryRng for Dry {
    type Error = std::fmt::Error;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        Err(std::fmt::Error)
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        Err(std::fmt::Error)
    }

    fn try_fill_bytes(&mut self, _: &mut [u8]) -> Result<(), Self::Error> {
        Err(std::fmt::Error)
    }
}

impl rand::TryCryptoRng for Dry {}

/// Returns the error of a random source that fails.
pub fn no_random() -> RandomError {
    fill_random(&mut Dry, &mut [0; 4]).unwrap_err()
}
