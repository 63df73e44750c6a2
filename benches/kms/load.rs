//! The two clients: grpc-go, as kube-apiserver has it, and tonic.

use std::{
    os::unix::net::UnixStream as Blocking,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{net::UnixStream, runtime::Builder, task::JoinSet};
use tonic::{
    Status,
    transport::{Channel, Endpoint, Uri},
};

use crate::{
    api::{
        DecryptRequest, EncryptRequest, EncryptResponse, StatusRequest,
        key_management_service_client::KeyManagementServiceClient,
    },
    harness::{
        binaries::Program,
        commands::output_of_success,
        error::{Context, Error, Result},
    },
};

/// The UID of a call, as long as that of an API server.
const UID: &str = "11111111-2222-3333-4444-555555555555";

/// A time limit longer than any number of calls takes.
const FOREVER: Duration = Duration::from_hours(1);

type Answered<T> = std::result::Result<T, Status>;

/// The condition that ends the calls.
pub(crate) enum End {
    After(Duration),
    /// After so many calls of all callers together.
    Calls(u64),
}

/// The figures of the callers of one client. Times are in microseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    /// The number of measured calls.
    pub(crate) calls: u64,
    /// The number of all answered calls: the measured ones, and those before and after them.
    pub(crate) answered: u64,
    pub(crate) seconds: f64,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

/// Calls with grpc-go over one connection.
///
/// Each caller keeps one seed: it opens at the end what it has kept, which is no part of what is measured.
pub(crate) fn from_go(socket: &Path, method: &str, callers: usize, end: &End) -> Result<Seen> {
    let mut command = Command::new(Program::KmsClient.path()?);
    command.args(["--keep=1", "--round", method, "--callers", &callers.to_string()]).arg("--socket").arg(socket);
    match end {
        End::After(time) => command.args(["--seconds", &time.as_secs_f64().to_string()]),
        End::Calls(calls) => command.args(["--calls", &calls.to_string()]),
    };
    let printed = output_of_success(command, &[], Duration::from_mins(10))?;
    let report: Value = serde_json::from_slice(&printed).during(|| "reading the report of kms-client".to_owned())?;
    if report["failures"].as_object().is_none_or(|failures| !failures.is_empty()) {
        return Err(Error::new(format!("calls failed: {report}")));
    }
    let main = method.rsplit(',').next().unwrap_or(method);
    let (seen, number) = (&report["methods"][main], |value: &Value| value.as_f64().unwrap_or(f64::NAN));
    let count = |value: &Value| value.as_u64().unwrap_or(0);
    let made = report["methods"].as_object().into_iter().flatten().map(|(_, method)| count(&method["calls"]));
    Ok(Seen {
        calls: count(&seen["calls"]),
        answered: made.sum::<u64>() + count(&report["kept"]),
        seconds: number(&report["seconds"]),
        p50: number(&seen["p50_us"]),
        p99: number(&seen["p99_us"]),
    })
}

/// Calls with tonic over one connection, on one thread.
pub(crate) fn from_rust(socket: &Path, method: &'static str, callers: usize, end: &End) -> Result<Seen> {
    let runtime = Builder::new_current_thread().enable_all().build().during(|| "starting a runtime".to_owned())?;
    let called = runtime.block_on(call(socket, method, callers, end));
    let (mut times, seconds) = called.map_err(|status| Error::new(format!("a call failed: {status}")))?;
    times.sort_unstable();
    let at = |share: usize| times.get(times.len() * share / 100).map_or(f64::NAN, |time| time.as_secs_f64() * 1e6);
    let calls = times.len() as u64;
    Ok(Seen { calls, answered: calls + 1, seconds, p50: at(50), p99: at(99) })
}

type Client = KeyManagementServiceClient<Channel>;

/// Returns the time of each call, and the time of all of them together in seconds.
async fn call(socket: &Path, method: &'static str, callers: usize, end: &End) -> Answered<(Vec<Duration>, f64)> {
    let mut client = connect(socket).await.map_err(|error| Status::unavailable(error.to_string()))?;
    let EncryptResponse { ciphertext, key_id, annotations } = client.encrypt(seed()).await?.into_inner();
    let wrapped = DecryptRequest { ciphertext, uid: UID.to_owned(), key_id, annotations };
    let start = Instant::now();
    let (until, share) = match end {
        End::After(time) => (start + *time, u64::MAX),
        End::Calls(calls) => (start + FOREVER, calls / callers as u64),
    };
    let mut tasks = JoinSet::new();
    for _ in 0..callers {
        tasks.spawn(repeat(client.clone(), method, wrapped.clone(), until, share));
    }
    let mut times = Vec::new();
    while let Some(own) = tasks.join_next().await {
        times.append(&mut own.map_err(|error| Status::internal(error.to_string()))??);
    }
    Ok((times, start.elapsed().as_secs_f64()))
}

async fn repeat(
    mut client: Client,
    method: &'static str,
    wrapped: DecryptRequest,
    until: Instant,
    share: u64,
) -> Answered<Vec<Duration>> {
    let mut times = Vec::new();
    while (times.len() as u64) < share {
        let begin = Instant::now();
        if begin >= until {
            break;
        }
        match method {
            "Status" => drop(client.status(StatusRequest {}).await?),
            "Encrypt" => drop(client.encrypt(seed()).await?),
            _ => drop(client.decrypt(wrapped.clone()).await?),
        }
        times.push(begin.elapsed());
    }
    Ok(times)
}

fn seed() -> EncryptRequest {
    EncryptRequest { plaintext: vec![7; 32], uid: UID.to_owned() }
}

/// Whether somebody answers Status at the socket.
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
