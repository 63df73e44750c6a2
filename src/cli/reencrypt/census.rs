//! Counts the objects that have to be rewritten, and those that a rewrite cannot change, from the report of a scan.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
};

use crate::{
    keyring::time::Time,
    reencrypt::is_rewritable,
    scan::{
        judge::FindingKind,
        names::Names,
        report::{GroupRow, ScanReport},
        tally::{GroupCount, ListedObject, Lister},
    },
};

use super::super::{
    Global,
    failure::Failure,
    scanning::{ScanExtras, ScanInput, Unlisted, scan_places},
};

/// The numbers of objects that can keep a rotation from its end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::cli) struct Obstacles {
    /// The number of values under another key of the keyring than the primary one.
    pub(in crate::cli) under_other_keys: u64,
    /// The number of values that are damaged, or under a key or a provider that the API server cannot use.
    pub(in crate::cli) unreadable: u64,
    /// The number of Secrets that no entry of the EncryptionConfiguration encrypts.
    pub(in crate::cli) uncovered: u64,
}

impl Obstacles {
    /// Counts `objects` with these findings.
    fn add(&mut self, kinds: &[FindingKind], objects: u64) {
        let has = |kind: FindingKind| u64::from(kinds.contains(&kind)) * objects;
        let unreadable =
            [FindingKind::Damaged, FindingKind::NoProvider, FindingKind::UnknownKey, FindingKind::DisabledKey];
        self.under_other_keys += has(FindingKind::OldKey);
        self.unreadable += unreadable.into_iter().map(has).max().unwrap_or(0);
        self.uncovered += has(FindingKind::Plaintext);
    }

    fn without(self, left: Self) -> Self {
        Self {
            under_other_keys: self.under_other_keys.saturating_sub(left.under_other_keys),
            unreadable: self.unreadable.saturating_sub(left.unreadable),
            uncovered: self.uncovered.saturating_sub(left.uncovered),
        }
    }
}

/// The number of values, and the sum of their lengths in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::cli) struct ValueSum {
    pub(in crate::cli) objects: u64,
    pub(in crate::cli) bytes: u64,
}

impl ValueSum {
    fn add(&mut self, count: &GroupCount) {
        self.objects += count.objects;
        self.bytes += count.bytes;
    }
}

/// The counts of a scan that decide about rewriting.
pub(in crate::cli) struct Census {
    /// The report of the scan.
    pub(in crate::cli) report: ScanReport,
    /// The number of objects that the API server can rewrite, by resource.
    pub(in crate::cli) stale: BTreeMap<String, u64>,
    /// The values that a KMS plugin has encrypted, or that have to be encrypted, by resource, without events.
    pub(in crate::cli) values: BTreeMap<String, ValueSum>,
    /// The number of values under another key of the keyring, including events and the objects that are left by name.
    pub(in crate::cli) in_need: u64,
    /// The number of events that are not as configured. They expire.
    pub(in crate::cli) events: u64,
    /// The keys of the objects that are left by name and are not as configured.
    pub(in crate::cli) left: BTreeSet<Vec<u8>>,
    /// The number of objects in `left` that the API server could rewrite.
    left_stale: u64,
    /// The obstacles to the end of a rotation, without the objects that are left by name.
    pub(in crate::cli) obstacles: Obstacles,
    /// The resources whose encrypted values would be written in plaintext.
    pub(in crate::cli) to_plaintext: Vec<String>,
    /// Values that the EncryptionConfiguration leaves out.
    unlisted: Option<Unlisted>,
}

