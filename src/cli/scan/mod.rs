//! `claviger scan`
//!
//! ```text
//! run -> input, listing, text, files;   files -> prometheus;   files -> html -> picture -> text
//! ```

mod files;
#[cfg(feature = "html")]
mod html;
mod input;
mod listing;
#[cfg(feature = "html")]
mod picture;
#[cfg(feature = "metrics")]
mod prometheus;
mod run;
mod text;

pub(super) use run::{ScanArgs, run};
