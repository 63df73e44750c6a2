//! The record as a file of a directory.
//!
//! The file is never absent once it was there, because each change renames over it. Two processes may call
//! [`KeyringStore::swap`] at the same time only if both hold the directory's lock: comparing and renaming are two
//! steps. Source: `docs/formats.md`, "Files".

use crate::{
    crypto::Digest,
    durable::{Dir, DurableError},
};

use super::{Deadline, Held, KeyringStore, RecordVersion, StoreError, Swapped};

/// Keeps the record in one file.
#[derive(Debug)]
pub struct FileStore<'a> {
    dir: &'a Dir,
    name: &'static str,
    limit: usize,
}

impl<'a> FileStore<'a> {
    /// Keeps records of at most `limit` bytes in the file `name` of `dir`.
    pub fn new(dir: &'a Dir, name: &'static str, limit: usize) -> Self {
        Self { dir, name, limit }
    }

    fn read(&self) -> Result<Option<Held>, DurableError> {
        match self.dir.read(self.name, self.limit) {
            Ok(bytes) => Ok(Some(Held { version: version_of(&bytes), bytes })),
            Err(DurableError::Missing(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Returns the version of a record: its SHA-256.
fn version_of(record: &[u8]) -> RecordVersion {
    RecordVersion(Digest::of(record).0.to_vec())
}

impl KeyringStore for FileStore<'_> {
    /// Reads the file at once: a disk does not let a caller wait until `by`.
    fn load(&mut self, _: Deadline) -> Result<Option<Held>, StoreError> {
        Ok(self.read()?)
    }

    fn swap(&mut self, old: Option<&RecordVersion>, new: &[u8]) -> Result<Swapped, StoreError> {
        let written = match old {
            None => self.dir.create(self.name, new),
            Some(old) if self.read()?.is_some_and(|held| held.version == *old) => self.dir.replace(self.name, new),
            Some(_) => return Ok(Swapped::Lost),
        };
        Ok(match written {
            Ok(()) => Swapped::Done,
            Err(DurableError::Exists(_)) => Swapped::Lost,
            // The step that failed may have come after the rename.
            Err(error) => Swapped::Unknown(error.into()),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::PermissionsExt, time::Instant};

    use super::*;
    use crate::durable;

    #[test]
    fn a_file_that_cannot_be_trusted_is_refused_and_not_replaced() {
        let (_keep, dir) = durable::testing::private();
        let mut store = FileStore::new(&dir, "keyring", 100);
        store.swap(None, b"one").unwrap();
        let held = store.load(Instant::now()).unwrap().unwrap();
        let path = dir.path_of("keyring");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(store.load(Instant::now()).unwrap_err().to_string().ends_with("has mode 0644, expected 0600"));
        assert!(store.swap(Some(&held.version), b"two").is_err());
        assert_eq!(std::fs::read(path).unwrap(), b"one");
    }
}
