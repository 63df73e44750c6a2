//! The rules of an EncryptionConfiguration: kube-apiserver does not start with a file that breaks one of them.

use std::collections::{BTreeMap, BTreeSet};

use super::super::duration::positive_duration;
use super::{
    config_file::{ConfigEntry, KeyList, KmsEntry, ProviderEntry},
    error::{BrokenRule, CoverageError, ResourceNameError},
};

/// A resource's name and group, as an entry lists them. `*` means all.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct GroupResource {
    /// The name of the resource.
    pub resource: String,
    /// The group of the resource, empty for the core group.
    pub group: String,
}

impl GroupResource {
    /// Splits `text` at the first dot into the name and the group.
    pub fn parse(text: &str) -> Self {
        let (resource, group) = text.split_once('.').unwrap_or((text, ""));
        Self { resource: resource.to_owned(), group: group.to_owned() }
    }

    /// Returns all resources of `group`.
    pub fn all_of(group: &str) -> Self {
        Self { resource: "*".to_owned(), group: group.to_owned() }
    }
}

/// Whether kube-apiserver accepts KMS v1, which it refuses since Kubernetes 1.29 unless `--feature-gates=KMSv1=true`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum KmsV1 {
    /// kube-apiserver refuses KMS v1.
    #[default]
    Refused,
    /// kube-apiserver accepts KMS v1.
    Allowed,
}

/// Checks the rules that kube-apiserver checks when it starts.
///
/// # Errors
/// When a rule is broken.
pub fn check(entries: &[ConfigEntry], kms_v1: KmsV1) -> Result<(), CoverageError> {
    if entries.is_empty() {
        return Err(CoverageError::rule("resources", BrokenRule::Empty));
    }
    let mut kms = KmsRules { v1: kms_v1, names: BTreeSet::new() };
    for (index, entry) in entries.iter().enumerate() {
        check_resources(&format!("resources[{index}].resources"), entry.resources())?;
        let at = format!("resources[{index}].providers");
        if entry.providers().is_empty() {
            return Err(CoverageError::rule(&at, BrokenRule::Empty));
        }
        for (index, provider) in entry.providers().iter().enumerate() {
            check_provider(&format!("{at}[{index}]"), provider, &mut kms)?;
        }
    }
    Ok(())
}

/// Checks the resource list of an entry. `at` is the place of the list in the file.
fn check_resources(at: &str, resources: &[String]) -> Result<(), CoverageError> {
    if resources.is_empty() {
        return Err(CoverageError::rule(at, BrokenRule::Empty));
    }
    let mut names = BTreeSet::new();
    let mut in_group: BTreeMap<String, usize> = BTreeMap::new();
    for name in resources.iter().map(|text| GroupResource::parse(text)) {
        *in_group.entry(name.group.clone()).or_default() += 1;
        if !names.insert(name) {
            return Err(CoverageError::rule(at, BrokenRule::TwiceListed));
        }
    }
    let masks = |name: &GroupResource| {
        let others = if *name == GroupResource::all_of("*") { names.len() } else { in_group[&name.group] };
        name.resource == "*" && others > 1
    };
    if names.iter().any(masks) {
        return Err(CoverageError::rule(at, BrokenRule::MaskedInList));
    }
    for (index, text) in resources.iter().enumerate() {
        check_name(text).map_err(|reason| {
            let rule = BrokenRule::Resource { resource: text.clone(), reason };
            CoverageError::rule(&format!("{at}[{index}]"), rule)
        })?;
    }
    Ok(())
}

/// Checks the name of one resource in a list.
fn check_name(text: &str) -> Result<(), ResourceNameError> {
    let GroupResource { resource, group } = GroupResource::parse(text);
    if text.to_lowercase() != text {
        return Err(ResourceNameError::Capitals);
    }
    match (text, &*resource, &*group) {
        ("*", ..) => Err(ResourceNameError::Ambiguous),
        ("apiserveripinfo" | "serviceipallocations" | "servicenodeportallocations", ..) => {
            Err(ResourceNameError::NoApi)
        }
        (_, _, "events.k8s.io") => Err(ResourceNameError::Events),
        (_, _, "extensions") => Err(ResourceNameError::Extensions),
        (_, resource, "*") if resource != "*" => Err(ResourceNameError::AllGroups),
        _ => Ok(()),
    }
}

