//! The signals that a daemon acts on.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that a daemon acts on.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// Catches them from now on. It also catches SIGUSR1 and SIGUSR2 and ignores them: other daemons give them a
    /// meaning, and uncaught they would end this one.
    ///
    /// # Errors
    /// When the kernel refuses a handler.
    pub(super) fn catch() -> io::Result<Self> {
        for ignored in [SignalKind::user_defined1(), SignalKind::user_defined2()] {
            // Its handler stays when the stream is dropped.
            drop(signal(ignored)?);
        }
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for a signal that ends the daemon.
    pub(super) async fn end(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// Waits for the next signal that the daemon acts on.
    pub(super) async fn next(&mut self) -> Wish {
        tokio::select! {
            _ = self.terminate.recv() => Wish::End,
            _ = self.interrupt.recv() => Wish::End,
            _ = self.hangup.recv() => Wish::LookAgain,
        }
    }
}

/// What a signal asks the daemon for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    /// To end.
    End,
    /// To look at the keyring again.
    LookAgain,
}
