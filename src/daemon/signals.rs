//! Catches the signals that end a daemon or make it look at the keyring again.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that a daemon acts on.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// Catches these signals from now on. It also catches SIGUSR1 and SIGUSR2 and ignores them: operators send them to
    /// other daemons, and the default action would end this one.
    ///
    /// # Errors
    /// When the kernel refuses a handler.
    pub(super) fn catch() -> io::Result<Self> {
        for ignored in [SignalKind::user_defined1(), SignalKind::user_defined2()] {
            // The handler stays when the stream is dropped.
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

/// The wish that a signal expresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    /// The daemon should end.
    End,
    /// The daemon should look at the keyring again.
    LookAgain,
}
