//! Takes the place of `left` if claviger is built without the feature `recover`.
//!
//! This build cannot open values, so it cannot show that no key opens an object, and leaves none.

use std::collections::BTreeSet;

use clap::Args;

use super::super::{Global, failure::Failure};
use crate::{
    keyring::{Key, Keyring},
    scan::needs::LeftValue,
};

/// No flag leaves an object.
#[derive(Args, Default)]
pub(super) struct LeaveArgs {}

impl LeaveArgs {
    pub(super) fn names(&self, _: &str) -> BTreeSet<Vec<u8>> {
        BTreeSet::new()
    }

    #[allow(clippy::unnecessary_wraps, reason = "with the features, objects are refused")]
    pub(super) fn check(&self, _: &str, _: &Keyring, _: &Key, _: &[LeftValue]) -> Result<(), Failure> {
        Ok(())
    }
}

pub(super) fn warn_of(_: &[LeftValue], _: &Global) {}
