//! The limit: a service that answers the same messages with constant bytes, on tonic's generated code and hyper's
//! defaults, with claviger's allocator and runtime. It has no limits, no deadlines, no checks, no metrics and no keys.

use std::{collections::HashMap, io, path::Path};

use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{net::UnixListener, runtime::Builder};
use tonic::{Request, Response, Status};
use tower::Service;

use crate::api::{
    DecryptRequest, DecryptResponse, EncryptRequest, EncryptResponse, StatusRequest, StatusResponse,
    key_management_service_server::{KeyManagementService, KeyManagementServiceServer},
};

const KEY_ID: &str = "k1-00000000000000000000000000000000";

/// The ciphertext in every answer, as long as a seed that claviger wrapped.
const CIPHERTEXT: [u8; 108] = [7; 108];

struct Empty;

#[tonic::async_trait]
impl KeyManagementService for Empty {
    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        let (version, healthz) = ("v2".to_owned(), "ok".to_owned());
        Ok(Response::new(StatusResponse { version, healthz, key_id: KEY_ID.to_owned() }))
    }

    async fn encrypt(&self, _: Request<EncryptRequest>) -> Result<Response<EncryptResponse>, Status> {
        let (ciphertext, annotations) = (CIPHERTEXT.to_vec(), HashMap::new());
        Ok(Response::new(EncryptResponse { ciphertext, key_id: KEY_ID.to_owned(), annotations }))
    }

    async fn decrypt(&self, _: Request<DecryptRequest>) -> Result<Response<DecryptResponse>, Status> {
        Ok(Response::new(DecryptResponse { plaintext: vec![7; 32] }))
    }
}

/// Serves until the process is killed.
pub(crate) fn serve(socket: &Path) -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (listener, calls) = (UnixListener::bind(socket)?, KeyManagementServiceServer::new(Empty));
        loop {
            let (stream, _) = listener.accept().await?;
            let calls = calls.clone();
            let service = service_fn(move |request: hyper::Request<Incoming>| calls.clone().call(request));
            tokio::spawn(http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service));
        }
    })
}
