//! A line on standard error if a server does not answer soon, so that no command waits in silence.

use std::{
    sync::mpsc::{RecvTimeoutError, Sender, channel},
    thread::{self, JoinHandle},
    time::Duration,
};

use super::{Global, output};

/// The time after which the line is printed.
const SOON: Duration = Duration::from_secs(3);

/// The wait for an answer. Its end, or its drop, prevents the line.
pub(super) struct AnswerWait {
    thread: Option<(Sender<()>, JoinHandle<()>)>,
}

impl AnswerWait {
    /// Begins to wait for an answer of `server`.
    pub(super) fn begin(server: &str, global: &Global) -> Self {
        if !global.is_for_people() {
            return Self { thread: None };
        }
        let line = format!("waiting for an answer of {server}");
        let (sender, ended) = channel();
        let wait = move || {
            if ended.recv_timeout(SOON) == Err(RecvTimeoutError::Timeout) {
                output::aside_for_people(&line);
            }
        };
        // Without a thread, the line is missing, and the wait is the same.
        let thread = thread::Builder::new().spawn(wait).ok();
        Self { thread: thread.map(|thread| (sender, thread)) }
    }

    /// Notes that the answer has come.
    pub(super) fn end(&mut self) {
        if let Some((sender, thread)) = self.thread.take() {
            drop(sender);
            let _ = thread.join();
        }
    }
}

impl Drop for AnswerWait {
    fn drop(&mut self) {
        self.end();
    }
}
