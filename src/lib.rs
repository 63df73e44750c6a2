//! claviger, the Kubernetes KMS v2 plugin that keeps its own keys.
//!
//! ```text
//! kube-apiserver --Unix socket--> grpc --> service --> Snapshot --> crypto --> answer
//!                                                         ^
//! operator --> cli --> keeper --> Keyring --> record --> store --> file
//! ```
//!
//! | module | what it is |
//! |---|---|
//! | `admin` | metrics and health over HTTP, if asked for |
//! | `audit` | what was done with keys, a line for each event, written before the act |
//! | `cli` | one thin file per verb: parse, call, print |
//! | `config` | text to a validated configuration |
//! | `crypto` | bytes to bytes: secrets in memory, AEAD, key derivation, the wrapped seed |
//! | `daemon` | the life of a plugin: listen, unseal, tell systemd, look again, end |
//! | `durable` | the one place that writes files |
//! | `escrow` | how keys survive the machine: backups, recovery blobs, shares |
//! | `etcd` | a thin client of etcd: ranges of keys at a revision |
//! | `fuzzing` | what every parser promises, for `fuzz/` and the tests |
//! | `grpc` | the socket and the transport: copy fields, limit sizes, map errors |
//! | `hardening` | what the process gives up for itself: dumps, files, system calls |
//! | `keeper` | root, store and keyring: make, open, mark, publish |
//! | `keyring` | the KEKs by version, and the bytes of record and mark |
//! | `root` | the root key and the slots that seal it |
//! | `scan` | what is in etcd: which object is under which provider and key; read-only, holds no key |
//! | `service` | the KMS v2 calls on a snapshot, and the latch of each connection |
//! | `store` | where the record is kept: compare-and-swap |
//! | `systemd` | tells systemd: ready, reloading, stopping, alive |
//! | `telemetry` | logs and metrics |
//! | `text` | the grammar that the formats share |
//!
//! Who may import whom is a table in `tests/architecture.rs`, and a test.

mod admin;
mod audit;
mod cli;
mod config;
mod crypto;
mod daemon;
mod durable;
mod escrow;
mod etcd;
#[cfg(fuzzing)]
pub mod fuzzing;
#[cfg(all(test, not(fuzzing)))]
mod fuzzing;
mod grpc;
mod hardening;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::format_collect, reason = "as in the integration tests")]
#[path = "../tests/harness/mod.rs"]
mod harness;
mod keeper;
mod keyring;
mod root;
mod scan;
mod service;
mod store;
mod systemd;
mod telemetry;
mod text;

pub use cli::run;
