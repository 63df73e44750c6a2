//! Ctrl-C and SIGTERM end a sweep after the requests that are under way.

use tokio::{
    runtime::Runtime,
    signal::unix::{SignalKind, signal},
    sync::watch,
};

use super::super::failure::{Exit, Failure};

/// Catches both signals from now on. What is returned becomes true with the first of them; the second one ends the
/// process.
///
/// # Errors
/// When the kernel refuses a handler.
pub(super) fn catch(runtime: &Runtime) -> Result<watch::Receiver<bool>, Failure> {
    let refused = |error| Failure::new(Exit::Refused, &format!("catching signals: {error}"), None);
    let _guard = runtime.enter();
    let mut interrupt = signal(SignalKind::interrupt()).map_err(refused)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(refused)?;
    let (sender, stopped) = watch::channel(false);
    runtime.spawn(async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if sender.send_replace(true) {
                std::process::exit(Exit::Interrupted as i32);
            }
        }
    });
    Ok(stopped)
}
