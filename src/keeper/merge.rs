//! Merges keys of backups into an existing keyring, which may be older, newer or a fork.
//!
//! A [`MergePreview`] says what a merge would do, so that the operator sees it first. A merge also repairs a keyring
//! that is damaged, or that does not follow from the mark. Source: `docs/formats.md`, "Merging".

use std::{mem, sync::Arc};

use rand::rngs::SysRng;

use super::{
    commit::{Commit, CommitError, Export, Followers, Limit, NewRecord, PrevCopy, Swap, keyring_event},
    error::{NoBackupRecipient, OpenError, ReadLedgerError, RootKeyError},
    expect::ExpectError,
    fresh::FreshBackup,
    listed::Listed,
    open::{Opened, open_with},
    recovery::recoveries_under,
    restore::ScannedNeeds,
    roots::Roots,
    state_dir::{KEYRING_PREV, StateFiles, load_by},
};
use crate::{
    audit::Event,
    crypto::{
        Digest, RootId,
        root_key::{RootKey, RootKeys},
    },
    durable::{Dir, DurableError},
    escrow::{Backup, NotRecipient, SealBackupError, SealRecoveryError, recovery::recipients},
    keyring::{
        Key, Keyring,
        home::Home,
        key_id::KeyId,
        ledger::{LedgerFull, ListedBackup, Proven},
        listed_snapshot::ListedSnapshot,
        mark::{Mark, MarkError, RecordChoice},
        merge::{Greatest, Merge, MergeError, MergeRow, MergeSource, Sources, Weight, Wishes, merge},
        record::RecordError,
        time::Time,
    },
    root::Means,
    store::KeyringStore,
};

/// An opened record, whose keys a merge may take.
#[derive(Debug)]
pub struct Source {
    /// The keyring that the record contains.
    pub keyring: Keyring,
    /// The SHA-256 of the record.
    pub digest: Digest,
    /// Whether an operator named exactly this record.
    pub is_named: bool,
    /// The ids of the record's root key, and of the earlier root keys that its backup contains.
    roots: Vec<RootId>,
    /// The path of the backup from which an identity opened the record. `None` for a bare record, which a root key of
    /// this directory opened.
    backup: Option<String>,
}

impl Source {
    /// Makes a source from `backup`, which an identity opened in `file`.
    pub fn of_backup(backup: &Backup, file: String) -> Self {
        let id = |root: &RootKey| root.id(backup.keyring.uuid());
        let roots = [&backup.root].into_iter().chain(&backup.earlier).map(id).collect();
        let (keyring, digest) = (backup.keyring.clone(), backup.digest());
        Self { keyring, digest, is_named: false, roots, backup: Some(file) }
    }

    /// Opens a bare record under a root key that the root file in `dir` contains. This needs no identity.
    ///
    /// # Errors
    /// When no slot opens, or `bytes` are not a record under such a root key.
    pub fn known(dir: &Dir, means: &Means, bytes: &[u8]) -> Result<Self, OpenError> {
        let state = StateFiles::new(dir);
        let roots = Roots::open(state, means, None)?;
        let keyring = roots.record(bytes, state)?;
        let (roots, digest) = (vec![keyring.root_id()], Digest::of(bytes));
        Ok(Self { keyring, digest, is_named: false, roots, backup: None })
    }

    fn listed(&self, now: Time) -> Option<ListedBackup> {
        let file = self.backup.clone()?;
        Some(ListedBackup::of(&self.keyring, self.digest, Proven::Checked(now), Some(file)))
    }
}

