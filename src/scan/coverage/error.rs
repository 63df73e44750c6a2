//! Why an EncryptionConfiguration is refused.

/// The `apiVersion` since Kubernetes 1.13.
pub const API_VERSION: &str = "apiserver.config.k8s.io/v1";

/// Why an EncryptionConfiguration is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CoverageError {
    /// It is not YAML or JSON of this form.
    #[error("not an EncryptionConfiguration: {0}")]
    Syntax(String),
    /// Its kind or version is wrong. The message does not repeat them, because in a wrong file they may be anything,
    /// even a key.
    #[error(
        "not an EncryptionConfiguration: its kind and apiVersion must be EncryptionConfiguration and {API_VERSION}"
    )]
    Kind,
    /// It breaks a rule, so kube-apiserver would not start with it.
    #[error("{at}: {what}")]
    Rule {
        /// The place, as kube-apiserver names it.
        at: String,
        /// The rule that it breaks.
        what: String,
    },
}

/// Why the text of a key's secret is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
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
    pub fn rule(at: &str, what: impl Into<String>) -> Self {
        Self::Rule { at: at.to_owned(), what: what.into() }
    }
}
