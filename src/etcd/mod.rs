//! A thin client of etcd: ranges of keys at a revision, from whichever endpoint answers.
//!
//! The code is generated from the few messages in `proto/etcd.proto`. Nothing here writes. Invariant: all answers of one client come
//! from one cluster.

use std::{path::PathBuf, time::Duration};

use bytes::Bytes;
use tonic::{
    Code, Status, Streaming,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

use api::{RangeRequest, RangeStreamResponse, kv_client::KvClient};

/// Generated from `proto/etcd.proto`.
#[allow(clippy::pedantic, missing_docs, reason = "generated code")]
mod api {
    tonic::include_proto!("etcdserverpb");
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// For one answer. A member that is asked for the state of a revision reads from its disk, and may be busy.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(1);

/// What may be under way before it is taken: pages are large, and one is wanted while another is looked at.
const WINDOW: u32 = 4 << 20;

/// The most that an answer may have; a page that would have more is asked for in parts, down to a single key.
const ANSWER_MAX: usize = 64 << 20;

/// What an endpoint is.
const EXPECTED: &str = "expected http://host:port or https://host:port";

/// What etcd says of a revision that compaction has taken away.
const COMPACTED: &str = "etcdserver: mvcc: required revision has been compacted";

/// Where etcd is, in the words of kube-apiserver's flags.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Servers {
    /// `http://…` or `https://…`, at least one.
    pub urls: Vec<String>,
    /// Who vouches for etcd's certificate.
    pub cafile: Option<PathBuf>,
    /// This client's certificate.
    pub certfile: Option<PathBuf>,
    /// The key of it.
    pub keyfile: Option<PathBuf>,
}

/// Why etcd gave no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EtcdError {
    /// What was configured is no address of etcd.
    #[error("etcd endpoint {url:?}: {what}")]
    Endpoint {
        /// As it was given.
        url: String,
        /// What it should be.
        what: &'static str,
    },
    /// A certificate or key cannot be read.
    #[error("{}: {source}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A certificate and a key go together.
    #[error("a client certificate without its key, or a key without its certificate")]
    HalfIdentity,
    /// No endpoint answered; this is what the last one said.
    #[error("etcd {url} does not answer: {reason}")]
    Unreachable {
        /// The endpoint.
        url: String,
        /// What went wrong.
        reason: String,
    },
    /// etcd does not let this client read.
    #[error("etcd {url} refused: {reason}")]
    Refused {
        /// The endpoint.
        url: String,
        /// In etcd's words.
        reason: String,
    },
    /// Two endpoints are of two clusters.
    #[error("etcd {url} is of cluster {found:x}, the one before was of {expected:x}")]
    OtherCluster {
        /// The endpoint.
        url: String,
        /// Its cluster.
        found: u64,
        /// The cluster of the endpoints before.
        expected: u64,
    },
    /// The revision is gone.
    #[error("etcd has compacted revision {0}")]
    Compacted(u64),
    /// An answer is larger than any that is taken.
    #[error("etcd {url} answers with more than {ANSWER_MAX} bytes")]
    TooLarge {
        /// The endpoint.
        url: String,
    },
}

impl EtcdError {
    /// Whether another endpoint may do better.
    fn is_of_endpoint(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }
}

/// A key with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyValue {
    /// The key.
    pub key: Bytes,
    /// The value.
    pub value: Bytes,
    /// The revision that last changed it.
    pub mod_revision: u64,
}

/// A part of a range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// In the order of keys.
    pub entries: Vec<KeyValue>,
    /// Whether there are more behind them.
    pub more: bool,
    /// Keys of the whole range, from the first one that was asked for on.
    pub count: u64,
    /// etcd's own revision.
    pub revision: u64,
    /// The cluster's number.
    pub cluster_id: u64,
}

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Query {
    /// The first key.
    pub from: Vec<u8>,
    /// The first key behind the range.
    pub to: Vec<u8>,
    /// At most so many.
    pub limit: u32,
    /// At which revision; 0 is now.
    pub revision: u64,
}

