//! Reads a database file of etcd: a snapshot with or without its digest, or a copy of `member/snap/db`.
//!
//! Threads read parts of the tree; one of them also counts what they saw in the order of revisions, newest first. What cannot be
//! read is told with its page and reason, and never ends the scan. The file of a running member is refused: etcd holds a lock on it.

use std::{
    collections::BTreeMap,
    fs::{File, Metadata, OpenOptions},
    io,
    num::NonZero,
    os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
    path::Path,
    sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc::{channel, sync_channel},
    },
    thread,
};

use ring::digest::{Context, SHA256};
use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

use super::{
    Progress, Scan,
    bolt::{BoltError, Bounds, Database, Element, Key, Leaf, PageDamage, Reader, Reason, Subtree, Visitor},
    report::{Digest, Incomplete, Source},
    revision::{Record, Revision},
    tally::{Fingerprint, List, Observer, Sighting, Tally},
};
use crate::scan::judge::Judge;

/// The bytes of SHA-256 behind a snapshot, which are there if this remains of its length.
const DIGEST: u64 = 32;
const SECTOR: u64 = 512;

/// How many parts may be read ahead of what is counted.
const AHEAD: usize = 32;

/// More threads than this only wait for who counts.
const THREADS_MAX: usize = 4;

/// Read at once for the digest.
const BLOCK: usize = 1 << 20;

/// Why a file is not scanned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// It cannot be opened.
    #[error("opening failed: {0}")]
    Open(#[source] io::Error),
    /// A directory, a pipe or a device.
    #[error("not a regular file")]
    Kind,
    /// etcd has it open.
    #[error("a running etcd holds this file")]
    Running,
    /// It is no database.
    #[error(transparent)]
    Bolt(#[from] BoltError),
}

/// How a file is scanned.
pub struct Options<'a> {
    /// Whether the digest is computed where none has to be checked.
    pub digest: bool,
    /// Who takes each live object.
    pub list: Option<List<'a>>,
    /// Who is told how far it is.
    pub progress: Progress<'a>,
}

/// Scans the file at `path`.
///
/// # Errors
/// When it cannot be opened, is no database of etcd, or is held by a running one.
pub fn scan(path: &Path, observer: &Observer, judge: &Judge, options: Options<'_>) -> Result<Scan, SnapshotError> {
    let file = open(path)?;
    let before = file.metadata().map_err(SnapshotError::Open)?;
    if !before.is_file() {
        return Err(SnapshotError::Kind);
    }
    refuse_running(&file)?;
    let has_digest = before.len() % SECTOR == DIGEST;
    let length = if has_digest { before.len() - DIGEST } else { before.len() };
    let again = || file.try_clone().map_err(SnapshotError::Open);
    let database = Database::open(again()?, length)?;
    let wanted = (has_digest || options.digest).then_some(before.len());
    let (mut found, digest) = thread::scope(|scope| {
        let digest = wanted.map(|length| {
            scope.spawn({
                let file = &file;
                move || sha256(file, if has_digest { length - DIGEST } else { length })
            })
        });
        let found = scan_database(&database, observer, judge, options)?;
        Ok::<_, SnapshotError>((found, digest.and_then(|digest| digest.join().ok())))
    })?;
    found.incomplete.extend(database.damaged_meta.map(|page| Incomplete::Meta { page }));
    if database.length() > length {
        found.incomplete.push(Incomplete::Cut { found: length, expected: database.length() });
    }
    let digest = digest.map(|digest| compare(&file, length, has_digest, digest, &mut found.incomplete));
    if has_changed(&file, &before) || matches!(refuse_running(&file), Err(SnapshotError::Running)) {
        found.incomplete.push(Incomplete::Changed);
    }
    let source = Source { digest, ..Source::snapshot(path, before.len(), found.revision, found.compacted) };
    Ok(Scan { source, ..found.into() })
}

