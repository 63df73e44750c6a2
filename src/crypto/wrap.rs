//! The wrapped seed, version 1: a DEK seed under a KEK.
//!
//! ```text
//! offset length
//!   0      2    4b 57 ("KW")
//!   2      1    version 01
//!   3      1    suite 01 = HKDF-SHA-256 + XAES-256-GCM
//!   4     32    C, the commitment of the KEK
//!  36     24    nonce = HMAC-SHA-256(wrap-nonce, 32 random bytes | seed)[..24]
//!  60      n    ciphertext, 1 to 512 bytes
//!  60+n   16    tag
//! AAD = LP("claviger/v1/dek-seed") | LP(bytes 0 to 35) | LP(uuid) | LP(key_id)
//! ```
//!
//! Invariant: exactly one key is tried, and bytes that were not authenticated are never returned. Source:
//! `docs/formats.md`.

use zeroize::Zeroize;

use crate::memory::{RandomError, Secret, SecretError, fill_random, without_traces};

use super::{
    Commitment, Uuid,
    aead::{self, NONCE, NotAuthentic, TAG},
    kdf::{self, AadLabel, CommitLabel, KeyLabel, hmac_sha256},
    length_prefixed,
    seed::{SEED_MAX, Seed, SeedSize},
};

const MAGIC: [u8; 2] = *b"KW";
const VERSION: u8 = 1;
const SUITE: u8 = 1;
/// The length in bytes of magic, version, suite and commitment. The AAD repeats these bytes.
const HEADER: usize = 36;
const OVERHEAD: usize = HEADER + NONCE + TAG;

/// A key-encryption key, and the keys that are derived from it.
#[derive(Debug)]
pub struct Kek {
    uuid: Uuid,
    commitment: Commitment,
    secret: Secret<32>,
    seed_wrap: Secret<32>,
    wrap_nonce: Secret<32>,
}

/// Why a wrapped seed was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UnwrapError {
    /// The bytes are fewer or more than a wrapped seed can have.
    #[error("wrapped seed is {0} bytes long, expected 77 to 588")]
    Length(usize),
    /// The magic bytes are missing, so claviger did not write this.
    #[error("wrapped seed does not begin with KW")]
    Magic,
    /// The version is unknown: a newer version of claviger may have written this.
    #[error("wrapped seed has version {0}, expected 1")]
    Version(u8),
    /// The suite is unknown: a newer version of claviger may have written this.
    #[error("wrapped seed has suite {0}, expected 1")]
    Suite(u8),
    /// The `key_id` names one KEK, and the wrapped seed names another.
    #[error("ciphertext is wrapped under another key")]
    OtherKey,
    /// The AEAD tag does not match: the bytes, the uuid or the `key_id` are wrong.
    #[error(transparent)]
    NotAuthentic(#[from] NotAuthentic),
}

impl Kek {
    /// Makes a new KEK of the keyring `uuid`.
    ///
    /// # Errors
    /// When no memory can be locked or the random source fails.
    pub fn generate(rng: &mut impl rand::TryCryptoRng, uuid: Uuid) -> Result<Self, SecretError> {
        Self::from_secret(Secret::random(rng)?, uuid)
    }

    /// Derives the keys of the KEK whose 32 bytes are `secret`.
    ///
    /// # Errors
    /// When no memory can be locked.
    pub fn from_secret(secret: Secret<32>, uuid: Uuid) -> Result<Self, SecretError> {
        Ok(Self {
            uuid,
            commitment: Commitment(kdf::commit(&secret, uuid, CommitLabel::KekCommit)),
            seed_wrap: kdf::derive(secret.expose(), uuid.into(), KeyLabel::SeedWrap)?,
            wrap_nonce: kdf::derive(secret.expose(), uuid.into(), KeyLabel::WrapNonce)?,
            secret,
        })
    }

    /// Returns the uuid of the keyring that the KEK belongs to.
    pub(super) fn uuid(&self) -> Uuid {
        self.uuid
    }

    /// Returns `C`, the public commitment of the KEK.
    pub fn commitment(&self) -> Commitment {
        self.commitment
    }

    /// Returns the 32 bytes of the KEK, for wrapping them into the record.
    pub fn secret(&self) -> &Secret<32> {
        &self.secret
    }

