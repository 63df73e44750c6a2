//! What is to be said of values under one provider and key, given what was configured and which keys there are.
//!
//! Everything that can be found depends on resource, provider and key alone, so a judgement is made once for each group of values,
//! however many there are; what is wrong with single values is told from their bytes.
//!
//! A wrapped seed of claviger's names its key by a commitment. That name counts, whatever the provider is called: two providers may
//! share one socket, and a provider may be renamed. The provider's name matters only for values that no known key has wrapped.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{coverage::Coverage, names::Resource, value::IDENTITY};
use crate::crypto::Commitment;

/// What can be found; each is documented in `docs/scan.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Not what its prefix says, or a page that cannot be read.
    Damaged,
    /// In plaintext, and the first provider of an entry that covers it encrypts.
    PlaintextAlthoughCovered,
    /// A Secret in plaintext, and no entry that is known encrypts it.
    Plaintext,
    /// Under a provider that none of its entry's reads: the API server cannot read it.
    NoProvider,
    /// Under a key that the keyring does not have, or has destroyed.
    UnknownKey,
    /// Under a key that is disabled.
    DisabledKey,
    /// Under a provider or key that is read, and is not the first.
    NotFirstProvider,
    /// Under another key than the primary one.
    Stale,
}

impl Kind {
    /// All, the worst first.
    pub const ALL: [Self; 8] = [
        Self::Damaged,
        Self::PlaintextAlthoughCovered,
        Self::Plaintext,
        Self::NoProvider,
        Self::UnknownKey,
        Self::DisabledKey,
        Self::NotFirstProvider,
        Self::Stale,
    ];

    /// As JSON, metrics and tables name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Damaged => "damaged",
            Self::PlaintextAlthoughCovered => "plaintext-although-covered",
            Self::Plaintext => "plaintext",
            Self::NoProvider => "no-provider",
            Self::UnknownKey => "unknown-key",
            Self::DisabledKey => "disabled-key",
            Self::NotFirstProvider => "not-first-provider",
            Self::Stale => "stale",
        }
    }
}

/// Whether a key unwraps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is the one that wraps.
    Primary,
    /// It unwraps.
    Usable,
    /// It does not, until it is enabled.
    Disabled,
    /// It is gone for ever.
    Destroyed,
}

/// The key that a value of KMS v2 is under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key<'a> {
    /// A key of some claviger, with this commitment.
    Claviger(&'a Commitment),
    /// A key of another plugin: the wrapped seed does not have the shape of claviger's.
    Foreign,
}

/// The keys that values may be under.
#[derive(Debug, Clone)]
pub struct Keys {
    /// The provider whose values must be under these keys, by the prefix that it stores.
    provider: String,
    /// The keys, by the first half of the commitment, which is all that a key_id shows.
    standings: BTreeMap<[u8; 16], Standing>,
    /// Whether the keyring has no other keys.
    is_whole: bool,
}

impl Keys {
    /// All keys of a keyring, each by the first half of its commitment; all values of the KMS v2 provider `name` must be under them.
    pub fn keyring(name: &str, standings: BTreeMap<[u8; 16], Standing>) -> Self {
        Self { provider: format!("kms:v2:{name}"), standings, is_whole: true }
    }

    /// The primary key alone, by the first half of its commitment: a value under another key of claviger's is stale.
    pub fn primary(name: &str, commitment_half: [u8; 16]) -> Self {
        let standings = [(commitment_half, Standing::Primary)].into();
        Self { provider: format!("kms:v2:{name}"), standings, is_whole: false }
    }

    fn judge(&self, provider: &str, key: Key<'_>) -> Option<Kind> {
        let standing = match key {
            Key::Claviger(commitment) => self.standings.get(&commitment.first_half()),
            Key::Foreign => None,
        };
        match standing {
            Some(Standing::Usable) => Some(Kind::Stale),
            Some(Standing::Disabled) => Some(Kind::DisabledKey),
            Some(Standing::Destroyed) => Some(Kind::UnknownKey),
            None if provider == self.provider && self.is_whole => Some(Kind::UnknownKey),
            None if provider == self.provider => Some(Kind::Stale),
            // Any key of claviger's but the primary one may be an old key of this keyring.
            None if !self.is_whole && key != Key::Foreign => Some(Kind::Stale),
            Some(Standing::Primary) | None => None,
        }
    }
}

/// What is known beside etcd's bytes.
#[derive(Debug, Clone, Default)]
pub struct Judge {
    /// What should be encrypted, and by what.
    pub coverage: Option<Coverage>,
    /// The keys of one claviger.
    pub keys: Option<Keys>,
}

/// What is to be said of a group of values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// What was found.
    pub kinds: Vec<Kind>,
    /// Whether it is plaintext that no entry covers, which may be as it should be.
    pub is_uncovered: bool,
}