fn open(path: &Path) -> Result<File, SnapshotError> {
    // Never waits for a pipe's other end.
    let flags = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or_default();
    OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(SnapshotError::Open)
}

/// etcd locks its database for as long as it runs. The lock is given back at once, so that no etcd has to wait for us.
fn refuse_running(file: &File) -> Result<(), SnapshotError> {
    match flock(file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => {
            let _ = flock(file, FlockOperation::Unlock);
            Ok(())
        }
        Err(Errno::WOULDBLOCK) => Err(SnapshotError::Running),
        // A file system without locks.
        Err(_) => Ok(()),
    }
}

fn has_changed(file: &File, before: &Metadata) -> bool {
    let stamp = |metadata: &Metadata| (metadata.len(), metadata.mtime(), metadata.mtime_nsec());
    file.metadata().map_or(true, |after| stamp(&after) != stamp(before))
}

fn sha256(file: &File, length: u64) -> Result<[u8; 32], io::Error> {
    let mut context = Context::new(&SHA256);
    let mut block = vec![0; BLOCK];
    let mut offset = 0;
    while offset < length {
        let wanted = usize::try_from(length - offset).unwrap_or(usize::MAX).min(BLOCK);
        match file.read_at(&mut block[..wanted], offset)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => {
                context.update(&block[..read]);
                offset += read as u64;
            }
        }
    }
    let mut digest = [0; 32];
    digest.copy_from_slice(context.finish().as_ref());
    Ok(digest)
}

fn compare(
    file: &File,
    length: u64,
    has_digest: bool,
    found: Result<[u8; 32], io::Error>,
    incomplete: &mut Vec<Incomplete>,
) -> Digest {
    let mut expected = [0; 32];
    let is_there = has_digest && file.read_exact_at(&mut expected, length).is_ok();
    let sha256 = found.as_ref().map_or_else(|_| String::new(), |found| base16ct::lower::encode_string(found));
    let matches = is_there.then(|| found.is_ok_and(|found| found == expected));
    if matches == Some(false) {
        incomplete.push(Incomplete::Digest);
    }
    Digest { sha256, matches }
}

/// What a scan of a database found, before it is known which file it was.
struct Found {
    is_proven: bool,
    tallied: super::tally::Tallied,
    damage: Vec<PageDamage>,
    incomplete: Vec<Incomplete>,
    outside: u64,
    is_used: bool,
    revision: u64,
    compacted: Option<u64>,
}

impl From<Found> for Scan {
    fn from(found: Found) -> Self {
        let Found { tallied, damage, incomplete, outside, is_used, .. } = found;
        Self { source: Source::default(), tallied, damage, incomplete, outside, is_used }
    }
}

fn scan_database(
    database: &Database,
    observer: &Observer,
    judge: &Judge,
    Options { list, progress, .. }: Options<'_>,
) -> Result<Found, BoltError> {
    // What is listed cannot be taken back.
    if list.is_none() {
        let found = scan_once(database, observer, Tally::unproven(judge, observer.groups()), progress)?;
        if found.is_proven {
            return Ok(found);
        }
    }
    scan_once(database, observer, Tally::new(judge, observer.groups(), list), progress)
}

fn scan_once(
    database: &Database,
    observer: &Observer,
    mut tally: Tally<'_>,
    progress: Progress<'_>,
) -> Result<Found, BoltError> {
    let mut reader = Reader::new(database);
    let mut meta = MetaBucket::default();
    // A database without it has never been compacted, or has lost more than that.
    let lost_meta = reader.bucket("meta", &mut meta).map(|tree| {
        if let Some(tree) = tree {
            reader.descend(&tree, &mut meta);
        }
    });
    let mut collector = Collector::new(observer.clone());
    let tree = reader.bucket("key", &mut collector)?;
    let parts = tree.map_or_else(Vec::new, |tree| reader.parts(tree, &mut collector));
    let mut found = Totals::default();
    found.damage.extend(meta.damage);
    count_parts(database, collector, &parts, progress, |batch| found.add(batch, &mut tally));
    found.damage.extend(database.overlaps());
    let mut incomplete = Vec::new();
    if lost_meta.is_err() {
        incomplete.push(Incomplete::NoMeta);
    }
    if !found.damage.is_empty() {
        incomplete.push(Incomplete::Pages { count: found.damage.len() });
    }
    let compacted = meta.compacted;
    Ok(Found {
        is_proven: tally.is_proven(),
        tallied: tally.finish(),
        damage: found.damage,
        incomplete,
        outside: found.outside,
        // A database that has never been written to is another matter than one with other keys.
        is_used: found.is_used || found.outside == 0,
        revision: found.revision.max(compacted.unwrap_or(0)),
        compacted,
    })
}

