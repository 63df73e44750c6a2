//! What a stored value is under, told from its bytes; nothing here needs a key, and nothing decrypts.
//!
//! The formats are kube-apiserver's (`k8s.io/apiserver`, `pkg/server/options/encryptionconfig` and `pkg/storage/value`);
//! `docs/scan.md` lists them. A value that carries a provider's prefix and is not what that provider writes is damaged: it is
//! counted under the provider, without a key_id. Only a value of claviger's that names another key than the one it is under keeps
//! both names.

use prost::encoding::decode_varint;

use crate::{
    crypto::{Commitment, wrap::commitment_in},
    text::{hex_array, number},
};

/// What kube-apiserver's own prefix is, whatever the provider.
const ENCRYPTED: &[u8] = b"k8s:enc:";
/// Before plaintext protobuf.
const PROTOBUF: &[u8] = b"k8s\0";
/// Before plaintext CBOR: the tag of self-described data, RFC 8949, section 3.4.6.
const CBOR: &[u8] = &[0xd9, 0xd9, 0xf7];

/// The longest name of a provider or key that is taken for one, and the longest `key_id` that KMS v2 allows.
const NAME_MAX: usize = 1024;

/// How `runtime.Unknown` begins for what was not encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Encoding {
    /// Encrypted: nobody can tell.
    Encrypted,
    /// `k8s\0` and a `runtime.Unknown`.
    Protobuf,
    /// An object in braces.
    Json,
    /// With the tag of self-described data.
    Cbor,
    /// Nothing that Kubernetes writes.
    Raw,
}

/// Why a value is not what its prefix says; one byte, as there is one for each of millions of values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ValueDamage {
    /// The prefix ends before it names a provider or key.
    #[error("its prefix names no provider or key")]
    Name,
    /// Of aesgcm.
    #[error("shorter than a nonce of 12 bytes and a tag of 16")]
    AesGcm,
    /// Of aescbc.
    #[error("no IV of 16 bytes and whole blocks of 16")]
    AesCbc,
    /// Of secretbox.
    #[error("shorter than a nonce of 24 bytes and a tag of 16")]
    Secretbox,
    /// Of KMS v1.
    #[error("no wrapped key with its length, nonce of 12 bytes and tag of 16")]
    KmsV1,
    /// Of KMS v2: not its message.
    #[error("no message of KMS v2")]
    Message,
    /// Of KMS v2: too short.
    #[error("its encrypted data is shorter than its nonce and tag")]
    Data,
    /// Of KMS v2: the wrapped seed.
    #[error("its wrapped seed is not 1 to 1,024 bytes, or of an unknown type")]
    Seed,
    /// Of KMS v2: the key_id.
    #[error("its key_id is not 1 to 1,024 bytes of UTF-8")]
    KeyId,
    /// Of KMS v2, under a key of claviger's: an API server asks for the key that the key_id names, which does not open the seed.
    #[error("its key_id names another key than its wrapped seed")]
    OtherKey,
    /// Not the message around an object in protobuf.
    #[error("no object in protobuf")]
    Object,
    /// An object in JSON that does not end.
    #[error("no whole object in JSON")]
    Json,
    /// Neither encrypted nor in an encoding of Kubernetes.
    #[error("neither encrypted nor in an encoding of Kubernetes")]
    Raw,
}

/// What is told of one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Value<'a> {
    /// The stored prefix without `k8s:enc:` and the last colon, as `kms:v2:claviger`; `identity` for what is not encrypted.
    pub provider: &'a str,
    /// The KMS v2 key that it names.
    pub key_id: Option<&'a str>,
    /// The wrapped seed (or key) that has to be unwrapped before it can be read.
    pub seed: Option<&'a [u8]>,
    /// The commitment of the key that wrapped the seed, if the seed has the shape of claviger's.
    pub commitment: Option<Commitment>,
    /// In which encoding it can be read.
    pub encoding: Encoding,
    /// Why it is not what it should be.
    pub damage: Option<ValueDamage>,
}

