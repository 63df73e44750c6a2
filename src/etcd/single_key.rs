//! Reads one key of etcd, and replaces its value by a transaction of one comparison.
//!
//! Invariants: every read is linearizable. A value is replaced only over the connection that has just read it, so the
//! server there is alive, belongs to the cluster, and nothing has been sent before that is known. A transaction is sent
//! once: its outcome says whether the server answered. Every call opens a connection of its own, and ends at a time
//! that the caller gives. Source: etcd's `rpc.proto`; kine's `server/create.go` and `server/update.go` list the
//! transactions that kine accepts.

use std::time::{Duration, Instant};

use prost::bytes::Bytes;
use tokio::time::{sleep, timeout_at};
use tonic::transport::Channel;

use super::{
    api::{
        Compare, PutRequest, RangeRequest, RangeResponse, RequestOp, TxnRequest,
        compare::{CompareResult, CompareTarget, TargetUnion},
        kv_client::KvClient,
        request_op::Request,
    },
    client::KeyValue,
    endpoint::{EtcdTarget, ServersError, targets},
    error::{ANSWER_MAX, EtcdError, has_broken, is_answer, refusal},
    servers::Servers,
};
use crate::telemetry::causes;

/// The time that an endpoint has for an answer before the next one is asked. It doubles each time that none of them
/// answers.
const PATIENCE: Duration = Duration::from_millis(500);

/// The pause before all endpoints are asked again, because one of them may answer by then.
const PAUSE: Duration = Duration::from_millis(100);

/// A client of one key in one etcd cluster.
pub struct SingleKey {
    key: Bytes,
    endpoints: Vec<(String, EtcdTarget)>,
    /// The index of the endpoint that answered last.
    current: usize,
    cluster_id: Option<u64>,
}

/// A value as an endpoint has just read it, and the connection to that endpoint.
pub struct KeyReading {
    /// The key with its value; `None` if there is no such key.
    pub found: Option<KeyValue>,
    /// Writes over the connection.
    pub writer: KeyWriter,
}

/// A connection over which one transaction can be sent.
pub struct KeyWriter {
    key: Bytes,
    url: String,
    connection: KvClient<Channel>,
}

/// The outcome of a transaction.
#[derive(Debug)]
pub enum Replaced {
    /// The server has written the value.
    Done,
    /// The server answered that it has not written the value. The transaction has ended, so a read that begins now
    /// tells whether this is true. It may not be: kine answers so if its database fails, and a full etcd answers so
    /// after it has written. Contains the reason; it is [`EtcdError::NotWritten`] if the comparison failed.
    Denied(EtcdError),
    /// No answer came. The server may have written the value, or may still do so at any later time. Contains the
    /// cause.
    Unanswered(EtcdError),
}

/// Why an endpoint has not read the key.
enum Missed {
    /// Nobody listens there, or the connection broke, for example because etcd does not accept the certificate.
    Absent(EtcdError),
    /// The endpoint is there and has not read the key. It may do so later.
    Silent(EtcdError),
    /// The endpoint answered. No other endpoint is asked.
    Answered(EtcdError),
}

impl SingleKey {
    /// Reads the certificates, and makes a client. Each call connects.
    ///
    /// # Errors
    /// When there is no endpoint, one of them is no address, or a certificate or key cannot be used.
    pub fn new(servers: &Servers, key: String) -> Result<Self, ServersError> {
        Ok(Self { key: key.into(), endpoints: targets(servers)?, current: 0, cluster_id: None })
    }

    /// Reads the key, and gives up at `by`. Begins with the endpoint that answered last. An endpoint that does not
    /// answer soon delays the others by half a second.
    ///
    /// # Errors
    /// When no endpoint answers in time, or one refuses or belongs to another cluster.
    pub async fn read(&mut self, by: Instant) -> Result<KeyReading, EtcdError> {
        // If there is no other endpoint, this one has all the time.
        let mut patience = if self.endpoints.len() == 1 { Duration::MAX } else { PATIENCE };
        loop {
            let mut is_one_silent = false;
            let mut failed = None;
            for _ in 0..self.endpoints.len() {
                let until = Instant::now().checked_add(patience).map_or(by, |until| until.min(by));
                match self.ask(until).await {
                    Ok(reading) => return Ok(reading),
                    Err(Missed::Answered(error)) => return Err(error),
                    Err(Missed::Absent(error)) => failed = Some(error),
                    Err(Missed::Silent(error)) => (failed, is_one_silent) = (Some(error), true),
                }
                self.skip();
                if Instant::now() >= by {
                    break;
                }
            }
            match failed {
                Some(error) if !is_one_silent || Instant::now() + PAUSE >= by => return Err(error),
                _ => {}
            }
            sleep(PAUSE).await;
            patience = patience.saturating_mul(2);
        }
    }

    /// Makes the next read begin with the endpoint after the one that answered last.
    pub fn skip(&mut self) {
        self.current = (self.current + 1) % self.endpoints.len();
    }

