//! `claviger scan`
//!
//! ```text
//! run -> input -> keys;   run -> listing;   run -> hints, notes -> etcdctl
//!     -> text -> table;   run -> files -> prometheus;   files -> html -> picture -> table;   html -> text
//! ```

mod etcdctl;
mod files;
mod hints;
#[cfg(feature = "html")]
mod html;
mod input;
mod keys;
mod listing;
mod notes;
#[cfg(feature = "html")]
mod picture;
#[cfg(feature = "metrics")]
mod prometheus;
mod run;
mod table;
mod text;

pub(super) use run::{ScanArgs, run};
