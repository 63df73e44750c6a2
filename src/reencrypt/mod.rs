//! Re-encryption: makes the API server rewrite what is not under the provider and key that it writes with now.
//!
//! ```text
//! sweep -> state -> stale, locate, pace, failures;   sweep -> witness, room
//! ```
//!
//! A scan names the stale objects, and a [`Sweep`] has each of them rewritten, by an empty patch. An answer of the
//! API server proves nothing: it may hold the old key. Only the next scan of etcd shows what is left. So nothing has to
//! be stored for a sweep that was interrupted: the next one begins with a scan.
//!
//! Nothing here decrypts, and an answer has the metadata of an object only. A scan stops when it has found
//! [`stale::BATCH`] objects, and goes on from there, so it does not remember them all. A hash of 8 bytes is remembered
//! for each object that was rewritten, so that an object counts once.

mod failures;
mod locate;
mod pace;
#[cfg(test)]
mod replays;
mod room;
mod stale;
mod state;
mod sweep;
#[cfg(test)]
mod tests;
mod witness;

pub use failures::{FailureKind, FailureList, NamedFailure};
pub use locate::is_served;
pub use pace::RequestPace;
pub use stale::{BATCH, StaleScan, is_rewritable};
pub use state::{Patience, SweepEnd, SweepFailure, SweepOutcome};
pub use sweep::Sweep;
pub use witness::revision_of;
