//! The part of an encrypted value after its prefix: checks its shape, and finds the key_id and the wrapped seed in it.

use super::{
    super::protobuf::{Field, Fields},
    damage::ValueDamage,
};

/// The greatest length in bytes of a provider or key name that the scanner accepts, and of a `key_id` in KMS v2.
pub(super) const NAME_MAX: usize = 1024;

/// The first byte of a KMS v2 body: the tag of the field with the encrypted data.
pub(super) const DATA: &[u8] = b"\x0a";

/// The number of bytes that encryption under a key derived from a seed adds to an object: 32 random bytes, a nonce of
/// 12 and a tag of 16.
pub(super) const LEAST_UNDER_SEED: usize = 60;

/// The parts of a body that tell its key.
#[derive(Default)]
pub(super) struct Body<'a> {
    /// The key_id in a KMS v2 body.
    pub(super) key_id: Option<&'a str>,
    /// The wrapped seed of KMS v2, or the wrapped key of KMS v1.
    pub(super) seed: Option<&'a [u8]>,
}

/// Reads the body of a value of `provider`, and checks what can be checked without a key.
pub(super) fn read_body<'a>(provider: &str, body: &'a [u8]) -> Result<Body<'a>, ValueDamage> {
    let require = |is_whole: bool, damage| if is_whole { Ok(Body::default()) } else { Err(damage) };
    let is_cbc = |body: &[u8]| body.len() >= 32 && body.len().is_multiple_of(16);
    let mut parts = provider.splitn(3, ':');
    match (parts.next(), parts.next()) {
        (Some("kms"), Some("v2")) => {
            kms_v2(body).map(|KmsV2Body { key_id, source, .. }| Body { key_id: Some(key_id), seed: Some(source) })
        }
        (Some("kms"), Some("v1")) => possible_bodies(body).find_map(kms_v1).ok_or(ValueDamage::KmsV1),
        (Some("aesgcm"), Some("v1")) => require(body.len() >= 28, ValueDamage::AesGcm),
        (Some("aescbc"), Some("v1")) => require(possible_bodies(body).any(is_cbc), ValueDamage::AesCbc),
        (Some("secretbox"), Some("v1")) => require(body.len() >= 40, ValueDamage::Secretbox),
        _ => Ok(Body::default()),
    }
}

/// Returns every part of `body` that can be the encrypted data. A name ends at its first colon, but all names except
/// those of KMS v2 may contain colons: the data is all of `body`, or the part after one of the first colons in it.
fn possible_bodies(body: &[u8]) -> impl Iterator<Item = &[u8]> {
    let start = &body[..body.len().min(NAME_MAX)];
    let text = start.utf8_chunks().next().map_or("", |chunk| chunk.valid());
    let name = text.split(char::is_control).next().unwrap_or_default();
    let ends = name.bytes().enumerate().filter(|(_, byte)| *byte == b':').map(|(at, _)| at + 1);
    std::iter::once(0).chain(ends).map(|begin| &body[begin..])
}

/// Parses a body of KMS v1: the length of the wrapped key (u16, big-endian), that key, and data encrypted under it.
fn kms_v1(body: &[u8]) -> Option<Body<'_>> {
    let (length, rest) = body.split_first_chunk::<2>()?;
    let (seed, data) = rest.split_at_checked(u16::from_be_bytes(*length).into())?;
    (!seed.is_empty() && data.len() >= 28).then_some(Body { key_id: None, seed: Some(seed) })
}

/// The fields of a whole KMS v2 body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KmsV2Body<'a> {
    /// The encrypted object.
    pub data: &'a [u8],
    /// The key_id of the key that wrapped the seed.
    pub key_id: &'a str,
    /// The wrapped seed, or the wrapped key of Kubernetes 1.27 and 1.28.
    pub source: &'a [u8],
    /// The kind of the source.
    pub kind: DekKind,
}

/// The secret that the plugin wrapped for an API server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DekKind {
    /// The key of one object, in Kubernetes 1.27 and 1.28.
    Key,
    /// A seed, from which the keys of many objects are derived, since Kubernetes 1.29.
    Seed,
}

/// Parses the message `EncryptedObject`: 1 encryptedData, 2 keyID, 3 encryptedDEKSource, 4 annotations, 5
/// encryptedDEKSourceType.
pub(super) fn kms_v2(body: &[u8]) -> Result<KmsV2Body<'_>, ValueDamage> {
    let (mut data, mut key_id, mut seed, mut kind): (&[u8], &[u8], &[u8], u64) = (&[], &[], &[], 0);
    for field in Fields(body) {
        match field.ok_or(ValueDamage::Message)? {
            (1, Field::Bytes(bytes)) => data = bytes,
            (2, Field::Bytes(bytes)) => key_id = bytes,
            (3, Field::Bytes(bytes)) => seed = bytes,
            (4, Field::Bytes(_)) => {}
            (5, Field::Varint(number)) => kind = number,
            (1..=5, _) => return Err(ValueDamage::Message),
            _ => {}
        }
    }
    let (kind, least) = match kind {
        0 => (DekKind::Key, 28),
        1 => (DekKind::Seed, LEAST_UNDER_SEED),
        _ => return Err(ValueDamage::Seed),
    };
    if data.len() < least {
        return Err(ValueDamage::Data);
    }
    if !(1..=NAME_MAX).contains(&seed.len()) {
        return Err(ValueDamage::Seed);
    }
    let key_id = std::str::from_utf8(key_id).ok().filter(|name| (1..=NAME_MAX).contains(&name.len()));
    Ok(KmsV2Body { data, key_id: key_id.ok_or(ValueDamage::KeyId)?, source: seed, kind })
}
