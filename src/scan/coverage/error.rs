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

impl CoverageError {
    /// Makes the error for a broken rule.
    pub fn rule(at: &str, what: impl Into<String>) -> Self {
        Self::Rule { at: at.to_owned(), what: what.into() }
    }
}