impl Judge {
    /// Judges values of `resource` under `provider` and `key`; there is a key only for whole values of KMS v2.
    pub fn verdict(&self, resource: &Resource, provider: &str, key: Option<Key<'_>>) -> Verdict {
        let mut verdict = Verdict::default();
        if resource.is_bookkeeping() {
            return verdict;
        }
        let providers = self.coverage.as_ref().map(|coverage| coverage.of(resource));
        if provider == IDENTITY {
            let encrypts = matches!(providers, Some(Some(providers)) if providers.first() != IDENTITY);
            if encrypts {
                verdict.kinds.push(Kind::PlaintextAlthoughCovered);
            } else if is_secret(resource) {
                verdict.kinds.push(Kind::Plaintext);
            }
            verdict.is_uncovered = providers == Some(None);
        }
        match providers {
            Some(Some(providers)) if !providers.read(provider) => verdict.kinds.push(Kind::NoProvider),
            Some(Some(providers)) if !providers.write(provider) && provider != IDENTITY => {
                verdict.kinds.push(Kind::NotFirstProvider);
            }
            // Without an entry only plaintext is read.
            Some(None) if provider != IDENTITY => verdict.kinds.push(Kind::NoProvider),
            _ => {}
        }
        let keys = self.keys.as_ref().zip(key);
        verdict.kinds.extend(keys.and_then(|(keys, key)| keys.judge(provider, key)));
        verdict
    }
}

/// Whether it is made to hold what nobody may read; of all others the operator decides.
fn is_secret(resource: &Resource) -> bool {
    const TOKENS: [&str; 2] = ["oauthaccesstokens", "oauthauthorizetokens"];
    let is_core = resource.name == "secrets" && resource.group.as_deref() == Some("");
    is_core || TOKENS.contains(&resource.name.as_str())
}

#[cfg(test)]
mod tests {
    use super::{super::names::resource, *};

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

    fn kinds(judge: &Judge, path: &str, provider: &str, key: Option<Key<'_>>) -> Vec<&'static str> {
        judge.verdict(&resource(path), provider, key).kinds.into_iter().map(Kind::as_str).collect()
    }

    #[test]
    fn values_are_judged_by_what_was_configured() {
        let judge = Judge { coverage: Some(Coverage::parse(CONFIG).unwrap()), keys: None };
        for (path, provider, expected) in [
            ("secrets", "kms:v2:claviger", &[][..]),
            ("secrets", "aescbc:v1:k", &["not-first-provider"]),
            ("secrets", "aescbc:v1:other", &["no-provider"]),
            ("secrets", "kms:v1:claviger", &["no-provider"]),
            ("secrets", "identity", &["plaintext-although-covered"]),
            ("example.com/widgets", "identity", &["plaintext-although-covered"]),
            // No identity: the API server cannot read it.
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
        let judge = Judge { coverage: Some(Coverage::parse(&off).unwrap()), keys: None };
        assert_eq!(kinds(&judge, "secrets", "identity", None), ["plaintext"], "identity comes first");
    }

    #[test]
    fn values_are_judged_by_the_key_that_wrapped_their_seed_whatever_their_provider() {
        let commitment = |number: u8| Commitment([number; 32]);
        let standings =
            [(3, Standing::Primary), (2, Standing::Usable), (1, Standing::Disabled), (0, Standing::Destroyed)];
        let standings = standings.map(|(number, standing)| (commitment(number).first_half(), standing)).into();
        let ring = Judge { coverage: None, keys: Some(Keys::keyring("claviger", standings)) };
        let primary = Judge { coverage: None, keys: Some(Keys::primary("claviger", commitment(3).first_half())) };
        for (number, by_keyring, by_primary) in [
            (3, &[][..], &[][..]),
            (2, &["stale"], &["stale"]),
            (1, &["disabled-key"], &["stale"]),
            (0, &["unknown-key"], &["stale"]),
        ] {
            for provider in ["kms:v2:claviger", "kms:v2:another"] {
                let key = commitment(number);
                let of = |judge| kinds(judge, "secrets", provider, Some(Key::Claviger(&key)));
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
        let ring = [(own.first_half(), Standing::Primary)].into();
        let ring = Judge { coverage: None, keys: Some(Keys::keyring("claviger", ring)) };
        let primary = Judge { coverage: None, keys: Some(Keys::primary("claviger", own.first_half())) };
        for (provider, key, by_keyring, by_primary) in [
            ("kms:v2:claviger", Key::Claviger(&other), &["unknown-key"][..], &["stale"][..]),
            ("kms:v2:claviger", Key::Foreign, &["unknown-key"], &["stale"]),
            // It may be another keyring's, or an old key of this one: the primary key alone does not say.
            ("kms:v2:another", Key::Claviger(&other), &[], &["stale"]),
            ("kms:v2:another", Key::Foreign, &[], &[]),
        ] {
            assert_eq!(kinds(&ring, "secrets", provider, Some(key)), by_keyring, "{provider}, {key:?}");
            assert_eq!(kinds(&primary, "secrets", provider, Some(key)), by_primary, "{provider}, {key:?}");
        }
        assert_eq!(kinds(&ring, "configmaps", "kms:v2:claviger", None), [""; 0], "damaged: no key is known");
    }
}
