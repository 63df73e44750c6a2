//! Attacks a daemon with hostile peers. Meanwhile a good client notices nothing.
//!
//! ```text
//! malformed ─> framing, headers ─> wire ─┐
//!           └> calls ─> exchange ────────┼─> victim (the daemon, a process) <── good (calls all the time)
//! slow, limits ─────────────────> wire ──┘
//! ```
//!
//! The peers are users who may connect, like an API server that misbehaves. One test uses peers who may not connect.
//! Invariants: the daemon never ends, it needs no more memory and descriptors than before, and every good call succeeds
//! within the time that an API server waits.

mod calls;
mod exchange;
mod framing;
pub(crate) mod good;
mod headers;
mod limits;
mod malformed;
pub(crate) mod random;
mod slow;
mod victim;
mod wire;
