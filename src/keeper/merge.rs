//! Bringing the keys of backups into a keyring that is there already: an older one, a newer one, or one that went another way.
//!
//! What a merge would do is a [`MergePlan`], which can be shown; carrying it out is the same order as each change: audit line, record,
//! mark. What the mark refuses, and a record that is damaged, are what it is for. Source: `docs/formats.md`, "Merging".

use rand::rngs::SysRng;
use zeroize::Zeroizing;

use super::{
    ChangeFailed, ExpectError, OpenError, Opened, Roots,
    backup::keyring_event,
    change::{RESERVE, not_marked, not_swapped},
    ledger::Listed,
    open_with, read_root,
    rekey::recoveries_under,
};
use crate::{
    audit::{self, Event},
    crypto::{Digest, RootId},
    durable::{Dir, DurableError},
    keyring::{
        Keyring,
        backup::Backup,
        key_id::KeyId,
        mark::Mark,
        merge::{Merge, Row, Sources, Wishes, merge},
        record::{self, RECORD_MAX, RecordError},
        time::Time,
    },
    root::{Means, ROOT_FILE},
    store::{Copy, FileStore, KEYRING, KEYRING_PREV},
};

/// A record that was opened, to be merged.
#[derive(Debug)]
pub struct Source {
    /// The keys.
    pub keyring: Keyring,
    /// The SHA-256 of the record.
    pub digest: Digest,
    /// The root key that it is under, and earlier ones.
    roots: Vec<RootId>,
    /// Whether an operator said which record it has to be.
    pub expected: bool,
}

impl From<&Backup> for Source {
    fn from(backup: &Backup) -> Self {
        let id = |root: &crate::crypto::kdf::RootKey| root.id(backup.keyring.uuid());
        let roots = [&backup.root].into_iter().chain(&backup.earlier).map(id).collect();
        Self { keyring: backup.keyring.clone(), digest: backup.digest(), roots, expected: false }
    }
}

impl Source {
    /// A bare record under a root key that the root file in `dir` has: no identity is needed for it.
    ///
    /// # Errors
    /// When no slot opens, or it is no record under such a root key.
    pub fn known(dir: &Dir, means: &Means, bytes: &[u8]) -> Result<Self, OpenError> {
        let roots = Roots::open(dir, means, None)?;
        let keyring =
            roots.record(bytes, dir)?.map_err(|source| OpenError::Record { path: dir.path_of(KEYRING), source })?;
        Ok(Self { roots: vec![keyring.root_id()], digest: Digest::of(bytes), keyring, expected: false })
    }
}

/// What a merge would do.
pub struct MergePlan {
    /// What becomes of each key.
    pub rows: Vec<Row>,
    /// The fresh key, which will wrap.
    pub fresh: KeyId,
    /// The generation that it makes.
    pub generation: u64,
    /// What the columns of the rows are: the generations of the keyring here, if it could be read, and of each backup.
    pub columns: Vec<(&'static str, u64)>,
    /// What is wrong with the keyring here, if something is.
    pub doubt: Option<String>,
    merge: Merge,
    local: Local,
    roots: Roots,
    copy: Copy,
}

/// What is in the state directory, as far as it can be read.
struct Local {
    bytes: Option<Zeroizing<Vec<u8>>>,
    /// The record, or the one before it if that is damaged.
    keyring: Option<Keyring>,
    mark: Option<Mark>,
    listed: Listed,
    doubt: Option<String>,
}

impl Roots {
    /// The keyring of a record under the current root key or an earlier one.
    fn record(&self, bytes: &[u8], dir: &Dir) -> Result<Result<Keyring, RecordError>, OpenError> {
        let root = match record::root_id(bytes) {
            Ok(root_id) => self.key(root_id, dir)?,
            Err(error) => return Ok(Err(error.into())),
        };
        Ok(record::decode(bytes, &root, self.file.uuid()))
    }
}

impl Local {
    fn read(dir: &Dir, roots: &Roots) -> Result<Self, OpenError> {
        let store = FileStore::new(dir, RECORD_MAX);
        let mut doubts = Vec::new();
        let marked = store.load_mark()?;
        let mark = marked.map(|bytes| read_mark(&bytes, roots, dir)).transpose()?;
        let mark = mark.and_then(|mark| mark.map_err(|error| doubts.push(format!("the mark: {error}"))).ok());
        let bytes = store.load()?;
        let mut keyring = None;
        match bytes.as_ref().map(|bytes| roots.record(bytes, dir)).transpose()? {
            Some(Ok(found)) => {
                let digest = bytes.as_ref().map(|bytes| Digest::of(bytes));
                let standing = mark.as_ref().zip(digest).map(|(mark, digest)| mark.check(&found, digest));
                doubts.extend(standing.and_then(Result::err).map(|error| error.to_string()));
                keyring = Some(found);
            }
            Some(Err(error)) => doubts.push(format!("the keyring: {error}")),
            None => doubts.push("the keyring is missing".to_owned()),
        }
        if keyring.is_none() && dir.contains(KEYRING_PREV)? {
            keyring = roots.record(&dir.read(KEYRING_PREV, RECORD_MAX)?, dir)?.ok();
        }
        let listed = Listed::read(dir, roots, mark.as_ref(), mark.as_ref().map(Mark::under))?.readable()?;
        let doubt = (!doubts.is_empty()).then(|| doubts.join("; "));
        Ok(Self { bytes, keyring, mark, listed, doubt })
    }

