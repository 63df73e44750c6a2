//! What tests of sockets and calls share: a plugin on its own socket, a client whose requests can stop in the middle,
//! and the log.

use std::{
    convert::Infallible,
    env, future, io,
    path::{Path, PathBuf},
    pin::Pin,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    task::{Context, Poll, ready},
    time::Duration,
};

use hyper::{
    Request, Response,
    body::{Body, Bytes, Frame},
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::AsyncReadExt,
    net::UnixStream,
    sync::mpsc,
    sync::oneshot,
    task::JoinHandle,
    time::{sleep, timeout},
};
use tonic::codegen::Service as _;
use tonic::{
    Status,
    metadata::MetadataValue,
    transport::{Channel, Endpoint},
};
use tower::service_fn;
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::fmt::MakeWriter;

use super::{Access, Address, Listener, Peers, acceptor::Drained, bind as listen_on, serve};
use crate::{
    grpc::api::{PROBE, StatusRequest, key_management_service_client::KeyManagementServiceClient},
    service::Service,
};

/// An HTTP/2 preface and an empty SETTINGS frame: the minimum that a client must send.
pub(crate) const GREETING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// The headers of a Status call as the first stream: POST, http, path, content-type.
pub(crate) const BEGIN_STATUS: &[u8] = b"\0\0\x35\x01\x04\0\0\0\x01\
    \x83\x86\x44\x1f/v2.KeyManagementService/Status\x5f\x10application/grpc";

/// A `RST_STREAM` frame with which the client cancels that call.
pub(crate) const RESET: &[u8] = b"\0\0\x04\x03\0\0\0\0\x01\0\0\0\x08";

pub(crate) const WHOLE: Bytes = Bytes::from_static(&[0; 5]);
pub(crate) const HALF: Bytes = Bytes::from_static(&[0; 3]);

pub(crate) fn endpoint() -> Endpoint {
    Endpoint::from_static("http://localhost")
}

/// A time limit that is far longer than any step of a test, so that a test fails instead of hanging.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// A plugin that serves in the background.
pub(crate) struct Plugin {
    pub(crate) address: Address,
    pub(crate) path: PathBuf,
    stop: Option<oneshot::Sender<()>>,
    served: JoinHandle<io::Result<Drained>>,
    _dir: tempfile::TempDir,
}

impl Plugin {
    /// Starts a plugin that serves the test's own user.
    pub(crate) fn start(service: Arc<Service>) -> Self {
        Self::start_for(service, Peers::new([]))
    }

    pub(crate) fn start_for(service: Arc<Service>, peers: Peers) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kms.sock");
        let address = Address::Path(path.clone());
        let listener = listen_on(&address, Access::default()).unwrap();
        let (stop, stopped) = oneshot::channel();
        let served = tokio::spawn(serve(listener, service, peers, async move { drop(stopped.await) }));
        Self { address, path, stop: Some(stop), served, _dir: dir }
    }

    pub(crate) async fn client(&self) -> KeyManagementServiceClient<Channel> {
        KeyManagementServiceClient::new(self.channel(Endpoint::from_static("http://localhost")).await)
    }

    pub(crate) async fn channel(&self, endpoint: Endpoint) -> Channel {
        let mut stream = Some(TokioIo::new(self.connect().await));
        let lend = service_fn(move |_| {
            future::ready(stream.take().ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected)))
        });
        endpoint.connect_with_connector(lend).await.unwrap()
    }

    /// Returns a connection over which nothing was sent yet.
    pub(crate) async fn connect(&self) -> UnixStream {
        UnixStream::connect(&self.path).await.unwrap()
    }

    /// Tells the plugin to end, and does not wait.
    pub(crate) fn stop(&mut self) {
        drop(self.stop.take());
    }

    /// Waits until the plugin has ended.
    pub(crate) async fn end(mut self) -> Drained {
        self.stop();
        timeout(SOON, self.served).await.unwrap().unwrap().unwrap()
    }
}

