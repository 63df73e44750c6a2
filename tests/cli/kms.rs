//! Calls a plugin as a kube-apiserver does, for the few tests of this folder that need it.

use std::{
    future::{Ready, ready},
    io,
    path::Path,
    task::{Context, Poll},
};

use hyper_util::rt::TokioIo;
use tokio::{net::UnixStream, runtime::Runtime};
use tonic::transport::{Channel, Endpoint, Uri};

use self::api::{
    DecryptRequest, EncryptRequest, StatusRequest, key_management_service_client::KeyManagementServiceClient,
};

/// The code that `build.rs` makes of `proto/kms-v2.proto`.
#[allow(dead_code, clippy::pedantic, reason = "generated")]
mod api {
    tonic::include_proto!("v2");
}

/// A connection to a plugin.
pub(crate) struct Kms {
    runtime: Runtime,
    client: KeyManagementServiceClient<Channel>,
}

impl Kms {
    /// Connects to the socket at `path`.
    pub(crate) fn connect(path: &Path) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let channel = runtime.block_on(async {
            let stream = UnixStream::connect(path).await.unwrap();
            let endpoint = Endpoint::from_static("http://localhost");
            endpoint.connect_with_connector(Lent(Some(TokioIo::new(stream)))).await.unwrap()
        });
        Self { runtime, client: KeyManagementServiceClient::new(channel) }
    }

    /// Returns the key_id that the plugin announces.
    pub(crate) fn status(&self) -> String {
        let answer = self.runtime.block_on(self.client.clone().status(StatusRequest {}));
        answer.unwrap().into_inner().key_id
    }

    /// Wraps `seed`, and returns the key_id and the wrapped seed.
    pub(crate) fn encrypt(&self, seed: &[u8]) -> (String, Vec<u8>) {
        let request = EncryptRequest { plaintext: seed.to_vec(), uid: "encrypt".to_owned() };
        let answer = self.runtime.block_on(self.client.clone().encrypt(request)).unwrap().into_inner();
        (answer.key_id, answer.ciphertext)
    }

    /// Returns the seed, or the plugin's error text.
    pub(crate) fn decrypt(&self, key_id: &str, wrapped: &[u8]) -> Result<Vec<u8>, String> {
        let request = DecryptRequest {
            ciphertext: wrapped.to_vec(),
            uid: "decrypt".to_owned(),
            key_id: key_id.to_owned(),
            ..DecryptRequest::default()
        };
        let answer = self.runtime.block_on(self.client.clone().decrypt(request));
        answer.map(|answer| answer.into_inner().plaintext).map_err(|status| format!("{status:?}"))
    }
}

/// A connector that returns one existing connection.
struct Lent(Option<TokioIo<UnixStream>>);

impl tonic::codegen::Service<Uri> for Lent {
    type Response = TokioIo<UnixStream>;
    type Error = io::Error;
    type Future = Ready<io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        ready(self.0.take().ok_or_else(|| io::ErrorKind::NotConnected.into()))
    }
}
