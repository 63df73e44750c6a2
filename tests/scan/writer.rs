//! A client that writes thousands of keys in a second to etcd, with the calls of etcd's API that change something.
//!
//! The numbers of fields are those of go.etcd.io/etcd/api/v3 (etcdserverpb/rpc.proto). Each call returns etcd's
//! revision after it.

use std::path::{Path, PathBuf};

use hyper_util::rt::TokioIo;
use prost::{Message, Oneof};
use tokio::net::UnixStream;
use tonic::{
    Request, Status,
    client::Grpc,
    codegen::http::uri::PathAndQuery,
    transport::{Channel, Endpoint},
};
use tonic_prost::ProstCodec;
use tower::service_fn;

#[derive(Clone, PartialEq, Message)]
struct PutRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
    #[prost(int64, tag = "3")]
    lease: i64,
}

#[derive(Clone, PartialEq, Message)]
struct DeleteRangeRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    range_end: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct RangeRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct Compare {
    /// The compared field. 2 is the last revision of the key, which must be equal.
    #[prost(int32, tag = "2")]
    target: i32,
    #[prost(bytes = "vec", tag = "3")]
    key: Vec<u8>,
    #[prost(int64, tag = "6")]
    mod_revision: i64,
}

#[derive(Clone, PartialEq, Message)]
struct TxnRequest {
    #[prost(message, repeated, tag = "1")]
    compare: Vec<Compare>,
    #[prost(message, repeated, tag = "2")]
    success: Vec<RequestOp>,
    #[prost(message, repeated, tag = "3")]
    failure: Vec<RequestOp>,
}

#[derive(Clone, PartialEq, Message)]
struct RequestOp {
    #[prost(oneof = "Op", tags = "1, 2, 3")]
    op: Option<Op>,
}

#[derive(Clone, PartialEq, Oneof)]
enum Op {
    #[prost(message, tag = "1")]
    Range(RangeRequest),
    #[prost(message, tag = "2")]
    Put(PutRequest),
    #[prost(message, tag = "3")]
    Delete(DeleteRangeRequest),
}

#[derive(Clone, PartialEq, Message)]
struct CompactionRequest {
    #[prost(int64, tag = "1")]
    revision: i64,
    /// Whether etcd answers only when the old values are removed from its file.
    #[prost(bool, tag = "2")]
    physical: bool,
}

#[derive(Clone, PartialEq, Message)]
struct LeaseGrantRequest {
    #[prost(int64, tag = "1")]
    ttl: i64,
    #[prost(int64, tag = "2")]
    id: i64,
}

#[derive(Clone, PartialEq, Message)]
struct LeaseRevokeRequest {
    #[prost(int64, tag = "1")]
    id: i64,
}

/// The fields that all answers begin with.
#[derive(Clone, PartialEq, Message)]
struct Answer {
    #[prost(message, optional, tag = "1")]
    header: Option<Header>,
}

#[derive(Clone, PartialEq, Message)]
struct Header {
    #[prost(int64, tag = "3")]
    revision: i64,
}

/// A connection to one member of etcd.
pub(crate) struct Writer {
    runtime: tokio::runtime::Runtime,
    grpc: Grpc<Channel>,
}

impl Writer {
    pub(crate) fn new(url: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let endpoint = Endpoint::from_shared(url.to_owned()).unwrap();
        let channel = runtime.block_on(async { endpoint.connect_lazy() });
        Self { runtime, grpc: Grpc::new(channel) }
    }

    /// Makes a writer for a server at a Unix socket.
    pub(crate) fn at_socket(path: &Path) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let path: PathBuf = path.to_owned();
        let connect = service_fn(move |_| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        let endpoint = Endpoint::from_static("http://localhost");
        let channel = runtime.block_on(async { endpoint.connect_with_connector_lazy(connect) });
        Self { runtime, grpc: Grpc::new(channel) }
    }

    pub(crate) fn put(&mut self, key: &str, value: &[u8]) -> Result<u64, Status> {
        self.call("/etcdserverpb.KV/Put", put(key, value, 0))
    }

    pub(crate) fn put_leased(&mut self, key: &str, value: &[u8], lease: i64) -> Result<u64, Status> {
        self.call("/etcdserverpb.KV/Put", put(key, value, lease))
    }

    /// Writes all pairs in one transaction. etcd accepts at most 128.
    pub(crate) fn put_all<'a>(&mut self, pairs: impl Iterator<Item = (&'a str, &'a [u8])>) -> Result<u64, Status> {
        let ops = pairs.map(|(key, value)| RequestOp { op: Some(Op::Put(put(key, value, 0))) });
        self.call("/etcdserverpb.KV/Txn", TxnRequest { success: ops.collect(), ..TxnRequest::default() })
    }

    /// Deletes the keys from `key` to before `end`. If `end` is empty, deletes only `key`.
    pub(crate) fn delete(&mut self, key: &str, end: &str) -> Result<u64, Status> {
        let request = DeleteRangeRequest { key: key.into(), range_end: end.into() };
        self.call("/etcdserverpb.KV/DeleteRange", request)
    }

    /// Deletes a key whose last change has this revision, as API servers do. kine knows no other way.
    pub(crate) fn delete_changed_at(&mut self, key: &str, mod_revision: u64) -> Result<u64, Status> {
        let op = |op| vec![RequestOp { op: Some(op) }];
        let mod_revision = mod_revision.try_into().unwrap();
        let request = TxnRequest {
            compare: vec![Compare { target: 2, key: key.into(), mod_revision }],
            success: op(Op::Delete(DeleteRangeRequest { key: key.into(), range_end: Vec::new() })),
            failure: op(Op::Range(RangeRequest { key: key.into() })),
        };
        self.call("/etcdserverpb.KV/Txn", request)
    }

    /// Compacts all older values before `revision`. If `physical` is true, waits until this is done.
    pub(crate) fn compact(&mut self, revision: u64, physical: bool) -> Result<u64, Status> {
        let request = CompactionRequest { revision: revision.try_into().unwrap(), physical };
        self.call("/etcdserverpb.KV/Compact", request)
    }

    pub(crate) fn grant(&mut self, lease: i64) -> Result<u64, Status> {
        self.call("/etcdserverpb.Lease/LeaseGrant", LeaseGrantRequest { ttl: 86_400, id: lease })
    }

    /// Ends a lease, with all its keys.
    pub(crate) fn revoke(&mut self, lease: i64) -> Result<u64, Status> {
        self.call("/etcdserverpb.Lease/LeaseRevoke", LeaseRevokeRequest { id: lease })
    }

    fn call(&mut self, path: &'static str, message: impl Message + 'static) -> Result<u64, Status> {
        let Self { runtime, grpc } = self;
        let answer = runtime.block_on(async {
            grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
            let codec = ProstCodec::<_, Answer>::default();
            grpc.unary(Request::new(message), PathAndQuery::from_static(path), codec).await
        });
        let header = answer?.into_inner().header.unwrap_or_default();
        Ok(header.revision.try_into().unwrap())
    }
}

fn put(key: &str, value: &[u8], lease: i64) -> PutRequest {
    PutRequest { key: key.into(), value: value.to_vec(), lease }
}