/// The provider of what is not encrypted.
pub const IDENTITY: &str = "identity";

/// The provider of what says that it is encrypted, and not by what.
pub const UNKNOWN: &str = "unknown";

/// Tells what `bytes` is under.
pub fn classify(bytes: &[u8]) -> Value<'_> {
    match bytes.strip_prefix(ENCRYPTED) {
        Some(rest) => encrypted(rest),
        None => plaintext(bytes),
    }
}

fn plaintext(bytes: &[u8]) -> Value<'_> {
    let (encoding, damage) = if let Some(message) = bytes.strip_prefix(PROTOBUF) {
        (Encoding::Protobuf, (!is_message(message)).then_some(ValueDamage::Object))
    } else if bytes.first() == Some(&b'{') {
        (Encoding::Json, (bytes.trim_ascii_end().last() != Some(&b'}')).then_some(ValueDamage::Json))
    } else if bytes.starts_with(CBOR) {
        (Encoding::Cbor, None)
    } else {
        (Encoding::Raw, Some(ValueDamage::Raw))
    };
    Value { provider: IDENTITY, key_id: None, seed: None, commitment: None, encoding, damage }
}

fn encrypted(rest: &[u8]) -> Value<'_> {
    let (provider, body) = split_name(rest);
    let encoding = Encoding::Encrypted;
    let mut value = Value { provider, key_id: None, seed: None, commitment: None, encoding, damage: None };
    value.damage = match body {
        None => Some(ValueDamage::Name),
        Some(body) => match body_of(provider, body) {
            Ok(Body { key_id, seed }) => {
                (value.key_id, value.seed) = (key_id, seed);
                value.commitment = key_id.and(seed).and_then(commitment_in);
                let is_misnamed = key_id.zip(value.commitment).is_some_and(|(key_id, commitment)| {
                    commitment_half(key_id).is_some_and(|half| half != commitment.first_half())
                });
                is_misnamed.then_some(ValueDamage::OtherKey)
            }
            Err(damage) => Some(damage),
        },
    };
    value
}

/// The first half of the commitment that a key_id of claviger's form shows, `k<number>-<32 hex digits>`; none of any other.
pub fn commitment_half(key_id: &str) -> Option<[u8; 16]> {
    let (seq, digits) = key_id.strip_prefix('k')?.split_once('-')?;
    number::<u32>(seq).filter(|seq| *seq > 0)?;
    hex_array(digits)
}

/// `scheme:version:name` and what follows the colon behind it; no body if the name has no end.
fn split_name(rest: &[u8]) -> (&str, Option<&[u8]>) {
    let colons = rest.iter().take(NAME_MAX).enumerate().filter(|(_, byte)| **byte == b':').map(|(at, _)| at);
    let mut colons = colons.take(3);
    let ends = [colons.next(), colons.next(), colons.next()];
    let name = |end: usize| {
        let name = std::str::from_utf8(&rest[..end]).ok()?;
        (!name.is_empty() && !name.starts_with(':') && !name.chars().any(char::is_control)).then_some(name)
    };
    let is_empty = |end: usize| end == 0 || rest[end - 1] == b':';
    match ends[2].filter(|end| !is_empty(*end)).and_then(|end| name(end).map(|name| (end, name))) {
        Some((end, name)) => (name, Some(&rest[end + 1..])),
        // As much of it as can be shown.
        None => (ends[1].or(ends[0]).and_then(name).unwrap_or(UNKNOWN), None),
    }
}

#[derive(Default)]
struct Body<'a> {
    key_id: Option<&'a str>,
    seed: Option<&'a [u8]>,
}

