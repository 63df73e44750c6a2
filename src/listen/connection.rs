//! Serves one connection: waits for its HTTP/2 preface, limits its calls, and ends it.

use std::{io, pin::pin, sync::Arc, time::Duration};

use hyper::{rt::Executor, server::conn::http2::Builder, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite},
    net::UnixStream,
    sync::watch,
    time::timeout,
};
use tracing::debug;

use super::call::answer;
use crate::{grpc::calls::Calls, service::Service, telemetry::event};

/// The time limit from connecting to the end of the HTTP/2 preface. An API server sends it at once. After that, a
/// connection may be idle for ever.
pub(super) const PREFACE_TIMEOUT: Duration = Duration::from_secs(5);

/// The time limit from a call's headers until the peer has read the answer.
const STREAM_TIMEOUT: Duration = Duration::from_secs(5);

/// The greatest number of calls at a time on one connection. In a storm of Decrypts, further calls wait at the client.
const STREAMS: u32 = 256;

/// The flow-control window of one call, in bytes. The largest message and its prefix fit, so no honest call waits for
/// an update.
const WINDOW: u32 = 128 * 1024;

/// The greatest length of one call's headers in bytes.
const HEADERS: u32 = 16 * 1024;

/// The time between two pings, and how long a peer may take to answer one.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(20));

/// Serves one connection until either side closes it. Without `calls`, every call is refused.
pub(super) async fn serve_connection(
    stream: UnixStream,
    calls: Option<Calls>,
    service: Arc<Service>,
    mut closing: watch::Receiver<()>,
) {
    let greeted = tokio::select! {
        greeted = timeout(PREFACE_TIMEOUT, greeted(stream)) => greeted,
        _ = closing.changed() => return,
    };
    let Ok(Ok(stream)) = greeted else { return debug!(message = event::NO_PREFACE) };
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
        debug!(message = event::BROKEN, %error);
    }
}

/// Reads the whole preface (RFC 9113, section 3.4), and puts it back for hyper, which has no time limit for it.
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

/// Runs each call as a task with a time limit. So a peer that never reads its answer holds nothing for ever.
#[derive(Clone)]
struct Streams;

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Streams {
    fn execute(&self, stream: F) {
        tokio::spawn(timeout(STREAM_TIMEOUT, stream));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use tokio::{io::AsyncWriteExt, task::JoinSet};

    use super::*;
    use crate::{
        grpc::api::{EncryptRequest, StatusRequest},
        listen::testing::{CapturedLog, GREETING, Plugin, SOON, WHOLE, begin_status, closed, endpoint, is_well},
        service::testing::open_service,
    };

    /// A client keeps to these limits by itself, because the server announces them first: 256 calls, window, headers.
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
    async fn a_silent_connection_is_closed_and_an_idle_one_is_kept() {
        let log = CapturedLog::start();
        let plugin = Plugin::start(open_service());
        let mut client = plugin.client().await;
        client.status(StatusRequest {}).await.unwrap();
        let (mut silent, mut slow) = (plugin.connect().await, plugin.connect().await);
        slow.write_all(&GREETING[..23]).await.unwrap();
        tokio::join!(closed(&mut silent), closed(&mut slow));
        assert_eq!(log.lines_with("connection closed: no HTTP/2 preface came in time").len(), 2);
        client.status(StatusRequest {}).await.unwrap();
    }

    #[tokio::test]
    #[ignore = "nightly: waits for 50 s"]
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
        let log = CapturedLog::start();
        let plugin = Plugin::start(open_service());
        let mut stream = plugin.connect().await;
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        closed(&mut stream).await;
        assert_eq!(log.lines_with("connection broken").len(), 1);
        assert!(is_well(&plugin).await);
    }
}
