//! Reads etcd's own entries in its database: in the bucket `key` there is one for each change of each key.
//!
//! Source: `go.etcd.io/etcd/server`, `storage/mvcc/revision.go`, and `mvccpb.KeyValue` of etcd's API. `docs/scan.md`
//! draws the bytes. An entry contains the number of its revision twice, in its key and in its value. If the two differ,
//! it is damaged.

use super::protobuf::{Field, Fields};

/// The number of a change: its transaction, and its place in that transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Revision {
    /// The number of the transaction.
    pub main: u64,
    /// The place in the transaction, counted from zero.
    pub sub: u64,
}

/// One change of one key, as etcd's database contains it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyChange<'a> {
    /// The number of the change.
    pub revision: Revision,
    /// The key, as the client of etcd named it.
    pub key: &'a [u8],
    /// Whether the entry claims that this is the first change of the key, or the first one after a deletion.
    pub is_first: bool,
    /// The new value. `None` if the key was deleted.
    pub value: Option<&'a [u8]>,
}

/// Why an entry of the database was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EntryError {
    /// The key is not 17 or 18 bytes of the form that etcd writes.
    #[error("its key is not a revision")]
    Revision,
    /// The value is not the message that etcd writes.
    #[error("its value is not a KeyValue")]
    Message,
    /// The message does not name a key.
    #[error("its KeyValue has no key")]
    NoKey,
    /// The message belongs to another revision than the entry's key, or its versions contradict each other.
    #[error("its KeyValue belongs to another revision")]
    OtherRevision,
}

impl Revision {
    /// Reads the first 17 bytes of an entry's key: main u64, `_`, sub u64, big-endian.
    pub fn parse(key: &[u8]) -> Option<Self> {
        let (main, rest) = key.split_first_chunk::<8>()?;
        let (sub, _) = rest.strip_prefix(b"_")?.split_first_chunk::<8>()?;
        Some(Self { main: u64::from_be_bytes(*main), sub: u64::from_be_bytes(*sub) })
    }
}

impl<'a> KeyChange<'a> {
    /// Reads an entry of the bucket `key`.
    ///
    /// # Errors
    /// When etcd cannot have written the entry.
    pub fn parse(key: &[u8], value: &'a [u8]) -> Result<Self, EntryError> {
        let revision = Revision::parse(key).ok_or(EntryError::Revision)?;
        let is_deletion = match &key[17..] {
            b"" => false,
            b"t" => true,
            _ => return Err(EntryError::Revision),
        };
        if value.is_empty() && !is_deletion {
            // etcdutl writes such an entry when it restores a snapshot at a higher revision. The entry belongs to the
            // empty key, which no client can write.
            return Ok(Self { revision, key: b"", is_first: false, value: None });
        }
        let message = StoredKeyValue::parse(value).ok_or(EntryError::Message)?;
        if message.key.is_empty() {
            return Err(EntryError::NoKey);
        }
        if is_deletion {
            return Ok(Self { revision, key: message.key, is_first: false, value: None });
        }
        if message.mod_revision != revision.main || message.create_revision > revision.main || message.version == 0 {
            return Err(EntryError::OtherRevision);
        }
        Ok(Self { revision, key: message.key, is_first: message.version == 1, value: Some(message.value) })
    }
}

/// Returns the value in the message of an entry, which is not a deletion.
pub fn stored_value(message: &[u8]) -> Option<&[u8]> {
    StoredKeyValue::parse(message).map(|message| message.value)
}

/// The message `mvccpb.KeyValue`: 1 key, 2 `create_revision`, 3 `mod_revision`, 4 version, 5 value, 6 lease.
#[derive(Default)]
struct StoredKeyValue<'a> {
    key: &'a [u8],
    create_revision: u64,
    mod_revision: u64,
    version: u64,
    value: &'a [u8],
}

impl<'a> StoredKeyValue<'a> {
    /// Parses etcd's message. Returns `None` if etcd would not have written it.
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let mut message = Self::default();
        let mut last = 0;
        for field in Fields(bytes) {
            let (tag, field) = field?;
            if tag <= last {
                // etcd writes each field once, in ascending order.
                return None;
            }
            last = tag;
            match (tag, field) {
                (1, Field::Bytes(bytes)) => message.key = bytes,
                (2, Field::Varint(number)) => message.create_revision = number,
                (3, Field::Varint(number)) => message.mod_revision = number,
                (4, Field::Varint(number)) => message.version = number,
                (5, Field::Bytes(bytes)) => message.value = bytes,
                (6, Field::Varint(_)) => {}
                _ => return None,
            }
        }
        Some(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(main: u64, sub: u64, end: &[u8]) -> Vec<u8> {
        [&main.to_be_bytes()[..], b"_", &sub.to_be_bytes(), end].concat()
    }

    /// The entry of the key `k`: created at revision 2, changed at revision 3, version 2, value `v`, lease 7.
    const VALUE: &[u8] = b"\x0a\x01k\x10\x02\x18\x03\x20\x02\x2a\x01v\x30\x07";

    #[test]
    fn a_change_and_a_deletion_are_read() {
        let revision = Revision { main: 3, sub: 1 };
        let change = KeyChange { revision, key: b"k", is_first: false, value: Some(b"v") };
        assert_eq!(KeyChange::parse(&key(3, 1, b""), VALUE), Ok(change));
        let made = KeyChange { is_first: true, ..change };
        assert_eq!(KeyChange::parse(&key(3, 1, b""), b"\x0a\x01k\x10\x03\x18\x03\x20\x01\x2a\x01v"), Ok(made));
        let deleted = KeyChange { value: None, ..change };
        assert_eq!(KeyChange::parse(&key(3, 1, b"t"), b"\x0a\x01k"), Ok(deleted));
        let raised = KeyChange { key: b"", ..deleted };
        assert_eq!(KeyChange::parse(&key(3, 1, b""), b""), Ok(raised));
        assert!(KeyChange::parse(&key(3, 1, b"t"), b"").is_err());
    }

    #[test]
    fn an_entry_that_etcd_does_not_write_is_refused() {
        let refused =
            |key: &[u8], value: &[u8], why| assert_eq!(KeyChange::parse(key, value).unwrap_err().to_string(), why);
        refused(b"", VALUE, "its key is not a revision");
        refused(&key(3, 1, b"x"), VALUE, "its key is not a revision");
        refused(&key(3, 1, b"tt"), VALUE, "its key is not a revision");
        refused(&key(3, 1, b"")[..16], VALUE, "its key is not a revision");
        refused(&key(4, 1, b""), VALUE, "its KeyValue belongs to another revision");
        refused(&key(3, 1, b""), b"\x0a\x01k\x10\x04\x18\x03\x20\x02", "its KeyValue belongs to another revision");
        refused(&key(3, 1, b""), b"\x0a\x01k\x10\x02\x18\x03", "its KeyValue belongs to another revision");
        refused(&key(3, 1, b""), b"\x10\x02\x18\x03\x20\x02", "its KeyValue has no key");
        // If the entry is cut after the version, it is whole again, and has an empty value.
        for cut in (1..VALUE.len() - 2).filter(|cut| *cut != 9) {
            assert!(KeyChange::parse(&key(3, 1, b""), &VALUE[..cut]).is_err(), "{cut}");
        }
        let twice = [VALUE, b"\x30\x07"].concat();
        refused(&key(3, 1, b""), &twice, "its value is not a KeyValue");
        refused(&key(3, 1, b""), b"\x12\x01k", "its value is not a KeyValue");
    }
}
