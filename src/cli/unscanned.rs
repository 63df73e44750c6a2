//! Takes the place of `etcd`, `lacking` and `needed` if claviger is built without the feature `scan`.
//!
//! Nothing reads etcd then, so it stays unknown which keys are needed, and the operator must give a `--risk-…` flag.

use std::path::{Path, PathBuf};

use clap::Args;

use super::{Global, failure::Failure};
use crate::{
    config::{Config, Settings},
    keeper::ScannedNeeds,
};

/// No flag says where etcd is.
#[derive(Args, Default)]
pub(super) struct EtcdArgs {}

/// The arguments that show which keys are needed. This build has none.
pub(super) type ProofArgs = EtcdArgs;

impl EtcdArgs {
    pub(super) fn is_given(&self) -> bool {
        false
    }

    pub(super) fn snapshot(&self) -> Option<PathBuf> {
        None
    }

    pub(super) fn put_into(self, settings: Settings) -> Settings {
        settings
    }
}

/// Returns `None`: nothing shows which keys are needed.
#[allow(clippy::unnecessary_wraps, reason = "a scan can fail")]
pub(super) fn keys(_: &Config, _: Option<PathBuf>, _: &Global) -> Result<Option<ScannedNeeds>, Failure> {
    Ok(None)
}

/// Returns no flags: no command reads etcd.
pub(super) fn lacking(_: &str, _: impl Fn(&str) -> bool, _: Option<&Path>) -> Vec<(&'static str, &'static str)> {
    Vec::new()
}
