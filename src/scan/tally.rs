//! Counts what stands in etcd: by resource, provider and key, live objects apart from older revisions.
//!
//! A key is remembered by 96 bits of SipHash-1-3 under a key drawn for each scan: 12 bytes for each live object, and for each key that
//! was written more than once 13 for each place in a table that is half to seven eighths full, whatever the keys' length. Two of a
//! million keys are taken for one with a probability of 10^-17, and nobody who writes keys can bring it about.

use std::{
    collections::{BinaryHeap, HashMap, HashSet, VecDeque},
    hash::{BuildHasherDefault, Hash, Hasher},
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use siphasher::sip128::{Hasher128, SipHasher13};

use super::{
    judge::{Judge, Key, Kind, Verdict},
    names::{self, Names, Resource},
    value::{Encoding, Frame, UNKNOWN, Value, ValueDamage, classify},
};
use crate::crypto::Commitment;

/// How many names of each group are kept, and how many findings of each kind.
const SAMPLES: usize = 5;
const FINDINGS: usize = 1000;

/// How many groups are kept: far more than any cluster has. Anybody who can write to etcd can make up more, which must not fill the
/// memory; all values of further groups are counted in one that says nothing about them.
pub const GROUPS_MAX: usize = 65_536;

/// How many frames of values are kept in mind.
const FRAMES: usize = 4;

/// What stands for a key, or for a wrapped seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; 12]);

impl Hash for Fingerprint {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // Evenly distributed already.
        state.write_u64(self.0.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes)));
    }
}

/// Takes a fingerprint's bits as they are.
#[derive(Default)]
struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

/// Many fingerprints, in shards: a table that grows is copied, and a small one does not show.
struct Fingerprints {
    shards: Vec<Table>,
}

type Table = HashSet<Fingerprint, BuildHasherDefault<AsIs>>;

const SHARDS: usize = 256;

/// Whether none of them is there twice, shard by shard, each of which the processor has near.
fn are_distinct(shards: &[Vec<Fingerprint>]) -> bool {
    let is_distinct = |shards: &[Vec<Fingerprint>]| {
        let mut table = Table::default();
        shards.iter().all(|shard| {
            table.clear();
            shard.iter().all(|fingerprint| table.insert(*fingerprint))
        })
    };
    let (some, others) = shards.split_at(shards.len() / 2);
    thread::scope(|scope| {
        let others = scope.spawn(|| is_distinct(others));
        is_distinct(some) && others.join().unwrap_or(false)
    })
}

impl Fingerprints {
    fn new() -> Self {
        Self { shards: (0..SHARDS).map(|_| HashSet::default()).collect() }
    }

    fn insert(&mut self, fingerprint: Fingerprint) -> bool {
        self.shards[shard(fingerprint)].insert(fingerprint)
    }

    fn contains(&self, fingerprint: Fingerprint) -> bool {
        self.shards[shard(fingerprint)].contains(&fingerprint)
    }
}

/// By bits that a table does not look at.
fn shard(fingerprint: Fingerprint) -> usize {
    fingerprint.0[11].into()
}

/// Identifies one row of the report: all values that are judged alike.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Group {
    /// The resource.
    pub resource: Resource,
    /// The provider by the prefix that it stores.
    pub provider: String,
    /// The KMS v2 key that the values name.
    pub key_id: Option<String>,
    /// The commitment of the key that wrapped their seeds, if the seeds have the shape of claviger's.
    pub commitment: Option<Commitment>,
}

impl Group {
    /// Counts all values beyond [`GROUPS_MAX`] groups.
    fn rest() -> Self {
        let resource = Resource { name: "others".to_owned(), group: None };
        Self { resource, provider: UNKNOWN.to_owned(), key_id: None, commitment: None }
    }

    /// What is known of the key that its values are under; none unless they are whole values of KMS v2.
    fn key(&self) -> Option<Key<'_>> {
        self.key_id.as_ref().map(|_| self.commitment.as_ref().map_or(Key::Foreign, Key::Claviger))
    }
}

/// The groups that have been met, by number; all threads of a scan share them.
#[derive(Debug, Default)]
pub struct Groups(Mutex<GroupTable>);

#[derive(Debug, Default)]
struct GroupTable {
    numbers: HashMap<Box<[u8]>, u32>,
    groups: Vec<Arc<Group>>,
}

impl Groups {
    fn number(&self, label: &[u8], make: impl FnOnce() -> Group) -> u32 {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let GroupTable { numbers, groups } = &mut *table;
        if let Some(number) = numbers.get(label) {
            return *number;
        }
        let is_full = groups.len() >= GROUPS_MAX;
        if groups.len() <= GROUPS_MAX {
            groups.push(Arc::new(if is_full { Group::rest() } else { make() }));
        }
        let number = u32::try_from(groups.len() - 1).unwrap_or(u32::MAX);
        if !is_full {
            numbers.insert(label.into(), number);
        }
        number
    }