/// Reads the parts in threads, this one among them, and hands what they saw to `count`, from the last part to the first.
fn count_parts(
    database: &Database,
    mut first: Collector,
    parts: &[Subtree],
    progress: Progress<'_>,
    mut count: impl FnMut(Batch),
) {
    let threads = thread::available_parallelism().map_or(1, NonZero::get).clamp(1, THREADS_MAX);
    let unread = Unread { parts, taken: AtomicUsize::new(0) };
    let mut own = Hand::new(database, &first.observer);
    thread::scope(|scope| {
        let (sender, batches) = channel();
        // There is one permit for each part that was taken and is not counted.
        let (permit, permits) = sync_channel(AHEAD);
        for _ in 1..threads {
            let (sender, permit, unread) = (sender.clone(), permit.clone(), &unread);
            let mut hand = Hand::new(database, &first.observer);
            scope.spawn(move || {
                while permit.send(()).is_ok() {
                    let Some((at, part)) = unread.take() else { return };
                    if sender.send((at, hand.read(part))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        let (mut waiting, mut counted) = (BTreeMap::new(), 0);
        while counted < parts.len() {
            progress(counted as u64, parts.len() as u64);
            waiting.extend(batches.try_iter());
            if let Some(batch) = waiting.remove(&counted) {
                count(batch);
                counted += 1;
                let _ = permits.try_recv();
            } else if let Some((at, part)) = permit.try_send(()).ok().and_then(|()| unread.take()) {
                waiting.insert(at, own.read(part));
            } else if let Ok((at, batch)) = batches.recv() {
                waiting.insert(at, batch);
            } else {
                // A thread has panicked, which its scope tells.
                break;
            }
        }
    });
    count(std::mem::take(&mut first.batch));
    progress(parts.len() as u64, parts.len() as u64);
}

/// Parts that nobody has begun to read, the last of which is taken first.
struct Unread<'p> {
    parts: &'p [Subtree],
    taken: AtomicUsize,
}

impl<'p> Unread<'p> {
    /// One of them, and how many were taken before.
    fn take(&self) -> Option<(usize, &'p Subtree)> {
        let before = self.taken.fetch_add(1, Ordering::Relaxed);
        self.parts.iter().rev().nth(before).map(|part| (before, part))
    }
}

/// What a thread reads with.
struct Hand<'d> {
    reader: Reader<'d>,
    collector: Collector,
}

impl<'d> Hand<'d> {
    fn new(database: &'d Database, observer: &Observer) -> Self {
        Self { reader: Reader::new(database), collector: Collector::new(observer.clone()) }
    }

    fn read(&mut self, part: &Subtree) -> Batch {
        self.reader.descend(part, &mut self.collector);
        let next = self.collector.batch.alike();
        std::mem::replace(&mut self.collector.batch, next)
    }
}

/// One record, without its value.
struct Seen {
    fingerprint: Fingerprint,
    key_length: u32,
    revision: u64,
    /// Whether it is said to be the first of its key.
    is_first: bool,
    /// None of a deletion, or under a key of no resource.
    sighting: Option<Sighting>,
}

/// What was seen in a part, newest first.
#[derive(Default)]
struct Batch {
    seen: Vec<Seen>,
    /// All keys, one behind the other.
    keys: Vec<u8>,
    damage: Vec<PageDamage>,
    outside: u64,
    revision: u64,
}

impl Batch {
    /// An empty one with room for as much.
    fn alike(&self) -> Self {
        let (seen, keys) = (Vec::with_capacity(self.seen.len()), Vec::with_capacity(self.keys.len()));
        Self { seen, keys, ..Self::default() }
    }
}

/// Looks at the records in leaves.
struct Collector {
    observer: Observer,
    batch: Batch,
}

impl Collector {
    fn new(observer: Observer) -> Self {
        Self { observer, batch: Batch::default() }
    }

    fn record(&mut self, record: &Record<'_>) -> Result<(), &'static str> {
        self.batch.revision = self.batch.revision.max(record.revision.main);
        if !self.observer.covers(record.key) {
            self.batch.outside += u64::from(record.value.is_some());
            return Ok(());
        }
        if !is_text(record.key) {
            return Err("its key is none that Kubernetes writes");
        }
        let fingerprint = self.observer.fingerprint(record.key);
        let sighting = record.value.and_then(|value| self.observer.observe(record.key, value));
        self.batch.seen.push(Seen {
            fingerprint,
            key_length: u32::try_from(record.key.len()).map_err(|_| "its key is too long")?,
            revision: record.revision.main,
            is_first: record.is_first,
            sighting,
        });
        self.batch.keys.extend_from_slice(record.key);
        Ok(())
    }
}

/// Whether Kubernetes could have written such a key.
fn is_text(key: &[u8]) -> bool {
    let is_plain = key.iter().fold(true, |is_plain, byte| is_plain & (0x20..0x7f).contains(byte));
    is_plain || std::str::from_utf8(key).is_ok_and(|text| !text.chars().any(char::is_control))
}

impl Visitor for Collector {
    fn leaf(&mut self, page: u64, leaf: &Leaf<'_>) {
        for element in leaf.backwards() {
            let index = element.index;
            let read = if element.is_bucket {
                Err(Reason::Kind { index, found: "a bucket", expected: "a value" })
            } else {
                let record = Record::parse(element.key, element.value);
                record.and_then(|record| self.record(&record)).map_err(|what| Reason::Value { index, what })
            };
            if let Err(reason) = read {
                self.damage(PageDamage { page, reason, bounds: Some(lost(leaf, &element)) });
            }
        }
    }

    fn damage(&mut self, damage: PageDamage) {
        self.batch.damage.push(damage);
    }
}

/// The revisions that may be missing with a record: its own, or those between its neighbours' where it does not name one.
fn lost(leaf: &Leaf<'_>, element: &Element<'_>) -> Bounds {
    let has_revision = matches!(element.key.len(), 17 | 18) && Revision::parse(element.key).is_some();
    let own = || Key::new(element.key);
    if has_revision { Bounds { low: own(), high: own() } } else { leaf.around(element.index) }
}

/// What is added up over all parts.
#[derive(Default)]
struct Totals {
    damage: Vec<PageDamage>,
    outside: u64,
    is_used: bool,
    revision: u64,
}

impl Totals {
    fn add(&mut self, batch: Batch, tally: &mut Tally<'_>) {
        let mut keys = batch.keys.as_slice();
        // All of a batch at once, so that the processor need not wait for the memory of each.
        let newest: Vec<bool> =
            batch.seen.iter().map(|seen| tally.is_newest(seen.fingerprint, seen.is_first)).collect();
        for (seen, is_newest) in batch.seen.iter().zip(newest) {
            let (key, rest) = keys.split_at(usize::try_from(seen.key_length).unwrap_or(usize::MAX));
            keys = rest;
            match (is_newest, &seen.sighting) {
                (true, Some(sighting)) => {
                    tally.prove(seen.fingerprint);
                    tally.live(key, seen.revision, sighting);
                }
                (false, Some(sighting)) => tally.older(key, seen.revision, sighting),
                (_, None) => {}
            }
        }
        self.damage.extend(batch.damage);
        self.outside += batch.outside;
        self.is_used |= !batch.seen.is_empty();
        self.revision = self.revision.max(batch.revision);
    }
}

/// What the bucket `meta` says of compaction.
#[derive(Default)]
struct MetaBucket {
    compacted: Option<u64>,
    damage: Vec<PageDamage>,
}

impl Visitor for MetaBucket {
    fn leaf(&mut self, page: u64, leaf: &Leaf<'_>) {
        for element in leaf.backwards().filter(|element| element.key == b"finishedCompactRev") {
            match Revision::parse(element.value) {
                Some(revision) => self.compacted = Some(revision.main),
                None => self.damage(PageDamage {
                    page,
                    reason: Reason::Value { index: element.index, what: "finishedCompactRev is no revision" },
                    bounds: None,
                }),
            }
        }
    }

    fn damage(&mut self, damage: PageDamage) {
        self.damage.push(damage);
    }
}

impl Bounds {
    /// The revisions between which something is missing, both included as far as is known.
    pub fn revisions(&self) -> (Option<u64>, Option<u64>) {
        let main = |key: &Option<Key>| key.as_deref().and_then(Revision::parse).map(|revision| revision.main);
        (main(&self.low), main(&self.high))
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, fs};

    use super::{
        super::{
            forge::{self, Change, Shape},
            names::Names,
            report::Report,
            tally::Listed,
        },
        *,
    };

    const SECRET: &[u8] = b"k8s\0\x0a\x01a";

    /// What a scan of `bytes` says, and the live objects with their revisions.
    fn scan_bytes(bytes: &[u8]) -> Result<(Report, BTreeMap<String, u64>), SnapshotError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), bytes).unwrap();
        let names = Names::new("/registry");
        let (judge, mut live) = (Judge::default(), BTreeMap::new());
        let list = |listed: &Listed<'_>| {
            let key = String::from_utf8(listed.key.to_vec()).unwrap();
            assert!(live.insert(key, listed.mod_revision).is_none(), "an object is listed twice");
        };
        let report = |list| {
            let options = Options { digest: false, list, progress: &mut |_, _| {} };
            let scan = scan(file.path(), &Observer::new(names.clone(), [3; 16]), &judge, options)?;
            Ok(Report::new(scan, &judge, names.prefix(), String::new()))
        };
        let report_of_list = report(Some(Box::new(list)));
        // Whichever thread reads what, and whether there is a list, the report is the same.
        let text = |report: &Result<Report, SnapshotError>| format!("{report:?}");
        assert!(text(&report(None)) == text(&report_of_list), "{:?}", report_of_list.map(|report| report.incomplete));
        Ok((report_of_list?, live))
    }

    fn changes(keys: &[String]) -> Vec<Change<'_>> {
        keys.iter().zip(2..).map(|(key, revision)| ((revision, 0), key.as_bytes(), Some(SECRET))).collect()
    }

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|number| format!("/registry/secrets/default/s{number:05}")).collect()
    }

    #[test]
    fn a_snapshot_of_any_transaction_is_read() {
        let names = names(20);
        // A snapshot has its transaction on the first page and the one before on the second, whatever their parity.
        for txid in [6_u64, 7] {
            let mut bytes = forge::database(Shape::default(), &changes(&names));
            for (page, txid) in [(0, txid), (1, txid - 1)] {
                bytes[page * 4096 + 64..][..8].copy_from_slice(&txid.to_le_bytes());
            }
            forge::mend_meta(&mut bytes, 4096);
            let (report, live) = scan_bytes(&bytes).unwrap();
            assert_eq!((live.len(), report.is_incomplete()), (20, false), "of transaction {txid}");
        }
    }

    #[test]
    fn the_last_change_of_each_key_is_what_it_is_now() {
        let changes: [Change<'_>; 7] = [
            ((2, 0), b"/registry/secrets/a/kept", Some(SECRET)),
            ((3, 0), b"/registry/secrets/a/gone", Some(SECRET)),
            ((4, 0), b"/registry/secrets/a/gone", None),
            ((5, 0), b"/registry/secrets/a/back", Some(SECRET)),
            ((6, 0), b"/registry/secrets/a/back", None),
            ((7, 1), b"/registry/secrets/a/back", Some(SECRET)),
            ((8, 0), b"compact_rev_key", Some(b"1")),
        ];
        let shape = Shape { compacted: Some(2), ..Shape::default() };
        let (report, live) = scan_bytes(&forge::database(shape, &changes)).unwrap();
        let expected = [("/registry/secrets/a/back", 7), ("/registry/secrets/a/kept", 2)];
        assert_eq!(live, expected.map(|(key, revision)| (key.to_owned(), revision)).into());
        let row = &report.groups[0];
        assert_eq!((report.groups.len(), row.objects, row.revisions), (1, 2, Some(2)));
        assert_eq!((row.first_revision, row.last_revision), (Some(2), Some(7)));
        assert_eq!((report.source.revision, report.source.compacted, report.outside), (8, Some(2), 1));
        assert!(!report.is_incomplete());
    }

    /// The bytes of a database of these changes, with `from` overwritten by `to` in the record of `revision`.
    fn forged(changes: &[Change<'_>], revision: u64, from: &[u8], to: &[u8]) -> Vec<u8> {
        let mut bytes = forge::database(Shape { page_size: 512, leaf: 1, ..Shape::default() }, changes);
        let name = [&revision.to_be_bytes()[..], b"_"].concat();
        let is_leaf = |page: &usize| bytes[page * 512 + 8] == 2 && bytes[page * 512 + 32..].starts_with(&name);
        let page = (2..bytes.len() / 512).find(is_leaf).unwrap();
        let at = bytes[page * 512..(page + 1) * 512].windows(from.len()).position(|window| window == from).unwrap();
        bytes[page * 512 + at..][..to.len()].copy_from_slice(to);
        bytes
    }

    #[test]
    fn nothing_is_counted_twice_whatever_a_record_says_of_its_version() {
        let key = &b"/registry/secrets/a/x"[..];
        let changes: [Change<'_>; 4] = [
            ((2, 0), key, Some(SECRET)),
            ((3, 0), key, Some(SECRET)),
            ((4, 0), key, None),
            ((5, 0), key, Some(SECRET)),
        ];
        let counted = |bytes: &[u8]| {
            let (report, live) = scan_bytes(bytes).unwrap();
            (report.all.objects, report.groups[0].revisions, live.into_values().collect::<Vec<_>>())
        };
        // The deletion is lost, or is one of another key, which nothing tells but a digest.
        assert_eq!(counted(&forge::database(Shape::default(), &changes)), (1, Some(2), vec![5]));
        assert_eq!(counted(&forged(&changes, 4, b"a/x", b"a/y")), (1, Some(2), vec![5]));
        assert_eq!(counted(&forged(&changes, 4, b"\0\0\0\0\0\0\0\x04", &[0xff; 8])), (1, Some(2), vec![5]));
        // As etcdctl migrate wrote keys of etcd 2, whatever had happened to them: the first version at a later revision.
        let migrated = forged(&changes[..2], 3, b"\x20\x02", b"\x20\x01");
        assert_eq!(counted(&migrated), (1, Some(1), vec![3]));
    }

    #[test]
    fn trees_of_any_shape_are_read_whole() {
        for count in [0, 1, 2, 7, 500] {
            for (page_size, leaf, branch) in [(512, 1, 2), (512, 3, 3), (4096, 8, 40), (65536, 100, 2)] {
                let keys = names(count);
                let shape = Shape { page_size, leaf, branch, compacted: None };
                let (report, live) = scan_bytes(&forge::database(shape, &changes(&keys))).unwrap();
                assert_eq!(live.len(), count, "{shape:?}");
                assert_eq!(report.incomplete, [""; 0], "{shape:?}");
            }
        }
    }

    #[test]
    fn every_page_can_be_lost_and_the_rest_is_told() {
        let keys = names(200);
        let shape = Shape { page_size: 512, leaf: 4, branch: 5, compacted: None };
        let whole = forge::database(shape, &changes(&keys));
        let (_, all) = scan_bytes(&whole).unwrap();
        for page in 0..whole.len() / 512 {
            for fill in [0x00, 0xff, 0x5a] {
                let mut bytes = whole.clone();
                bytes[page * 512..(page + 1) * 512].fill(fill);
                match scan_bytes(&bytes) {
                    Ok((report, live)) => {
                        assert!(live.iter().all(|(key, revision)| all.get(key) == Some(revision)), "page {page}");
                        assert_eq!(
                            report.is_incomplete(),
                            live.len() < all.len() || page < 2,
                            "page {page}: {:?}",
                            report.incomplete
                        );
                    }
                    Err(SnapshotError::Bolt(BoltError::LostBucket { name: "key", .. })) => {
                        assert!(page > 2, "page {page}");
                    }
                    Err(error) => panic!("page {page}: {error}"),
                }
            }
        }
    }

    #[test]
    fn a_tree_that_bites_its_tail_ends() {
        let keys = names(40);
        let shape = Shape { page_size: 512, leaf: 2, branch: 3, compacted: None };
        let whole = forge::database(shape, &changes(&keys));
        // Each child of each branch is led to each page: to itself, to pages above it, beside it and below it.
        let pages = whole.len() / 512;
        for branch in (2..pages).filter(|page| whole[page * 512 + 8] == 1) {
            for child in 0..usize::from(whole[branch * 512 + 10]) {
                for target in 0..pages + 2 {
                    let mut bytes = whole.clone();
                    let at = branch * 512 + 16 + child * 16 + 8;
                    let before = u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
                    bytes[at..at + 8].copy_from_slice(&(target as u64).to_le_bytes());
                    let (report, live) = scan_bytes(&bytes).unwrap();
                    assert_eq!(report.is_incomplete(), before != target as u64, "{branch}, {child} to {target}");
                    assert!(live.len() <= 40);
                }
            }
        }
    }

    /// Where the heads of a branch's children are that name their pages.
    fn pointers(bytes: &[u8], page: usize) -> impl Iterator<Item = usize> {
        let count = if bytes[page * 512 + 8] == 1 { usize::from(bytes[page * 512 + 10]) } else { 0 };
        (0..count).map(move |child| page * 512 + 16 + child * 16 + 8)
    }

    fn lead(bytes: &mut [u8], pointer: usize, page: usize) {
        bytes[pointer..pointer + 8].copy_from_slice(&(page as u64).to_le_bytes());
    }

    #[test]
    fn a_wrong_child_hides_nothing_but_itself() {
        let keys = names(128);
        let shape = Shape { page_size: 512, leaf: 2, branch: 8, compacted: None };
        let whole = forge::database(shape, &changes(&keys));
        let top = (2..whole.len() / 512).rfind(|page| whole[page * 512 + 8] == 1).unwrap();
        let all: Vec<usize> = pointers(&whole, top).collect();
        assert_eq!(all.len(), 8);
        for pointer in &all {
            // To a leaf, to itself, to another child, and out of the file.
            for page in [2, top, top - 2, 9999] {
                let mut bytes = whole.clone();
                let own = u64::from_le_bytes(bytes[*pointer..*pointer + 8].try_into().unwrap());
                lead(&mut bytes, *pointer, page);
                let (report, live) = scan_bytes(&bytes).unwrap();
                let lost = if own == page as u64 { 0 } else { 16 };
                assert_eq!((live.len(), report.is_incomplete()), (128 - lost, lost > 0), "{pointer} to {page}");
            }
        }
    }

    #[test]
    fn a_branch_that_is_each_of_its_own_children_ends() {
        let keys = names(128);
        let shape = Shape { page_size: 512, leaf: 2, branch: 8, compacted: None };
        let mut bytes = forge::database(shape, &changes(&keys));
        let branches: Vec<usize> = (2..bytes.len() / 512).filter(|page| bytes[page * 512 + 8] == 1).collect();
        for page in branches {
            for pointer in pointers(&bytes, page).collect::<Vec<_>>() {
                lead(&mut bytes, pointer, page);
            }
        }
        let (report, live) = scan_bytes(&bytes).unwrap();
        assert_eq!((live.len(), report.is_incomplete()), (0, true));
    }

    #[test]
    fn a_page_in_the_middle_of_another_is_told_and_reads_alike_each_time() {
        let large = [SECRET, &[b'a'; 700]].concat();
        let keys = names(60);
        let mut changes = changes(&keys);
        changes[20].2 = Some(&large);
        let shape = Shape { page_size: 512, leaf: 1, branch: 4, compacted: None };
        let mut bytes = forge::database(shape, &changes);
        let pages = bytes.len() / 512;
        let spans = |page: &usize| bytes[page * 512 + 8] == 2 && bytes[page * 512 + 12] == 1;
        let over = (2..pages).find(spans).unwrap() + 1;
        // A leaf of another thread's, which now stands where the large value ends.
        let moved = (over + 1..pages).nth(25).unwrap();
        assert_eq!((bytes[moved * 512 + 8], bytes[moved * 512 + 10]), (2, 1));
        bytes.copy_within(moved * 512..(moved + 1) * 512, over * 512);
        bytes[over * 512..][..8].copy_from_slice(&(over as u64).to_le_bytes());
        let all: Vec<usize> = (2..pages).flat_map(|page| pointers(&bytes, page).collect::<Vec<_>>()).collect();
        let pointer = all.into_iter().find(|at| bytes[*at..*at + 8] == (moved as u64).to_le_bytes()).unwrap();
        lead(&mut bytes, pointer, over);
        for _ in 0..200 {
            let (report, live) = scan_bytes(&bytes).unwrap();
            assert_eq!((live.len(), report.is_incomplete()), (60, true));
            let damaged: Vec<_> =
                report.findings.iter().filter_map(|finding| finding.page.zip(finding.reason.clone())).collect();
            assert_eq!(damaged, [(over as u64, "it is used twice".to_owned())]);
        }
    }

    #[test]
    fn a_digest_is_checked_where_there_is_one() {
        let keys = names(3);
        let mut bytes = forge::database(Shape::default(), &changes(&keys));
        let digest = ring::digest::digest(&SHA256, &bytes);
        bytes.extend(digest.as_ref());
        let (report, _) = scan_bytes(&bytes).unwrap();
        assert_eq!((report.source.digest.unwrap().matches, report.incomplete.len()), (Some(true), 0));
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        let (report, live) = scan_bytes(&bytes).unwrap();
        assert_eq!((report.source.digest.unwrap().matches, live.len()), (Some(false), 3));
        assert_eq!(report.incomplete, ["the digest at the end of the file is not that of what stands before it"]);
    }

    #[test]
    fn a_file_that_was_cut_off_says_so() {
        let keys = names(100);
        let shape = Shape { page_size: 512, leaf: 4, branch: 5, compacted: None };
        let bytes = forge::database(shape, &changes(&keys));
        for pages in 2..bytes.len() / 512 {
            match scan_bytes(&bytes[..pages * 512]) {
                Ok((report, _)) => assert!(report.is_incomplete(), "{pages}"),
                Err(error) => {
                    assert!(error.to_string().starts_with("the bucket \"key\" cannot be found: page"), "{error}");
                }
            }
        }
    }
}
