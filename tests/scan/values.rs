//! Makes values that etcd may contain, in the form of every provider and encoding, with what a scan should report about
//! each.

use prost::Message;

use crate::oracle::EncryptedObject;

/// Returns a wrapped seed of claviger's shape. The commitment of its key begins with the digits of `key_id`.
pub(super) fn seed_under(key_id: &str, chance: &mut Chance) -> Vec<u8> {
    let (_, digits) = key_id.split_once('-').unwrap();
    let mut half = [0; 16];
    base16ct::lower::decode(digits, &mut half).unwrap();
    // The rest is the second half of the commitment, the nonce, the seed and the tag.
    [b"KW\x01\x01".as_slice(), &half, &[0; 16], &chance.bytes(24 + 32 + 16)].concat()
}

/// A value, and its properties.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) bytes: Vec<u8>,
    pub(super) provider: String,
    pub(super) key_id: Option<String>,
    /// The wrapped seed or key in the value.
    pub(super) seed: Option<Vec<u8>>,
    /// The encoding in which the value can be read.
    pub(super) encoding: Option<&'static str>,
    pub(super) is_damaged: bool,
}

/// A sequence of bytes that look random and are the same each time: `SplitMix64`.
#[derive(Debug, Clone)]
pub(super) struct Chance(pub(super) u64);

impl Chance {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number below `limit`.
    pub(super) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap()
    }

    pub(super) fn bytes(&mut self, length: usize) -> Vec<u8> {
        let words = (0..length.div_ceil(8)).flat_map(|_| self.next().to_le_bytes());
        words.take(length).collect()
    }
}

impl Stored {
    /// Returns a value of KMS v2 with `length` bytes of data, its nonce and its tag.
    pub(super) fn kms_v2(name: &str, key_id: &str, seed: &[u8], length: usize, chance: &mut Chance) -> Self {
        let object = EncryptedObject {
            encrypted_data: chance.bytes(60 + length),
            key_id: key_id.to_owned(),
            encrypted_dek_source: seed.to_vec(),
            annotations: [("version.example.com".to_owned(), b"1".to_vec())].into(),
            encrypted_dek_source_type: 1,
        };
        let stored = Self::encrypted(&format!("kms:v2:{name}"), &object.encode_to_vec());
        Self { key_id: Some(key_id.to_owned()), seed: Some(seed.to_vec()), ..stored }
    }

    /// Returns a value of KMS v1: a wrapped key with its length, and the data under it.
    pub(super) fn kms_v1(name: &str, key: &[u8], length: usize, chance: &mut Chance) -> Self {
        let key_length = u16::try_from(key.len()).unwrap().to_be_bytes();
        let body = [&key_length[..], key, &chance.bytes(28 + length)].concat();
        Self { seed: Some(key.to_vec()), ..Self::encrypted(&format!("kms:v1:{name}"), &body) }
    }

    fn encrypted(provider: &str, body: &[u8]) -> Self {
        let bytes = [format!("k8s:enc:{provider}:").as_bytes(), body].concat();
        let provider = provider.to_owned();
        Self { bytes, provider, key_id: None, seed: None, encoding: None, is_damaged: false }
    }

    fn plain(encoding: &'static str, bytes: Vec<u8>) -> Self {
        let provider = "identity".to_owned();
        Self { bytes, provider, key_id: None, seed: None, encoding: Some(encoding), is_damaged: false }
    }

    /// Returns `k8s\0` and a `runtime.Unknown`.
    pub(super) fn protobuf(length: usize, chance: &mut Chance) -> Self {
        let unknown = Unknown {
            type_meta: Some(TypeMeta { api_version: "v1".to_owned(), kind: "Secret".to_owned() }),
            raw: chance.bytes(length),
        };
        Self::plain("protobuf", [b"k8s\0".as_slice(), &unknown.encode_to_vec()].concat())
    }

    pub(super) fn json(length: usize) -> Self {
        let text = format!(r#"{{"kind":"Widget","apiVersion":"example.com/v1","pin":"{}"}}"#, "7".repeat(length));
        // API servers write a newline after the JSON.
        Self::plain("json", (text + "\n").into_bytes())
    }

    fn cbor() -> Self {
        // 55799({"kind": "Widget"})
        Self::plain("cbor", b"\xd9\xd9\xf7\xa1\x44kind\x46Widget".to_vec())
    }

    fn damaged(self) -> Self {
        Self { is_damaged: true, ..self }
    }
}

#[derive(Clone, PartialEq, Message)]
struct TypeMeta {
    #[prost(string, tag = "1")]
    api_version: String,
    #[prost(string, tag = "2")]
    kind: String,
}

#[derive(Clone, PartialEq, Message)]
struct Unknown {
    #[prost(message, optional, tag = "1")]
    type_meta: Option<TypeMeta>,
    #[prost(bytes = "vec", tag = "2")]
    raw: Vec<u8>,
}

/// Returns a whole value of each shape, of about `length` bytes.
pub(super) fn whole(length: usize, chance: &mut Chance) -> Vec<Stored> {
    let seeds = [b"one wrapped seed".as_slice(), b"another wrapped seed"];
    let seed = seeds[chance.below(2)];
    let body = |more, chance: &mut Chance| chance.bytes(more + length);
    vec![
        Stored::kms_v2("claviger", "k1-0123456789abcdef0123456789abcdef", seed, length, chance),
        Stored::kms_v2("claviger", "k2-fedcba9876543210fedcba9876543210", seed, length, chance),
        Stored::kms_v2("another", "projects/p/keys/\u{e9}", seed, length, chance),
        Stored::kms_v1("old", seed, length, chance),
        Stored::encrypted("aesgcm:v1:key1", &body(28, chance)),
        Stored::encrypted("aescbc:v1:key1", &chance.bytes(32 + length / 16 * 16)),
        Stored::encrypted("secretbox:v1:key1", &body(40, chance)),
        Stored::encrypted("future:v9:key1", &body(0, chance)),
        Stored::protobuf(length, chance),
        Stored::json(length),
        Stored::cbor(),
    ]
}

/// Returns values that do not have the form of their prefix.
pub(super) fn damaged(chance: &mut Chance) -> Vec<Stored> {
    let cut = Stored::kms_v2("claviger", "k1", b"seed", 100, chance);
    let cut = &cut.bytes[b"k8s:enc:kms:v2:claviger:".len()..120];
    [
        Stored::plain("raw", b"neither this nor that".to_vec()),
        Stored::plain("raw", Vec::new()),
        Stored::encrypted("kms:v2:claviger", cut),
        Stored::encrypted("aescbc:v1:key1", &chance.bytes(33)),
        Stored::encrypted("kms:v1:old", &[0xff, 0xff, 0]),
        Stored::plain("json", b"{\"kind\":".to_vec()),
        Stored::plain("protobuf", b"k8s\0\x0a\x7f".to_vec()),
    ]
    .map(Stored::damaged)
    .to_vec()
}
