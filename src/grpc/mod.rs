//! The KMS v2 API at the edge: copies fields, limits sizes, and maps errors to gRPC codes.
//!
//! It decides nothing and knows no key: [`crate::service`] does both. [`calls`] answers calls. [`crate::listen`]
//! accepts the connections and limits what each may use. Invariants: no seed reaches a log; the API server receives
//! only fixed, public sentences. Source: KEP-3299 and `proto/kms-v2.proto`.

pub mod api;
pub mod calls;
mod codec;
pub mod refusal;
