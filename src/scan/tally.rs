//! Counts the objects of a scan by resource, provider and key, and keeps what a report names. Older values are counted
//! apart from live objects.

use std::{
    collections::{BTreeMap, HashMap},
    ops::ControlFlow,
    sync::Arc,
};

use super::{
    fingerprint::{Fingerprint, FingerprintTable},
    group::{Group, Groups},
    judge::{FindingKind, Judge, Verdict},
    object::{Object, Sink},
    smallest::Smallest,
    value::{Encoding, ValueDamage},
};

/// The number of keys that are kept for each group as examples.
const SAMPLES: usize = 5;

/// The greatest number of findings of each kind that are kept.
const FINDINGS: usize = 1000;

/// The greatest number of bytes of a key that are kept.
const KEPT_KEY: usize = 2048;

/// The counts of one group.
#[derive(Debug)]
pub struct GroupCount {
    /// The group that was counted.
    pub group: Arc<Group>,
    /// The judgement about the values of the group.
    pub verdict: Verdict,
    /// The number of live objects.
    pub objects: u64,
    /// The sum of the lengths of the values of live objects, in bytes.
    pub bytes: u64,
    /// The number of older values that are still in the database.
    pub older_values: u64,
    /// The number of distinct wrapped seeds of live objects.
    pub seeds: u64,
    /// The revision at which the least recently written live object was written.
    pub first_revision: Option<u64>,
    /// The revision at which the most recently written live object was written.
    pub last_revision: Option<u64>,
    /// The number of live objects by encoding: protobuf, JSON, CBOR, raw.
    pub encodings: [u64; 4],
    /// The first keys of live objects, in alphabetical order.
    pub samples: Smallest<String>,
    /// The seed of the last object. The next object usually has the same seed.
    last_seed: Option<Fingerprint>,
}

/// A finding about an object. Findings are ordered by the key of the object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectFinding {
    /// The key of the object in etcd.
    pub key: String,
    /// The resource of the object.
    pub resource: String,
    /// The provider of the value.
    pub provider: String,
    /// The key_id that the value names.
    pub key_id: Option<String>,
    /// The revision at which the value was written.
    pub mod_revision: u64,
    /// The damage of the value, if it is damaged.
    pub reason: Option<String>,
}

impl ObjectFinding {
    fn new(object: &Object<'_>, group: &Group, damage: Option<ValueDamage>) -> Self {
        Self {
            key: kept(object.key),
            resource: group.resource.to_string(),
            provider: group.provider.clone(),
            key_id: group.key_id.clone(),
            mod_revision: object.mod_revision,
            reason: damage.map(|damage| damage.to_string()),
        }
    }
}

/// A live object, or an older value that can be read, as `scan --list` prints it.
pub struct ListedObject<'a> {
    /// The key of the object in etcd.
    pub key: &'a [u8],
    /// The group of the value.
    pub group: &'a Group,
    /// The worst finding about the object, if the object is live.
    pub finding: Option<FindingKind>,
    /// Whether the value is an older one, and not live.
    pub is_older: bool,
    /// The revision at which the value was written.
    pub mod_revision: u64,
    /// The length of the value in bytes.
    pub length: u32,
}

/// Is called with each live object of a scan, and with each older value that is in plaintext and should be encrypted.
pub type Lister<'a> = Box<dyn FnMut(&ListedObject<'_>) + 'a>;

/// The sink of `claviger scan`, which counts objects.
pub struct Tally<'a> {
    judge: &'a Judge,
    groups: Arc<Groups>,
    /// The counts of each group, by the number of the group.
    counts: Vec<GroupCount>,
    /// The distinct seeds of each group, by the number of the group. Most groups have a few seeds; all groups together
    /// may have many.
    seeds: HashMap<u32, FingerprintTable>,
    findings: BTreeMap<FindingKind, Smallest<ObjectFinding>>,
    readable_older: Smallest<ObjectFinding>,
    lister: Option<Lister<'a>>,
}

/// The result of a tally.
pub struct Counts {
    /// The counts of each group, in no particular order.
    pub by_group: Vec<GroupCount>,
    /// The findings of each kind.
    pub findings: BTreeMap<FindingKind, Smallest<ObjectFinding>>,
    /// The older values that are in plaintext and should be encrypted.
    pub readable_older: Smallest<ObjectFinding>,
    /// Whether there were too many groups, so that some were counted as one.
    pub has_merged_groups: bool,
}

impl Sink for Tally<'_> {
    fn object(&mut self, object: &Object<'_>) -> ControlFlow<()> {
        self.count_object(object);
        ControlFlow::Continue(())
    }

    fn older(&mut self, object: &Object<'_>) -> ControlFlow<()> {
        if let Some(count) = self.count_of(object.summary.group) {
            count.older_values += 1;
            let (is_readable, is_damaged) = (count.verdict.is_readable(), object.summary.damage.is_some());
            if is_readable || is_damaged {
                let group = Arc::clone(&count.group);
                if is_readable {
                    self.note_readable_older(object, &group);
                }
                if is_damaged {
                    self.find(FindingKind::Damaged, object, &group, object.summary.damage);
                }
            }
        }
        ControlFlow::Continue(())
    }

    fn forget(&mut self) -> bool {
        if self.lister.is_some() {
            return false;
        }
        self.counts.clear();
        self.seeds.clear();
        self.findings.clear();
        self.readable_older = Smallest::new(FINDINGS);
        true
    }
}

