//! Who may come in, how many, and for how long: the accept loop and the limits of each connection.
//!
//! Every connection has a [`Connection`](crate::service::Connection) of its own, because the key that Status announced
//! is remembered for each. That, and an accept loop that nothing ends (RUSTSEC-2024-0376), is why this is hyper with
//! our own loop around it and not tonic's server. Invariant: no peer takes more than its share, however it behaves, and
//! those that are refused take nothing from the others.

use std::{
    collections::BTreeSet,
    convert::Infallible,
    error::Error as _,
    future::Future,
    io,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use hyper::server::conn::http2::Builder;
use hyper::{Request, Response, body::Incoming, rt::Executor, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::{UnixListener, UnixStream, unix::UCred};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio::{sync::watch, task::JoinSet};
use tonic::{Code, Status, body::Body};
use tower_service::Service as _;
use tracing::{debug, error, info, warn};

use super::api::key_management_service_server::{KeyManagementServiceServer, SERVICE_NAME};
use super::socket::{self, Claim, Fate};
use super::{Api, MESSAGE_LIMIT, Refused, printable};
use crate::{
    service::{Peer, Service},
    telemetry::{
        metrics::{Guest, Method, Metrics},
        quota::Quota,
    },
};

/// Connections at a time; an API server holds one for each of its provider entries.
const PLACES: usize = 16;

/// Connections at a time of peers that are refused, apart from the others.
const REFUSED_PLACES: usize = 2;

/// How long such a connection may last, and how long its place stays taken.
const REFUSED_STAY: Duration = Duration::from_secs(2);

/// From connecting to the end of the HTTP/2 preface. An API server sends it at once; after it, it may be idle for ever.
const PREFACE_TIMEOUT: Duration = Duration::from_secs(5);

/// From a call's headers to its answer. An API server waits for 3 s, and should be told rather than left to give up.
const CALL_TIMEOUT: Duration = Duration::from_millis(2500);

/// From a call's headers until its answer has been read.
const STREAM_TIMEOUT: Duration = Duration::from_secs(5);

/// Calls at a time on one connection; the rest of a storm of Decrypts waits its turn at the client.
const STREAMS: u32 = 256;

/// Flow control for one call: the largest message and its prefix fit, so that no honest one waits for an update.
const WINDOW: u32 = 128 * 1024;

/// Bytes of one call's headers.
const HEADERS: u32 = 16 * 1024;

/// From one ping to the next, and from a ping to giving up a peer that does not answer it.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(20));

/// How long a shutdown waits for the calls in flight.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// From one look after our socket to the next.
const WATCH: Duration = Duration::from_secs(1);

/// How long the replaced plugin still accepts: who had found its socket before the rename has connected by then.
const LAST_GUESTS: Duration = Duration::from_millis(100);

/// How long the accept loop sleeps after a failure, which is most likely for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Between two lines in the log about the same want of places or of file descriptors.
const QUIET: Duration = Duration::from_mins(1);

/// The users whose processes may call.
#[derive(Debug, Clone)]
pub struct Peers(BTreeSet<u32>);

impl Peers {
    /// Admits root, the plugin's own user, and `others` by their numbers.
    pub fn new(others: impl IntoIterator<Item = u32>) -> Self {
        Self(others.into_iter().chain([0, rustix::process::geteuid().as_raw()]).collect())
    }
}

/// How a shutdown went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drained {
    /// Every call that was in flight has been answered.
    Complete,
    /// This many connections were cut off in the middle of a call.
    Cut(usize),
}

/// Serves `peers` on `listener` until `shutdown`, or until another plugin has taken the socket over; then listens no more,
/// answers what is in flight, and returns.
///
/// # Errors
/// When the runtime cannot take the socket. Once it listens, nothing but `shutdown` ends it.
pub async fn serve(
    listener: socket::Listener,
    service: Arc<Service>,
    peers: Peers,
    shutdown: impl Future<Output = ()>,
) -> io::Result<Drained> {
    let (mut listener, mut claim) = listener.into_tokio()?;
    let (close, closing) = watch::channel(());
    let mut door = Door::new(service, peers, closing);
    let mut shutdown = pin!(shutdown);
    let mut watch = interval(WATCH);
    watch.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Outside of the loop, which begins anew at each look after the socket.
    let (mut deaf, mut lost) = (Quota::new(QUIET), false);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            (stream, _) = persist(|| listener.accept(), &mut deaf, door.service.metrics()) => door.admit(stream),
            _ = watch.tick() => match claim.as_mut().map_or(Fate::There, Claim::look_after) {
                Fate::There => {}
                Fate::Gone => restore(&mut claim, &mut listener, &mut lost),
                Fate::Replaced => {
                    info!("socket taken over by another plugin");
                    door.admit_last(&listener).await;
                    break;
                }
            }
        }
    }
    drop((claim, listener, close));
    Ok(door.drain().await)
}

