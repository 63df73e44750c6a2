//! What an EncryptionConfiguration says of a resource, read as kube-apiserver reads it.
//!
//! Source: `k8s.io/apiserver`, `pkg/server/options/encryptionconfig/config.go` and
//! `pkg/apis/apiserver/validation/validation_encryption.go`: what those refuse is refused here, too, since an API server with such
//! a file does not start. Keys are never read: a secret's length alone is looked at.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

use super::{names::Resource, value::IDENTITY};

/// The `apiVersion` since Kubernetes 1.13.
const API_VERSION: &str = "apiserver.config.k8s.io/v1";

/// The longest file that is read.
pub const CONFIG_MAX: usize = 1024 * 1024;

/// Why an EncryptionConfiguration is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CoverageError {
    /// It is no such document.
    #[error("not an EncryptionConfiguration: {0}")]
    Syntax(String),
    /// It is of another kind, or of none. What stands there is not repeated: in a wrong file it may be anything.
    #[error(
        "not an EncryptionConfiguration: its kind and apiVersion must be EncryptionConfiguration and {API_VERSION}"
    )]
    Kind,
    /// A rule that kube-apiserver checks; it would not start.
    #[error("{at}: {what}")]
    Rule {
        /// Where, as kube-apiserver names it.
        at: String,
        /// Which rule.
        what: String,
    },
}

/// The providers that stand for a resource.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Providers {
    /// By the prefix that they store, `kms:v2:claviger` or `identity`, in their order; a provider of several keys once for each.
    all: Vec<String>,
}

impl Providers {
    /// The one that writes.
    pub fn first(&self) -> &str {
        self.all.first().map_or(IDENTITY, String::as_str)
    }

    /// Whether one of them reads what is stored under `provider`.
    pub fn read(&self, provider: &str) -> bool {
        self.all.iter().any(|one| one == provider)
    }

    /// Whether values under `provider` are those that the first one writes.
    pub fn write(&self, provider: &str) -> bool {
        self.first() == provider
    }
}

/// A resource's name and group as an entry has them; `*` stands for all.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct GroupResource {
    resource: String,
    group: String,
}

impl GroupResource {
    /// The name up to the first dot, and the group behind it.
    fn parse(text: &str) -> Self {
        let (resource, group) = text.split_once('.').unwrap_or((text, ""));
        Self { resource: resource.to_owned(), group: group.to_owned() }
    }

    fn all_of(group: &str) -> Self {
        Self { resource: "*".to_owned(), group: group.to_owned() }
    }
}

/// Which providers stand for which resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coverage {
    entries: BTreeMap<GroupResource, Providers>,
}

impl Coverage {
    /// Reads an EncryptionConfiguration, in YAML or JSON.
    ///
    /// # Errors
    /// When kube-apiserver would not start with it.
    pub fn parse(text: &str) -> Result<Self, CoverageError> {
        // No number and no truth is taken for a text.
        let options = serde_saphyr::options! { no_schema: true };
        let file: File = serde_saphyr::from_str_with_options(first_document(text), options)
            .map_err(|error| CoverageError::Syntax(explain(&error)))?;
        let is_known = matches!(
            (&*file.api_version, &*file.kind),
            (API_VERSION, "EncryptionConfiguration") | ("v1", "EncryptionConfig")
        );
        if !is_known {
            return Err(CoverageError::Kind);
        }
        let resources = file.resources.unwrap_or_default();
        check(&resources)?;
        let mut entries: BTreeMap<GroupResource, Providers> = BTreeMap::new();
        for (index, entry) in resources.iter().enumerate() {
            let providers = entry.stored();
            for resource in entry.resources() {
                let name = GroupResource::parse(resource);
                let masks = [GroupResource::all_of(&name.group), GroupResource::all_of("*")];
                if let Some(mask) = masks.iter().find(|mask| entries.contains_key(mask)) {
                    let what = format!("resource {resource:?} is masked by the earlier {:?}", yaml_name(mask));
                    return Err(rule(&format!("resources[{index}].resources"), what));
                }
                // The same resource in a later entry adds providers.
                entries.entry(name).or_default().all.extend(providers.iter().cloned());
            }
        }
        Ok(Self { entries })
    }

