//! The keys that values need ([`NeededKeys`]), and the doubts whether the list is complete ([`NeedsDoubt`]).

use std::{
    collections::{BTreeMap, btree_map::Entry},
    mem,
};

use super::{
    super::{
        group::Group,
        outcome::{Incomplete, ScanOutcome},
        place::ScanPlace,
        tally::{Counts, GroupCount},
        value::commitment_half,
    },
    left::LeftValue,
    locked::may_need_any_key,
};
use crate::{apiserver::FlagDoubt, crypto::Commitment, etcd::Servers};

/// The greatest number of commitments that are kept, and of key_ids that values name falsely. Anyone who can write to
/// etcd can invent more, and must not be able to fill the memory.
pub(super) const KEYS_MAX: usize = 8192;

/// The greatest number of key_ids that are kept for one commitment.
pub(super) const NAMES_MAX: usize = 16;

/// The live values that need one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// The key_ids that the values have for the key, sorted: usually one, and at most 16.
    pub key_ids: Vec<String>,
    /// The number of live values that need the key.
    pub objects: u64,
    /// The key in etcd of one value, the first in alphabetical order.
    pub sample: String,
}

/// A live etcd that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScannedEtcd {
    /// The addresses of the etcd.
    pub servers: Servers,
    /// The name of the etcd: the number of its cluster, or its addresses.
    pub name: String,
    /// The last revision at which the etcd was read.
    pub revision: u64,
}

/// A reason why [`NeededKeys`] may lack a key that a value needs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NeedsDoubt {
    /// No etcd and no snapshot was read.
    #[error("no etcd and no snapshot was read")]
    NothingRead,
    /// Values in one place may have been missed, or may need any key.
    #[error("{place}: {reason}")]
    Place {
        /// The place.
        place: ScanPlace,
        /// The reason for the doubt.
        reason: PlaceDoubt,
    },
    /// Values may be in an etcd that was not found.
    #[error("flags of kube-apiserver: {0}")]
    Flags(FlagDoubt),
    /// There are no namespaces below the prefix. Every API server makes some, so it is not the prefix of an API server.
    #[error("there are no namespaces, so this is not the etcd and the prefix of an API server")]
    NoNamespaces,
}

/// A doubt about the values in one place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlaceDoubt {
    /// A part of the place was not read.
    #[error(transparent)]
    Incomplete(#[from] Incomplete),
    /// Some values do not show which key they need.
    #[error("{} damaged or of a newer kind, and may need any key, for example {example}", values_are(*objects))]
    Unclear {
        /// The number of unclear values.
        objects: u64,
        /// The key in etcd of one unclear value.
        example: String,
    },
    /// The values name too many keys, because somebody invented names.
    #[error("the values name more than {KEYS_MAX} keys, and not all of them were counted")]
    TooManyKeys,
}

/// All reasons why a key may be missing. The list is never empty.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct NeedsDoubts(Vec<NeedsDoubt>);

fn values_are(objects: u64) -> String {
    if objects == 1 { "1 value is".to_owned() } else { format!("{objects} values are") }
}

/// The keys of claviger that the live values in some places need.
#[derive(Debug, Clone, Default)]
pub struct NeededKeys {
    by_commitment: BTreeMap<Commitment, Need>,
    /// The values that name a key_id of claviger's form, and whose seed is not under that key.
    by_name: BTreeMap<String, Need>,
    pub(super) doubts: Vec<NeedsDoubt>,
    /// The live etcds that were read.
    etcds: Vec<ScannedEtcd>,
    /// The values that are left by name, and not counted.
    pub(super) left: Vec<LeftValue>,
    /// Whether etcd has namespaces. Every API server makes some, so without them the prefix is not an API server's.
    has_namespaces: bool,
}

impl NeededKeys {
    /// Returns the values whose wrapped seed contains exactly this commitment.
    pub fn of(&self, commitment: &Commitment) -> Option<&Need> {
        self.by_commitment.get(commitment)
    }

    /// Returns the values that name this key_id, although their wrapped seed is not claviger's or contains another
    /// commitment.
    ///
    /// No API server can read them. They still count as needing the key, because the seed may be what is wrong. Values
    /// with the right commitment are not among them: [`Self::of`] returns those.
    pub fn named(&self, key_id: &str) -> Option<&Need> {
        self.by_name.get(key_id)
    }

    /// Iterates over the commitments, each with the values that need its key.
    pub fn iter(&self) -> impl Iterator<Item = (&Commitment, &Need)> {
        self.by_commitment.iter()
    }

