//! Parses an EncryptionConfiguration file into a [`ConfigFile`]. `rules` decides what is allowed in it, and `lookup`
//! what it means for a resource.

use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

use super::error::{API_VERSION, CoverageError, SecretTextError, SyntaxFault};

/// The name of the provider that does not encrypt.
pub const IDENTITY: &str = "identity";

/// The field names of all parts of the file, in the order of their declarations.
const FIELDS: [&str; 15] = [
    "apiVersion",
    "kind",
    "resources",
    "providers",
    "aesgcm",
    "aescbc",
    "secretbox",
    "identity",
    "kms",
    "keys",
    "name",
    "secret",
    "endpoint",
    "cachesize",
    "timeout",
];

/// An EncryptionConfiguration file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ConfigFile {
    #[serde(default)]
    pub api_version: String,
    #[serde(default)]
    pub kind: String,
    pub resources: Option<Vec<ConfigEntry>>,
}

/// One entry of the file: some resources, and the providers for them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfigEntry {
    pub resources: Option<Vec<String>>,
    pub providers: Option<Vec<ProviderEntry>>,
}

/// One provider of an entry. Exactly one of its fields must be set.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProviderEntry {
    pub aesgcm: Option<KeyList>,
    pub aescbc: Option<KeyList>,
    pub secretbox: Option<KeyList>,
    pub identity: Option<IdentityEntry>,
    pub kms: Option<KmsEntry>,
}

/// The provider `identity`, which has no settings.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdentityEntry {}

/// The keys of a local provider.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyList {
    pub keys: Option<Vec<KeyEntry>>,
}

/// One key of a local provider.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyEntry {
    #[serde(default)]
    pub name: String,
    /// The secret of the key, or the reason why there is none.
    #[serde(default = "no_secret", deserialize_with = "read_secret")]
    pub secret: Result<Zeroizing<Vec<u8>>, SecretTextError>,
}

/// The settings of a KMS provider.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KmsEntry {
    #[serde(rename = "apiVersion")]
    pub api_version: Option<String>,
    #[serde(default)]
    pub name: String,
    #[serde(default)]
    pub endpoint: String,
    pub cachesize: Option<i32>,
    pub timeout: Option<String>,
}

impl ConfigFile {
    /// Parses `text` as JSON if its first character that is no blank is `{`. Otherwise parses its first document as
    /// YAML, as kube-apiserver does. Liberties that YAML allows, such as a trailing comma, are errors in JSON.
    ///
    /// # Errors
    /// When it is no EncryptionConfiguration.
    pub fn parse(text: &str) -> Result<Self, CoverageError> {
        let file = if text.trim_start().starts_with('{') { Self::of_json(text) } else { Self::of_yaml(text) }?;
        let is_known = matches!(
            (&*file.api_version, &*file.kind),
            (API_VERSION, "EncryptionConfiguration") | ("v1", "EncryptionConfig")
        );
        if is_known { Ok(file) } else { Err(CoverageError::Kind) }
    }

    fn of_json(text: &str) -> Result<Self, CoverageError> {
        serde_json::from_str(text).map_err(|error| explain_json(&error))
    }

    fn of_yaml(text: &str) -> Result<Self, CoverageError> {
        // With this option, a number or a boolean is not accepted where a string is expected.
        let options = serde_saphyr::options! { no_schema: true };
        serde_saphyr::from_str_with_options(first_document(text), options).map_err(|error| explain(&error))
    }
}

impl KmsEntry {
    /// Returns the version of KMS. An empty one means v1, too.
    pub fn api_version(&self) -> &str {
        self.api_version.as_deref().filter(|version| !version.is_empty()).unwrap_or("v1")
    }
}

fn no_secret() -> Result<Zeroizing<Vec<u8>>, SecretTextError> {
    Err(SecretTextError::Missing)
}

/// A secret, or the reason why a text is not a secret.
type ReadSecret = Result<Zeroizing<Vec<u8>>, SecretTextError>;

fn read_secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ReadSecret, D::Error> {
    let text = Zeroizing::new(String::deserialize(deserializer)?);
    if text.is_empty() {
        return Ok(no_secret());
    }
    Ok(decoded(&text).ok_or(SecretTextError::NotBase64))
}

