//! The ledger: which backups count, which keys each of them contains, which keys snapshots of etcd need, and which keys
//! no live value needs.
//!
//! A backup counts if somebody opened and read it. It also counts without being opened if two things are true: it was
//! written to another disk and read back, and the identity of one of its recipients was tried before. The ledger
//! identifies a backup by the SHA-256 of its record, so that copies of one backup are one entry. An entry is removed
//! only if an operator says so. The ledger contains no key. Each change raises its count, and the mark has the count,
//! too, so that an older ledger is noticed when somebody puts it back. Source: `docs/formats.md`, "ledger".

use std::collections::HashSet;

use crate::{
    crypto::{Digest, RootId, RootName, Uuid, kdf::MacLabel, root_key::RootKey},
    memory::SecretError,
    text::{self, LineReader, LineWriter, NotCanonical, OriginError, TextError, base64, base64_array, number},
};

use super::{
    key::Key,
    key_id::KeyId,
    listed_snapshot::{ListedSnapshot, SNAPSHOTS_MAX, read_snapshots},
    numbers::read_generation,
    ring::Keyring,
    time::Time,
    unused::{EtcdRevision, UNUSED_MAX, UnusedKey, is_short, read_unused},
};

/// The longest ledger in bytes.
pub const LEDGER_MAX: usize = 512 * 1024;
/// The most backups in a ledger.
pub const BACKUPS_MAX: usize = 256;
/// The longest path in a ledger. A longer path is left out.
const PATH_MAX: usize = 1024;
const KIND: &str = "ledger";

/// The ledger: the backups that count, the snapshots of etcd with the keys that they need, and for each disabled key
/// the revision of each etcd at which no value needed it. Backups and snapshots are in the order in which they were
/// last proven or read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ledger {
    uuid: Uuid,
    root_id: RootId,
    count: u64,
    forgot: Option<u32>,
    backups: Vec<ListedBackup>,
    snapshots: Vec<ListedSnapshot>,
    unused: Vec<UnusedKey>,
}

/// The entry of a backup that counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedBackup {
    record: Digest,
    generation: u64,
    written: Option<Time>,
    checked: Option<Time>,
    file: Option<String>,
    keys: Vec<KeyId>,
}

/// The proof that a backup can be used, with its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proven {
    /// The backup was written to another disk and read back, and the identity of one of its recipients was tried
    /// before.
    Written(Time),
    /// The backup was opened with an identity and read.
    Checked(Time),
}

