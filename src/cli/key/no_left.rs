//! Takes the place of `left` if claviger is built without the feature `recover`.
//!
//! This build cannot open values, so it cannot show that no key opens an object, and leaves none.

use std::collections::BTreeSet;

use clap::Args;

use super::super::{Global, failure::Failure};
use crate::{
    etcd::Servers,
    keyring::{Key, Keyring},
    scan::needs::LeftValue,
};

/// No flag leaves an object.
#[derive(Args, Default)]
pub(super) struct LeaveArgs {}

/// The place in which objects would be left.
pub(super) struct LeftIn<'a> {
    pub(super) keyring: &'a Keyring,
    pub(super) key: &'a Key,
    pub(super) prefix: &'a str,
    pub(super) etcd: &'a Servers,
}

/// An object that is left. There is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LeftObject {
    pub(super) name: String,
}

impl LeaveArgs {
    pub(super) fn names(&self, _: &str) -> BTreeSet<Vec<u8>> {
        BTreeSet::new()
    }

    #[allow(clippy::unnecessary_wraps, reason = "with the features, objects are refused")]
    pub(super) fn check(&self, place: &LeftIn<'_>, _: &[LeftValue]) -> Result<Vec<LeftObject>, Failure> {
        let LeftIn { keyring: _, key: _, prefix: _, etcd: _ } = place;
        Ok(Vec::new())
    }
}

pub(super) fn warn_of(_: &[LeftObject], _: &Global) {}
