//! The life of a plugin: listen, unseal, report to systemd, look for changes, end.
//!
//! It listens before it unseals, so that an API server gets UNAVAILABLE and not a refused connection. A plugin that
//! takes over from another one unseals first, because the other one answers until then. Only one daemon serves from a
//! state directory: a second one ends before it serves, and one that takes over waits for the lock while it serves.
//! SIGTERM and SIGINT end it. SIGHUP makes it look at the keyring again, and it also notices changes by itself.
//! Invariant: a failure after the start is logged and changes nothing that is served.

mod attend;
mod error;
mod protect;
mod signals;
mod start;
mod unsealer;

pub use self::{
    error::DaemonError,
    start::{SocketUse, run},
};