    /// Wraps `seed` under this key. `key_id` is the name of the key.
    ///
    /// # Errors
    /// When the random source fails.
    pub fn wrap(&self, rng: &mut impl rand::TryCryptoRng, key_id: &str, seed: &Seed) -> Result<Vec<u8>, RandomError> {
        without_traces(|| self.wrap_labelled(rng, AadLabel::DekSeed, key_id, seed.expose()))
    }

    /// Wraps `seed` with `label` in the associated data, as [`wrap`](Self::wrap) does with [`AadLabel::DekSeed`].
    pub(super) fn wrap_labelled(
        &self,
        rng: &mut impl rand::TryCryptoRng,
        label: AadLabel,
        key_id: &str,
        seed: &[u8],
    ) -> Result<Vec<u8>, RandomError> {
        let header = self.header();
        let nonce = self.nonce(rng, seed)?;
        let mut out = Vec::with_capacity(OVERHEAD + seed.len());
        out.extend_from_slice(&header);
        out.extend_from_slice(&nonce);
        out.extend_from_slice(seed);
        let aad = self.aad(label, &header, key_id);
        let tag = aead::protect_in_place(self.seed_wrap.expose(), &nonce, &aad, &mut out[HEADER + NONCE..]);
        out.extend_from_slice(&tag);
        Ok(out)
    }

    /// Unwraps a seed that [`Kek::wrap`] wrapped with the same `key_id`.
    ///
    /// # Errors
    /// When the bytes are not a wrapped seed of version 1, are wrapped under another key, or are not authentic.
    pub fn unwrap(&self, key_id: &str, wrapped: &[u8]) -> Result<Seed, UnwrapError> {
        self.unwrap_labelled(AadLabel::DekSeed, key_id, wrapped)
    }

    /// Unwraps a seed that [`wrap_labelled`](Self::wrap_labelled) wrapped with the same label and `key_id`.
    pub(super) fn unwrap_labelled(&self, label: AadLabel, key_id: &str, wrapped: &[u8]) -> Result<Seed, UnwrapError> {
        let parts = SeedParts::split(wrapped)?;
        if !aead::equal(parts.commitment()?, &self.commitment.0) {
            return Err(UnwrapError::OtherKey);
        }
        let mut seed = Seed::new(parts.ciphertext.to_vec()).map_err(|SeedSize| UnwrapError::Length(wrapped.len()))?;
        let aad = self.aad(label, parts.header, key_id);
        aead::open_in_place(self.seed_wrap.expose(), parts.nonce, &aad, seed.expose_mut(), parts.tag)?;
        Ok(seed)
    }

    fn header(&self) -> [u8; HEADER] {
        let mut header = [0; HEADER];
        header[..2].copy_from_slice(&MAGIC);
        header[2] = VERSION;
        header[3] = SUITE;
        header[4..].copy_from_slice(&self.commitment.0);
        header
    }

    /// Makes a hedged nonce. If a cloned machine or a broken random source repeats its bytes, an observer learns at
    /// worst which seeds are equal.
    fn nonce(&self, rng: &mut impl rand::TryCryptoRng, seed: &[u8]) -> Result<[u8; NONCE], RandomError> {
        let mut random = [0; 32];
        fill_random(rng, &mut random)?;
        let mut hedged = hmac_sha256(self.wrap_nonce.expose(), &[&random, seed]);
        let mut nonce = [0; NONCE];
        nonce.copy_from_slice(&hedged[..NONCE]);
        hedged.zeroize();
        random.zeroize();
        Ok(nonce)
    }

    fn aad(&self, label: AadLabel, header: &[u8; HEADER], key_id: &str) -> Vec<u8> {
        length_prefixed(&[label.info(), header, &self.uuid.0, key_id.as_bytes()])
    }
}

/// Reads the commitment of the KEK that `wrapped` names. Returns `None` if `wrapped` does not have the shape of a
/// wrapped seed.
///
/// Anybody can write bytes of that shape, so this proves nothing: only [`Kek::unwrap`] does.
pub fn commitment_in(wrapped: &[u8]) -> Option<Commitment> {
    let parts = SeedParts::split(wrapped).ok()?;
    parts.commitment().ok().map(|commitment| Commitment(*commitment))
}

