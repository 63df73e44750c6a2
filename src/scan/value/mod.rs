//! One stored value: its provider and key, read from its bytes without any key.
//!
//! ```text
//! classify -> body -> damage        frame -> classify
//! ```
//!
//! The formats are kube-apiserver's (`k8s.io/apiserver`, `pkg/server/options/encryptionconfig` and
//! `pkg/storage/value`); `docs/scan.md` lists them.

mod body;
mod classify;
mod damage;
mod frame;
#[cfg(test)]
mod samples;

pub use body::{DekKind, KmsV2Body};
pub use classify::{ENCRYPTED, Encoding, UNKNOWN, Value, classify, commitment_half, kms_v2_body};
pub use damage::ValueDamage;
pub use frame::Frame;
