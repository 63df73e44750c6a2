//! Scans one file: opens it, reads it in one or two passes, and reports what may be missing.

use std::{ops::ControlFlow, panic::resume_unwind, path::Path, thread};

use super::{
    super::{
        bolt::{BoltError, DamageList, Database, TreeReader, find_bucket},
        object::{Object, Sink},
        outcome::{Incomplete, OutsideValues, PrefixFit, Progress, ScanOutcome},
        prefixes::Prefixes,
        source::ScanSource,
        stored::ObjectValue,
        summarizer::Summarizer,
    },
    batch::{Batch, Collector},
    digest::{self, has_digest, length_before},
    error::SnapshotError,
    file::DatabaseFile,
    meta::MetaBucket,
    newest::Newest,
    parts::TreeParts,
};

/// The options of the scan of a file.
pub struct Options<'a> {
    /// Whether the digest is computed even if the file does not end with one.
    pub digest: bool,
    /// A function that receives the number of parts that are done, and the number of all parts.
    pub progress: Progress<'a>,
}

/// Passes the objects in the file at `path` to `sink`.
///
/// # Errors
/// When the file cannot be opened, is no database of etcd, or belongs to a running one.
pub fn scan(
    path: &Path,
    summarizer: &Summarizer,
    sink: &mut impl Sink,
    Options { digest, progress }: Options<'_>,
) -> Result<ScanOutcome, SnapshotError> {
    let file = DatabaseFile::open(path)?;
    let length = length_before(file.length());
    let database = Database::open(file.file.try_clone().map_err(SnapshotError::Open)?, length)?;
    let is_wanted = digest || has_digest(file.length());
    let (contents, digest) = thread::scope(|scope| {
        let digest = is_wanted.then(|| scope.spawn(|| digest::read(&file.file, file.length())));
        let contents = read_proven(&database, summarizer, sink, progress)?;
        let digest = digest.map(|digest| digest.join().unwrap_or_else(|panic| resume_unwind(panic)));
        Ok::<_, SnapshotError>((contents, digest))
    })?;
    let mut incomplete = contents.incomplete();
    incomplete.extend(database.damaged_meta.map(|page| Incomplete::Meta { page }));
    if database.length() > length {
        incomplete.push(Incomplete::Cut { found: length, expected: database.length() });
    }
    incomplete.extend(digest.as_ref().and_then(Incomplete::of_digest));
    if file.has_changed() {
        incomplete.push(Incomplete::Changed);
    }
    let fit = contents.fit(summarizer);
    let DatabaseContents { damage, outside, prefixes, revision, compacted, .. } = contents;
    let source = ScanSource {
        revision,
        compacted,
        digest: digest.and_then(Result::ok),
        ..ScanSource::snapshot(path, file.length())
    };
    let other_prefixes = prefixes.likely();
    Ok(ScanOutcome { source, overrides: Vec::new(), damage, incomplete, outside, fit, other_prefixes })
}

/// Reads the database quickly. If that turns out to have passed a key on twice, the sink forgets everything, and the
/// database is read thoroughly. If the sink cannot forget, the database is read thoroughly at once.
fn read_proven(
    database: &Database,
    summarizer: &Summarizer,
    sink: &mut impl Sink,
    progress: Progress<'_>,
) -> Result<DatabaseContents, BoltError> {
    if sink.forget() {
        let mut newest = Newest::quick();
        let contents = read(database, summarizer, (&mut newest, sink), progress)?;
        if contents.is_ended || newest.is_proven() {
            return Ok(contents);
        }
        sink.forget();
    }
    read(database, summarizer, (&mut Newest::thorough(), sink), progress)
}

/// Reads the database once, and passes each object to `sink`. `newest` decides which change of a key is the newest.
fn read<S: Sink>(
    database: &Database,
    summarizer: &Summarizer,
    (newest, sink): (&mut Newest, &mut S),
    progress: Progress<'_>,
) -> Result<DatabaseContents, BoltError> {
    let mut reader = TreeReader::new(database);
    let meta = MetaBucket::read(&mut reader);
    let mut collector = Collector::new(summarizer.clone(), S::NEEDS_VALUES);
    let tree = find_bucket(&mut reader, "key", &mut collector)?;
    let parts = tree.map_or_else(Vec::new, |tree| reader.parts(tree, &mut collector));
    let mut contents =
        DatabaseContents { damage: meta.damage, compacted: meta.compacted, ..DatabaseContents::default() };
    let all = TreeParts { database, subtrees: &parts, summarizer, needs_values: S::NEEDS_VALUES };
    let mut end = all.read(progress, |batch| contents.count(batch, database, (newest, sink)));
    if end.is_continue() {
        // The leaves that were found while the tree was split are counted last. A small bucket has only such leaves.
        end = contents.count(collector.take(), database, (newest, sink));
        progress(parts.len() as u64, parts.len() as u64);
    }
    database.overlaps().for_each(|damage| contents.damage.push(damage));
    contents.has_lost_meta = meta.is_lost;
    contents.is_ended = end.is_break();
    contents.revision = contents.revision.max(meta.compacted.unwrap_or(0));
    Ok(contents)
}

