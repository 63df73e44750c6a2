//! The errors with which a daemon does not start, or ends.

use std::{io, path::PathBuf};

use crate::{keeper::ServeError, listen::SocketError};

/// Why a daemon did not start, or ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DaemonError {
    /// The kernel refused a handler for a signal.
    #[error("catching signals: {0}")]
    Signals(#[source] io::Error),
    /// The socket for notifying systemd, which the environment names, cannot be opened.
    #[error("connecting to systemd's notification socket: {0}")]
    Notify(#[source] io::Error),
    /// There is no socket to listen on.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// systemd passed on something other than a Unix socket that listens.
    #[error("taking systemd's socket: {0}")]
    Inherited(#[source] io::Error),
    /// The event loop cannot take the socket.
    #[error("registering the socket with the event loop: {0}")]
    Register(#[source] io::Error),
    /// The keyring cannot be served.
    #[error(transparent)]
    Keyring(#[from] ServeError),
    /// Another daemon holds the lock of this state directory.
    #[error("refusing to serve: another plugin serves from {}", .0.display())]
    Occupied(PathBuf),
}
