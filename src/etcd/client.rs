//! The client of an etcd cluster: reads ranges of keys, as pages or as a stream.
//!
//! It only reads. If an endpoint does not answer, it asks the next one. Invariants: all endpoints belong to one
//! cluster; the length of an answer and the time for it are limited. Source: etcd's `rpc.proto`; `proto/` has the
//! messages that are needed.

use std::time::Duration;

use prost::bytes::Bytes;
use tonic::{Code, Status, Streaming, transport::Channel};

use super::{
    api::{self, RangeRequest, RangeResponse, RangeStreamResponse, ResponseHeader, kv_client::KvClient},
    endpoint::{EtcdTarget, ServersError, targets},
    error::{ANSWER_MAX, EtcdError, refusal},
    servers::Servers,
};
use crate::telemetry::causes;

/// The time limit of one answer. To answer for a revision, a member of etcd reads from its disk, which may be busy.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(1);

/// A key in etcd with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyValue {
    /// The bytes of the key.
    pub key: Bytes,
    /// The bytes of the value.
    pub value: Bytes,
    /// The revision at which the value was last written.
    pub mod_revision: u64,
}

/// One answer to a [`Query`]: a part of a range of keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The keys with their values, in the order of the keys.
    pub entries: Vec<KeyValue>,
    /// Whether the range continues after these keys.
    pub more: bool,
    /// The number of keys in the whole range, from the first key that was asked for.
    pub count: u64,
    /// The present revision of etcd.
    pub revision: u64,
    /// The number of the cluster. 0 if the server is kine.
    pub cluster_id: u64,
}

/// A query for a range of keys at a revision.
#[derive(Debug, Clone)]
pub struct Query {
    /// The first key of the range.
    pub from: Vec<u8>,
    /// The first key after the range.
    pub to: Vec<u8>,
    /// The greatest number of keys in one page.
    pub limit: u32,
    /// The revision to read at. 0 means the present one.
    pub revision: u64,
    /// Whether only keys are wanted, without their values. An old kine sends the values all the same.
    pub keys_only: bool,
}

/// A client of one etcd cluster.
pub struct Client {
    endpoints: Vec<(String, EtcdTarget)>,
    /// The index of the endpoint that answered last, and the connection to it.
    current: usize,
    connection: Option<KvClient<Channel>>,
    cluster_id: Option<u64>,
}

impl Client {
    /// Reads the certificates, and makes a client. The first query connects.
    ///
    /// # Errors
    /// When there is no endpoint, one of them is no address, or a certificate or key cannot be used.
    pub fn new(servers: &Servers) -> Result<Self, ServersError> {
        Ok(Self { endpoints: targets(servers)?, current: 0, connection: None, cluster_id: None })
    }

    /// Reads a page from the endpoint that answered last. If that endpoint does not answer now, asks the other ones in
    /// turn.
    ///
    /// # Errors
    /// When no endpoint answers, one refuses, or etcd has removed the revision.
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

    /// Begins to read a whole range in one call, from the endpoint that answered last. The query's limit has no effect.
    /// Returns `None` if this etcd has no such call: it came with etcd 3.7.
    ///
    /// # Errors
    /// When etcd does not answer or refuses, or has removed the revision.
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

    /// Returns the error for an endpoint that counted more keys than it sent.
    pub fn cut_short(&self, sent: u64, counted: u64) -> EtcdError {
        EtcdError::CutShort { url: self.endpoints[self.current].0.clone(), sent, counted }
    }

    /// Returns the error for an endpoint that sends far more keys than it counted.
    pub fn endless(&self, sent: u64, counted: u64) -> EtcdError {
        EtcdError::Endless { url: self.endpoints[self.current].0.clone(), sent, counted }
    }

    /// Returns the error for an endpoint that claims to have more keys than any etcd can hold.
    pub fn incredible(&self, counted: u64) -> EtcdError {
        EtcdError::Incredible { url: self.endpoints[self.current].0.clone(), counted }
    }

    /// Returns the error for an endpoint whose keys come too slowly.
    pub fn slow(&self, sent: u64, waited: Duration) -> EtcdError {
        EtcdError::Slow { url: self.endpoints[self.current].0.clone(), sent, seconds: waited.as_secs() }
    }

