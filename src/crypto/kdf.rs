//! HKDF-SHA-256 and HMAC-SHA-256, with the table of all labels.
//!
//! `derive(secret, salt, label) = HKDF-Expand(HKDF-Extract(salt, secret), label, 32)`. The salt is the uuid of the
//! keyring, or the salt of a slot. Source: RFC 5869, RFC 2104; `docs/hierarchy.md` shows which key is derived from
//! which.
//!
//! The text of a label is part of the byte formats: it never changes. A label has one use, with two exceptions. The
//! label of a slot derives a key and is in associated data. The label of a canary is in associated data and in the
//! message of the HMAC that answers the canary. Commitments, MACs and keys have labels of different types, so the
//! compiler refuses, for example, to derive a wrapping key as public bytes.

use ring::{hkdf, hmac};

use crate::memory::{Secret, SecretError, without_traces};

use super::{Commitment, RootId, RootName, Salt, Uuid, length_prefixed};

/// The label of a share's check value, which is the first bytes of `SHA-256(label, recipient)`.
#[cfg(feature = "shares")]
pub const SHARE_LABEL: &str = "claviger/v1/share";

/// Defines the labels of one kind. Each label has its use as documentation, and its text.
macro_rules! labels {
    ($(#[$kind:meta])* $name:ident { $($(#[$label_use:meta])* $label:ident = $text:literal,)+ }) => {
        $(#[$kind])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name {
            $($(#[$label_use])* $label,)+
        }

        impl $name {
            #[cfg(test)]
            const ALL: &[Self] = &[$(Self::$label,)+];

            /// Returns the text of the label, the `info` of HKDF or the first part of associated data.
            pub(super) fn info(self) -> &'static [u8] {
                match self {
                    $(Self::$label => $text,)+
                }
            }
        }
    };
}

labels!(
    /// Labels of commitments, which are public.
    CommitLabel {
        /// Derives the root-id, the public commitment of the root key.
        RootId = b"claviger/v1/root-id",
        /// Derives `C`, the public commitment of a KEK.
        KekCommit = b"claviger/v1/kek-commit",
    }
);

labels!(
    /// Labels of keys that authenticate files. All are derived from the root key.
    MacLabel {
        /// The key that authenticates the root file.
        Root = b"claviger/v1/root-mac",
        /// The key that authenticates the keyring record.
        Keyring = b"claviger/v1/keyring-mac",
        /// The key that authenticates this node's mark, ledger and rotation plan.
        State = b"claviger/v1/state-mac",
        /// The key that authenticates the reports of `claviger verify`.
        Report = b"claviger/v1/report-mac",
    }
);

labels!(
    /// Labels of keys that wrap, seal or hedge.
    KeyLabel {
        /// Derived from the root key: the key that wraps earlier root keys in the root file.
        RootWrap = b"claviger/v1/root-wrap",
        /// Derived from the root key: the key that wraps the KEKs in the record.
        KekWrap = b"claviger/v1/kek-wrap",
        /// Derived from a KEK: the AEAD key that wraps seeds.
        SeedWrap = b"claviger/v1/seed-wrap",
        /// Derived from a KEK: the HMAC key that hedges the nonces of wrapped seeds.
        WrapNonce = b"claviger/v1/wrap-nonce",
        /// Derived from a slot's secret: the AEAD key that seals the root key.
        Slot = b"claviger/v1/slot",
    }
);

labels!(
    /// Labels in associated data. They bind a ciphertext to its place. [`AadLabel::Slot`] and [`KeyLabel::Slot`] share
    /// one text. They cannot be confused, because HKDF reads one and the AEAD reads the other. The text cannot change,
    /// because stored slots depend on it.
    AadLabel {
        /// The associated data of a DEK seed that is wrapped under a KEK.
        DekSeed = b"claviger/v1/dek-seed",
        /// The associated data of a canary, by which a plugin proves that it can read under a key.
        Canary = b"claviger/v1/canary",
        /// The associated data of a KEK that is wrapped in the record.
        Kek = b"claviger/v1/kek",
        /// The associated data of an earlier root key that is wrapped in the root file.
        OldRoot = b"claviger/v1/old-root",
        /// The associated data of a root key that is sealed in a slot.
        Slot = b"claviger/v1/slot",
    }
);

/// Derives 32 bytes that are public: the commitment of a key in the keyring `uuid`.
pub(super) fn commit(secret: &Secret<32>, uuid: Uuid, label: CommitLabel) -> [u8; 32] {
    let mut out = [0; 32];
    hkdf_sha256(secret.expose(), &uuid.0, label.info(), &mut out);
    out
}

/// Computes HKDF-SHA-256, with an output of up to 255 blocks.
pub(super) fn hkdf_sha256(secret: &[u8], salt: &[u8], info: &[u8], out: &mut [u8]) {
    let filled = without_traces(|| {
        let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(secret);
        prk.expand(&[info], Length(out.len())).and_then(|okm| okm.fill(out))
    });
    filled.unwrap_or_else(|_| unreachable!("at most 255 blocks are asked for"));
}

/// The length of the HKDF output. ring's `KeyType` demands a type for it.
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
pub(super) fn derive(secret: &[u8], salt: Salt, label: KeyLabel) -> Result<Secret<32>, SecretError> {
    derive_secret(secret, salt, label.info())
}

/// Derives the bytes of a key that authenticates files of the keyring `uuid`.
pub(super) fn derive_mac(secret: &Secret<32>, uuid: Uuid, label: MacLabel) -> Result<Secret<32>, SecretError> {
    derive_secret(secret.expose(), uuid.into(), label.info())
}

fn derive_secret(secret: &[u8], salt: Salt, info: &[u8]) -> Result<Secret<32>, SecretError> {
    let mut out = Secret::zeroed()?;
    hkdf_sha256(secret, &salt.0, info, out.expose_mut());
    Ok(out)
}

/// Computes `HMAC-SHA-256(key, part | part | …)`.
pub(super) fn hmac_sha256(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
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

/// Returns the associated data that binds a KEK to its place in the record: `LP("claviger/v1/kek") | LP(uuid) | LP(seq)
/// | LP(C) | LP(root-id)`.
pub fn kek_aad(uuid: Uuid, seq: u32, commitment: &Commitment, root_id: RootId) -> Vec<u8> {
    length_prefixed(&[AadLabel::Kek.info(), &uuid.0, &seq.to_be_bytes(), &commitment.0, &root_id.0])
}

/// Returns the associated data that binds an earlier root key to its place in the root file:
/// `LP("claviger/v1/old-root") | LP(uuid) | LP(old root-id) | LP(root-id)`.
pub fn old_root_aad(uuid: Uuid, old: RootId, root_id: RootId) -> Vec<u8> {
    length_prefixed(&[AadLabel::OldRoot.info(), &uuid.0, &old.0, &root_id.0])
}

/// Returns the associated data that binds a sealed root key to the line of its slot: `LP("claviger/v1/slot") | LP(uuid)
/// | LP(root-id) | LP(line)`.
pub(super) fn slot_aad(RootName { uuid, root_id }: RootName, line: &str) -> Vec<u8> {
    length_prefixed(&[AadLabel::Slot.info(), &uuid.0, &root_id.0, line.as_bytes()])
}

#[cfg(test)]
mod tests {
    use rand::rngs::SysRng;

    use super::*;

    #[test]
    fn every_label_and_every_uuid_gives_another_key() {
        let secret = Secret::<32>::random(&mut SysRng).unwrap();
        let commitments = CommitLabel::ALL.iter().map(|label| label.info());
        let macs = MacLabel::ALL.iter().map(|label| label.info());
        let keys = KeyLabel::ALL.iter().map(|label| label.info());
        // A slot's key and its associated data share one label.
        let aads = AadLabel::ALL.iter().filter(|label| **label != AadLabel::Slot).map(|label| label.info());
        assert_eq!(AadLabel::Slot.info(), KeyLabel::Slot.info());
        let mut seen = std::collections::HashSet::new();
        for info in commitments.chain(macs).chain(keys).chain(aads) {
            for uuid in [[0; 16], [1; 16]] {
                let derived = derive_secret(secret.expose(), Salt(uuid), info).unwrap();
                assert!(seen.insert(*derived.expose()), "{}", String::from_utf8_lossy(info));
            }
        }
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
        let slot = [&lp(16, b"claviger/v1/slot")[..], &of_uuid, &of_root_id, &lp(4, b"line")].concat();
        assert_eq!(slot_aad(RootName { uuid, root_id }, "line"), slot);
    }
}
