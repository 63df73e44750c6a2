//! The only module that writes files, and that decides which files to trust. It knows the order of steps, syncs,
//! reading back, and locks.
//!
//! ```text
//! export_tree -> export -> rename, temporary, write
//! append, lock, life, identity, disk, write -> dir -> trust -> mode -> error;   append, write -> step;   input -> trust
//! ```
//!
//! [`Dir`] is a directory whose files can be trusted. Its methods read, replace, append and remove files; [`Dir::lock`]
//! keeps two changes apart, and [`LifeLock`] two daemons. [`export`] writes a file for somebody else, anywhere.
//! Invariant: a file name refers to a complete file or to no file, also after a crash. Source: `docs/formats.md`,
//! "Files".

mod append;
mod dir;
mod disk;
mod error;
mod export;
#[cfg(feature = "recover")]
mod export_tree;
mod identity;
mod input;
mod life;
mod lock;
mod mode;
mod rename;
mod step;
mod temporary;
#[cfg(test)]
pub mod testing;
mod trust;
mod version;
mod write;

#[cfg(feature = "recover")]
pub use self::export_tree::ExportTree;
pub use self::{
    dir::{Dir, Privacy},
    disk::{is_on_another_disk, volatile},
    error::{DurableError, FileKind},
    export::{check_export, export, replace_export},
    identity::{DirectoryId, directory_at},
    input::{InputError, Untrusted, is_passed_on, open_input, open_trusted, read_input, read_trusted},
    life::{LifeLock, SERVING},
    lock::Lock,
    trust::check_ancestors,
    version::{Version, version},
};

#[cfg(test)]
pub use self::lock::LOCK;
