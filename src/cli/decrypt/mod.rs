//! `claviger decrypt`
//!
//! ```text
//! run -> args -> chosen
//!     -> write -> names, stream
//!     -> report
//! ```

mod args;
mod chosen;
mod names;
mod report;
mod run;
mod stream;
mod write;

pub(super) use args::DecryptArgs;
pub(super) use run::run;
