//! Hostile peers, while a good client notices nothing.
//!
//! ```text
//! malformed ─> framing, headers ─> wire ─┐
//!           └> calls ─> exchange ────────┼─> victim (the daemon, a process) <── good (calls all the time)
//! slow, limits ─────────────────> wire ──┘
//! ```
//!
//! The peers here are users that may connect, but for those of one test: an API server gone mad. Invariants: the daemon
//! never ends, its memory and its descriptors stay as they are, and every good call succeeds in the time of an API server.

mod calls;
mod exchange;
mod framing;
pub(crate) mod good;
mod headers;
mod limits;
mod malformed;
mod random;
mod slow;
mod victim;
mod wire;
