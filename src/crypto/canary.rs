//! The canary: a proof that a plugin can read under a key before anything is written under it.
//!
//! The command wraps 32 random bytes under the key. The associated data has a label of its own, so nobody can pass a
//! wrapped seed off as a canary to have the plugin open it. The plugin opens the bytes and answers with an HMAC under
//! them, which only a plugin with the key can compute.
//!
//! ```text
//! canary = the wrapped seed's format, AAD = LP("claviger/v1/canary") | LP(bytes 0 to 35) | LP(uuid) | LP(key_id)
//! answer = HMAC-SHA-256(the 32 bytes, LP("claviger/v1/canary") | LP(uuid) | LP(key_id))
//! ```
//!
//! Source: `docs/formats.md`, "canary".

use crate::memory::RandomError;

use super::{
    aead,
    kdf::{AadLabel, hmac_sha256},
    length_prefixed,
    seed::Seed,
    wrap::{Kek, UnwrapError},
};

/// A question that only a holder of the key can answer.
pub struct Canary {
    wrapped: Vec<u8>,
    answer: [u8; 32],
}

impl Canary {
    /// Makes a canary under `kek`, whose name is `key_id`.
    ///
    /// # Errors
    /// When the random source fails.
    pub fn new(rng: &mut impl rand::TryCryptoRng, kek: &Kek, key_id: &str) -> Result<Self, RandomError> {
        let bytes = Seed::random(rng)?;
        let wrapped = kek.wrap_labelled(rng, AadLabel::Canary, key_id, bytes.expose())?;
        Ok(Self { wrapped, answer: answer(kek, key_id, &bytes) })
    }

    /// Returns the wrapped canary, which the plugin has to open.
    pub fn wrapped(&self) -> &[u8] {
        &self.wrapped
    }

    /// Whether `answer` proves that the plugin has opened the canary. The comparison takes the same time for every
    /// answer.
    pub fn is_answered_by(&self, answer: &[u8; 32]) -> bool {
        aead::equal(&self.answer, answer)
    }
}

/// Opens a canary under `kek`, and returns the answer.
///
/// # Errors
/// When it is under another key, was changed, or is something else, for example a wrapped seed.
pub fn answer_to(kek: &Kek, key_id: &str, wrapped: &[u8]) -> Result<[u8; 32], UnwrapError> {
    Ok(answer(kek, key_id, &kek.unwrap_labelled(AadLabel::Canary, key_id, wrapped)?))
}

fn answer(kek: &Kek, key_id: &str, bytes: &Seed) -> [u8; 32] {
    let message = length_prefixed(&[AadLabel::Canary.info(), &kek.uuid().0, key_id.as_bytes()]);
    hmac_sha256(bytes.expose(), &[&message])
}

#[cfg(test)]
mod tests {
    use rand::rngs::SysRng;

    use super::*;
    use crate::crypto::Uuid;

    fn kek() -> Kek {
        Kek::generate(&mut SysRng, Uuid([7; 16])).unwrap()
    }

    #[test]
    fn only_the_key_answers() {
        let (own, other) = (kek(), kek());
        let canary = Canary::new(&mut SysRng, &own, "k2-aa").unwrap();
        assert!(canary.is_answered_by(&answer_to(&own, "k2-aa", canary.wrapped()).unwrap()));
        assert!(matches!(answer_to(&other, "k2-aa", canary.wrapped()), Err(UnwrapError::OtherKey)));
        assert!(answer_to(&own, "k3-aa", canary.wrapped()).is_err());
        let second = Canary::new(&mut SysRng, &own, "k2-aa").unwrap();
        assert!(!second.is_answered_by(&answer_to(&own, "k2-aa", canary.wrapped()).unwrap()), "an old answer");
        for at in 0..canary.wrapped().len() {
            let mut changed = canary.wrapped().to_vec();
            changed[at] ^= 1;
            assert!(answer_to(&own, "k2-aa", &changed).is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_canary_is_no_seed_and_a_seed_no_canary() {
        let kek = kek();
        let canary = Canary::new(&mut SysRng, &kek, "k2-aa").unwrap();
        assert!(kek.unwrap("k2-aa", canary.wrapped()).is_err());
        let seed = kek.wrap(&mut SysRng, "k2-aa", &Seed::random(&mut SysRng).unwrap()).unwrap();
        assert!(answer_to(&kek, "k2-aa", &seed).is_err());
    }
}
