//! Judges groups of values: compares their provider and key with the EncryptionConfiguration and with the keys of a
//! keyring.
//!
//! Resource, provider and key decide everything, so each group is judged once, however many values it has. What is
//! wrong with a single value is found in its bytes, elsewhere.
//!
//! A wrapped seed of claviger's contains the commitment of its key. The commitment decides, whatever the provider's
//! name is: two providers may share one socket, and a provider may be renamed. The provider's name decides only about
//! values that no known key has wrapped.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{group::Group, names::Resource};
use crate::{
    apiserver::coverage::{Coverage, EntryProviders, IDENTITY},
    crypto::Commitment,
};

/// A fault of a value, the worst first. `docs/scan.md` explains each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FindingKind {
    /// The value does not have the form that its prefix promises. Also used for a page that cannot be read.
    Damaged,
    /// The value is in plaintext, although the first provider of the entry that covers it encrypts.
    PlaintextAlthoughCovered,
    /// The value is a Secret in plaintext, and no known entry encrypts it.
    Plaintext,
    /// The provider of the value is not in the entry that covers it, so the API server cannot read the value.
    NoProvider,
    /// The keyring does not have the key of the value, or has destroyed it.
    UnknownKey,
    /// The key of the value is disabled.
    DisabledKey,
    /// The provider of the value is in the entry that covers it, but is not the first.
    NotFirstProvider,
    /// The key of the value is not the primary key.
    #[serde(rename = "stale")]
    OldKey,
}

impl FindingKind {
    /// All kinds of findings, the worst first.
    pub const ALL: [Self; 8] = [
        Self::Damaged,
        Self::PlaintextAlthoughCovered,
        Self::Plaintext,
        Self::NoProvider,
        Self::UnknownKey,
        Self::DisabledKey,
        Self::NotFirstProvider,
        Self::OldKey,
    ];

    /// Returns the name of the kind in JSON, metrics and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Damaged => "damaged",
            Self::PlaintextAlthoughCovered => "plaintext-although-covered",
            Self::Plaintext => "plaintext",
            Self::NoProvider => "no-provider",
            Self::UnknownKey => "unknown-key",
            Self::DisabledKey => "disabled-key",
            Self::NotFirstProvider => "not-first-provider",
            Self::OldKey => "stale",
        }
    }
}

/// The use of a key of the keyring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyUse {
    /// The key wraps new seeds, and unwraps.
    Primary,
    /// The key unwraps, and does not wrap.
    Unwraps,
    /// The key is of no use until it is enabled again.
    Disabled,
    /// The key is of no use for ever.
    Destroyed,
}

/// The key that wrapped the seed of a KMS v2 value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WrappingKey<'a> {
    /// A key of some claviger, with this commitment.
    Claviger(&'a Commitment),
    /// A key of another plugin, because the wrapped seed does not have the shape of claviger's.
    Foreign,
}

/// The keys of one keyring, and what the operator expects of them.
#[derive(Debug, Clone)]
pub struct KnownKeys {
    /// The provider whose values must all be under these keys, as their prefix names it.
    provider: String,
    /// The use of each key, by the first half of its commitment. A key_id shows no more of the commitment.
    uses: BTreeMap<[u8; 16], KeyUse>,
    /// Whether the list contains all keys of the keyring.
    is_whole: bool,
}

impl KnownKeys {
    /// Returns all keys of a keyring, each by the first half of its commitment. All values of the KMS v2 provider
    /// `name` must be under them.
    pub fn keyring(name: &str, uses: BTreeMap<[u8; 16], KeyUse>) -> Self {
        Self { provider: format!("kms:v2:{name}"), uses, is_whole: true }
    }

    /// Returns only the primary key, by the first half of its commitment. A value under another key of claviger's is
    /// stale.
    pub fn primary(name: &str, commitment_half: [u8; 16]) -> Self {
        let uses = [(commitment_half, KeyUse::Primary)].into();
        Self { provider: format!("kms:v2:{name}"), uses, is_whole: false }
    }

    /// Judges the key of a value. Returns `None` if nothing is wrong with it.
    fn judge(&self, provider: &str, key: WrappingKey<'_>) -> Option<FindingKind> {
        let key_use = match key {
            WrappingKey::Claviger(commitment) => self.uses.get(&commitment.first_half()),
            WrappingKey::Foreign => None,
        };
        match key_use {
            Some(KeyUse::Unwraps) => Some(FindingKind::OldKey),
            Some(KeyUse::Disabled) => Some(FindingKind::DisabledKey),
            Some(KeyUse::Destroyed) => Some(FindingKind::UnknownKey),
            None if provider == self.provider && self.is_whole => Some(FindingKind::UnknownKey),
            None if provider == self.provider => Some(FindingKind::OldKey),
            // Any other key of claviger may be an old key of this keyring.
            None if !self.is_whole && key != WrappingKey::Foreign => Some(FindingKind::OldKey),
            Some(KeyUse::Primary) | None => None,
        }
    }
}

