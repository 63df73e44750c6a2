//! What a reader reports at the end, besides the objects that it handed to its sink: where it read, and what may be
//! missing.

use std::collections::BTreeSet;

use super::{bolt::DamageList, group::GROUPS_MAX, source::ScanSource};

/// A function that receives the amount of finished work and the total amount. The total is zero if it is not known.
pub type Progress<'a> = &'a mut dyn FnMut(u64, u64);

/// What a reader reports at the end.
pub struct ScanOutcome {
    /// Where it read.
    pub source: ScanSource,
    /// The other etcds that it read, if the API server keeps some resources elsewhere.
    pub overrides: Vec<ScanSource>,
    /// The pages, and parts of pages, that could not be read.
    pub damage: DamageList,
    /// Why something may be missing.
    pub incomplete: Vec<Incomplete>,
    /// The values whose keys are outside the prefix.
    pub outside: OutsideValues,
    /// Whether the prefix can be an API server's.
    pub fit: PrefixFit,
    /// The prefixes of API servers that were seen elsewhere in the source, as `--etcd-prefix` takes them.
    pub other_prefixes: Vec<String>,
}

/// The values whose keys are outside the prefix: how many there are, and examples of their keys.
#[derive(Debug, Default)]
pub struct OutsideValues {
    /// How many there are.
    pub count: u64,
    /// The first keys by their order, at most [`OutsideValues::NAMED`]. Very long ones are left out.
    pub keys: BTreeSet<Vec<u8>>,
}

impl OutsideValues {
    /// At most this many keys are kept.
    pub const NAMED: usize = 3;

    /// The longest key that is kept, in bytes.
    const KEY_MAX: usize = 256;

    /// Counts a value.
    pub fn note(&mut self, key: &[u8]) {
        self.count += 1;
        let is_later = self.keys.len() >= Self::NAMED && self.keys.last().is_some_and(|last| key >= last.as_slice());
        if key.len() <= Self::KEY_MAX && !is_later && !self.keys.contains(key) {
            self.keys.insert(key.to_vec());
            self.keep_first();
        }
    }

    /// Adds those of another part.
    pub fn merge(&mut self, other: Self) {
        self.count += other.count;
        self.keys.extend(other.keys);
        self.keep_first();
    }

    fn keep_first(&mut self) {
        while self.keys.len() > Self::NAMED {
            self.keys.pop_last();
        }
    }
}

/// Whether a prefix can be an API server's, judging by the keys below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PrefixFit {
    /// It can. Also used for a source that has no key at all.
    Fits,
    /// There is no key below it, not even a deleted one.
    NoKey,
    /// None of the keys below it names a resource that API servers have.
    NoResource,
    /// It lies inside of this prefix, which is an API server's.
    Inside(String),
}

impl PrefixFit {
    /// Judges a prefix by whether it has keys, and whether one of these names a resource that API servers have.
    pub fn of(has_keys: bool, has_resource: bool) -> Self {
        match (has_keys, has_resource) {
            (false, _) => Self::NoKey,
            (true, false) => Self::NoResource,
            (true, true) => Self::Fits,
        }
    }
}

impl ScanOutcome {
    /// Adds what was read in the etcd of an override. It may be empty: events expire.
    pub fn add_override(&mut self, other: Self) {
        self.overrides.push(other.source);
        self.damage.append(other.damage);
        self.incomplete.extend(other.incomplete);
        self.outside.merge(other.outside);
    }

    /// Returns why something may be missing below `prefix`. `has_merged_groups` says whether some groups were counted
    /// as one.
    pub fn reasons(&self, prefix: &str, has_merged_groups: bool) -> Vec<Incomplete> {
        let mut reasons = self.incomplete.clone();
        if has_merged_groups {
            reasons.push(Incomplete::Groups);
        }
        reasons.extend(self.wrong_prefix(prefix.to_owned()));
        reasons
    }

