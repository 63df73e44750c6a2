//! A thin client of etcd: reads ranges of keys at a revision, and replaces the value of one key by a transaction of one
//! comparison, at the endpoint that answers.
//!
//! The code is generated from the few messages in `proto/etcd.proto`. Only `single_key.rs` writes. Invariant: all
//! answers of one client come from one cluster. kine, which serves etcd's API from an SQL database, counts as such a
//! server, but reports 0 as the number of every cluster. It refuses serializable reads, filters and sorting, and it
//! accepts only the transactions that kube-apiserver sends. Nothing here needs more.

#[cfg(feature = "scan")]
mod client;
#[cfg(feature = "scan")]
mod codec;
#[cfg(feature = "scan")]
mod endpoint;
#[cfg(feature = "scan")]
mod error;
mod servers;
#[cfg(feature = "scan")]
mod single_key;
#[cfg(feature = "scan")]
mod socket;
#[cfg(feature = "scan")]
mod status;
#[cfg(feature = "scan")]
#[cfg(test)]
pub mod testing;

/// The messages and the client that `build.rs` generates from `proto/etcd.proto`.
#[cfg(feature = "scan")]
#[allow(clippy::pedantic, missing_docs, reason = "generated code")]
mod api {
    tonic::include_proto!("etcdserverpb");
}

pub use self::servers::Servers;
#[cfg(feature = "scan")]
pub use self::{
    client::{Client, KeyValue, Page, Query},
    endpoint::{Pem, ServersError},
    error::EtcdError,
    single_key::{KeyReading, KeyWriter, Replaced, SingleKey},
    status::{EtcdStatus, statuses},
};
