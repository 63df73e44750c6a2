//! Says what went wrong on the way to the API server, and shows no credential. The errors of libraries do: they quote
//! the line of a kubeconfig that cannot be read, and what a program has printed.

use std::{error::Error, io, process::ExitStatus};

use hyper::header::HeaderValue;
use kube::{client::AuthError, config::KubeconfigError};

use crate::telemetry::causes;

/// What is wrong with a token that is no value of a header.
pub(super) const UNSENDABLE: &str = "the token has a character that cannot be sent, such as a line break";

/// What is wrong with a program that ends well and has printed something else.
pub(super) const NONE_PRINTED: &str = "the program that the kubeconfig names for credentials did not print any";

/// Says how a program for credentials ended.
pub(super) fn ended(status: ExitStatus) -> String {
    format!("the program that the kubeconfig names for credentials ended with {status}")
}

/// Says why a program for credentials does not start.
pub(super) fn not_started(error: &io::Error) -> String {
    format!("starting the program that the kubeconfig names for credentials: {error}")
}

/// Whether a token can be the value of a header.
pub(super) fn can_be_sent(token: &str) -> bool {
    HeaderValue::from_str(token).is_ok()
}

/// Says what is wrong with a kubeconfig.
pub(super) fn of_kubeconfig(error: &KubeconfigError) -> String {
    match error {
        KubeconfigError::Parse(error) => {
            let place = error.location().map(|at| format!(" (line {}, column {})", at.line(), at.column()));
            format!("it is not the YAML of a kubeconfig{}", place.unwrap_or_default())
        }
        // The text of the library has quotation marks around a path that it has quoted already.
        KubeconfigError::ReadConfig(error, _) => format!("reading it: {error}"),
        other => other.to_string(),
    }
}

/// Says what went wrong: why there are no credentials, or else the error and what caused it.
pub(super) fn why(error: &(dyn Error + 'static)) -> String {
    no_credentials(error).unwrap_or_else(|| causes(error))
}

/// Says why there are no credentials, if this is why a request failed before it was sent.
pub(super) fn no_credentials(error: &(dyn Error + 'static)) -> Option<String> {
    chain(error).find_map(authentication).map(of_authentication)
}

/// The error and what caused it.
fn chain<'e>(error: &'e (dyn Error + 'static)) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error: &&'e (dyn Error + 'static)| error.source())
}

fn authentication<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e AuthError> {
    match error.downcast_ref() {
        Some(kube::Error::Auth(error)) => Some(error),
        _ => error.downcast_ref(),
    }
}

/// Says why there are no credentials.
fn of_authentication(error: &AuthError) -> String {
    match error {
        AuthError::AuthExecRun { out, .. } => ended(out.status),
        AuthError::AuthExecParse(_)
        | AuthError::ExecPluginFailed
        | AuthError::AuthExec(_)
        | AuthError::UnrefreshableTokenResponse => NONE_PRINTED.to_owned(),
        AuthError::AuthExecStart(error) => not_started(error),
        AuthError::InvalidBearerToken(_) => UNSENDABLE.to_owned(),
        AuthError::ReadTokenFile(error, path) => format!("reading the token in {}: {error}", path.display()),
        _ => "they are not of a kind that works".to_owned(),
    }
}