/// Listens anew at the same path. Without success it goes on with the old socket, and the next look tries again.
fn restore(claim: &mut Option<Claim>, listener: &mut UnixListener, lost: &mut bool) {
    match claim.as_mut().map(Claim::restore) {
        Some(Ok(restored)) => {
            warn!("socket was removed, made again");
            (*listener, *lost) = (restored, false);
        }
        Some(Err(error)) if !*lost => {
            warn!(%error, "socket was removed and cannot be made again, still trying");
            *lost = true;
        }
        Some(Err(_)) | None => {}
    }
}

/// Repeats `accept` until it succeeds.
async fn persist<T, F: Future<Output = io::Result<T>>>(
    accept: impl Fn() -> F,
    warnings: &mut Quota,
    metrics: &Metrics,
) -> T {
    loop {
        let error = match accept().await {
            Ok(accepted) => return accepted,
            Err(error) => error,
        };
        metrics.accept_failed();
        if let Some(left_out) = warnings.take(Instant::now()) {
            warn!(%error, left_out, "cannot accept connections, still trying");
        }
        sleep(ACCEPT_PAUSE).await;
    }
}

/// Where connections come in, and the tasks that serve them.
struct Door {
    service: Arc<Service>,
    peers: Peers,
    closing: watch::Receiver<()>,
    guests: JoinSet<()>,
    refused: JoinSet<()>,
    full: Quota,
}

impl Door {
    fn new(service: Arc<Service>, peers: Peers, closing: watch::Receiver<()>) -> Self {
        let (guests, refused) = (JoinSet::new(), JoinSet::new());
        Self { service, peers, closing, guests, refused, full: Quota::new(QUIET) }
    }

    fn admit(&mut self, stream: UnixStream) {
        match stream.peer_cred() {
            Ok(peer) if self.peers.0.contains(&peer.uid()) => self.welcome(stream, peer),
            Ok(peer) => self.turn_away(stream, peer),
            Err(error) => {
                self.service.metrics().peer_refused();
                warn!(%error, "connection closed: its peer is unknown");
            }
        }
    }

    /// Admits those who had found the socket before it was replaced.
    async fn admit_last(&mut self, listener: &UnixListener) {
        while let Ok(Ok((stream, _))) = timeout(LAST_GUESTS, listener.accept()).await {
            self.admit(stream);
        }
    }

    /// Serves an allowed peer. Beyond the limit it is closed, not left waiting, where it would fill the backlog.
    fn welcome(&mut self, stream: UnixStream, peer: UCred) {
        if !has_room(&mut self.guests, PLACES) {
            self.service.metrics().no_place();
            if let Some(left_out) = self.full.take(Instant::now()) {
                let (uid, pid) = (peer.uid(), peer.pid());
                warn!(peer_uid = uid, peer_pid = pid, left_out, "connection closed: all places are taken");
            }
            return;
        }
        let calls = Calls::new(Api(self.service.connect(Peer { uid: peer.uid(), pid: peer.pid() })))
            .max_decoding_message_size(MESSAGE_LIMIT)
            .max_encoding_message_size(MESSAGE_LIMIT);
        let guest = self.service.metrics().accepted();
        let served = converse(stream, Some(calls), Arc::clone(&self.service), self.closing.clone());
        self.guests.spawn(stay(guest, served));
    }

    /// Tells a peer that it is refused. Its place stays taken if it leaves at once, so that it cannot flood the log.
    fn turn_away(&mut self, stream: UnixStream, peer: UCred) {
        self.service.metrics().peer_refused();
        if !has_room(&mut self.refused, REFUSED_PLACES) {
            return;
        }
        warn!(peer_uid = peer.uid(), peer_pid = peer.pid(), "peer refused");
        let told = timeout(REFUSED_STAY, converse(stream, None, Arc::clone(&self.service), self.closing.clone()));
        self.refused.spawn(async { _ = tokio::join!(told, sleep(REFUSED_STAY)) });
    }

