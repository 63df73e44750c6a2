//! The objects that were not rewritten, by name, each with its reason.

use std::collections::BTreeMap;

use serde::Serialize;

/// How many objects are named. All are counted.
const NAMED: usize = 1000;

/// Why an object was not rewritten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// The user lacks the right.
    Denied,
    /// The API server cannot decrypt it, or an admission webhook refuses it.
    Refused,
    /// The API server does not serve its resource.
    NotServed,
    /// Its key in etcd is not that of an object.
    NoObject,
    /// Each attempt met a write by somebody else.
    Conflict,
    /// The API server was too busy each time.
    Busy,
}

impl FailureKind {
    /// Returns the name in tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Denied => "denied",
            Self::Refused => "refused",
            Self::NotServed => "not-served",
            Self::NoObject => "no-object",
            Self::Conflict => "conflict",
            Self::Busy => "busy",
        }
    }
}

/// One object that was not rewritten.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NamedFailure {
    /// Its key in etcd.
    pub key: String,
    /// Why.
    pub kind: FailureKind,
    /// What the API server says.
    pub reason: String,
}

/// All objects that were not rewritten.
#[derive(Debug, Clone, Default)]
pub struct FailureList {
    counts: BTreeMap<FailureKind, u64>,
    named: Vec<NamedFailure>,
}

impl FailureList {
    pub(super) fn add(&mut self, key: &[u8], kind: FailureKind, reason: String) {
        *self.counts.entry(kind).or_default() += 1;
        if self.named.len() < NAMED {
            self.named.push(NamedFailure { key: String::from_utf8_lossy(key).into_owned(), kind, reason });
        }
    }

    /// Returns how many there are of each kind.
    pub fn counts(&self) -> &BTreeMap<FailureKind, u64> {
        &self.counts
    }

    /// Returns how many there are.
    pub fn count(&self) -> u64 {
        self.counts.values().sum()
    }

    /// Returns the first of them.
    pub fn named(&self) -> &[NamedFailure] {
        &self.named
    }
}