/// Checks what stands behind the prefix as far as it can be checked without a key.
fn body_of<'a>(provider: &str, body: &'a [u8]) -> Result<Body<'a>, ValueDamage> {
    let holds = |is_whole: bool, damage| if is_whole { Ok(Body::default()) } else { Err(damage) };
    let is_cbc = |body: &[u8]| body.len() >= 32 && body.len().is_multiple_of(16);
    // Scheme and version are known by heart.
    let mut parts = provider.splitn(3, ':');
    match (parts.next(), parts.next()) {
        (Some("kms"), Some("v2")) => kms_v2(body),
        (Some("kms"), Some("v1")) => behind_name(body).find_map(kms_v1).ok_or(ValueDamage::KmsV1),
        (Some("aesgcm"), Some("v1")) => holds(body.len() >= 28, ValueDamage::AesGcm),
        (Some("aescbc"), Some("v1")) => holds(behind_name(body).any(is_cbc), ValueDamage::AesCbc),
        (Some("secretbox"), Some("v1")) => holds(body.len() >= 40, ValueDamage::Secretbox),
        _ => Ok(Body::default()),
    }
}

/// What may stand behind a name: all of `body`, or what follows a colon of the name's own, but for those of KMS v2 they may have some.
fn behind_name(body: &[u8]) -> impl Iterator<Item = &[u8]> {
    let start = &body[..body.len().min(NAME_MAX)];
    let text = start.utf8_chunks().next().map_or("", |chunk| chunk.valid());
    let name = text.split(char::is_control).next().unwrap_or_default();
    let ends = name.bytes().enumerate().filter(|(_, byte)| *byte == b':').map(|(at, _)| at + 1);
    std::iter::once(0).chain(ends).map(|begin| &body[begin..])
}

/// The length of the wrapped key as u16, big-endian, that key, and a value under it.
fn kms_v1(body: &[u8]) -> Option<Body<'_>> {
    let (length, rest) = body.split_first_chunk::<2>()?;
    let (seed, data) = rest.split_at_checked(u16::from_be_bytes(*length).into())?;
    (!seed.is_empty() && data.len() >= 28).then_some(Body { key_id: None, seed: Some(seed) })
}

/// How the first field of [`kms_v2`] begins.
const DATA: &[u8] = b"\x0a";

/// What is added to an object that is encrypted under a key that was derived from a seed: 32 bytes, a nonce of 12 and a tag of 16.
const LEAST_UNDER_SEED: usize = 60;

/// The message `EncryptedObject`: 1 encryptedData, 2 keyID, 3 encryptedDEKSource, 4 annotations, 5 encryptedDEKSourceType.
fn kms_v2(body: &[u8]) -> Result<Body<'_>, ValueDamage> {
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
    let least = match kind {
        0 => 28,
        1 => LEAST_UNDER_SEED,
        _ => return Err(ValueDamage::Seed),
    };
    if data.len() < least {
        return Err(ValueDamage::Data);
    }
    if !(1..=NAME_MAX).contains(&seed.len()) {
        return Err(ValueDamage::Seed);
    }
    let key_id = std::str::from_utf8(key_id).ok().filter(|name| (1..=NAME_MAX).contains(&name.len()));
    Ok(Body { key_id: Some(key_id.ok_or(ValueDamage::KeyId)?), seed: Some(seed) })
}

/// A value of KMS v2 without its encrypted data: the same for all that was written under one seed.
#[derive(Debug, Clone)]
pub struct Frame {
    /// Up to the tag of the encrypted data, which is the first field.
    head: Box<[u8]>,
    /// What follows the data.
    tail: Box<[u8]>,
}

/// Frames are remembered, of which no value may make large ones.
const FRAME_MAX: usize = 4096;

impl Frame {
    /// That of `bytes`, which is told as `value`; none if that is no whole value of KMS v2, or an unusual one.
    pub fn of(bytes: &[u8], value: &Value<'_>) -> Option<Self> {
        value.key_id?;
        let (head, body) = bytes.split_at_checked(ENCRYPTED.len() + value.provider.len() + 1 + DATA.len())?;
        let mut fields = Fields(body);
        fields.bytes().filter(|_| head.ends_with(DATA))?;
        let tail = fields.0;
        let is_usual = head.len() + tail.len() <= FRAME_MAX && Fields(tail).all(|field| !matches!(field, Some((1, _))));
        is_usual.then(|| Self { head: head.into(), tail: tail.into() })
    }

