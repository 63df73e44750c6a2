//! The edge where the KMS v2 API is spoken: copies fields, limits sizes, maps errors.
//!
//! Decides nothing and knows no key; [`crate::service`] does. [`socket`] says where to listen and [`server`] who may
//! come in and for how long; [`client`] asks a running plugin how it is. Invariants: seeds reach no log; whatever the API server is told is a fixed, public sentence. Source: KEP-3299, `proto/kms-v2.proto`.

pub mod client;
pub mod server;
pub mod socket;

use std::collections::HashMap;

use tonic::{Code, Request, Response, Status};
use tracing::Span;
use zeroize::Zeroizing;

use crate::service::{Connection, Error};
use api::{
    DecryptRequest, DecryptResponse, EncryptRequest, EncryptResponse, StatusRequest, StatusResponse,
    key_management_service_server::KeyManagementService,
};

/// What `build.rs` makes of `proto/kms-v2.proto`.
#[allow(missing_docs, unreachable_pub, clippy::pedantic, reason = "generated")]
mod api {
    tonic::include_proto!("v2");
}

/// The API's version; an API server pins the first one it is told for its whole life.
const VERSION: &str = "v2";

/// The most bytes of one message. The largest that the API allows is far below: seeds of 512 and ciphertexts of 1,024.
const MESSAGE_LIMIT: usize = 64 * 1024;

/// The metadata by which our own [`client`] tells that it is no API server.
const PROBE: &str = "claviger-probe";

/// The three calls, as one connection sees them.
struct Api(Connection);

#[tonic::async_trait]
impl KeyManagementService for Api {
    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        let health = self.0.status()?;
        Ok(Response::new(StatusResponse {
            version: VERSION.to_owned(),
            healthz: health.healthz.to_owned(),
            key_id: health.key_id.to_string(),
        }))
    }

    async fn encrypt(&self, request: Request<EncryptRequest>) -> Result<Response<EncryptResponse>, Status> {
        let EncryptRequest { plaintext, uid } = request.into_inner();
        name_call(&uid);
        let wrapped = self.0.encrypt(&Zeroizing::new(plaintext))?;
        Ok(Response::new(EncryptResponse {
            ciphertext: wrapped.ciphertext,
            key_id: wrapped.key_id.to_string(),
            annotations: HashMap::new(),
        }))
    }

    async fn decrypt(&self, request: Request<DecryptRequest>) -> Result<Response<DecryptResponse>, Status> {
        let DecryptRequest { ciphertext, uid, key_id, annotations } = request.into_inner();
        name_call(&uid);
        let mut seed = self.0.decrypt(&key_id, &ciphertext, !annotations.is_empty())?;
        // Moved, not copied; from here on the allocator wipes it, as it does every other buffer of the transport.
        Ok(Response::new(DecryptResponse { plaintext: std::mem::take(&mut *seed) }))
    }
}

impl From<Error> for Status {
    /// Maps what went wrong to what the API server is told; nothing else does.
    ///
    /// The text ends up in an HTTP 500 that API clients see, so it is the error's own fixed sentence. Detail that is
    /// for an operator goes to the log, in the span that names the call.
    fn from(error: Error) -> Self {
        let code = match &error {
            Error::UnknownKey => Code::NotFound,
            Error::Disabled(_) => Code::FailedPrecondition,
            Error::Malformed | Error::OtherKey | Error::Authentication => Code::InvalidArgument,
            Error::PlaintextSize | Error::Annotations => Code::InvalidArgument,
            Error::Sealed => Code::Unavailable,
            Error::Internal(detail) => {
                tracing::error!(detail, "internal error");
                return Self::internal("internal error");
            }
        };
        Self::new(code, error.to_string())
    }
}

/// Puts the API server's name for this call on every line logged during it.
fn name_call(uid: &str) {
    Span::current().record("uid", printable(uid));
}

/// Makes a peer's text fit for a log: printable ASCII, at most 64 characters.
fn printable(text: &str) -> String {
    text.escape_default().take(64).collect()
}
