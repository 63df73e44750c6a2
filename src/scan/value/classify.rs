//! Classifies one stored value: which provider wrote it, which key it names, and what is wrong with it.
//!
//! A value that has a provider's prefix but not that provider's shape is damaged. It is counted under the provider,
//! without a key_id. One kind of damaged value keeps both names: a value of claviger's whose key_id and wrapped seed
//! name different keys.

use super::{
    super::protobuf::Fields,
    body::{Body, KmsV2Body, NAME_MAX, kms_v2, read_body},
    damage::ValueDamage,
};
use crate::{
    apiserver::coverage::IDENTITY,
    crypto::{Commitment, wrap::commitment_in},
    text,
};

/// The prefix of every encrypted value, whatever its provider.
pub const ENCRYPTED: &[u8] = b"k8s:enc:";
/// The prefix of an object in plaintext protobuf.
const PROTOBUF: &[u8] = b"k8s\0";
/// The prefix of an object in plaintext CBOR: the tag of self-described data, RFC 8949, section 3.4.6.
const CBOR: &[u8] = &[0xd9, 0xd9, 0xf7];

/// The provider of an encrypted value whose prefix names none.
pub const UNKNOWN: &str = "unknown";

/// The encoding of a stored object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Encoding {
    /// The object is encrypted, so its encoding is not visible.
    Encrypted,
    /// Protobuf: `k8s\0` and a `runtime.Unknown`.
    Protobuf,
    /// JSON: an object in braces.
    Json,
    /// CBOR: an object with the tag of self-described data.
    Cbor,
    /// An encoding that Kubernetes does not write.
    Raw,
}

/// The properties of one value, as its bytes show them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Value<'a> {
    /// The provider: the prefix without `k8s:enc:` and the last colon, such as `kms:v2:claviger`. [`IDENTITY`] for
    /// plaintext.
    pub provider: &'a str,
    /// The key_id in the value. `None` for other providers than KMS v2.
    pub key_id: Option<&'a str>,
    /// The wrapped seed (KMS v2) or wrapped key (KMS v1) that a reader has to unwrap first.
    pub seed: Option<&'a [u8]>,
    /// The commitment of the key that wrapped the seed, if the seed has the shape of claviger's.
    pub commitment: Option<Commitment>,
    /// The encoding of the object in the value.
    pub encoding: Encoding,
    /// The damage of the value, if it is damaged.
    pub damage: Option<ValueDamage>,
}

/// Finds the provider and the key of the value `bytes`, and checks its shape.
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

/// Classifies an encrypted value. `rest` is the value after `k8s:enc:`.
fn encrypted(rest: &[u8]) -> Value<'_> {
    let (provider, body) = split_name(rest);
    let encoding = Encoding::Encrypted;
    let mut value = Value { provider, key_id: None, seed: None, commitment: None, encoding, damage: None };
    value.damage = match body {
        None => Some(ValueDamage::Name),
        Some(body) => match read_body(provider, body) {
            Ok(Body { key_id, seed }) => {
                (value.key_id, value.seed) = (key_id, seed);
                value.commitment = key_id.and(seed).and_then(commitment_in);
                let names_other_key = key_id.zip(value.commitment).is_some_and(|(key_id, commitment)| {
                    commitment_half(key_id).is_some_and(|half| half != commitment.first_half())
                });
                names_other_key.then_some(ValueDamage::OtherKey)
            }
            Err(damage) => Some(damage),
        },
    };
    value
}

/// Parses the body of a KMS v2 value. `rest` is the value without [`ENCRYPTED`]. Returns `None` for a value of any
/// other provider.
pub fn kms_v2_body(rest: &[u8]) -> Option<Result<KmsV2Body<'_>, ValueDamage>> {
    rest.starts_with(b"kms:v2:").then(|| kms_v2(split_name(rest).1.ok_or(ValueDamage::Name)?))
}

/// Returns the first half of the commitment in a key_id of claviger's form, `k<number>-<32 hex digits>`. A key_id of
/// any other form has none.
pub fn commitment_half(key_id: &str) -> Option<[u8; 16]> {
    text::key_id(key_id).map(|(_, half)| half)
}

