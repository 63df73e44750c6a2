//! The value of an object, or its place in a file. A scan of a file is ahead of its sink by hundreds of thousands of
//! values, so a value in a file is read only when the sink needs it.

use std::{fs::File, io, os::unix::fs::FileExt, sync::Arc};

use super::revision::stored_value;

/// The place of an entry, which contains one value, in a database file.
#[derive(Debug, Clone, Copy)]
pub struct EntryPlace {
    /// The position of the entry's message in the file, in bytes.
    pub start: u64,
    /// The length of the message in bytes.
    pub length: usize,
}

/// The value of an object, or its place.
#[derive(Debug, Clone, Copy)]
pub enum ObjectValue<'a> {
    /// The value is in memory, because etcd has sent it.
    InMemory(&'a [u8]),
    /// The value is in a database file.
    InFile(EntryPlace, &'a Arc<File>),
}

/// The value of an object, or its place, which a sink keeps for later.
#[derive(Debug)]
pub enum KeptValue {
    /// A copy of the value.
    Copy(Box<[u8]>),
    /// The value is in a database file.
    InFile(EntryPlace, Arc<File>),
}

/// Why a value that was found cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoredValueError {
    /// The system cannot read the file.
    #[error("reading it from the file: {0}")]
    Read(#[from] io::Error),
    /// The file contains something else at the place of the value.
    #[error("the file changed while it was read")]
    Changed,
}

impl ObjectValue<'_> {
    /// Keeps the value for later, and copies it only if it is in memory.
    pub fn keep(&self) -> KeptValue {
        match *self {
            Self::InMemory(bytes) => KeptValue::Copy(bytes.into()),
            Self::InFile(place, file) => KeptValue::InFile(place, Arc::clone(file)),
        }
    }
}

impl KeptValue {
    /// Returns the value. If it is in a file, reads it into `room`.
    ///
    /// # Errors
    /// When the file cannot be read, or has changed.
    pub fn read<'v>(&'v self, room: &'v mut Vec<u8>) -> Result<&'v [u8], StoredValueError> {
        match self {
            Self::Copy(bytes) => Ok(bytes),
            Self::InFile(place, file) => {
                // The scan has read as many bytes at this place, so the length is not too large.
                room.resize(place.length, 0);
                file.read_exact_at(room, place.start)?;
                stored_value(room).ok_or(StoredValueError::Changed)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_read_where_it_was_found_and_nothing_else_is_taken_for_it() {
        let message = b"\x0a\x01k\x10\x02\x18\x03\x20\x02\x2a\x01v";
        let path = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(path.path(), [b"..", &message[..], b".."].concat()).unwrap();
        let file = Arc::new(File::open(path.path()).unwrap());
        let read = |start, length| {
            let kept = ObjectValue::InFile(EntryPlace { start, length }, &file).keep();
            kept.read(&mut Vec::new()).map(<[u8]>::to_vec).map_err(|error| error.to_string())
        };
        assert_eq!(read(2, message.len()), Ok(b"v".to_vec()));
        assert_eq!(read(1, message.len()), Err("the file changed while it was read".to_owned()));
        let cut = read(10, message.len()).unwrap_err();
        assert!(cut.starts_with("reading it from the file: "), "{cut}");
        let kept = ObjectValue::InMemory(b"v").keep();
        assert_eq!(kept.read(&mut Vec::new()).unwrap(), b"v");
    }
}
