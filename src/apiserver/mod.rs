//! How the kube-apiserver of this machine is configured: its flags, from wherever they are, and its
//! EncryptionConfiguration.
//!
//! ```text
//! find -> pod, unit -> program -> words;   pod, unit -> variables
//!         pod, unit, arguments, logged, process -> flags -> error;   process -> owner
//! coverage, flags -> duration;   count
//! ```
//!
//! Each kind of place has a file. What is found is reported together with what was not understood, so that a shape that
//! this program cannot read never looks like a flag that is not set. Nothing here talks to an API server.

mod arguments;
mod count;
pub mod coverage;
mod duration;
mod error;
mod find;
mod flags;
mod logged;
mod owner;
mod pod;
mod process;
mod program;
mod unit;
mod variables;
mod words;

pub use count::count_api_servers;
pub use error::{FlagDoubt, FlagsError};
pub use find::{DEFAULTS, FLAGS_MAX, FoundFlags};
pub use flags::{ApiServerFlags, Override, allows_kms_v1};
pub use process::find_process;