/// Splits `scheme:version:name:body` into the provider (the first three parts) and the body. Without a third colon
/// there is no body, and the provider is the part of its name that can be read.
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
        None => (ends[1].or(ends[0]).and_then(name).unwrap_or(UNKNOWN), None),
    }
}

/// Whether `bytes` consist of the fields of a message, and of at least one.
fn is_message(bytes: &[u8]) -> bool {
    !bytes.is_empty() && Fields(bytes).all(|field| field.is_some())
}

#[cfg(test)]
mod tests {
    use super::{
        super::samples::{message, message_of_claviger, stored},
        *,
    };

    fn summary(bytes: &[u8]) -> (String, Option<String>, Option<ValueDamage>) {
        let value = classify(bytes);
        (value.provider.to_owned(), value.key_id.map(ToOwned::to_owned), value.damage)
    }

    #[test]
    fn values_of_a_real_api_server_show_their_key_and_seed() {
        let document: serde_json::Value =
            serde_json::from_str(include_str!("../../../tests/vectors/kmsv2-values.json")).unwrap();
        for vector in document["vectors"].as_array().unwrap() {
            use base64ct::{Base64, Encoding};
            let bytes = Base64::decode_vec(vector["value_b64"].as_str().unwrap()).unwrap();
            let value = classify(&bytes);
            assert_eq!((value.provider, value.damage), ("kms:v2:lab", None));
            assert_eq!(value.key_id, vector["key_id"].as_str());
            assert_eq!(value.seed.unwrap().len(), 60, "nonce, seed and tag");
            // A value that is cut after its prefix is damaged. Two places are exceptions, because only optional fields
            // are cut off there: before the annotations, and before the type of the seed.
            let cuts = "k8s:enc:kms:v2:lab:".len()..bytes.len();
            assert_eq!(cuts.filter(|cut| classify(&bytes[..*cut]).damage.is_none()).count(), 2);
            assert_eq!(classify(&bytes[..10]).damage, Some(ValueDamage::Name));
        }
    }

    #[test]
    fn a_key_id_of_clavigers_form_shows_half_of_its_commitment() {
        let digits = "7e64d49dd7ce8d3fd0aba21cad561cb5";
        let half = |number: &str| commitment_half(&format!("k{number}-{digits}"));
        assert_eq!(half("1"), half("2147483648"));
        assert_eq!(half("1").map(|half| half[0]), Some(0x7e));
        for number in ["0", "01", "2147483649", "2221000002", "4294967296", "+1", ""] {
            assert_eq!(half(number), None, "{number}");
        }
        assert_eq!(commitment_half(&format!("k1-{}", &digits[1..])), None);
    }

    #[test]
    fn every_provider_is_recognised_by_its_prefix_and_checked_by_its_shape() {
        let long = [7; 48];
        for (prefix, provider, least, damage) in [
            ("k8s:enc:aesgcm:v1:k:", "aesgcm:v1:k", 28, ValueDamage::AesGcm),
            ("k8s:enc:aescbc:v1:k:", "aescbc:v1:k", 32, ValueDamage::AesCbc),
            ("k8s:enc:secretbox:v1:k:", "secretbox:v1:k", 40, ValueDamage::Secretbox),
        ] {
            assert_eq!(summary(&stored(prefix, &long[..least])), (provider.to_owned(), None, None));
            assert_eq!(summary(&stored(prefix, &long[..least - 1])), (provider.to_owned(), None, Some(damage)));
        }
        assert_eq!(summary(&stored("k8s:enc:aescbc:v1:k:", &[0; 47])).2, Some(ValueDamage::AesCbc));
        let kms_v1 = [&[0, 3, 1, 2, 3][..], &[7; 28]].concat();
        let value = stored("k8s:enc:kms:v1:old:", &kms_v1);
        assert_eq!((summary(&value).0.as_str(), classify(&value).seed), ("kms:v1:old", Some(&[1, 2, 3][..])));
        for body in [&kms_v1[..32], &[0, 0], &[0], &[0xff, 0xff, 1]] {
            assert_eq!(summary(&stored("k8s:enc:kms:v1:old:", body)).2, Some(ValueDamage::KmsV1));
        }
        // Names may contain colons. The part after the first colon does not belong to the provider here.
        assert_eq!(summary(&stored("k8s:enc:aescbc:v1:k:l:m:", &long)), ("aescbc:v1:k".to_owned(), None, None));
        let value = stored("k8s:enc:kms:v1:old:one:", &kms_v1);
        assert_eq!((summary(&value).2, classify(&value).seed), (None, Some(&[1, 2, 3][..])));
        assert_eq!(summary(&stored("k8s:enc:aescbc:v1:k:l:", &long[1..])).2, Some(ValueDamage::AesCbc));
        let new = stored("k8s:enc:new:v9:k:", b"");
        assert_eq!(summary(&new), ("new:v9:k".to_owned(), None, None), "another provider is left alone");
    }

