//! Tests the contract of the command line: what every verb prints, its exit code, and that a refusal changes nothing.
//!
//! Each case has a snapshot file in `snapshots/<theme>/`, with the command, the exit code and both streams as an
//! operator sees them. To accept a changed text: `INSTA_UPDATE=always cargo test --test integration cli::`. The output
//! of every command is searched for panics and for the secrets of its sandbox.
//!
//! ```text
//! usage, output, frozen, init, key, slot, state, status, mark, socket, configuration, machine, secrets, serving -> sandbox -> tree
//!         backup, key, machine, serving -> disk;   mark, secrets -> forge;   backup, slot, secrets, status -> kms;   init, slot -> terminal
//!         attacks, hints, merge, share, status, waiting -> backup;   waiting -> sandbox, slot;   astray, hints, mistakes, restarts -> status
//! ```

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a failed helper is a failed test, and a skipped one says so"
)]

mod astray;
mod attacks;
mod backup;
mod configuration;
pub(crate) mod disk;
pub(crate) mod forge;
mod frozen;
mod hints;
mod init;
mod key;
pub(crate) mod kms;
mod machine;
mod mark;
mod merge;
mod mistakes;
mod output;
mod restarts;
pub(crate) mod sandbox;
mod scan;
mod secrets;
mod serving;
mod share;
mod slot;
mod socket;
mod state;
mod status;
pub(crate) mod terminal;
pub(crate) mod tree;
mod usage;
mod waiting;

pub(crate) use output::identity;
