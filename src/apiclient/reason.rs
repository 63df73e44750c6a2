//! The errors on the way to the API server, without any credential. The errors of libraries do contain credentials:
//! they quote the line of a kubeconfig that cannot be read, and the output of a program.

use std::{error::Error, io, path::PathBuf, process::ExitStatus};

use hyper::header::HeaderValue;
use kube::{client::AuthError, config::KubeconfigError};

use crate::telemetry::causes;

/// Why there are no credentials to send to the API server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialsError {
    /// The program that prints credentials does not start. Contains the system's reason.
    #[error("starting the program that the kubeconfig names for credentials: {0}")]
    NotStarted(String),
    /// The program that prints credentials failed.
    #[error("the program that the kubeconfig names for credentials ended with {0}")]
    Ended(ExitStatus),
    /// The kubeconfig asks for a program and does not name it.
    #[error("the kubeconfig's exec has no command")]
    NoCommand,
    /// The program succeeded, and printed something else. The error does not show it, because it may contain
    /// credentials.
    #[error("the program that the kubeconfig names printed something other than an ExecCredential")]
    NotCredentials,
    /// The program has printed an `ExecCredential` that contains neither a token nor a certificate.
    #[error("the program that the kubeconfig names printed no credentials")]
    NonePrinted,
    /// The program has printed credentials that end at something other than a time.
    #[error("the expirationTimestamp that the program of the kubeconfig printed is not a time")]
    NoTime,
    /// The command of an `auth-provider` has printed something other than JSON.
    #[error("the command of the kubeconfig's auth-provider printed something other than JSON")]
    NotJson,
    /// The user name or the password contains a character that an HTTP header cannot contain.
    #[error("the user name or the password has a character that cannot be sent, such as a line break")]
    UnsendablePassword,
    /// The token contains a character that an HTTP header cannot contain.
    #[error("the token has a character that cannot be sent, such as a line break")]
    Unsendable,
    /// The file that contains the token cannot be read.
    #[error("reading the token in {}: {reason}", path.display())]
    TokenFile {
        /// The path of the file.
        path: PathBuf,
        /// The reason that the system gives.
        reason: String,
    },
    /// The client library does not support this kind of credentials.
    #[error("this kind of credentials is not supported")]
    Kind,
    /// The client cannot use the credentials, for example because a certificate is not valid.
    #[error("{0}")]
    Unusable(String),
}

impl CredentialsError {
    pub(super) fn not_started(error: &io::Error) -> Self {
        Self::NotStarted(error.to_string())
    }

    /// Returns why no client can be made, according to `error`.
    pub(super) fn of_client(error: &(dyn Error + 'static)) -> Self {
        no_credentials(error).unwrap_or_else(|| Self::Unusable(causes(error)))
    }
}

/// Whether a token can be the value of a header.
pub(super) fn can_be_sent(token: &str) -> bool {
    HeaderValue::from_str(token).is_ok()
}

/// Why a kubeconfig cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KubeconfigFault {
    /// The file cannot be read.
    #[error("reading it: {text}")]
    Unread {
        /// The kind of the failure.
        kind: io::ErrorKind,
        /// The text of the failure.
        text: String,
    },
    /// The file contains something else. Contains the place in the file, if it is known.
    #[error("it is not the YAML of a kubeconfig{0}")]
    NotYaml(String),
    /// Neither a flag nor the file names a context.
    #[error("it has no current context")]
    NoCurrentContext {
        /// The names of the contexts that it has.
        contexts: Vec<String>,
    },
    /// The file does not have the context that a flag or the file itself names.
    #[error("it has no context {wanted}")]
    NoContext {
        /// The name of the missing context.
        wanted: String,
        /// The names of the contexts that it has.
        contexts: Vec<String>,
    },
    /// The context names a cluster that the file does not have.
    #[error("its context names the cluster {0}, which it does not have")]
    NoCluster(String),
    /// The cluster has no address.
    #[error("its cluster has no server")]
    NoServer,
    /// Something else is wrong. Contains the text of the library, which quotes nothing of the file.
    #[error("{0}")]
    Other(String),
}

impl KubeconfigFault {
    /// Returns the fault of a file that cannot be read.
    pub(super) fn unread(error: &io::Error) -> Self {
        Self::Unread { kind: error.kind(), text: error.to_string() }
    }

