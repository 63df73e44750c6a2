//! Accepts or refuses peers, limits how many are served at a time, and waits for their calls at the end.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    net::{UnixListener, UnixStream, unix::UCred},
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};
use tracing::warn;

use super::{connection::serve_connection, peers::Peers};
use crate::{
    grpc::calls::Calls,
    service::{Connection, Peer, Service},
    telemetry::{event, metrics::OpenConnection, quota::Quota},
};

/// The greatest number of connections of allowed peers. An API server has one for each of its provider entries.
pub(super) const CONNECTIONS_MAX: usize = 16;

/// The greatest number of connections of refused peers, in addition to the others.
const REFUSED_MAX: usize = 2;

/// How long a refused connection may last, and how long its place stays taken.
const REFUSED_STAY: Duration = Duration::from_secs(2);

/// How long a shutdown waits for the calls in flight.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the replaced plugin still accepts connections. A peer that had found its socket before the rename has
/// connected by then.
const LAST_CONNECTIONS: Duration = Duration::from_millis(100);

/// The time between two lines in the log about missing places or file descriptors.
pub(super) const QUIET: Duration = Duration::from_mins(1);

/// The outcome of a shutdown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drained {
    /// Every call in flight was answered.
    Complete,
    /// This many connections did not end in time and were cut off.
    Cut(usize),
}

/// Admits connections, and holds the tasks that serve them.
pub(super) struct Acceptor {
    pub(super) service: Arc<Service>,
    peers: Peers,
    closing: watch::Receiver<()>,
    connections: JoinSet<()>,
    refused: JoinSet<()>,
    full: Quota,
    unknown: Quota,
}

impl Acceptor {
    /// Returns an acceptor without connections. Its connections end when the sender of `closing` is dropped.
    pub(super) fn new(service: Arc<Service>, peers: Peers, closing: watch::Receiver<()>) -> Self {
        let (connections, refused) = (JoinSet::new(), JoinSet::new());
        Self { service, peers, closing, connections, refused, full: Quota::new(QUIET), unknown: Quota::new(QUIET) }
    }

    /// Serves the peer, or refuses it.
    pub(super) fn admit(&mut self, stream: UnixStream) {
        match stream.peer_cred() {
            Ok(peer) if self.peers.admit(peer.uid()) => self.serve_peer(stream, peer),
            Ok(peer) => self.refuse_peer(stream, peer),
            Err(error) => {
                self.service.metrics().peer_refused();
                if let Some(left_out) = self.unknown.take(Instant::now()) {
                    warn!(message = event::PEER_UNKNOWN, %error, left_out);
                }
            }
        }
    }

    /// Admits the peers that had found the socket before it was replaced.
    pub(super) async fn admit_last(&mut self, listener: &UnixListener) {
        while let Ok(Ok((stream, _))) = timeout(LAST_CONNECTIONS, listener.accept()).await {
            self.admit(stream);
        }
    }

    /// Serves an allowed peer. If there are as many connections as allowed, closes this one. If it stayed open, the
    /// kernel's queue would fill.
    fn serve_peer(&mut self, stream: UnixStream, peer: UCred) {
        if !has_room(&mut self.connections, CONNECTIONS_MAX) {
            self.service.metrics().refused_for_room();
            if let Some(left_out) = self.full.take(Instant::now()) {
                let (uid, pid) = (peer.uid(), peer.pid());
                warn!(message = event::TOO_MANY, peer_uid = uid, peer_pid = pid, left_out);
            }
            return;
        }
        let calls =
            Calls::new(Connection::new(Arc::clone(&self.service), Peer { uid: peer.uid(), pid: visible(peer.pid()) }));
        let counted = self.service.metrics().accepted();
        let served = serve_connection(stream, Some(calls), Arc::clone(&self.service), self.closing.clone());
        self.connections.spawn(serve_counted(counted, served));
    }

    /// Refuses a peer. Its place stays taken for a while even if it leaves at once, so that it cannot flood the log.
    fn refuse_peer(&mut self, stream: UnixStream, peer: UCred) {
        self.service.metrics().peer_refused();
        if !has_room(&mut self.refused, REFUSED_MAX) {
            return;
        }
        warn!(message = event::PEER_REFUSED, peer_uid = peer.uid(), peer_pid = peer.pid());
        let refusing =
            timeout(REFUSED_STAY, serve_connection(stream, None, Arc::clone(&self.service), self.closing.clone()));
        self.refused.spawn(async { _ = tokio::join!(refusing, sleep(REFUSED_STAY)) });
    }

