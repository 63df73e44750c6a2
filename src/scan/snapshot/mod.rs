//! Reads a database file of etcd: a snapshot, with or without its digest, or a copy of `member/snap/db`.
//!
//! ```text
//! scan -> parts -> batch
//!      -> newest, meta, file -> error;   digest
//! ```
//!
//! Threads read parts of the tree. One of them also hands the objects to the sink, in the order of revisions, the
//! newest first. What cannot be read is reported with its page and reason, and never ends the scan. The file of a
//! running member is refused: etcd holds a lock on it.

mod batch;
mod digest;
mod error;
mod file;
mod meta;
mod newest;
mod parts;
mod scan;
#[cfg(test)]
mod tests;

pub use error::SnapshotError;
pub use scan::{Options, scan};
