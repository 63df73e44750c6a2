//! The generated code of the KMS v2 API, from `proto/kms-v2.proto`, and the conventions that both ends of a call share
//! beyond it.

pub use generated::*;

#[allow(missing_docs, unreachable_pub, clippy::pedantic, reason = "generated")]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/own-codec/v2.rs"));
}

/// The version of the KMS API. An API server keeps the first one that it receives for its whole life.
pub const VERSION: &str = "v2";

/// The greatest length of a message in bytes. The largest messages that the API allows are far below: seeds of 512
/// bytes, ciphertexts of 1,024.
pub const MESSAGE_LIMIT: usize = 64 * 1024;

/// The metadata by which our own [`probe`](crate::probe) shows that it is no API server.
pub const PROBE: &str = "claviger-probe";

/// The metadata that carries the plugin's report of itself, as JSON. Only root and the plugin's own user receive it.
pub const REPORT: &str = "claviger-report";

/// The metadata by which a probe asks for a proof that the plugin can read under a key: `<key_id> <base64 canary>`. The
/// report carries the answer.
pub const CANARY: &str = "claviger-canary";
