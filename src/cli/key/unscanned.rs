//! Takes the place of `retire` if claviger is built without the feature `scan`.
//!
//! Nothing reads etcd then, so it stays unknown whether values need a key.

use clap::Args;

use super::{super::failure::Failure, retiring::Retiring};
use crate::keeper::{Opened, Usage, UsageDoubt};

/// No flag opens a gate.
#[derive(Args, Default)]
pub(super) struct GateArgs {}

/// Reports that this build cannot scan.
#[allow(clippy::unnecessary_wraps, reason = "a scan can fail")]
pub(super) fn usage(_: &Retiring<'_>, _: Opened, _: &GateArgs) -> Result<Usage, Failure> {
    Ok(Usage::Unknown(UsageDoubt::CannotScan))
}
