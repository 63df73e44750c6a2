//! Opens the objects of a scan in several threads, and hands them on in the scan's order.
//!
//! Objects are passed on in small parts. Few parts exist at a time, so memory use does not grow with the number of
//! objects.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    num::NonZero,
    ops::ControlFlow,
    sync::{
        Mutex, PoisonError,
        mpsc::{Receiver, Sender, SyncSender, channel, sync_channel},
    },
    thread,
};

use zeroize::Zeroizing;

use super::{
    keys::ValueKeys,
    render::{Form, FoundObject, OpenedObject, Renderer, UnopenedObject},
    selection::{Selection, Selector},
};
use crate::{
    memory::without_traces,
    scan::{
        names::Names,
        object::{Object, Sink},
    },
};

/// The greatest number of objects in a part, and the greatest number of bytes of all its values but the last.
const PART_OBJECTS: usize = 256;
const PART_BYTES: u64 = 256 << 10;

/// The number of parts that may wait between the scan and the threads that take them.
const AHEAD: usize = 8;

/// The greatest number of threads. More threads would only wait for the scan.
const THREADS_MAX: usize = 8;

/// A part of the objects, in the clear.
#[derive(Default)]
pub struct OpenedPart {
    /// The opened objects, in the order of the scan.
    pub objects: Vec<OpenedObject>,
    /// The bytes of the opened objects, one after the other.
    pub bytes: Zeroizing<Vec<u8>>,
    /// The objects that were not opened, with reasons.
    pub unopened: Vec<UnopenedObject>,
}

impl fmt::Debug for OpenedPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenedPart").finish_non_exhaustive()
    }
}

/// The result of a recovery.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Whether every object that was named has been found. The scan ends then.
    pub is_satisfied: bool,
    /// The keys in etcd that were named and not found.
    pub missing: BTreeSet<Vec<u8>>,
}

struct FoundPart {
    number: u64,
    objects: Vec<FoundObject>,
}

/// The sink that takes the chosen objects of a scan, and sends them to the threads that open them.
pub struct RecoverySink {
    selector: Selector,
    part: FoundPart,
    bytes: u64,
    parts: Sender<FoundPart>,
    /// Sends a permit for each part that is under way.
    permit: SyncSender<()>,
}

impl Sink for RecoverySink {
    const NEEDS_VALUES: bool = true;

    fn object(&mut self, object: &Object<'_>) -> ControlFlow<()> {
        let Some(value) = object.value.filter(|_| self.selector.takes(object)) else {
            return ControlFlow::Continue(());
        };
        self.bytes += u64::from(object.summary.length);
        let found = FoundObject { key: object.key.into(), mod_revision: object.mod_revision, value: value.keep() };
        self.part.objects.push(found);
        if self.part.objects.len() == PART_OBJECTS || self.bytes >= PART_BYTES {
            self.send()?;
        }
        if self.selector.is_satisfied() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn forget(&mut self) -> bool {
        false
    }
}

impl RecoverySink {
    /// Sends the part on. Ends the scan if nobody takes it.
    fn send(&mut self) -> ControlFlow<()> {
        let next = FoundPart { number: self.part.number + 1, objects: Vec::with_capacity(PART_OBJECTS) };
        let part = std::mem::replace(&mut self.part, next);
        self.bytes = 0;
        let is_taken = self.permit.send(()).is_ok() && self.parts.send(part).is_ok();
        if is_taken { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    }

    fn finish(mut self) -> Recovered {
        // If nobody takes the last part, the receiver knows the reason.
        let _ = self.send();
        Recovered { is_satisfied: self.selector.is_satisfied(), missing: self.selector.missing() }
    }
}

/// The inputs of a recovery.
pub struct RecoveryJob<'a> {
    /// The keys that open values.
    pub keys: &'a ValueKeys,
    /// The form in which objects are written.
    pub form: Form,
    /// The objects that are recovered.
    pub selection: Selection,
    /// The names of the resources in the scanned etcd.
    pub names: &'a Names,
}

/// Runs `scan` with a sink, and passes every chosen object to `take`, in the order of the scan. If `take` fails, the
/// scan ends.
///
/// # Errors
/// When `take` fails: its error comes with what `scan` returned.
pub fn recover<T, E: Send>(
    RecoveryJob { keys, form, selection, names }: RecoveryJob<'_>,
    scan: impl FnOnce(&mut RecoverySink) -> T,
    take: impl FnMut(OpenedPart) -> Result<(), E> + Send,
) -> (T, Recovered, Result<(), E>) {
    let threads = thread::available_parallelism().map_or(1, NonZero::get).clamp(1, THREADS_MAX);
    let (parts, found) = channel();
    let (opened, to_take) = channel();
    let (permit, permits) = sync_channel(AHEAD);
    let found = Mutex::new(found);
    thread::scope(|scope| {
        for _ in 0..threads {
            let (found, opened) = (&found, opened.clone());
            scope.spawn(move || open_all(found, Renderer::new(keys, form), &opened));
        }
        drop(opened);
        let handing_on = scope.spawn(move || take_all(&to_take, permits, take));
        let selector = Selector::new(selection, names.clone());
        let part = FoundPart { number: 0, objects: Vec::with_capacity(PART_OBJECTS) };
        let mut sink = RecoverySink { selector, part, bytes: 0, parts, permit };
        let outcome = scan(&mut sink);
        let recovered = sink.finish();
        match handing_on.join() {
            Ok(ended) => (outcome, recovered, ended),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// Opens parts until there are no more, or nobody takes them.
fn open_all(found: &Mutex<Receiver<FoundPart>>, mut renderer: Renderer<'_>, parts: &Sender<(u64, OpenedPart)>) {
    loop {
        let next = found.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(FoundPart { number, objects }) = next else { return };
        // The traces of all keys of the part are wiped together.
        let part = without_traces(|| open(&objects, &mut renderer));
        if parts.send((number, part)).is_err() {
            return;
        }
    }
}

fn open(objects: &[FoundObject], renderer: &mut Renderer<'_>) -> OpenedPart {
    let mut part = OpenedPart::default();
    for found in objects {
        match renderer.render(found, &mut part.bytes) {
            Ok(object) => part.objects.push(object),
            Err(unopened) => part.unopened.push(unopened),
        }
    }
    part
}

/// Passes the parts to `take` in their order, and releases a permit for each.
#[expect(clippy::needless_pass_by_value, reason = "without the permits the sink waits for nothing and ends the scan")]
fn take_all<E>(
    opened: &Receiver<(u64, OpenedPart)>,
    permits: Receiver<()>,
    mut take: impl FnMut(OpenedPart) -> Result<(), E>,
) -> Result<(), E> {
    let (mut waiting, mut next) = (BTreeMap::new(), 0);
    for (number, part) in opened {
        waiting.insert(number, part);
        while let Some(part) = waiting.remove(&next) {
            take(part)?;
            next += 1;
            let _ = permits.try_recv();
        }
    }
    Ok(())
}
