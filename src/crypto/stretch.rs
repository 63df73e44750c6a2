//! Argon2id 1.3: makes 32 bytes of a passphrase, at a cost that slows down guessing. Source: RFC 9106.

use argon2::{Algorithm, Argon2, Block, Params, Version};

use crate::memory::{Secret, SecretError, without_traces};

/// The cost of Argon2id: how much work and memory one guess of a passphrase takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    lanes: u32,
    memory: u32,
    passes: u32,
}

/// The greatest accepted cost. A cost that is read from a file must not take all memory, or minutes.
const MOST: Cost = Cost { lanes: 8, memory: 1024 * 1024, passes: 10 };

/// Why a passphrase was not stretched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StretchError {
    /// The machine does not have this many KiB of memory.
    #[error("no {0} KiB of memory for Argon2id")]
    NoRoom(u32),
    /// Argon2 refuses a cost that [`Cost`] allows. This is a defect of this build.
    #[error("Argon2id: {0}")]
    Argon2(#[from] argon2::Error),
    /// No memory could be locked for the derived key.
    #[error(transparent)]
    Memory(#[from] SecretError),
}

impl Default for Cost {
    fn default() -> Self {
        Self { lanes: 4, memory: 256 * 1024, passes: 3 }
    }
}

impl Cost {
    /// Makes a cost of so many lanes, KiB of memory and passes. Returns `None` if there are more than 8 lanes, 1 GiB or
    /// 10 passes, or fewer than Argon2 needs.
    pub fn new(lanes: u32, memory: u32, passes: u32) -> Option<Self> {
        let is_affordable = (1..=MOST.lanes).contains(&lanes)
            && (8 * lanes..=MOST.memory).contains(&memory)
            && (1..=MOST.passes).contains(&passes);
        is_affordable.then_some(Self { lanes, memory, passes })
    }

    /// Returns the degree of parallelism of Argon2id, 1 to 8 lanes.
    pub fn lanes(self) -> u32 {
        self.lanes
    }

    /// Returns the memory that Argon2id fills, in KiB: at most 1 GiB.
    pub fn memory(self) -> u32 {
        self.memory
    }

    /// Returns the number of passes over the memory, 1 to 10.
    pub fn passes(self) -> u32 {
        self.passes
    }
}

/// Derives 32 bytes from `passphrase` and `salt` by Argon2id at the cost `cost`.
///
/// # Errors
/// When there is not enough memory.
pub fn stretch(passphrase: &[u8], salt: &[u8; 16], cost: Cost) -> Result<Secret<32>, StretchError> {
    let mut out = Secret::zeroed()?;
    let parameters = Params::new(cost.memory, cost.passes, cost.lanes, Some(32))?;
    let mut blocks = Vec::new();
    blocks.try_reserve_exact(parameters.block_count()).map_err(|_| StretchError::NoRoom(cost.memory))?;
    blocks.resize(parameters.block_count(), Block::default());
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, parameters);
    without_traces(|| argon2.hash_password_into_with_memory(passphrase, salt, out.expose_mut(), &mut blocks))?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made with the reference implementation's command line:
    /// `printf 'correct horse battery staple' | argon2 claviger-salt-16 -id -v 13 -t 2 -k 1024 -p 2 -l 32 -r`.
    #[test]
    fn it_is_argon2id_as_everybody_has_it() {
        let cost = Cost::new(2, 1024, 2).unwrap();
        let out = stretch(b"correct horse battery staple", b"claviger-salt-16", cost).unwrap();
        assert_eq!(base16ct::lower::encode_string(out.expose()), KNOWN);
    }

    const KNOWN: &str = "2d1a70d9e9a657cd6225e5183e4775be8b96a76001c6e7092f588802ba1f0e80";

    #[test]
    fn a_cost_that_would_fill_the_machine_is_none() {
        assert!(Cost::new(8, 1024 * 1024, 10).is_some() && Cost::new(1, 8, 1).is_some());
        for [lanes, memory, passes] in
            [[0, 1024, 1], [9, 1024, 1], [1, 7, 1], [4, 31, 1], [1, 1024 * 1024 + 1, 1], [1, 64, 0], [1, 64, 11]]
        {
            assert_eq!(Cost::new(lanes, memory, passes), None);
        }
        let usual = Cost::default();
        assert_eq!(Cost::new(usual.lanes(), usual.memory(), usual.passes()), Some(usual));
    }

    #[test]
    fn a_cost_that_argon2_does_not_know_is_refused() {
        let none = Cost { lanes: 0, memory: 0, passes: 0 };
        let refused = stretch(b"correct horse", &[0; 16], none).unwrap_err().to_string();
        assert!(refused.starts_with("Argon2id: "), "{refused}");
    }
}