/// The kind of keys below the prefix. Even a deleted key shows that the prefix is used.
#[derive(Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum KeysBelow {
    #[default]
    None,
    /// Live keys. Their groups tell whether API servers have their resources.
    Any,
    /// A deleted key of a known resource. Deleted keys have no group.
    DeletedResource,
}

/// The contents of a database, as far as they were counted.
#[derive(Default)]
struct DatabaseContents {
    damage: DamageList,
    /// The values whose keys are outside the prefix.
    outside: OutsideValues,
    /// The prefixes that these keys show.
    prefixes: Prefixes,
    below: KeysBelow,
    /// The newest revision in the database.
    revision: u64,
    /// The revision up to which etcd compacted.
    compacted: Option<u64>,
    has_lost_meta: bool,
    /// Whether the sink ended the scan.
    is_ended: bool,
}

impl DatabaseContents {
    /// Passes the objects of a batch to the sink.
    fn count<S: Sink>(
        &mut self,
        batch: Batch,
        database: &Database,
        (newest, sink): (&mut Newest, &mut S),
    ) -> ControlFlow<()> {
        let mut keys = batch.keys.as_slice();
        // Looks up all keys of a batch in one loop, so that the processor can wait for several of them at once.
        let is_newest: Vec<bool> =
            batch.changes.iter().map(|change| newest.is_newest(change.fingerprint, change.is_first)).collect();
        self.damage.append(batch.damage);
        self.outside.merge(batch.outside);
        self.prefixes.merge(batch.prefixes);
        let below = match (batch.changes.is_empty(), batch.has_deleted_resource) {
            (true, _) => KeysBelow::None,
            (false, false) => KeysBelow::Any,
            (false, true) => KeysBelow::DeletedResource,
        };
        self.below = self.below.max(below);
        self.revision = self.revision.max(batch.revision);
        for (index, (change, is_newest)) in batch.changes.iter().zip(is_newest).enumerate() {
            let key = take(&mut keys, change.key_length);
            let Some(summary) = change.summary else { continue };
            let value = batch.entries.get(index).map(|place| ObjectValue::InFile(*place, database.file()));
            let object = Object { key, mod_revision: change.revision, summary, value };
            if is_newest {
                newest.note_live(change.fingerprint);
                sink.object(&object)?;
            } else {
                sink.older(&object)?;
            }
        }
        ControlFlow::Continue(())
    }

    /// Judges the summarizer's prefix. If the database has no key at all, the prefix may be right. If it has only other
    /// keys, the prefix is wrong.
    fn fit(&self, summarizer: &Summarizer) -> PrefixFit {
        let has_keys = self.below > KeysBelow::None;
        if !has_keys && self.outside.count == 0 {
            return PrefixFit::Fits;
        }
        let has_resource = self.below == KeysBelow::DeletedResource || summarizer.groups().have_known_resource();
        if !has_keys || !has_resource {
            return PrefixFit::without_resource(has_keys);
        }
        let prefix = String::from_utf8_lossy(summarizer.names().prefix());
        self.prefixes.around(prefix.trim_end_matches('/')).map_or(PrefixFit::Fits, PrefixFit::Inside)
    }

    /// Returns the reasons why something may be missing.
    fn incomplete(&self) -> Vec<Incomplete> {
        let lost_meta = self.has_lost_meta.then_some(Incomplete::NoMeta);
        let count = self.damage.count();
        let pages = (count > 0).then_some(Incomplete::Pages { count });
        let ended = self.is_ended.then_some(Incomplete::Ended);
        lost_meta.into_iter().chain(pages).chain(ended).collect()
    }
}

fn take<'b>(bytes: &mut &'b [u8], length: u32) -> &'b [u8] {
    let (taken, rest) = bytes.split_at(usize::try_from(length).unwrap_or(usize::MAX));
    *bytes = rest;
    taken
}
