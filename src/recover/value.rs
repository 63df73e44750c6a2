//! Opens one stored value with the given keys: unwraps its seed and decrypts its data, or decrypts it with a local key.

use std::{collections::HashMap, fmt, sync::Arc};

use zeroize::Zeroizing;

use super::{keys::ValueKeys, object::Encoded};
use crate::{
    apiserver::coverage::LocalCipher,
    crypto::{
        foreign::{ForeignKey, INFO, NotOpened},
        seed::Seed,
        wrap::{UnwrapError, commitment_in, unknown_form},
    },
    memory::SecretBytes,
    scan::value::{DekKind, ENCRYPTED, KmsV2Body, ValueDamage, classify, kms_v2_body},
};

/// The number of unwrapped seeds that each thread keeps. An API server makes a seed at each start, and its objects are
/// near each other, so a few are enough. Each seed takes a page of secret memory, and a process has few of them.
const SEEDS_MAX: usize = 64;

/// Opens values with some keys, and keeps the seeds that it has unwrapped.
pub struct ValueOpener<'k> {
    keys: &'k ValueKeys,
    /// The seeds, by the wrapped seed and its key_id.
    seeds: HashMap<Box<[u8]>, Arc<SecretBytes>>,
    /// A buffer for the map key of the next seed.
    name: Vec<u8>,
}

/// The unwrapped seed of a value.
enum OpenedSeed {
    /// The seed is kept for the next values.
    Kept(Arc<SecretBytes>),
    /// The seed is used once, because there was no secret memory to keep it in.
    Once(Seed),
}

impl OpenedSeed {
    fn expose(&self) -> &[u8] {
        match self {
            Self::Kept(seed) => seed.expose(),
            Self::Once(seed) => seed.expose(),
        }
    }
}

/// The contents of a value.
pub struct OpenedValue {
    /// The object, as an API server reads it.
    pub object: Zeroizing<Vec<u8>>,
    /// Whether the value was authenticated. Anybody may have written a value in plaintext, or changed one of `aescbc`.
    pub is_authentic: bool,
}

impl fmt::Debug for OpenedValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenedValue").field("is_authentic", &self.is_authentic).finish_non_exhaustive()
    }
}