/// A client of one cluster.
pub struct Client {
    endpoints: Vec<(String, Endpoint)>,
    /// The one that answered last, and the connection to it.
    current: usize,
    connection: Option<KvClient<Channel>>,
    cluster_id: Option<u64>,
}

impl Client {
    /// Reads certificates, and connects when it is first asked.
    ///
    /// # Errors
    /// When an endpoint is none, or a file cannot be read.
    pub fn new(servers: &Servers) -> Result<Self, EtcdError> {
        let tls = tls(servers)?;
        let endpoints = servers.urls.iter().map(|url| Ok((url.clone(), endpoint(url, tls.as_ref())?)));
        let endpoints: Vec<_> = endpoints.collect::<Result<_, EtcdError>>()?;
        if endpoints.is_empty() {
            return Err(EtcdError::Endpoint { url: String::new(), what: EXPECTED });
        }
        Ok(Self { endpoints, current: 0, connection: None, cluster_id: None })
    }

    /// Reads a page, from the endpoint that answered last, or else from the next one that does.
    ///
    /// # Errors
    /// When none answers, one refuses, or the revision is gone.
    pub async fn range(&mut self, query: &Query) -> Result<Page, EtcdError> {
        let mut attempts = self.endpoints.len();
        loop {
            match self.ask(query).await {
                Err(error) if error.is_of_endpoint() && attempts > 1 => {
                    attempts -= 1;
                    self.connection = None;
                    self.current = (self.current + 1) % self.endpoints.len();
                }
                Err(error) => {
                    self.connection = None;
                    return Err(error);
                }
                Ok(page) => return Ok(page),
            }
        }
    }

    /// Begins to read a range to its end at once, from the endpoint that answered last; its limit does not count. None before etcd 3.7,
    /// which has no such call.
    ///
    /// # Errors
    /// When etcd does not answer, refuses, or the revision is gone.
    pub async fn stream(&mut self, query: &Query) -> Result<Option<Parts>, EtcdError> {
        let url = self.endpoints[self.current].0.clone();
        let Some(mut connection) = self.connection.take() else { return Ok(None) };
        let request = RangeRequest { limit: 0, ..request(query) };
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, connection.range_stream(request)).await;
        match answer {
            Err(elapsed) => Err(EtcdError::Unreachable { url, reason: elapsed.to_string() }),
            Ok(Err(status)) if status.code() == Code::Unimplemented => {
                self.connection = Some(connection);
                Ok(None)
            }
            Ok(Err(status)) => Err(refusal(&url, query.revision, &status)),
            Ok(Ok(answer)) => {
                self.connection = Some(connection);
                Ok(Some(Parts { url, revision: query.revision, answer: answer.into_inner() }))
            }
        }
    }

    async fn ask(&mut self, query: &Query) -> Result<Page, EtcdError> {
        let (url, endpoint) = &self.endpoints[self.current];
        let unreachable =
            |error: &dyn std::error::Error| EtcdError::Unreachable { url: url.clone(), reason: chain(error) };
        let mut connection = if let Some(connection) = self.connection.take() {
            connection
        } else {
            let channel = endpoint.connect().await.map_err(|error| unreachable(&error))?;
            KvClient::new(channel).max_decoding_message_size(ANSWER_MAX)
        };
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, connection.range(request(query))).await;
        let answer = answer.map_err(|elapsed| unreachable(&elapsed))?;
        let answer = answer.map_err(|status| refusal(url, query.revision, &status))?.into_inner();
        self.connection = Some(connection);
        let header = answer.header.unwrap_or_default();
        match self.cluster_id.replace(header.cluster_id) {
            Some(expected) if expected != header.cluster_id => {
                return Err(EtcdError::OtherCluster { url: url.clone(), found: header.cluster_id, expected });
            }
            _ => {}
        }
        Ok(Page {
            entries: entries(answer.kvs),
            more: answer.more,
            count: unsigned(answer.count),
            revision: unsigned(header.revision),
            cluster_id: header.cluster_id,
        })
    }
}

