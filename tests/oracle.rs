//! A second reader of the byte formats, written from `docs/formats.md` alone. It opens values of etcd with a state
//! directory, and uses none of the project's code.

use std::{collections::HashMap, fs, path::Path};

use base64ct::{Base64, Encoding};
use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    hkdf, hmac,
};
use xaes_256_gcm::{
    Xaes256Gcm,
    aead::{Aead, KeyInit, Payload},
};

/// The message `EncryptedObject` of kube-apiserver's KMS v2 provider.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct EncryptedObject {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) encrypted_data: Vec<u8>,
    #[prost(string, tag = "2")]
    pub(crate) key_id: String,
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) encrypted_dek_source: Vec<u8>,
    #[prost(map = "string, bytes", tag = "4")]
    pub(crate) annotations: HashMap<String, Vec<u8>>,
    #[prost(int32, tag = "5")]
    pub(crate) encrypted_dek_source_type: i32,
}

impl EncryptedObject {
    /// Parses a value under the provider `provider`. The prefix must be exactly that one.
    pub(crate) fn parse(provider: &str, value: &[u8]) -> Self {
        let prefix = format!("k8s:enc:kms:v2:{provider}:");
        let body = value.strip_prefix(prefix.as_bytes()).expect("the value is under this provider");
        prost::Message::decode(body).expect("an EncryptedObject")
    }

    /// Opens the object with the seed of its DEK source.
    pub(crate) fn open(&self, seed: &[u8], etcd_key: &str) -> Vec<u8> {
        assert_eq!(self.encrypted_dek_source_type, 1, "seed, not a DEK");
        let (info, sealed) = self.encrypted_data.split_at(32);
        let dek = hmac(seed, &[info, &[1]].concat());
        aes_gcm(&dek, sealed, etcd_key.as_bytes())
    }
}

/// Opens `nonce12 | ciphertext | tag16` of AES-256-GCM.
pub(crate) fn aes_gcm(key: &[u8], sealed: &[u8], aad: &[u8]) -> Vec<u8> {
    let (nonce, body) = sealed.split_at(12);
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).unwrap());
    let nonce = Nonce::try_assume_unique_for_key(nonce).unwrap();
    let mut body = body.to_vec();
    key.open_in_place(nonce, Aad::from(aad), &mut body).expect("authentic").to_vec()
}

/// The keys in a state directory.
pub(crate) struct Keys {
    pub(crate) uuid: Vec<u8>,
    pub(crate) slot_salt: Vec<u8>,
    pub(crate) slot_secret: Vec<u8>,
    pub(crate) root: Vec<u8>,
    pub(crate) keks: HashMap<String, [u8; 32]>,
}