/// The configuration and the keys that values are compared with.
#[derive(Debug, Clone, Default)]
pub struct Judge {
    /// The resources that should be encrypted, with their providers. `None` without an EncryptionConfiguration.
    pub coverage: Option<Coverage>,
    /// The keys of one keyring. `None` without a keyring.
    pub keys: Option<KnownKeys>,
}

/// The judgement about all values of a group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// All findings that hold for the values.
    pub kinds: Vec<FindingKind>,
    /// Whether the values are plaintext that no entry covers. That may be intended.
    pub is_uncovered: bool,
}

impl Verdict {
    /// Whether the values are in plaintext and should be encrypted.
    pub fn is_readable(&self) -> bool {
        let kinds = [FindingKind::PlaintextAlthoughCovered, FindingKind::Plaintext];
        kinds.iter().any(|kind| self.kinds.contains(kind))
    }
}

impl Judge {
    /// Judges the values of a group. Only whole values of KMS v2 have a key.
    pub fn verdict_of(&self, group: &Group) -> Verdict {
        let wrapping_key = || group.commitment.as_ref().map_or(WrappingKey::Foreign, WrappingKey::Claviger);
        self.verdict(&group.resource, &group.provider, group.key_id.as_ref().map(|_| wrapping_key()))
    }

    /// Judges values of `resource` under `provider` and `key`. Only whole values of KMS v2 have a key.
    pub fn verdict(&self, resource: &Resource, provider: &str, key: Option<WrappingKey<'_>>) -> Verdict {
        let mut verdict = Verdict::default();
        if resource.is_bookkeeping() {
            return verdict;
        }
        let providers = self.coverage.as_ref().map(|coverage| covering(coverage, resource));
        if provider == IDENTITY {
            let encrypts = matches!(providers, Some(Some(providers)) if providers.first() != IDENTITY);
            if encrypts {
                verdict.kinds.push(FindingKind::PlaintextAlthoughCovered);
            } else if is_secret(resource) {
                verdict.kinds.push(FindingKind::Plaintext);
            }
            verdict.is_uncovered = providers == Some(None);
        }
        match providers {
            Some(Some(providers)) if !providers.read(provider) => verdict.kinds.push(FindingKind::NoProvider),
            Some(Some(providers)) if !providers.write(provider) && provider != IDENTITY => {
                verdict.kinds.push(FindingKind::NotFirstProvider);
            }
            // If no entry covers the resource, an API server reads only plaintext.
            Some(None) if provider != IDENTITY => verdict.kinds.push(FindingKind::NoProvider),
            _ => {}
        }
        let keys = self.keys.as_ref().zip(key);
        verdict.kinds.extend(keys.and_then(|(keys, key)| keys.judge(provider, key)));
        verdict
    }

    /// Whether the entry that covers `resource` makes the API server write plaintext.
    pub fn writes_plaintext(&self, resource: &Resource) -> bool {
        let providers = self.coverage.as_ref().and_then(|coverage| covering(coverage, resource));
        providers.is_some_and(|providers| providers.first() == IDENTITY)
    }

    /// Whether new Secrets are written in plaintext, although the configuration lists a provider that encrypts them.
    pub fn writes_plaintext_secrets(&self) -> bool {
        let secrets = Resource { name: "secrets".to_owned(), group: Some(String::new()) };
        let providers = self.coverage.as_ref().and_then(|coverage| covering(coverage, &secrets));
        providers.is_some_and(EntryProviders::write_plaintext)
    }
}

/// Returns the providers of the entry that covers `resource`.
fn covering<'a>(coverage: &'a Coverage, resource: &Resource) -> Option<&'a EntryProviders> {
    coverage.of(&resource.name, resource.group.as_deref())
}

/// Whether every object of the resource is confidential. For other resources the operator decides.
fn is_secret(resource: &Resource) -> bool {
    const TOKENS: [&str; 2] = ["oauthaccesstokens", "oauthauthorizetokens"];
    let is_core = resource.name == "secrets" && resource.group.as_deref() == Some("");
    is_core || TOKENS.contains(&resource.name.as_str())
}

#[cfg(test)]
mod tests {
    use super::{super::names::resource, *};
    use crate::apiserver::coverage::KmsV1;

