//! Break glass: opens the values that etcd has, without an API server.
//!
//! ```text
//! recovery -> selection                        which objects are taken from a scan
//!          -> render -> value -> keys          a stored value and the keys -> an object in the clear
//!                    -> manifest -> object     an object in the clear -> what `kubectl apply` takes
//! ```
//!
//! The scanner, which holds no key, finds the values. This module opens them in several threads, and hands them on in
//! the scan's order. It writes no files. Invariant: a value that this module returns was authenticated, unless it is
//! plaintext or under `aescbc`. A value that it cannot open has a reason. Source: `k8s.io/apiserver`,
//! `pkg/storage/value/encrypt`; `docs/scan.md` draws the formats.

mod keys;
mod manifest;
mod object;
mod recovery;
mod render;
mod selection;
#[cfg(test)]
mod tests;
mod value;

pub use keys::ValueKeys;
#[cfg(any(test, fuzzing))]
pub use manifest::manifest;
#[cfg(any(test, fuzzing))]
pub use object::Encoded;
#[cfg(test)]
use recovery::Recovered;
pub use recovery::{OpenedPart, RecoveryJob, RecoverySink, recover};
pub use render::{Form, OpenedObject, RecoverError, UnopenedObject};
pub use selection::Selection;
pub use value::{OpenValueError, ValueOpener};
