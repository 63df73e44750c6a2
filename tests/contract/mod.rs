//! What kube-apiserver demands of a KMS v2 plugin, each demand a test against a real one.

mod answers;
mod calls;
mod config;
mod front;
mod health;
mod http;
mod kms;
mod meddled;
mod meddler;
mod nightly;
mod reload;
mod rig;
mod seal;
mod stale;
mod start;
mod storm;

const BINARY: &str = env!("CARGO_BIN_EXE_claviger");
