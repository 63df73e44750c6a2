//! Names, reads and writes the files of this node's state directory.
//!
//! A store reads and writes the record. Every other file belongs to this node alone. Invariant: only a commit calls the
//! functions that write, move or remove files. Source: `docs/formats.md`, "Files".

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use zeroize::Zeroizing;

use crate::{
    audit,
    durable::{Dir, DurableError, Lock, Version, version},
    keyring::{ledger::LEDGER_MAX, record::RECORD_MAX},
    plan::ROTATION_MAX,
    root::{ROOT_MAX, key_file_name},
    store::{Deadline, FileStore},
};

/// The name of the record's file.
pub const KEYRING: &str = "keyring";
/// A copy of the record before the last change. If the last change removed key bytes, a copy of the newest record.
pub const KEYRING_PREV: &str = "keyring.prev";
/// The name of the root file.
pub const ROOT: &str = "root";
/// The name of the mark's file.
pub const MARK: &str = "mark";
/// The ledger, which lists the backups.
pub(super) const LEDGER: &str = "ledger";
/// The plan of the last rotation.
pub(super) const ROTATION: &str = "rotation";
/// The record and its copy. A backup must not be written to these files, also not through a link.
pub const RECORD_FILES: [&str; 2] = [KEYRING, KEYRING_PREV];
/// The name of the directory to which an unfinished set-up is moved. A dash and a number follow it.
const UNFINISHED: &str = "unfinished";

/// Every name in a state directory, as `docs/formats.md` lists them. The parts in `<…>` vary.
///
/// If only one module uses a file, that module defines its name.
#[cfg(test)]
const NAMES: [&str; 12] = [
    KEYRING,
    KEYRING_PREV,
    ROOT,
    MARK,
    LEDGER,
    ROTATION,
    "slot-<name>.key",
    audit::FILE,
    crate::durable::LOCK,
    crate::durable::SERVING,
    "<name>.<16 hex>.new",
    "unfinished-<n>/",
];

/// How long a store may take to load the record.
const LOAD_WAIT: Duration = Duration::from_secs(10);

/// Returns when a load that begins now gives up.
pub(super) fn load_by() -> Deadline {
    Instant::now() + LOAD_WAIT
}

/// Whether a file may replace another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Writing {
    /// The file must not exist yet.
    Create,
    /// The file may exist, and is replaced.
    Replace,
}

/// The files in the state directory of one node.
#[derive(Debug, Clone, Copy)]
pub(super) struct StateFiles<'a> {
    dir: &'a Dir,
}

impl<'a> StateFiles<'a> {
    /// Gives access to the files in `dir`.
    pub(super) fn new(dir: &'a Dir) -> Self {
        Self { dir }
    }

