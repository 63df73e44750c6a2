//! The bound of a keyring's generation. [`text`](crate::text) has the bound of the keys' sequence numbers.

use crate::text::number;

/// The greatest generation. No honest keyring comes near it; a forged one must not use up the numbers.
pub const GENERATION_MAX: u64 = 1 << 40;

/// Reads a generation: 1 to 2^40.
pub fn read_generation(text: &str) -> Option<u64> {
    number(text).filter(|generation| (1..=GENERATION_MAX).contains(generation))
}
