//! Fills memory with random bytes.

/// The operating system's random source failed. Contains its reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the system's random source failed: {0}")]
pub struct RandomError(String);

/// Fills `out` with random bytes.
///
/// # Errors
/// When the source fails. Then `out` must not be used.
pub fn fill_random(rng: &mut impl rand::TryCryptoRng, out: &mut [u8]) -> Result<(), RandomError> {
    rng.try_fill_bytes(out).map_err(|error| RandomError(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::super::testing::no_random;

    #[test]
    fn a_random_source_that_fails_is_an_error() {
        let reason = std::fmt::Error;
        assert_eq!(no_random().to_string(), format!("the system's random source failed: {reason}"));
    }
}
