//! The keys that an EncryptionConfiguration contains itself: those of the providers `aescbc`, `aesgcm` and `secretbox`,
//! which need no plugin.

use std::fmt;

use zeroize::Zeroizing;

use super::{
    config_file::{ConfigFile, KeyList, ProviderEntry},
    error::CoverageError,
    rules::{KmsV1, check},
};

/// The cipher of a local key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LocalCipher {
    /// The provider `aesgcm`: AES-GCM.
    AesGcm,
    /// The provider `aescbc`: AES-CBC.
    AesCbc,
    /// The provider `secretbox`: XSalsa20-Poly1305.
    Secretbox,
}

/// A key of a provider that needs no plugin.
pub struct LocalKey {
    /// The cipher that the key is for.
    pub cipher: LocalCipher,
    /// The name of the key in the file.
    pub name: String,
    secret: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for LocalKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LocalKey({})", self.stored_prefix())
    }
}

impl LocalKey {
    /// Makes a key from its name and its bytes.
    pub fn new(cipher: LocalCipher, name: String, secret: Zeroizing<Vec<u8>>) -> Self {
        Self { cipher, name, secret }
    }

    /// Returns the bytes of the key.
    pub fn expose(&self) -> &[u8] {
        &self.secret
    }

    /// Returns the prefix of the key's values without `k8s:enc:`, and with the last colon.
    pub fn stored_prefix(&self) -> String {
        let scheme = match self.cipher {
            LocalCipher::AesGcm => "aesgcm",
            LocalCipher::AesCbc => "aescbc",
            LocalCipher::Secretbox => "secretbox",
        };
        format!("{scheme}:v1:{}:", self.name)
    }
}

/// Returns the keys in an EncryptionConfiguration, in the order of the file.
///
/// # Errors
/// When kube-apiserver would not start with it.
pub fn local_keys(text: &str, kms_v1: KmsV1) -> Result<Vec<LocalKey>, CoverageError> {
    let entries = ConfigFile::parse(text)?.resources.unwrap_or_default();
    check(&entries, kms_v1)?;
    let providers = entries.into_iter().flat_map(|entry| entry.providers.unwrap_or_default());
    Ok(providers.flat_map(keys_of).collect())
}

fn keys_of(provider: ProviderEntry) -> Vec<LocalKey> {
    let lists = [
        (LocalCipher::AesGcm, provider.aesgcm),
        (LocalCipher::AesCbc, provider.aescbc),
        (LocalCipher::Secretbox, provider.secretbox),
    ];
    let keys = |list: Option<KeyList>| list.and_then(|list| list.keys).unwrap_or_default();
    lists
        .into_iter()
        .flat_map(|(cipher, list)| keys(list).into_iter().map(move |key| (cipher, key)))
        // The rules have refused keys without a secret.
        .filter_map(|(cipher, key)| Some(LocalKey::new(cipher, key.name, key.secret.ok()?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_of_all_entries_are_read_with_their_names_and_bytes() {
        let text = "apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
- resources: [secrets]
  providers:
  - aescbc: {keys: [{name: 'a:b', secret: MDEyMzQ1Njc4OWFiY2RlZg==}]}
  - aesgcm: {keys: [{name: c, secret: \"MDEyMzQ1Njc4OWFi\\nY2RlZh==\"}]}
  - identity: {}
- resources: [configmaps]
  providers:
  - secretbox: {keys: [{name: d, secret: /////////////////////////////////////////+8=}]}";
        let keys = local_keys(text, KmsV1::Refused).unwrap();
        let found: Vec<_> = keys.iter().map(|key| (key.stored_prefix(), key.secret.to_vec())).collect();
        let mut last = vec![0xff; 32];
        last[31] = 0xef;
        let expected = [
            ("aescbc:v1:a:b:", b"0123456789abcdef".to_vec()),
            ("aesgcm:v1:c:", b"0123456789abcdef".to_vec()),
            ("secretbox:v1:d:", last),
        ];
        assert_eq!(found, expected.map(|(prefix, secret)| (prefix.to_owned(), secret)));
        assert_eq!(format!("{:?}", keys[0]), "LocalKey(aescbc:v1:a:b:)");
        let short = text.replace("MDEyMzQ1Njc4OWFiY2RlZg==", "MDEy");
        assert!(local_keys(&short, KmsV1::Refused).is_err());
    }
}