impl Keys {
    /// Reads the slot's key file, the root file and the keyring in `state_dir`.
    pub(crate) fn open(state_dir: &Path) -> Self {
        let read = |name: &str| fs::read(state_dir.join(name)).unwrap();
        let text = |name: &str| String::from_utf8(read(name)).unwrap();
        let (root_file, record) = (text("root"), text("keyring"));
        let uuid = base16ct::lower::decode_vec(field(&root_file, "uuid ")).unwrap();
        let root_id = base64(field(&root_file, "root-id "));

        let slot_line = root_file.lines().find(|line| line.starts_with("-> slot ")).unwrap();
        let slot_salt = base16ct::lower::decode_vec(slot_line.split("salt=").nth(1).unwrap()).unwrap();
        let slot_secret = read("slot-file.key");
        let slot_key = hkdf(&slot_secret, &slot_salt, "claviger/v1/slot");
        let aad = lp(&[b"claviger/v1/slot", &uuid, &root_id, slot_line.as_bytes()]);
        let root = xaes(&slot_key, &base64(after(&root_file, slot_line)), &aad);
        assert_eq!(hkdf(&root, &uuid, "claviger/v1/root-id").to_vec(), root_id);

        let kek_wrap = hkdf(&root, &uuid, "claviger/v1/kek-wrap");
        let keks = record.lines().filter(|line| line.starts_with("-> key ")).map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            let (seq, commitment) = (words[2].parse::<u32>().unwrap(), base64(words[4]));
            let aad = lp(&[b"claviger/v1/kek", &uuid, &seq.to_be_bytes(), &commitment, &root_id]);
            let kek: [u8; 32] = xaes(&kek_wrap, &base64(after(&record, line)), &aad).try_into().unwrap();
            assert_eq!(hkdf(&kek, &uuid, "claviger/v1/kek-commit").to_vec(), commitment);
            (format!("k{seq}-{}", base16ct::lower::encode_string(&commitment[..16])), kek)
        });
        Self { keks: keks.collect(), uuid, slot_salt, slot_secret, root }
    }

    /// Unwraps a seed that is under `key_id`.
    pub(crate) fn unwrap(&self, key_id: &str, wrapped: &[u8]) -> Vec<u8> {
        let kek = &self.keks[key_id];
        assert_eq!(wrapped.len(), 108);
        assert_eq!(wrapped[..4], [b'K', b'W', 1, 1]);
        let aad = lp(&[b"claviger/v1/dek-seed", &wrapped[..36], &self.uuid, key_id.as_bytes()]);
        xaes(&hkdf(kek, &self.uuid, "claviger/v1/seed-wrap"), &wrapped[36..], &aad)
    }

    /// Opens the value `value` of the key `etcd_key`.
    pub(crate) fn open_value(&self, provider: &str, etcd_key: &str, value: &[u8]) -> Vec<u8> {
        let object = EncryptedObject::parse(provider, value);
        assert!(object.annotations.is_empty());
        object.open(&self.unwrap(&object.key_id, &object.encrypted_dek_source), etcd_key)
    }
}

fn field<'a>(text: &'a str, name: &str) -> &'a str {
    text.lines().find_map(|line| line.strip_prefix(name)).unwrap()
}

/// Returns the line after `line`.
fn after<'a>(text: &'a str, line: &str) -> &'a str {
    text.lines().skip_while(|other| *other != line).nth(1).unwrap()
}

fn base64(text: &str) -> Vec<u8> {
    Base64::decode_vec(text).unwrap()
}

fn lp(parts: &[&[u8]]) -> Vec<u8> {
    parts.iter().flat_map(|part| [&u32::try_from(part.len()).unwrap().to_be_bytes()[..], part].concat()).collect()
}

pub(crate) fn hmac(key: &[u8], message: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message).as_ref().to_vec()
}

pub(crate) fn hkdf(secret: &[u8], salt: &[u8], info: &str) -> [u8; 32] {
    let mut out = [0; 32];
    let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(secret);
    prk.expand(&[info.as_bytes()], hkdf::HKDF_SHA256).unwrap().fill(&mut out).unwrap();
    out
}

/// Opens `nonce24 | ciphertext | tag16` of XAES-256-GCM.
fn xaes(key: &[u8], sealed: &[u8], aad: &[u8]) -> Vec<u8> {
    let (nonce, body) = sealed.split_at(24);
    let cipher = Xaes256Gcm::new_from_slice(key).unwrap();
    cipher.decrypt(nonce.try_into().unwrap(), Payload { msg: body, aad }).expect("authentic")
}

#[test]
fn values_of_a_real_api_server_open_with_their_keys() {
    let document: serde_json::Value = serde_json::from_str(include_str!("vectors/kmsv2-values.json")).unwrap();
    let vectors = document["vectors"].as_array().unwrap();
    assert_eq!(vectors.len(), 2);
    for vector in vectors {
        let text = |name: &str| vector[name].as_str().unwrap();
        let object = EncryptedObject::parse("lab", &base64(text("value_b64")));
        assert_eq!(object.key_id, text("key_id"));
        // This plugin wrapped seeds as nonce12 | AES-256-GCM(kek, seed, aad = key_id).
        let kek = base16ct::lower::decode_vec(text("kek_hex")).unwrap();
        let seed = aes_gcm(&kek, &object.encrypted_dek_source, object.key_id.as_bytes());
        assert_eq!(object.open(&seed, text("etcd_key")), base64(text("plaintext_b64")));
    }
}
