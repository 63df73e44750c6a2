//! The errors for an EncryptionConfiguration that kube-apiserver would refuse: its form, or one of its rules.

/// The `apiVersion` since Kubernetes 1.13.
pub const API_VERSION: &str = "apiserver.config.k8s.io/v1";

/// Why an EncryptionConfiguration is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CoverageError {
    /// The text is neither YAML nor JSON of this form.
    #[error("not an EncryptionConfiguration: {}{fault}", place(*at))]
    Syntax {
        /// The line and the column, if they are known.
        at: Option<(u64, u64)>,
        /// The fault.
        fault: SyntaxFault,
    },
    /// The kind or the version is wrong. The message does not repeat them, because in a wrong file they may be
    /// anything, even a key.
    #[error(
        "not an EncryptionConfiguration: its kind and apiVersion must be EncryptionConfiguration and {API_VERSION}"
    )]
    Kind,
    /// The file breaks a rule, so kube-apiserver would not start with it.
    #[error("{at}: {rule}")]
    Rule {
        /// The place, as kube-apiserver names it.
        at: String,
        /// The broken rule.
        rule: BrokenRule,
    },
}

/// A fault in the form of the file. The text repeats nothing of the file, because anything in a wrong place, even the
/// name of a field, may be a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SyntaxFault {
    /// The file has a field that the form does not have.
    #[error("unknown field{}", if .expected.is_empty() { String::new() } else { format!(", expected one of {}", .expected.join(", ")) })]
    UnknownField {
        /// The fields that are allowed at this place.
        expected: Vec<&'static str>,
    },
    /// A field occurs twice.
    #[error("a field that occurs twice")]
    Twice,
    /// Another fault, for example a text where a list is expected.
    #[error("not what is expected there")]
    Unexpected,
}

fn place(at: Option<(u64, u64)>) -> String {
    at.map_or_else(String::new, |(line, column)| format!("line {line}, column {column}: "))
}

/// A rule that an EncryptionConfiguration has to obey, and breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BrokenRule {
    /// The list is missing or empty.
    #[error("at least one is required")]
    Empty,
    /// A list contains the same resource twice.
    #[error("a resource occurs twice")]
    TwiceListed,
    /// A list contains a wildcard and a resource that the wildcard covers.
    #[error("a wildcard masks another resource of the same list")]
    MaskedInList,
    /// An earlier entry has a wildcard that covers the resource.
    #[error("resource {resource:?} is masked by the earlier {mask:?}")]
    MaskedBefore {
        /// The name of the resource.
        resource: String,
        /// The wildcard that covers the resource.
        mask: String,
    },
    /// The name of a resource is refused.
    #[error("{resource:?}: {reason}")]
    Resource {
        /// The name that is refused.
        resource: String,
        /// The reason.
        reason: ResourceNameError,
    },
    /// An entry of the list of providers is empty.
    #[error("names no provider, expected one of kms, aesgcm, aescbc, secretbox and identity")]
    NoProvider,
    /// An entry of the list of providers names two or more.
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
        /// The lengths in bytes that the provider accepts.
        expected: &'static [usize],
    },
    /// The version of KMS is neither v1 nor v2.
    #[error("apiVersion is neither v1 nor v2")]
    KmsVersion,
    /// The provider is of KMS v1, which Kubernetes refuses unless a feature gate allows it.
    #[error("apiVersion is v1, which is the default, and needs --feature-gates=KMSv1=true")]
    NoGate,
    /// The name of a KMS v2 provider contains a colon, which would end the name in the prefix of stored values.
    #[error("name has a colon")]
    Colon,
    /// Two KMS v2 providers have one name.
    #[error("another provider has the same name")]
    SameName,
    /// The endpoint of a KMS provider is not a Unix socket.
    #[error("endpoint is not unix:…")]
    Endpoint,
    /// A KMS v2 provider has a cache size, which only KMS v1 has.
    #[error("v2 has no cachesize")]
    CacheOfV2,
    /// The cache of a KMS v1 provider has size zero.
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
    /// The secret is missing or empty.
    #[error("secret is missing")]
    Missing,
    /// The secret is not base64.
    #[error("secret is not base64")]
    NotBase64,
}

/// Why the name of a resource is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResourceNameError {
    /// The name contains capital letters.
    #[error("has capital letters")]
    Capitals,
    /// The name is `*` alone, which may mean the core group or everything.
    #[error("use '*.' for the core group, or '*.*' for everything")]
    Ambiguous,
    /// kube-apiserver stores the resource and serves no API for it.
    #[error("has no REST API, and cannot be encrypted")]
    NoApi,
    /// The name puts events into another group than the one that etcd has them in.
    #[error("events are stored in the core group: use 'events'")]
    Events,
    /// Kubernetes has removed the group.
    #[error("the group 'extensions' no longer exists")]
    Extensions,
    /// The name means one resource in all groups.
    #[error("a resource of all groups cannot be encrypted; name its group")]
    AllGroups,
}

impl CoverageError {
    /// Makes the error for a broken rule.
    pub fn rule(at: &str, rule: impl Into<BrokenRule>) -> Self {
        Self::Rule { at: at.to_owned(), rule: rule.into() }
    }
}