/// Returns why this version cannot read `wrapped`, if `wrapped` begins with the magic bytes of a wrapped seed and has
/// another form. A newer version of claviger may have written it.
pub fn unknown_form(wrapped: &[u8]) -> Option<UnwrapError> {
    match *wrapped.strip_prefix(&MAGIC)? {
        [version, ..] if version != VERSION => Some(UnwrapError::Version(version)),
        [_, suite, ..] if suite != SUITE => Some(UnwrapError::Suite(suite)),
        _ => SeedParts::split(wrapped).err(),
    }
}

/// A wrapped seed, cut at its offsets.
struct SeedParts<'a> {
    header: &'a [u8; HEADER],
    nonce: &'a [u8; NONCE],
    ciphertext: &'a [u8],
    tag: &'a [u8; TAG],
}

impl<'a> SeedParts<'a> {
    fn split(wrapped: &'a [u8]) -> Result<Self, UnwrapError> {
        let cut = || {
            let (header, rest) = wrapped.split_first_chunk::<HEADER>()?;
            let (nonce, rest) = rest.split_first_chunk::<NONCE>()?;
            let (ciphertext, tag) = rest.split_last_chunk::<TAG>()?;
            (1..=SEED_MAX).contains(&ciphertext.len()).then_some(Self { header, nonce, ciphertext, tag })
        };
        cut().ok_or(UnwrapError::Length(wrapped.len()))
    }

    fn commitment(&self) -> Result<&'a [u8; 32], UnwrapError> {
        let [m0, m1, version, suite, commitment @ ..] = self.header;
        if [*m0, *m1] != MAGIC {
            return Err(UnwrapError::Magic);
        }
        if *version != VERSION {
            return Err(UnwrapError::Version(*version));
        }
        if *suite != SUITE {
            return Err(UnwrapError::Suite(*suite));
        }
        Ok(commitment)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::rngs::SysRng;

    use super::*;

    const UUID: Uuid = Uuid([9; 16]);
    const ID: &str = "k1-00112233445566778899aabbccddeeff";

    fn kek(byte: u8, uuid: Uuid) -> Kek {
        let mut secret = Secret::zeroed().unwrap();
        secret.expose_mut().fill(byte);
        Kek::from_secret(secret, uuid).unwrap()
    }

    fn seed(bytes: &[u8]) -> Seed {
        Seed::new(bytes.to_vec()).unwrap()
    }

    fn wrapped() -> Vec<u8> {
        kek(1, UUID).wrap(&mut SysRng, ID, &seed(&[0x5a; 32])).unwrap()
    }

    #[test]
    fn a_seed_of_32_bytes_takes_108() {
        assert_eq!(wrapped().len(), 108);
    }

    #[test]
    fn every_flipped_bit_is_refused_with_its_reason() {
        let kek = kek(1, UUID);
        let wrapped = wrapped();
        for bit in 0..wrapped.len() * 8 {
            let mut bytes = wrapped.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let expected = match bit / 8 {
                0..=1 => UnwrapError::Magic,
                2 => UnwrapError::Version(bytes[2]),
                3 => UnwrapError::Suite(bytes[3]),
                4..=35 => UnwrapError::OtherKey,
                _ => UnwrapError::NotAuthentic(NotAuthentic),
            };
            assert_eq!(kek.unwrap(ID, &bytes).unwrap_err(), expected, "bit {bit}");
        }
    }

    #[test]
    fn a_refusal_says_what_was_found_and_what_was_expected() {
        let kek = kek(1, UUID);
        let changed = |at: usize, byte: u8| {
            let mut bytes = wrapped();
            bytes[at] = byte;
            kek.unwrap(ID, &bytes).unwrap_err().to_string()
        };
        assert_eq!(changed(0, b'X'), "wrapped seed does not begin with KW");
        assert_eq!(changed(2, 2), "wrapped seed has version 2, expected 1");
        assert_eq!(changed(3, 9), "wrapped seed has suite 9, expected 1");
        let short = kek.unwrap(ID, &wrapped()[..76]).unwrap_err();
        assert_eq!(short.to_string(), "wrapped seed is 76 bytes long, expected 77 to 588");
    }