/// Why a ledger was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// The grammar or the HMAC is wrong.
    #[error("the ledger: {0}")]
    Text(#[from] TextError),
    /// The ledger belongs to another keyring, or is under another root key.
    #[error("the ledger {0}")]
    Origin(#[from] OriginError),
    /// Somebody put an older ledger back.
    #[error("the ledger was rolled back: it has count {found}, this node has seen {marked}")]
    RolledBack {
        /// The count of changes in the ledger's file.
        found: u64,
        /// The count of changes in the mark.
        marked: u64,
    },
    /// There is no ledger, although the mark has seen one.
    #[error("the ledger is missing: this node has seen one with count {0}")]
    Missing(u64),
    /// The ledger's encoder would have written other bytes.
    #[error("the ledger {0}")]
    NotCanonical(#[from] NotCanonical),
    /// No memory could be locked for the key that authenticates the ledger.
    #[error(transparent)]
    Memory(#[from] SecretError),
}

/// The ledger has no room for another entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerFull {
    /// Backups and snapshots fill the ledger.
    #[error("the ledger is full: it lists {} and {}", counted(*backups, "backup"), counted(*snapshots, "snapshot"))]
    Listed {
        /// The number of backups that the ledger lists.
        backups: usize,
        /// The number of snapshots that the ledger lists.
        snapshots: usize,
    },
    /// Entries of unused keys fill the ledger.
    #[error("the ledger is full: it has no room for {} about disabled keys", counted(*.0, "note"))]
    Noted(usize),
    /// The name of an etcd is too long for an entry.
    #[error("the name of an etcd is too long for the ledger")]
    LongName,
}

fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

impl ListedBackup {
    /// Makes the entry of a backup of `keyring`. `record` is the SHA-256 of the backup's record, and `file` the path of
    /// the backup. `None` if the backup was not in a file.
    pub fn of(keyring: &Keyring, record: Digest, proven: Proven, file: Option<String>) -> Self {
        let (written, checked) = match proven {
            Proven::Written(time) => (Some(time), None),
            Proven::Checked(time) => (None, Some(time)),
        };
        let file = file.filter(|file| text::escape(file).len() <= PATH_MAX);
        let (generation, keys) = (keyring.generation(), keyring.keys().map(Key::id).collect());
        Self { record, generation, written, checked, file, keys }
    }

    /// Returns the SHA-256 of the backup's record, which identifies the backup.
    pub fn record(&self) -> Digest {
        self.record
    }

    /// Returns the generation of the keyring in the backup.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Returns the time when the backup was written to another disk and read back.
    pub fn written(&self) -> Option<Time> {
        self.written
    }

    /// Returns the time when the backup was last opened with an identity.
    pub fn checked(&self) -> Option<Time> {
        self.checked
    }

    /// Returns the path at which the backup was last proven.
    pub fn file(&self) -> Option<&str> {
        self.file.as_deref()
    }

    /// Returns the keys that the backup contains.
    pub fn keys(&self) -> &[KeyId] {
        &self.keys
    }

    /// Combines the proofs of this entry with those of the entry `before` for the same backup.
    fn proven_again(self, before: &Self) -> Self {
        Self {
            written: self.written.or(before.written),
            checked: self.checked.or(before.checked),
            file: self.file.or_else(|| before.file.clone()),
            ..self
        }
    }

    fn lines(&self) -> [String; 2] {
        let Self { record, generation, written, checked, file, keys } = self;
        let time = |name: &str, time: &Option<Time>| time.map_or_else(String::new, |time| format!(" {name}={time}"));
        let file = file.as_ref().map_or_else(String::new, |file| format!(" file={}", text::escape(file)));
        let keys: Vec<String> = keys.iter().map(ToString::to_string).collect();
        let (written, checked) = (time("written", written), time("checked", checked));
        [format!("-> backup {} generation={generation}{written}{checked}{file}", base64(&record.0)), keys.join(" ")]
    }

    fn length(&self) -> usize {
        self.lines().iter().map(|line| line.len() + 1).sum()
    }
}

impl Ledger {
    /// Makes an empty ledger of the keyring `uuid` under the root key `root_id`.
    pub fn empty(uuid: Uuid, root_id: RootId) -> Self {
        let (backups, snapshots, unused) = (Vec::new(), Vec::new(), Vec::new());
        Self { uuid, root_id, count: 0, forgot: None, backups, snapshots, unused }
    }

    /// Makes an empty ledger with the count `count`, which replaces a lost one. The lost ledger may have listed
    /// snapshots that need any key up to the sequence number `forgot`.
    #[must_use]
    pub fn begun_anew(self, count: u64, forgot: u32) -> Self {
        Self { count, forgot: Some(forgot), ..Self::empty(self.uuid, self.root_id) }
    }

    /// Returns the count of changes of the ledger.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Returns the id of the root key that authenticates the ledger.
    pub fn root_id(&self) -> RootId {
        self.root_id
    }

    /// Returns the greatest sequence number of the keys that snapshots in a lost ledger may need.
    pub fn forgot(&self) -> Option<u32> {
        self.forgot
    }

    /// Returns the backups, in the order in which they were last proven.
    pub fn backups(&self) -> &[ListedBackup] {
        &self.backups
    }

    /// Returns the backup of the latest generation. If there are several of that generation, the one that was proven
    /// last.
    pub fn newest(&self) -> Option<&ListedBackup> {
        self.backups.iter().max_by_key(|backup| backup.generation)
    }

    /// Returns the snapshots. The one that was read last is the last one.
    pub fn snapshots(&self) -> &[ListedSnapshot] {
        &self.snapshots
    }

    /// Returns the snapshots that need the key.
    pub fn needing(&self, key_id: KeyId) -> impl Iterator<Item = &ListedSnapshot> {
        self.snapshots.iter().filter(move |snapshot| snapshot.keys().contains(&key_id))
    }

    /// Returns since which revision of each etcd no live value is under the key, as the last scan for `key disable` or
    /// `key destroy` found.
    pub fn unused(&self, key_id: KeyId) -> impl Iterator<Item = &EtcdRevision> {
        self.unused.iter().filter(move |unused| unused.key == key_id).map(|unused| &unused.at)
    }

    /// Returns the keys that at least one listed backup contains.
    pub fn backed(&self) -> HashSet<KeyId> {
        self.backups.iter().flat_map(|backup| &backup.keys).copied().collect()
    }

    /// Returns the keys of `keyring` that no listed backup contains.
    pub fn unbacked(&self, keyring: &Keyring) -> Vec<KeyId> {
        let backed = self.backed();
        keyring.keys().map(Key::id).filter(|key_id| !backed.contains(key_id)).collect()
    }

    /// Adds a backup, or adds a proof to a listed one. The new count is `count`.
    ///
    /// # Errors
    /// When the ledger is full.
    pub fn with(&self, backup: ListedBackup, count: u64) -> Result<Self, LedgerFull> {
        let (known, mut backups): (Vec<_>, Vec<_>) =
            self.backups.iter().cloned().partition(|listed| listed.record == backup.record);
        backups.push(known.iter().fold(backup, ListedBackup::proven_again));
        self.checked(Self { count, backups, ..self.clone() })
    }

    /// Adds a snapshot, or adds a reading to a listed one. The new count is `count`.
    ///
    /// # Errors
    /// When the ledger is full.
    pub fn with_snapshot(&self, snapshot: ListedSnapshot, count: u64) -> Result<Self, LedgerFull> {
        let (known, mut snapshots): (Vec<_>, Vec<_>) =
            self.snapshots.iter().cloned().partition(|listed| listed.sha256() == snapshot.sha256());
        snapshots.push(known.iter().fold(snapshot, ListedSnapshot::read_again));
        self.checked(Self { count, snapshots, ..self.clone() })
    }

    /// Notes that no live value is under the key from these revisions on. The new count is `count`.
    ///
    /// # Errors
    /// When the ledger is full, or the name of an etcd is too long.
    pub fn with_unused(&self, key: KeyId, etcds: &[EtcdRevision], count: u64) -> Result<Self, LedgerFull> {
        let mut next = self.without_unused(key, count);
        next.unused.extend(etcds.iter().map(|at| UnusedKey { key, at: at.clone() }));
        self.checked(next)
    }

    /// Removes what was noted about the key, because it is about to be used again or to be destroyed. The new count is
    /// `count`.
    #[must_use]
    pub fn without_unused(&self, key: KeyId, count: u64) -> Self {
        let unused = self.unused.iter().filter(|unused| unused.key != key).cloned().collect();
        Self { count, unused, ..self.clone() }
    }

    /// Returns `next` if it is not too long to be encoded.
    fn checked(&self, next: Self) -> Result<Self, LedgerFull> {
        // An upper limit for the length in bytes of all other lines of the ledger.
        const REST: usize = 512;
        let backups = next.backups.iter().map(ListedBackup::length).sum::<usize>();
        let snapshots = next.snapshots.iter().map(ListedSnapshot::length).sum::<usize>();
        let unused = next.unused.iter().map(|unused| unused.line().len() + 1).sum::<usize>();
        if next.unused.iter().any(|unused| !is_short(&unused.at.etcd)) {
            return Err(LedgerFull::LongName);
        }
        if next.unused.len() > UNUSED_MAX {
            return Err(LedgerFull::Noted(next.unused.len()));
        }
        let is_long = REST + backups + snapshots + unused > LEDGER_MAX;
        if is_long || next.backups.len() > BACKUPS_MAX || next.snapshots.len() > SNAPSHOTS_MAX {
            return Err(LedgerFull::Listed { backups: self.backups.len(), snapshots: self.snapshots.len() });
        }
        Ok(next)
    }

    /// Removes the backup with this record, or the snapshot with this SHA-256. The new count is `count`.
    #[must_use]
    pub fn without(&self, digest: Digest, count: u64) -> Self {
        let backups = self.backups.iter().filter(|backup| backup.record != digest).cloned().collect();
        let snapshots = self.snapshots.iter().filter(|snapshot| snapshot.sha256() != digest).cloned().collect();
        Self { count, backups, snapshots, ..self.clone() }
    }

    /// Returns the same ledger under the root key `root_id`.
    #[must_use]
    pub fn under(&self, root_id: RootId) -> Self {
        Self { root_id, ..self.clone() }
    }

    /// Returns the bytes of the ledger, authenticated under `root`.
    ///
    /// # Errors
    /// When no memory can be locked.
    pub fn encode(&self, root: &RootKey) -> Result<Vec<u8>, SecretError> {
        let mut writer = LineWriter::new(KIND);
        writer.owner(self.uuid);
        writer.root_id(self.root_id);
        writer.line(&format!("count {}", self.count));
        if let Some(seq) = self.forgot {
            writer.line(&format!("forgot {seq}"));
        }
        self.backups.iter().flat_map(ListedBackup::lines).for_each(|line| writer.line(&line));
        self.snapshots.iter().flat_map(ListedSnapshot::lines).for_each(|line| writer.line(&line));
        self.unused.iter().for_each(|unused| writer.line(&unused.line()));
        Ok(writer.finish(&root.mac(self.uuid, MacLabel::State)?))
    }

    /// Reads which root key a ledger names. Nothing is authenticated yet.
    ///
    /// # Errors
    /// When the first lines are not those of a ledger.
    pub fn named_root(bytes: &[u8]) -> Result<RootId, TextError> {
        Ok(LineReader::open(bytes, KIND, LEDGER_MAX)?.root_name()?.root_id)
    }

    /// Reads a ledger of the keyring `expected` under `root`. `marked` is the count in the mark.
    ///
    /// # Errors
    /// When it belongs to another keyring or root key, was changed or damaged, or is older than the mark.
    pub fn decode(bytes: &[u8], root: &RootKey, expected: Uuid, marked: u64) -> Result<Self, LedgerError> {
        const FORGOT: &str = "`forgot <number>`, 1 to 2^31";
        let mut lines = LineReader::open(bytes, KIND, LEDGER_MAX)?;
        let name = lines.root_name()?;
        OriginError::check(name, expected, root)?;
        let RootName { uuid, root_id } = name;
        text::authenticate(bytes, &root.mac(uuid, MacLabel::State)?)?;
        let count = lines.field("count", "`count <number>`", number)?;
        let forgot = lines.line_after("forgot ").map(|seq| text::seq(seq).ok_or_else(|| lines.wrong(FORGOT)));
        let forgot = forgot.transpose()?;
        let (backups, snapshots) = (read_backups(&mut lines)?, read_snapshots(&mut lines)?);
        let unused = read_unused(&mut lines)?;
        lines.end()?;
        let ledger = Self { uuid, root_id, count, forgot, backups, snapshots, unused };
        if ledger.encode(root)? != bytes {
            return Err(NotCanonical.into());
        }
        if count < marked {
            return Err(LedgerError::RolledBack { found: count, marked });
        }
        Ok(ledger)
    }
}

fn read_backups(lines: &mut LineReader<'_>) -> Result<Vec<ListedBackup>, TextError> {
    const BACKUP: &str =
        "`-> backup <base64 SHA-256> generation=<number> [written=<time>] [checked=<time>] [file=<path>]`, each once";
    const KEYS: &str = "key_ids";
    let mut backups: Vec<ListedBackup> = Vec::new();
    while let Some(line) = lines.line_after("-> backup ") {
        let is_new = |backup: &ListedBackup| {
            backups.len() < BACKUPS_MAX && backups.iter().all(|other| other.record != backup.record)
        };
        let backup = read_backup(line).filter(is_new).ok_or_else(|| lines.wrong(BACKUP))?;
        let keys = lines.line(KEYS)?.split(' ').map(str::parse).collect::<Result<_, _>>();
        let keys = keys.map_err(|_| lines.wrong(KEYS))?;
        backups.push(ListedBackup { keys, ..backup });
    }
    Ok(backups)
}

/// Reads the first line of a backup. The next line has its keys.
fn read_backup(line: &str) -> Option<ListedBackup> {
    let mut words = line.split(' ').peekable();
    let record = base64_array(words.next()?).map(Digest)?;
    let generation = words.next()?.strip_prefix("generation=").and_then(read_generation)?;
    let mut value = |name: &str| words.next_if(|word| word.starts_with(name)).map(|word| &word[name.len()..]);
    let mut time = |name: &str| value(name).map_or(Some(None), |time| Time::parse(time).map(Some));
    let (written, checked) = (time("written=")?, time("checked=")?);
    let file = value("file=").map_or(Some(None), |file| text::unescape(file).map(Some))?;
    let is_proven = written.is_some() || checked.is_some();
    let backup = ListedBackup { record, generation, written, checked, file, keys: Vec::new() };
    (is_proven && words.next().is_none()).then_some(backup)
}

#[cfg(test)]
mod tests {
    use rand::rngs::SysRng;

    use super::*;
    use crate::{
        keyring::{
            state::State,
            testing::{self, keyring, now, with_key},
        },
        text::tampering,
    };

    const UUID: Uuid = Uuid([5; 16]);

    fn digest(number: u64) -> Digest {
        Digest::of(&number.to_be_bytes())
    }

    fn listed(keyring: &Keyring, number: u64) -> ListedBackup {
        ListedBackup::of(keyring, digest(number), Proven::Checked(now()), Some("/media/usb/a b.age".to_owned()))
    }

    #[test]
    fn a_ledger_reads_back_and_every_tampered_one_is_refused() {
        let root = RootKey::generate(&mut SysRng).unwrap();
        let first = keyring(&root, UUID);
        let second = with_key(first.clone(), &root, State::Pending);
        let written = ListedBackup::of(&second, digest(2), Proven::Written(now()), None);
        let ledger = Ledger::empty(UUID, root.id(UUID)).begun_anew(5, 9).with(listed(&first, 1), 6).unwrap();
        let ledger = ledger.with(written, 7).unwrap();
        let bytes = ledger.encode(&root).unwrap();
        assert_eq!(Ledger::named_root(&bytes), Ok(root.id(UUID)));
        assert_eq!(Ledger::decode(&bytes, &root, UUID, 7).unwrap(), ledger);
        for (what, tampered) in tampering::of(&bytes) {
            assert!(Ledger::decode(&tampered, &root, UUID, 0).is_err(), "{what}");
        }
        let stranger = RootKey::generate(&mut SysRng).unwrap();
        let refused = |root: &RootKey, uuid| Ledger::decode(&bytes, root, uuid, 0).unwrap_err().to_string();
        assert_eq!(refused(&stranger, UUID), "the ledger is under another root key");
        assert!(refused(&root, Uuid([6; 16])).starts_with("the ledger belongs to keyring 05"));
        let older = Ledger::decode(&bytes, &root, UUID, 8);
        assert!(matches!(older, Err(LedgerError::RolledBack { found: 7, marked: 8 })));
    }

    #[test]
    fn a_new_root_key_gets_the_same_backups() {
        let [old, new] = [0; 2].map(|_| RootKey::generate(&mut SysRng).unwrap());
        let ledger = Ledger::empty(UUID, old.id(UUID)).with(listed(&keyring(&old, UUID), 1), 1).unwrap();
        let bytes = ledger.under(new.id(UUID)).encode(&new).unwrap();
        let read = Ledger::decode(&bytes, &new, UUID, 1).unwrap();
        assert_eq!((read.backups(), read.count(), read.root_id()), (ledger.backups(), 1, new.id(UUID)));
    }

    /// Only a faulty program that has the root key could write such a ledger.
    #[test]
    fn no_backup_twice_or_without_a_proof_is_read_even_under_a_valid_hmac() {
        let root = RootKey::generate(&mut SysRng).unwrap();
        let keyring = keyring(&root, UUID);
        let read = |backups: Vec<ListedBackup>| {
            let bytes = Ledger { backups, ..Ledger::empty(UUID, root.id(UUID)) }.encode(&root).unwrap();
            Ledger::decode(&bytes, &root, UUID, 0).map(|ledger| ledger.backups.len())
        };
        let listed = |number| listed(&keyring, number);
        let many = |count| (0..count as u64).map(listed).collect::<Vec<_>>();
        assert_eq!(read(many(BACKUPS_MAX)).unwrap(), BACKUPS_MAX);
        for (what, backups) in [
            ("too many", many(BACKUPS_MAX + 1)),
            ("twice", vec![listed(1), listed(1)]),
            ("without a proof", vec![ListedBackup { checked: None, ..listed(1) }]),
            ("without a key", vec![ListedBackup { keys: Vec::new(), ..listed(1) }]),
        ] {
            assert!(matches!(read(backups), Err(LedgerError::Text(TextError::Line { .. }))), "{what}");
        }
    }

    #[test]
    fn a_key_is_backed_when_a_listed_backup_holds_it() {
        let root = RootKey::generate(&mut SysRng).unwrap();
        let first = keyring(&root, UUID);
        let second = with_key(first.clone(), &root, State::Pending);
        let ids = |keyring: &Keyring| keyring.keys().map(Key::id).collect::<Vec<_>>();
        let empty = Ledger::empty(UUID, root.id(UUID));
        assert_eq!(empty.unbacked(&first), ids(&first));
        let ledger = empty.with(listed(&first, 1), 1).unwrap();
        assert_eq!(ledger.unbacked(&first), []);
        assert_eq!(ledger.unbacked(&second), ids(&second)[1..]);
        let without = ledger.without(digest(1), 2);
        assert_eq!((without.unbacked(&first), without.count()), (ids(&first), 2));
        assert_eq!(ledger.without(digest(2), 2).unbacked(&first), []);
        let begun = ledger.begun_anew(3, 2);
        assert_eq!((begun.unbacked(&first), begun.count(), begun.forgot()), (ids(&first), 3, Some(2)));
    }

    #[test]
    fn a_backup_is_listed_once_and_remembers_every_proof() {
        let root = RootKey::generate(&mut SysRng).unwrap();
        let keyring = with_key(testing::later(&keyring(&root, UUID), |_| {}), &root, State::Pending);
        let later = Time::parse("2026-11-24T08:00:00Z").unwrap();
        let proven =
            |proven, file: Option<&str>| ListedBackup::of(&keyring, digest(1), proven, file.map(ToOwned::to_owned));
        let (written, checked) = (proven(Proven::Written(now()), Some("/old")), proven(Proven::Checked(now()), None));
        for (first, second) in [(&written, &checked), (&checked, &written)] {
            let ledger = Ledger::empty(UUID, root.id(UUID)).with(first.clone(), 1).unwrap();
            let ledger = ledger.with(listed(&keyring, 2), 2).unwrap().with(second.clone(), 3).unwrap();
            let [other, both] = ledger.backups() else { panic!("{ledger:?}") };
            assert_eq!((other.record(), both.record(), ledger.count()), (digest(2), digest(1), 3));
            assert_eq!((both.written(), both.checked(), both.file()), (Some(now()), Some(now()), Some("/old")));
            assert_eq!((both.generation(), both.keys().len()), (2, 2));
            // The newest proof of a kind replaces the one before.
            let ledger = ledger.with(proven(Proven::Checked(later), Some("/new")), 4).unwrap();
            let newest = ledger.newest().unwrap();
            assert_eq!(newest.record(), digest(1));
            assert_eq!((newest.written(), newest.checked(), newest.file()), (Some(now()), Some(later), Some("/new")));
        }
    }

    #[test]
    fn the_newest_backup_stays_the_newest_when_an_older_one_is_proven_again() {
        let root = RootKey::generate(&mut SysRng).unwrap();
        let old = keyring(&root, UUID);
        let new = testing::later(&old, |_| {});
        let ledger = Ledger::empty(UUID, root.id(UUID));
        assert_eq!(ledger.newest(), None);
        let ledger = ledger.with(listed(&old, 1), 1).unwrap().with(listed(&new, 2), 2).unwrap();
        let ledger = ledger.with(listed(&old, 1), 3).unwrap();
        assert_eq!(ledger.backups().last().unwrap().record(), digest(1));
        assert_eq!(ledger.newest().unwrap().record(), digest(2));
        let ledger = ledger.with(listed(&new, 3), 4).unwrap();
        assert_eq!(ledger.newest().unwrap().record(), digest(3), "of one generation, the one that was proven last");
    }

    #[test]
    fn a_full_ledger_refuses_and_forgets_nothing() {
        let root = RootKey::generate(&mut SysRng).unwrap();
        let keyring = keyring(&root, UUID);
        let mut ledger = Ledger::empty(UUID, root.id(UUID));
        for number in 0..BACKUPS_MAX as u64 {
            ledger = ledger.with(listed(&keyring, number), number + 1).unwrap();
        }
        let refused = ledger.with(listed(&keyring, 999), 999).unwrap_err();
        assert_eq!(refused, LedgerFull::Listed { backups: BACKUPS_MAX, snapshots: 0 });
        assert_eq!(refused.to_string(), "the ledger is full: it lists 256 backups and 0 snapshots");
        let again = ledger.with(listed(&keyring, 0), 999).unwrap();
        assert_eq!(again.backups().len(), BACKUPS_MAX);
        let bytes = again.encode(&root).unwrap();
        assert_eq!(Ledger::decode(&bytes, &root, UUID, 0).unwrap(), again);
        again.without(digest(7), 1000).with(listed(&keyring, 999), 1001).unwrap();
    }

    #[test]
    fn the_longest_ledger_is_read_again() {
        let root = RootKey::generate(&mut SysRng).unwrap();
        let keyring = keyring(&root, UUID);
        let key_id = keyring.primary().id();
        let long = |number, keys| ListedBackup { keys: vec![key_id; keys], ..listed(&keyring, number) };
        // A few backups of many keys, and as many backups as there may be: the last entry takes the rest of the room.
        for (backups, keys) in [(4, 3_600), (BACKUPS_MAX as u64, 53)] {
            let empty = Ledger::empty(UUID, root.id(UUID));
            let mut ledger =
                (1..=backups).fold(empty, |ledger, number| ledger.with(long(number, keys), number).unwrap());
            while let Ok(next) = ledger.with(long(backups, ledger.newest().unwrap().keys.len() + 1), backups) {
                ledger = next;
            }
            let bytes = ledger.encode(&root).unwrap();
            assert!((LEDGER_MAX - 512..=LEDGER_MAX).contains(&bytes.len()), "{}", bytes.len());
            assert_eq!(Ledger::decode(&bytes, &root, UUID, backups).unwrap(), ledger);
        }
    }
}