/// Why a value does not open.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenValueError {
    /// None of the given keys is the key of claviger that the value needs.
    #[error("it needs {0}, which is not among the given keys")]
    NotHeld(String),
    /// Another plugin wrapped the seed of the value.
    #[error("it needs {0}, a key of another plugin's")]
    OtherPlugin(String),
    /// The provider of the value has its keys in the EncryptionConfiguration, or needs another plugin.
    #[error("it is under {0}, and no given key is of that provider")]
    OtherProvider(String),
    /// The value does not open with the given local key of this name.
    #[error("it does not open under the given key of {0}")]
    OtherLocalKey(String),
    /// The value does not have the form that its prefix promises.
    #[error("it is damaged: {0}")]
    Damaged(#[from] ValueDamage),
    /// The wrapped seed of the value does not unwrap.
    #[error("its seed does not open: {0}")]
    Seed(#[from] UnwrapError),
    /// The encrypted data does not open under the seed of the value.
    #[error("its data is not authentic: it was changed, or moved here from another key of etcd")]
    NotAuthentic,
}

impl OpenValueError {
    /// Whether the error is final: no key of the given keyrings opens the value, in any version of claviger or
    /// Kubernetes. It is not final if this version does not know the form of the value, or if another provider's key
    /// may open it.
    pub fn is_final(&self) -> bool {
        match self {
            Self::NotHeld(_) | Self::OtherPlugin(_) | Self::NotAuthentic => true,
            Self::OtherProvider(_) | Self::OtherLocalKey(_) => false,
            Self::Damaged(damage) => *damage != ValueDamage::Seed,
            Self::Seed(error) => !matches!(error, UnwrapError::Version(_) | UnwrapError::Suite(_)),
        }
    }
}

impl<'k> ValueOpener<'k> {
    /// Makes an opener that uses `keys`.
    pub fn new(keys: &'k ValueKeys) -> Self {
        Self { keys, seeds: HashMap::new(), name: Vec::new() }
    }

    /// Opens `value`, which etcd stores under `etcd_key`. Returns a value in plaintext unchanged.
    ///
    /// # Errors
    /// When it needs another key, is damaged, or is not authentic.
    pub fn open(&mut self, etcd_key: &[u8], value: &[u8]) -> Result<OpenedValue, OpenValueError> {
        let Some(rest) = value.strip_prefix(ENCRYPTED) else {
            return Ok(OpenedValue { object: Zeroizing::new(value.to_vec()), is_authentic: false });
        };
        match kms_v2_body(rest) {
            Some(body) => {
                let object = self.open_kms_v2(etcd_key, body?)?;
                Ok(OpenedValue { object, is_authentic: true })
            }
            None => self.open_local(etcd_key, rest, value),
        }
    }

    fn open_kms_v2(&mut self, etcd_key: &[u8], body: KmsV2Body<'_>) -> Result<Zeroizing<Vec<u8>>, OpenValueError> {
        let seed = self.seed(body)?;
        let key = ForeignKey::new(seed.expose());
        let opened = match body.kind {
            DekKind::Key => key.open_gcm(body.data, etcd_key),
            DekKind::Seed => {
                let (info, sealed) = body.data.split_first_chunk::<INFO>().ok_or(ValueDamage::Data)?;
                key.open_derived(info, sealed, etcd_key)
            }
        };
        opened.map_err(|NotOpened| OpenValueError::NotAuthentic)
    }

    /// Unwraps the seed of a value, unless it was unwrapped before.
    fn seed(&mut self, body: KmsV2Body<'_>) -> Result<OpenedSeed, OpenValueError> {
        // The length distinguishes pairs of seed and key_id whose concatenated bytes are the same.
        let length = u32::try_from(body.source.len()).unwrap_or(u32::MAX).to_be_bytes();
        self.name.clear();
        for part in [&length[..], body.source, body.key_id.as_bytes()] {
            self.name.extend_from_slice(part);
        }
        let unwrapped = match self.seeds.get(&*self.name) {
            Some(seed) => return Ok(OpenedSeed::Kept(Arc::clone(seed))),
            None => self.unwrap(body)?,
        };
        if self.seeds.len() == SEEDS_MAX {
            self.seeds.clear();
        }
        let Ok(seed) = SecretBytes::copy_of(unwrapped.expose()) else { return Ok(OpenedSeed::Once(unwrapped)) };
        let seed = Arc::new(seed);
        self.seeds.insert(self.name.as_slice().into(), Arc::clone(&seed));
        Ok(OpenedSeed::Kept(seed))
    }

    fn unwrap(&self, body: KmsV2Body<'_>) -> Result<Seed, OpenValueError> {
        let commitment = commitment_in(body.source).ok_or_else(|| match unknown_form(body.source) {
            Some(error) => OpenValueError::Seed(error),
            None => OpenValueError::OtherPlugin(body.key_id.to_owned()),
        })?;
        let kek = self.keys.kek(&commitment).ok_or_else(|| OpenValueError::NotHeld(body.key_id.to_owned()))?;
        Ok(kek.unwrap(body.key_id, body.source)?)
    }

    /// Opens a value of `aescbc`, `aesgcm` or `secretbox`. `rest` is the value without `k8s:enc:`.
    fn open_local(&self, etcd_key: &[u8], rest: &[u8], value: &[u8]) -> Result<OpenedValue, OpenValueError> {
        let classified = classify(value);
        let mut error = OpenValueError::OtherProvider(classified.provider.to_owned());
        for (key, sealed) in self.keys.local(rest) {
            let foreign = ForeignKey::new(key.expose());
            let opened = match key.cipher {
                LocalCipher::AesGcm => foreign.open_gcm(sealed, etcd_key),
                // A wrong key seldom gives an error, but hardly ever the beginning of an object.
                LocalCipher::AesCbc => foreign.open_cbc(sealed).and_then(|opened| {
                    if matches!(Encoded::of(&opened), Ok(Encoded::Raw) | Err(_)) { Err(NotOpened) } else { Ok(opened) }
                }),
                LocalCipher::Secretbox => foreign.open_secretbox(sealed),
            };
            match opened {
                Ok(object) => return Ok(OpenedValue { object, is_authentic: key.cipher != LocalCipher::AesCbc }),
                Err(NotOpened) => error = OpenValueError::OtherLocalKey(key.stored_prefix()),
            }
        }
        Err(classified.damage.map_or(error, Into::into))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_of_a_newer_claviger_is_not_called_another_plugins() {
        let newer = |at: usize| {
            let mut seed =
                *b"KW\x01\x01 and whatever follows in a later version of the format, as long as it may be, so long";
            seed[at] = 2;
            unknown_form(&seed).map(|error| OpenValueError::Seed(error).is_final())
        };
        assert_eq!([newer(2), newer(3)], [Some(false), Some(false)]);
        assert_eq!(newer(0), None, "another plugin's");
    }

    #[test]
    fn opened_values_cannot_be_printed() {
        let bytes = || Zeroizing::new(b"hunter2".to_vec());
        let value = format!("{:?}", OpenedValue { object: bytes(), is_authentic: true });
        let part = crate::recover::OpenedPart { bytes: bytes(), ..Default::default() };
        assert_eq!([value, format!("{part:?}")], ["OpenedValue { is_authentic: true, .. }", "OpenedPart { .. }"]);
    }

    #[test]
    fn only_what_is_wrong_with_the_bytes_of_a_value_is_final() {
        let name = || "a".to_owned();
        for error in [
            OpenValueError::NotHeld(name()),
            OpenValueError::OtherPlugin(name()),
            OpenValueError::NotAuthentic,
            OpenValueError::Damaged(ValueDamage::Message),
            OpenValueError::Seed(UnwrapError::OtherKey),
            OpenValueError::Seed(UnwrapError::Length(3)),
        ] {
            assert!(error.is_final(), "{error}");
        }
        for error in [
            OpenValueError::OtherProvider(name()),
            OpenValueError::OtherLocalKey(name()),
            OpenValueError::Damaged(ValueDamage::Seed),
            OpenValueError::Seed(UnwrapError::Version(2)),
            OpenValueError::Seed(UnwrapError::Suite(2)),
        ] {
            assert!(!error.is_final(), "{error}");
        }
    }
}