    fn wrong_prefix(&self, prefix: String) -> Option<Incomplete> {
        let others = self.other_prefixes.clone();
        match &self.fit {
            PrefixFit::Fits => None,
            PrefixFit::NoKey => Some(Incomplete::Nothing { prefix, others }),
            PrefixFit::NoResource => Some(Incomplete::NoResource { prefix, others }),
            PrefixFit::Inside(around) => Some(Incomplete::Inside { prefix, around: around.clone() }),
        }
    }
}

/// Why something may be missing in what was read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Incomplete {
    /// One of the two meta pages is damaged, and the other one was used.
    #[error("meta page {page} is damaged: what the last transaction wrote may be missing")]
    Meta {
        /// The damaged one.
        page: u64,
    },
    /// The file is shorter than its database.
    #[error("the file was cut off: it has {found} of {expected} bytes")]
    Cut {
        /// The length of the file.
        found: u64,
        /// The length of the database.
        expected: u64,
    },
    /// The file does not have the digest that it ends with.
    #[error("the file does not match the digest at its end")]
    Digest,
    /// Something wrote to the file during the scan.
    #[error("the file changed while it was read")]
    Changed,
    /// The bucket that says how far etcd compacted cannot be read.
    #[error("the bucket meta cannot be read")]
    NoMeta,
    /// There is no key below the prefix. Most likely the prefix is wrong.
    #[error("there is no key below {prefix}{}", elsewhere(others))]
    Nothing {
        /// The prefix.
        prefix: String,
        /// The prefixes of API servers that are there.
        others: Vec<String>,
    },
    /// The keys below the prefix are not an API server's. The prefix is wrong.
    #[error("no key below {prefix} names a resource as API servers do{}", elsewhere(others))]
    NoResource {
        /// The prefix.
        prefix: String,
        /// The prefixes of API servers that are there.
        others: Vec<String>,
    },
    /// The prefix is a part of an API server's objects.
    #[error("{prefix} has a part of the API server's objects only: all of them are below {around}")]
    Inside {
        /// The prefix.
        prefix: String,
        /// The API server's prefix.
        around: String,
    },
    /// There are far more groups than in any cluster: someone invented names.
    #[error(
        "there are more than {GROUPS_MAX} combinations of resource, provider and key: the values of all others are counted as one"
    )]
    Groups,
    /// Some pages or revisions cannot be read.
    #[error("{count} {} cannot be read", if *.count == 1 { "page or revision" } else { "pages or revisions" })]
    Pages {
        /// How many.
        count: u64,
    },
    /// The sink ended the scan.
    #[error("the scan was ended before everything was read")]
    Ended,
}

impl Incomplete {
    /// Whether the prefix is wrong.
    pub fn is_wrong_prefix(&self) -> bool {
        matches!(self, Self::Nothing { .. } | Self::NoResource { .. } | Self::Inside { .. })
    }

    /// Whether another snapshot may show what is missing in this one.
    pub fn is_of_file(&self) -> bool {
        !self.is_wrong_prefix() && !matches!(self, Self::Groups | Self::Ended)
    }
}

/// Says where an API server's objects are, if that is known.
fn elsewhere(others: &[String]) -> String {
    match others {
        [] => ": is that the prefix of the API server?".to_owned(),
        others => format!("; an API server's objects are below {}", others.join(", and others below ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_keys_outside_of_the_prefix_are_kept_and_all_values_are_counted() {
        let noted = |keys: &[&str]| {
            let mut outside = OutsideValues::default();
            for key in keys {
                outside.note(key.as_bytes());
            }
            outside
        };
        let mut outside = noted(&["d", "c", "d", &"a".repeat(257), "e"]);
        outside.merge(noted(&["b", "f", "b"]));
        assert_eq!(outside.count, 8);
        assert_eq!(Vec::from_iter(outside.keys), [b"b", b"c", b"d"]);
    }
}
