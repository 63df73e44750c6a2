//! Accepts connections until a shutdown, and looks after the socket meanwhile.
//!
//! Every connection has its own [`Connection`](crate::service::Connection), which remembers the key that Status
//! announced there. This, and an accept loop that no error ends (RUSTSEC-2024-0376), is why hyper runs here in our own
//! loop instead of tonic's server. Invariant: no peer takes more than its share, however it behaves, and refused peers
//! take nothing from the others.

use std::{
    future::Future,
    io,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    net::UnixListener,
    sync::watch,
    time::{MissedTickBehavior, interval, sleep},
};
use tracing::{error, info, warn};

use super::{
    acceptor::{Acceptor, Drained, QUIET},
    bind::Listener,
    claim::{Claim, SocketFate},
    peers::Peers,
};
use crate::{
    service::Service,
    telemetry::{advice, event, metrics::Metrics, quota::Quota},
};

/// The time between two checks of our socket.
const WATCH: Duration = Duration::from_secs(1);

/// How long the accept loop sleeps after a failure. Most likely, the process has no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves `peers` on `listener` until `shutdown`, or until another plugin has taken the socket over. Then it closes the
/// socket, answers the calls in flight, and returns.
///
/// # Errors
/// When the event loop cannot take the socket. After that, no failure ends it.
pub async fn serve(
    listener: Listener,
    service: Arc<Service>,
    peers: Peers,
    shutdown: impl Future<Output = ()>,
) -> io::Result<Drained> {
    let (mut listener, mut claim) = listener.into_tokio()?;
    let (close, closing) = watch::channel(());
    let mut acceptor = Acceptor::new(service, peers, closing);
    let mut shutdown = pin!(shutdown);
    let mut watch = interval(WATCH);
    watch.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // These are kept between iterations, because checking the socket cancels a pending `accept`.
    let (mut accept_warnings, mut lost) = (Quota::new(QUIET), false);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            (stream, _) = accept_again(|| listener.accept(), &mut accept_warnings, acceptor.service.metrics()) => acceptor.admit(stream),
            _ = watch.tick() => match claim.as_mut().map_or(SocketFate::There, Claim::restore_socket) {
                SocketFate::There => {}
                SocketFate::Gone => restore(&mut claim, &mut listener, &mut lost),
                SocketFate::Replaced => {
                    info!(message = event::SOCKET_REPLACED);
                    acceptor.admit_last(&listener).await;
                    break;
                }
            }
        }
    }
    drop((claim, listener, close));
    Ok(acceptor.drain().await)
}

/// Makes the socket again at the same path. If that fails, the old socket stays, and the next check tries again.
fn restore(claim: &mut Option<Claim>, listener: &mut UnixListener, lost: &mut bool) {
    match claim.as_mut().map(Claim::restore) {
        Some(Ok(restored)) => {
            warn!(message = event::SOCKET_RESTORED);
            (*listener, *lost) = (restored, false);
        }
        Some(Err(error)) if !*lost => {
            error!(message = event::SOCKET_LOST, %error, advice = advice::SOCKET_LOST);
            *lost = true;
        }
        Some(Err(_)) | None => {}
    }
}

/// Repeats `accept` until it succeeds.
async fn accept_again<T, F: Future<Output = io::Result<T>>>(
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
            error!(message = event::NOT_ACCEPTING, %error, left_out, advice = advice::NOT_ACCEPTING);
        }
        sleep(ACCEPT_PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use std::{
        env,
        io::{BufRead, BufReader},
    };

    use rustix::{io::Errno, process::Resource};
    use tokio::{io::AsyncWriteExt, time::timeout};

    use super::*;
    use crate::{
        listen::{
            self, Access, Address,
            acceptor::CONNECTIONS_MAX,
            connection::PREFACE_TIMEOUT,
            testing::{
                CapturedLog, GREETING, HALF, Plugin, Process, SOON, WHOLE, begin_status, endpoint, is_well, refusal,
            },
        },
        probe::{ProbeError, probe},
        service::testing::open_service,
    };

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
        assert!(matches!(probe(&plugin.address, None, SOON).await, Err(ProbeError::Absent)));
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
        let log = CapturedLog::start();
        let metrics = Metrics::default();
        let failures = [Errno::MFILE, Errno::NFILE, Errno::CONNABORTED, Errno::NOMEM, Errno::MFILE];
        let mut warnings = Quota::new(QUIET);
        for _ in 0..2 {
            let turns = failures.iter().map(|error| Err((*error).into())).chain([Ok(7)]);
            let turns = std::cell::RefCell::new(turns);
            let accepted =
                accept_again(|| std::future::ready(turns.borrow_mut().next().unwrap()), &mut warnings, &metrics);
            assert_eq!(timeout(SOON, accepted).await.unwrap(), 7);
        }
        #[cfg(feature = "metrics")]
        assert!(metrics.exposition(None).unwrap().contains("claviger_accept_failures_total 10\n"));
        let lines = log.lines_with("cannot accept connections, still trying");
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].contains("ERROR") && lines[0].contains("Too many open files"), "{lines:?}");
    }

    /// In RUSTSEC-2024-0376, an error of accept ended the loop, and so the program.
    #[test]
    fn a_plugin_without_descriptors_comes_back() {
        const SOCKET: &str = "CLAVIGER_TEST_SOCKET";
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        if let Ok(socket) = env::var(SOCKET) {
            return runtime.block_on(serve_with_few_descriptors(&socket.parse().unwrap()));
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kms.sock");
        let test = "listen::server::tests::a_plugin_without_descriptors_comes_back";
        let mut plugin = Process::start(test, SOCKET, &path);
        let mut log = BufReader::new(plugin.0.stderr.take().unwrap()).lines().map(Result::unwrap);
        log.find(|line| line.contains("ready")).unwrap();
        let crowd: Vec<_> =
            (0..CONNECTIONS_MAX).map(|_| std::os::unix::net::UnixStream::connect(&path).unwrap()).collect();
        log.find(|line| line.contains("cannot accept connections, still trying")).unwrap();
        drop(crowd);
        assert_eq!(runtime.block_on(probe(&Address::Path(path), None, SOON)).unwrap().healthz, "ok");
    }

    async fn serve_with_few_descriptors(address: &Address) {
        tracing_subscriber::fmt().with_writer(io::stderr).with_ansi(false).init();
        let listener = listen::bind(address, Access::default()).unwrap();
        let used = std::fs::read_dir("/proc/self/fd").unwrap().count() as u64;
        let mut limit = rustix::process::getrlimit(Resource::Nofile);
        limit.current = Some(used + 6);
        rustix::process::setrlimit(Resource::Nofile, limit).unwrap();
        warn!("ready");
        serve(listener, open_service(), Peers::new([]), std::future::pending()).await.unwrap();
    }
}