    /// Connects to the current endpoint, and reads the key there.
    async fn ask(&mut self, until: Instant) -> Result<KeyReading, Missed> {
        let (url, target) = &self.endpoints[self.current];
        let unreachable =
            |error: &dyn std::error::Error| EtcdError::Unreachable { url: url.clone(), reason: causes(error) };
        let late = |elapsed| Missed::Silent(unreachable(&elapsed));
        let channel = timeout_at(until.into(), target.connect()).await.map_err(late)?;
        let channel = channel.map_err(|error| Missed::Absent(unreachable(&error)))?;
        let mut connection = KvClient::new(channel).max_decoding_message_size(ANSWER_MAX);
        let request = RangeRequest { key: self.key.clone(), ..RangeRequest::default() };
        let answer = timeout_at(until.into(), connection.range(request)).await.map_err(late)?;
        let answer = answer.map_err(|status| match refusal(url, 0, &status) {
            error if error.is_of_endpoint() && has_broken(&status) => Missed::Absent(error),
            error if error.is_of_endpoint() => Missed::Silent(error),
            error => Missed::Answered(error),
        })?;
        let answer = answer.into_inner();
        let found = answer.header.as_ref().map_or(0, |header| header.cluster_id);
        let expected = *self.cluster_id.get_or_insert(found);
        if found != expected {
            return Err(Missed::Answered(EtcdError::OtherCluster { url: url.clone(), found, expected }));
        }
        let found = only(url, &self.key, answer).map_err(Missed::Answered)?;
        Ok(KeyReading { found, writer: KeyWriter { key: self.key.clone(), url: url.clone(), connection } })
    }
}

/// Returns the only key of an answer; `None` if the answer says that there is no such key.
///
/// # Errors
/// When the answer is about something else, or the key has no revision to compare with.
fn only(url: &str, key: &Bytes, answer: RangeResponse) -> Result<Option<KeyValue>, EtcdError> {
    let mut found = answer.kvs.into_iter().map(KeyValue::from);
    match (found.next(), found.next()) {
        (None, _) if !answer.more => Ok(None),
        (Some(found), None) if !answer.more && found.key == *key && found.mod_revision > 0 => Ok(Some(found)),
        _ => Err(EtcdError::NotTheKey { url: url.to_owned() }),
    }
}

impl KeyWriter {
    /// Writes `value`, if the key was last written at `mod_revision`; 0 means that there must be no such key. Waits for
    /// the answer until `by`.
    pub async fn replace(mut self, mod_revision: u64, value: &[u8], by: Instant) -> Replaced {
        let request = transaction(self.key, mod_revision, Bytes::copy_from_slice(value));
        let url = self.url;
        match timeout_at(by.into(), self.connection.txn(request)).await {
            Ok(Ok(answer)) if answer.get_ref().succeeded => Replaced::Done,
            Ok(Ok(_)) => Replaced::Denied(EtcdError::NotWritten { url }),
            Ok(Err(status)) if is_answer(&status) => Replaced::Denied(refusal(&url, 0, &status)),
            Ok(Err(status)) => Replaced::Unanswered(refusal(&url, 0, &status)),
            Err(elapsed) => Replaced::Unanswered(EtcdError::Unreachable { url, reason: elapsed.to_string() }),
        }
    }
}

/// Returns the transaction that writes `value` if the key has this `mod_revision`. It has the form that kine accepts: a
/// first value without, and a later one with a read of the key in case that the comparison fails.
fn transaction(key: Bytes, mod_revision: u64, value: Bytes) -> TxnRequest {
    let revision = i64::try_from(mod_revision).unwrap_or(i64::MAX);
    let read = RangeRequest { key: key.clone(), keys_only: true, ..RangeRequest::default() };
    let otherwise = RequestOp { request: Some(Request::RequestRange(read)) };
    TxnRequest {
        compare: vec![Compare {
            result: CompareResult::Equal.into(),
            target: CompareTarget::Mod.into(),
            key: key.clone(),
            target_union: Some(TargetUnion::ModRevision(revision)),
        }],
        success: vec![RequestOp { request: Some(Request::RequestPut(PutRequest { key, value })) }],
        failure: if mod_revision == 0 { Vec::new() } else { vec![otherwise] },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcd::api;

    #[test]
    fn an_answer_is_about_the_key_alone() {
        let key = Bytes::from_static(b"/a");
        let kv = |key: &'static [u8], mod_revision| api::KeyValue {
            key: Bytes::from_static(key),
            mod_revision,
            value: Bytes::from_static(b"value"),
        };
        let of = |kvs, more| only("http://a", &key, RangeResponse { kvs, more, ..RangeResponse::default() });
        assert_eq!(of(vec![], false).unwrap(), None);
        assert_eq!(of(vec![kv(b"/a", 7)], false).unwrap(), Some(kv(b"/a", 7).into()));
        for (kvs, more) in [
            (vec![kv(b"/b", 7)], false),
            (vec![kv(b"/a", 0)], false),
            (vec![kv(b"/a", -1)], false),
            (vec![kv(b"/a", 7), kv(b"/b", 7)], false),
            (vec![kv(b"/a", 7)], true),
            (vec![], true),
        ] {
            let error = of(kvs, more).unwrap_err().to_string();
            assert_eq!(error, "etcd http://a did not answer with the one key that was asked for");
        }
        let error = EtcdError::NotWritten { url: "http://a".to_owned() }.to_string();
        assert_eq!(error, "etcd http://a did not write, although nobody else has changed the key");
    }
}