    /// Whether `bytes` differ from that value in nothing but their encrypted data, and are told alike.
    pub fn fits(&self, bytes: &[u8]) -> bool {
        let Some(data) = bytes.strip_prefix(&*self.head) else { return false };
        let mut fields = Fields(data);
        // Whether shorter data is too short depends on more.
        fields.bytes().is_some_and(|data| data.len() >= LEAST_UNDER_SEED) && *fields.0 == *self.tail
    }
}

/// Whether these are the fields of a message, to its end, and at least one.
fn is_message(bytes: &[u8]) -> bool {
    !bytes.is_empty() && Fields(bytes).all(|field| field.is_some())
}

/// A field's value, as far as its wire type tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field<'a> {
    /// A number.
    Varint(u64),
    /// Bytes, a string or another message.
    Bytes(&'a [u8]),
    /// Four or eight bytes, which no message here has.
    Fixed,
}

/// The fields of a message of protobuf in their order; `None` for one that cannot be read, which is the last.
pub struct Fields<'a>(pub &'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Option<(u32, Field<'a>)>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.read();
        if field.is_none() {
            self.0 = &[];
        }
        Some(field)
    }
}

impl<'a> Fields<'a> {
    #[inline]
    fn read(&mut self) -> Option<(u32, Field<'a>)> {
        let key = u32::try_from(self.varint()?).ok()?;
        let tag = Some(key >> 3).filter(|tag| *tag > 0)?;
        let field = match key & 7 {
            0 => Field::Varint(self.varint()?),
            1 => self.skip(8).map(|_| Field::Fixed)?,
            2 => Field::Bytes(self.bytes()?),
            5 => self.skip(4).map(|_| Field::Fixed)?,
            // Groups, which nothing here has.
            _ => return None,
        };
        Some((tag, field))
    }

    /// Up to four bytes at once, as there are millions of numbers.
    #[inline]
    fn varint(&mut self) -> Option<u64> {
        let mut number = 0;
        for (at, byte) in self.0.iter().take(4).enumerate() {
            number |= u64::from(byte & 0x7f) << (7 * at);
            if *byte < 0x80 {
                self.0 = &self.0[at + 1..];
                return Some(number);
            }
        }
        decode_varint(&mut self.0).ok()
    }

