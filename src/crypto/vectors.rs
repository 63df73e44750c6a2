//! Tests with known answers from the specifications. XAES-256-GCM: its test vectors, including the accumulated ones.
//! HKDF: RFC 5869.

use serde_json::Value;
use sha3::{
    Shake128,
    digest::{ExtendableOutput, Update, XofReader},
};

use super::aead::{NONCE, TAG, open_in_place, protect_in_place};

fn xaes() -> Value {
    serde_json::from_str(include_str!("../../tests/vectors/xaes-256-gcm.json")).unwrap()
}

fn hex(value: &Value) -> Vec<u8> {
    base16ct::lower::decode_vec(value.as_str().unwrap()).unwrap()
}

fn protected(key: &[u8; 32], nonce: &[u8; NONCE], aad: &[u8], plaintext: &[u8]) -> Vec<u8> {
    let mut out = plaintext.to_vec();
    let tag = protect_in_place(key, nonce, aad, &mut out);
    out.extend_from_slice(&tag);
    out
}

#[test]
fn xaes_vectors_of_the_specification() {
    let document = xaes();
    let vectors = document["vectors"].as_array().unwrap();
    assert_eq!(vectors.len(), 2);
    for vector in vectors {
        let key = hex(&vector["key"]).try_into().unwrap();
        let nonce = vector["nonce_ascii"].as_str().unwrap().as_bytes().try_into().unwrap();
        let aad = vector["aad_ascii"].as_str().unwrap().as_bytes();
        let plaintext = vector["plaintext_ascii"].as_str().unwrap().as_bytes();
        let message = protected(&key, &nonce, aad, plaintext);
        assert_eq!(message, hex(&vector["ciphertext_and_tag"]));

        let (body, tag) = message.split_last_chunk::<TAG>().unwrap();
        let mut opened = body.to_vec();
        open_in_place(&key, &nonce, aad, &mut opened, tag).unwrap();
        assert_eq!(opened, plaintext);
    }
}

fn draw<const N: usize>(reader: &mut impl XofReader) -> [u8; N] {
    let mut out = [0; N];
    reader.read(&mut out);
    out
}

fn draw_prefixed(reader: &mut impl XofReader) -> Vec<u8> {
    let [length] = draw::<1>(reader);
    let mut out = vec![0; usize::from(length)];
    reader.read(&mut out);
    out
}

/// Takes key, nonce, plaintext and AAD of each message from SHAKE-128. Returns the SHAKE-128 of all ciphertexts.
fn accumulated(messages: usize) -> String {
    let mut source = Shake128::default().finalize_xof();
    let mut all = Shake128::default();
    for _ in 0..messages {
        let (key, nonce) = (draw(&mut source), draw(&mut source));
        let plaintext = draw_prefixed(&mut source);
        let aad = draw_prefixed(&mut source);
        all.update(&protected(&key, &nonce, &aad, &plaintext));
    }
    base16ct::lower::encode_string(&draw::<32>(&mut all.finalize_xof()))
}

#[test]
fn xaes_accumulated_over_10_000_messages() {
    assert_eq!(accumulated(10_000), xaes()["accumulated"]["10000"].as_str().unwrap());
}

#[test]
fn xaes_accumulated_over_1_000_000_messages() {
    assert_eq!(accumulated(1_000_000), xaes()["accumulated"]["1000000"].as_str().unwrap());
}

/// The three cases with SHA-256 in RFC 5869, appendix A: (key material, salt, info, output).
const RFC_5869: [(&str, &str, &str, &str); 3] = [
    (
        "0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b",
        "000102030405060708090a0b0c",
        "f0f1f2f3f4f5f6f7f8f9",
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
    ),
    (
        "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f3031323334353637\
         38393a3b3c3d3e3f404142434445464748494a4b4c4d4e4f",
        "606162636465666768696a6b6c6d6e6f707172737475767778797a7b7c7d7e7f808182838485868788898a8b8c8d8e8f9091929394959697\
         98999a9b9c9d9e9fa0a1a2a3a4a5a6a7a8a9aaabacadaeaf",
        "b0b1b2b3b4b5b6b7b8b9babbbcbdbebfc0c1c2c3c4c5c6c7c8c9cacbcccdcecfd0d1d2d3d4d5d6d7d8d9dadbdcdddedfe0e1e2e3e4e5e6e7\
         e8e9eaebecedeeeff0f1f2f3f4f5f6f7f8f9fafbfcfdfeff",
        "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09da3275600c2f09b8\
         367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87",
    ),
    (
        "0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b",
        "",
        "",
        "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
    ),
];

#[test]
fn hkdf_vectors_of_rfc_5869() {
    let unhex = |text: &str| base16ct::lower::decode_vec(text).unwrap();
    for (material, salt, info, output) in RFC_5869 {
        let expected = unhex(output);
        let mut out = vec![0; expected.len()];
        super::kdf::hkdf_sha256(&unhex(material), &unhex(salt), &unhex(info), &mut out);
        assert_eq!(out, expected);
    }
}
