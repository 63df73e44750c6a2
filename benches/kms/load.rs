//! The two clients: grpc-go, as kube-apiserver has it, and tonic.

use std::{
    os::unix::net::UnixStream as Blocking,
    path::Path,
    process::Command,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{net::UnixStream, runtime::Builder, task::JoinSet};
use tonic::transport::{Channel, Endpoint, Uri};

use crate::{
    api::{DecryptRequest, EncryptRequest, StatusRequest, key_management_service_client::KeyManagementServiceClient},
    harness::{binaries::Program, commands::output_of_success, error::Result},
};

/// When to stop.
pub(crate) enum End {
    After(Duration),
    /// Of all callers together.
    Calls(u64),
}

/// What the callers of one client saw; times in microseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) calls: u64,
    pub(crate) seconds: f64,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

/// Calls from grpc-go over one connection.
pub(crate) fn from_go(socket: &Path, method: &str, callers: usize, end: &End) -> Result<Seen> {
    let mut command = Command::new(Program::KmsClient.path()?);
    command.args(["--round", method, "--callers", &callers.to_string()]).arg("--socket").arg(socket);
    match end {
        End::After(time) => command.args(["--seconds", &time.as_secs_f64().to_string()]),
        End::Calls(calls) => command.args(["--calls", &calls.to_string()]),
    };
    let printed = output_of_success(command, &[], Duration::from_mins(10))?;
    let report: Value = serde_json::from_slice(&printed).unwrap_or_default();
    let main = method.rsplit(',').next().unwrap_or(method);
    let (seen, number) = (&report["methods"][main], |value: &Value| value.as_f64().unwrap_or(f64::NAN));
    Ok(Seen {
        calls: seen["calls"].as_u64().unwrap_or(0),
        seconds: number(&report["seconds"]),
        p50: number(&seen["p50_us"]),
        p99: number(&seen["p99_us"]),
    })
}

/// Calls from tonic over one connection, on one thread.
pub(crate) fn from_rust(socket: &Path, method: &str, callers: usize, end: &End) -> Seen {
    let Ok(runtime) = Builder::new_current_thread().enable_all().build() else { return Seen::default() };
    runtime.block_on(async {
        let Ok(client) = connect(socket).await else { return Seen::default() };
        let times = Arc::new(Mutex::new(Vec::new()));
        let start = Instant::now();
        let mut tasks = JoinSet::new();
        for _ in 0..callers {
            let share = match end {
                End::After(time) => (*time, u64::MAX),
                End::Calls(calls) => (Duration::MAX, calls / callers as u64),
            };
            tasks.spawn(repeat(client.clone(), method.to_owned(), start, share, Arc::clone(&times)));
        }
        tasks.join_all().await;
        let seconds = start.elapsed().as_secs_f64();
        let mut times = times.lock().map(|mut times| std::mem::take(&mut *times)).unwrap_or_default();
        times.sort_unstable();
        let at = |share: usize| times.get(times.len() * share / 100).map_or(f64::NAN, |time| time.as_secs_f64() * 1e6);
        Seen { calls: times.len() as u64, seconds, p50: at(50), p99: at(99) }
    })
}

type Client = KeyManagementServiceClient<Channel>;

async fn repeat(
    mut client: Client,
    method: String,
    start: Instant,
    (time, calls): (Duration, u64),
    times: Arc<Mutex<Vec<Duration>>>,
) {
    let seed = EncryptRequest { plaintext: vec![7; 32], uid: "11111111-2222-3333-4444-555555555555".to_owned() };
    let Ok(wrapped) = client.encrypt(seed.clone()).await.map(tonic::Response::into_inner) else { return };
    let request = DecryptRequest {
        ciphertext: wrapped.ciphertext,
        uid: seed.uid.clone(),
        key_id: wrapped.key_id,
        annotations: wrapped.annotations,
    };
    let (mut own, mut made) = (Vec::new(), 0);
    while made < calls && start.elapsed() < time {
        let begin = Instant::now();
        let answered = match &*method {
            "Status" => client.status(StatusRequest {}).await.is_ok(),
            "Encrypt" => client.encrypt(seed.clone()).await.is_ok(),
            _ => client.decrypt(request.clone()).await.is_ok(),
        };
        if !answered {
            return;
        }
        own.push(begin.elapsed());
        made += 1;
    }
    if let Ok(mut times) = times.lock() {
        times.extend(own);
    }
}

/// Whether somebody answers Status there.
pub(crate) fn is_answered(socket: &Path) -> bool {
    if Blocking::connect(socket).is_err() {
        return false;
    }
    let Ok(runtime) = Builder::new_current_thread().enable_all().build() else { return false };
    runtime.block_on(async {
        let Ok(mut client) = connect(socket).await else { return false };
        client.status(StatusRequest {}).await.is_ok()
    })
}

async fn connect(socket: &Path) -> std::result::Result<Client, tonic::transport::Error> {
    let socket = socket.to_owned();
    let connector = tower::service_fn(move |_: Uri| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    Endpoint::from_static("http://localhost")
        .connect_with_connector(connector)
        .await
        .map(KeyManagementServiceClient::new)
}