    /// Returns the live etcds that were read.
    pub fn etcds(&self) -> &[ScannedEtcd] {
        &self.etcds
    }

    /// Returns the values that are left by name. The other figures do not contain them.
    pub fn left(&self) -> &[LeftValue] {
        &self.left
    }

    /// Checks that the list contains every key that the live values need.
    ///
    /// # Errors
    /// When a key may be missing, or when the values are not an API server's.
    pub fn check_complete(&self) -> Result<(), NeedsDoubts> {
        let mut doubts = self.doubts.clone();
        if !self.has_namespaces {
            doubts.push(NeedsDoubt::NoNamespaces);
        }
        if doubts.is_empty() { Ok(()) } else { Err(NeedsDoubts(doubts)) }
    }

    /// Adds the doubts about the flags of kube-apiserver that say where values are.
    pub fn add_doubts_about_flags(&mut self, doubts: &[FlagDoubt]) {
        let about_places = doubts.iter().filter(|doubt| doubt.may_hide_values());
        self.doubts.extend(about_places.cloned().map(NeedsDoubt::Flags));
    }

    /// Adds the counts of `place` below `prefix`.
    pub(super) fn add(&mut self, place: &ScanPlace, outcome: &ScanOutcome, counts: Counts, prefix: &str) {
        let reasons = outcome.reasons(prefix, counts.has_merged_groups);
        let mut doubts: Vec<PlaceDoubt> = reasons.into_iter().map(Into::into).collect();
        let (mut unclear, mut has_more) = (None, false);
        for count in counts.by_group.into_iter().filter(|count| count.objects > 0) {
            let (group, objects) = (count.group.clone(), count.objects);
            let sample = sample_of(count);
            self.has_namespaces |= group.resource.name == "namespaces" && group.resource.group.as_deref() == Some("");
            if let Some(commitment) = group.commitment {
                has_more |= !add_to(&mut self.by_commitment, commitment, group.key_id.as_deref(), (objects, &sample));
            }
            if let Some(key_id) = wrong_name(&group) {
                has_more |= !add_to(&mut self.by_name, key_id.to_owned(), Some(key_id), (objects, &sample));
            }
            if may_need_any_key(&group) {
                let (all, least) = unclear.get_or_insert((0, sample.clone()));
                *all += objects;
                *least = sample.min(mem::take(least));
            }
        }
        doubts.extend(unclear.map(|(objects, example)| PlaceDoubt::Unclear { objects, example }));
        doubts.extend(has_more.then_some(PlaceDoubt::TooManyKeys));
        if let ScanPlace::Etcd(servers) = place {
            let (servers, name, revision) = (servers.clone(), outcome.source.etcd_name(), outcome.source.revision);
            self.etcds.push(ScannedEtcd { servers, name, revision });
        }
        let in_place = |reason| NeedsDoubt::Place { place: place.clone(), reason };
        self.doubts.extend(doubts.into_iter().map(in_place));
    }
}

fn sample_of(count: GroupCount) -> String {
    count.samples.into_sorted().into_iter().next().unwrap_or_default()
}

/// Returns the key_id of a group if it has claviger's form, and the seeds are not under that key.
fn wrong_name(group: &Group) -> Option<&str> {
    let key_id = group.key_id.as_deref()?;
    let half = commitment_half(key_id)?;
    let is_right = group.commitment.is_some_and(|commitment| commitment.first_half() == half);
    (!is_right).then_some(key_id)
}

/// Adds values to the need for one key. Returns false if there is no room for another key.
fn add_to<K: Ord>(needs: &mut BTreeMap<K, Need>, key: K, key_id: Option<&str>, (objects, sample): (u64, &str)) -> bool {
    let has_room = needs.len() < KEYS_MAX;
    match needs.entry(key) {
        Entry::Occupied(mut need) => add_to_need(need.get_mut(), key_id, objects, sample),
        Entry::Vacant(place) if has_room => {
            let key_ids = key_id.map(ToOwned::to_owned).into_iter().collect();
            place.insert(Need { key_ids, objects, sample: sample.to_owned() });
        }
        Entry::Vacant(_) => return false,
    }
    true
}

fn add_to_need(need: &mut Need, key_id: Option<&str>, objects: u64, sample: &str) {
    need.objects += objects;
    if sample < need.sample.as_str() {
        sample.clone_into(&mut need.sample);
    }
    if let Some(key_id) = key_id
        && need.key_ids.len() < NAMES_MAX
        && let Err(at) = need.key_ids.binary_search_by(|known| known.as_str().cmp(key_id))
    {
        need.key_ids.insert(at, key_id.to_owned());
    }
}