    /// A length, and as many bytes.
    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.varint()?).ok()?;
        self.skip(length)
    }

    fn skip(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use proptest::{array::uniform2, prelude::*};

    use super::*;

    /// A message of KMS v2 with these fields.
    fn message(data: usize, key_id: &str, seed: usize, kind: u8) -> Vec<u8> {
        let mut bytes = Vec::new();
        prost::encoding::bytes::encode(1, &vec![7; data], &mut bytes);
        prost::encoding::string::encode(2, &key_id.to_owned(), &mut bytes);
        prost::encoding::bytes::encode(3, &vec![9; seed], &mut bytes);
        bytes.extend([0x28, kind]);
        bytes
    }

    /// A message of KMS v2 under a key of claviger's with this commitment.
    fn message_of_claviger(key_id: &str, commitment: [u8; 32]) -> Vec<u8> {
        let seed = [b"KW\x01\x01".as_slice(), &commitment, &[9; 72]].concat();
        let mut bytes = Vec::new();
        prost::encoding::bytes::encode(1, &vec![7; 60], &mut bytes);
        prost::encoding::string::encode(2, &key_id.to_owned(), &mut bytes);
        prost::encoding::bytes::encode(3, &seed, &mut bytes);
        bytes.extend([0x28, 1]);
        bytes
    }

    fn stored(prefix: &str, body: &[u8]) -> Vec<u8> {
        [prefix.as_bytes(), body].concat()
    }

    fn told(bytes: &[u8]) -> (String, Option<String>, Option<ValueDamage>) {
        let value = classify(bytes);
        (value.provider.to_owned(), value.key_id.map(ToOwned::to_owned), value.damage)
    }

    #[test]
    fn values_of_a_real_api_server_are_told_with_their_key_and_seed() {
        let document: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/vectors/kmsv2-values.json")).unwrap();
        for vector in document["vectors"].as_array().unwrap() {
            use base64ct::{Base64, Encoding};
            let bytes = Base64::decode_vec(vector["value_b64"].as_str().unwrap()).unwrap();
            let value = classify(&bytes);
            assert_eq!((value.provider, value.damage), ("kms:v2:lab", None));
            assert_eq!(value.key_id, vector["key_id"].as_str());
            assert_eq!(value.seed.unwrap().len(), 60, "nonce, seed and tag");
            // Cut anywhere behind the prefix it is damaged, but for where a field ends behind which all may be left out:
            // before the annotations, and before the seed's type.
            let cuts = "k8s:enc:kms:v2:lab:".len()..bytes.len();
            assert_eq!(cuts.filter(|cut| classify(&bytes[..*cut]).damage.is_none()).count(), 2);
            assert_eq!(classify(&bytes[..10]).damage, Some(ValueDamage::Name));
        }
    }

    #[test]
    fn every_provider_is_told_by_its_prefix_and_checked_by_its_shape() {
        let long = [7; 48];
        for (prefix, provider, least, damage) in [
            ("k8s:enc:aesgcm:v1:k:", "aesgcm:v1:k", 28, ValueDamage::AesGcm),
            ("k8s:enc:aescbc:v1:k:", "aescbc:v1:k", 32, ValueDamage::AesCbc),
            ("k8s:enc:secretbox:v1:k:", "secretbox:v1:k", 40, ValueDamage::Secretbox),
        ] {
            assert_eq!(told(&stored(prefix, &long[..least])), (provider.to_owned(), None, None));
            assert_eq!(told(&stored(prefix, &long[..least - 1])), (provider.to_owned(), None, Some(damage)));
        }
        assert_eq!(told(&stored("k8s:enc:aescbc:v1:k:", &[0; 47])).2, Some(ValueDamage::AesCbc));
        let kms_v1 = [&[0, 3, 1, 2, 3][..], &[7; 28]].concat();
        let value = stored("k8s:enc:kms:v1:old:", &kms_v1);
        assert_eq!((told(&value).0.as_str(), classify(&value).seed), ("kms:v1:old", Some(&[1, 2, 3][..])));
        for body in [&kms_v1[..32], &[0, 0], &[0], &[0xff, 0xff, 1]] {
            assert_eq!(told(&stored("k8s:enc:kms:v1:old:", body)).2, Some(ValueDamage::KmsV1));
        }
        // Names may have colons; what follows the first one is no part of the provider here.
        assert_eq!(told(&stored("k8s:enc:aescbc:v1:k:l:m:", &long)), ("aescbc:v1:k".to_owned(), None, None));
        let value = stored("k8s:enc:kms:v1:old:one:", &kms_v1);
        assert_eq!((told(&value).2, classify(&value).seed), (None, Some(&[1, 2, 3][..])));
        assert_eq!(told(&stored("k8s:enc:aescbc:v1:k:l:", &long[1..])).2, Some(ValueDamage::AesCbc));
        let new = stored("k8s:enc:new:v9:k:", b"");
        assert_eq!(told(&new), ("new:v9:k".to_owned(), None, None), "another provider is left alone");
    }

    #[test]
    fn kms_v2_is_checked_field_by_field() {
        let of = |body: &[u8]| told(&stored("k8s:enc:kms:v2:p:", body));
        assert_eq!(of(&message(60, "k", 1, 1)), ("kms:v2:p".to_owned(), Some("k".to_owned()), None));
        assert_eq!(of(&message(28, "k", 1, 0)).2, None);
        for (body, damage) in [
            (message(59, "k", 1, 1), ValueDamage::Data),
            (message(27, "k", 1, 0), ValueDamage::Data),
            (message(60, "", 1, 1), ValueDamage::KeyId),
            (message(60, &"k".repeat(1025), 1, 1), ValueDamage::KeyId),
            (message(60, "k", 0, 1), ValueDamage::Seed),
            (message(60, "k", 1025, 1), ValueDamage::Seed),
            (message(60, "k", 1, 2), ValueDamage::Seed),
            (b"\x08\x01".to_vec(), ValueDamage::Message),
            (b"\x0b".to_vec(), ValueDamage::Message),
            (Vec::new(), ValueDamage::Data),
        ] {
            assert_eq!(of(&body), ("kms:v2:p".to_owned(), None, Some(damage)), "{body:?}");
        }
        // A field that a later version adds is passed over.
        assert_eq!(of(&[message(60, "k", 1, 1), b"\x32\x01x".to_vec()].concat()).2, None);
    }

    #[test]
    fn a_seed_of_clavigers_names_its_key_and_the_key_id_must_name_the_same_one() {
        let commitment = Commitment([0xab; 32]);
        let right = format!("k7-{}", "ab".repeat(16));
        for (key_id, damage) in [
            (right.clone(), None),
            // The number is not in the seed.
            (right.replace("k7", "k8"), None),
            (right.replace("k7-ab", "k7-ac"), Some(ValueDamage::OtherKey)),
            // Not in claviger's form: another plugin's name, about which nothing is known.
            (right.replace("k7", "k07"), None),
            (right.to_uppercase(), None),
            ("projects/p/keys/1".to_owned(), None),
        ] {
            let bytes = stored("k8s:enc:kms:v2:p:", &message_of_claviger(&key_id, commitment.0));
            let value = classify(&bytes);
            assert_eq!((value.key_id, value.damage), (Some(key_id.as_str()), damage));
            assert_eq!((value.commitment, value.seed.map(<[u8]>::len)), (Some(commitment), Some(108)), "{key_id}");
        }
        let foreign = stored("k8s:enc:kms:v2:p:", &message(60, &right, 108, 1));
        assert_eq!((classify(&foreign).commitment, classify(&foreign).damage), (None, None), "no seed of claviger's");
    }

    proptest! {
        #[test]
        fn what_fits_a_frame_is_told_alike(
            [one, other] in uniform2((0..80_usize, 0..3_usize, 0..3_u8, "[kl]{0,2}", 0..4_usize)),
        ) {
            let [one, other] = [one, other].map(|(data, seed, kind, key_id, more)| {
                let more = [&b""[..], b"\x22\x00", b"\x0a\x1d\x07\x07", b"\x0a\x01\x07"][more];
                stored("k8s:enc:kms:v2:p:", &[&message(data, &key_id, seed, kind), more].concat())
            });
            let (told, frame) = (classify(&one), Frame::of(&one, &classify(&one)));
            if frame.is_some_and(|frame| frame.fits(&other)) {
                prop_assert_eq!(classify(&other), told);
            }
        }
    }

    #[test]
    fn a_frame_fits_whatever_differs_in_its_data_alone() {
        let value = |data, key_id, seed, kind, prefix| stored(prefix, &message(data, key_id, seed, kind));
        let frame = |value: &[u8]| Frame::of(value, &classify(value));
        let one = value(60, "k", 9, 1, "k8s:enc:kms:v2:p:");
        let framed = frame(&one).unwrap();
        assert!(framed.fits(&one) && framed.fits(&value(9000, "k", 9, 1, "k8s:enc:kms:v2:p:")));
        for other in [
            value(59, "k", 9, 1, "k8s:enc:kms:v2:p:"),
            value(60, "l", 9, 1, "k8s:enc:kms:v2:p:"),
            value(60, "k", 8, 1, "k8s:enc:kms:v2:p:"),
            value(60, "k", 9, 0, "k8s:enc:kms:v2:p:"),
            value(60, "k", 9, 1, "k8s:enc:kms:v2:q:"),
            [&one[..], b"\x22\x00"].concat(),
            one[..one.len() - 1].to_vec(),
        ] {
            assert!(!framed.fits(&other), "{other:?}");
        }
        // A damaged value has none, nor has one whose data stands in it twice, or elsewhere, or one of another provider.
        let twice = [&one[..], b"\x0a\x1c", &[7; 28]].concat();
        assert_eq!(classify(&twice).damage, Some(ValueDamage::Data));
        let twice = [&one[..], b"\x0a\x3c", &[7; 60]].concat();
        assert_eq!(classify(&twice).damage, None);
        let mut elsewhere = b"k8s:enc:kms:v2:p:\x12\x01k".to_vec();
        elsewhere.extend(&one["k8s:enc:kms:v2:p:".len()..]);
        assert_eq!(classify(&elsewhere).damage, None);
        let long = value(60, "k", 9, 1, &format!("k8s:enc:kms:v2:{}:", "p".repeat(1000)));
        let large = [&one[..], b"\x32\x80\x20", &[0; 4096]].concat();
        assert_eq!(classify(&large).damage, None);
        assert!(frame(&long).is_some());
        for other in [
            &twice,
            &elsewhere,
            &large,
            &one[..40].to_vec(),
            &b"k8s:enc:aesgcm:v1:k:\x0a0123456789012345678901234567".to_vec(),
        ] {
            assert!(frame(other).is_none(), "{other:?}");
        }
    }

    #[test]
    fn plaintext_is_told_by_its_encoding() {
        let of = |bytes: &[u8]| (classify(bytes).provider.to_owned(), classify(bytes).encoding, classify(bytes).damage);
        let identity = |encoding, damage| ("identity".to_owned(), encoding, damage);
        assert_eq!(of(b"k8s\0\x0a\x01a"), identity(Encoding::Protobuf, None));
        assert_eq!(of(b"k8s\0\x0a\x02a"), identity(Encoding::Protobuf, Some(ValueDamage::Object)));
        assert_eq!(of(b"k8s\0"), identity(Encoding::Protobuf, Some(ValueDamage::Object)));
        assert_eq!(of(b"{\"a\":1}\n"), identity(Encoding::Json, None));
        assert_eq!(of(b"{\"a\":1"), identity(Encoding::Json, Some(ValueDamage::Json)));
        assert_eq!(of(b"\xd9\xd9\xf7\xa0"), identity(Encoding::Cbor, None));
        for raw in [&b""[..], b"1234", b"k8s", b"\0\0\0\0", b"k8s:enc"] {
            assert_eq!(of(raw), identity(Encoding::Raw, Some(ValueDamage::Raw)));
        }
    }

    #[test]
    fn a_prefix_that_names_no_key_is_damaged_and_shown_as_far_as_it_goes() {
        for (bytes, provider) in [
            ("k8s:enc:", "unknown"),
            ("k8s:enc:::", "unknown"),
            ("k8s:enc:aescbc:v1", "aescbc"),
            ("k8s:enc:aescbc:v1:", "aescbc:v1"),
            ("k8s:enc:aescbc:v1::body", "aescbc:v1"),
            ("k8s:enc:a\nb:v1:k:", "unknown"),
        ] {
            assert_eq!(told(bytes.as_bytes()), (provider.to_owned(), None, Some(ValueDamage::Name)), "{bytes:?}");
        }
        let long = format!("k8s:enc:aescbc:v1:{}:", "k".repeat(2000));
        assert_eq!(told(long.as_bytes()).2, Some(ValueDamage::Name));
        assert_eq!(told(b"k8s:enc:aescbc:v1:\xff:").0, "aescbc:v1");
    }
}