    /// Explains what is wrong with a kubeconfig, without quoting it. `contexts` are the names of its contexts.
    pub(super) fn of(error: &KubeconfigError, contexts: Vec<String>) -> Self {
        match error {
            KubeconfigError::Parse(error) => {
                let place = error.location().map(|at| format!(" (line {}, column {})", at.line(), at.column()));
                Self::NotYaml(place.unwrap_or_default())
            }
            // The library's text quotes a path that already has quotation marks.
            KubeconfigError::ReadConfig(error, _) => Self::unread(error),
            KubeconfigError::CurrentContextNotSet => Self::NoCurrentContext { contexts },
            KubeconfigError::LoadContext(wanted) if wanted.is_empty() => Self::NoCurrentContext { contexts },
            KubeconfigError::LoadContext(wanted) => Self::NoContext { wanted: wanted.clone(), contexts },
            KubeconfigError::LoadClusterOfContext(cluster) => Self::NoCluster(cluster.clone()),
            KubeconfigError::MissingClusterUrl => Self::NoServer,
            other => Self::Other(causes(other)),
        }
    }
}

/// Whether the client does not trust the server, according to the text of an error. Another attempt would fail in the
/// same way.
#[must_use]
pub fn is_server_distrusted(reason: &str) -> bool {
    reason.contains("invalid peer certificate")
}

/// Returns the reason if a request was not sent because there were no credentials.
pub(super) fn no_credentials(error: &(dyn Error + 'static)) -> Option<CredentialsError> {
    chain(error).find_map(authentication).map(Into::into)
}

/// Iterates over an error and its causes.
fn chain<'e>(error: &'e (dyn Error + 'static)) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error: &&'e (dyn Error + 'static)| error.source())
}

fn authentication<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e AuthError> {
    match error.downcast_ref() {
        Some(kube::Error::Auth(error)) => Some(error),
        _ => error.downcast_ref(),
    }
}

impl From<&AuthError> for CredentialsError {
    fn from(error: &AuthError) -> Self {
        match error {
            AuthError::AuthExecRun { out, .. } => Self::Ended(out.status),
            AuthError::MissingCommand => Self::NoCommand,
            AuthError::AuthExecParse(_) | AuthError::ExecPluginFailed => Self::NotCredentials,
            AuthError::UnrefreshableTokenResponse => Self::NonePrinted,
            AuthError::AuthExecStart(error) => Self::not_started(error),
            AuthError::InvalidBearerToken(_) => Self::Unsendable,
            AuthError::ReadTokenFile(error, path) => Self::TokenFile { path: path.clone(), reason: error.to_string() },
            AuthError::InvalidBasicAuth(_) => Self::UnsendablePassword,
            AuthError::MalformedTokenExpirationDate(_) => Self::NoTime,
            AuthError::ParseTokenKey(_) => Self::NotJson,
            // None of these contains a credential.
            error @ (AuthError::AuthExecSerialize(_)
            | AuthError::ExecMissingClusterInfo
            | AuthError::NoValidNativeRootCA(_)) => Self::Unusable(causes(error)),
            AuthError::AuthExec(_) => Self::Kind,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_without_credentials_says_what_is_wrong_with_them() {
        let said = |error: AuthError| no_credentials(&kube::Error::Auth(error)).unwrap().to_string();
        let unread = AuthError::ReadTokenFile(io::ErrorKind::NotFound.into(), "/var/run/token".into());
        assert_eq!(said(unread), "reading the token in /var/run/token: entity not found");
        assert_eq!(said(AuthError::MissingCommand), "the kubeconfig's exec has no command");
        let other = "the program that the kubeconfig names printed something other than an ExecCredential";
        assert_eq!(said(AuthError::ExecPluginFailed), other);
        let none = "the program that the kubeconfig names printed no credentials";
        assert_eq!(said(AuthError::UnrefreshableTokenResponse), none);
        let unreadable = || serde_json::from_str::<u8>("s3cr3t").unwrap_err();
        assert_eq!(
            said(AuthError::ParseTokenKey(unreadable())),
            "the command of the kubeconfig's auth-provider printed something other than JSON"
        );
        assert_eq!(
            said(AuthError::InvalidBasicAuth(HeaderValue::from_str("a\nb").unwrap_err())),
            "the user name or the password has a character that cannot be sent, such as a line break"
        );
        assert!(said(AuthError::ExecMissingClusterInfo).contains("Cluster spec must be populated"));
        assert_eq!(said(AuthError::AuthExec("s3cr3t".to_owned())), "this kind of credentials is not supported");
        assert_eq!(no_credentials(&io::Error::other("reset")), None);
        assert_eq!(CredentialsError::of_client(&io::Error::other("reset")).to_string(), "reset");
    }
}
