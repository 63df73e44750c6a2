//! The errors with which etcd gives no answer that can be used.

use tonic::{Code, Status};

use super::codec::{CROWDED, FIELDS_MAX};
use crate::telemetry::causes;

/// The greatest length of an answer in bytes. A larger page is asked for in parts, down to a single key.
pub(super) const ANSWER_MAX: usize = 48 << 20;

/// etcd's message if compaction has removed the revision.
const COMPACTED: &str = "etcdserver: mvcc: required revision has been compacted";

/// Why etcd gave no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EtcdError {
    /// No endpoint answered. Contains the failure of the last one.
    #[error("etcd {url} does not answer: {reason}")]
    Unreachable {
        /// The address of the endpoint.
        url: String,
        /// The failure, with its causes.
        reason: String,
    },
    /// etcd does not allow this client to read or write, or does not accept the request.
    #[error("etcd {url} refused: {reason}")]
    Refused {
        /// The address of the endpoint.
        url: String,
        /// The code of gRPC that etcd sent.
        code: Code,
        /// The message that etcd sent.
        reason: String,
    },
    /// Two endpoints belong to different clusters.
    #[error("etcd {url} is of cluster {found:x}, the one before was of {expected:x}")]
    OtherCluster {
        /// The address of the endpoint.
        url: String,
        /// The number of the cluster that it belongs to.
        found: u64,
        /// The number of the cluster that the earlier endpoints belong to.
        expected: u64,
    },
    /// etcd has removed this revision by compaction.
    #[error("etcd has compacted revision {0}")]
    Compacted(u64),
    /// An answer says that the range continues, and contains no keys.
    #[error("etcd {url} says that there are further keys, and sends none")]
    Stuck {
        /// The address of the endpoint.
        url: String,
    },
    /// The answers end before the last key.
    #[error("etcd {url} counted {counted} keys and sent only {sent} of them")]
    CutShort {
        /// The address of the endpoint.
        url: String,
        /// The number of keys that came.
        sent: u64,
        /// The number of keys that etcd counted.
        counted: u64,
    },
    /// An answer has more fields than this client accepts.
    #[error("etcd {url} answers with more than {FIELDS_MAX} fields")]
    Crowded {
        /// The address of the endpoint.
        url: String,
    },
    /// etcd sends far more keys than it counted.
    #[error("etcd {url} counted {counted} keys and has sent {sent} without an end")]
    Endless {
        /// The address of the endpoint.
        url: String,
        /// The number of keys that came.
        sent: u64,
        /// The number of keys that etcd counted.
        counted: u64,
    },
    /// An answer claims a number of keys that no etcd holds.
    #[error("etcd {url} counted {counted} keys, and no etcd holds that many")]
    Incredible {
        /// The address of the endpoint.
        url: String,
        /// The number of keys that the endpoint claims to have.
        counted: u64,
    },
    /// The keys come so slowly that the answers may never end.
    #[error("etcd {url} sent only {sent} keys in {seconds} s, which is too slow")]
    Slow {
        /// The address of the endpoint.
        url: String,
        /// The number of keys that came.
        sent: u64,
        /// The time, in seconds, in which the keys came.
        seconds: u64,
    },
    /// The answer for one key is not about this key alone, or has no revision.
    #[error("etcd {url} did not answer with the one key that was asked for")]
    NotTheKey {
        /// The address of the endpoint.
        url: String,
    },
    /// The comparison of a transaction held, and nothing was written. etcd itself never answers so. kine does if its
    /// database fails.
    #[error("etcd {url} did not write, although nobody else has changed the key")]
    NotWritten {
        /// The address of the endpoint.
        url: String,
    },
    /// An answer is larger than this client accepts.
    #[error("etcd {url} answers with more than {ANSWER_MAX} bytes")]
    TooLarge {
        /// The address of the endpoint.
        url: String,
    },
}

