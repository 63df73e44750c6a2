//! What a scan says about the objects that have to be written again.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
};

use crate::{
    keyring::time::Time,
    reencrypt::is_rewritable,
    scan::{
        names::Names,
        report::ScanReport,
        tally::{GroupCount, ListedObject, Lister},
    },
};

use super::super::{
    Global,
    failure::Failure,
    scanning::{ScanInput, scan_places},
};

/// What a scan found.
pub(super) struct Census {
    /// The whole report.
    pub(super) report: ScanReport,
    /// How many objects the API server can write again, by resource.
    pub(super) stale: BTreeMap<String, u64>,
    /// Events that are not as they have to be. They expire.
    pub(super) events: u64,
    /// Which objects are not as they have to be, of those that are left by name.
    pub(super) left: BTreeSet<Vec<u8>>,
    /// How many of these the API server could write again.
    left_stale: u64,
    /// The resources whose encrypted values would be written in plaintext.
    pub(super) to_plaintext: Vec<String>,
}

impl Census {
    /// Scans all places.
    ///
    /// # Errors
    /// When a place cannot be read.
    pub(super) fn take(input: &ScanInput, left: &BTreeSet<Vec<u8>>, global: &Global) -> Result<Self, Failure> {
        let names = Names::new(&input.prefix);
        let found = RefCell::new(BTreeSet::new());
        let left_stale = Cell::new(0);
        let lister = (!left.is_empty()).then(|| {
            Box::new(|object: &ListedObject<'_>| {
                if object.finding.is_some() && is_left(left, object.key) {
                    found.borrow_mut().insert(object.key.to_vec());
                    left_stale.set(left_stale.get() + u64::from(is_rewritable(object.group, &input.judge)));
                }
            }) as Lister<'_>
        });
        let (outcome, counts) = scan_places(&input.places, &input.judge, &names, (false, lister), global)?;
        let mut stale = BTreeMap::new();
        let (mut events, mut to_plaintext) = (0, Vec::new());
        for count in counts.by_group.iter().filter(|count| count.objects > 0) {
            if is_rewritable(&count.group, &input.judge) {
                let resource = &count.group.resource;
                to_plaintext.extend(input.judge.writes_plaintext(resource).then(|| resource.to_string()));
                *stale.entry(count.group.resource.to_string()).or_default() += count.objects;
            } else if !count.verdict.kinds.is_empty() && is_event(count) {
                events += count.objects;
            }
        }
        let now = Time::new(jiff::Timestamp::now());
        let mut report = ScanReport::new(outcome, counts, &input.judge, names.prefix(), now.to_string());
        report.flags.clone_from(&input.flags);
        report.notes.clone_from(&input.notes);
        Ok(Self { report, stale, events, left: found.into_inner(), left_stale: left_stale.get(), to_plaintext })
    }

    /// Returns how many objects have to be written again, without those that are left by name.
    pub(super) fn count(&self) -> u64 {
        self.stale.values().sum::<u64>().saturating_sub(self.left_stale)
    }

    /// Whether nothing is left over.
    pub(super) fn is_clean(&self) -> bool {
        self.report.found.is_empty() && !self.is_incomplete()
    }

    /// Whether something was not read. A damaged value was.
    pub(super) fn is_incomplete(&self) -> bool {
        !self.report.reasons.is_empty()
    }
}

/// Whether an object is left by name. A key that is no text is also named as a list shows it.
fn is_left(left: &BTreeSet<Vec<u8>>, key: &[u8]) -> bool {
    left.contains(key) || left.contains(String::from_utf8_lossy(key).as_bytes())
}

fn is_event(count: &GroupCount) -> bool {
    count.group.resource.is_events()
}