impl<'a> Tally<'a> {
    /// Begins a tally of the objects of `groups`. `judge` judges each group; `lister` is called with each live object.
    pub fn new(judge: &'a Judge, groups: Arc<Groups>, lister: Option<Lister<'a>>) -> Self {
        let (counts, seeds, findings) = (Vec::new(), HashMap::new(), BTreeMap::new());
        Self { judge, groups, counts, seeds, findings, readable_older: Smallest::new(FINDINGS), lister }
    }

    /// Returns the result of the tally.
    pub fn finish(self) -> Counts {
        let by_group = self.counts.into_iter().filter(|count| count.objects + count.older_values > 0).collect();
        let Self { findings, readable_older, groups, .. } = self;
        Counts { by_group, findings, readable_older, has_merged_groups: groups.is_over_full() }
    }

    /// Counts a live object. Most objects need only this.
    fn count_object(&mut self, object: &Object<'_>) {
        let Object { key, mod_revision, summary, .. } = *object;
        let is_listed = self.lister.is_some();
        let Some(count) = self.count_of(summary.group) else { return };
        count.objects += 1;
        count.bytes += u64::from(summary.length);
        count.first_revision = Some(count.first_revision.map_or(mod_revision, |first| first.min(mod_revision)));
        count.last_revision = Some(count.last_revision.map_or(mod_revision, |last| last.max(mod_revision)));
        if let Some(encoding) = encoding_index(summary.encoding) {
            count.encodings[encoding] += 1;
        }
        count.samples.add(|last| last.as_bytes() <= key, || kept(key));
        let is_new_seed = summary.seed.is_some() && count.last_seed != summary.seed;
        count.last_seed = summary.seed;
        let is_unusual = !count.verdict.kinds.is_empty() || summary.damage.is_some() || is_new_seed;
        if is_unusual || is_listed {
            self.count_unusual(object, is_new_seed);
        }
    }

    /// Handles the rarer cases of an object: counts its seed, keeps findings, lists it.
    fn count_unusual(&mut self, object: &Object<'_>, is_new_seed: bool) {
        let Object { key, mod_revision, summary, .. } = *object;
        let Some(count) = self.count_of(summary.group) else { return };
        let group = Arc::clone(&count.group);
        let damage = summary.damage.map(|damage| (FindingKind::Damaged, Some(damage)));
        let kinds: Vec<_> = damage.into_iter().chain(count.verdict.kinds.iter().map(|kind| (*kind, None))).collect();
        if is_new_seed {
            self.count_seed(summary.group, summary.seed);
        }
        for (kind, damage) in &kinds {
            self.find(*kind, object, &group, *damage);
        }
        if let Some(lister) = &mut self.lister {
            let finding = kinds.iter().map(|(kind, _)| *kind).min();
            lister(&ListedObject {
                key,
                group: &group,
                finding,
                is_older: false,
                mod_revision,
                length: summary.length,
            });
        }
    }

    /// Keeps the key of an older value that can be read, and lists the value.
    fn note_readable_older(&mut self, object: &Object<'_>, group: &Group) {
        let Object { key, mod_revision, summary, .. } = *object;
        self.readable_older.add(|last| last.key.as_bytes() <= key, || ObjectFinding::new(object, group, None));
        if let Some(lister) = &mut self.lister {
            lister(&ListedObject { key, group, finding: None, is_older: true, mod_revision, length: summary.length });
        }
    }

    fn find(&mut self, kind: FindingKind, object: &Object<'_>, group: &Group, damage: Option<ValueDamage>) {
        let findings = self.findings.entry(kind).or_insert_with(|| Smallest::new(FINDINGS));
        findings.add(|last| last.key.as_bytes() <= object.key, || ObjectFinding::new(object, group, damage));
    }

    fn count_seed(&mut self, group: u32, seed: Option<Fingerprint>) {
        let seeds = self.seeds.entry(group).or_default();
        if seed.is_some_and(|seed| seeds.insert(seed))
            && let Some(count) = self.count_of(group)
        {
            count.seeds += 1;
        }
    }

    /// Returns the counts of the group with this number. Begins them if the group is new.
    fn count_of(&mut self, group: u32) -> Option<&mut GroupCount> {
        let index = usize::try_from(group).ok()?;
        while self.counts.len() <= index {
            let group = self.groups.get(u32::try_from(self.counts.len()).ok()?)?;
            self.counts.push(GroupCount::new(self.judge, group));
        }
        self.counts.get_mut(index)
    }
}

impl GroupCount {
    fn new(judge: &Judge, group: Arc<Group>) -> Self {
        Self {
            verdict: judge.verdict_of(&group),
            group,
            objects: 0,
            bytes: 0,
            older_values: 0,
            seeds: 0,
            first_revision: None,
            last_revision: None,
            encodings: [0; 4],
            samples: Smallest::new(SAMPLES),
            last_seed: None,
        }
    }
}

/// Returns a key as text, cut at [`KEPT_KEY`] bytes, because many keys are kept.
fn kept(key: &[u8]) -> String {
    match key.get(..KEPT_KEY) {
        Some(begin) if key.len() > KEPT_KEY => format!("{}…", String::from_utf8_lossy(begin)),
        _ => String::from_utf8_lossy(key).into_owned(),
    }
}

fn encoding_index(encoding: Encoding) -> Option<usize> {
    match encoding {
        Encoding::Encrypted => None,
        Encoding::Protobuf => Some(0),
        Encoding::Json => Some(1),
        Encoding::Cbor => Some(2),
        Encoding::Raw => Some(3),
    }
}