impl Census {
    /// Scans all places, and counts.
    ///
    /// # Errors
    /// When a place cannot be read.
    pub(in crate::cli) fn take(input: &ScanInput, left: &BTreeSet<Vec<u8>>, global: &Global) -> Result<Self, Failure> {
        let names = Names::new(&input.prefix);
        let found = RefCell::new(BTreeSet::new());
        let (left_stale, in_left) = (Cell::new(0), Cell::new(Obstacles::default()));
        let lister = (!left.is_empty()).then(|| {
            Box::new(|object: &ListedObject<'_>| {
                if object.finding.is_some() && is_left(left, object.key) {
                    found.borrow_mut().insert(object.key.to_vec());
                    left_stale.set(left_stale.get() + u64::from(is_rewritable(object.group, &input.judge)));
                    let mut counted = in_left.get();
                    if object.finding == Some(FindingKind::Damaged) {
                        counted.add(&[FindingKind::Damaged], 1);
                    } else {
                        counted.add(&input.judge.verdict_of(object.group).kinds, 1);
                    }
                    in_left.set(counted);
                }
            }) as Lister<'_>
        });
        let (outcome, counts) =
            scan_places(&input.places, &input.judge, &names, ScanExtras { lister, ..ScanExtras::default() }, global)?;
        let (mut stale, mut values) = (BTreeMap::new(), BTreeMap::<String, ValueSum>::new());
        let (mut in_need, mut events, mut to_plaintext) = (0, 0, Vec::new());
        let mut obstacles = Obstacles::default();
        for count in counts.by_group.iter().filter(|count| count.objects > 0) {
            if count.verdict.kinds.contains(&FindingKind::OldKey) {
                in_need += count.objects;
            }
            let is_written = count.group.key_id.is_some() || is_rewritable(&count.group, &input.judge);
            if is_written && !is_event(count) {
                values.entry(count.group.resource.to_string()).or_default().add(count);
            }
            if !is_event(count) {
                obstacles.add(&count.verdict.kinds, count.objects);
            }
            if is_rewritable(&count.group, &input.judge) {
                let resource = &count.group.resource;
                to_plaintext.extend(input.judge.writes_plaintext(resource).then(|| resource.to_string()));
                *stale.entry(count.group.resource.to_string()).or_default() += count.objects;
            } else if !count.verdict.kinds.is_empty() && is_event(count) {
                events += count.objects;
            }
        }
        let now = Time::new(jiff::Timestamp::now()).to_string();
        let mut report = ScanReport::new(outcome, counts, &input.judge, names.prefix(), now);
        report.flags.clone_from(&input.flags);
        report.notes.clone_from(&input.notes);
        obstacles.add(&[FindingKind::Damaged], report.found.get(&FindingKind::Damaged).copied().unwrap_or(0));
        let unlisted = input.judge.coverage.as_ref().and_then(|coverage| Unlisted::find(&report, coverage));
        Ok(Self {
            report,
            stale,
            values,
            in_need,
            events,
            left: found.into_inner(),
            left_stale: left_stale.get(),
            obstacles: obstacles.without(in_left.get()),
            to_plaintext,
            unlisted,
        })
    }

    /// Returns the number of objects that have to be rewritten, without those that are left by name.
    pub(in crate::cli) fn count(&self) -> u64 {
        self.stale.values().sum::<u64>().saturating_sub(self.left_stale)
    }

    /// Returns the number of objects that are not encrypted, and should be.
    pub(in crate::cli) fn plaintext(&self) -> u64 {
        let count = |kind| self.report.found.get(&kind).copied().unwrap_or(0);
        count(FindingKind::PlaintextAlthoughCovered)
    }

    /// Returns values that the API server cannot read because a name in the EncryptionConfiguration is probably
    /// misspelt. Returns `None` if nothing has to be rewritten.
    pub(in crate::cli) fn misspelt(&self) -> Option<&Unlisted> {
        self.unlisted.as_ref().filter(|unlisted| unlisted.is_misspelt() && self.count() > 0)
    }

    /// Returns the values that are the reason why a rewrite is pointless: a name in the EncryptionConfiguration is
    /// probably misspelt, or it lists the provider of no value that has to be rewritten.
    pub(in crate::cli) fn unreadable(&self) -> Option<&Unlisted> {
        let is_rewritten = |row: &&GroupRow| {
            let has_cause = row.found.iter().any(|kind| !matches!(kind, FindingKind::Damaged | FindingKind::Plaintext));
            row.objects > 0 && has_cause && self.stale.contains_key(&row.resource)
        };
        let mut rewritten = self.report.groups.iter().filter(is_rewritten);
        let mut is_pointless = || rewritten.all(|row| row.found.contains(&FindingKind::NoProvider));
        let unlisted = self.unlisted.as_ref().filter(|_| self.count() > 0 && !self.is_incomplete())?;
        (unlisted.is_misspelt() || is_pointless()).then_some(unlisted)
    }

    /// Whether no object is left over.
    pub(in crate::cli) fn is_clean(&self) -> bool {
        self.report.found.is_empty() && !self.is_incomplete()
    }

    /// Whether something could not be read. Damaged values do not count here, because they were read.
    pub(in crate::cli) fn is_incomplete(&self) -> bool {
        !self.report.reasons.is_empty()
    }
}

/// Whether the object with this key is left by name. A key that is no text may also be given as a list shows it.
fn is_left(left: &BTreeSet<Vec<u8>>, key: &[u8]) -> bool {
    left.contains(key) || left.contains(String::from_utf8_lossy(key).as_bytes())
}

fn is_event(count: &GroupCount) -> bool {
    count.group.resource.is_events()
}