impl EtcdError {
    /// Whether another endpoint may answer where this one failed.
    pub(super) fn is_of_endpoint(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }
}

/// Translates a gRPC status into an error. etcd sent the status, or tonic made it from a broken connection.
pub(super) fn refusal(url: &str, revision: u64, status: &Status) -> EtcdError {
    let url = url.to_owned();
    let reason = || match std::error::Error::source(status) {
        // The connection broke, and the causes of the status say why.
        Some(cause) => causes(cause),
        None if status.message().is_empty() => status.code().to_string(),
        None => status.message().to_owned(),
    };
    match status.code() {
        Code::OutOfRange if status.message() == COMPACTED => EtcdError::Compacted(revision),
        Code::OutOfRange if status.message() == CROWDED => EtcdError::Crowded { url },
        // The first text is tonic's for a message beyond its limit, the second is etcd's.
        Code::OutOfRange if status.message().contains("message length too large") => EtcdError::TooLarge { url },
        Code::ResourceExhausted if status.message().contains("trying to send message larger than max") => {
            EtcdError::TooLarge { url }
        }
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown | Code::Internal => {
            EtcdError::Unreachable { url, reason: reason() }
        }
        code => EtcdError::Refused { url, code, reason: reason() },
    }
}

/// Whether this status is the server's answer to a transaction, so that the transaction ends with it. Otherwise the
/// answer was lost, and the server may still execute the transaction.
///
/// After such an answer the value may have changed all the same: etcd executes the transaction that exceeds its quota,
/// and then reports that it has no space (`quotaApplierV3`).
pub(super) fn is_answer(status: &Status) -> bool {
    !has_broken(status)
        && matches!(
            status.code(),
            Code::InvalidArgument
                | Code::PermissionDenied
                | Code::Unauthenticated
                | Code::FailedPrecondition
                | Code::ResourceExhausted
                | Code::Unimplemented
        )
}

/// Whether a status was made from a broken connection. Only such a status has a cause.
pub(super) fn has_broken(status: &Status) -> bool {
    std::error::Error::source(status).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_refusal_ends_a_transaction() {
        for refused in [
            Status::permission_denied("etcdserver: permission denied"),
            Status::invalid_argument("etcdserver: request is too large"),
            Status::resource_exhausted("etcdserver: mvcc: database space exceeded"),
        ] {
            assert!(is_answer(&refused), "{refused}");
        }
        let broken = std::io::Error::other("broken pipe");
        for lost in [
            Status::unavailable("etcdserver: request timed out"),
            Status::unavailable("etcdserver: server stopped"),
            Status::unknown("database is locked"),
            Status::internal("half an answer"),
            Status::cancelled(""),
            Status::from_error(Box::new(broken)),
        ] {
            assert!(!is_answer(&lost), "{lost}");
        }
    }

    #[test]
    fn a_refusal_of_etcd_differs_from_one_of_the_transport() {
        let text = |status: Status| refusal("http://a", 7, &status).to_string();
        assert_eq!(text(Status::out_of_range(COMPACTED)), "etcd has compacted revision 7");
        let expected = format!("etcd http://a answers with more than {ANSWER_MAX} bytes");
        assert_eq!(text(Status::out_of_range("decoded message length too large: found 2 bytes")), expected);
        assert_eq!(text(Status::resource_exhausted("trying to send message larger than max")), expected);
        let crowded = format!("etcd http://a answers with more than {FIELDS_MAX} fields");
        assert_eq!(text(Status::out_of_range(CROWDED)), crowded);
        let request = "grpc: received message larger than max (2 vs. 1)";
        assert_eq!(text(Status::resource_exhausted(request)), format!("etcd http://a refused: {request}"));
        assert_eq!(text(Status::permission_denied("no")), "etcd http://a refused: no");
        assert_eq!(text(Status::unavailable("gone")), "etcd http://a does not answer: gone");
    }
}
