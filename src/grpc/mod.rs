//! The KMS v2 API at the edge: copies fields, limits sizes, maps errors to gRPC's codes.
//!
//! Decides nothing and knows no key: [`crate::service`] does both. [`calls`] answers. [`crate::listen`] brings the
//! connections and limits what each may take. Invariants: no seed reaches a log; the API server receives fixed, public
//! sentences only. Source: KEP-3299 and `proto/kms-v2.proto`.

pub mod api;
pub mod calls;
mod codec;
pub mod refusal;
