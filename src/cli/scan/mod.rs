//! `claviger scan`
//!
//! ```text
//! run -> input, listing, prometheus, text;   run -> html -> picture -> text
//! ```

mod html;
mod input;
mod listing;
mod picture;
mod prometheus;
mod run;
mod text;

pub(super) use run::{ScanArgs, run};
