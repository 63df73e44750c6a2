//! Reads the parts of a tree in several threads, and passes them on in their order.

use std::{
    collections::BTreeMap,
    num::NonZero,
    ops::ControlFlow,
    sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc::{Sender, SyncSender, channel, sync_channel},
    },
    thread,
};

use super::{
    super::{
        bolt::{Database, Subtree, TreeReader},
        outcome::Progress,
        summarizer::Summarizer,
    },
    batch::{Batch, Collector},
};

/// The greatest number of parts that are read and not yet counted.
const AHEAD: usize = 32;

/// The greatest number of threads that read. More threads would only wait for the counting thread.
const THREADS_MAX: usize = 4;

/// The inputs that all reading threads share.
pub struct TreeParts<'p> {
    /// The database to read.
    pub database: &'p Database,
    /// The parts of the tree, in the order of their keys.
    pub subtrees: &'p [Subtree],
    /// Summarizes the values.
    pub summarizer: &'p Summarizer,
    /// Whether the sink needs values.
    pub needs_values: bool,
}

impl TreeParts<'_> {
    /// Reads all parts, and calls `count` with each batch, from the last part to the first. The calling thread reads,
    /// too, whenever no batch waits for it. Ends early if `count` says so.
    pub fn read(&self, progress: Progress<'_>, mut count: impl FnMut(Batch) -> ControlFlow<()>) -> ControlFlow<()> {
        let threads = thread::available_parallelism().map_or(1, NonZero::get).clamp(1, THREADS_MAX);
        let queue = PartQueue { parts: self.subtrees, taken: AtomicUsize::new(0) };
        let mut own = PartReader::new(self);
        thread::scope(|scope| {
            let (sender, batches) = channel();
            // There is one permit for each part that was taken and is not counted yet.
            let (permit, permits) = sync_channel(AHEAD);
            for _ in 1..threads {
                let (sender, permit, queue) = (sender.clone(), permit.clone(), &queue);
                let reader = PartReader::new(self);
                scope.spawn(move || reader.read_all(queue, &permit, &sender));
            }
            drop(sender);
            let (mut waiting, mut counted) = (BTreeMap::new(), 0);
            while counted < self.subtrees.len() {
                progress(counted as u64, self.subtrees.len() as u64);
                waiting.extend(batches.try_iter());
                if let Some(batch) = waiting.remove(&counted) {
                    count(batch)?;
                    counted += 1;
                    let _ = permits.try_recv();
                } else if let Some((at, part)) = permit.try_send(()).ok().and_then(|()| queue.take()) {
                    waiting.insert(at, own.read(part));
                } else if let Ok((at, batch)) = batches.recv() {
                    waiting.insert(at, batch);
                } else {
                    // A thread has panicked. The scope panics, too.
                    break;
                }
            }
            ControlFlow::Continue(())
        })
    }
}

/// The parts that no thread has begun to read. The last one is taken first.
struct PartQueue<'p> {
    parts: &'p [Subtree],
    taken: AtomicUsize,
}

impl<'p> PartQueue<'p> {
    /// Takes the next part. Returns it together with the number of parts that were taken before.
    fn take(&self) -> Option<(usize, &'p Subtree)> {
        let before = self.taken.fetch_add(1, Ordering::Relaxed);
        self.parts.iter().rev().nth(before).map(|part| (before, part))
    }
}

/// Reads parts in one thread of several.
struct PartReader<'d> {
    reader: TreeReader<'d>,
    collector: Collector,
}

impl<'d> PartReader<'d> {
    fn new(parts: &TreeParts<'d>) -> Self {
        let collector = Collector::new(parts.summarizer.clone(), parts.needs_values);
        Self { reader: TreeReader::new(parts.database), collector }
    }

    /// Reads parts until none is left, or nobody takes the batches any more. Takes a permit before each part.
    fn read_all(mut self, queue: &PartQueue<'_>, permit: &SyncSender<()>, batches: &Sender<(usize, Batch)>) {
        while permit.send(()).is_ok() {
            let Some((at, part)) = queue.take() else { return };
            if batches.send((at, self.read(part))).is_err() {
                return;
            }
        }
    }

    fn read(&mut self, part: &Subtree) -> Batch {
        self.reader.descend(part, &mut self.collector);
        self.collector.take()
    }
}
