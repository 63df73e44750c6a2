//! The record, and this node's mark, as files in the state directory.
//!
//! `keyring` is never absent once it was there: a change writes a synced copy to `keyring.prev`, then renames over
//! `keyring`. The caller holds the directory's lock for a change. Source: `docs/formats.md`, "Files".

use zeroize::Zeroizing;

use crate::durable::{Dir, DurableError};

/// The record.
pub const KEYRING: &str = "keyring";
/// The record before the last change.
pub const KEYRING_PREV: &str = "keyring.prev";
/// The mark.
pub const MARK: &str = "mark";
/// Which backups were checked.
pub const LEDGER: &str = "ledger";

/// What `keyring.prev` holds after a swap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Copy {
    /// The record from before.
    Before,
    /// The new one: what it lacks shall be nowhere.
    After,
}

/// Files in `dir`; records and marks of at most `limit` bytes.
pub struct FileStore<'a> {
    dir: &'a Dir,
    limit: usize,
}

impl<'a> FileStore<'a> {
    /// The store in `dir`.
    pub fn new(dir: &'a Dir, limit: usize) -> Self {
        Self { dir, limit }
    }

    /// The record, if there is one.
    ///
    /// # Errors
    /// When it cannot be trusted or read.
    pub fn load(&self) -> Result<Option<Zeroizing<Vec<u8>>>, DurableError> {
        self.read(KEYRING)
    }

    /// Writes the first record.
    ///
    /// # Errors
    /// When there is one, or writing fails.
    pub fn create(&self, record: &[u8]) -> Result<(), DurableError> {
        self.dir.create(KEYRING, record)
    }

    /// Puts `record` in the place of the one that the caller has read.
    ///
    /// # Errors
    /// When what is there is not what was expected, or writing fails; the old record is then whole.
    pub fn compare_and_swap(&self, expected: &[u8], record: &[u8], copy: Copy) -> Result<(), DurableError> {
        match self.load()? {
            Some(current) if *current == expected => {}
            _ => return Err(DurableError::Changed(self.dir.path_of(KEYRING))),
        }
        let previous = if copy == Copy::Before { expected } else { record };
        self.dir.replace(KEYRING_PREV, previous)?;
        self.dir.replace(KEYRING, record)
    }

    /// Makes sure that a record which another process wrote is on disk.
    ///
    /// # Errors
    /// When a sync fails.
    pub fn sync(&self) -> Result<(), DurableError> {
        self.dir.sync_file(KEYRING)
    }

    /// The mark, if there is one.
    ///
    /// # Errors
    /// When it cannot be trusted or read.
    pub fn load_mark(&self) -> Result<Option<Zeroizing<Vec<u8>>>, DurableError> {
        self.read(MARK)
    }

    /// Writes the first mark.
    ///
    /// # Errors
    /// When there is one, or writing fails.
    pub fn create_mark(&self, mark: &[u8]) -> Result<(), DurableError> {
        self.dir.create(MARK, mark)
    }

    /// Puts `mark` in the place of the one before.
    ///
    /// # Errors
    /// When writing fails; the old mark is then whole.
    pub fn save_mark(&self, mark: &[u8]) -> Result<(), DurableError> {
        self.dir.replace(MARK, mark)
    }

    fn read(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, DurableError> {
        match self.dir.read(name, self.limit) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(DurableError::Missing(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::durable;

    #[test]
    fn a_swap_needs_the_record_that_is_there_and_keeps_a_copy_of_it() {
        let (_keep, dir) = durable::testing::private();
        let store = FileStore::new(&dir, 100);
        assert!(store.load().unwrap().is_none());
        assert!(matches!(store.compare_and_swap(b"none", b"one", Copy::Before), Err(DurableError::Changed(_))));
        store.create(b"one").unwrap();
        assert!(matches!(store.create(b"two"), Err(DurableError::Exists(_))));
        store.compare_and_swap(b"one", b"two", Copy::Before).unwrap();
        assert!(matches!(store.compare_and_swap(b"one", b"three", Copy::Before), Err(DurableError::Changed(_))));
        assert_eq!(*store.load().unwrap().unwrap(), b"two");
        assert_eq!(*dir.read(KEYRING_PREV, 100).unwrap(), b"one");
        store.compare_and_swap(b"two", b"three", Copy::After).unwrap();
        assert_eq!(*dir.read(KEYRING_PREV, 100).unwrap(), b"three");
    }
}