    const CONFIG: &str = "
apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
- resources: [secrets, widgets.example.com]
  providers:
  - kms: {apiVersion: v2, name: claviger, endpoint: unix:///s}
  - aescbc: {keys: [{name: k, secret: AAAAAAAAAAAAAAAAAAAAAA==}]}
  - identity: {}
- resources: [configmaps]
  providers:
  - kms: {apiVersion: v2, name: strict, endpoint: unix:///s}
- resources: [pods]
  providers:
  - identity: {}
  - kms: {apiVersion: v2, name: old, endpoint: unix:///s}
";

    fn kinds(judge: &Judge, path: &str, provider: &str, key: Option<WrappingKey<'_>>) -> Vec<&'static str> {
        judge.verdict(&resource(path), provider, key).kinds.into_iter().map(FindingKind::as_str).collect()
    }

    #[test]
    fn values_are_judged_by_what_was_configured() {
        let judge = Judge { coverage: Some(Coverage::parse(CONFIG, KmsV1::Refused).unwrap()), keys: None };
        for (path, provider, expected) in [
            ("secrets", "kms:v2:claviger", &[][..]),
            ("secrets", "aescbc:v1:k", &["not-first-provider"]),
            ("secrets", "aescbc:v1:other", &["no-provider"]),
            ("secrets", "kms:v1:claviger", &["no-provider"]),
            ("secrets", "identity", &["plaintext-although-covered"]),
            ("example.com/widgets", "identity", &["plaintext-although-covered"]),
            // Without `identity` in the entry, the API server cannot read plaintext.
            ("configmaps", "identity", &["plaintext-although-covered", "no-provider"]),
            ("pods", "identity", &[]),
            ("pods", "kms:v2:old", &["not-first-provider"]),
            ("pods", "kms:v2:claviger", &["no-provider"]),
            ("leases", "identity", &[]),
            ("leases", "kms:v2:claviger", &["no-provider"]),
            ("ranges", "identity", &[]),
        ] {
            assert_eq!(kinds(&judge, path, provider, None), expected, "{path} under {provider}");
        }
        assert!(judge.verdict(&resource("leases"), "identity", None).is_uncovered);
        assert!(!judge.verdict(&resource("pods"), "identity", None).is_uncovered);
    }

    #[test]
    fn a_secret_in_plaintext_is_found_whatever_was_configured() {
        assert_eq!(kinds(&Judge::default(), "secrets", "identity", None), ["plaintext"]);
        assert_eq!(kinds(&Judge::default(), "configmaps", "identity", None), [""; 0]);
        let off = CONFIG.replace("[pods]", "[nothing]").replace("[secrets, ", "[").replace("nothing", "secrets");
        let judge = Judge { coverage: Some(Coverage::parse(&off, KmsV1::Refused).unwrap()), keys: None };
        assert_eq!(kinds(&judge, "secrets", "identity", None), ["plaintext"], "identity comes first");
    }

    #[test]
    fn values_are_judged_by_the_key_that_wrapped_their_seed_whatever_their_provider() {
        let commitment = |number: u8| Commitment([number; 32]);
        let uses = [(3, KeyUse::Primary), (2, KeyUse::Unwraps), (1, KeyUse::Disabled), (0, KeyUse::Destroyed)];
        let uses = uses.map(|(number, key_use)| (commitment(number).first_half(), key_use)).into();
        let ring = Judge { coverage: None, keys: Some(KnownKeys::keyring("claviger", uses)) };
        let primary = Judge { coverage: None, keys: Some(KnownKeys::primary("claviger", commitment(3).first_half())) };
        for (number, by_keyring, by_primary) in [
            (3, &[][..], &[][..]),
            (2, &["stale"], &["stale"]),
            (1, &["disabled-key"], &["stale"]),
            (0, &["unknown-key"], &["stale"]),
        ] {
            for provider in ["kms:v2:claviger", "kms:v2:another"] {
                let key = commitment(number);
                let of = |judge| kinds(judge, "secrets", provider, Some(WrappingKey::Claviger(&key)));
                assert_eq!(
                    (of(&ring), of(&primary)),
                    (by_keyring.to_vec(), by_primary.to_vec()),
                    "{number}, {provider}"
                );
            }
        }
    }

    #[test]
    fn values_under_no_known_key_are_judged_by_their_provider() {
        let (own, other) = (Commitment([3; 32]), Commitment([9; 32]));
        let ring = [(own.first_half(), KeyUse::Primary)].into();
        let ring = Judge { coverage: None, keys: Some(KnownKeys::keyring("claviger", ring)) };
        let primary = Judge { coverage: None, keys: Some(KnownKeys::primary("claviger", own.first_half())) };
        for (provider, key, by_keyring, by_primary) in [
            ("kms:v2:claviger", WrappingKey::Claviger(&other), &["unknown-key"][..], &["stale"][..]),
            ("kms:v2:claviger", WrappingKey::Foreign, &["unknown-key"], &["stale"]),
            // The key may belong to another keyring, or be an old key of this one. The primary key alone does not tell.
            ("kms:v2:another", WrappingKey::Claviger(&other), &[], &["stale"]),
            ("kms:v2:another", WrappingKey::Foreign, &[], &[]),
        ] {
            assert_eq!(kinds(&ring, "secrets", provider, Some(key)), by_keyring, "{provider}, {key:?}");
            assert_eq!(kinds(&primary, "secrets", provider, Some(key)), by_primary, "{provider}, {key:?}");
        }
        assert_eq!(kinds(&ring, "configmaps", "kms:v2:claviger", None), [""; 0], "damaged: no key is known");
    }
}
