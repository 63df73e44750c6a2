//! Ctrl-C and SIGTERM end a sweep after the requests that are under way, and a scan at once. A second signal ends the
//! process.

use std::{
    io::Write,
    process,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use tokio::{
    runtime::Runtime,
    signal::unix::{SignalKind, signal},
    sync::watch,
    time::timeout,
};

use super::{
    failure::{Exit, Failure},
    runtime::event_loop,
};

/// The reaction of a command to a signal.
pub(super) struct Interrupt {
    /// Becomes true at the first signal.
    pub(super) stopped: watch::Receiver<bool>,
    is_sweeping: Arc<AtomicBool>,
}

impl Interrupt {
    /// Catches both signals from now on, in a thread of its own. The first signal during a sweep ends the sweep. Any
    /// other signal ends the process.
    ///
    /// # Errors
    /// When the kernel refuses a handler.
    pub(super) fn catch() -> Result<Self, Failure> {
        let refused = |error| Failure::new(Exit::Refused, &format!("catching signals: {error}"), None);
        let runtime = event_loop()?;
        let guard = runtime.enter();
        let mut interrupt = signal(SignalKind::interrupt()).map_err(refused)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(refused)?;
        drop(guard);
        let (sender, stopped) = watch::channel(false);
        let is_sweeping = Arc::new(AtomicBool::new(false));
        let sweeping = Arc::clone(&is_sweeping);
        thread::spawn(move || {
            runtime.block_on(async {
                loop {
                    tokio::select! {
                        _ = interrupt.recv() => {}
                        _ = terminate.recv() => {}
                    }
                    // The flag is read first, because the signal may end a sweep at once.
                    let is_sweeping = sweeping.load(Ordering::Relaxed);
                    if sender.send_replace(true) || !is_sweeping {
                        // If standard error is closed, nobody can read the line.
                        let _ = writeln!(std::io::stderr(), "interrupted: run the command again to go on");
                        process::exit(Exit::Interrupted as i32);
                    }
                }
            });
        });
        Ok(Self { stopped, is_sweeping })
    }

    /// Whether the operator has interrupted.
    pub(super) fn is_stopped(&self) -> bool {
        *self.stopped.borrow()
    }

    /// Waits for `time`. Returns true if the operator interrupts.
    pub(super) fn wait(&self, time: Duration, runtime: &Runtime) -> bool {
        let mut stop = self.stopped.clone();
        let stopped = async { matches!(timeout(time, stop.wait_for(|stopped| *stopped)).await, Ok(Ok(_))) };
        self.during(|| runtime.block_on(stopped))
    }

    /// Runs a sweep, which a signal ends.
    pub(super) fn during<T>(&self, sweep: impl FnOnce() -> T) -> T {
        self.is_sweeping.store(true, Ordering::Relaxed);
        let outcome = sweep();
        self.is_sweeping.store(false, Ordering::Relaxed);
        outcome
    }
}