/// What comes of a range that is read at once.
pub struct Parts {
    url: String,
    revision: u64,
    answer: Streaming<RangeStreamResponse>,
}

impl Parts {
    /// The next keys; none behind the last.
    ///
    /// # Errors
    /// When the stream breaks off, or the revision is gone meanwhile.
    pub async fn next(&mut self) -> Result<Option<Vec<KeyValue>>, EtcdError> {
        let Self { url, revision, answer } = self;
        let part = tokio::time::timeout(ANSWER_TIMEOUT, answer.message()).await;
        let part = part.map_err(|elapsed| EtcdError::Unreachable { url: url.clone(), reason: elapsed.to_string() })?;
        let part = part.map_err(|status| refusal(url, *revision, &status))?;
        Ok(part.map(|part| entries(part.range_response.unwrap_or_default().kvs)))
    }
}

fn request(query: &Query) -> RangeRequest {
    RangeRequest {
        key: query.from.clone().into(),
        range_end: query.to.clone().into(),
        limit: query.limit.into(),
        revision: i64::try_from(query.revision).unwrap_or(i64::MAX),
        keys_only: false,
    }
}

fn entries(kvs: Vec<api::KeyValue>) -> Vec<KeyValue> {
    let entry = |kv: api::KeyValue| KeyValue { key: kv.key, value: kv.value, mod_revision: unsigned(kv.mod_revision) };
    kvs.into_iter().map(entry).collect()
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// What a status means, which is either etcd's own or made of a broken connection.
fn refusal(url: &str, revision: u64, status: &Status) -> EtcdError {
    let url = url.to_owned();
    let reason = || match std::error::Error::source(status) {
        // A broken connection: its causes say more.
        Some(cause) => chain(cause),
        None if status.message().is_empty() => status.code().to_string(),
        None => status.message().to_owned(),
    };
    match status.code() {
        Code::OutOfRange if status.message() == COMPACTED => EtcdError::Compacted(revision),
        // tonic says so of a message beyond the limit, etcd of one beyond its own.
        Code::OutOfRange if status.message().contains("message length too large") => EtcdError::TooLarge { url },
        Code::ResourceExhausted if status.message().contains("larger than max") => EtcdError::TooLarge { url },
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown | Code::Internal => {
            EtcdError::Unreachable { url, reason: reason() }
        }
        _ => EtcdError::Refused { url, reason: reason() },
    }
}

/// An error with its causes, since the outermost says the least.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let mut texts: Vec<String> = causes.map(ToString::to_string).collect();
    texts.dedup();
    texts.join(": ")
}

fn endpoint(url: &str, tls: Option<&ClientTlsConfig>) -> Result<Endpoint, EtcdError> {
    let wrong = |what| EtcdError::Endpoint { url: url.to_owned(), what };
    let is_tls = url.starts_with("https://");
    if !is_tls && !url.starts_with("http://") {
        return Err(wrong(EXPECTED));
    }
    let endpoint = Endpoint::from_shared(url.to_owned()).map_err(|_| wrong(EXPECTED))?;
    let endpoint = endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .tcp_nodelay(true);
    match (is_tls, tls) {
        (false, _) => Ok(endpoint),
        (true, None) => Err(wrong("https takes the certificate of who vouches for it: --etcd-cafile")),
        (true, Some(tls)) => {
            endpoint.tls_config(tls.clone()).map_err(|_| wrong("its certificates or key cannot be used: are they PEM?"))
        }
    }
}

fn tls(servers: &Servers) -> Result<Option<ClientTlsConfig>, EtcdError> {
    let read = |path: &PathBuf| std::fs::read(path).map_err(|source| EtcdError::File { path: path.clone(), source });
    let Some(cafile) = &servers.cafile else { return Ok(None) };
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(cafile)?));
    match (&servers.certfile, &servers.keyfile) {
        (Some(certificate), Some(key)) => Ok(Some(tls.identity(Identity::from_pem(read(certificate)?, read(key)?)))),
        (None, None) => Ok(Some(tls)),
        _ => Err(EtcdError::HalfIdentity),
    }
}
