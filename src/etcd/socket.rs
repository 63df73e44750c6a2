//! Connects to a Unix socket, by which kine serves etcd's API.

use std::{
    io,
    path::PathBuf,
    pin::Pin,
    task::{Context, Poll},
};

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::{codegen::Service, transport::Uri};

/// Connects to one Unix socket, whatever URI is asked for.
#[derive(Debug, Clone)]
pub(super) struct SocketConnector(PathBuf);

impl SocketConnector {
    /// Makes a connector for the socket at `path`. A relative path is relative to the current directory of this
    /// process.
    pub(super) fn new(path: PathBuf) -> Self {
        Self(path)
    }
}

impl Service<Uri> for SocketConnector {
    type Response = TokioIo<UnixStream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let path = self.0.clone();
        Box::pin(async move { Ok(TokioIo::new(UnixStream::connect(path).await?)) })
    }
}