    /// Waits for the guests to leave. What remains of the refused ends with the door.
    async fn drain(mut self) -> Drained {
        let left = async { while self.guests.join_next().await.is_some() {} };
        match timeout(DRAIN_TIMEOUT, left).await {
            Ok(()) => Drained::Complete,
            Err(_) => Drained::Cut(self.guests.len()),
        }
    }
}

/// Forgets the tasks that have ended, and says whether fewer than `places` are left.
fn has_room(tasks: &mut JoinSet<()>, places: usize) -> bool {
    while tasks.try_join_next().is_some() {}
    tasks.len() < places
}

type Calls = KeyManagementServiceServer<Api>;

/// Counts a connection for as long as it is served, also when it is cut off.
async fn stay(_guest: Guest, served: impl Future<Output = ()>) {
    served.await;
}

/// Serves one connection until either side closes it. Without `calls`, each of them is refused.
async fn converse(stream: UnixStream, calls: Option<Calls>, service: Arc<Service>, mut closing: watch::Receiver<()>) {
    let greeted = tokio::select! {
        greeted = timeout(PREFACE_TIMEOUT, greeted(stream)) => greeted,
        _ = closing.changed() => return,
    };
    let Ok(Ok(stream)) = greeted else { return debug!("connection closed: it did not begin to speak HTTP/2") };
    let service = service_fn(|request| answer(calls.clone(), Arc::clone(&service), request));
    let mut connection = pin!(http2().serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        _ = closing.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(%error, "connection broken");
    }
}

/// Waits for the whole preface (RFC 9113, section 3.4), for which hyper has no time limit, and puts it back.
async fn greeted(stream: UnixStream) -> io::Result<impl AsyncRead + AsyncWrite + Unpin> {
    let (mut read, write) = stream.into_split();
    let mut preface = [0; b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len()];
    read.read_exact(&mut preface).await?;
    Ok(tokio::io::join(io::Cursor::new(preface).chain(read), write))
}

fn http2() -> Builder<Streams> {
    let mut http2 = Builder::new(Streams);
    http2
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEADERS)
        .initial_stream_window_size(WINDOW)
        .keep_alive_interval(KEEP_ALIVE.0)
        .keep_alive_timeout(KEEP_ALIVE.1);
    http2
}

/// Runs each call as a task of limited length, so that a peer that never reads its answer holds nothing for ever.
#[derive(Clone)]
struct Streams;

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Streams {
    fn execute(&self, stream: F) {
        tokio::spawn(timeout(STREAM_TIMEOUT, stream));
    }
}

/// Answers one call, in time and on the record.
async fn answer(
    calls: Option<Calls>,
    service: Arc<Service>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let path = request.uri().path();
    let method = method(path);
    // A peer's own name for what we have not.
    let other = (method == Method::Other).then(|| printable(path.rsplit('/').next().unwrap_or_default()));
    let counted = service.metrics().call(method);
    let is_allowed = calls.is_some();
    let response = match calls {
        Some(calls) => answer_allowed(calls, request).await,
        None => Status::permission_denied("peer refused").into_http(),
    };
    let refused = response.extensions().get::<Status>();
    counted.answered(refused.map_or(Code::Ok, Status::code));
    if let Some(status) = refused.filter(|_| is_allowed) {
        record_failure(other.as_deref().unwrap_or(method.as_str()), status);
    }
    Ok(response)
}

async fn answer_allowed(mut calls: Calls, request: Request<Incoming>) -> Response<Body> {
    let late = || Status::deadline_exceeded(format!("the call took longer than {CALL_TIMEOUT:?}")).into_http();
    let Ok(response) = timeout(CALL_TIMEOUT, calls.call(request)).await.unwrap_or_else(|_| Ok(late()));
    response
}

fn method(path: &str) -> Method {
    match path.strip_prefix('/').and_then(|path| path.strip_prefix(SERVICE_NAME)) {
        Some("/Status") => Method::Status,
        Some("/Encrypt") => Method::Encrypt,
        Some("/Decrypt") => Method::Decrypt,
        _ => Method::Other,
    }
}

