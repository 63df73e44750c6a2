//! The thread that opens the keyring, follows its changes, and keeps the lock of the state directory.
//!
//! Invariant: calls are answered while this thread waits for a disk or a lock, and only this thread publishes a
//! keyring. It does its tasks one after the other, in the order in which they were asked for. It ends with the
//! [`Unsealer`].

use std::{
    sync::mpsc::{RecvTimeoutError, Sender, channel},
    thread,
    time::Duration,
};

use tokio::sync::mpsc;
use tracing::{error, info};

use crate::{
    keeper::{Followed, Publisher, Serving},
    telemetry::{advice, event},
};

/// The time between two looks at the files of the keyring. A change is to be served within a second.
const FOLLOW: Duration = Duration::from_millis(250);

/// A task for the thread of an [`Unsealer`].
enum Task {
    /// Open the keyring, and publish it.
    Open,
    /// Take the lock of the state directory when it is free, and hold it until the daemon ends.
    Keep(Serving),
}

/// A thread that opens the keyring, follows its changes, and takes the lock of the state directory. It may wait for a
/// disk or a lock; calls are answered meanwhile.
pub(super) struct Unsealer {
    requests: Sender<Task>,
    outcomes: mpsc::UnboundedReceiver<Followed>,
}

impl Unsealer {
    /// Starts the thread, which does nothing until it is asked.
    pub(super) fn start(mut publisher: Publisher) -> Self {
        let (requests, requested) = channel();
        let (tell, outcomes) = mpsc::unbounded_channel();
        thread::spawn(move || {
            let mut lock = None;
            loop {
                let outcome = match requested.recv_timeout(FOLLOW) {
                    Ok(Task::Open) => Some(publisher.look_again()),
                    Ok(Task::Keep(serving)) => {
                        lock = Some(KeptLock { serving, failed: false });
                        None
                    }
                    Err(RecvTimeoutError::Timeout) => publisher.follow(),
                    Err(RecvTimeoutError::Disconnected) => return,
                };
                lock.iter_mut().for_each(KeptLock::look);
                if outcome.is_some_and(|outcome| tell.send(outcome).is_err()) {
                    return;
                }
            }
        });
        Self { requests, outcomes }
    }

    /// Asks the thread to open the keyring again.
    pub(super) fn again(&self) {
        self.ask(Task::Open);
    }

    /// Asks the thread to keep the lock of the state directory.
    pub(super) fn keep(&self, serving: Serving) {
        self.ask(Task::Keep(serving));
    }

    /// Waits for the outcome of the next attempt to open the keyring. Returns `None` when the thread has ended.
    pub(super) async fn outcome(&mut self) -> Option<Followed> {
        self.outcomes.recv().await
    }

    fn ask(&self, task: Task) {
        // Sending fails only if the thread has panicked: otherwise the thread does not end before this `Unsealer`.
        let _ = self.requests.send(task);
    }
}

/// The lock of the state directory. The daemon may have to wait for it until the daemon that it replaced has ended.
struct KeptLock {
    serving: Serving,
    /// Whether a failure to take the lock was logged.
    failed: bool,
}

impl KeptLock {
    /// Takes the lock if it is free now.
    fn look(&mut self) {
        if self.serving.is_locked() {
            return;
        }
        match self.serving.try_lock() {
            Ok(true) => info!(message = event::LOCKED),
            Err(error) if !self.failed => {
                error!(message = event::NOT_LOCKED, %error, advice = advice::NOT_LOCKED);
                self.failed = true;
            }
            Ok(false) | Err(_) => {}
        }
    }
}
