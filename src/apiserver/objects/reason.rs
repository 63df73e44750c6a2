//! Says what went wrong on the way to the API server, and shows no credential. The errors of libraries do: they quote
//! the line of a kubeconfig that cannot be read, and what a program has printed.

use std::{error::Error, fmt::Write};

use kube::{client::AuthError, config::KubeconfigError};

/// Says what is wrong with a kubeconfig.
pub(super) fn of_kubeconfig(error: &KubeconfigError) -> String {
    match error {
        KubeconfigError::Parse(error) => {
            let place = error.location().map(|at| format!(" (line {}, column {})", at.line(), at.column()));
            format!("it is not the YAML of a kubeconfig{}", place.unwrap_or_default())
        }
        other => other.to_string(),
    }
}

/// Returns what an error says and what caused it, without repeating what is said already.
pub(super) fn causes(error: &(dyn Error + 'static)) -> String {
    if let Some(error) = chain(error).find_map(authentication) {
        return of_authentication(error);
    }
    let mut text = String::new();
    for error in chain(error) {
        let one = error.to_string();
        if !text.contains(&one) {
            // Writing to a String cannot fail.
            let _ = write!(text, "{}{one}", if text.is_empty() { "" } else { ": " });
        }
    }
    text
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
        AuthError::AuthExecRun { out, .. } => {
            format!("the program that the kubeconfig names for credentials ended with {}", out.status)
        }
        AuthError::AuthExecParse(_) | AuthError::ExecPluginFailed | AuthError::AuthExec(_) => {
            "the program that the kubeconfig names for credentials did not print any".to_owned()
        }
        AuthError::AuthExecStart(error) => {
            format!("starting the program that the kubeconfig names for credentials: {error}")
        }
        AuthError::ReadTokenFile(error, path) => format!("reading the token in {}: {error}", path.display()),
        _ => "they are not of a kind that works".to_owned(),
    }
}
