//! The numbers of a keyring: its generations, and the sequence numbers of its keys. Both have bounds.

use crate::text::number;

/// The greatest generation. No honest keyring comes near it; a forged one must not use up the numbers.
pub const GENERATION_MAX: u64 = 1 << 40;

/// The greatest sequence number of a key.
pub const SEQ_MAX: u32 = 1 << 31;

/// Reads a generation: 1 to 2^40.
pub(super) fn read_generation(text: &str) -> Option<u64> {
    number(text).filter(|generation| (1..=GENERATION_MAX).contains(generation))
}

/// Reads a sequence number: 1 to 2^31.
pub(super) fn read_seq(text: &str) -> Option<u32> {
    number(text).filter(|seq| (1..=SEQ_MAX).contains(seq))
}