    #[test]
    fn kms_v2_is_checked_field_by_field() {
        let of = |body: &[u8]| summary(&stored("k8s:enc:kms:v2:p:", body));
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
        // A field that a later version of Kubernetes adds is skipped.
        assert_eq!(of(&[message(60, "k", 1, 1), b"\x32\x01x".to_vec()].concat()).2, None);
    }

    #[test]
    fn a_seed_of_clavigers_names_its_key_and_the_key_id_must_name_the_same_one() {
        let commitment = Commitment([0xab; 32]);
        let right = format!("k7-{}", "ab".repeat(16));
        for (key_id, damage) in [
            (right.clone(), None),
            // The wrapped seed does not contain the sequence number.
            (right.replace("k7", "k8"), None),
            (right.replace("k7-ab", "k7-ac"), Some(ValueDamage::OtherKey)),
            // A key_id that does not have claviger's form is the name of another plugin's key, about which nothing is
            // known.
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

    #[test]
    fn plaintext_is_recognised_by_its_encoding() {
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
            assert_eq!(summary(bytes.as_bytes()), (provider.to_owned(), None, Some(ValueDamage::Name)), "{bytes:?}");
        }
        let long = format!("k8s:enc:aescbc:v1:{}:", "k".repeat(2000));
        assert_eq!(summary(long.as_bytes()).2, Some(ValueDamage::Name));
        assert_eq!(summary(b"k8s:enc:aescbc:v1:\xff:").0, "aescbc:v1");
    }

    #[test]
    fn damage_says_what_a_value_lacks() {
        let kms = |body: &[u8]| stored("k8s:enc:kms:v2:p:", body);
        for (bytes, expected) in [
            (b"k8s:enc:".to_vec(), "its prefix names no provider or key"),
            (stored("k8s:enc:aesgcm:v1:k:", b"x"), "shorter than a nonce of 12 bytes and a tag of 16"),
            (stored("k8s:enc:aescbc:v1:k:", b"x"), "not an IV of 16 bytes followed by whole blocks of 16"),
            (stored("k8s:enc:secretbox:v1:k:", b"x"), "shorter than a nonce of 24 bytes and a tag of 16"),
            (
                stored("k8s:enc:kms:v1:k:", b"x"),
                "not a wrapped key with its length, a nonce of 12 bytes and a tag of 16",
            ),
            (kms(b"\x0b"), "not a message of KMS v2"),
            (kms(&message(27, "k", 1, 0)), "its encrypted data is shorter than its nonce and tag"),
            (kms(&message(60, "k", 0, 1)), "its wrapped seed is not 1 to 1,024 bytes long, or is of an unknown type"),
            (kms(&message(60, "", 1, 1)), "its key_id is not 1 to 1,024 bytes of UTF-8"),
            (b"k8s\0".to_vec(), "not an object in protobuf"),
            (b"{".to_vec(), "not a whole object in JSON"),
            (b"x".to_vec(), "neither encrypted nor in an encoding of Kubernetes"),
        ] {
            assert_eq!(classify(&bytes).damage.unwrap().to_string(), expected, "{bytes:?}");
        }
    }
}
