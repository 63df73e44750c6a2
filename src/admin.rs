//! Serves metrics and health over HTTP/1.1 to the operators of the node: `/metrics`, `/livez`, `/readyz`.
//!
//! The server is off by default. It runs as a task of its own, so its failures do not end the plugin. If it cannot bind
//! its address, it tries again for ever. It changes nothing and authenticates nobody, so only this machine can reach it
//! ([`MetricsAddress`]). Invariants: `/livez` says only that the event loop runs; a connection carries one request, and
//! the number and the duration of connections are limited.

use std::{
    convert::Infallible, fmt::Display, future::ready, io, net::SocketAddr, os::fd::AsFd, path::PathBuf, sync::Arc,
    time::Duration,
};

use hyper::{
    Method, Request, Response, StatusCode,
    header::{ALLOW, CONTENT_TYPE, HeaderValue},
    server::conn::http1::Builder,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpSocket},
    task::JoinSet,
    time::{sleep, timeout},
};
use tracing::{debug, error, info};

use crate::{
    config::MetricsAddress,
    listen::{self, Access, Address},
    service::{Health, Healthz, Service},
    telemetry::{advice, event, metrics},
};

/// The greatest number of connections at a time. Further ones wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 8;

/// The length of the kernel's queue of connections that are not accepted yet.
const BACKLOG: i32 = 128;

/// The time limit from connecting to the end of the request's headers.
const HEADERS_TIMEOUT: Duration = Duration::from_secs(5);

/// The time limit from connecting to the end of the answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// The time between two attempts to bind the address.
const RETRY: Duration = Duration::from_secs(10);

/// How long the accept loop sleeps after a failure.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// The greatest length of a request in bytes. hyper accepts no smaller limit.
const REQUEST_LIMIT: usize = 8 * 1024;

const TEXT: &str = "text/plain; charset=utf-8";

/// The address at which metrics and health are served. It is made before the process confines itself, because the
/// process can make no network socket afterwards.
pub enum AdminSocket {
    /// A port, with its socket, which is not bound yet.
    Port(SocketAddr, TcpSocket),
    /// The path of a Unix socket, which is made later.
    Path(PathBuf),
}

impl AdminSocket {
    /// Makes the socket for `address`, if it is a port. If the system has no such network, it logs that and returns
    /// `None`.
    pub fn prepare(address: &MetricsAddress) -> Option<Self> {
        match address {
            MetricsAddress::Loopback(at) => match tcp_socket(at) {
                Ok(socket) => Some(Self::Port(*at, socket)),
                Err(error) => {
                    error!(message = event::METRICS_MISSING, %address, %error, advice = advice::METRICS_MISSING);
                    None
                }
            },
            MetricsAddress::Socket(path) => Some(Self::Path(path.clone())),
        }
    }

    /// Serves metrics and health of `service` for as long as it is polled.
    pub async fn serve(self, service: Arc<Service>) {
        match self {
            Self::Port(at, socket) => {
                let listener = bind_again(&at, || ready(bind_port(&socket, &at))).await;
                // If the port is 0, the kernel has chosen one.
                log_listening(&listener.local_addr().unwrap_or(at));
                serve(|| async { Ok(listener.accept().await?.0) }, &service).await;
            }
            Self::Path(path) => {
                let bind = || ready(bind(&Address::Path(path.clone())));
                let (listener, _claim) = bind_again(&path.display(), bind).await;
                log_listening(&path.display());
                serve(|| async { Ok(listener.accept().await?.0) }, &service).await;
            }
        }
    }
}

/// Makes a socket that is bound to the loopback device. Nothing can reach it over a network, even if a later call binds
/// it to another address, or if it listens before it is bound.
fn tcp_socket(at: &SocketAddr) -> io::Result<TcpSocket> {
    let socket = if at.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind_device(Some(b"lo"))?;
    Ok(socket)
}

