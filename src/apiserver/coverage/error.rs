//! Why an EncryptionConfiguration is refused.

/// The `apiVersion` since Kubernetes 1.13.
pub const API_VERSION: &str = "apiserver.config.k8s.io/v1";

/// Why an EncryptionConfiguration is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CoverageError {
    /// It is not YAML or JSON of this form.
    #[error("not an EncryptionConfiguration: {}{fault}", place(*at))]
    Syntax {
        /// The line and the column, if they are known.
        at: Option<(u64, u64)>,
        /// What is wrong there.
        fault: SyntaxFault,
    },
    /// Its kind or version is wrong. The message does not repeat them, because in a wrong file they may be anything,
    /// even a key.
    #[error(
        "not an EncryptionConfiguration: its kind and apiVersion must be EncryptionConfiguration and {API_VERSION}"
    )]
    Kind,
    /// It breaks a rule, so kube-apiserver would not start with it.
    #[error("{at}: {rule}")]
    Rule {
        /// The place, as kube-apiserver names it.
        at: String,
        /// The rule that it breaks.
        rule: BrokenRule,
    },
}

/// What is wrong with the form of the file. It repeats nothing of the file, because anything in a wrong place, even the
/// name of a field, may be a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SyntaxFault {
    /// There is a field that the form does not have.
    #[error("unknown field{}", if .expected.is_empty() { String::new() } else { format!(", expected one of {}", .expected.join(", ")) })]
    UnknownField {
        /// The fields that may be there.
        expected: Vec<&'static str>,
    },
    /// A field is there again.
    #[error("a field that occurs twice")]
    Twice,
    /// It is anything else.
    #[error("not what is expected there")]
    Unexpected,
}

fn place(at: Option<(u64, u64)>) -> String {
    at.map_or_else(String::new, |(line, column)| format!("line {line}, column {column}: "))
}

/// A rule that an EncryptionConfiguration breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BrokenRule {
    /// The list is missing or empty.
    #[error("at least one is required")]
    Empty,
    /// One list has the same resource again.
    #[error("a resource occurs twice")]
    TwiceListed,
    /// One list has a wildcard and a resource that the wildcard contains.
    #[error("a wildcard masks another resource of the same list")]
    MaskedInList,
    /// An earlier entry has a wildcard that contains the resource.
    #[error("resource {resource:?} is masked by the earlier {mask:?}")]
    MaskedBefore {
        /// The resource.
        resource: String,
        /// The wildcard.
        mask: String,
    },
    /// The name of a resource is refused.
    #[error("{resource:?}: {reason}")]
    Resource {
        /// The name.
        resource: String,
        /// Why it is refused.
        reason: ResourceNameError,
    },
    /// An entry of the list of providers is empty.
    #[error("names no provider, expected one of kms, aesgcm, aescbc, secretbox and identity")]
    NoProvider,
    /// An entry of the list of providers has two or more of them.
    #[error("names more than one provider")]
    SeveralProviders,
    /// A key or a KMS provider has no name.
    #[error("name is missing")]
    NoName,
    /// The text of a key's secret is refused.
    #[error(transparent)]
    Secret(#[from] SecretTextError),
    /// The provider has no keys of this length.
    #[error("secret has a wrong length, expected one of {expected:?}")]
    SecretLength {
        /// The lengths that the provider has, in bytes.
        expected: &'static [usize],
    },
    /// There are two versions of KMS.
    #[error("apiVersion is neither v1 nor v2")]
    KmsVersion,
    /// Kubernetes refuses KMS v1 unless a gate is open.
    #[error("apiVersion is v1, which is the default, and needs --feature-gates=KMSv1=true")]
    NoGate,
    /// The name of a KMS v2 provider is part of a prefix in etcd, where a colon ends it.
    #[error("name has a colon")]
    Colon,
    /// Two KMS v2 providers have one name.
    #[error("another provider has the same name")]
    SameName,
    /// A KMS provider is called over a Unix socket only.
    #[error("endpoint is not unix:…")]
    Endpoint,
    /// Only KMS v1 has a cache.
    #[error("v2 has no cachesize")]
    CacheOfV2,
    /// The cache of KMS v1 has no room.
    #[error("cachesize is zero")]
    NoCache,
    /// Go does not parse the timeout, or it is not above zero.
    #[error("timeout is not a positive duration")]
    Timeout,
}

/// Why the text of a key's secret is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SecretTextError {
    /// There is none, or it is empty.
    #[error("secret is missing")]
    Missing,
    /// It is not base64.
    #[error("secret is not base64")]
    NotBase64,
}

/// Why the name of a resource is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResourceNameError {
    /// It is not in lower case.
    #[error("has capital letters")]
    Capitals,
    /// A bare `*` may mean the core group or everything.
    #[error("use '*.' for the core group, or '*.*' for everything")]
    Ambiguous,
    /// kube-apiserver keeps it without an API.
    #[error("has no REST API, and cannot be encrypted")]
    NoApi,
    /// Events have another group in etcd.
    #[error("events are stored in the core group: use 'events'")]
    Events,
    /// Kubernetes has removed the group.
    #[error("the group 'extensions' no longer exists")]
    Extensions,
    /// It names one resource of all groups.
    #[error("a resource of all groups cannot be encrypted; name its group")]
    AllGroups,
}

impl CoverageError {
    /// Makes the error for a broken rule.
    pub fn rule(at: &str, rule: impl Into<BrokenRule>) -> Self {
        Self::Rule { at: at.to_owned(), rule: rule.into() }
    }
}
