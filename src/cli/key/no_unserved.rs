//! Takes the place of `unserved` if claviger is built without the feature `reencrypt`.
//!
//! This build cannot ask an API server, so every kind counts as served.

use clap::Args;

use super::super::failure::Failure;
use crate::etcd::Servers;

/// No flag names an API server.
#[derive(Args, Default)]
pub(super) struct UnservedArgs {}

impl UnservedArgs {
    #[allow(clippy::unnecessary_wraps, clippy::unused_self, reason = "with the feature, the API server is asked")]
    pub(super) fn is_served(&self, _: &[u8], _: &str, _: &Servers) -> Result<bool, Failure> {
        Ok(true)
    }
}
