//! Causes faults during every command that changes something on a disk: a kill at each system call, failing system
//! calls, lost writes, commands at the same time, wrong clocks, and a small file system.
//!
//! A [`case::Case`] is a command and the commands that prepare it. After any fault, the state directory is either as it
//! was before the command or as it is after it: it opens, no key is missing, and the next command works.
//! `CLAVIGER_CAMPAIGN` limits how many points of each case are tried; 100000 tries all of them.
//!
//! ```text
//! kill, fail -> case, trace;   order, lost -> ops -> trace;   beside, clock, small -> case
//! ```

mod beside;
mod case;
mod clock;
mod fail;
mod kill;
mod lost;
mod ops;
mod order;
mod small;
mod trace;

use std::{
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

/// The number of threads that try points. There are more threads than processors, because a thread mostly waits for
/// disks and processes.
const WORKERS: usize = 4;

/// Calls `act` with each of `items`, several at a time. Returns the results in any order.
pub(super) fn in_parallel<T: Sync, R: Send>(items: &[T], act: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let (next, results) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let result = act(item);
                    results.lock().unwrap().push(result);
                }
            });
        }
    });
    results.into_inner().unwrap()
}