    /// Waits until the allowed peers have left. The connections of refused peers end with the acceptor.
    pub(super) async fn drain(mut self) -> Drained {
        let left = async { while self.connections.join_next().await.is_some() {} };
        match timeout(DRAIN_TIMEOUT, left).await {
            Ok(()) => Drained::Complete,
            Err(_) => Drained::Cut(self.connections.len()),
        }
    }
}

/// Forgets the tasks that have ended. Returns whether fewer than `most` are left.
fn has_room(tasks: &mut JoinSet<()>, most: usize) -> bool {
    while tasks.try_join_next().is_some() {}
    tasks.len() < most
}

/// Counts a connection while it is served, even if it is cut off.
async fn serve_counted(_counted: OpenConnection, served: impl Future<Output = ()>) {
    served.await;
}

/// Returns the process of a peer. The kernel gives 0 for a process that the plugin's PID namespace does not show.
fn visible(pid: Option<i32>) -> Option<i32> {
    pid.filter(|pid| *pid > 0)
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tonic::Code;

    use super::*;
    use crate::{
        grpc::api::{EncryptRequest, StatusRequest},
        listen::testing::{CapturedLog, GREETING, Plugin, SOON, closed, counted, is_well},
        probe::{ProbeError, probe},
        service::testing::open_service,
    };

    #[test]
    fn a_process_in_another_namespace_is_unknown() {
        assert_eq!([Some(7), Some(0), None].map(visible), [Some(7), None, None]);
    }

    #[tokio::test]
    async fn a_seventeenth_connection_is_closed_and_the_others_go_on() {
        let log = CapturedLog::start();
        let service = open_service();
        let plugin = Plugin::start(Arc::clone(&service));
        let mut clients = Vec::new();
        for _ in 0..CONNECTIONS_MAX {
            let mut client = plugin.client().await;
            client.status(StatusRequest {}).await.unwrap();
            clients.push(client);
        }
        assert!(matches!(probe(&plugin.address, None, SOON).await, Err(ProbeError::Closed(_))));
        assert_eq!(log.lines_with("connection closed: too many connections").len(), 1);
        counted(&service, r#"claviger_connections_total{result="no_place"} 1"#).await;
        counted(&service, "claviger_connections 16").await;
        clients[0].status(StatusRequest {}).await.unwrap();
        clients.pop();
        let retry = async { while !is_well(&plugin).await {} };
        timeout(SOON, retry).await.unwrap();
    }

    #[tokio::test]
    async fn every_call_of_a_refused_peer_gets_the_refusal() {
        let log = CapturedLog::start();
        let service = open_service();
        let plugin = Plugin::start_for(Arc::clone(&service), Peers::nobody());
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
        let log = CapturedLog::start();
        let plugin = Plugin::start_for(open_service(), Peers::nobody());
        let (mut first, mut second, mut third) =
            (plugin.connect().await, plugin.connect().await, plugin.connect().await);
        first.write_all(GREETING).await.unwrap();
        let start = Instant::now();
        closed(&mut third).await;
        assert_eq!(log.lines_with("peer refused").len(), REFUSED_MAX);
        tokio::join!(closed(&mut first), closed(&mut second));
        assert!(start.elapsed() < SOON);
    }

    #[tokio::test]
    async fn refused_peers_take_no_place_of_the_others() {
        let (_close, closing) = watch::channel(());
        let peers = Peers::nobody();
        let mut acceptor = Acceptor::new(open_service(), peers, closing);
        for _ in 0..2 * CONNECTIONS_MAX {
            acceptor.admit(UnixStream::pair().unwrap().0);
        }
        assert_eq!((acceptor.connections.len(), acceptor.refused.len()), (0, REFUSED_MAX));
        acceptor.peers = Peers::new([]);
        acceptor.admit(UnixStream::pair().unwrap().0);
        assert_eq!(acceptor.connections.len(), 1);
    }
}
