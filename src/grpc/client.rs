//! Asks a running plugin how it is: one Status call over its socket.
//!
//! Marks the call as a probe, so that a plugin never takes it for an API server.

use std::future::{Ready, ready};
use std::task::{Context, Poll};
use std::{error::Error, io, time::Duration};

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Endpoint, Uri};
use tonic::{Code, Request, Status, metadata::MetadataValue};
use tower_service::Service;

use super::api::{StatusRequest, key_management_service_client::KeyManagementServiceClient};
use super::{MESSAGE_LIMIT, PROBE, socket::Address};

/// What a plugin says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The API's version, `v2`.
    pub version: String,
    /// `ok`, or what is wrong.
    pub healthz: String,
    /// The key that it would wrap under now.
    pub key_id: String,
}

/// Why there was no answer; who asked knows which socket it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProbeError {
    /// The plugin was never started, or has ended.
    #[error("no such socket")]
    Absent,
    /// There is a socket that nobody holds: the plugin was killed.
    #[error("connection refused: nothing listens there")]
    Refused,
    /// This user may not open the socket.
    #[error("permission denied")]
    Denied,
    /// The kernel refused in another way.
    #[error("cannot connect: {0}")]
    Connect(#[source] io::Error),
    /// The other side hung up: not a plugin, or one whose places are all taken.
    #[error("the connection was closed before an answer came")]
    Closed,
    /// The plugin refused the call, with this code and in these words.
    #[error("the plugin answered {0:?}: {1}")]
    Status(Code, String),
    /// Silent for this long.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
}

/// Calls Status at `address`, waiting no longer than `timeout` in all.
///
/// # Errors
/// When nothing listens there, it may not be opened, it does not answer in time, or it answers with an error.
pub async fn probe(address: &Address, timeout: Duration) -> Result<Answer, ProbeError> {
    tokio::time::timeout(timeout, ask(address)).await.unwrap_or(Err(ProbeError::Timeout(timeout)))
}

async fn ask(address: &Address) -> Result<Answer, ProbeError> {
    // Connects by hand and lends tonic the stream, because tonic has one status for all ways to fail at it.
    let stream = match address {
        Address::Path(path) => UnixStream::connect(path).await?,
        Address::Abstract(name) => UnixStream::connect(format!("\0{name}")).await?,
    };
    // The authority that kube-apiserver sends from 1.32 on; nobody looks it up.
    let endpoint = Endpoint::from_static("http://localhost");
    let channel = endpoint.connect_with_connector(Lent(Some(stream))).await.map_err(|_| ProbeError::Closed)?;
    let mut request = Request::new(StatusRequest {});
    request.metadata_mut().insert(PROBE, MetadataValue::from_static("1"));
    let mut client = KeyManagementServiceClient::new(channel).max_decoding_message_size(MESSAGE_LIMIT);
    let answer = client.status(request).await?.into_inner();
    Ok(Answer { version: answer.version, healthz: answer.healthz, key_id: answer.key_id })
}

impl From<io::Error> for ProbeError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::Absent,
            io::ErrorKind::ConnectionRefused => Self::Refused,
            io::ErrorKind::PermissionDenied => Self::Denied,
            _ => Self::Connect(error),
        }
    }
}

impl From<Status> for ProbeError {
    /// Tells the plugin's own status from one that tonic makes of a broken connection: only the latter has a source.
    fn from(status: Status) -> Self {
        match status.source() {
            Some(_) => Self::Closed,
            None => Self::Status(status.code(), status.message().to_owned()),
        }
    }
}

/// A connector for one connection that exists already.
struct Lent(Option<UnixStream>);

impl Service<Uri> for Lent {
    type Response = TokioIo<UnixStream>;
    type Error = io::Error;
    type Future = Ready<io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        ready(self.0.take().map(TokioIo::new).ok_or_else(|| io::ErrorKind::NotConnected.into()))
    }
}
