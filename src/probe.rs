//! Asks a running plugin for its health and its report, by one Status call over its socket.
//!
//! The call is marked as a probe, so that the plugin never mistakes it for a call of an API server.

use std::future::{Ready, ready};
use std::task::{Context, Poll};
use std::{error::Error, io, time::Duration};

use base64ct::{Base64, Encoding};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::codegen::Service;
use tonic::transport::{self, Channel, Endpoint, Uri};
use tonic::{Code, Request, Status, metadata::MetadataValue};

use crate::{
    grpc::api::{
        CANARY, MESSAGE_LIMIT, PROBE, REPORT, StatusRequest, StatusResponse,
        key_management_service_client::KeyManagementServiceClient,
    },
    listen::Address,
    service::{Healthz, SelfReport},
    telemetry::causes,
};

/// The greatest length of a report in bytes. A full keyring has two thousand keys, and a plugin 16 connections.
const REPORT_MAX: u32 = 512 * 1024;

/// The answer of a plugin to a probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeAnswer {
    /// The version of the KMS API: `v2`.
    pub version: String,
    /// `ok`, or the reason why the plugin is not healthy.
    pub healthz: String,
    /// The key that the plugin would wrap under now.
    pub key_id: String,
    /// The plugin's report of itself, if the plugin is claviger and this user may read it.
    pub report: Option<SelfReport>,
    /// The user that the plugin runs as.
    pub uid: u32,
}

impl ProbeAnswer {
    /// Whether the plugin reports that it is healthy.
    pub fn is_well(&self) -> bool {
        self.healthz == Healthz::Ok.as_str()
    }
}

/// Why there was no answer. The text does not name the socket, which the caller knows.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProbeError {
    /// The plugin was never started, or has ended.
    #[error("no such socket")]
    Absent,
    /// Nobody listens at the socket, because the plugin was killed.
    #[error("connection refused: nothing listens there")]
    Refused,
    /// This user may not open the socket.
    #[error("permission denied")]
    Denied,
    /// The socket belongs to a user who is not the plugin's. Nothing was sent to it.
    #[error("user {0} listens there, and not root, this user, or the owner of the state directory")]
    Impostor(u32),
    /// The kernel refused the connection for another reason.
    #[error("cannot connect: {0}")]
    Connect(#[source] io::Error),
    /// The other side closed the connection: it is no plugin, or all its places are taken. Contains the reason of the
    /// transport.
    #[error("the connection was closed before an answer came: {0}")]
    Closed(String),
    /// The plugin refused the call with this code and this text.
    #[error("the plugin answered {0:?}: {1}")]
    Status(Code, String),
    /// No answer came within this time.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
}

/// Calls Status at `address`, within `timeout` in all. The plugin must run as root, as this user, or as `owner`: anyone
/// can listen at an abstract name while the plugin is down.
///
/// # Errors
/// When nobody listens there, somebody else does, this user may not open the socket, no answer comes in time, or the
/// answer is an error.
pub async fn probe(address: &Address, owner: Option<u32>, timeout: Duration) -> Result<ProbeAnswer, ProbeError> {
    probe_with(address, owner, None, timeout).await
}

/// Calls Status as [`probe`] does, and asks the plugin to open a canary. `canary` has the key_id of a key, and the
/// bytes that were wrapped under it.
///
/// # Errors
/// As [`probe`].
pub async fn probe_with(
    address: &Address,
    owner: Option<u32>,
    canary: Option<(&str, &[u8])>,
    timeout: Duration,
) -> Result<ProbeAnswer, ProbeError> {
    tokio::time::timeout(timeout, ask(address, owner, canary)).await.unwrap_or(Err(ProbeError::Timeout(timeout)))
}

/// Calls Status as a probe. Refuses an answer from a user who is neither root, nor this user, nor `owner`.
async fn ask(address: &Address, owner: Option<u32>, canary: Option<(&str, &[u8])>) -> Result<ProbeAnswer, ProbeError> {
    // Connects by itself and lends tonic the stream, because tonic has one status for every failure to connect.
    let stream = match address {
        Address::Path(path) => UnixStream::connect(path).await?,
        Address::Abstract(name) => UnixStream::connect(format!("\0{name}")).await?,
    };
    let listener = stream.peer_cred()?.uid();
    if listener != 0 && listener != rustix::process::geteuid().as_raw() && Some(listener) != owner {
        return Err(ProbeError::Impostor(listener));
    }
    // kube-apiserver sends this authority since 1.32. It is never resolved.
    let endpoint = Endpoint::from_static("http://localhost").http2_max_header_list_size(REPORT_MAX);
    let channel = lend(endpoint, stream).await.map_err(|error| ProbeError::Closed(causes(&error)))?;
    let mut request = Request::new(StatusRequest {});
    request.metadata_mut().insert(PROBE, MetadataValue::from_static("1"));
    if let Some((key_id, wrapped)) = canary
        && let Ok(canary) = format!("{key_id} {}", Base64::encode_string(wrapped)).parse()
    {
        request.metadata_mut().insert(CANARY, canary);
    }
    let mut client = KeyManagementServiceClient::new(channel).max_decoding_message_size(MESSAGE_LIMIT);
    let response = client.status(request).await?;
    let report = response.metadata().get(REPORT).and_then(|report| serde_json::from_slice(report.as_bytes()).ok());
    let StatusResponse { version, healthz, key_id } = response.into_inner();
    Ok(ProbeAnswer { version, healthz, key_id, report, uid: listener })
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
    /// Distinguishes the plugin's status from one that tonic makes of a broken connection: only the latter has a
    /// source.
    fn from(status: Status) -> Self {
        match status.source() {
            Some(cause) => Self::Closed(causes(cause)),
            None => Self::Status(status.code(), status.message().to_owned()),
        }
    }
}