    fn has_all_of(&self, source: &Source) -> bool {
        let has = |key: &crate::keyring::Key| {
            self.keyring.as_ref().is_some_and(|keyring| keyring.keys().any(|ours| ours.id() == key.id()))
        };
        source.keyring.keys().all(has)
    }
}

fn read_mark(bytes: &[u8], roots: &Roots, dir: &Dir) -> Result<Result<Mark, String>, OpenError> {
    let root = match Mark::root_id(bytes) {
        Ok(root_id) => roots.key(root_id, dir)?,
        Err(error) => return Ok(Err(error.to_string())),
    };
    Ok(Mark::decode(bytes, &root, roots.file.uuid()).map_err(|error| error.to_string()))
}

/// What merging `sources` into the keyring in `dir` would do; none if it has every key of them, and nothing is wrong with it.
///
/// # Errors
/// When no slot opens, a source is another keyring's or under a root key that this one has not had, or the keys do not merge.
pub fn plan_merge(
    dir: &Dir,
    means: &Means,
    sources: &[Source],
    wishes: &Wishes,
    now: Time,
) -> Result<Option<MergePlan>, ChangeFailed> {
    let roots = Roots::open(dir, means, None)?;
    sources.iter().try_for_each(|source| check_related(&roots, source))?;
    let local = Local::read(dir, &roots)?;
    if local.doubt.is_none() && sources.iter().all(|source| local.has_all_of(source)) {
        return Ok(None);
    }
    let ours = local.keyring.iter().map(|keyring| ("here", keyring));
    let all: Vec<_> = ours.chain(sources.iter().map(|source| ("backup", &source.keyring))).collect();
    let keyrings: Vec<&Keyring> = all.iter().map(|(_, keyring)| *keyring).collect();
    let recoveries = match keyrings.first() {
        Some(first) => recoveries_under(first, &roots.current)?,
        None => Vec::new(),
    };
    let prev = local.bytes.as_ref().map(|bytes| Digest::of(bytes));
    let merging = Sources { keyrings: &keyrings, mark: local.mark.as_ref(), recoveries, prev };
    let merge = merge(&mut SysRng, &roots.current, &merging, wishes, now)?;
    let columns = all.iter().map(|(what, keyring)| (*what, keyring.generation())).collect();
    Ok(Some(MergePlan {
        rows: merge.rows.clone(),
        fresh: merge.fresh,
        generation: merge.keyring.generation(),
        columns,
        doubt: local.doubt.clone(),
        copy: if wishes.destroyed.is_empty() { Copy::Before } else { Copy::After },
        merge,
        local,
        roots,
    }))
}

/// Makes sure that whoever made `source` knew a root key of this keyring, which is what makes its keys trustworthy; or else that
/// an operator does.
fn check_related(roots: &Roots, source: &Source) -> Result<(), ChangeFailed> {
    let (found, expected) = (source.keyring.uuid(), roots.file.uuid());
    if found != expected {
        return Err(ChangeFailed::OtherBackup(ExpectError::OtherKeyring { found, expected }));
    }
    let current = roots.current.id(expected);
    let earlier = roots.file.earlier(&roots.current)?;
    let ours: Vec<RootId> = [current].into_iter().chain(earlier.iter().map(|root| root.id(expected))).collect();
    match source.roots.split_first() {
        Some((its, _)) if ours.contains(its) => Ok(()),
        Some((_, before)) if before.contains(&current) => Err(ChangeFailed::NewerRootKey),
        Some((_, before)) if before.iter().any(|root| ours.contains(root)) => Ok(()),
        _ if source.expected => Ok(()),
        _ => Err(ChangeFailed::StrangeRootKey),
    }
}

impl MergePlan {
    /// Does it, and opens what it made.
    ///
    /// # Errors
    /// When something was changed since it was planned, or a file cannot be written.
    pub fn carry_out(self, dir: &Dir, means: &Means) -> Result<Opened, ChangeFailed> {
        let Self { merge: Merge { keyring, .. }, local, roots, copy, .. } = self;
        let bytes = record::encode(&keyring, &roots.current)?;
        record::decode(&bytes, &roots.current, keyring.uuid())?;
        if bytes.len() + RESERVE > RECORD_MAX {
            return Err(ChangeFailed::Full);
        }
        let mark = Mark::of(&keyring, Digest::of(&bytes), local.listed.count()).encode(&roots.current)?;
        let store = FileStore::new(dir, RECORD_MAX);
        {
            let _lock = dir.lock()?;
            if read_root(dir)?.bytes() != roots.file.bytes() {
                return Err(DurableError::Changed(dir.path_of(ROOT_FILE)).into());
            }
            if store.load()?.as_deref() != local.bytes.as_deref() {
                return Err(DurableError::Changed(dir.path_of(KEYRING)).into());
            }
            audit::record(dir, &Event::Restore(keyring_event(&keyring))).map_err(ChangeFailed::NotAudited)?;
            let written = match &local.bytes {
                Some(before) => store.compare_and_swap(before, &bytes, copy),
                None => store.create(&bytes),
            };
            written.map_err(|error| not_swapped(&store, &bytes, error))?;
            local.listed.carry(dir, keyring.uuid(), &roots.current).map_err(not_marked)?;
            store.save_mark(&mark).map_err(ChangeFailed::NotMarked)?;
        }
        open_with(dir, means, Some(&roots.current)).map_err(|error| ChangeFailed::Unchecked(Box::new(error)))
    }
}
