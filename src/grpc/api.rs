//! The KMS v2 API: the code that `build.rs` makes of `proto/kms-v2.proto`, and what both ends of a call agree on beyond
//! it.

pub use generated::*;

#[allow(missing_docs, unreachable_pub, clippy::pedantic, reason = "generated")]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/own-codec/v2.rs"));
}

/// The API's version. An API server keeps the first one that it receives for its whole life.
pub const VERSION: &str = "v2";

/// The most bytes of one message. The largest ones that the API allows are far below: seeds of 512 bytes, ciphertexts
/// of 1,024.
pub const MESSAGE_LIMIT: usize = 64 * 1024;

/// The metadata by which our own [`probe`](crate::probe) shows that it is no API server.
pub const PROBE: &str = "claviger-probe";

/// The metadata that carries the plugin's report of itself, as JSON. Only root and the plugin's own user receive it.
pub const REPORT: &str = "claviger-report";

/// The metadata by which a probe asks for a proof that the plugin can read under a key: `<key_id> <base64 canary>`. The
/// report carries the answer.
pub const CANARY: &str = "claviger-canary";
