//! What etcd keeps in its database: one record for each revision of each key, in the bucket `key`.
//!
//! Source: `go.etcd.io/etcd/server`, `storage/mvcc/revision.go`, and `mvccpb.KeyValue` of its API. The bytes are drawn in
//! `docs/scan.md`. A record says twice at which revision it was made, in its key and in its value: if they differ, it is damaged.

use super::value::{Field, Fields};

/// When a key was changed: the transaction, and which of its changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Revision {
    /// The transaction's number.
    pub main: u64,
    /// Counted from zero in the transaction.
    pub sub: u64,
}

/// One change of one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// When.
    pub revision: Revision,
    /// The user's key.
    pub key: &'a [u8],
    /// Whether it is said to be the first of its key, or the first behind a deletion.
    pub is_first: bool,
    /// What it was set to; none if it was deleted.
    pub value: Option<&'a [u8]>,
}

impl Revision {
    /// Reads the first 17 bytes of a record's key: main u64, `_`, sub u64, big-endian.
    pub fn parse(key: &[u8]) -> Option<Self> {
        let (main, rest) = key.split_first_chunk::<8>()?;
        let (sub, _) = rest.strip_prefix(b"_")?.split_first_chunk::<8>()?;
        Some(Self { main: u64::from_be_bytes(*main), sub: u64::from_be_bytes(*sub) })
    }
}

impl<'a> Record<'a> {
    /// Reads a record.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(key: &[u8], value: &'a [u8]) -> Result<Self, &'static str> {
        let revision = Revision::parse(key).ok_or("its key is no revision")?;
        let is_tombstone = match &key[17..] {
            b"" => false,
            b"t" => true,
            _ => return Err("its key is no revision"),
        };
        if value.is_empty() && !is_tombstone {
            // Of the key "", which nobody can write: what etcdutl raises the revision with when it restores a snapshot.
            return Ok(Self { revision, key: b"", is_first: false, value: None });
        }
        let message = KeyValue::parse(value).ok_or("its value is no KeyValue")?;
        if message.key.is_empty() {
            return Err("its KeyValue has no key");
        }
        if is_tombstone {
            return Ok(Self { revision, key: message.key, is_first: false, value: None });
        }
        if message.mod_revision != revision.main || message.create_revision > revision.main || message.version == 0 {
            return Err("its KeyValue is of another revision");
        }
        Ok(Self { revision, key: message.key, is_first: message.version == 1, value: Some(message.value) })
    }
}

/// Field 1 is the key, 2 the revision of its creation, 3 of its modification, 4 its version, 5 its value, 6 its lease.
#[derive(Default)]
struct KeyValue<'a> {
    key: &'a [u8],
    create_revision: u64,
    mod_revision: u64,
    version: u64,
    value: &'a [u8],
}

impl<'a> KeyValue<'a> {
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let mut message = Self::default();
        let mut last = 0;
        for field in Fields(bytes) {
            let (tag, field) = field?;
            if tag <= last {
                // etcd writes each field once, in their order.
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

    /// Key `k`, created at 2, changed at 3, version 2, value `v`, lease 7.
    const VALUE: &[u8] = b"\x0a\x01k\x10\x02\x18\x03\x20\x02\x2a\x01v\x30\x07";

    #[test]
    fn a_change_and_a_deletion_are_read() {
        let revision = Revision { main: 3, sub: 1 };
        let record = Record { revision, key: b"k", is_first: false, value: Some(b"v") };
        assert_eq!(Record::parse(&key(3, 1, b""), VALUE), Ok(record));
        let made = Record { is_first: true, ..record };
        assert_eq!(Record::parse(&key(3, 1, b""), b"\x0a\x01k\x10\x03\x18\x03\x20\x01\x2a\x01v"), Ok(made));
        let deleted = Record { value: None, ..record };
        assert_eq!(Record::parse(&key(3, 1, b"t"), b"\x0a\x01k"), Ok(deleted));
        let raised = Record { key: b"", ..deleted };
        assert_eq!(Record::parse(&key(3, 1, b""), b""), Ok(raised));
        assert!(Record::parse(&key(3, 1, b"t"), b"").is_err());
    }

    #[test]
    fn whatever_etcd_does_not_write_is_refused() {
        let refused = |key: &[u8], value: &[u8], why| assert_eq!(Record::parse(key, value), Err(why));
        refused(b"", VALUE, "its key is no revision");
        refused(&key(3, 1, b"x"), VALUE, "its key is no revision");
        refused(&key(3, 1, b"tt"), VALUE, "its key is no revision");
        refused(&key(3, 1, b"")[..16], VALUE, "its key is no revision");
        refused(&key(4, 1, b""), VALUE, "its KeyValue is of another revision");
        refused(&key(3, 1, b""), b"\x0a\x01k\x10\x04\x18\x03\x20\x02", "its KeyValue is of another revision");
        refused(&key(3, 1, b""), b"\x0a\x01k\x10\x02\x18\x03", "its KeyValue is of another revision");
        refused(&key(3, 1, b""), b"\x10\x02\x18\x03\x20\x02", "its KeyValue has no key");
        // Behind the version, only an empty value follows.
        for cut in (1..VALUE.len() - 2).filter(|cut| *cut != 9) {
            assert!(Record::parse(&key(3, 1, b""), &VALUE[..cut]).is_err(), "{cut}");
        }
        let twice = [VALUE, b"\x30\x07"].concat();
        refused(&key(3, 1, b""), &twice, "its value is no KeyValue");
        refused(&key(3, 1, b""), b"\x12\x01k", "its value is no KeyValue");
    }
}
