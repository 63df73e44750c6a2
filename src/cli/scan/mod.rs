//! `claviger scan`: reports which objects are encrypted in etcd or in a snapshot, and under which keys.
//!
//! ```text
//! run -> input -> keys;   run -> listing, notes, text;   run -> files -> prometheus, html -> text
//! ```

mod files;
#[cfg(feature = "html")]
mod html;
mod listing;
mod notes;
#[cfg(feature = "metrics")]
mod prometheus;
mod run;
mod text;

pub(super) use run::{ScanArgs, run};
