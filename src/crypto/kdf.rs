//! HKDF-SHA-256 with its table of labels, HMAC-SHA-256, and the root key.
//!
//! `derive(secret, salt, label) = HKDF-Expand(HKDF-Extract(salt, secret), label, 32)`. The salt is the uuid of the
//! keyring, or the salt of a slot. Source: RFC 5869, RFC 2104; `docs/hierarchy.md` shows which key is derived from
//! which.
//!
//! The text of a label is part of the byte formats: it never changes, and has no other use. Commitments, MACs and keys have labels of
//! different types, so that a key that wraps cannot be derived as public bytes, for example.

use ring::{hkdf, hmac};

use crate::memory::{Secret, SecretError, without_traces};

use super::{RootId, Uuid, length_prefixed};

/// Labels of commitments, which are public.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommitLabel {
    /// From the root key: its commitment.
    RootId,
    /// From a KEK: its commitment.
    KekCommit,
}

/// Labels of keys that authenticate files. All are derived from the root key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MacLabel {
    /// Authenticates the root file.
    Root,
    /// Authenticates the record.
    Keyring,
    /// Authenticates this node's mark and ledger.
    State,
}

/// Labels of keys that wrap, seal or hedge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyLabel {
    /// From the root key: wraps earlier root keys in the root file.
    RootWrap,
    /// From the root key: wraps the KEKs in the record.
    KekWrap,
    /// From a KEK: the AEAD key that wraps seeds.
    SeedWrap,
    /// From a KEK: hedges the nonces.
    WrapNonce,
    /// From a slot's secret: the AEAD key that seals the root key.
    Slot,
}

impl CommitLabel {
    fn info(self) -> &'static [u8] {
        match self {
            Self::RootId => b"claviger/v1/root-id",
            Self::KekCommit => b"claviger/v1/kek-commit",
        }
    }
}

impl MacLabel {
    fn info(self) -> &'static [u8] {
        match self {
            Self::Root => b"claviger/v1/root-mac",
            Self::Keyring => b"claviger/v1/keyring-mac",
            Self::State => b"claviger/v1/state-mac",
        }
    }
}

impl KeyLabel {
    fn info(self) -> &'static [u8] {
        match self {
            Self::RootWrap => b"claviger/v1/root-wrap",
            Self::KekWrap => b"claviger/v1/kek-wrap",
            Self::SeedWrap => b"claviger/v1/seed-wrap",
            Self::WrapNonce => b"claviger/v1/wrap-nonce",
            Self::Slot => b"claviger/v1/slot",
        }
    }
}

/// Derives 32 bytes that are public: the commitment of a key in the keyring `uuid`.
pub fn commit(secret: &Secret<32>, uuid: Uuid, label: CommitLabel) -> [u8; 32] {
    let mut out = [0; 32];
    hkdf_sha256(secret.expose(), &uuid.0, label.info(), &mut out);
    out
}

/// HKDF-SHA-256 with an output of up to 255 blocks.
pub(super) fn hkdf_sha256(secret: &[u8], salt: &[u8], info: &[u8], out: &mut [u8]) {
    let filled = without_traces(|| {
        let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(secret);
        prk.expand(&[info], Length(out.len())).and_then(|okm| okm.fill(out))
    });
    assert!(filled.is_ok(), "at most 255 blocks are asked for");
}

/// The length of the output. ring wants a type for it.
struct Length(usize);

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

/// Derives a key of 32 bytes.
///
/// # Errors
/// When no memory can be locked.
pub fn derive(secret: &[u8], salt: &[u8], label: KeyLabel) -> Result<Secret<32>, SecretError> {
    derive_secret(secret, salt, label.info())
}

fn derive_secret(secret: &[u8], salt: &[u8], info: &[u8]) -> Result<Secret<32>, SecretError> {
    let mut out = Secret::zeroed()?;
    hkdf_sha256(secret, salt, info, out.expose_mut());
    Ok(out)
}

/// The root key: protects the keyring (also called master key). Never an AEAD key itself.
#[derive(Debug)]
pub struct RootKey(Secret<32>);

impl RootKey {
    /// Makes a new root key.
    ///
    /// # Errors
    /// When no memory can be locked or the random source fails.
    pub fn generate(rng: &mut impl rand::TryCryptoRng) -> Result<Self, SecretError> {
        Ok(Self(Secret::random(rng)?))
    }

    /// The root key that was in a slot or in a recovery blob.
    pub fn from_secret(secret: Secret<32>) -> Self {
        Self(secret)
    }

    /// Its bytes, for sealing.
    pub fn secret(&self) -> &Secret<32> {
        &self.0
    }

    /// Its public commitment in the keyring `uuid`.
    pub fn id(&self, uuid: Uuid) -> RootId {
        RootId(commit(&self.0, uuid, CommitLabel::RootId))
    }

    /// The key that wraps earlier root keys of the keyring `uuid`.
    ///
    /// # Errors
    /// When no memory can be locked.
    pub fn root_wrap(&self, uuid: Uuid) -> Result<Secret<32>, SecretError> {
        derive(self.0.expose(), &uuid.0, KeyLabel::RootWrap)
    }

