//! The objects that were not rewritten: all are counted, and the first ones are kept by name, each with its reason.

use std::collections::BTreeMap;

use serde::Serialize;

/// The greatest number of objects that are named. All are counted.
const NAMED: usize = 1000;

/// Why an object was not rewritten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// The user lacks the right to patch the object.
    Denied,
    /// The API server cannot decrypt the object, or an admission webhook refuses it.
    Refused,
    /// The API server does not serve the resource of the object.
    NotServed,
    /// The key in etcd does not have the form of an object's key.
    NoObject,
    /// Each attempt met a write by somebody else.
    Conflict,
    /// The API server was too busy at each attempt.
    Busy,
}

impl FailureKind {
    /// Returns the name of the reason in JSON and tables.
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

/// An object that was not rewritten, with the reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NamedFailure {
    /// The key of the object in etcd.
    pub key: String,
    /// The kind of the reason.
    pub kind: FailureKind,
    /// The reason, for example the text of the API server's answer.
    pub reason: String,
}

/// The objects that were not rewritten: all counted, the first ones by name.
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

    /// Returns the number of objects for each kind of reason.
    pub fn counts(&self) -> &BTreeMap<FailureKind, u64> {
        &self.counts
    }

    /// Returns the number of objects that were not rewritten.
    pub fn count(&self) -> u64 {
        self.counts.values().sum()
    }

    /// Returns the first [`NAMED`] objects that were not rewritten.
    pub fn named(&self) -> &[NamedFailure] {
        &self.named
    }
}
