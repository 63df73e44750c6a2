//! Counts the objects that have to be rewritten, and those that a rewrite cannot change, from the report of a scan.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
};

use crate::{
    keyring::time::Time,
    reencrypt::is_rewritable,
    scan::{
        judge::{FindingKind, Judge},
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

/// The objects that are left by name and are not as configured.
#[derive(Default)]
struct LeftObjects {
    /// Their keys.
    found: BTreeSet<Vec<u8>>,
    /// The number of those that the API server could rewrite.
    stale: u64,
    obstacles: Obstacles,
}

impl LeftObjects {
    fn add(&mut self, object: &ListedObject<'_>, judge: &Judge) {
        self.found.insert(object.key.to_vec());
        self.stale += u64::from(is_rewritable(object.group, judge));
        if object.finding == Some(FindingKind::Damaged) {
            self.obstacles.add(&[FindingKind::Damaged], 1);
        } else {
            self.obstacles.add(&judge.verdict_of(object.group).kinds, 1);
        }
    }
}

/// The sums over the groups of a scan. The fields are those of [`Census`].
#[derive(Default)]
struct GroupSums {
    stale: BTreeMap<String, u64>,
    values: BTreeMap<String, ValueSum>,
    in_need: u64,
    events: u64,
    obstacles: Obstacles,
    to_plaintext: Vec<String>,
}

impl GroupSums {
    fn add(&mut self, count: &GroupCount, judge: &Judge) {
        let resource = || count.group.resource.to_string();
        if count.verdict.kinds.contains(&FindingKind::OldKey) {
            self.in_need += count.objects;
        }
        let is_stale = is_rewritable(&count.group, judge);
        if !is_event(count) {
            self.obstacles.add(&count.verdict.kinds, count.objects);
            if count.group.key_id.is_some() || is_stale {
                self.values.entry(resource()).or_default().add(count);
            }
        }
        if is_stale {
            if judge.writes_plaintext(&count.group.resource) {
                self.to_plaintext.push(resource());
            }
            *self.stale.entry(resource()).or_default() += count.objects;
        } else if !count.verdict.kinds.is_empty() && is_event(count) {
            self.events += count.objects;
        }
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
        let seen = RefCell::new(LeftObjects::default());
        let lister = (!left.is_empty()).then(|| {
            Box::new(|object: &ListedObject<'_>| {
                if object.finding.is_some() && is_left(left, object.key) {
                    seen.borrow_mut().add(object, &input.judge);
                }
            }) as Lister<'_>
        });
        let (outcome, counts) =
            scan_places(&input.places, &input.judge, &names, ScanExtras { lister, ..ScanExtras::default() }, global)?;
        let mut sums = GroupSums::default();
        for count in counts.by_group.iter().filter(|count| count.objects > 0) {
            sums.add(count, &input.judge);
        }
        let now = Time::new(jiff::Timestamp::now()).to_string();
        let mut report = ScanReport::new(outcome, counts, &input.judge, names.prefix(), now);
        report.flags.clone_from(&input.flags);
        report.notes.clone_from(&input.notes);
        let GroupSums { stale, values, in_need, events, mut obstacles, to_plaintext } = sums;
        obstacles.add(&[FindingKind::Damaged], report.found.get(&FindingKind::Damaged).copied().unwrap_or(0));
        let LeftObjects { found: left, stale: left_stale, obstacles: in_left } = seen.into_inner();
        let obstacles = obstacles.without(in_left);
        let unlisted = input.judge.coverage.as_ref().and_then(|coverage| Unlisted::find(&report, coverage));
        Ok(Self { report, stale, values, in_need, events, left, left_stale, obstacles, to_plaintext, unlisted })
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
    /// misspelt, or that it leaves in plaintext for this reason. Returns `None` if nothing has to be rewritten.
    pub(in crate::cli) fn misspelt(&self) -> Option<&Unlisted> {
        self.unlisted().filter(|unlisted| unlisted.is_misspelt())
    }

    /// Returns values that the EncryptionConfiguration leaves out, if that matters: they are in plaintext, or something
    /// has to be rewritten.
    fn unlisted(&self) -> Option<&Unlisted> {
        self.unlisted.as_ref().filter(|unlisted| unlisted.is_plaintext() || self.count() > 0)
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
        let unlisted = self.unlisted().filter(|_| !self.is_incomplete())?;
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
