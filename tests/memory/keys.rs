//! Computes every key of a plugin by name, and what a library derives from each. It uses only the state directory, as
//! `docs/hierarchy.md` describes it, and none of the project's code.

use std::{fs, path::Path};

use argon2::{Algorithm, Argon2, Params, Version};
use sha2::block_api::compress256;

use super::{
    aes::{MessageKeys, round_keys},
    needles::Needles,
};
use crate::oracle::{self, hkdf, hmac};

/// The labels of the keys that are derived from the root key. Its commitment is public.
const OF_ROOT: [&str; 5] = ["root-mac", "kek-wrap", "keyring-mac", "state-mac", "report-mac"];

/// The labels of the keys that are derived from a KEK, and that every call uses.
const OF_KEK: [&str; 2] = ["seed-wrap", "wrap-nonce"];

/// The keys that a state directory opens.
pub(super) struct Keys(oracle::Keys);

impl Keys {
    pub(super) fn of(state_dir: &Path) -> Self {
        Self(oracle::Keys::open(state_dir))
    }

    /// Returns the keys that only unsealing uses. Calls never touch them.
    pub(super) fn at_rest(&self) -> Needles {
        let mut needles = Needles::default();
        let Self(oracle::Keys { uuid, slot_salt, slot_secret, root, keks }) = self;
        add_source(&mut needles, "slot secret", slot_secret, slot_salt);
        add_key(&mut needles, "slot key", &hkdf(slot_secret, slot_salt, "claviger/v1/slot"));
        add_source(&mut needles, "root key", root, uuid);
        for label in OF_ROOT {
            add_key(&mut needles, label, &hkdf(root, uuid, &format!("claviger/v1/{label}")));
        }
        for kek in keks.values() {
            add_source(&mut needles, "KEK", kek, uuid);
        }
        needles
    }

    /// Returns all keys.
    pub(super) fn all(&self) -> Needles {
        let mut needles = self.at_rest();
        for kek in self.0.keks.values() {
            for label in OF_KEK {
                add_key(&mut needles, label, &hkdf(kek, &self.0.uuid, &format!("claviger/v1/{label}")));
            }
        }
        needles
    }

    /// Returns the computation of the keys of single messages under the only KEK.
    pub(super) fn message_keys(&self) -> MessageKeys {
        let kek = self.0.keks.values().next().unwrap();
        MessageKeys::of(&hkdf(kek, &self.0.uuid, "claviger/v1/seed-wrap"))
    }
}

/// Adds all secrets that come from `passphrase` in the only slot of the root file in `state_dir`. `slot add` has made
/// the slot.
pub(super) fn add_passphrase_slot(needles: &mut Needles, state_dir: &Path, passphrase: &str) {
    let root = fs::read_to_string(state_dir.join("root")).unwrap();
    let line = root.lines().find_map(|line| line.strip_prefix("-> slot passphrase passphrase ")).unwrap();
    let salt = line.strip_prefix("lanes=4 memory=262144 passes=3 salt=").unwrap();
    let salt: [u8; 16] = base16ct::lower::decode_vec(salt).unwrap().try_into().unwrap();
    let parameters = Params::new(256 * 1024, 3, 4, Some(32)).unwrap();
    let mut secret = [0; 32];
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, parameters);
    argon2.hash_password_into(passphrase.as_bytes(), &salt, &mut secret).unwrap();
    add_source(needles, "slot secret", &secret, &salt);
    add_key(needles, "slot key", &hkdf(&secret, &salt, "claviger/v1/slot"));
}

/// Adds a secret that keys are derived from, and the result of HKDF's extraction, which gives the same keys.
fn add_source(needles: &mut Needles, name: &str, secret: &[u8], salt: &[u8]) {
    needles.add(name, secret);
    let extracted = hmac(salt, secret).try_into().unwrap();
    add_key(needles, &format!("HKDF's extract of the {name}"), &extracted);
}

/// Adds a key for AES or for HMAC, with what both make of it. For a key of the other kind, that finds nothing.
fn add_key(needles: &mut Needles, name: &str, key: &[u8; 32]) {
    needles.add(name, key);
    for round_key in round_keys(key) {
        needles.add_raw(&format!("AES round key of {name}"), &round_key);
    }
    for pad in [0x36, 0x5c] {
        needles.add_raw(&format!("HMAC block of {name}"), &key.map(|byte| byte ^ pad));
        needles.add_raw(&format!("HMAC state of {name}"), &state_after(key, pad));
    }
}

/// Returns the state of SHA-256 after HMAC's first block, as words in memory. For an attacker who knows the rest, it is
/// as good as the key.
fn state_after(key: &[u8; 32], pad: u8) -> Vec<u8> {
    let mut state =
        [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];
    let mut block = [pad; 64];
    block.iter_mut().zip(key).for_each(|(byte, of_key)| *byte ^= of_key);
    compress256(&mut state, &[block]);
    state.map(u32::to_ne_bytes).concat()
}

#[test]
fn states_of_hmac_lead_to_its_tag() {
    let (key, message) = ([3; 32], [4; 55]);
    let words = |state: Vec<u8>| -> [u32; 8] {
        std::array::from_fn(|at| u32::from_ne_bytes(state[at * 4..][..4].try_into().unwrap()))
    };
    // Adds one padded block: the message, or the inner hash. Both come after a block of 64 bytes.
    let finish = |mut state, text: &[u8]| {
        let mut block = [text, &[0x80]].concat();
        block.resize(64, 0);
        let bits = u64::try_from((64 + text.len()) * 8).unwrap().to_be_bytes();
        block[56..].copy_from_slice(&bits);
        compress256(&mut state, &[block.try_into().unwrap()]);
        state.map(u32::to_be_bytes).concat()
    };
    let inner = finish(words(state_after(&key, 0x36)), &message);
    assert_eq!(finish(words(state_after(&key, 0x5c)), &inner), hmac(&key, &message));
}
