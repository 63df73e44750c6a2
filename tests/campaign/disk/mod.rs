//! Faults under every command that changes something on a disk: killed at each system call, failing ones, writes that were lost,
//! commands beside each other, wrong clocks, a small file system.
//!
//! A [`case::Case`] is a command with what goes before it. Whatever happens to it, the state directory is the one of before or
//! the one of after, whole: it opens, every key that was there is there, and the next command works. `CLAVIGER_CAMPAIGN` is how many
//! points of each case are taken; 100000 takes all of them.
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

/// Threads that take points: more than there are processors, as a point waits for disks and processes.
const WORKERS: usize = 4;

/// Does `act` with each of `items`, several at a time, and gives what each said in no certain order.
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
