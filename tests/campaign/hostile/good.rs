//! The good client: it calls as an API server does, all the time, and notices everything.

use std::{
    future::{Ready, ready},
    io,
    os::unix::net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use hyper_util::rt::TokioIo;
use tokio::{
    net::UnixStream,
    runtime::Runtime,
    time::{sleep, timeout},
};
use tonic::transport::{Channel, Endpoint, Uri};

use self::api::{
    DecryptRequest, EncryptRequest, StatusRequest, key_management_service_client::KeyManagementServiceClient,
};

/// The code that `build.rs` makes of `proto/kms-v2.proto`.
#[allow(dead_code, clippy::pedantic, reason = "generated")]
pub(crate) mod api {
    tonic::include_proto!("v2");
}

/// The time that an API server waits for one call and for its connection.
const DEADLINE: Duration = Duration::from_secs(3);

/// The time after which an API server connects again.
const BACK_OFF: Duration = Duration::from_secs(1);

/// The pause between two rounds of calls. It is short enough to notice anything, and leaves the processor to the
/// attack.
const PAUSE: Duration = Duration::from_millis(2);

/// The number of rounds on the old connection for each round on a new one.
const ROUNDS_PER_FRESH: u64 = 25;

/// A thread that calls until the campaign stops it.
pub(super) struct GoodClient {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Report, String>>,
}

/// The observations of a client that noticed nothing wrong.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) calls: u64,
    pub(super) fresh: u64,
    /// The number of new connections that were closed at first.
    pub(super) retries: u64,
    /// The number of attempts for which the kernel's queue had no room.
    pub(super) queue_full: u64,
    pub(super) slowest: Duration,
    pub(super) slowest_fresh: Duration,
}

impl GoodClient {
    /// Calls over one connection, and now and then over a new one.
    pub(super) fn start(address: &SocketAddr) -> Self {
        Self::spawn(address, true)
    }

    /// Calls over one connection only, for attacks that take all other places.
    pub(super) fn start_on_one_connection(address: &SocketAddr) -> Self {
        Self::spawn(address, false)
    }

    fn spawn(address: &SocketAddr, freshly: bool) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (address, stopped) = (address.clone(), Arc::clone(&stop));
        // The client connects before the attack begins, so that it has a place.
        let runtime = runtime();
        let channel = runtime.block_on(connect(&address)).unwrap();
        let thread = thread::spawn(move || runtime.block_on(work(channel, address, freshly, stopped)));
        Self { stop, thread }
    }

    /// Ends the client, and fails if it noticed anything wrong.
    pub(super) fn finish(self) -> Report {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap().unwrap_or_else(|noticed| panic!("the good client noticed: {noticed}"))
    }
}

pub(crate) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

async fn work(channel: Channel, address: SocketAddr, freshly: bool, stop: Arc<AtomicBool>) -> Result<Report, String> {
    let mut report = Report::default();
    for round in 1.. {
        call_all(&channel, round, &mut report).await.map_err(|noticed| format!("{noticed}, in round {round}"))?;
        if freshly && round % ROUNDS_PER_FRESH == 0 {
            afresh(&address, round, &mut report)
                .await
                .map_err(|noticed| format!("{noticed}, on a new connection in round {round}"))?;
        }
        if stop.load(Ordering::Relaxed) {
            break;
        }
        sleep(PAUSE).await;
    }
    Ok(report)
}

/// Connects as an API server does: it tries again, and within the time limit of the call that waits for the connection.
async fn afresh(address: &SocketAddr, round: u64, report: &mut Report) -> Result<(), String> {
    let start = Instant::now();
    let got_in = async {
        loop {
            match served(address).await {
                Ok(channel) => return channel,
                // Any user of the node can fill the kernel's queue of an abstract name; that takes nobody's place.
                // A queue empties in a moment: to look a few times only would test luck.
                Err(error) if error.contains("Resource temporarily unavailable") => {
                    report.queue_full += 1;
                    sleep(PAUSE).await;
                }
                Err(_) => {
                    report.retries += 1;
                    sleep(BACK_OFF).await;
                }
            }
        }
    };
    let channel = timeout(DEADLINE, got_in).await.map_err(|_| format!("no place within {DEADLINE:?}"))?;
    report.slowest_fresh = report.slowest_fresh.max(start.elapsed());
    report.fresh += 1;
    call_all(&channel, round, report).await
}

/// Calls Status, Encrypt and Decrypt, and checks that their answers agree.
async fn call_all(channel: &Channel, round: u64, report: &mut Report) -> Result<(), String> {
    let mut client = KeyManagementServiceClient::new(channel.clone());
    let status = in_time("Status", client.status(StatusRequest {}), report).await?;
    let seed = round.to_be_bytes().repeat(4);
    let request = EncryptRequest { plaintext: seed.clone(), uid: "good".to_owned() };
    let wrapped = in_time("Encrypt", client.encrypt(request), report).await?;
    let request = DecryptRequest {
        ciphertext: wrapped.ciphertext,
        uid: "good".to_owned(),
        key_id: wrapped.key_id.clone(),
        ..DecryptRequest::default()
    };
    let plaintext = in_time("Decrypt", client.decrypt(request), report).await?.plaintext;
    let agree = status.healthz == "ok" && status.key_id == wrapped.key_id && plaintext == seed;
    if agree { Ok(()) } else { Err(format!("answers that do not agree: {status:?}, {}", wrapped.key_id)) }
}

async fn in_time<T>(
    name: &str,
    call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    report: &mut Report,
) -> Result<T, String> {
    let start = Instant::now();
    let answer = timeout(DEADLINE, call).await.map_err(|_| format!("{name} took longer than {DEADLINE:?}"))?;
    report.calls += 1;
    report.slowest = report.slowest.max(start.elapsed());
    answer.map(tonic::Response::into_inner).map_err(|status| format!("{name} failed: {status:?}"))
}

/// Returns a new connection, on which one call was answered.
pub(super) async fn served(address: &SocketAddr) -> Result<Channel, String> {
    let channel = connect(address).await?;
    let answer = KeyManagementServiceClient::new(channel.clone()).status(StatusRequest {}).await;
    answer.map(|_| channel).map_err(|status| format!("{status:?}"))
}

/// Returns a connection that speaks HTTP/2.
pub(crate) async fn connect(address: &SocketAddr) -> Result<Channel, String> {
    use std::os::linux::net::SocketAddrExt;
    let stream = match (address.as_pathname(), address.as_abstract_name()) {
        (Some(path), _) => UnixStream::connect(path).await,
        (_, name) => UnixStream::connect(format!("\0{}", String::from_utf8_lossy(name.unwrap()))).await,
    };
    let stream = stream.map_err(|error| error.to_string())?;
    let endpoint = Endpoint::from_static("http://localhost");
    endpoint.connect_with_connector(Lent(Some(TokioIo::new(stream)))).await.map_err(|error| format!("{error:?}"))
}

/// A connector that returns one existing connection.
struct Lent(Option<TokioIo<UnixStream>>);

impl tonic::codegen::Service<Uri> for Lent {
    type Response = TokioIo<UnixStream>;
    type Error = io::Error;
    type Future = Ready<io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        ready(self.0.take().ok_or_else(|| io::ErrorKind::NotConnected.into()))
    }
}
