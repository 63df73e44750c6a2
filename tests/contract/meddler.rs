//! A plugin with faults that the real one does not have. It is between an API server and claviger. It passes every call
//! on, notes it, and alters single answers on command.
//!
//! With two backends it behaves as one plugin with two keys: one of the two announces and wraps, and each unwraps its
//! own seeds. Invariant: if no command alters an answer, it is claviger's own.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use hyper::{Request as HttpRequest, body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{net::UnixListener, net::UnixStream, sync::oneshot};
use tonic::codegen::Service as _;
use tonic::{Code, Request, Response, Status};

use super::kms::{
    Client, DecryptRequest, DecryptResponse, EncryptRequest, EncryptResponse, KeyManagementService,
    KeyManagementServiceServer, StatusRequest, StatusResponse, client, runtime,
};

/// A time longer than an API server waits for a call, unless it is configured otherwise.
pub(super) const DELAY: Duration = Duration::from_secs(4);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    Status,
    Encrypt,
    Decrypt,
}

/// The faults to inject. [`Faults::NONE`] injects none.
#[derive(Clone, Copy)]
pub(super) struct Faults {
    /// The index of the backend that announces and wraps.
    pub(super) backend: usize,
    /// The calls that are answered with UNAVAILABLE, in the words of a sealed claviger.
    pub(super) refused: &'static [Method],
    /// The calls that are answered too late.
    pub(super) delayed: &'static [Method],
    pub(super) status: fn(&mut StatusResponse),
    pub(super) encrypt: fn(&mut EncryptResponse),
    pub(super) decrypt: fn(&mut DecryptResponse),
}

impl Faults {
    pub(super) const NONE: Self =
        Self { backend: 0, refused: &[], delayed: &[], status: |_| {}, encrypt: |_| {}, decrypt: |_| {} };
}

/// A call of an API server.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) method: Method,
    /// The number of the connection, in the order of their beginning.
    pub(super) connection: usize,
    pub(super) authority: String,
    pub(super) user_agent: String,
    timeout: String,
    pub(super) uid: String,
    /// The length of Encrypt's plaintext. 0 for other calls.
    pub(super) plaintext: usize,
    /// The ciphertext of Decrypt. Empty for other calls.
    pub(super) ciphertext: Vec<u8>,
    pub(super) at: Instant,
}

impl Call {
    /// Returns how long the API server waits: `grpc-timeout` has up to 8 digits and a unit.
    pub(super) fn waits_for(&self) -> Duration {
        let (digits, unit) = self.timeout.split_at(self.timeout.len() - 1);
        let number = digits.parse().unwrap();
        match unit {
            "u" => Duration::from_micros(number),
            "m" => Duration::from_millis(number),
            "S" => Duration::from_secs(number),
            _ => panic!("{self:?}"),
        }
    }
}

/// A running meddler. When it is dropped, it closes its connections and removes its socket.
pub(super) struct Meddler {
    shared: Arc<Shared>,
    socket: PathBuf,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

struct Shared {
    backends: Vec<PathBuf>,
    faults: Mutex<Faults>,
    calls: Mutex<Vec<Call>>,
    connections: AtomicUsize,
}

impl Meddler {
    /// Listens on `socket`, in front of the plugins on `backends`.
    pub(super) fn start(socket: &Path, backends: &[&Path], faults: Faults) -> Self {
        let shared = Arc::new(Shared {
            backends: backends.iter().map(|path| path.to_path_buf()).collect(),
            faults: Mutex::new(faults),
            calls: Mutex::default(),
            connections: AtomicUsize::new(0),
        });
        let listener = std::os::unix::net::UnixListener::bind(socket).unwrap();
        listener.set_nonblocking(true).unwrap();
        let (stop, stopped) = oneshot::channel();
        let serving = Arc::clone(&shared);
        let thread = thread::spawn(move || runtime().block_on(serve(listener, serving, stopped)));
        Self { shared, socket: socket.to_owned(), stop: Some(stop), thread: Some(thread) }
    }

    /// Alters answers from now on.
    pub(super) fn meddle(&self, faults: Faults) {
        *self.shared.faults.lock().unwrap() = faults;
    }

    /// Returns all calls so far, in their order.
    pub(super) fn calls(&self) -> Vec<Call> {
        self.shared.calls.lock().unwrap().clone()
    }

    pub(super) fn calls_of(&self, method: Method) -> Vec<Call> {
        self.calls().into_iter().filter(|call| call.method == method).collect()
    }

    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Returns the socket of the first plugin to which it forwards.
    pub(super) fn backend(&self) -> &Path {
        &self.shared.backends[0]
    }

