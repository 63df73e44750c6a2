//! What a stored value is under, told from its bytes; nothing here needs a key, and nothing decrypts.
//!
//! The formats are kube-apiserver's (`k8s.io/apiserver`, `pkg/server/options/encryptionconfig` and `pkg/storage/value`);
//! `docs/scan.md` lists them. A value that carries a provider's prefix and is not what that provider writes is damaged: it is
//! counted under the provider, without a key_id.

use prost::encoding::{WireType, decode_key, decode_varint};

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

/// Why a value is not what its prefix says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ValueDamage {
    /// The prefix ends before it names a provider or key.
    #[error("the prefix names no provider")]
    Name,
    /// Shorter than anything that the provider writes.
    #[error("{found} bytes behind the prefix, expected {expected}")]
    Length {
        /// How many there are.
        found: usize,
        /// How many there should be.
        expected: &'static str,
    },
    /// Not the message of KMS v2.
    #[error("no message of KMS v2: {0}")]
    Message(&'static str),
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
    /// In which encoding it can be read.
    pub encoding: Encoding,
    /// Why it is not what it should be.
    pub damage: Option<ValueDamage>,
}

/// The provider of what is not encrypted.
pub const IDENTITY: &str = "identity";

/// The provider of what says that it is encrypted, and not by what.
const UNKNOWN: &str = "unknown";

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
    Value { provider: IDENTITY, key_id: None, seed: None, encoding, damage }
}

fn encrypted(rest: &[u8]) -> Value<'_> {
    let (provider, body) = split_name(rest);
    let mut value = Value { provider, key_id: None, seed: None, encoding: Encoding::Encrypted, damage: None };
    value.damage = match body {
        None => Some(ValueDamage::Name),
        Some(body) => match body_of(provider, body) {
            Ok(Body { key_id, seed }) => {
                (value.key_id, value.seed) = (key_id, seed);
                None
            }
            Err(damage) => Some(damage),
        },
    };
    value
}

/// `scheme:version:name` and what follows the colon behind it; no body if the name has no end.
fn split_name(rest: &[u8]) -> (&str, Option<&[u8]>) {
    let colons = rest.iter().take(NAME_MAX).enumerate().filter(|(_, byte)| **byte == b':').map(|(at, _)| at);
    let mut colons = colons.take(3);
    let ends = [colons.next(), colons.next(), colons.next()];
    let name = |end: usize| {
        let name = std::str::from_utf8(&rest[..end]).ok()?;
        (!name.is_empty() && !name.chars().any(char::is_control)).then_some(name)
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
    let plain = |least, expected| at_least(body, least, expected).map(|()| Body::default());
    // The name may hold anything but a colon; scheme and version are known by heart.
    let mut parts = provider.splitn(3, ':');
    match (parts.next(), parts.next()) {
        (Some("kms"), Some("v2")) => kms_v2(body),
        (Some("kms"), Some("v1")) => kms_v1(body),
        (Some("aesgcm"), Some("v1")) => plain(28, "a nonce of 12 and a tag of 16 at least"),
        (Some("secretbox"), Some("v1")) => plain(40, "a nonce of 24 and a tag of 16 at least"),
        (Some("aescbc"), Some("v1")) => {
            const EXPECTED: &str = "an IV of 16 and whole blocks of 16";
            at_least(body, 32, EXPECTED)?;
            let whole = body.len().is_multiple_of(16);
            if whole { Ok(Body::default()) } else { Err(ValueDamage::Length { found: body.len(), expected: EXPECTED }) }
        }
        _ => Ok(Body::default()),
    }
}

fn at_least(bytes: &[u8], least: usize, expected: &'static str) -> Result<(), ValueDamage> {
    if bytes.len() < least { Err(ValueDamage::Length { found: bytes.len(), expected }) } else { Ok(()) }
}

/// The length of the wrapped key as u16, big-endian, that key, and a value under it.
fn kms_v1(body: &[u8]) -> Result<Body<'_>, ValueDamage> {
    const EXPECTED: &str = "a wrapped key with its length, and a nonce of 12 and a tag of 16 at least";
    let damage = ValueDamage::Length { found: body.len(), expected: EXPECTED };
    let (length, rest) = body.split_first_chunk::<2>().ok_or(damage)?;
    let (seed, data) = rest.split_at_checked(u16::from_be_bytes(*length).into()).ok_or(damage)?;
    if seed.is_empty() {
        return Err(damage);
    }
    at_least(data, 28, EXPECTED)?;
    Ok(Body { key_id: None, seed: Some(seed) })
}

/// The message `EncryptedObject`: 1 encryptedData, 2 keyID, 3 encryptedDEKSource, 4 annotations, 5 encryptedDEKSourceType.
fn kms_v2(body: &[u8]) -> Result<Body<'_>, ValueDamage> {
    let damage = ValueDamage::Message;
    let (mut data, mut key_id, mut seed, mut kind): (&[u8], &[u8], &[u8], u64) = (&[], &[], &[], 0);
    for field in Fields(body) {
        match field.ok_or(damage("its fields do not end where it ends"))? {
            (1, Field::Bytes(bytes)) => data = bytes,
            (2, Field::Bytes(bytes)) => key_id = bytes,
            (3, Field::Bytes(bytes)) => seed = bytes,
            (5, Field::Varint(number)) => kind = number,
            (1..=5, field) if !matches!(field, Field::Bytes(_)) => return Err(damage("a field has another type")),
            _ => {}
        }
    }
    let least = match kind {
        0 => 28,
        1 => 60,
        _ => return Err(damage("the seed's type is unknown")),
    };
    if data.len() < least {
        return Err(damage("the encrypted data is shorter than its nonce and tag"));
    }
    if seed.is_empty() || seed.len() > NAME_MAX {
        return Err(damage("the wrapped seed is not 1 to 1,024 bytes"));
    }
    let key_id = std::str::from_utf8(key_id).ok().filter(|name| (1..=NAME_MAX).contains(&name.len()));
    Ok(Body { key_id: Some(key_id.ok_or(damage("the key_id is not 1 to 1,024 bytes of UTF-8"))?), seed: Some(seed) })
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
    fn read(&mut self) -> Option<(u32, Field<'a>)> {
        let (tag, wire_type) = decode_key(&mut self.0).ok()?;
        let field = match wire_type {
            WireType::Varint => Field::Varint(decode_varint(&mut self.0).ok()?),
            WireType::LengthDelimited => {
                let length = usize::try_from(decode_varint(&mut self.0).ok()?).ok()?;
                Field::Bytes(self.take(length)?)
            }
            WireType::SixtyFourBit => self.take(8).map(|_| Field::Fixed)?,
            WireType::ThirtyTwoBit => self.take(4).map(|_| Field::Fixed)?,
            WireType::StartGroup | WireType::EndGroup => return None,
        };
        Some((tag, field))
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }
}