    /// Whether there were more groups than [`GROUPS_MAX`].
    fn has_rest(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).groups.len() > GROUPS_MAX
    }

    fn get(&self, number: u32) -> Option<Arc<Group>> {
        let table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        table.groups.get(usize::try_from(number).ok()?).cloned()
    }
}

/// What is told of one value, without the value.
#[derive(Debug, Clone, Copy)]
pub struct Sighting {
    /// In [`Groups`].
    pub group: u32,
    /// Of its wrapped seed.
    pub seed: Option<Fingerprint>,
    /// How it can be read.
    pub encoding: Encoding,
    /// What is wrong with it.
    pub damage: Option<ValueDamage>,
    /// Its length.
    pub bytes: u32,
}

/// Turns keys and values into [`Sighting`]s; each thread of a scan has its own.
#[derive(Clone)]
pub struct Observer {
    names: Names,
    groups: Arc<Groups>,
    hasher: SipHasher13,
    /// Neighbours mostly are of the same group.
    label: Vec<u8>,
    last: (Vec<u8>, u32),
    /// And under the same seed, or under those of a few API servers by turns; the newest comes last.
    seen: VecDeque<Framed>,
}

/// What was told of a value, for others in the same frame.
#[derive(Clone)]
struct Framed {
    path: Box<[u8]>,
    frame: Frame,
    sighting: Sighting,
}

impl Observer {
    /// One that draws its own key; its clones share it.
    pub fn new(names: Names, random: [u8; 16]) -> Self {
        Self {
            names,
            groups: Arc::default(),
            hasher: SipHasher13::new_with_key(&random),
            label: Vec::new(),
            last: (Vec::new(), 0),
            seen: VecDeque::with_capacity(FRAMES),
        }
    }

    /// The groups that it has met.
    pub fn groups(&self) -> Arc<Groups> {
        Arc::clone(&self.groups)
    }

    /// Whether `key` is one of those that are looked at.
    pub fn covers(&self, key: &[u8]) -> bool {
        key.starts_with(self.names.prefix())
    }

    /// What stands for `key`.
    pub fn fingerprint(&self, key: &[u8]) -> Fingerprint {
        let mut hasher = self.hasher;
        hasher.write(key);
        let bytes = hasher.finish128().as_bytes();
        let mut fingerprint = [0; 12];
        fingerprint.copy_from_slice(&bytes[..12]);
        Fingerprint(fingerprint)
    }

    /// Looks at a value; none if its key is of no resource.
    pub fn observe(&mut self, key: &[u8], value: &[u8]) -> Option<Sighting> {
        let path = self.names.path(key)?;
        let bytes = u32::try_from(value.len()).unwrap_or(u32::MAX);
        let alike = self.seen.iter().rev().find(|seen| seen.frame.fits(value) && *seen.path == *path);
        if let Some(alike) = alike {
            return Some(Sighting { bytes, ..alike.sighting });
        }
        let told = classify(value);
        let sighting = Sighting {
            group: group_of(&self.groups, &mut self.label, &mut self.last, path, &told),
            seed: told.seed.map(|seed| self.fingerprint(seed)),
            encoding: told.encoding,
            damage: told.damage,
            bytes,
        };
        if let Some(frame) = Frame::of(value, &told) {
            if self.seen.len() == FRAMES {
                self.seen.pop_front();
            }
            self.seen.push_back(Framed { path: path.into(), frame, sighting });
        }
        Some(sighting)
    }
}

fn group_of(groups: &Groups, label: &mut Vec<u8>, last: &mut (Vec<u8>, u32), path: &[u8], value: &Value<'_>) -> u32 {
    label.clear();
    // Path and provider contain no zero byte, the commitment has one length, and the key_id comes last: no two groups share a label.
    for part in [path, value.provider.as_bytes()] {
        label.extend_from_slice(part);
        label.push(0);
    }
    label.push(value.commitment.is_some().into());
    if let Some(commitment) = &value.commitment {
        label.extend_from_slice(&commitment.0);
    }
    if let Some(key_id) = value.key_id {
        label.push(1);
        label.extend_from_slice(key_id.as_bytes());
    }
    if last.0 != *label {
        let number = groups.number(label, || Group {
            resource: names::resource(&String::from_utf8_lossy(path)),
            provider: value.provider.to_owned(),
            key_id: value.key_id.map(ToOwned::to_owned),
            commitment: value.commitment,
        });
        last.0.clone_from(label);
        last.1 = number;
    }
    last.1
}

