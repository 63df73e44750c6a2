//! `claviger key`.
//!
//! ```text
//! verbs -> retire -> retiring
//! ```

#[cfg(feature = "scan")]
mod retire;
#[cfg(not(feature = "scan"))]
#[path = "unscanned.rs"]
mod retire;
mod retiring;
mod verbs;

pub(super) use self::verbs::{KeyArgs, run};
