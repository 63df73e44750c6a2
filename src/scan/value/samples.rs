//! Values for the tests of this folder.

/// Returns a message of KMS v2 with these fields.
pub(super) fn message(data: usize, key_id: &str, seed: usize, kind: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    prost::encoding::bytes::encode(1, &vec![7; data], &mut bytes);
    prost::encoding::string::encode(2, &key_id.to_owned(), &mut bytes);
    prost::encoding::bytes::encode(3, &vec![9; seed], &mut bytes);
    bytes.extend([0x28, kind]);
    bytes
}

/// Returns a message of KMS v2 under a key of claviger's with this commitment.
pub(super) fn message_of_claviger(key_id: &str, commitment: [u8; 32]) -> Vec<u8> {
    let seed = [b"KW\x01\x01".as_slice(), &commitment, &[9; 72]].concat();
    let mut bytes = Vec::new();
    prost::encoding::bytes::encode(1, &vec![7; 60], &mut bytes);
    prost::encoding::string::encode(2, &key_id.to_owned(), &mut bytes);
    prost::encoding::bytes::encode(3, &seed, &mut bytes);
    bytes.extend([0x28, 1]);
    bytes
}

pub(super) fn stored(prefix: &str, body: &[u8]) -> Vec<u8> {
    [prefix.as_bytes(), body].concat()
}
