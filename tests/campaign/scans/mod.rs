//! Gives `claviger scan` hostile inputs: database files, configurations of encryption, and servers that are not etcd.
//!
//! ```text
//! files, servers -> limited;   files -> trees, mutations
//! ```
//!
//! Invariants: a scan ends by itself, with a documented exit code and at most 256 MiB of memory of its own, which the
//! kernel enforces; and it reads no more than a few times the bytes of its input. Times are printed, and nothing
//! depends on them.

#![allow(clippy::cast_possible_truncation, reason = "the counts of a page fit into it")]

mod files;
pub(crate) mod limited;
mod mutations;
mod servers;
mod trees;