    /// The providers for `resource`: its own, those of all in its group, or those of everything. None if no entry covers it.
    ///
    /// A resource whose group nobody knows is matched by its name, or by `*.*`.
    pub fn of(&self, resource: &Resource) -> Option<&Providers> {
        if resource.is_bookkeeping() {
            return None;
        }
        let everything = || self.entries.get(&GroupResource::all_of("*"));
        let Some(group) = &resource.group else {
            let mut named = self.entries.iter().filter(|(name, _)| name.resource == resource.name);
            return named.next().map(|(_, providers)| providers).or_else(everything);
        };
        let own = GroupResource { resource: resource.name.clone(), group: group.clone() };
        self.entries.get(&own).or_else(|| self.entries.get(&GroupResource::all_of(group))).or_else(everything)
    }
}

/// The first document, of which alone kube-apiserver takes notice. A line that begins with the mark between two is one wherever it
/// stands.
fn first_document(text: &str) -> &str {
    let (mut is_begun, mut end) = (false, 0);
    for line in text.split_inclusive('\n') {
        let is_mark = |mark| line.strip_prefix(mark).is_some_and(|rest| rest.trim_start().len() < rest.len().max(1));
        if is_mark("...") || is_begun && is_mark("---") {
            break;
        }
        let content = line.trim_start_matches('\u{feff}').trim_start();
        is_begun |= !content.is_empty() && !content.starts_with(['#', '%']);
        end += line.len();
    }
    &text[..end]
}

/// What is wrong, and where. Whatever stands in a wrong place may be a key, a field's name also: nothing of the file is repeated.
fn explain(error: &serde_saphyr::Error) -> String {
    use serde_saphyr::Error::{DuplicateMappingKey, SerdeUnknownField};
    let place = error.location().map_or_else(String::new, |at| format!("line {}, column {}: ", at.line(), at.column()));
    let what = match error.without_snippet() {
        SerdeUnknownField { expected, .. } if expected.is_empty() => "unknown field".to_owned(),
        SerdeUnknownField { expected, .. } => format!("unknown field, expected one of {}", expected.join(", ")),
        DuplicateMappingKey { .. } => "a field that stands there twice".to_owned(),
        _ => "something else was expected there".to_owned(),
    };
    place + &what
}

