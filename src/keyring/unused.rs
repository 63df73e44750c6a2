//! The entry of an unused key in the ledger: up to which revision of an etcd no live value is under the key.
//!
//! `key disable` writes it when it has scanned etcd, and `key destroy` waits until etcd has compacted the revisions
//! before that one. An older revision may contain a value that needs the key, and a client may list objects at an older
//! revision. Source: `docs/formats.md`, "ledger".

use crate::text::{self, LineReader, TextError, number};

use super::key_id::KeyId;

/// The greatest number of unused-key entries in a ledger.
pub const UNUSED_MAX: usize = 512;
/// The greatest length of the name of an etcd in bytes, as the ledger escapes it.
const NAME_MAX: usize = 1024;

/// A revision of one etcd.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EtcdRevision {
    /// The name of the etcd: the number of its cluster in hexadecimal digits, or its addresses if it has no number.
    pub etcd: String,
    /// The number of the revision.
    pub revision: u64,
}

/// A key that no live value in one etcd needed at a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct UnusedKey {
    pub(super) key: KeyId,
    pub(super) at: EtcdRevision,
}

impl UnusedKey {
    pub(super) fn line(&self) -> String {
        let Self { key, at: EtcdRevision { etcd, revision } } = self;
        format!("-> unused {key} etcd={} revision={revision}", text::escape(etcd))
    }
}

/// Whether the name of the etcd is short enough for the ledger.
pub(super) fn is_short(etcd: &str) -> bool {
    text::escape(etcd).len() <= NAME_MAX
}

/// Reads the unused keys at the end of a ledger.
pub(super) fn read_unused(lines: &mut LineReader<'_>) -> Result<Vec<UnusedKey>, TextError> {
    const UNUSED: &str = "`-> unused <key_id> etcd=<name> revision=<number>`, each etcd once for each key";
    let mut all: Vec<UnusedKey> = Vec::new();
    while let Some(line) = lines.line_after("-> unused ") {
        let is_new = |one: &UnusedKey| {
            let is_same = |other: &UnusedKey| (other.key, &other.at.etcd) == (one.key, &one.at.etcd);
            all.len() < UNUSED_MAX && !all.iter().any(is_same) && is_short(&one.at.etcd)
        };
        let unused = read_line(line).filter(is_new).ok_or_else(|| lines.wrong(UNUSED))?;
        all.push(unused);
    }
    Ok(all)
}

fn read_line(line: &str) -> Option<UnusedKey> {
    let mut words = line.split(' ');
    let key = words.next()?.parse().ok()?;
    let etcd = words.next()?.strip_prefix("etcd=").and_then(text::unescape)?;
    let revision = words.next()?.strip_prefix("revision=").and_then(number)?;
    words.next().is_none().then_some(UnusedKey { key, at: EtcdRevision { etcd, revision } })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        crypto::{Commitment, Uuid, kdf::MacLabel, root_key::RootKey},
        keyring::ledger::{Ledger, LedgerError},
        text::LineWriter,
    };
    use rand::rngs::SysRng;

    const UUID: Uuid = Uuid([5; 16]);

    fn key(number: u8) -> KeyId {
        KeyId::new(number.into(), &Commitment([number; 32]))
    }

    fn at(etcd: &str, revision: u64) -> EtcdRevision {
        EtcdRevision { etcd: etcd.to_owned(), revision }
    }

    fn noted(ledger: &Ledger, number: u8) -> Vec<EtcdRevision> {
        ledger.unused(key(number)).cloned().collect()
    }

    #[test]
    fn a_key_is_unused_in_each_etcd_from_a_revision_on() {
        let root = RootKey::generate(&mut SysRng).unwrap();
        let empty = Ledger::empty(UUID, root.id(UUID));
        let both = [at("cdf818194e3a8c32", 7), at("unix:///run/kine.sock", 12)];
        let ledger = empty.with_unused(key(1), &both, 1).unwrap().with_unused(key(2), &both[..1], 2).unwrap();
        let read = Ledger::decode(&ledger.encode(&root).unwrap(), &root, UUID, 2).unwrap();
        assert_eq!(read, ledger);
        assert_eq!((noted(&read, 1), noted(&read, 2), noted(&read, 3)), (both.to_vec(), both[..1].to_vec(), vec![]));
        let later = read.with_unused(key(1), &[at("cdf818194e3a8c32", 9)], 3).unwrap();
        assert_eq!(noted(&later, 1), [at("cdf818194e3a8c32", 9)], "the last scan counts");
        let used = later.without_unused(key(1), 4);
        assert_eq!((noted(&used, 1), noted(&used, 2).len(), used.count()), (vec![], 1, 4));
    }

    #[test]
    fn a_ledger_has_room_for_a_bounded_number() {
        let root = RootKey::generate(&mut SysRng).unwrap();
        let etcds: Vec<_> = (0..=UNUSED_MAX as u64).map(|number| at(&number.to_string(), 7)).collect();
        let empty = Ledger::empty(UUID, root.id(UUID));
        assert!(empty.with_unused(key(1), &etcds[1..], 1).is_ok());
        let full = empty.with_unused(key(1), &etcds, 1).unwrap_err().to_string();
        assert_eq!(
            full,
            format!("the ledger is full: it has no room for {} notes about disabled keys", UNUSED_MAX + 1)
        );
        let long = empty.with_unused(key(1), &[at(&"x".repeat(NAME_MAX + 1), 7)], 1).unwrap_err().to_string();
        assert_eq!(long, "the name of an etcd is too long for the ledger");
    }

    #[test]
    fn an_entry_of_another_form_is_refused() {
        let root = RootKey::generate(&mut SysRng).unwrap();
        let decode = |lines: &[String]| {
            let mut writer = LineWriter::new("ledger");
            writer.owner(UUID);
            writer.root_id(root.id(UUID));
            writer.line("count 1");
            for line in lines {
                writer.line(line);
            }
            Ledger::decode(&writer.finish(&root.mac(UUID, MacLabel::State).unwrap()), &root, UUID, 1)
        };
        let line = |rest: &str| format!("-> unused {} {rest}", key(1));
        let whole = line("etcd=a revision=7");
        assert!(decode(std::slice::from_ref(&whole)).is_ok());
        let twice = [whole.clone(), line("etcd=a revision=8")];
        let wrong = ["etcd=a", "etcd=a revision=07", "etcd=a revision=x", "etcd=%61 revision=7", "etcd=a revision=7 x"];
        let wrong = wrong.map(|rest| vec![line(rest)]).into_iter().chain([twice.to_vec()]);
        for lines in wrong.chain([vec!["-> unused k1 etcd=a revision=7".to_owned()]]) {
            let refused = decode(&lines);
            assert!(matches!(refused, Err(LedgerError::Text(_) | LedgerError::NotCanonical(_))), "{lines:?}");
        }
    }
}