/// Why a merge could not be planned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PreviewMergeError {
    /// The state directory cannot be read, or no slot opens.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The ledger here could not be read.
    #[error(transparent)]
    Ledger(#[from] Arc<ReadLedgerError>),
    /// No record is readable, neither here nor in a backup.
    #[error("there is nothing to merge: no record is readable here, and no backup was given")]
    NoRecord,
    /// A backup belongs to another keyring.
    #[error("the backup is of another keyring: {0}")]
    OtherKeyring(#[source] ExpectError),
    /// A backup is under a newer root key than the keyring here.
    #[error("the backup is under a newer root key than the keyring here")]
    NewerRootKey,
    /// A backup is under a root key that this keyring never had, or an earlier root key does not open.
    #[error(transparent)]
    RootKey(#[from] RootKeyError),
    /// The records cannot be merged.
    #[error(transparent)]
    Merge(#[from] MergeError),
    /// A recovery recipient in the record is not a valid age recipient.
    #[error(transparent)]
    Recipient(#[from] NotRecipient),
    /// The root key could not be sealed to a recovery recipient.
    #[error(transparent)]
    Recovery(#[from] SealRecoveryError),
}

/// Why a planned merge was not carried out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CarryOutMergeError {
    /// A recovery recipient of the merged keyring is not a valid age recipient.
    #[error(transparent)]
    Recipient(#[from] NotRecipient),
    /// An earlier root key, which the backup contains, does not open.
    #[error(transparent)]
    RootKey(#[from] RootKeyError),
    /// The merge has to make a key, and the operator named no file for its backup.
    #[error(
        "the merge has to make a key, because no backup holds one that may become primary, and nothing says where to back it up"
    )]
    NoPlaceForBackup,
    /// There is no recipient, so nobody could open the backup of the new key.
    #[error(transparent)]
    NoRecipient(#[from] NoBackupRecipient),
    /// The backup of the new key could not be sealed.
    #[error(transparent)]
    Backup(#[from] SealBackupError),
    /// Another command holds the lock, or the lock cannot be taken.
    #[error(transparent)]
    Lock(DurableError),
    /// Writing the merged keyring failed. The error says what was changed.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

/// A fault of the keyring here, which a merge repairs.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyringDoubt {
    /// The mark was refused.
    #[error("the mark: {0}")]
    Mark(#[source] MarkError),
    /// The file of the record is missing.
    #[error("the keyring is missing")]
    Missing,
    /// The record was refused, for example because it is damaged.
    #[error("the keyring: {0}")]
    Record(#[source] RecordError),
    /// The record does not follow from the mark.
    #[error(transparent)]
    NotFollowing(MarkError),
    /// The record is under a root key that a rekey has replaced.
    #[error("the keyring is under an earlier root key")]
    EarlierRootKey,
}

/// A planned merge, which the operator sees before it is carried out.
pub struct MergePreview {
    /// The states of each key before and after the merge.
    pub rows: Vec<MergeRow>,
    /// The new primary key, if the merge has to make one.
    pub fresh: Option<KeyId>,
    /// The generation of the merged keyring.
    pub generation: u64,
    /// The heading and the generation of each column of `rows`. The first column is the keyring here, if it could be
    /// read. Each backup has one more column.
    pub columns: Vec<(&'static str, u64)>,
    /// The faults of the keyring here. Empty if it is intact.
    pub doubts: Vec<KeyringDoubt>,
    /// Why the ledger has no room for the snapshot that was scanned. `None` if it has.
    pub unlisted: Option<LedgerFull>,
    merge: Merge,
    local: Local,
    roots: Roots,
    copy: PrevCopy,
    /// The backups that were opened for the merge.
    opened: Vec<ListedBackup>,
    /// The snapshot that was scanned for the merge.
    snapshot: Option<ListedSnapshot>,
    now: Time,
}

/// The contents of the state directory, as far as they are readable.
struct Local {
    /// The SHA-256 of the record, even if it cannot be decoded.
    found: Option<Digest>,
    /// The opened record. If it is missing or damaged, this is the record in `keyring.prev`.
    keyring: Option<WeighedRecord>,
    mark: Option<Mark>,
    listed: Listed,
    doubts: Vec<KeyringDoubt>,
}

/// An opened record, with the part of it that counts.
struct WeighedRecord {
    keyring: Keyring,
    digest: Digest,
    weight: Weight,
    /// Whether the record comes from its copy in `keyring.prev`.
    is_copy: bool,
}

/// Opens a record and returns which part of it counts. A record under the root key of the mark counts as a whole,
/// because during a rekey that root key is still valid. The error [`OpenError::Record`] says why a record was refused.
fn weighed(
    roots: &Roots,
    bytes: &[u8],
    mark: Option<&Mark>,
    state: StateFiles<'_>,
) -> Result<WeighedRecord, OpenError> {
    let keyring = roots.record(bytes, state)?;
    let is_marked = mark.is_some_and(|mark| mark.under() == keyring.root_id());
    let is_current = keyring.root_id() == roots.current.id(roots.file.uuid());
    let weight = if is_current || is_marked { Weight::Whole } else { Weight::KeyBytes };
    Ok(WeighedRecord { keyring, digest: Digest::of(bytes), weight, is_copy: false })
}

impl Local {
    /// Reads the files of the state directory. A damaged or missing one becomes a doubt.
    fn read(state: StateFiles<'_>, roots: &Roots) -> Result<Self, OpenError> {
        let mut doubts = Vec::new();
        let marked = state.mark()?;
        let mark = match marked.map(|bytes| read_mark(&bytes, roots, state)).transpose() {
            Err(OpenError::Mark { source, .. }) => {
                doubts.push(KeyringDoubt::Mark(source));
                None
            }
            mark => mark?,
        };
        let held = state.store().load(load_by())?;
        let mut keyring = None;
        match held.as_ref().map(|held| weighed(roots, &held.bytes, mark.as_ref(), state)).transpose() {
            Ok(Some(found)) => {
                let standing = mark.as_ref().map(|mark| mark.check(&found.keyring, found.digest, RecordChoice::Found));
                doubts.extend(standing.and_then(Result::err).map(KeyringDoubt::NotFollowing));
                if found.weight == Weight::KeyBytes {
                    doubts.push(KeyringDoubt::EarlierRootKey);
                }
                keyring = Some(found);
            }
            Ok(None) => doubts.push(KeyringDoubt::Missing),
            Err(OpenError::Record { source, .. }) => doubts.push(KeyringDoubt::Record(source)),
            Err(error) => return Err(error),
        }
        if keyring.is_none()
            && let Some(copy) = state.copy()?
        {
            keyring = match weighed(roots, &copy, mark.as_ref(), state) {
                Err(OpenError::Record { .. }) => None,
                found => Some(WeighedRecord { is_copy: true, ..found? }),
            };
        }
        let listed = Listed::read(state, roots, mark.as_ref(), mark.as_ref().map(Mark::under))?;
        Ok(Self { found: held.map(|held| Digest::of(&held.bytes)), keyring, mark, listed, doubts })
    }

    /// Whether the record here has all that counts of `source`, and is marked. A crash during an earlier merge may have
    /// left a record that is not marked. Of a whole source, the record here has to be the same or a successor.
    fn follows(&self, source: &Source, weight: Weight) -> bool {
        let Some(WeighedRecord { keyring: ours, digest, .. }) = &self.keyring else { return false };
        let is_marked = self.mark.as_ref().is_some_and(|mark| mark.record() == *digest);
        let is_past = ours.past().names(source.keyring.generation(), source.digest);
        let has = |key: &Key| ours.keys().any(|other| other.id() == key.id());
        let is_later = weight == Weight::KeyBytes || is_past || *digest == source.digest;
        is_marked && is_later && source.keyring.keys().all(has)
    }

    /// Returns the greatest numbers in the record and in the mark.
    fn known(&self) -> Greatest {
        let keyring = self.keyring.iter().map(|found| Greatest::of(&found.keyring));
        keyring.chain(self.mark.iter().map(Greatest::marked)).fold(Greatest::default(), Greatest::or)
    }
}

/// Opens the mark. The error [`OpenError::Mark`] says why the mark was refused.
fn read_mark(bytes: &[u8], roots: &Roots, state: StateFiles<'_>) -> Result<Mark, OpenError> {
    let refused = |error| OpenError::mark(state, error);
    let root_id = Mark::root_id(bytes).map_err(|error| refused(error.into()))?;
    let root = roots.key(root_id, state)?;
    Mark::decode(bytes, &root, roots.file.uuid()).map_err(refused)
}

/// Plans the merge of `sources` into the keyring in `dir`. Returns `None` if there is nothing to merge: the keyring is
/// intact, has every key of `sources`, and is equal to or newer than each whole one of them, and the operator marks no
/// key as compromised.
///
/// # Errors
/// When no slot opens, a source belongs to another keyring or is under a root key that this one never had, or the
/// records cannot be merged.
pub fn preview_merge(
    dir: &Dir,
    means: &Means,
    sources: &[Source],
    wishes: &Wishes,
    now: Time,
) -> Result<Option<MergePreview>, PreviewMergeError> {
    let state = StateFiles::new(dir);
    let roots = Roots::open(state, means, None)?;
    let weights: Vec<Weight> = sources.iter().map(|source| weight(&roots, source)).collect::<Result<_, _>>()?;
    let mut local = Local::read(state, &roots)?;
    local.listed.check_readable()?;
    let is_complete =
        local.doubts.is_empty() && sources.iter().zip(&weights).all(|(source, weight)| local.follows(source, *weight));
    if is_complete && wishes.compromised.is_empty() {
        return Ok(None);
    }
    let opened: Vec<ListedBackup> = sources.iter().filter_map(|source| source.listed(now)).collect();
    let records = records(&local, sources, &weights);
    let columns = columns(&local, sources);
    let merge = merge_records(&roots, &local, (&records, &opened), wishes, now)?;
    Ok(Some(MergePreview {
        rows: merge.rows.clone(),
        fresh: merge.fresh,
        generation: merge.keyring.generation(),
        columns,
        doubts: mem::take(&mut local.doubts),
        copy: if wishes.keep_destroyed.is_empty() { PrevCopy::Before } else { PrevCopy::After },
        merge,
        local,
        roots,
        opened,
        snapshot: None,
        unlisted: None,
        now,
    }))
}

/// Returns the records to merge: the record here, if it could be read, and the record of each source.
fn records<'a>(local: &'a Local, sources: &'a [Source], weights: &[Weight]) -> Vec<MergeSource<'a>> {
    let ours = local.keyring.iter().map(|found| MergeSource {
        keyring: &found.keyring,
        record: found.digest,
        weight: found.weight,
        is_here: true,
    });
    let theirs = sources.iter().zip(weights).map(|(source, weight)| MergeSource {
        keyring: &source.keyring,
        record: source.digest,
        weight: *weight,
        is_here: false,
    });
    ours.chain(theirs).collect()
}

/// The heading of the column of the keyring here.
pub const KEYRING_HERE: &str = "here";

/// Returns the heading and the generation of each record's column.
fn columns(local: &Local, sources: &[Source]) -> Vec<(&'static str, u64)> {
    let ours =
        local.keyring.iter().map(|found| (if found.is_copy { KEYRING_PREV } else { KEYRING_HERE }, &found.keyring));
    let theirs =
        sources.iter().map(|source| (if source.backup.is_some() { "backup" } else { "file" }, &source.keyring));
    ours.chain(theirs).map(|(heading, keyring)| (heading, keyring.generation())).collect()
}

/// Merges `records`. `opened` are the backups that were opened for the merge; their keys count as backed up.
fn merge_records(
    roots: &Roots,
    local: &Local,
    (records, opened): (&[MergeSource<'_>], &[ListedBackup]),
    wishes: &Wishes,
    now: Time,
) -> Result<Merge, PreviewMergeError> {
    let (first, others) = records.split_first().ok_or(PreviewMergeError::NoRecord)?;
    let recipients = recipients(first.keyring.recoveries())?;
    let recoveries = recoveries_under(first.keyring, &recipients, &roots.current)?;
    let mut backed = local.listed.backed();
    backed.extend(opened.iter().flat_map(ListedBackup::keys));
    let backed: Vec<KeyId> = backed.into_iter().collect();
    let (known, mark) = (local.known(), local.mark.as_ref());
    let sources = Sources { first: *first, others, known, mark, backed: &backed, recoveries };
    Ok(merge(&mut SysRng, &roots.current, &sources, wishes, now)?)
}

/// Returns how much of `source` counts. The whole record counts if it is under the current root key, or if the operator
/// named exactly this record. Under an earlier root key only the key bytes count, because anyone who kept that root key
/// can make a record.
///
/// # Errors
/// When the record belongs to another keyring, an earlier root key does not open, or the record is under any other root
/// key. Anyone can make a backup under another root key.
fn weight(roots: &Roots, source: &Source) -> Result<Weight, PreviewMergeError> {
    let (found, expected) = (source.keyring.uuid(), roots.file.uuid());
    if found != expected {
        return Err(PreviewMergeError::OtherKeyring(ExpectError::OtherKeyring { found, expected }));
    }
    let (its, current) = (source.keyring.root_id(), roots.current.id(expected));
    let earlier = roots.earlier()?;
    if its == current || source.is_named {
        return Ok(Weight::Whole);
    }
    if earlier.iter().any(|root| root.id(expected) == its) {
        return Ok(Weight::KeyBytes);
    }
    Err(if source.roots.contains(&current) { PreviewMergeError::NewerRootKey } else { RootKeyError::Unknown.into() })
}

impl MergePreview {
    /// Whether the mark here could be read, so that the merge respects it.
    pub fn has_mark(&self) -> bool {
        self.local.mark.is_some()
    }

    /// Whether the ledger here could be read, so that the merge keeps its entries.
    pub fn has_ledger(&self) -> bool {
        self.local.listed.ledger().is_ok()
    }

    /// Makes the merge list the snapshot that was scanned, if one was.
    #[must_use]
    pub fn listing(self, scanned: &ScannedNeeds) -> Self {
        let snapshot = scanned.snapshot.clone();
        let snapshot = snapshot.and_then(|snapshot| snapshot.entry(&self.merge.keyring, &scanned.keys, self.now));
        let listed = &self.local.listed;
        let unlisted = snapshot.as_ref().and_then(|snapshot| listed.lacks_room(&self.opened, snapshot));
        Self { unlisted, snapshot, ..self }
    }

    /// Writes the merged keyring and opens it. If the merge makes a key, the backup at the path in `fresh` is written
    /// first.
    ///
    /// # Errors
    /// When root file or record have changed since the merge was planned, the backup of a new key cannot be made, or a
    /// file cannot be written.
    pub fn carry_out(
        self,
        dir: &Dir,
        means: &Means,
        fresh: Option<&FreshBackup>,
    ) -> Result<Opened, CarryOutMergeError> {
        let Self { merge: Merge { keyring, fresh: made, .. }, local, roots, copy, mut opened, snapshot, now, .. } =
            self;
        let Roots { current: root, .. } = &roots;
        if let Home::Etcd(prefix) = keyring.home() {
            return Err(CommitError::HomeInEtcd(prefix.clone()).into());
        }
        let record = NewRecord::encode(&keyring, root, Limit::Reserved).map_err(CommitError::Encode)?;
        let backup = match (made, fresh) {
            (Some(_), Some(fresh)) => Some(fresh_backup(dir, &roots, &keyring, &record, fresh, now)?),
            (Some(_), None) => return Err(CarryOutMergeError::NoPlaceForBackup),
            (None, _) => None,
        };
        opened.extend(backup.as_ref().and_then(|backup| backup.listed.clone()));
        let listed = local.listed.with(opened).with_snapshot(snapshot);
        let mark = Mark::of(&keyring, record.digest(), listed.count()).after_restore(&keyring);
        let commit = Commit {
            root_before: Some(roots.file.bytes()),
            backup: backup.as_ref(),
            event: Some(Event::Restore(keyring_event(&keyring))),
            swap: Some(Swap { before: local.found, record, copy }),
            followers: Followers::Mark {
                ledger: listed.to_write(keyring.uuid(), root).map_err(CommitError::Memory)?,
                mark: mark.encode(root).map_err(CommitError::Memory)?,
            },
            ..Commit::default()
        };
        let state = StateFiles::new(dir);
        {
            let _lock = state.lock().map_err(CarryOutMergeError::Lock)?;
            commit.run(state, &mut state.store())?;
        }
        let opened = open_with(state, means, Some(root), None);
        Ok(opened.map_err(|error| CommitError::DoesNotOpen(Box::new(error)))?)
    }
}

/// Makes the backup of a merged keyring whose primary key is new.
fn fresh_backup(
    dir: &Dir,
    roots: &Roots,
    keyring: &Keyring,
    record: &NewRecord,
    fresh: &FreshBackup,
    now: Time,
) -> Result<Export, CarryOutMergeError> {
    let recipients = fresh.recipients_of(keyring)?;
    if recipients.is_empty() {
        return Err(NoBackupRecipient.into());
    }
    let earlier = roots.earlier()?;
    let roots = RootKeys { current: &roots.current, earlier: &earlier };
    Ok(fresh.sealed(dir, keyring, record, roots, &recipients, now)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        crypto::Uuid,
        keeper::{
            rekey,
            state_dir::{KEYRING, MARK, ROOT},
            testing::{backup, copies, list, merged, opened, planned, put_back, rotate, set_up, source},
        },
        keyring::testing::{self, later},
    };

    #[test]
    fn a_fork_with_the_same_keys_is_merged_too() {
        let (_keep, dir) = set_up();
        list(&dir);
        let here = opened(&dir);
        let (keyring, roots) = (later(&here.keyring, |_| {}), vec![here.keyring.root_id()]);
        let fork = Source { keyring, digest: Digest::of(b"fork"), is_named: false, roots, backup: None };
        let plan = planned(&dir, &[fork]).unwrap();
        assert_eq!((plan.doubts.len(), plan.generation), (0, 3));
        assert_eq!(merged(&dir, plan).backups().unwrap().len(), 1, "a bare record is no backup");
    }

    #[test]
    fn what_counts_of_a_record_depends_on_its_root_key() {
        let (_keep, dir) = set_up();
        let older = backup(&dir);
        let before = copies(&dir, [ROOT, KEYRING, MARK]);
        rekey(&dir, &Means::default()).unwrap();
        let newer = backup(&dir);
        let weigh = |backup: &Backup, is_named| {
            let roots = Roots::open(StateFiles::new(&dir), &Means::default(), None).unwrap();
            weight(&roots, &Source { is_named, ..source(backup) }).map_err(|error| error.to_string())
        };
        assert_eq!(weigh(&newer, false), Ok(Weight::Whole));
        assert_eq!(weigh(&older, false), Ok(Weight::KeyBytes));
        assert_eq!(weigh(&older, true), Ok(Weight::Whole));
        put_back(&dir, before);
        let expected = "the backup is under a newer root key than the keyring here";
        assert_eq!(weigh(&newer, false), Err(expected.to_owned()));
        let stranger = |uuid| {
            let root = RootKey::generate(&mut SysRng).unwrap();
            let keyring = testing::keyring(&root, uuid);
            Backup { keyring, record: b"record".to_vec().into(), root, earlier: Vec::new(), created: None }
        };
        let expected = "the backup is under a root key that this keyring has never had";
        assert_eq!(weigh(&stranger(older.keyring.uuid()), false), Err(expected.to_owned()));
        let refused = weigh(&stranger(Uuid([7; 16])), true).unwrap_err();
        assert!(refused.starts_with("the backup is of another keyring: the keyring is 0707"), "{refused}");
    }

    #[test]
    fn the_greatest_known_numbers_are_those_of_record_and_mark() {
        let (_keep, dir) = set_up();
        let old = copies(&dir, [KEYRING]);
        rotate(&dir);
        let known = || {
            let state = StateFiles::new(&dir);
            Local::read(state, &Roots::open(state, &Means::default(), None).unwrap()).unwrap().known()
        };
        assert_eq!(known(), Greatest { generation: 3, seq: 2 });
        put_back(&dir, old);
        assert_eq!(known(), Greatest { generation: 3, seq: 2 }, "as the mark says");
        std::fs::remove_file(dir.path_of(MARK)).unwrap();
        assert_eq!(known(), Greatest { generation: 1, seq: 1 });
    }
}