    /// The key that wraps the KEKs of the keyring `uuid`.
    ///
    /// # Errors
    /// When no memory can be locked.
    pub fn kek_wrap(&self, uuid: Uuid) -> Result<Secret<32>, SecretError> {
        derive(self.0.expose(), &uuid.0, KeyLabel::KekWrap)
    }

    /// The key that authenticates one of the text formats of the keyring `uuid`.
    ///
    /// # Errors
    /// When no memory can be locked.
    pub fn mac(&self, uuid: Uuid, label: MacLabel) -> Result<MacKey, SecretError> {
        derive_secret(self.0.expose(), &uuid.0, label.info()).map(MacKey)
    }
}

/// The key that authenticates one kind of file.
#[derive(Debug)]
pub struct MacKey(Secret<32>);

impl MacKey {
    /// `HMAC-SHA-256(key, message)`.
    pub fn tag(&self, message: &[u8]) -> [u8; 32] {
        hmac_sha256(self.0.expose(), &[message])
    }

    /// Whether `tag` is the tag of `message`. Takes constant time.
    pub fn verify(&self, message: &[u8], tag: &[u8; 32]) -> bool {
        super::aead::equal(&self.tag(message), tag)
    }
}

/// `HMAC-SHA-256(key, part | part | …)`.
pub fn hmac_sha256(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    without_traces(|| {
        let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
        for part in parts {
            context.update(part);
        }
        let mut tag = [0; 32];
        tag.copy_from_slice(context.sign().as_ref());
        tag
    })
}

/// The associated data that binds a KEK to its place in the record: `LP("claviger/v1/kek") | LP(uuid) | LP(seq) | LP(C)
/// | LP(root-id)`.
pub fn kek_aad(uuid: Uuid, seq: u32, commitment: &super::Commitment, root_id: RootId) -> Vec<u8> {
    length_prefixed(&[b"claviger/v1/kek", &uuid.0, &seq.to_be_bytes(), &commitment.0, &root_id.0])
}

/// The associated data that binds an earlier root key to its place in the root file: `LP("claviger/v1/old-root") |
/// LP(uuid) | LP(old root-id) | LP(root-id)`.
pub fn old_root_aad(uuid: Uuid, old: RootId, root_id: RootId) -> Vec<u8> {
    length_prefixed(&[b"claviger/v1/old-root", &uuid.0, &old.0, &root_id.0])
}

#[cfg(test)]
mod tests {
    use rand::rngs::SysRng;

    use super::{super::Commitment, *};

    #[test]
    fn every_label_and_every_uuid_gives_another_key() {
        let secret = Secret::<32>::random(&mut SysRng).unwrap();
        let commitments = [CommitLabel::RootId, CommitLabel::KekCommit].map(CommitLabel::info);
        let macs = [MacLabel::Root, MacLabel::Keyring, MacLabel::State].map(MacLabel::info);
        let keys = [KeyLabel::RootWrap, KeyLabel::KekWrap, KeyLabel::SeedWrap, KeyLabel::WrapNonce, KeyLabel::Slot]
            .map(KeyLabel::info);
        let mut seen = std::collections::HashSet::new();
        for info in commitments.into_iter().chain(macs).chain(keys) {
            for uuid in [[0; 16], [1; 16]] {
                let derived = derive_secret(secret.expose(), &uuid, info).unwrap();
                assert!(seen.insert(*derived.expose()), "{}", String::from_utf8_lossy(info));
            }
        }
    }

    #[test]
    fn a_mac_verifies_its_message_only() {
        let key = RootKey::generate(&mut SysRng).unwrap().mac(Uuid([7; 16]), MacLabel::Root).unwrap();
        let tag = key.tag(b"message");
        assert!(key.verify(b"message", &tag));
        assert!(!key.verify(b"massage", &tag));
        assert!(!key.verify(b"message", &[0; 32]));
    }

    #[test]
    fn the_associated_data_of_a_wrapped_key_is_as_the_formats_have_it() {
        let (uuid, root_id) = (Uuid([1; 16]), RootId([2; 32]));
        let lp = |length: u8, bytes: &[u8]| [&[0, 0, 0, length], bytes].concat();
        let (of_uuid, of_root_id, of_third) = (lp(16, &[1; 16]), lp(32, &[2; 32]), lp(32, &[3; 32]));
        let kek = [&lp(15, b"claviger/v1/kek")[..], &of_uuid, &lp(4, &[0, 0, 1, 2]), &of_third, &of_root_id].concat();
        assert_eq!(kek_aad(uuid, 0x102, &Commitment([3; 32]), root_id), kek);
        let old_root = [&lp(20, b"claviger/v1/old-root")[..], &of_uuid, &of_third, &of_root_id].concat();
        assert_eq!(old_root_aad(uuid, RootId([3; 32]), root_id), old_root);
    }
}
