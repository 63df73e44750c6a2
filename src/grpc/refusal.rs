//! The only map from a call that claviger refuses to a gRPC status for the API server, and to a line in the log. The
//! gRPC library refuses what is no message of the API by itself.

use std::{error::Error as _, sync::Arc, time::Duration};

use tonic::{Code, Status};
use tracing::{error, warn};

use crate::{
    service::{DecryptError, EncryptError, Sealed},
    telemetry::{advice, code, event},
};

/// Why a call is refused. The text ends up in an HTTP 500 that clients of the API server see, so it contains only a
/// fixed sentence, a public key_id or a time.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Status was refused, because the keyring is not open.
    #[error(transparent)]
    Sealed(#[from] Sealed),
    /// Encrypt was refused, or failed.
    #[error(transparent)]
    Encrypt(#[from] EncryptError),
    /// Decrypt was refused, or failed.
    #[error(transparent)]
    Decrypt(#[from] DecryptError),
    /// The peer's user may not call.
    #[error("peer refused")]
    Peer,
    /// The call was not answered within this time.
    #[error("the call took longer than {0:?}")]
    Late(Duration),
}

impl Refusal {
    /// Returns the gRPC status for the API server. `uid` is the API server's name for the call. The log gets the uid,
    /// and the detail that only an operator may see.
    pub fn status(&self, uid: &str) -> Status {
        let detail = match self {
            Self::Encrypt(EncryptError::Random(error)) => Some(error.to_string()),
            _ => None,
        };
        let mut status = Status::new(self.code(), self.to_string());
        let is_left_out = matches!(
            self,
            Self::Decrypt(
                DecryptError::UnknownKey { is_logged: false } | DecryptError::Disabled { is_logged: false, .. }
            )
        );
        status.set_source(Arc::new(Logged { uid: printable(uid), detail, is_left_out }));
        status
    }

    fn code(&self) -> Code {
        match self {
            Self::Sealed(_) | Self::Encrypt(EncryptError::Sealed(_)) | Self::Decrypt(DecryptError::Sealed(_)) => {
                Code::Unavailable
            }
            Self::Decrypt(DecryptError::UnknownKey { .. }) => Code::NotFound,
            Self::Decrypt(DecryptError::Disabled { .. }) => Code::FailedPrecondition,
            Self::Encrypt(EncryptError::Size(_))
            | Self::Decrypt(
                DecryptError::Malformed
                | DecryptError::OtherKey
                | DecryptError::Authentication
                | DecryptError::Annotations,
            ) => Code::InvalidArgument,
            Self::Encrypt(EncryptError::Random(_)) => Code::Internal,
            Self::Peer => Code::PermissionDenied,
            Self::Late(_) => Code::DeadlineExceeded,
        }
    }
}

/// The part of a refusal that only the log shows. The [`Status`] carries it to the place where it is logged.
#[derive(Debug, thiserror::Error)]
#[error("the refusal of a call")]
struct Logged {
    /// The API server's name for the call, escaped for the log.
    uid: String,
    detail: Option<String>,
    /// Whether the log already has a line about such a call within the last minute.
    is_left_out: bool,
}

/// Logs a refusal, unless `quota` suppresses the line. Otherwise `quota` returns how many such lines it has left out
/// since the last one. Calls for a missing or disabled key are logged once a minute.
pub fn log(method: &str, status: &Status, quota: impl FnOnce() -> Option<u64>) {
    let logged = status.source().and_then(|source| source.downcast_ref::<Logged>());
    if logged.is_some_and(|logged| logged.is_left_out) {
        return;
    }
    let Some(left_out) = quota() else { return };
    let uid = logged.map(|logged| logged.uid.as_str()).filter(|uid| !uid.is_empty());
    if let Some(detail) = logged.and_then(|logged| logged.detail.as_deref()) {
        error!(message = event::INTERNAL, method, uid, detail, left_out, advice = advice::INTERNAL);
        return;
    }
    // Other texts are those of the gRPC library, and may contain lengths.
    let reason = if logged.is_some() { status.message() } else { of_library(status.code()) };
    let code = code::name(status.code());
    warn!(message = event::CALL_FAILED, method, uid, code, reason, left_out);
}

/// Returns the reason for the log if the gRPC library has refused the call.
fn of_library(code: Code) -> &'static str {
    match code {
        Code::OutOfRange => "the message is longer than 64 KiB",
        Code::Unimplemented => "the API has no such method, or the message is compressed",
        _ => "the request is no message of the API",
    }
}

/// Makes a peer's text fit for a log: printable ASCII, at most 64 characters.
pub fn printable(text: &str) -> String {
    text.escape_default().take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{crypto::seed::SeedSize, listen::testing::CapturedLog, memory::testing::no_random};

    #[test]
    fn every_refusal_has_its_code_and_its_text() {
        let sealed = "sealed: the keyring is not open yet";
        for (refusal, code, text) in [
            (Sealed.into(), Code::Unavailable, sealed),
            (EncryptError::from(Sealed).into(), Code::Unavailable, sealed),
            (DecryptError::from(Sealed).into(), Code::Unavailable, sealed),
            (DecryptError::UnknownKey { is_logged: true }.into(), Code::NotFound, "unknown key_id"),
            (
                DecryptError::Disabled { key_id: "k3-41c0".into(), is_logged: true }.into(),
                Code::FailedPrecondition,
                "key k3-41c0 is disabled",
            ),
            (DecryptError::Malformed.into(), Code::InvalidArgument, "ciphertext is malformed"),
            (DecryptError::OtherKey.into(), Code::InvalidArgument, "ciphertext is wrapped under another key"),
            (DecryptError::Authentication.into(), Code::InvalidArgument, "ciphertext failed authentication"),
            (EncryptError::Size(SeedSize).into(), Code::InvalidArgument, "plaintext must be 1 to 512 bytes"),
            (DecryptError::Annotations.into(), Code::InvalidArgument, "annotations are not supported"),
            (EncryptError::Random(no_random()).into(), Code::Internal, "internal error"),
            (Refusal::Peer, Code::PermissionDenied, "peer refused"),
            (Refusal::Late(Duration::from_millis(2500)), Code::DeadlineExceeded, "the call took longer than 2.5s"),
        ] {
            let status = Refusal::status(&refusal, "");
            assert_eq!((status.code(), status.message()), (code, text));
        }
    }

    #[test]
    fn what_is_internal_is_logged_and_not_sent() {
        const UID: &str = "7f9c1d2e-0000-4000-8000-000000000001";
        let lines = CapturedLog::start();
        let status = Refusal::from(EncryptError::Random(no_random())).status(UID);
        assert_eq!((status.code(), status.message()), (Code::Internal, "internal error"));
        assert_eq!(status.source().unwrap().to_string(), "the refusal of a call");
        log("Encrypt", &status, || Some(0));
        let line = &lines.lines_with("internal error")[0];
        let detail = format!("detail=\"{}\"", no_random());
        assert!(line.contains(&detail) && line.contains(UID), "{line}");
    }
}
