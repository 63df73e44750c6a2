//! The three KMS v2 calls on the served keys. Status and Encrypt of one connection agree on the key.
//!
//! No call uses the transport or the disk. Only calls that are refused, failed self-tests and reports take a lock.
//! Invariants: exactly one key is tried; bytes that were not authenticated are never returned; Encrypt answers with the
//! key that the connection's last Status announced, until 10 s after another key was promoted. Source: KEP-3299, and
//! the checks of `kmsv2/envelope.go` in k8s.io/apiserver.

mod adoption;
mod connection;
mod error;
mod health;
mod missing;
mod refused;
mod report;
mod shared;
#[cfg(test)]
pub mod testing;

pub use self::{
    adoption::{ConnectionReport, Peer},
    connection::Connection,
    error::{DecryptError, EncryptError, Sealed},
    health::{Health, Healthz},
    missing::MissingKey,
    report::SelfReport,
    shared::Service,
};