/// What was counted of a group.
#[derive(Debug)]
pub struct GroupCount {
    /// Of which.
    pub group: Arc<Group>,
    /// What is to be said of it.
    pub verdict: Verdict,
    /// Live objects.
    pub objects: u64,
    /// Older values that are still in the database.
    pub revisions: u64,
    /// Distinct wrapped seeds of live objects.
    pub seeds: u64,
    /// The oldest and the newest modification of a live object.
    pub first_revision: Option<u64>,
    /// The newest.
    pub last_revision: Option<u64>,
    /// Live objects by encoding: protobuf, JSON, CBOR, raw.
    pub encodings: [u64; 4],
    /// The first names in the order of the alphabet.
    pub samples: Smallest<String>,
    last_seed: Option<Fingerprint>,
}

/// The smallest of many, and how many there were.
#[derive(Debug)]
pub struct Smallest<T> {
    limit: usize,
    kept: BinaryHeap<T>,
    /// How many there were.
    pub count: u64,
}

impl<T: Ord> Smallest<T> {
    fn new(limit: usize) -> Self {
        Self { limit, kept: BinaryHeap::new(), count: 0 }
    }

    /// Adds what `make` makes, if it is to be kept; `is_greater` says whether it is greater than one that was kept.
    fn add(&mut self, is_greater: impl FnOnce(&T) -> bool, make: impl FnOnce() -> T) {
        self.count += 1;
        if self.kept.len() >= self.limit {
            if self.kept.peek().is_some_and(is_greater) {
                return;
            }
            self.kept.pop();
        }
        self.kept.push(make());
    }

    /// Those that were kept, in their order.
    pub fn into_sorted(self) -> Vec<T> {
        self.kept.into_sorted_vec()
    }
}

/// An object of which something was found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Found {
    /// Its key in etcd.
    pub key: String,
    /// The resource.
    pub resource: String,
    /// The provider.
    pub provider: String,
    /// The KMS v2 key.
    pub key_id: Option<String>,
    /// When it was written last.
    pub mod_revision: u64,
    /// More about it.
    pub reason: Option<String>,
}

/// A live object, for a list of all.
pub struct Listed<'a> {
    /// Its key in etcd.
    pub key: &'a [u8],
    /// Its group.
    pub group: &'a Group,
    /// What was found of it, the worst first.
    pub finding: Option<Kind>,
    /// When it was written last.
    pub mod_revision: u64,
    /// The length of its value.
    pub bytes: u32,
}

/// Takes each live object of a scan.
pub type List<'a> = Box<dyn FnMut(&Listed<'_>) + 'a>;

/// What was counted, so far.
pub struct Tally<'a> {
    judge: &'a Judge,
    groups: Arc<Groups>,
    counts: Vec<GroupCount>,
    keys: Fingerprints,
    /// The keys of all live objects in shards, if `keys` has not all keys that were met.
    unproven: Option<Vec<Vec<Fingerprint>>>,
    /// By group. Most groups have a few seeds; of all groups together there may be many.
    seeds: HashMap<u32, Table>,
    found: HashMap<Kind, Smallest<Found>>,
    list: Option<List<'a>>,
}

/// A whole tally.
pub struct Tallied {
    /// By group, in no order.
    pub counts: Vec<GroupCount>,
    /// By kind.
    pub found: HashMap<Kind, Smallest<Found>>,
    /// Whether there were more groups than are told apart.
    pub has_rest: bool,
}

impl Hash for Kind {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u8(*self as u8);
    }
}

impl<'a> Tally<'a> {
    /// Begins to count.
    pub fn new(judge: &'a Judge, groups: Arc<Groups>, list: Option<List<'a>>) -> Self {
        Self {
            judge,
            groups,
            counts: Vec::new(),
            keys: Fingerprints::new(),
            unproven: None,
            seeds: HashMap::new(),
            found: HashMap::new(),
            list,
        }
    }

    /// Begins to count without a look at each key that was met, which takes most of the time that counting takes: a record that
    /// is said to be the first of its key is not kept in mind, as nothing older follows but behind a deletion, which is. Where that
    /// is not so, an older value is counted as a live object, too, and [`Tally::is_proven`] tells.
    pub fn unproven(judge: &'a Judge, groups: Arc<Groups>) -> Self {
        Self { unproven: Some(vec![Vec::new(); SHARDS]), ..Self::new(judge, groups, None) }
    }

    /// Whether a key is met for the first time. Revisions come newest first, so that this one says what the key is now.
    pub fn is_newest(&mut self, key: Fingerprint, is_first: bool) -> bool {
        if is_first && self.unproven.is_some() { !self.keys.contains(key) } else { self.keys.insert(key) }
    }

    /// Whether no key was counted as a live object twice.
    pub fn is_proven(&self) -> bool {
        self.unproven.as_deref().is_none_or(are_distinct)
    }