/// Decodes base64. As in Go's decoder, padding is required, line breaks are skipped, and unused bits at the end may
/// have any value.
fn decoded(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let bytes = || text.bytes().filter(|byte| !matches!(byte, b'\r' | b'\n'));
    let digits = bytes().take_while(|byte| digit(*byte).is_some()).count();
    let padding = bytes().skip(digits).take_while(|byte| *byte == b'=').count();
    let is_whole = digits % 4 != 1 && padding == (4 - digits % 4) % 4 && digits + padding == bytes().count();
    if !is_whole {
        return None;
    }
    let mut secret = Zeroizing::new(Vec::with_capacity(digits));
    let (mut bits, mut count) = (0_u32, 0);
    for value in bytes().map_while(digit) {
        (bits, count) = (bits << 6 | u32::from(value), count + 6);
        if count >= 8 {
            count -= 8;
            secret.push(u8::try_from(bits >> count & 0xff).unwrap_or_default());
        }
    }
    Some(secret)
}

/// Returns the six bits that a base64 digit stands for.
fn digit(byte: u8) -> Option<u8> {
    Some(match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    })
}

impl ConfigEntry {
    /// Returns the resources of the entry.
    pub fn resources(&self) -> &[String] {
        self.resources.as_deref().unwrap_or_default()
    }

    /// Returns the providers of the entry.
    pub fn providers(&self) -> &[ProviderEntry] {
        self.providers.as_deref().unwrap_or_default()
    }

    /// Returns the providers of KMS v2 of the entry.
    pub fn kms_v2(&self) -> impl Iterator<Item = &KmsEntry> {
        self.providers().iter().filter_map(|provider| provider.kms.as_ref()).filter(|kms| kms.api_version() == "v2")
    }

    /// Returns the timeouts that are set for KMS providers of the entry.
    pub fn timeouts(&self) -> impl Iterator<Item = &str> {
        self.providers().iter().filter_map(|provider| provider.kms.as_ref()?.timeout.as_deref())
    }

    /// Returns the prefixes of the values that the providers of the entry write. A provider with several keys has one
    /// prefix for each key.
    pub fn stored(&self) -> Vec<String> {
        self.providers().iter().flat_map(ProviderEntry::stored).collect()
    }
}

impl ProviderEntry {
    pub fn stored(&self) -> Vec<String> {
        // The scanner reads a name in a stored prefix up to its first colon.
        let name = |name: &str| name.split(':').next().unwrap_or_default().to_owned();
        let keys = |scheme: &str, keys: &KeyList| -> Vec<String> {
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

    /// Returns how many of the provider's fields are set.
    pub fn kinds(&self) -> usize {
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

/// Returns the first document, because kube-apiserver reads no other. As in kube-apiserver, a line that looks like a
/// separator is one, even inside a quoted text.
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

/// Converts an error of the JSON parser, as [`explain`] does for YAML. The error text contains the names of the
/// expected fields.
fn explain_json(error: &serde_json::Error) -> CoverageError {
    let text = error.to_string();
    let fault = if text.starts_with("unknown field ") {
        let listed = text.rsplit_once(", expected ").map_or("", |(_, rest)| rest);
        let is_listed = |field: &&&str| listed.contains(&format!("`{field}`"));
        SyntaxFault::UnknownField { expected: FIELDS.iter().filter(is_listed).copied().collect() }
    } else if text.starts_with("duplicate field ") {
        SyntaxFault::Twice
    } else {
        SyntaxFault::Unexpected
    };
    let at = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
    CoverageError::Syntax { at: Some((at(error.line()), at(error.column()))), fault }
}

/// Converts an error of the YAML parser into the fault and its place.
fn explain(error: &serde_saphyr::Error) -> CoverageError {
    use serde_saphyr::Error::{DuplicateMappingKey, SerdeUnknownField};
    let fault = match error.without_snippet() {
        SerdeUnknownField { expected, .. } => SyntaxFault::UnknownField { expected: expected.clone() },
        DuplicateMappingKey { .. } => SyntaxFault::Twice,
        _ => SyntaxFault::Unexpected,
    };
    CoverageError::Syntax { at: error.location().map(|at| (at.line(), at.column())), fault }
}