fn bind_port(socket: &TcpSocket, at: &SocketAddr) -> io::Result<TcpListener> {
    socket.bind(*at)?;
    rustix::net::listen(socket, BACKLOG)?;
    TcpListener::from_std(socket.as_fd().try_clone_to_owned()?.into())
}

fn bind(path: &Address) -> io::Result<(tokio::net::UnixListener, impl Sized + use<>)> {
    listen::bind(path, Access::default()).map_err(io::Error::other)?.into_tokio()
}

fn log_listening(address: &impl Display) {
    info!(message = event::METRICS_LISTENING, %address);
}

/// Repeats `bind` until it succeeds, and logs the first failure.
async fn bind_again<T, F: Future<Output = io::Result<T>>>(address: &impl Display, bind: impl Fn() -> F) -> T {
    let mut warned = false;
    loop {
        match bind().await {
            Ok(bound) => return bound,
            Err(error) if !warned => {
                error!(message = event::METRICS_WAITING, %address, %error, advice = advice::METRICS_WAITING);
            }
            Err(_) => {}
        }
        warned = true;
        sleep(RETRY).await;
    }
}

/// Serves every connection, a few at a time.
async fn serve<S, F>(accept: impl Fn() -> F, service: &Arc<Service>)
where
    F: Future<Output = io::Result<S>>,
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        while connections.len() >= CONNECTIONS_MAX {
            connections.join_next().await;
        }
        match accept().await {
            Ok(stream) => drop(connections.spawn(timeout(REQUEST_TIMEOUT, converse(stream, Arc::clone(service))))),
            Err(error) => {
                debug!(message = event::METRICS_NOT_ACCEPTING, %error);
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Answers the one request of a connection.
async fn converse(stream: impl AsyncRead + AsyncWrite + Unpin, service: Arc<Service>) {
    let service = service_fn(|request| ready(Ok::<_, Infallible>(answer(&request, &service))));
    let mut http = Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEADERS_TIMEOUT).keep_alive(false).max_buf_size(REQUEST_LIMIT);
    if let Err(error) = http.serve_connection(TokioIo::new(stream), service).await {
        debug!(message = event::METRICS_BROKEN, %error);
    }
}

fn answer<B>(request: &Request<B>, service: &Service) -> Response<String> {
    let route: fn(&Service) -> Response<String> = match request.uri().path() {
        "/metrics" => metrics,
        "/livez" => |_| text(StatusCode::OK, "ok"),
        "/readyz" => readyz,
        _ => |_| text(StatusCode::NOT_FOUND, "not found: there are /metrics, /livez and /readyz"),
    };
    if [Method::GET, Method::HEAD].contains(request.method()) {
        return route(service);
    }
    let mut refused = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are served");
    refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    refused
}

fn metrics(service: &Service) -> Response<String> {
    match service.metrics().exposition(service.keyring()) {
        Ok(exposition) => typed(StatusCode::OK, metrics::CONTENT_TYPE, exposition),
        Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "internal error"),
    }
}

/// Whether calls would succeed: the keyring is open, and a round trip through the primary key just succeeded.
fn readyz(service: &Service) -> Response<String> {
    match service.health() {
        Ok(Health { healthz: Healthz::Ok, .. }) => text(StatusCode::OK, Healthz::Ok.as_str()),
        Ok(Health { healthz, .. }) => text(StatusCode::SERVICE_UNAVAILABLE, healthz.as_str()),
        Err(sealed) => text(StatusCode::SERVICE_UNAVAILABLE, &sealed.to_string()),
    }
}

fn text(status: StatusCode, body: &str) -> Response<String> {
    typed(status, TEXT, body.to_owned())
}

fn typed(status: StatusCode, content_type: &'static str, body: String) -> Response<String> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_of_the_loopback_device_alone() {
        for at in ["127.0.0.1:0", "[::1]:0"] {
            match tcp_socket(&at.parse().unwrap()) {
                Ok(socket) => assert_eq!(socket.device().unwrap().as_deref(), Some(&b"lo"[..]), "{at}"),
                Err(error) => assert!(at.starts_with('['), "{error}"),
            }
        }
    }
}
