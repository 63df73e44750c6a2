//! Fills memory with random bytes.

/// The operating system's random source failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the system's random source failed")]
pub struct RandomError;

/// Fills `out` with random bytes.
///
/// # Errors
/// When the source fails. Then `out` must not be used.
pub fn fill_random(rng: &mut impl rand::TryCryptoRng, out: &mut [u8]) -> Result<(), RandomError> {
    rng.try_fill_bytes(out).map_err(|_| RandomError)
}

#[cfg(test)]
mod tests {
    use super::{super::testing::Dry, *};

    #[test]
    fn a_random_source_that_fails_is_an_error() {
        let refused = fill_random(&mut Dry, &mut [0; 4]).unwrap_err();
        assert_eq!(refused.to_string(), "the system's random source failed");
    }
}
