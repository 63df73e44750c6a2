//! Finds the objects that have to be rewritten, in batches. `judge` decides: an object is stale if its value is not
//! under the provider and key that API servers write with now.

use std::{collections::BTreeSet, ops::ControlFlow};

use tokio::sync::mpsc::Sender;

use crate::{
    etcd::Servers,
    scan::{
        group::Group,
        judge::{FindingKind, Judge},
        live::{LiveError, scan_after},
        object::{Object, Sink},
        summarizer::Summarizer,
    },
};

/// The size of a batch. A scan stops after this many objects, and the next scan continues after the last of them. So no
/// stream of etcd stays open while the API server writes.
pub const BATCH: usize = 10_000;

/// An object that has to be rewritten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StaleObject {
    /// The key of the object in etcd.
    pub(super) key: Box<[u8]>,
    /// The revision at which the object was last written.
    pub(super) mod_revision: u64,
}

/// A batch of stale objects, in the order of their keys.
pub(super) type StaleBatch = Vec<StaleObject>;

/// Whether the API server stores the values of `group` differently when it rewrites them. Events are not rewritten,
/// because that would renew their lifetime.
pub fn is_rewritable(group: &Group, judge: &Judge) -> bool {
    let is_unaffected = |kind: &FindingKind| matches!(kind, FindingKind::Damaged | FindingKind::Plaintext);
    !group.resource.is_events() && judge.verdict_of(group).kinds.iter().any(|kind| !is_unaffected(kind))
}

/// A scan for stale objects.
pub struct StaleScan<'a> {
    /// Every etcd that the API server uses.
    pub places: &'a [Servers],
    /// Decides whether a value is stale.
    pub judge: &'a Judge,
    /// The number of objects in a batch.
    pub batch: usize,
    /// The keys in etcd of the objects that are not rewritten.
    pub left: &'a BTreeSet<Vec<u8>>,
    /// Summarizes the values of the API server's prefix.
    pub summarizer: &'a Summarizer,
}

impl StaleScan<'_> {
    /// Sends all stale objects in batches, until nobody receives them any more.
    ///
    /// # Errors
    /// When an etcd cannot be read.
    pub(super) fn send(&self, batches: &Sender<StaleBatch>) -> Result<(), LiveError> {
        for servers in self.places {
            let mut sink = StaleSink { scan: self, batches, verdicts: Vec::new(), batch: Vec::new() };
            let mut last = self.summarizer.names().prefix().to_vec();
            loop {
                let end = scan_after(servers, self.summarizer.clone(), &last, &mut sink)?;
                let batch = std::mem::take(&mut sink.batch);
                if let Some(object) = batch.last() {
                    last = object.key.to_vec();
                }
                if batches.is_closed() || !batch.is_empty() && batches.blocking_send(batch).is_err() {
                    return Ok(());
                }
                if end.is_continue() {
                    break;
                }
            }
        }
        Ok(())
    }
}

/// The sink that keeps the stale objects of a scan.
struct StaleSink<'a> {
    scan: &'a StaleScan<'a>,
    /// Receives the batches. If the other end is dropped, the scan ends.
    batches: &'a Sender<StaleBatch>,
    /// Whether each group is rewritten, by the number of the group.
    verdicts: Vec<bool>,
    batch: StaleBatch,
}

impl Sink for StaleSink<'_> {
    fn object(&mut self, object: &Object<'_>) -> ControlFlow<()> {
        let is_wanted = object.summary.damage.is_none()
            && self.is_rewritable(object.summary.group)
            && !self.scan.left.contains(object.key);
        if is_wanted {
            self.batch.push(StaleObject { key: object.key.into(), mod_revision: object.mod_revision });
        }
        let is_over = self.batch.len() >= self.scan.batch || self.batches.is_closed();
        if is_over { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn forget(&mut self) -> bool {
        self.batch.clear();
        true
    }
}

impl StaleSink<'_> {
    fn is_rewritable(&mut self, number: u32) -> bool {
        let Ok(index) = usize::try_from(number) else { return false };
        let groups = self.scan.summarizer.groups();
        while self.verdicts.len() <= index {
            let group = u32::try_from(self.verdicts.len()).ok().and_then(|number| groups.get(number));
            let Some(group) = group else { return false };
            self.verdicts.push(is_rewritable(&group, self.scan.judge));
        }
        self.verdicts[index]
    }
}