    /// Asks the current endpoint for one page, and checks that it belongs to the same cluster as before.
    async fn ask(&mut self, query: &Query) -> Result<Page, EtcdError> {
        let (url, target) = &self.endpoints[self.current];
        let unreachable =
            |error: &dyn std::error::Error| EtcdError::Unreachable { url: url.clone(), reason: causes(error) };
        let mut connection = if let Some(connection) = self.connection.take() {
            connection
        } else {
            let channel = target.connect().await.map_err(|error| unreachable(&error))?;
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
        page(url, answer, &header)
    }
}

fn page(url: &str, answer: RangeResponse, header: &ResponseHeader) -> Result<Page, EtcdError> {
    if answer.more && answer.kvs.is_empty() {
        return Err(EtcdError::Stuck { url: url.to_owned() });
    }
    Ok(Page {
        entries: entries(answer.kvs),
        more: answer.more,
        count: unsigned(answer.count),
        revision: unsigned(header.revision),
        cluster_id: header.cluster_id,
    })
}

/// The parts of a range that one call streams.
pub struct Parts {
    url: String,
    revision: u64,
    answer: Streaming<RangeStreamResponse>,
}

impl Parts {
    /// Returns the next keys. Returns `None` after the last keys. A part without keys is skipped.
    ///
    /// # Errors
    /// When the stream breaks, or no key comes in time, or etcd has removed the revision meanwhile.
    pub async fn next(&mut self) -> Result<Option<Vec<KeyValue>>, EtcdError> {
        let keys = tokio::time::timeout(ANSWER_TIMEOUT, next_keys(&mut self.answer)).await;
        let url = &self.url;
        let keys = keys.map_err(|elapsed| EtcdError::Unreachable { url: url.clone(), reason: elapsed.to_string() })?;
        keys.map_err(|status| refusal(url, self.revision, &status))
    }
}

/// Returns the keys of the next part that is not empty.
async fn next_keys(parts: &mut Streaming<RangeStreamResponse>) -> Result<Option<Vec<KeyValue>>, Status> {
    while let Some(part) = parts.message().await? {
        let keys = entries(part.range_response.unwrap_or_default().kvs);
        if !keys.is_empty() {
            return Ok(Some(keys));
        }
        // Yields, so that the time limit is checked even if the server never pauses.
        tokio::task::yield_now().await;
    }
    Ok(None)
}

fn request(query: &Query) -> RangeRequest {
    RangeRequest {
        key: query.from.clone().into(),
        range_end: query.to.clone().into(),
        limit: query.limit.into(),
        revision: i64::try_from(query.revision).unwrap_or(i64::MAX),
        keys_only: query.keys_only,
    }
}

fn entries(kvs: Vec<api::KeyValue>) -> Vec<KeyValue> {
    kvs.into_iter().map(KeyValue::from).collect()
}

impl From<api::KeyValue> for KeyValue {
    fn from(kv: api::KeyValue) -> Self {
        Self { key: kv.key, value: kv.value, mod_revision: unsigned(kv.mod_revision) }
    }
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harness::{kine::Kine, processes::Run};

    #[test]
    fn an_answer_without_keys_is_the_last_one() {
        let header = ResponseHeader { revision: 7, ..ResponseHeader::default() };
        let of = |more| page("http://a", RangeResponse { more, ..RangeResponse::default() }, &header);
        assert_eq!(of(false).unwrap().revision, 7);
        let text = "etcd http://a says that there are further keys, and sends none";
        assert_eq!(of(true).unwrap_err().to_string(), text);
    }

    #[tokio::test]
    async fn kine_answers_for_a_revision_as_etcd_does_until_it_compacts_it() {
        let run = Run::new().unwrap();
        let kine = Kine::over_sqlite(&run).unwrap();
        let put = |key, value| drop(kine.run_etcdctl(&["put", key, value]).unwrap());
        for key in ["/r/a", "/r/b", "/r/c", "/s/a"] {
            put(key, "old");
        }
        let mut client = Client::new(&Servers { urls: vec![kine.url()], ..Servers::default() }).unwrap();
        let query =
            |revision| Query { from: b"/r/".to_vec(), to: b"/r0".to_vec(), limit: 2, revision, keys_only: false };
        let first = client.range(&query(0)).await.unwrap();
        assert_eq!((first.entries.len(), first.more, first.count, first.cluster_id), (2, true, 3, 0));
        for key in ["/r/a", "/r/bb"] {
            put(key, "new");
        }

        let again = client.range(&query(first.revision)).await.unwrap();
        assert_eq!((&again.entries, again.more, again.count), (&first.entries, true, 3));
        let mut parts = client.stream(&query(first.revision)).await.unwrap().expect("kine has streams");
        let mut streamed = Vec::new();
        while let Some(part) = parts.next().await.unwrap() {
            streamed.extend(part);
        }
        assert_eq!((&streamed[..2], streamed.len()), (&first.entries[..], 3));
        let from = Query { from: b"/r/a\0".to_vec(), ..query(0) };
        let rest = client.range(&from).await.unwrap();
        assert_eq!((rest.entries.len(), rest.more, rest.count), (2, true, 3));

        kine.run_etcdctl(&["compact", &(first.revision + 2).to_string()]).unwrap();
        let gone = format!("etcd has compacted revision {}", first.revision);
        assert_eq!(client.range(&query(first.revision)).await.unwrap_err().to_string(), gone);
        client.range(&query(0)).await.unwrap();
        let error = match client.stream(&query(first.revision)).await {
            Ok(parts) => parts.expect("kine has streams").next().await.unwrap_err(),
            Err(error) => error,
        };
        assert_eq!(error.to_string(), gone);
        let future = client.range(&query(1_000_000)).await.unwrap_err().to_string();
        let reason = "etcdserver: mvcc: required revision is a future revision";
        assert_eq!(future, format!("etcd {} refused: {reason}", kine.url()));
    }
}