/// Whether the plugin answers a probe.
pub(crate) async fn is_well(plugin: &Plugin) -> bool {
    let mut request = tonic::Request::new(StatusRequest {});
    request.metadata_mut().insert(PROBE, MetadataValue::from_static("1"));
    timeout(SOON, plugin.client().await.status(request)).await.is_ok_and(|answer| answer.is_ok())
}

/// Waits until a scrape has `line`. A call may be counted a moment after its client has the answer.
#[cfg(feature = "metrics")]
pub(crate) async fn counted(service: &Service, line: &str) {
    let shown = || service.metrics().exposition(None).unwrap().lines().any(|shown| shown == line);
    let wait = async {
        while !shown() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(SOON, wait)
        .await
        .unwrap_or_else(|_| panic!("no {line} in {}", service.metrics().exposition(None).unwrap()));
}

/// Does nothing, because this build counts no calls.
#[cfg(not(feature = "metrics"))]
pub(crate) async fn counted(_: &Service, _: &str) {}

/// Returns a socket that listens at `path`.
pub(crate) fn bind(path: &Path) -> Listener {
    listen_on(&Address::Path(path.to_owned()), Access::default()).unwrap()
}

/// Returns why no socket can be made at `path`.
pub(crate) fn refused(path: &Path) -> String {
    listen_on(&Address::Path(path.to_owned()), Access::default()).unwrap_err().to_string()
}

/// Whether somebody listens at `path`.
pub(crate) fn answers(path: &Path) -> bool {
    std::os::unix::net::UnixStream::connect(path).is_ok()
}

/// A test of this binary that runs again in its own process, with the path of its socket in `variable`. Killed when
/// dropped.
pub(crate) struct Process(pub(crate) Child);

impl Process {
    pub(crate) fn start(test: &str, variable: &str, socket: &Path) -> Self {
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["--exact", test]).env(variable, socket).stdout(Stdio::null()).stderr(Stdio::piped());
        Self(command.spawn().unwrap())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// Waits until the other side closes the connection, and drops all bytes that it sends before.
pub(crate) async fn closed(stream: &mut UnixStream) {
    let _ = timeout(SOON, stream.read_to_end(&mut Vec::new())).await.expect("still open");
}

/// A request body whose bytes come from a channel.
pub(crate) struct Fed(mpsc::UnboundedReceiver<Bytes>);

impl Body for Fed {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(ready!(self.0.poll_recv(cx)).map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// Begins a Status call whose body comes from the sender. A whole body is five zeros; dropping the sender ends it.
pub(crate) fn begin_status(
    mut channel: Channel,
) -> (mpsc::UnboundedSender<Bytes>, impl Future<Output = Response<tonic::body::Body>>) {
    let (feed, body) = mpsc::unbounded_channel();
    let request = Request::post("http://localhost/v2.KeyManagementService/Status")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(tonic::body::Body::new(Fed(body)))
        .unwrap();
    let call = tokio::spawn(async move {
        std::future::poll_fn(|cx| channel.poll_ready(cx)).await.unwrap();
        channel.call(request).await.unwrap()
    });
    (feed, async { timeout(SOON, call).await.unwrap().unwrap() })
}

/// Returns the gRPC status of a failed call, from the headers of its answer.
pub(crate) fn refusal(response: &Response<tonic::body::Body>) -> Option<Status> {
    Status::from_header_map(response.headers())
}

/// Captures what this thread logs until it is dropped.
pub(crate) struct CapturedLog {
    lines: LoggedLines,
    _guard: DefaultGuard,
}

#[derive(Clone, Default)]
struct LoggedLines(Arc<Mutex<Vec<u8>>>);

impl CapturedLog {
    pub(crate) fn start() -> Self {
        let lines = LoggedLines::default();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_ansi(false)
            .with_writer(lines.clone())
            .finish();
        Self { lines, _guard: tracing::subscriber::set_default(subscriber) }
    }

    pub(crate) fn lines_with(&self, text: &str) -> Vec<String> {
        let bytes = self.lines.0.lock().unwrap();
        String::from_utf8_lossy(&bytes).lines().filter(|line| line.contains(text)).map(str::to_owned).collect()
    }
}

impl<'a> MakeWriter<'a> for LoggedLines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl io::Write for LoggedLines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
