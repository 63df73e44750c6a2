//! The entry of a snapshot of etcd in the ledger: which keys of the keyring the snapshot needs.
//!
//! As long as the ledger lists a snapshot, `key destroy` keeps the keys that it needs. The SHA-256 of its bytes
//! identifies a snapshot, so that copies of one snapshot are one entry. Source: `docs/formats.md`, "ledger".

use crate::{
    crypto::Digest,
    text::{self, LineReader, TextError, base64, base64_array, number},
};

use super::{key_id::KeyId, time::Time};

/// The most snapshots in a ledger.
pub const SNAPSHOTS_MAX: usize = 256;
/// The longest path in a ledger. A longer path is left out.
const PATH_MAX: usize = 1024;

/// The entry of a snapshot of etcd that the ledger lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedSnapshot {
    sha256: Digest,
    revision: u64,
    checked: Time,
    file: Option<String>,
    keys: Vec<KeyId>,
}

impl ListedSnapshot {
    /// Makes the entry of a snapshot that was read at the time `checked`. `sha256` is the digest of the snapshot's
    /// bytes without the digest at its end, and `revision` its newest revision. `keys` are the keys of this keyring
    /// that the snapshot needs, at least one.
    pub fn new(sha256: Digest, revision: u64, checked: Time, file: Option<String>, keys: Vec<KeyId>) -> Self {
        let file = file.filter(|file| text::escape(file).len() <= PATH_MAX);
        Self { sha256, revision, checked, file, keys }
    }

    /// Returns the SHA-256 of the snapshot's bytes, which identifies the snapshot.
    pub fn sha256(&self) -> Digest {
        self.sha256
    }

    /// Returns the newest revision in the snapshot.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Returns the time when the snapshot was last read.
    pub fn checked(&self) -> Time {
        self.checked
    }

    /// Returns the path at which the snapshot was last read.
    pub fn file(&self) -> Option<&str> {
        self.file.as_deref()
    }

    /// Returns the keys of this keyring that the snapshot needs.
    pub fn keys(&self) -> &[KeyId] {
        &self.keys
    }

    /// Combines two readings of one snapshot. They read different prefixes, so the snapshot needs the keys of both.
    pub(super) fn read_again(mut self, before: &Self) -> Self {
        self.keys.extend(&before.keys);
        self.keys.sort_unstable();
        self.keys.dedup();
        self.file = self.file.or_else(|| before.file.clone());
        self
    }

    pub(super) fn lines(&self) -> [String; 2] {
        let Self { sha256, revision, checked, file, keys } = self;
        let file = file.as_ref().map_or_else(String::new, |file| format!(" file={}", text::escape(file)));
        let keys: Vec<String> = keys.iter().map(ToString::to_string).collect();
        [format!("-> snapshot {} revision={revision} checked={checked}{file}", base64(&sha256.0)), keys.join(" ")]
    }

    pub(super) fn length(&self) -> usize {
        self.lines().iter().map(|line| line.len() + 1).sum()
    }
}

/// Reads the snapshots at the end of a ledger.
pub(super) fn read_snapshots(lines: &mut LineReader<'_>) -> Result<Vec<ListedSnapshot>, TextError> {
    const SNAPSHOT: &str = "`-> snapshot <base64 SHA-256> revision=<number> checked=<time> [file=<path>]`, each once";
    const KEYS: &str = "key_ids";
    let mut snapshots: Vec<ListedSnapshot> = Vec::new();
    while let Some(line) = lines.line_after("-> snapshot ") {
        let is_new = |snapshot: &ListedSnapshot| {
            snapshots.len() < SNAPSHOTS_MAX && snapshots.iter().all(|other| other.sha256 != snapshot.sha256)
        };
        let snapshot = read_snapshot(line).filter(is_new).ok_or_else(|| lines.wrong(SNAPSHOT))?;
        let keys = lines.line(KEYS)?.split(' ').map(str::parse).collect::<Result<_, _>>();
        let keys = keys.map_err(|_| lines.wrong(KEYS))?;
        snapshots.push(ListedSnapshot { keys, ..snapshot });
    }
    Ok(snapshots)
}

/// Reads the first line of a snapshot. The next line has its keys.
fn read_snapshot(line: &str) -> Option<ListedSnapshot> {
    let mut words = line.split(' ');
    let sha256 = base64_array(words.next()?).map(Digest)?;
    let revision = words.next()?.strip_prefix("revision=").and_then(number)?;
    let checked = words.next()?.strip_prefix("checked=").and_then(Time::parse)?;
    let file = words.next().map(|word| word.strip_prefix("file=").and_then(text::unescape));
    let file = file.map_or(Some(None), |file| file.map(Some))?;
    words.next().is_none().then_some(ListedSnapshot { sha256, revision, checked, file, keys: Vec::new() })
}

