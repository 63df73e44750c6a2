//! Makes values as kube-apiserver stores them, and puts them into etcd without an API server. It is the reverse of
//! [`crate::oracle`].

use std::path::Path;

use prost::Message;
use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    hmac,
    rand::{SecureRandom, SystemRandom},
};

use super::kms::{EncryptResponse, wrap};
use crate::oracle::{EncryptedObject, Keys};

/// A seed, and its wrapped form from a plugin.
pub(super) struct Seed {
    seed: [u8; 32],
    wrapped: EncryptResponse,
}

impl Seed {
    /// Returns new seeds that the plugin on `socket` has wrapped.
    pub(super) fn wrapped_by(socket: &Path, count: usize) -> Vec<Self> {
        let seeds: Vec<[u8; 32]> = (0..count).map(|_| random()).collect();
        let wrapped = wrap(socket, &seeds);
        seeds.into_iter().zip(wrapped).map(|(seed, wrapped)| Self { seed, wrapped }).collect()
    }

    /// Returns a new seed that the plugin on `socket` has wrapped.
    pub(super) fn one_wrapped_by(socket: &Path) -> Self {
        Self::wrapped_by(socket, 1).remove(0)
    }

    /// Returns the value to put at `etcd_key`, as API servers from 1.29 on write it.
    pub(super) fn seal(&self, provider: &str, etcd_key: &str, plaintext: &[u8]) -> Vec<u8> {
        let info: [u8; 32] = random();
        let dek = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &self.seed), &[&info[..], &[1]].concat());
        let data = [&info[..], &aes_gcm(dek.as_ref(), etcd_key, plaintext)].concat();
        self.value(provider, data, 1)
    }

    /// Returns the value in the form of 1.27 and 1.28, in which the plugin wrapped the DEK itself.
    pub(super) fn seal_as_dek(&self, provider: &str, etcd_key: &str, plaintext: &[u8]) -> Vec<u8> {
        self.value(provider, aes_gcm(&self.seed, etcd_key, plaintext), 0)
    }

    fn value(&self, provider: &str, encrypted_data: Vec<u8>, encrypted_dek_source_type: i32) -> Vec<u8> {
        let object = EncryptedObject {
            encrypted_data,
            key_id: self.wrapped.key_id.clone(),
            encrypted_dek_source: self.wrapped.ciphertext.clone(),
            annotations: self.wrapped.annotations.clone(),
            encrypted_dek_source_type,
        };
        [format!("k8s:enc:kms:v2:{provider}:").as_bytes(), &object.encode_to_vec()].concat()
    }
}

/// Encrypts `plaintext`, and returns `nonce12 | ciphertext | tag16`.
fn aes_gcm(key: &[u8], etcd_key: &str, plaintext: &[u8]) -> Vec<u8> {
    let nonce: [u8; 12] = random();
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).unwrap());
    let mut body = plaintext.to_vec();
    let aad = Aad::from(etcd_key.as_bytes());
    key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut body).unwrap();
    [&nonce[..], &body].concat()
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).unwrap();
    bytes
}

#[test]
fn what_is_sealed_opens() {
    use crate::harness::{plugin::Plugin, processes::Run};
    let run = Run::new().unwrap();
    let mut plugin = Plugin::init(&run, env!("CARGO_BIN_EXE_claviger"), "claviger").unwrap();
    let socket = run.socket("kms.sock").unwrap();
    plugin.serve(socket.display().to_string()).unwrap();
    let value = Seed::one_wrapped_by(&socket).seal("lab", "/registry/secrets/default/s", b"an object");
    let opened = Keys::open(plugin.state_dir()).open_value("lab", "/registry/secrets/default/s", &value);
    assert_eq!(opened, b"an object");
}
