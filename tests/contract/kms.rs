//! The KMS v2 API for the tests, generated from the same definition as the product's. The tests use it as a client and
//! as a server.

use std::{
    future::Future,
    io,
    path::{Path, PathBuf},
    pin::Pin,
    task::{Context, Poll},
};

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::codegen::Service;
use tonic::transport::{Channel, Endpoint, Uri};

pub(super) use api::{
    DecryptRequest, DecryptResponse, EncryptRequest, EncryptResponse, StatusRequest, StatusResponse,
    key_management_service_client::KeyManagementServiceClient,
    key_management_service_server::{KeyManagementService, KeyManagementServiceServer},
};

#[allow(missing_docs, unreachable_pub, dead_code, clippy::pedantic, reason = "generated")]
mod api {
    tonic::include_proto!("v2");
}

pub(super) type Client = KeyManagementServiceClient<Channel>;

/// Returns a client that connects at its first call, and again after the connection broke.
pub(super) fn client(socket: &Path) -> Client {
    // The host is not resolved. API servers send it as `:authority`.
    let endpoint = Endpoint::from_static("http://localhost");
    KeyManagementServiceClient::new(endpoint.connect_with_connector_lazy(Dial(socket.to_owned())))
}

/// Has a plugin wrap seeds, as an API server does.
pub(super) fn wrap(socket: &Path, seeds: &[[u8; 32]]) -> Vec<EncryptResponse> {
    runtime().block_on(async {
        let mut client = client(socket);
        let mut wrapped = Vec::new();
        for seed in seeds {
            let request = EncryptRequest { plaintext: seed.to_vec(), uid: "wrapped-by-a-test".to_owned() };
            wrapped.push(client.encrypt(request).await.unwrap().into_inner());
        }
        wrapped
    })
}

/// Returns the name of the key that a plugin announces.
pub(super) fn key_id(socket: &Path) -> String {
    let answer = runtime().block_on(async { client(socket).status(StatusRequest {}).await });
    answer.unwrap().into_inner().key_id
}

pub(super) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

struct Dial(PathBuf);

impl Service<Uri> for Dial {
    type Response = TokioIo<UnixStream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let socket = self.0.clone();
        Box::pin(async move { UnixStream::connect(socket).await.map(TokioIo::new) })
    }
}