/// Puts a refusal on the log, with what the API server calls this call.
pub(super) fn record_failure(method: &str, status: &Status) {
    let refused = status.source().and_then(|source| source.downcast_ref::<Refused>());
    let uid = refused.map(|refused| refused.uid.as_str()).filter(|uid| !uid.is_empty());
    if let Some(detail) = refused.and_then(|refused| refused.detail) {
        error!(method, uid, detail, "internal error");
    }
    warn!(method, uid, code = ?status.code(), reason = status.message(), "call failed");
}

#[cfg(test)]
mod tests {
    use std::{
        env,
        io::{BufRead, BufReader},
    };

    use hyper::body::Bytes;
    use rustix::{io::Errno, process::Resource};
    use tokio::io::AsyncWriteExt;
    use tonic::{Code, transport::Endpoint};

    use super::*;
    use crate::grpc::{
        api::{EncryptRequest, StatusRequest},
        client::{ProbeError, probe},
        socket::Address,
        testing::{Log, Plugin, Process, SOON, begin_status, closed, refusal},
        tests::open_service,
    };

    /// A preface and an empty SETTINGS frame: all that a client must say.
    const GREETING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

    /// The headers of a Status call as the first stream: POST, http, path, content-type.
    const BEGIN_STATUS: &[u8] = b"\0\0\x35\x01\x04\0\0\0\x01\
        \x83\x86\x44\x1f/v2.KeyManagementService/Status\x5f\x10application/grpc";

    /// Its reset by the client: CANCEL.
    const RESET: &[u8] = b"\0\0\x04\x03\0\0\0\0\x01\0\0\0\x08";

    const WHOLE: Bytes = Bytes::from_static(&[0; 5]);
    const HALF: Bytes = Bytes::from_static(&[0; 3]);

    fn endpoint() -> Endpoint {
        Endpoint::from_static("http://localhost")
    }

    async fn is_well(plugin: &Plugin) -> bool {
        probe(&plugin.address, SOON).await.is_ok()
    }

    #[test]
    fn root_and_our_own_user_may_always_call() {
        let Peers(peers) = Peers::new([1001, 1002]);
        let ours = rustix::process::geteuid().as_raw();
        assert_eq!(peers, BTreeSet::from([0, ours, 1001, 1002]));
    }

    /// The limits that a client keeps by itself, because it is told them first: 256 calls, window, headers.
    #[tokio::test]
    async fn the_limits_of_a_connection_are_announced() {
        let plugin = Plugin::start(open_service());
        let mut stream = plugin.connect().await;
        stream.write_all(GREETING).await.unwrap();
        let mut settings = [0; 64];
        let length = timeout(SOON, stream.read(&mut settings)).await.unwrap().unwrap();
        for setting in [[0, 3, 0, 0, 1, 0], [0, 4, 0, 2, 0, 0], [0, 6, 0, 0, 0x40, 0]] {
            assert!(settings[9..length].chunks(6).any(|announced| announced == setting), "{settings:x?}");
        }
    }

    #[tokio::test]
    async fn a_storm_on_one_connection_is_answered() {
        let plugin = Plugin::start(open_service());
        let client = plugin.client().await;
        let mut calls = JoinSet::new();
        for _ in 0..2 * STREAMS {
            let mut client = client.clone();
            let request = EncryptRequest { plaintext: vec![1; 32], uid: String::new() };
            calls.spawn(async move { client.encrypt(request).await.map(drop) });
        }
        assert!(calls.join_all().await.iter().all(Result::is_ok));
    }

    #[tokio::test]
    async fn an_unknown_method_is_unimplemented() {
        let plugin = Plugin::start(open_service());
        let mut channel = plugin.channel(endpoint()).await;
        let request =
            Request::post("http://localhost/v1beta1.KeyManagementService/Version").body(Body::default()).unwrap();
        std::future::poll_fn(|cx| channel.poll_ready(cx)).await.unwrap();
        let response = channel.call(request).await.unwrap();
        assert_eq!(refusal(&response).unwrap().code(), Code::Unimplemented);
    }

    #[test]
    fn a_method_is_what_the_whole_path_says() {
        for (path, expected) in [
            ("/v2.KeyManagementService/Status", Method::Status),
            ("/v2.KeyManagementService/Encrypt", Method::Encrypt),
            ("/v2.KeyManagementService/Decrypt", Method::Decrypt),
            ("/v2.KeyManagementService/Rotate", Method::Other),
            ("/v1beta1.KeyManagementService/Encrypt", Method::Other),
            ("v2.KeyManagementService/Status", Method::Other),
            ("/Status", Method::Other),
            ("/", Method::Other),
        ] {
            assert_eq!(method(path), expected, "{path}");
        }
    }