    /// Returns the state directory.
    pub(super) fn dir(self) -> &'a Dir {
        self.dir
    }

    /// Returns the path of the file `name`.
    pub(super) fn path_of(self, name: &str) -> PathBuf {
        self.dir.path_of(name)
    }

    /// Returns the store of a keyring whose home is a file.
    pub(super) fn store(self) -> FileStore<'a> {
        FileStore::new(self.dir, KEYRING, RECORD_MAX)
    }

    /// Takes the lock that every change holds. If another process holds the lock, waits for up to 10 s.
    ///
    /// # Errors
    /// When another process holds it for longer, or a system call fails.
    pub(super) fn lock(self) -> Result<Lock, DurableError> {
        self.dir.lock()
    }

    /// Reads the root file. Like the next four functions, returns `None` if the file does not exist.
    ///
    /// # Errors
    /// When the file cannot be trusted or read.
    pub(super) fn root(self) -> Result<Option<Zeroizing<Vec<u8>>>, DurableError> {
        self.read(ROOT, ROOT_MAX)
    }

    /// Reads the bytes of the mark. Returns `None` if there is no mark.
    pub(super) fn mark(self) -> Result<Option<Zeroizing<Vec<u8>>>, DurableError> {
        self.read(MARK, RECORD_MAX)
    }

    /// Reads the bytes of the ledger. Returns `None` if there is no ledger.
    pub(super) fn ledger(self) -> Result<Option<Zeroizing<Vec<u8>>>, DurableError> {
        self.read(LEDGER, LEDGER_MAX)
    }

    /// Reads the plan of the last rotation.
    pub(super) fn rotation(self) -> Result<Option<Zeroizing<Vec<u8>>>, DurableError> {
        self.read(ROTATION, ROTATION_MAX)
    }

    /// Reads the copy of an earlier record, `keyring.prev`. Returns `None` if there is no copy.
    pub(super) fn copy(self) -> Result<Option<Zeroizing<Vec<u8>>>, DurableError> {
        self.read(KEYRING_PREV, RECORD_MAX)
    }

    fn read(self, name: &str, limit: usize) -> Result<Option<Zeroizing<Vec<u8>>>, DurableError> {
        match self.dir.read(name, limit) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(DurableError::Missing(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns the versions of root file, record, ledger and mark. One of them differs if its file was replaced.
    pub(super) fn versions(self) -> [Option<Version>; 4] {
        [ROOT, KEYRING, LEDGER, MARK].map(|name| version(&self.path_of(name)))
    }

    /// Whether a set-up finished here. Any of these files proves it: a record, its copy, a mark, a ledger, or an audit
    /// log with a line that only a finished keyring causes.
    ///
    /// # Errors
    /// When the directory or its audit log cannot be read.
    pub(super) fn is_set_up(self) -> Result<bool, DurableError> {
        for name in [KEYRING, KEYRING_PREV, MARK, LEDGER] {
            if self.dir.contains(name)? {
                return Ok(true);
            }
        }
        audit::names_a_keyring(self.dir)
    }

    /// Returns the names of the files that an unfinished set-up leaves: root file and key files.
    ///
    /// # Errors
    /// When the directory cannot be listed.
    pub(super) fn leftovers(self) -> Result<Vec<String>, DurableError> {
        let is_leftover = |name: &String| name == ROOT || name.starts_with("slot-");
        Ok(self.dir.names()?.into_iter().filter(is_leftover).collect())
    }

    /// Makes sure that the record is on the disk, because another process may have written it and died before it synced
    /// the file.
    ///
    /// # Errors
    /// When the file cannot be trusted, or a sync fails.
    pub(super) fn sync_record(self) -> Result<(), DurableError> {
        self.dir.sync_file(KEYRING)
    }

    /// Writes the file `name`.
    ///
    /// # Errors
    /// When the file exists and must not, or writing fails.
    pub(super) fn write(self, name: &str, bytes: &[u8], how: Writing) -> Result<(), DurableError> {
        match how {
            Writing::Create => self.dir.create(name, bytes),
            Writing::Replace => self.dir.replace(name, bytes),
        }
    }

    /// Moves the files of an unfinished set-up into a new directory. Returns the path of that directory.
    ///
    /// # Errors
    /// When the directory cannot be made, or a file cannot be moved.
    pub(super) fn move_aside(self, names: &[String]) -> Result<PathBuf, DurableError> {
        self.dir.move_aside(names, UNFINISHED)
    }

    /// Removes the key file of the slot `slot`.
    ///
    /// # Errors
    /// When it cannot be removed, or the removal cannot be synced.
    pub(super) fn remove_key_file(self, slot: &str) -> Result<(), DurableError> {
        self.dir.remove(&key_file_name(slot))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_files_are_these() {
        let text = include_str!("../../docs/formats.md");
        let (_, list) = text.split_once("<state-dir>/\n").unwrap();
        let (list, _) = list.split_once("```").unwrap();
        let name = |line: &'static str| line.trim().split("  ").next().unwrap();
        assert_eq!(list.lines().map(name).collect::<Vec<_>>(), NAMES);
        assert_eq!(key_file_name("<name>"), NAMES[6]);
        assert_eq!(format!("{UNFINISHED}-<n>/"), NAMES[11]);
    }

    #[test]
    fn a_store_has_seconds_to_load_the_record() {
        assert!(load_by() > Instant::now() + LOAD_WAIT / 2);
    }
}