fn yaml_name(name: &GroupResource) -> String {
    match (&*name.resource, &*name.group) {
        (resource, "") if resource != "*" => resource.to_owned(),
        (resource, group) => format!("{resource}.{group}"),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct File {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    resources: Option<Vec<Entry>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    resources: Option<Vec<String>>,
    providers: Option<Vec<Provider>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Provider {
    aesgcm: Option<Keys>,
    aescbc: Option<Keys>,
    secretbox: Option<Keys>,
    identity: Option<Identity>,
    kms: Option<Kms>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Identity {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    keys: Option<Vec<Key>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Key {
    #[serde(default)]
    name: String,
    /// How many bytes, or why none can be had; what they are is forgotten at once.
    #[serde(default = "no_secret", deserialize_with = "secret_length")]
    secret: Result<usize, &'static str>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Kms {
    #[serde(rename = "apiVersion")]
    api_version: Option<String>,
    #[serde(default)]
    name: String,
    #[serde(default)]
    endpoint: String,
    cachesize: Option<i32>,
    timeout: Option<String>,
}

impl Kms {
    /// Its version; an empty one is the first, too.
    fn api_version(&self) -> &str {
        self.api_version.as_deref().filter(|version| !version.is_empty()).unwrap_or("v1")
    }
}

fn no_secret() -> Result<usize, &'static str> {
    Err("secret is missing")
}

fn secret_length<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Result<usize, &'static str>, D::Error> {
    let text = Zeroizing::new(String::deserialize(deserializer)?);
    if text.is_empty() {
        return Ok(no_secret());
    }
    Ok(decoded_length(&text).ok_or("secret is not base64"))
}

/// How many bytes a text in base64 stands for. As Go's decoder takes it: padded, line breaks are passed over, and the bits behind
/// the last byte may be any.
fn decoded_length(text: &str) -> Option<usize> {
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    let bytes = || text.bytes().filter(|byte| !matches!(byte, b'\r' | b'\n'));
    let digits = bytes().take_while(is_digit).count();
    let padding = bytes().skip(digits).take_while(|byte| *byte == b'=').count();
    let is_whole = digits % 4 != 1 && padding == (4 - digits % 4) % 4 && digits + padding == bytes().count();
    is_whole.then_some(digits * 3 / 4)
}

impl Entry {
    fn resources(&self) -> &[String] {
        self.resources.as_deref().unwrap_or_default()
    }

    fn providers(&self) -> &[Provider] {
        self.providers.as_deref().unwrap_or_default()
    }

    /// The prefixes that its providers store.
    fn stored(&self) -> Vec<String> {
        self.providers().iter().flat_map(Provider::stored).collect()
    }
}

impl Provider {
    fn stored(&self) -> Vec<String> {
        // A name ends where its prefix is read to end: at the first colon.
        let name = |name: &str| name.split(':').next().unwrap_or_default().to_owned();
        let keys = |scheme: &str, keys: &Keys| -> Vec<String> {
            keys.keys.iter().flatten().map(|key| format!("{scheme}:v1:{}", name(&key.name))).collect()
        };
        match self {
            Self { aesgcm: Some(all), .. } => keys("aesgcm", all),
            Self { aescbc: Some(all), .. } => keys("aescbc", all),
            Self { secretbox: Some(all), .. } => keys("secretbox", all),
            Self { kms: Some(kms), .. } => vec![format!("kms:{}:{}", kms.api_version(), name(&kms.name))],
            _ => vec![IDENTITY.to_owned()],
        }
    }

    fn kinds(&self) -> usize {
        let kinds = [
            self.aesgcm.is_some(),
            self.aescbc.is_some(),
            self.secretbox.is_some(),
            self.identity.is_some(),
            self.kms.is_some(),
        ];
        kinds.into_iter().filter(|kind| *kind).count()
    }
}

fn rule(at: &str, what: impl Into<String>) -> CoverageError {
    CoverageError::Rule { at: at.to_owned(), what: what.into() }
}

/// The rules that kube-apiserver checks when it starts.
fn check(entries: &[Entry]) -> Result<(), CoverageError> {
    if entries.is_empty() {
        return Err(rule("resources", "at least one is required"));
    }
    let mut kms_names = BTreeSet::new();
    for (index, entry) in entries.iter().enumerate() {
        check_resources(&format!("resources[{index}].resources"), entry.resources())?;
        let at = format!("resources[{index}].providers");
        if entry.providers().is_empty() {
            return Err(rule(&at, "at least one is required"));
        }
        for (index, provider) in entry.providers().iter().enumerate() {
            check_provider(&format!("{at}[{index}]"), provider, &mut kms_names)?;
        }
    }
    Ok(())
}

fn check_resources(at: &str, resources: &[String]) -> Result<(), CoverageError> {
    if resources.is_empty() {
        return Err(rule(at, "at least one is required"));
    }
    let names: Vec<GroupResource> = resources.iter().map(|text| GroupResource::parse(text)).collect();
    for (index, one) in names.iter().enumerate() {
        for other in &names[index + 1..] {
            if one == other {
                return Err(rule(at, "the same resource stands twice"));
            }
            let everything = GroupResource::all_of("*");
            let is_wide = |name: &GroupResource| name.resource == "*";
            let same_group = one.group == other.group;
            if *one == everything || *other == everything || same_group && (is_wide(one) || is_wide(other)) {
                return Err(rule(at, "a wildcard masks another resource of the same list"));
            }
        }
    }
    for (index, text) in resources.iter().enumerate() {
        check_name(text).map_err(|what| rule(&format!("{at}[{index}]"), format!("{text:?}: {what}")))?;
    }
    Ok(())
}

fn check_name(text: &str) -> Result<(), &'static str> {
    let GroupResource { resource, group } = GroupResource::parse(text);
    if text.to_lowercase() != text {
        return Err("has capital letters");
    }
    match (text, &*resource, &*group) {
        ("*", ..) => Err("use '*.' for the core group, or '*.*' for everything"),
        ("apiserveripinfo" | "serviceipallocations" | "servicenodeportallocations", ..) => {
            Err("has no REST API, and cannot be encrypted")
        }
        (_, _, "events.k8s.io") => Err("events are stored in the core group: use 'events'"),
        (_, _, "extensions") => Err("the group 'extensions' is gone"),
        (_, resource, "*") if resource != "*" => Err("one resource of all groups cannot be encrypted"),
        _ => Ok(()),
    }
}

fn check_provider<'a>(
    at: &str,
    provider: &'a Provider,
    kms_names: &mut BTreeSet<&'a str>,
) -> Result<(), CoverageError> {
    match provider.kinds() {
        0 => return Err(rule(at, "names none of kms, aesgcm, aescbc, secretbox and identity")),
        1 => {}
        _ => return Err(rule(at, "names more than one provider")),
    }
    match provider {
        Provider { aesgcm: Some(keys), .. } => check_keys(&format!("{at}.aesgcm.keys"), keys, &[16, 24, 32]),
        Provider { aescbc: Some(keys), .. } => check_keys(&format!("{at}.aescbc.keys"), keys, &[16, 24, 32]),
        Provider { secretbox: Some(keys), .. } => check_keys(&format!("{at}.secretbox.keys"), keys, &[32]),
        Provider { kms: Some(kms), .. } => check_kms(&format!("{at}.kms"), kms, kms_names),
        _ => Ok(()),
    }
}

fn check_keys(at: &str, keys: &Keys, lengths: &[usize]) -> Result<(), CoverageError> {
    let keys = keys.keys.as_deref().unwrap_or_default();
    if keys.is_empty() {
        return Err(rule(at, "at least one is required"));
    }
    for (index, key) in keys.iter().enumerate() {
        let at = format!("{at}[{index}]");
        if key.name.is_empty() {
            return Err(rule(&at, "name is missing"));
        }
        let length = key.secret.map_err(|what| rule(&at, what))?;
        if !lengths.contains(&length) {
            return Err(rule(&at, format!("secret has a length that is none of {lengths:?}")));
        }
    }
    Ok(())
}

fn check_kms<'a>(at: &str, kms: &'a Kms, names: &mut BTreeSet<&'a str>) -> Result<(), CoverageError> {
    let is_v1 = kms.api_version() == "v1";
    let wrong = |what: &str| Err(rule(at, what));
    if !is_v1 && kms.api_version() != "v2" {
        return wrong("apiVersion is neither v1 nor v2");
    }
    if kms.name.is_empty() {
        return wrong("name is missing");
    }
    if !is_v1 && kms.name.contains(':') {
        return wrong("name has a colon");
    }
    // Of v1 only if the file is reloaded while the API server runs.
    if !names.insert(&kms.name) && !is_v1 {
        return wrong("another provider has the same name");
    }
    if !kms.endpoint.to_ascii_lowercase().starts_with("unix:") {
        return wrong("endpoint is not unix:…");
    }
    match (is_v1, kms.cachesize) {
        (false, Some(_)) => return wrong("cachesize is not for v2"),
        (true, Some(0)) => return wrong("cachesize is zero"),
        _ => {}
    }
    match &kms.timeout {
        Some(text) if !is_positive_duration(text) => wrong("timeout is no positive duration"),
        _ => Ok(()),
    }
}

/// Whether Go would read a duration here, and one above zero: numbers with units, `1m30s`.
fn is_positive_duration(text: &str) -> bool {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    let mut is_positive = false;
    if rest.is_empty() {
        return false;
    }
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (digits, behind) = rest.split_at(number);
        let units = ["ns", "us", "µs", "μs", "ms", "s", "m", "h"];
        let Some(unit) = units.iter().find(|unit| behind.starts_with(**unit)) else { return false };
        if !digits.contains(|c: char| c.is_ascii_digit()) || digits.matches('.').count() > 1 {
            return false;
        }
        is_positive |= digits.contains(|c: char| ('1'..='9').contains(&c));
        rest = &behind[unit.len()..];
    }
    is_positive
}
