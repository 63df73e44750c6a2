//! The one map from what went wrong to what the API server receives, and to what the log says of it.

use std::{error::Error as _, sync::Arc};

use tonic::{Code, Status};
use tracing::{error, warn};

use crate::service::Error;

/// What the log says of a refusal and its peer must not see. It travels inside of the [`Status`] to where it is logged.
#[derive(Debug, thiserror::Error)]
#[error("the refusal of a call")]
struct Refused {
    /// The API server's name for the call, fit for a log.
    uid: String,
    detail: Option<&'static str>,
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        refusal(&error, "")
    }
}

/// Maps what went wrong to what the API server receives.
///
/// The text ends up in an HTTP 500 that API clients see, so it is the error's own fixed sentence. Detail for an operator goes to the
/// log.
pub(super) fn refusal(error: &Error, uid: &str) -> Status {
    let (code, detail) = match error {
        Error::UnknownKey => (Code::NotFound, None),
        Error::Disabled(_) => (Code::FailedPrecondition, None),
        Error::Malformed | Error::OtherKey | Error::Authentication | Error::PlaintextSize | Error::Annotations => {
            (Code::InvalidArgument, None)
        }
        Error::Sealed => (Code::Unavailable, None),
        Error::Internal(detail) => (Code::Internal, Some(*detail)),
    };
    let mut status = Status::new(code, error.to_string());
    status.set_source(Arc::new(Refused { uid: printable(uid), detail }));
    status
}

/// Logs a refusal, with the API server's name for the call.
pub fn log(method: &str, status: &Status) {
    let refused = status.source().and_then(|source| source.downcast_ref::<Refused>());
    let uid = refused.map(|refused| refused.uid.as_str()).filter(|uid| !uid.is_empty());
    if let Some(detail) = refused.and_then(|refused| refused.detail) {
        error!(method, uid, detail, "internal error");
    }
    warn!(method, uid, code = ?status.code(), reason = status.message(), "call failed");
}

/// Makes a peer's text fit for a log: printable ASCII, at most 64 characters.
pub fn printable(text: &str) -> String {
    text.escape_default().take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listen::testing::Log;

    #[test]
    fn every_error_has_its_code_and_its_text() {
        for (error, code, text) in [
            (Error::Sealed, Code::Unavailable, "sealed: the keyring is not open yet"),
            (Error::UnknownKey, Code::NotFound, "unknown key_id"),
            (Error::Disabled("k3-41c0".into()), Code::FailedPrecondition, "key k3-41c0 is disabled"),
            (Error::Malformed, Code::InvalidArgument, "ciphertext is malformed"),
            (Error::OtherKey, Code::InvalidArgument, "ciphertext is wrapped under another key"),
            (Error::Authentication, Code::InvalidArgument, "ciphertext failed authentication"),
            (Error::PlaintextSize, Code::InvalidArgument, "plaintext must be 1 to 512 bytes"),
            (Error::Annotations, Code::InvalidArgument, "annotations are not supported"),
            (Error::Internal("the disk is on fire"), Code::Internal, "internal error"),
        ] {
            let status = Status::from(error);
            assert_eq!((status.code(), status.message()), (code, text));
        }
    }

    #[test]
    fn what_is_internal_is_logged_and_not_sent() {
        const UID: &str = "7f9c1d2e-0000-4000-8000-000000000001";
        let lines = Log::start();
        let status = refusal(&Error::Internal("the disk is on fire"), UID);
        assert_eq!((status.code(), status.message()), (Code::Internal, "internal error"));
        log("Encrypt", &status);
        let line = &lines.lines_with("internal error")[0];
        assert!(line.contains(r#"detail="the disk is on fire""#) && line.contains(UID), "{line}");
    }
}