/// Returns a channel over an existing connection.
async fn lend(endpoint: Endpoint, stream: UnixStream) -> Result<Channel, transport::Error> {
    endpoint.connect_with_connector(Lent(Some(stream))).await
}

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

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, sync::Arc, sync::mpsc};

    use hyper::service::service_fn;
    use hyper_util::rt::TokioExecutor;
    use tokio::net::UnixListener;

    use super::*;
    use crate::{
        keeper::{Degraded, Published},
        listen::{self, Access, Peers, testing::Plugin},
        service::testing::{open, open_service},
    };

    const LONG: Duration = Duration::from_secs(20);

    fn address(dir: &tempfile::TempDir) -> Address {
        Address::Path(dir.path().join("kms.sock"))
    }

    #[tokio::test]
    async fn a_plugin_says_how_it_is() {
        let plugin = Plugin::start(open_service());
        let answer = probe(&plugin.address, None, LONG).await.unwrap();
        assert_eq!((answer.version.as_str(), answer.healthz.as_str()), ("v2", "ok"));
        assert!(answer.key_id.starts_with('k'), "{answer:?}");
        let report = answer.report.unwrap();
        assert_eq!(report.layers["memory"], "mlock");
        assert_eq!((report.generation, report.connections.len(), report.instance.len()), (1, 0, 32));
        let _silent = plugin.connect().await;
        let report = probe(&plugin.address, None, LONG).await.unwrap().report.unwrap();
        assert!(report.connections.iter().all(|connection| !connection.is_alive()), "{report:?}");
    }

    #[tokio::test]
    async fn a_long_report_in_any_language_arrives() {
        let published = Arc::new(Published::default());
        open(&published);
        let reason = "keyring /größer/鍵 \u{1f511} \"quoted\"; ".repeat(3000);
        published.degrade(Some(Degraded { reason: reason.clone(), no_successor: false }));
        let plugin = Plugin::start(Arc::new(crate::service::Service::new(published, [].into())));
        let report = probe(&plugin.address, None, LONG).await.unwrap().report.expect("a report");
        assert_eq!(report.degraded, Some(reason));
    }

    #[tokio::test]
    async fn an_abstract_socket_is_probed_as_well() {
        let address = Address::Abstract(format!("claviger-probe-{}", std::process::id()));
        let listener = listen::bind(&address, Access::default()).unwrap();
        tokio::spawn(listen::serve(listener, open_service(), Peers::new([]), std::future::pending()));
        assert_eq!(probe(&address, None, LONG).await.unwrap().healthz, "ok");
    }

    #[tokio::test]
    async fn a_sealed_plugin_answers_with_its_error() {
        let plugin = Plugin::start(Arc::default());
        let error = probe(&plugin.address, None, LONG).await.unwrap_err();
        let text = "the plugin answered Unavailable: sealed: the keyring is not open yet";
        assert_eq!(error.to_string(), text);
        assert!(matches!(error, ProbeError::Status(Code::Unavailable, _)));
    }

    #[tokio::test]
    async fn each_way_to_find_nobody_has_its_own_error() {
        let dir = tempfile::tempdir().unwrap();
        let error = probe(&address(&dir), None, LONG).await.unwrap_err();
        assert_eq!(error.to_string(), "no such socket");
        drop(UnixListener::bind(dir.path().join("kms.sock")).unwrap());
        let error = probe(&address(&dir), None, LONG).await.unwrap_err();
        assert_eq!(error.to_string(), "connection refused: nothing listens there");
        let nobody = Address::Abstract("claviger-nobody-listens-here".to_owned());
        assert!(matches!(probe(&nobody, None, LONG).await, Err(ProbeError::Refused)));
    }

    #[test]
    fn a_socket_of_others_and_an_odd_failure_have_errors_of_their_own() {
        let denied = ProbeError::from(io::Error::from(io::ErrorKind::PermissionDenied));
        assert_eq!(denied.to_string(), "permission denied");
        let odd = ProbeError::from(io::Error::from(io::ErrorKind::WouldBlock));
        assert_eq!(odd.to_string(), "cannot connect: operation would block");
    }

    #[tokio::test]
    async fn silence_and_a_closed_door_have_errors_of_their_own() {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("kms.sock")).unwrap();
        let silent = address(&dir);
        let answer = tokio::time::timeout(LONG, probe(&silent, None, Duration::from_millis(50))).await.unwrap();
        let error = answer.unwrap_err();
        assert_eq!(error.to_string(), "no answer within 50ms");
        let closing = tokio::spawn(async move { while listener.accept().await.is_ok() {} });
        let error = probe(&address(&dir), None, LONG).await.unwrap_err();
        let text = "the connection was closed before an answer came: ";
        assert!(error.to_string().strip_prefix(text).is_some_and(|reason| !reason.is_empty()), "{error}");
        closing.abort();
    }

    #[tokio::test]
    async fn it_marks_itself_as_a_probe_and_names_localhost() {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("kms.sock")).unwrap();
        let (send, received) = mpsc::channel();
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let service = service_fn(move |request: hyper::Request<_>| {
                let probe = request.headers()[PROBE].to_str().unwrap().to_owned();
                send.send((probe, request.uri().to_string())).unwrap();
                std::future::ready(Ok::<_, Infallible>(Status::unimplemented("no").into_http::<tonic::body::Body>()))
            });
            hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await
        });
        assert!(matches!(probe(&address(&dir), None, LONG).await, Err(ProbeError::Status(Code::Unimplemented, _))));
        let expected = ("1".to_owned(), "http://localhost/v2.KeyManagementService/Status".to_owned());
        assert_eq!(received.recv().unwrap(), expected);
    }
}