    #[test]
    fn the_commitment_is_read_of_nothing_but_the_shape_of_a_wrapped_seed() {
        let kek = kek(1, UUID);
        for length in [1, 32, SEED_MAX] {
            let wrapped = kek.wrap(&mut SysRng, ID, &seed(&vec![7; length])).unwrap();
            assert_eq!(commitment_in(&wrapped), Some(kek.commitment()), "a seed of {length} bytes");
        }
        let wrapped = wrapped();
        for at in 0..4 {
            let mut other = wrapped.clone();
            other[at] ^= 1;
            assert_eq!(commitment_in(&other), None, "byte {at}");
        }
        for length in [0, 4, 36, 76, 589] {
            let mut other = wrapped.clone();
            other.resize(length, 0);
            assert_eq!(commitment_in(&other), None, "{length} bytes");
        }
        for length in [77, 588] {
            let mut other = wrapped.clone();
            other.resize(length, 0);
            assert_eq!(commitment_in(&other), Some(kek.commitment()), "{length} bytes");
        }
    }

    #[test]
    fn every_truncation_and_every_extension_is_refused() {
        let kek = kek(1, UUID);
        let wrapped = wrapped();
        for length in 0..wrapped.len() {
            let expected =
                if length < 77 { UnwrapError::Length(length) } else { UnwrapError::NotAuthentic(NotAuthentic) };
            assert_eq!(kek.unwrap(ID, &wrapped[..length]).unwrap_err(), expected, "{length} bytes");
        }
        for extra in [1, 479, 480, 481, 65_536] {
            let longer = [wrapped.clone(), vec![0; extra]].concat();
            assert!(kek.unwrap(ID, &longer).is_err(), "{extra} more bytes");
        }
    }

    #[test]
    fn a_wrapped_seed_cannot_be_moved() {
        let wrapped = wrapped();
        let other_id = "k2-00112233445566778899aabbccddeeff";
        assert_eq!(kek(1, UUID).unwrap(other_id, &wrapped).unwrap_err(), UnwrapError::NotAuthentic(NotAuthentic));
        assert_eq!(kek(2, UUID).unwrap(ID, &wrapped).unwrap_err(), UnwrapError::OtherKey);
        // The same 32 bytes in another keyring are another key.
        assert_eq!(kek(1, Uuid([8; 16])).unwrap(ID, &wrapped).unwrap_err(), UnwrapError::OtherKey);
    }

    #[test]
    fn a_forged_commitment_does_not_open_another_keys_seed() {
        let mut forged = wrapped();
        let other = kek(2, UUID);
        forged[4..36].copy_from_slice(&other.commitment().0);
        assert_eq!(other.unwrap(ID, &forged).unwrap_err(), UnwrapError::NotAuthentic(NotAuthentic));
    }

    /// A random source that always returns the same bytes, as on a cloned machine.
    struct Stuck;
    impl rand::TryRng for Stuck {
        type Error = std::convert::Infallible;
        fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
            Ok(7)
        }
        fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
            Ok(7)
        }
        fn try_fill_bytes(&mut self, dst: &mut [u8]) -> Result<(), Self::Error> {
            dst.fill(7);
            Ok(())
        }
    }
    impl rand::TryCryptoRng for Stuck {}

    #[test]
    fn a_stuck_random_source_repeats_a_nonce_for_an_equal_seed_only() {
        let kek = kek(1, UUID);
        let nonce = |bytes: &[u8]| kek.wrap(&mut Stuck, ID, &seed(bytes)).unwrap()[36..60].to_vec();
        assert_eq!(nonce(&[1; 32]), nonce(&[1; 32]));
        assert_ne!(nonce(&[1; 32]), nonce(&[2; 32]));
    }

    proptest! {
        #[test]
        fn what_was_wrapped_unwraps(bytes in proptest::collection::vec(any::<u8>(), 1..=SEED_MAX)) {
            let kek = kek(1, UUID);
            let wrapped = kek.wrap(&mut SysRng, ID, &seed(&bytes)).unwrap();
            let opened = kek.unwrap(ID, &wrapped).unwrap();
            prop_assert_eq!(opened.expose(), &bytes[..]);
            // The wrapped seed does not contain the seed. The probability that 8 bytes are equal by chance is below
            // 2^-50.
            if bytes.len() >= 8 {
                prop_assert!(!wrapped.windows(8).any(|window| bytes.windows(8).any(|part| part == window)));
            }
        }

        #[test]
        fn arbitrary_bytes_never_open(bytes in proptest::collection::vec(any::<u8>(), 0..700)) {
            prop_assert!(kek(1, UUID).unwrap(ID, &bytes).is_err());
        }
    }
}