#[cfg(test)]
mod tests {
    use rand::rngs::SysRng;

    use super::*;
    use crate::{
        crypto::{Commitment, Uuid, kdf::MacLabel, root_key::RootKey},
        keyring::{
            ledger::{LEDGER_MAX, Ledger, LedgerError, LedgerFull, ListedBackup, Proven},
            testing::{keyring, now},
        },
        text::tampering,
    };

    const UUID: Uuid = Uuid([5; 16]);

    fn key(number: u8) -> KeyId {
        KeyId::new(number.into(), &Commitment([number; 32]))
    }

    fn snapshot(number: u64, keys: &[KeyId]) -> ListedSnapshot {
        let file = Some("/media/usb/etcd 1.db".to_owned());
        ListedSnapshot::new(Digest::of(&number.to_be_bytes()), 17, now(), file, keys.to_vec())
    }

    fn empty(root: &RootKey) -> Ledger {
        Ledger::empty(UUID, root.id(UUID))
    }

    #[test]
    fn a_ledger_with_snapshots_reads_back_and_every_tampered_one_is_refused() {
        let root = RootKey::generate(&mut SysRng).unwrap();
        let backup = ListedBackup::of(&keyring(&root, UUID), Digest::of(b"record"), Proven::Checked(now()), None);
        let before = empty(&root).with(backup, 1).unwrap();
        let ledger = before.with_snapshot(snapshot(1, &[key(1), key(2)]), 2).unwrap();
        let nameless = ListedSnapshot { file: None, ..snapshot(2, &[key(2)]) };
        let ledger = ledger.with_snapshot(nameless, 3).unwrap();
        let bytes = ledger.encode(&root).unwrap();
        let read = Ledger::decode(&bytes, &root, UUID, 3).unwrap();
        assert_eq!((&read, read.snapshots().len(), read.backups().len()), (&ledger, 2, 1));
        for (what, tampered) in tampering::of(&bytes) {
            assert!(Ledger::decode(&tampered, &root, UUID, 0).is_err(), "{what}");
        }
        // A ledger from a claviger that knew no snapshots is written again with the same bytes.
        let old = before.encode(&root).unwrap();
        assert!(!String::from_utf8(old.clone()).unwrap().contains("snapshot"));
        assert_eq!(Ledger::decode(&old, &root, UUID, 1).unwrap().encode(&root).unwrap(), old);
        // A rekey and another backup keep the snapshots. Only a new ledger gives them up.
        let other = RootKey::generate(&mut SysRng).unwrap();
        let under = ledger.under(other.id(UUID)).encode(&other).unwrap();
        assert_eq!(Ledger::decode(&under, &other, UUID, 3).unwrap().snapshots(), ledger.snapshots());
        let backup = ListedBackup::of(&keyring(&root, UUID), Digest::of(b"other"), Proven::Checked(now()), None);
        assert_eq!(ledger.with(backup, 4).unwrap().snapshots(), ledger.snapshots());
        assert_eq!(ledger.without(Digest::of(b"record"), 4).snapshots(), ledger.snapshots());
        assert_eq!(ledger.begun_anew(4, 9).snapshots(), []);
    }

    #[test]
    fn the_ledger_says_which_snapshots_need_a_key() {
        let root = RootKey::generate(&mut SysRng).unwrap();
        let ledger = empty(&root).with_snapshot(snapshot(1, &[key(1), key(2)]), 1).unwrap();
        let ledger = ledger.with_snapshot(snapshot(2, &[key(2)]), 2).unwrap();
        let needing = |ledger: &Ledger, number| -> Vec<Digest> {
            ledger.needing(key(number)).map(ListedSnapshot::sha256).collect()
        };
        let id = |number: u64| Digest::of(&number.to_be_bytes());
        let found = [1, 2, 3].map(|number| needing(&ledger, number));
        assert_eq!(found, [vec![id(1)], vec![id(1), id(2)], vec![]]);
        assert!(ledger.backed().is_empty(), "a snapshot has no key");
        let without = ledger.without(id(1), 3);
        assert_eq!([1, 2].map(|number| needing(&without, number)), [vec![], vec![id(2)]]);
        // A second reading with a wrong prefix does not release a key.
        let again = ListedSnapshot { file: None, ..snapshot(1, &[key(3)]) };
        let again = ledger.with_snapshot(again, 3).unwrap();
        let last = again.snapshots().last().unwrap();
        assert_eq!((again.snapshots().len(), last.sha256(), last.keys()), (2, id(1), &[key(1), key(2), key(3)][..]));
        assert_eq!((last.file(), last.revision(), last.checked()), (Some("/media/usb/etcd 1.db"), 17, now()));
    }