    /// Counts an older value of a key.
    pub fn older(&mut self, key: &[u8], mod_revision: u64, sighting: &Sighting) {
        let Some(count) = self.count(sighting.group) else { return };
        count.revisions += 1;
        if sighting.damage.is_some() {
            // It may have been of another group.
            let group = Arc::clone(&count.group);
            self.find(Kind::Damaged, key, mod_revision, &group, sighting.damage);
        }
    }

    /// Keeps the key of a live object in mind, if it has to be proven that there is no other of that key.
    pub fn prove(&mut self, key: Fingerprint) {
        if let Some(unproven) = &mut self.unproven {
            unproven[shard(key)].push(key);
        }
    }

    /// Counts a live object.
    pub fn live(&mut self, key: &[u8], mod_revision: u64, sighting: &Sighting) {
        let Some(count) = self.count(sighting.group) else { return };
        count.objects += 1;
        count.first_revision = Some(count.first_revision.map_or(mod_revision, |first| first.min(mod_revision)));
        count.last_revision = Some(count.last_revision.map_or(mod_revision, |last| last.max(mod_revision)));
        if let Some(encoding) = encoding_index(sighting.encoding) {
            count.encodings[encoding] += 1;
        }
        let text = || String::from_utf8_lossy(key).into_owned();
        count.samples.add(|last| last.as_bytes() <= key, text);
        let is_new_seed = sighting.seed.is_some() && count.last_seed != sighting.seed;
        count.last_seed = sighting.seed;
        let has_more = !count.verdict.kinds.is_empty() || sighting.damage.is_some() || is_new_seed;
        if has_more || self.list.is_some() {
            self.tell(key, mod_revision, sighting, is_new_seed);
        }
    }

    /// What is not true of most objects.
    fn tell(&mut self, key: &[u8], mod_revision: u64, sighting: &Sighting, is_new_seed: bool) {
        let Some(count) = self.count(sighting.group) else { return };
        let group = Arc::clone(&count.group);
        let damage = sighting.damage.map(|damage| (Kind::Damaged, Some(damage)));
        let kinds: Vec<_> = damage.into_iter().chain(count.verdict.kinds.iter().map(|kind| (*kind, None))).collect();
        if is_new_seed {
            self.seed(sighting);
        }
        for (kind, damage) in &kinds {
            self.find(*kind, key, mod_revision, &group, *damage);
        }
        if let Some(list) = &mut self.list {
            let finding = kinds.iter().map(|(kind, _)| *kind).min();
            list(&Listed { key, group: &group, finding, mod_revision, bytes: sighting.bytes });
        }
    }

    /// What was counted in all.
    pub fn finish(self) -> Tallied {
        let counts = self.counts.into_iter().filter(|count| count.objects + count.revisions > 0);
        Tallied { counts: counts.collect(), found: self.found, has_rest: self.groups.has_rest() }
    }

    fn find(&mut self, kind: Kind, key: &[u8], mod_revision: u64, group: &Group, damage: Option<ValueDamage>) {
        let found = self.found.entry(kind).or_insert_with(|| Smallest::new(FINDINGS));
        found.add(
            |last| last.key.as_bytes() <= key,
            || Found {
                key: String::from_utf8_lossy(key).into_owned(),
                resource: group.resource.to_string(),
                provider: group.provider.clone(),
                key_id: group.key_id.clone(),
                mod_revision,
                reason: damage.map(|damage| damage.to_string()),
            },
        );
    }

    fn seed(&mut self, sighting: &Sighting) {
        let seeds = self.seeds.entry(sighting.group).or_default();
        if sighting.seed.is_some_and(|seed| seeds.insert(seed))
            && let Some(count) = self.count(sighting.group)
        {
            count.seeds += 1;
        }
    }

    fn count(&mut self, group: u32) -> Option<&mut GroupCount> {
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
            verdict: judge.verdict(&group.resource, &group.provider, group.key()),
            group,
            objects: 0,
            revisions: 0,
            seeds: 0,
            first_revision: None,
            last_revision: None,
            encodings: [0; 4],
            samples: Smallest::new(SAMPLES),
            last_seed: None,
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_that_somebody_made_up_are_counted_as_one() {
        let groups = Groups::default();
        let number = |number: usize| {
            let name = format!("r{number}");
            let resource = Resource { name: name.clone(), group: None };
            let make = || Group { resource, provider: "identity".to_owned(), key_id: None, commitment: None };
            groups.number(name.as_bytes(), make)
        };
        let rest = u32::try_from(GROUPS_MAX).unwrap();
        assert!((0..GROUPS_MAX).all(|group| number(group) as usize == group) && !groups.has_rest());
        for made_up in GROUPS_MAX..GROUPS_MAX + 3 {
            assert_eq!(number(made_up), rest);
        }
        assert_eq!(number(7), 7, "one that was met before");
        assert!(groups.has_rest() && groups.get(rest + 1).is_none());
        assert_eq!(groups.get(rest).unwrap().provider, UNKNOWN);
    }
}
