//! The report of a reader at its end, besides the objects that it has passed to its sink: the source, and what may be
//! missing.

use std::{collections::BTreeSet, io};

use super::{
    bolt::DamageList,
    group::GROUPS_MAX,
    source::{FileDigest, ScanSource},
};

/// A function that receives the amount of finished work and the total amount. The total is zero if it is not known.
pub type Progress<'a> = &'a mut dyn FnMut(u64, u64);

/// The report of a reader at its end.
pub struct ScanOutcome {
    /// The source that the objects came from.
    pub source: ScanSource,
    /// The other etcds that were read, if the API server keeps some resources elsewhere.
    pub overrides: Vec<ScanSource>,
    /// The pages, and parts of pages, that could not be read.
    pub damage: DamageList,
    /// The reasons why something may be missing.
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
    /// The number of values outside the prefix.
    pub count: u64,
    /// The first of their keys in order, at most [`OutsideValues::NAMED`]. Very long keys are left out.
    pub keys: BTreeSet<Vec<u8>>,
}

impl OutsideValues {
    /// The greatest number of keys that are kept.
    pub const NAMED: usize = 3;

    /// The greatest length of a key that is kept, in bytes.
    const KEY_MAX: usize = 256;

    /// Counts a value outside the prefix, and keeps `key` if it is one of the first.
    pub fn note(&mut self, key: &[u8]) {
        self.count += 1;
        let is_later = self.keys.len() >= Self::NAMED && self.keys.last().is_some_and(|last| key >= last.as_slice());
        if key.len() <= Self::KEY_MAX && !is_later && !self.keys.contains(key) {
            self.keys.insert(key.to_vec());
            self.keep_first();
        }
    }

    /// Adds the values that another part of the source has outside the prefix.
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
    /// The prefix can be an API server's. Also used for a source that has no key at all.
    Fits,
    /// No key is below the prefix, not even a deleted one.
    NoKey,
    /// No key below the prefix names a resource that API servers have.
    NoResource,
    /// The prefix lies inside of this prefix, which is an API server's.
    Inside(String),
}

impl PrefixFit {
    /// Judges a prefix below which no key names a resource that API servers have. `has_keys` says whether it has keys.
    pub fn without_resource(has_keys: bool) -> Self {
        if has_keys { Self::NoResource } else { Self::NoKey }
    }
}

impl ScanOutcome {
    /// Adds the outcome of a scan of an etcd of `--etcd-servers-overrides`. That etcd may be empty, because events
    /// expire.
    pub fn add_override(&mut self, other: Self) {
        self.overrides.push(other.source);
        self.damage.append(other.damage);
        self.incomplete.extend(other.incomplete);
        self.outside.merge(other.outside);
    }

    /// Returns the reasons why something may be missing below `prefix`. `has_merged_groups` tells whether some groups
    /// were counted as one.
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

/// A reason why something may be missing in a scan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Incomplete {
    /// One of the two meta pages is damaged, and the other one was used.
    #[error("meta page {page} is damaged: what the last transaction wrote may be missing")]
    Meta {
        /// The number of the damaged meta page.
        page: u64,
    },
    /// The file is shorter than the database in it.
    #[error("the file was cut off: it has {found} of {expected} bytes")]
    Cut {
        /// The length of the file in bytes.
        found: u64,
        /// The length of the database in bytes.
        expected: u64,
    },
    /// The digest at the end of the file does not match the file.
    #[error("the file does not match the digest at its end")]
    Digest,
    /// The file could not be read for its digest. Contains the reason that the system gives.
    #[error("the digest of the file was not computed, because a read failed: {0}")]
    DigestUnread(String),
    /// Something wrote to the file during the scan.
    #[error("the file changed while it was read")]
    Changed,
    /// The bucket that says how far etcd compacted cannot be read.
    #[error("the bucket meta cannot be read")]
    NoMeta,
    /// No key is below the prefix. Most likely the prefix is wrong.
    #[error("there is no key below {prefix}{}", elsewhere(others))]
    Nothing {
        /// The prefix that was scanned.
        prefix: String,
        /// The prefixes of API servers that the source has.
        others: Vec<String>,
    },
    /// The keys below the prefix are not an API server's, so the prefix is wrong.
    #[error("no key below {prefix} names a resource as API servers do{}", elsewhere(others))]
    NoResource {
        /// The prefix that was scanned.
        prefix: String,
        /// The prefixes of API servers that the source has.
        others: Vec<String>,
    },
    /// The prefix is a part of an API server's objects.
    #[error("{prefix} has a part of the API server's objects only: all of them are below {around}")]
    Inside {
        /// The prefix that was scanned.
        prefix: String,
        /// The prefix of the API server.
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
        /// The number of pages and revisions.
        count: u64,
    },
    /// The sink ended the scan.
    #[error("the scan was ended before everything was read")]
    Ended,
}

impl Incomplete {
    /// Returns why the digest does not prove that the file is whole, unless it proves this or the file has none.
    pub fn of_digest(read: &Result<FileDigest, io::Error>) -> Option<Self> {
        match read {
            Ok(digest) => (digest.matches == Some(false)).then_some(Self::Digest),
            Err(error) => Some(Self::DigestUnread(error.to_string())),
        }
    }

    /// Whether the prefix is wrong.
    pub fn is_wrong_prefix(&self) -> bool {
        matches!(self, Self::Nothing { .. } | Self::NoResource { .. } | Self::Inside { .. })
    }

    /// Whether another snapshot may contain what is missing in this one.
    pub fn is_of_file(&self) -> bool {
        !self.is_wrong_prefix() && !matches!(self, Self::Groups | Self::Ended)
    }
}

/// Says below which prefixes API servers store their objects, if any are known.
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