/// The state that the rules for all KMS providers of a file share.
struct KmsRules<'a> {
    v1: KmsV1,
    /// The names of the providers so far.
    names: BTreeSet<&'a str>,
}

/// Checks one provider of an entry. `at` is its place in the file.
fn check_provider<'a>(at: &str, provider: &'a ProviderEntry, rules: &mut KmsRules<'a>) -> Result<(), CoverageError> {
    match provider.kinds() {
        0 => return Err(CoverageError::rule(at, BrokenRule::NoProvider)),
        1 => {}
        _ => return Err(CoverageError::rule(at, BrokenRule::SeveralProviders)),
    }
    match provider {
        ProviderEntry { aesgcm: Some(keys), .. } => check_keys(&format!("{at}.aesgcm.keys"), keys, &[16, 24, 32]),
        ProviderEntry { aescbc: Some(keys), .. } => check_keys(&format!("{at}.aescbc.keys"), keys, &[16, 24, 32]),
        ProviderEntry { secretbox: Some(keys), .. } => check_keys(&format!("{at}.secretbox.keys"), keys, &[32]),
        ProviderEntry { kms: Some(kms), .. } => check_kms(&format!("{at}.kms"), kms, rules),
        _ => Ok(()),
    }
}

/// Checks the keys of a local provider. `lengths` are the allowed lengths of a secret in bytes.
fn check_keys(at: &str, keys: &KeyList, lengths: &'static [usize]) -> Result<(), CoverageError> {
    let keys = keys.keys.as_deref().unwrap_or_default();
    if keys.is_empty() {
        return Err(CoverageError::rule(at, BrokenRule::Empty));
    }
    for (index, key) in keys.iter().enumerate() {
        let at = format!("{at}[{index}]");
        if key.name.is_empty() {
            return Err(CoverageError::rule(&at, BrokenRule::NoName));
        }
        let secret = key.secret.as_ref().map_err(|error| CoverageError::rule(&at, *error))?;
        if !lengths.contains(&secret.len()) {
            return Err(CoverageError::rule(&at, BrokenRule::SecretLength { expected: lengths }));
        }
    }
    Ok(())
}

/// Checks a KMS provider.
fn check_kms<'a>(at: &str, kms: &'a KmsEntry, rules: &mut KmsRules<'a>) -> Result<(), CoverageError> {
    let is_v1 = kms.api_version() == "v1";
    let wrong = |rule| Err(CoverageError::rule(at, rule));
    if !is_v1 && kms.api_version() != "v2" {
        return wrong(BrokenRule::KmsVersion);
    }
    if kms.name.is_empty() {
        return wrong(BrokenRule::NoName);
    }
    if !is_v1 && kms.name.contains(':') {
        return wrong(BrokenRule::Colon);
    }
    // kube-apiserver checks the names of KMS v1 providers only if it reloads the file while it runs.
    if !rules.names.insert(&kms.name) && !is_v1 {
        return wrong(BrokenRule::SameName);
    }
    if !kms.endpoint.to_ascii_lowercase().starts_with("unix:") {
        return wrong(BrokenRule::Endpoint);
    }
    match (is_v1, kms.cachesize) {
        (false, Some(_)) => return wrong(BrokenRule::CacheOfV2),
        (true, Some(0)) => return wrong(BrokenRule::NoCache),
        _ => {}
    }
    match &kms.timeout {
        Some(text) if positive_duration(text).is_none() => wrong(BrokenRule::Timeout),
        _ if is_v1 && rules.v1 == KmsV1::Refused => wrong(BrokenRule::NoGate),
        _ => Ok(()),
    }
}