    /// Only a faulty program that has the root key could write such a ledger.
    #[test]
    fn no_forged_snapshot_is_read_even_under_a_valid_hmac() {
        let root = RootKey::generate(&mut SysRng).unwrap();
        let good = empty(&root).with_snapshot(snapshot(1, &[key(1)]), 1).unwrap().encode(&root).unwrap();
        let text = String::from_utf8(good).unwrap();
        let text = &text[..text.find("--- ").unwrap()];
        let signed = |text: &str| {
            let text = format!("{text}---");
            let tag = root.mac(UUID, MacLabel::State).unwrap().tag(text.as_bytes());
            format!("{text} {}\n", base64(&tag)).into_bytes()
        };
        let read = |text: &str| Ledger::decode(&signed(text), &root, UUID, 0);
        assert_eq!(read(text).unwrap().snapshots().len(), 1);
        let entry = &text[text.find("-> snapshot").unwrap()..];
        let (line, keys) = entry.split_once('\n').unwrap();
        for (what, forged) in [
            ("twice", format!("{text}{entry}")),
            ("without keys", text.replace(keys, "\n")),
            ("something that is not a key", text.replace(keys, "k1\n")),
            ("before a backup", text.replace("-> snapshot", "-> backup")),
            ("another word", text.replace(line, &format!("{line} written=2026-11-24T08:00:00Z"))),
            ("a negative revision", text.replace("revision=17", "revision=-17")),
            ("a padded revision", text.replace("revision=17", "revision=017")),
            ("no revision", text.replace(" revision=17", "")),
            ("no time", text.replace(&format!(" checked={}", now()), "")),
            ("no such time", text.replace("checked=2", "checked=x")),
            ("a plain path", text.replace("%20", "%2f")),
            ("a short digest", text.replace("-> snapshot ", "-> snapshot A")),
            ("a thing of the future", text.replace("-> snapshot", "-> volume")),
        ] {
            assert_ne!(forged, text, "{what}");
            let refused = read(&forged).unwrap_err();
            assert!(matches!(refused, LedgerError::Text(_)), "{what}: {refused}");
        }
        let many: String = (0..=SNAPSHOTS_MAX as u64)
            .flat_map(|number| snapshot(number, &[key(1)]).lines())
            .map(|line| line + "\n")
            .collect();
        let head = &text[..text.find("-> snapshot").unwrap()];
        let one_less = many.rsplit_once("-> snapshot").unwrap().0;
        assert_eq!(read(&format!("{head}{one_less}")).unwrap().snapshots().len(), SNAPSHOTS_MAX);
        assert!(read(&format!("{head}{many}")).is_err(), "too many");
    }

    #[test]
    fn a_full_ledger_refuses_a_snapshot_and_forgets_nothing() {
        let root = RootKey::generate(&mut SysRng).unwrap();
        let mut ledger = empty(&root);
        for number in 0..SNAPSHOTS_MAX as u64 {
            ledger = ledger.with_snapshot(snapshot(number, &[key(1)]), number + 1).unwrap();
        }
        let refused = ledger.with_snapshot(snapshot(999, &[key(1)]), 999).unwrap_err();
        assert_eq!(refused, LedgerFull::Listed { backups: 0, snapshots: SNAPSHOTS_MAX });
        assert_eq!(refused.to_string(), "the ledger is full: it lists 0 backups and 256 snapshots");
        ledger.with_snapshot(snapshot(0, &[key(1)]), 999).unwrap();
        ledger.without(Digest::of(&7_u64.to_be_bytes()), 9).with_snapshot(snapshot(999, &[key(1)]), 10).unwrap();
        // A snapshot that names very many keys does not make the ledger longer than [`LEDGER_MAX`].
        let mut keys = vec![key(1); 1];
        while empty(&root).with_snapshot(snapshot(1, &keys), 1).is_ok() {
            keys.extend(vec![key(1); 500]);
        }
        keys.truncate(keys.len() - 500);
        let long = empty(&root).with_snapshot(snapshot(1, &keys), 1).unwrap();
        let bytes = long.encode(&root).unwrap();
        assert!(bytes.len() <= LEDGER_MAX && bytes.len() + 40 * 500 > LEDGER_MAX, "{}", bytes.len());
        assert_eq!(Ledger::decode(&bytes, &root, UUID, 1).unwrap(), long);
    }
}