    pub(super) fn backends(&self) -> &[PathBuf] {
        &self.shared.backends
    }
}

impl Drop for Meddler {
    fn drop(&mut self) {
        drop(self.stop.take());
        // A panic in the thread has been printed, and the API server lacks an answer.
        let _ = self.thread.take().map(thread::JoinHandle::join);
        let _ = std::fs::remove_file(&self.socket);
    }
}

/// Serves until `stopped`. The end of the runtime then ends the connections.
async fn serve(listener: std::os::unix::net::UnixListener, shared: Arc<Shared>, mut stopped: oneshot::Receiver<()>) {
    let listener = UnixListener::from_std(listener).unwrap();
    loop {
        tokio::select! {
            _ = &mut stopped => return,
            accepted = listener.accept() => {
                tokio::spawn(converse(accepted.unwrap().0, Proxy::new(Arc::clone(&shared))));
            }
        }
    }
}

#[derive(Clone)]
struct Authority(String);

async fn converse(stream: UnixStream, proxy: Proxy) {
    let calls = KeyManagementServiceServer::new(proxy);
    let service = service_fn(move |mut request: HttpRequest<Incoming>| {
        let mut calls = calls.clone();
        let authority = request.uri().authority().map(ToString::to_string);
        request.extensions_mut().insert(Authority(authority.unwrap_or_default()));
        async move { calls.call(request).await }
    });
    // If a connection breaks, the API server makes another one.
    let _ = http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
}

/// A connection of an API server, and one to each backend, because claviger remembers what it announced on a
/// connection.
struct Proxy {
    shared: Arc<Shared>,
    connection: usize,
    backends: Vec<Client>,
}

impl Proxy {
    fn new(shared: Arc<Shared>) -> Self {
        let connection = shared.connections.fetch_add(1, Ordering::Relaxed);
        let backends = shared.backends.iter().map(|socket| client(socket)).collect();
        Self { shared, connection, backends }
    }

    /// Returns the facts about a call that its headers show.
    fn call<T>(&self, method: Method, request: &Request<T>) -> Call {
        let header = |name| request.metadata().get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
        Call {
            method,
            connection: self.connection,
            authority: request.extensions().get::<Authority>().unwrap().0.clone(),
            user_agent: header("user-agent"),
            timeout: header("grpc-timeout"),
            uid: String::new(),
            plaintext: 0,
            ciphertext: Vec::new(),
            at: Instant::now(),
        }
    }

    /// Notes a call, and delays or refuses it if the faults say so.
    async fn admit(&self, call: Call) -> Result<Faults, Status> {
        let method = call.method;
        self.shared.calls.lock().unwrap().push(call);
        let faults = *self.shared.faults.lock().unwrap();
        if faults.delayed.contains(&method) {
            tokio::time::sleep(DELAY).await;
        }
        if faults.refused.contains(&method) {
            return Err(Status::unavailable("sealed: the keyring is not open yet"));
        }
        Ok(faults)
    }
}

#[tonic::async_trait]
impl KeyManagementService for Proxy {
    async fn status(&self, request: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        let faults = self.admit(self.call(Method::Status, &request)).await?;
        let mut answer = self.backends[faults.backend].clone().status(request.into_inner()).await?;
        (faults.status)(answer.get_mut());
        Ok(answer)
    }

    async fn encrypt(&self, request: Request<EncryptRequest>) -> Result<Response<EncryptResponse>, Status> {
        let call = self.call(Method::Encrypt, &request);
        let request = request.into_inner();
        let call = Call { uid: request.uid.clone(), plaintext: request.plaintext.len(), ..call };
        let faults = self.admit(call).await?;
        let mut answer = self.backends[faults.backend].clone().encrypt(request).await?;
        (faults.encrypt)(answer.get_mut());
        Ok(answer)
    }

    async fn decrypt(&self, request: Request<DecryptRequest>) -> Result<Response<DecryptResponse>, Status> {
        let call = self.call(Method::Decrypt, &request);
        let request = request.into_inner();
        let call = Call { uid: request.uid.clone(), ciphertext: request.ciphertext.clone(), ..call };
        let faults = self.admit(call).await?;
        let mut answer = Err(Status::not_found("no backend"));
        for backend in &self.backends {
            answer = backend.clone().decrypt(request.clone()).await;
            if answer.as_ref().err().map(Status::code) != Some(Code::NotFound) {
                break;
            }
        }
        let mut answer = answer?;
        (faults.decrypt)(answer.get_mut());
        Ok(answer)
    }
}
