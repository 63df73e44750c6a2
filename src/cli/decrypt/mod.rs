//! `claviger decrypt`: opens the values of an etcd or a snapshot with the keys of a keyring or of backups, and writes
//! the objects.
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
