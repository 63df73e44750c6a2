//! Who may come in, how many, and for how long: the accept loop and the limits of each connection.
//!
//! Every connection has a [`Connection`](crate::service::Connection) of its own, because the key that Status announced
//! is remembered for each. That, and an accept loop that nothing ends (RUSTSEC-2024-0376), is why this is hyper with
//! our own loop around it and not tonic's server. Invariant: no peer takes more than its share, however it behaves, and
//! those that are refused take nothing from the others.

use std::{collections::BTreeSet, convert::Infallible, future::Future, io, pin::pin, sync::Arc, time::Duration};

use hyper::server::conn::http2::Builder;
use hyper::{Request, Response, body::Incoming, rt::Executor, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::{UnixStream, unix::UCred};
use tokio::time::{sleep, timeout};
use tokio::{sync::watch, task::JoinSet};
use tonic::{Status, body::Body};
use tower_service::Service as _;
use tracing::{Instrument, debug, field::Empty, warn};

use super::{Api, MESSAGE_LIMIT, api::key_management_service_server::KeyManagementServiceServer, printable, socket};
use crate::service::Service;

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

/// How long the accept loop sleeps after a failure, which is most likely for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

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

/// Serves `peers` on `listener` until `shutdown`; then listens no more, answers what is in flight, and returns.
///
/// # Errors
/// When the runtime cannot take the socket. Once it listens, nothing but `shutdown` ends it.
pub async fn serve(
    listener: socket::Listener,
    service: Arc<Service>,
    peers: Peers,
    shutdown: impl Future<Output = ()>,
) -> io::Result<Drained> {
    let (listener, claim) = listener.into_tokio()?;
    let (close, closing) = watch::channel(());
    let mut door = Door { service, peers, closing, guests: JoinSet::new(), refused: JoinSet::new() };
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            (stream, _) = persist(async || listener.accept().await) => door.admit(stream),
        }
    }
    drop((claim, listener, close));
    Ok(door.drain().await)
}

/// Repeats `accept` until it succeeds, and warns once for all its failures until then.
async fn persist<T>(accept: impl AsyncFn() -> io::Result<T>) -> T {
    let mut warned = false;
    loop {
        match accept().await {
            Ok(accepted) => return accepted,
            Err(error) if !warned => warn!(%error, "cannot accept connections, still trying"),
            Err(_) => {}
        }
        warned = true;
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
}

impl Door {
    fn admit(&mut self, stream: UnixStream) {
        match stream.peer_cred() {
            Ok(peer) if self.peers.0.contains(&peer.uid()) => self.welcome(stream, peer),
            Ok(peer) => self.turn_away(stream, peer),
            Err(error) => warn!(%error, "connection closed: its peer is unknown"),
        }
    }

    /// Serves an allowed peer. Beyond the limit it is closed, not left waiting, where it would fill the backlog.
    fn welcome(&mut self, stream: UnixStream, peer: UCred) {
        if !has_room(&mut self.guests, PLACES) {
            warn!(peer_uid = peer.uid(), peer_pid = peer.pid(), "connection closed: all places are taken");
            return;
        }
        let calls = Calls::new(Api(self.service.connect()))
            .max_decoding_message_size(MESSAGE_LIMIT)
            .max_encoding_message_size(MESSAGE_LIMIT);
        self.guests.spawn(converse(stream, Some(calls), self.closing.clone()));
    }

    /// Tells a peer that it is refused. Its place stays taken if it leaves at once, so that it cannot flood the log.
    fn turn_away(&mut self, stream: UnixStream, peer: UCred) {
        if !has_room(&mut self.refused, REFUSED_PLACES) {
            return;
        }
        warn!(peer_uid = peer.uid(), peer_pid = peer.pid(), "peer refused");
        let told = timeout(REFUSED_STAY, converse(stream, None, self.closing.clone()));
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

/// Serves one connection until either side closes it. Without `calls`, each of them is refused.
async fn converse(stream: UnixStream, calls: Option<Calls>, mut closing: watch::Receiver<()>) {
    let greeted = tokio::select! {
        greeted = timeout(PREFACE_TIMEOUT, greeted(stream)) => greeted,
        _ = closing.changed() => return,
    };
    let Ok(Ok(stream)) = greeted else { return debug!("connection closed: it did not begin to speak HTTP/2") };
    let service = service_fn(|request| answer(calls.clone(), request));
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
async fn answer(calls: Option<Calls>, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let Some(mut calls) = calls else { return Ok(Status::permission_denied("peer refused").into_http()) };
    let method = request.uri().path().rsplit('/').next().map(printable);
    let span = tracing::error_span!("call", method, uid = Empty);
    let call = timeout(CALL_TIMEOUT, calls.call(request)).instrument(span.clone());
    let late = || Status::deadline_exceeded(format!("the call took longer than {CALL_TIMEOUT:?}")).into_http();
    let Ok(response) = call.await.unwrap_or_else(|_| Ok(late()));
    span.in_scope(|| record(&response));
    Ok(response)
}

fn record(response: &Response<Body>) {
    match response.extensions().get::<Status>() {
        None => debug!("call answered"),
        Some(status) => warn!(code = ?status.code(), reason = status.message(), "call failed"),
    }
}
