//! claviger, the Kubernetes KMS v2 plugin that keeps its own keys.
//!
//! ```text
//! kube-apiserver --Unix socket--> listen --> grpc --> service --> ServedKeys --> crypto --> answer
//!                                                                      ^
//! operator --> cli --> keeper --> Keyring --> record --> store --> file
//! ```
//!
//! | module | what it is |
//! |---|---|
//! | `cli` | a file or folder for each verb: reads its arguments, calls the modules below, prints the result |
//! | `rotate` | drives a rotation: asks the planner for the next step, and has the command do it |
//! | `daemon` | the life of a plugin: listen, unseal, notify systemd, look for changes, end |
//! | `fuzzing` | what every parser promises; only for tests and for `fuzz/` |
//! | `recover` | break glass: opens the values that a scan finds, without an API server |
//! | `reencrypt` | has the API server rewrite what is stale |
//! | `admin` | metrics and health over HTTP, if asked for |
//! | `probe` | asks a running plugin how it is, by one call |
//! | `config` | text to a validated configuration |
//! | `listen` | sockets and connections: lock, mode, take-over, activation, peers, limits, draining |
//! | `grpc` | the API at the edge: copy fields, limit sizes, map errors |
//! | `service` | the KMS v2 calls on the served keys, and which key it announced to each connection |
//! | `keeper` | root key, store and keyring together: make, open, change, mark, publish |
//! | `plan` | what is known of a rotation to its next step; pure, and explored by a model checker |
//! | `escrow` | how keys survive the loss of a machine: backups, recovery blobs, shares of an identity |
//! | `root` | the root key and the slots that seal it |
//! | `proof` | what a clean scan proves: the report of a verification, its bytes, and what has changed since |
//! | `keyring` | the KEKs by version, as a pure state machine; the bytes of record, mark and ledger |
//! | `store` | where the record is kept: compare and swap; knows no keys |
//! | `scan` | what is in etcd or in a snapshot of it, and under which key; read-only, holds no key |
//! | `apiserver` | how the kube-apiserver of this machine is configured: its flags, from wherever they are, and its EncryptionConfiguration |
//! | `apiclient` | the client of an API server: what it serves, and the empty patches that make it write objects again |
//! | `audit` | one line for each event, written before the act |
//! | `etcd` | a thin client of etcd: ranges of keys at one revision, transactions of one comparison |
//! | `durable` | the one place that writes files: order, syncs, read-back, locks |
//! | `text` | the grammar that the text formats share |
//! | `crypto` | bytes to bytes: AEAD, key derivation, the wrapped seed; pure |
//! | `memory` | where the bytes of keys are: locked memory, random bytes, wiping what libraries leave |
//! | `telemetry` | logs, the list of their messages, and metrics |
//! | `hardening` | what the process gives up for itself: dumps, files, system calls |
//! | `systemd` | notifies systemd: ready, reloading, stopping, alive |
//!
//! The highest module comes first. Who may import whom is a table in `tests/architecture/`, and a test.

#![cfg_attr(
    not(all(feature = "html", feature = "metrics", feature = "recover", feature = "scan", feature = "shares")),
    allow(
        dead_code,
        unused_imports,
        clippy::unused_self,
        clippy::default_constructed_unit_structs,
        reason = "without a feature, code that only the feature uses is dead, and its stand-ins are trivial"
    )
)]

#[cfg(feature = "metrics")]
mod admin;
#[cfg(feature = "reencrypt")]
mod apiclient;
#[cfg(feature = "scan")]
mod apiserver;
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
#[cfg(all(test, feature = "recover", feature = "shares", not(fuzzing)))]
mod fuzzing;
mod grpc;
mod hardening;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::format_collect, reason = "as in the integration tests")]
#[path = "../tests/harness/mod.rs"]
mod harness;
mod keeper;
mod keyring;
mod listen;
mod memory;
mod plan;
mod probe;
#[cfg(feature = "scan")]
mod proof;
#[cfg(feature = "recover")]
mod recover;
#[cfg(feature = "reencrypt")]
mod reencrypt;
mod root;
mod rotate;
#[cfg(feature = "scan")]
mod scan;
mod service;
mod store;
mod systemd;
mod telemetry;
mod text;

pub use cli::{run, run_words};
pub use rotate::RotationClock;