    /// Waits until a scrape has `line`; what counts may follow what a client sees by a moment.
    async fn counted(service: &Service, line: &str) {
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

    #[tokio::test]
    async fn calls_and_connections_are_counted_by_what_became_of_them() {
        let service = open_service();
        let plugin = Plugin::start(Arc::clone(&service));
        let mut client = plugin.client().await;
        client.status(StatusRequest {}).await.unwrap();
        let request = EncryptRequest { plaintext: vec![], uid: String::new() };
        client.encrypt(request).await.unwrap_err();
        let (feed, late) = begin_status(plugin.channel(endpoint()).await);
        feed.send(HALF).unwrap();
        let (_feed, given_up) = begin_status(plugin.channel(endpoint()).await);
        counted(&service, "claviger_connections 3").await;
        drop(given_up);
        late.await;
        for line in [
            r#"claviger_calls_total{method="Status",code="OK"} 1"#,
            r#"claviger_calls_total{method="Encrypt",code="INVALID_ARGUMENT"} 1"#,
            r#"claviger_calls_total{method="Status",code="DEADLINE_EXCEEDED"} 2"#,
            r#"claviger_connections_total{result="accepted"} 3"#,
        ] {
            counted(&service, line).await;
        }
        drop(client);
        plugin.end().await;
        counted(&service, "claviger_connections 0").await;
    }

    #[tokio::test]
    async fn a_call_that_is_reset_half_way_is_counted() {
        let service = open_service();
        let plugin = Plugin::start(Arc::clone(&service));
        let mut client = plugin.client().await;
        let mut stream = plugin.connect().await;
        stream.write_all(&[GREETING, BEGIN_STATUS].concat()).await.unwrap();
        client.status(StatusRequest {}).await.unwrap();
        stream.write_all(RESET).await.unwrap();
        // What tonic makes of a body that ends in a reset.
        counted(&service, r#"claviger_calls_total{method="Status",code="UNKNOWN"} 1"#).await;
    }

    #[tokio::test]
    async fn half_a_request_is_given_up_while_others_go_on() {
        let plugin = Plugin::start(open_service());
        let start = Instant::now();
        let (_feed, call) = begin_status(plugin.channel(endpoint()).await);
        let (feed, silent) = begin_status(plugin.channel(endpoint()).await);
        feed.send(HALF).unwrap();
        let mut client = plugin.client().await;
        client.status(StatusRequest {}).await.unwrap();
        for call in [refusal(&call.await), refusal(&silent.await)] {
            let status = call.unwrap();
            assert_eq!((status.code(), status.message()), (Code::DeadlineExceeded, "the call took longer than 2.5s"));
        }
        assert!(start.elapsed() >= CALL_TIMEOUT);
        client.status(StatusRequest {}).await.unwrap();
    }

    #[tokio::test]
    async fn an_answer_that_is_not_read_is_given_up() {
        let plugin = Plugin::start(open_service());
        let (feed, call) = begin_status(plugin.channel(endpoint().initial_stream_window_size(0)).await);
        feed.send(WHOLE).unwrap();
        drop(feed);
        let mut body = call.await.into_body();
        let frame = std::future::poll_fn(|cx| hyper::body::Body::poll_frame(pin!(&mut body), cx));
        assert!(timeout(SOON, frame).await.unwrap().unwrap().is_err());
        assert!(is_well(&plugin).await);
    }

    #[tokio::test]
    async fn headers_end_at_16_kib() {
        let plugin = Plugin::start(open_service());
        let mut client = plugin.client().await;
        let mut request = tonic::Request::new(StatusRequest {});
        request.metadata_mut().insert("x-large", "x".repeat(HEADERS as usize).parse().unwrap());
        client.status(request).await.unwrap_err();
        client.status(StatusRequest {}).await.unwrap();
    }

    #[tokio::test]
    async fn a_seventeenth_connection_is_closed_and_the_others_go_on() {
        let log = Log::start();
        let service = open_service();
        let plugin = Plugin::start(Arc::clone(&service));
        let mut clients = Vec::new();
        for _ in 0..PLACES {
            let mut client = plugin.client().await;
            client.status(StatusRequest {}).await.unwrap();
            clients.push(client);
        }
        assert!(matches!(probe(&plugin.address, SOON).await, Err(ProbeError::Closed)));
        assert_eq!(log.lines_with("connection closed: all places are taken").len(), 1);
        counted(&service, r#"claviger_connections_total{result="no_place"} 1"#).await;
        counted(&service, "claviger_connections 16").await;
        clients[0].status(StatusRequest {}).await.unwrap();
        clients.pop();
        let retry = async { while !is_well(&plugin).await {} };
        timeout(SOON, retry).await.unwrap();
    }

    #[tokio::test]
    async fn a_silent_connection_is_closed_and_an_idle_one_is_kept() {
        let log = Log::start();
        let plugin = Plugin::start(open_service());
        let mut client = plugin.client().await;
        client.status(StatusRequest {}).await.unwrap();
        let (mut silent, mut slow) = (plugin.connect().await, plugin.connect().await);
        slow.write_all(&GREETING[..23]).await.unwrap();
        tokio::join!(closed(&mut silent), closed(&mut slow));
        assert_eq!(log.lines_with("connection closed: it did not begin to speak HTTP/2").len(), 2);
        client.status(StatusRequest {}).await.unwrap();
    }

    #[tokio::test]
    #[ignore = "waits for 50 s"]
    async fn a_peer_that_answers_no_ping_is_given_up() {
        let plugin = Plugin::start(open_service());
        let mut hung = plugin.connect().await;
        hung.write_all(GREETING).await.unwrap();
        let start = Instant::now();
        while timeout(3 * SOON, hung.readable()).await.is_ok() && !matches!(hung.try_read(&mut [0; 999]), Ok(0)) {}
        assert!(start.elapsed() >= KEEP_ALIVE.0 + KEEP_ALIVE.1);
    }

    #[tokio::test]
    async fn what_is_not_http2_is_closed() {
        let log = Log::start();
        let plugin = Plugin::start(open_service());
        let mut stream = plugin.connect().await;
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        closed(&mut stream).await;
        assert_eq!(log.lines_with("connection broken").len(), 1);
        assert!(is_well(&plugin).await);
    }

    #[tokio::test]
    async fn a_refused_peer_is_told_so_for_every_call() {
        let log = Log::start();
        let service = open_service();
        let plugin = Plugin::start_for(Arc::clone(&service), Peers(BTreeSet::new()));
        let mut client = plugin.client().await;
        let refused = client.status(StatusRequest {}).await.unwrap_err();
        assert_eq!((refused.code(), refused.message()), (Code::PermissionDenied, "peer refused"));
        let request = EncryptRequest { plaintext: vec![1; 32], uid: String::new() };
        assert_eq!(client.encrypt(request).await.unwrap_err().code(), Code::PermissionDenied);
        counted(&service, r#"claviger_calls_total{method="Status",code="PERMISSION_DENIED"} 1"#).await;
        counted(&service, r#"claviger_connections_total{result="peer_refused"} 1"#).await;
        let ours = format!("peer refused peer_uid={}", rustix::process::geteuid().as_raw());
        assert_eq!(log.lines_with(&ours).len(), 1);
    }

    #[tokio::test]
    async fn refused_peers_are_few_and_do_not_stay() {
        let log = Log::start();
        let plugin = Plugin::start_for(open_service(), Peers(BTreeSet::new()));
        let (mut first, mut second, mut third) =
            (plugin.connect().await, plugin.connect().await, plugin.connect().await);
        first.write_all(GREETING).await.unwrap();
        let start = Instant::now();
        closed(&mut third).await;
        assert_eq!(log.lines_with("peer refused").len(), REFUSED_PLACES);
        tokio::join!(closed(&mut first), closed(&mut second));
        assert!(start.elapsed() < SOON);
    }

    #[tokio::test]
    async fn refused_peers_take_no_place_of_the_others() {
        let (_close, closing) = watch::channel(());
        let peers = Peers(BTreeSet::new());
        let mut door = Door::new(open_service(), peers, closing);
        for _ in 0..2 * PLACES {
            door.admit(UnixStream::pair().unwrap().0);
        }
        assert_eq!((door.guests.len(), door.refused.len()), (0, REFUSED_PLACES));
        door.peers = Peers::new([]);
        door.admit(UnixStream::pair().unwrap().0);
        assert_eq!(door.guests.len(), 1);
    }

    #[tokio::test]
    async fn a_shutdown_answers_what_is_in_flight() {
        let mut plugin = Plugin::start(open_service());
        let (feed, call) = begin_status(plugin.channel(endpoint()).await);
        feed.send(HALF).unwrap();
        assert!(is_well(&plugin).await);
        plugin.stop();
        while plugin.path.exists() {
            sleep(Duration::from_millis(5)).await;
        }
        assert!(matches!(probe(&plugin.address, SOON).await, Err(ProbeError::Absent)));
        feed.send(WHOLE.slice(HALF.len()..)).unwrap();
        drop(feed);
        let response = call.await;
        assert!(refusal(&response).is_none(), "{:?}", response.headers());
        assert_eq!(plugin.end().await, Drained::Complete);
    }

    #[tokio::test]
    async fn a_shutdown_waits_for_nobody_who_says_nothing() {
        let plugin = Plugin::start(open_service());
        let start = Instant::now();
        let (_silent, _idle) = (plugin.connect().await, plugin.client().await);
        assert!(is_well(&plugin).await);
        assert_eq!(plugin.end().await, Drained::Complete);
        assert!(start.elapsed() < PREFACE_TIMEOUT);
    }

    #[tokio::test]
    async fn a_shutdown_cuts_off_who_does_not_let_go() {
        let plugin = Plugin::start(open_service());
        let mut hung = plugin.connect().await;
        hung.write_all(GREETING).await.unwrap();
        assert!(is_well(&plugin).await);
        assert_eq!(plugin.end().await, Drained::Cut(1));
    }

    #[tokio::test]
    async fn accepting_goes_on_after_every_failure_and_warns_once() {
        let log = Log::start();
        let metrics = Metrics::default();
        let failures = [Errno::MFILE, Errno::NFILE, Errno::CONNABORTED, Errno::NOMEM, Errno::MFILE];
        let mut warnings = Quota::new(QUIET);
        for _ in 0..2 {
            let turns = failures.iter().map(|error| Err((*error).into())).chain([Ok(7)]);
            let turns = std::cell::RefCell::new(turns);
            let accepted = persist(|| std::future::ready(turns.borrow_mut().next().unwrap()), &mut warnings, &metrics);
            assert_eq!(timeout(SOON, accepted).await.unwrap(), 7);
        }
        assert!(metrics.exposition(None).unwrap().contains("claviger_accept_failures_total 10\n"));
        let lines = log.lines_with("cannot accept connections, still trying");
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].contains("WARN") && lines[0].contains("Too many open files"), "{lines:?}");
    }

    /// RUSTSEC-2024-0376: an error of accept ended the loop, and with it the plugin.
    #[test]
    fn a_plugin_without_descriptors_comes_back() {
        const SOCKET: &str = "CLAVIGER_TEST_SOCKET";
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        if let Ok(socket) = env::var(SOCKET) {
            return runtime.block_on(serve_with_few_descriptors(&socket.parse().unwrap()));
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kms.sock");
        let test = "grpc::server::tests::a_plugin_without_descriptors_comes_back";
        let mut plugin = Process::start(test, SOCKET, &path);
        let mut log = BufReader::new(plugin.0.stderr.take().unwrap()).lines().map(Result::unwrap);
        log.find(|line| line.contains("ready")).unwrap();
        let crowd: Vec<_> = (0..PLACES).map(|_| std::os::unix::net::UnixStream::connect(&path).unwrap()).collect();
        log.find(|line| line.contains("cannot accept connections, still trying")).unwrap();
        drop(crowd);
        assert_eq!(runtime.block_on(probe(&Address::Path(path), SOON)).unwrap().healthz, "ok");
    }

    async fn serve_with_few_descriptors(address: &Address) {
        tracing_subscriber::fmt().with_writer(io::stderr).with_ansi(false).init();
        let listener = socket::bind(address, socket::Access::default()).unwrap();
        let used = std::fs::read_dir("/proc/self/fd").unwrap().count() as u64;
        let mut limit = rustix::process::getrlimit(Resource::Nofile);
        limit.current = Some(used + 6);
        rustix::process::setrlimit(Resource::Nofile, limit).unwrap();
        warn!("ready");
        serve(listener, open_service(), Peers::new([]), std::future::pending()).await.unwrap();
    }
}
