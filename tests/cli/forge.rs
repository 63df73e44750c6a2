//! Forges records and marks with the real root key. Their HMAC is valid, but no honest program would write them.
//!
//! The code is written from `docs/formats.md` alone, and uses none of the project's code.

use std::{
    fs,
    path::{Path, PathBuf},
};

use base64ct::{Base64, Encoding};
use ring::{hkdf, hmac};
use xaes_256_gcm::{
    Xaes256Gcm,
    aead::{Aead, KeyInit, Payload},
};

/// A state directory, with its opened root key.
pub(crate) struct Forge {
    state_dir: PathBuf,
    uuid: Vec<u8>,
    root_id: Vec<u8>,
    root_key: Vec<u8>,
}

impl Forge {
    /// Opens the root file in `state_dir` by its file slot.
    pub(crate) fn of(state_dir: &Path) -> Self {
        let root = fs::read_to_string(state_dir.join("root")).unwrap();
        let uuid = base16ct::lower::decode_vec(value(&root, "uuid ")).unwrap();
        let root_id = Base64::decode_vec(value(&root, "root-id ")).unwrap();
        let slot = root.lines().find(|line| line.starts_with("-> slot ")).unwrap();
        let salt = base16ct::lower::decode_vec(slot.rsplit("salt=").next().unwrap()).unwrap();
        let key = hkdf(&fs::read(state_dir.join("slot-file.key")).unwrap(), &salt, "claviger/v1/slot");
        let aad = lp(&[b"claviger/v1/slot", &uuid, &root_id, slot.as_bytes()]);
        let root_key = open(&key, line_after(&root, slot), &aad);
        Self { state_dir: state_dir.to_owned(), uuid, root_id, root_key }
    }

    /// Returns the bytes of the root key.
    pub(crate) fn root_key(&self) -> Vec<u8> {
        self.root_key.clone()
    }

    /// Returns the bytes of the only KEK.
    pub(crate) fn kek(&self) -> Vec<u8> {
        let record = fs::read_to_string(self.state_dir.join("keyring")).unwrap();
        let line = record.lines().find(|line| line.starts_with("-> key ")).unwrap();
        let commitment = Base64::decode_vec(line.split(' ').nth(4).unwrap()).unwrap();
        let aad = lp(&[b"claviger/v1/kek", &self.uuid, &1_u32.to_be_bytes(), &commitment, &self.root_id]);
        open(&hkdf(&self.root_key, &self.uuid, "claviger/v1/kek-wrap"), line_after(&record, line), &aad)
    }

    /// Rewrites the record: `from` becomes `to`, and the HMAC is made anew.
    pub(crate) fn rewrite_record(&self, from: &str, to: &str) {
        self.rewrite("keyring", "claviger/v1/keyring-mac", from, to);
    }

    /// Rewrites the record of generation 1 as a record of generation 2, with `past` as the SHA-256 of its predecessor.
    pub(crate) fn rewrite_as_second(&self, past: &[u8]) {
        self.rewrite_record("\ngeneration 1\n", "\ngeneration 2\n");
        let root_id = format!("\nroot-id {}\n", Base64::encode_string(&self.root_id));
        let past = format!("{root_id}-> past 1 {}\n", Base64::encode_string(past));
        self.rewrite_record(&root_id, &past);
    }

    /// Returns the SHA-256 of the present record.
    pub(crate) fn record(&self) -> Vec<u8> {
        let record = fs::read(self.state_dir.join("keyring")).unwrap();
        ring::digest::digest(&ring::digest::SHA256, &record).as_ref().to_vec()
    }

    /// Rewrites the mark: `from` becomes `to`, and the HMAC is made anew.
    pub(crate) fn rewrite_mark(&self, from: &str, to: &str) {
        self.rewrite("mark", "claviger/v1/state-mac", from, to);
    }

    fn rewrite(&self, name: &str, label: &str, from: &str, to: &str) {
        let path = self.state_dir.join(name);
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.matches(from).count(), 1, "{from:?} stands once in {text}");
        let text = text.replace(from, to);
        let message = &text[..text.rfind("---").unwrap() + 3];
        let key = hkdf(&self.root_key, &self.uuid, label);
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), message.as_bytes());
        fs::write(&path, format!("{message} {}\n", Base64::encode_string(tag.as_ref()))).unwrap();
    }
}

/// Returns the rest of the line after `name`.
pub(crate) fn value<'a>(text: &'a str, name: &str) -> &'a str {
    text.lines().find_map(|line| line.strip_prefix(name)).unwrap()
}

fn line_after<'a>(text: &'a str, line: &str) -> &'a str {
    text.lines().skip_while(|other| *other != line).nth(1).unwrap()
}

/// Returns the parts, each preceded by its length.
pub(crate) fn lp(parts: &[&[u8]]) -> Vec<u8> {
    parts.iter().flat_map(|part| [&u32::try_from(part.len()).unwrap().to_be_bytes()[..], part].concat()).collect()
}

/// Computes HKDF-SHA-256 with 32 bytes of output.
pub(crate) fn hkdf(secret: &[u8], salt: &[u8], info: &str) -> [u8; 32] {
    let mut out = [0; 32];
    let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(secret);
    prk.expand(&[info.as_bytes()], hkdf::HKDF_SHA256).unwrap().fill(&mut out).unwrap();
    out
}

/// Opens `nonce24 | ciphertext | tag16` of XAES-256-GCM, in base64.
fn open(key: &[u8], sealed: &str, aad: &[u8]) -> Vec<u8> {
    let sealed = Base64::decode_vec(sealed).unwrap();
    let (nonce, body) = sealed.split_at(24);
    let cipher = Xaes256Gcm::new_from_slice(key).unwrap();
    cipher.decrypt(nonce.try_into().unwrap(), Payload { msg: body, aad }).expect("authentic")
}
