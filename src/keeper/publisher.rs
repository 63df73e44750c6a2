//! Opens the keyring for a daemon and publishes it, at the start of the daemon and whenever the keyring may have
//! changed.

use std::{
    path::{self, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    error::OpenError,
    expect::Expect,
    open::Opened,
    open_to_serve::{ServeError, Served, open_to_serve},
    served_keys::{Degraded, Published, ServedFrom, ServedKeys},
    state_dir::{KEYRING, LEDGER, MARK, ROOT, StateFiles},
};
use crate::{
    audit,
    crypto::root_key::RootKey,
    durable::{Dir, DurableError, Privacy, Version, directory_at, version},
    keyring::mark::{Mark, Standing},
    root::Means,
};

/// How long the publisher waits after a failure before it tries again.
const RETRY: Duration = Duration::from_secs(10);

/// Publishes the keyring from which a daemon serves. Invariant: after the first record, each published record is the
/// one published before or a successor that lists all its keys.
#[derive(Debug)]
pub struct Publisher {
    state_dir: PathBuf,
    /// The absolute path of the directory, without links.
    absolute: PathBuf,
    means: Means,
    /// The record that the operator expects, until the first record is published.
    expect: Option<Expect>,
    published: Arc<Published>,
    /// The mark of the record that was published last. The mark on the disk is no proof: a copied directory has a mark
    /// that matches its record.
    last: Option<Mark>,
    /// The current root key. The publisher keeps it, because no operator may be present to open a slot at the next
    /// change.
    root: Option<Arc<RootKey>>,
    /// The root key of the record that was published last. A root file with another root key has to list this one as an
    /// earlier one.
    under: Option<Arc<RootKey>>,
    seen: Seen,
}

/// The files that change whenever the keyring changes. The publisher always watches them.
const ALWAYS: [&str; 2] = [KEYRING, LEDGER];

/// Files that a command never changes alone. An operator may restore only one of them after a failure, so then each of
/// them is watched.
const AFTER_A_FAILURE: [&str; 2] = [ROOT, MARK];

/// The state of the files when the publisher last opened them.
#[derive(Debug, Default)]
struct Seen {
    always: [Option<Version>; ALWAYS.len()],
    after_a_failure: [Option<Version>; AFTER_A_FAILURE.len()],
    failed: Option<LastFailure>,
}

/// The last failure to publish, and its time.
#[derive(Debug)]
struct LastFailure {
    at: Instant,
    reason: String,
}

impl LastFailure {
    fn now(error: &ServeError) -> Self {
        Self { at: Instant::now(), reason: error.to_string() }
    }

    /// Whether it is time to try again.
    fn is_due(&self) -> bool {
        self.at.elapsed() >= RETRY
    }

    /// Whether `error` has the same text as this failure. An operator reads the texts, and errors of the system cannot
    /// be compared.
    fn is_repeated_by(&self, error: &ServeError) -> bool {
        self.reason == error.to_string()
    }
}

/// A keyring that was published, as log and audit log describe it.
#[derive(Debug)]
pub struct Unsealed {
    /// Whether the mark named this record or an earlier one. `None` if there was no mark.
    pub standing: Option<Standing>,
    /// Whether the operator named an expected record, with `--expect`.
    pub expected: bool,
    /// Identifies the record: uuid, generation and SHA-256.
    pub expect: Expect,
    /// The uuid of the keyring, in hex.
    pub keyring: String,
    /// The generation of the keyring.
    pub generation: u64,
    /// The name of the primary key.
    pub key_id: Arc<str>,
    /// Whether a slot was opened. False if the root key was known already.
    pub slot_opened: bool,
    /// Whether the audit line was written. The keyring is published even if this failed, because a full disk must not
    /// stop a cluster.
    pub audited: Result<(), DurableError>,
}

/// The outcome of an attempt to publish a keyring.
#[derive(Debug)]
pub enum Followed {
    /// The keyring has not changed.
    Unchanged,
    /// A keyring was published: the first one, or another one than before.
    Published(Unsealed),
    /// The attempt before had failed, and this one succeeded. Contains the keyring if it is another one than before the
    /// failure.
    GoodAgain(Option<Unsealed>),
    /// The keyring was refused. The keyring that was published before stays published.
    Failed(ServeError),
}

impl Followed {
    fn of(outcome: Result<Option<Unsealed>, ServeError>, had_failed: bool) -> Self {
        match outcome {
            Err(error) => Self::Failed(error),
            Ok(unsealed) if had_failed => Self::GoodAgain(unsealed),
            Ok(Some(unsealed)) => Self::Published(unsealed),
            Ok(None) => Self::Unchanged,
        }
    }
}

impl Publisher {
    /// Makes a publisher for the keyring in `state_dir`. If `expect` is given, the first published record has to be the
    /// expected one. On a node with a mark it may also be a successor of the expected one.
    pub fn new(state_dir: PathBuf, means: Means, expect: Option<Expect>, published: Arc<Published>) -> Self {
        let absolute = state_dir.canonicalize().or_else(|_| path::absolute(&state_dir));
        Self {
            absolute: absolute.unwrap_or_else(|_| state_dir.clone()),
            state_dir,
            means,
            expect,
            published,
            last: None,
            root: None,
            under: None,
            seen: Seen::default(),
        }
    }

    /// Opens the keyring and publishes it. Returns `None` if this record was already published.
    ///
    /// # Errors
    /// When a file is missing, damaged or belongs to another keyring, no slot opens, the record is not an expected one,
    /// or the mark cannot be written. The keyring that was published before stays published.
    pub(super) fn publish(&mut self) -> Result<Option<Unsealed>, ServeError> {
        // Notes the state of the files before opening them, so that the next call notices a change during opening.
        (self.seen.always, self.seen.after_a_failure) = (self.versions(ALWAYS), self.versions(AFTER_A_FAILURE));
        let outcome = self.open_and_publish();
        self.seen.failed = outcome.as_ref().err().map(LastFailure::now);
        self.published.degrade(outcome.as_ref().err().map(degraded));
        outcome
    }

    /// Publishes the keyring on request, whether the files have changed or not.
    pub fn look_again(&mut self) -> Followed {
        let had_failed = self.seen.failed.is_some();
        Followed::of(self.publish(), had_failed)
    }

    /// Publishes the keyring again if the file of record or ledger was replaced. After a failure it tries again when
    /// any of the files was replaced, or after 10 s. Returns `None` if there is nothing to report: nothing has changed,
    /// a failure has repeated, or no keyring was published yet.
    pub fn follow(&mut self) -> Option<Followed> {
        self.published.current().as_ref()?;
        let is_due = self.seen.failed.as_ref().is_some_and(LastFailure::is_due);
        if !is_due && !self.is_changed() {
            return None;
        }
        let reported = self.seen.failed.take();
        match Followed::of(self.publish(), reported.is_some()) {
            Followed::Unchanged => None,
            Followed::Failed(error) if reported.is_some_and(|reported| reported.is_repeated_by(&error)) => None,
            followed => Some(followed),
        }
    }

    fn versions<const N: usize>(&self, names: [&str; N]) -> [Option<Version>; N] {
        names.map(|name| version(&self.state_dir.join(name)))
    }

    fn is_changed(&self) -> bool {
        let has_failed = self.seen.failed.is_some();
        self.seen.always != self.versions(ALWAYS)
            || has_failed && self.seen.after_a_failure != self.versions(AFTER_A_FAILURE)
    }

    /// Opens the state directory. After the first record was published, it must be the directory that this record came
    /// from.
    fn open_dir(&self) -> Result<Dir, ServeError> {
        if let Some(from) = self.published.served_from() {
            match directory_at(&self.state_dir).map_err(OpenError::StateDir)? {
                None => return Err(ServeError::DirectoryGone(self.absolute.clone())),
                Some(found) if found != from.directory => {
                    return Err(ServeError::DirectoryReplaced(self.absolute.clone()));
                }
                Some(_) => {}
            }
        }
        Ok(Dir::open(&self.state_dir, Privacy::Private).map_err(OpenError::StateDir)?)
    }

    /// Opens the keyring and publishes its keys. Returns `None` if the record is the one that was published last.
    fn open_and_publish(&mut self) -> Result<Option<Unsealed>, ServeError> {
        let dir = self.open_dir()?;
        let served = Served { root: self.root.as_ref(), under: self.under.as_ref(), last: self.last.as_ref() };
        let opened = open_to_serve(StateFiles::new(&dir), &self.means, served, self.expect.as_ref())?;
        let is_same = self.last.as_ref().is_some_and(|last| last.record() == opened.digest);
        self.root = Some(Arc::clone(&opened.current));
        self.under = Some(Arc::clone(&opened.root));
        // The root key is known now, so the publisher needs no passphrase any more.
        self.means.forget();
        let unbacked = opened.unbacked().len();
        let served = ServedKeys::after(self.published.current().as_deref(), &opened.keyring, opened.digest, unbacked);
        if is_same {
            // The keys are the same, but the ledger may have changed.
            self.published.publish(served);
            return Ok(None);
        }
        let unsealed = unsealed(&dir, &opened, &served, self.expect.take().is_some());
        let directory = dir.id().map_err(OpenError::StateDir)?;
        self.published.note_served_from(ServedFrom { path: self.absolute.clone(), directory });
        self.last = Some(Mark::of(&opened.keyring, opened.digest, 0));
        self.published.publish(served);
        Ok(Some(unsealed))
    }
}

fn degraded(error: &ServeError) -> Degraded {
    Degraded {
        reason: error.to_string(),
        no_successor: matches!(error, ServeError::NoSuccessor(_) | ServeError::OtherRootKey(_)),
    }
}

/// Describes the opened keyring. If a slot opened it, writes the event to the audit log first.
fn unsealed(dir: &Dir, opened: &Opened, served: &ServedKeys, expected: bool) -> Unsealed {
    let key_id = Arc::clone(&served.primary().id);
    let slot = opened.slots.iter().find(|slot| slot.opened);
    let audited = slot.map_or(Ok(()), |slot| audit::write(dir, &unseal_event(opened, &slot.name, &key_id)));
    Unsealed {
        standing: opened.standing,
        expected,
        expect: Expect::of(&opened.keyring, opened.digest),
        keyring: opened.keyring.uuid().to_hex(),
        generation: served.generation(),
        key_id,
        slot_opened: slot.is_some(),
        audited,
    }
}

fn unseal_event<'a>(opened: &Opened, slot: &'a str, key_id: &'a str) -> audit::Event<'a> {
    audit::Event::Unseal {
        keyring: opened.keyring.uuid().to_hex(),
        generation: opened.keyring.generation(),
        key_id,
        slot,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::{
        keeper::{
            add_key,
            commit::{CommitStep, testing::dying_after},
            rekey,
            testing::{add_passphrase, added, events, list, opened, rotate, set_up},
        },
        keyring::testing::now,
    };

    fn publisher(dir: &Dir) -> (Publisher, Arc<Published>) {
        let served = Arc::default();
        (Publisher::new(dir.path().to_owned(), Means::default(), None, Arc::clone(&served)), served)
    }

    /// Sets the time of the last failure back, so that the next attempt is due.
    fn wait(publisher: &mut Publisher) {
        let failed = publisher.seen.failed.as_mut().unwrap();
        failed.at = failed.at.checked_sub(RETRY).unwrap();
    }

    /// Returns the reason of a failure.
    fn failure(followed: Option<Followed>) -> String {
        let Some(Followed::Failed(error)) = followed else { panic!("{followed:?}") };
        error.to_string()
    }

    fn followed(followed: Option<Followed>) -> Unsealed {
        let Some(Followed::Published(unsealed)) = followed else { panic!("{followed:?}") };
        unsealed
    }

    fn assert_good_again(followed: Option<&Followed>) {
        assert!(matches!(followed, Some(Followed::GoodAgain(None))), "the record is the published one: {followed:?}");
    }

    /// Returns why the keyring is degraded, and whether a restart would serve the keyring on the disk.
    fn reason(served: &Published) -> Option<(String, bool)> {
        served.degraded().map(|degraded| (degraded.reason.clone(), degraded.no_successor))
    }

    #[test]
    fn a_keyring_is_published_once_and_followed_after() {
        let (_keep, dir) = set_up();
        add_passphrase(&dir, "spoken");
        let (mut publisher, served) = publisher(&dir);
        assert!(publisher.follow().is_none() && served.current().is_none(), "nothing is published yet");
        let unsealed = publisher.publish().unwrap().unwrap();
        let here = opened(&dir);
        let first = here.keyring.primary().id().to_string();
        assert_eq!((unsealed.generation, &*unsealed.key_id), (1, first.as_str()));
        assert_eq!(unsealed.expect, Expect::of(&here.keyring, here.digest));
        assert!(unsealed.slot_opened && !unsealed.expected && unsealed.audited.is_ok());
        let events = events(&dir).split_off(1);
        let [event] = events.as_slice() else { panic!("{events:?}") };
        let expected: [serde_json::Value; 4] = ["unseal".into(), 1.into(), first.as_str().into(), "file".into()];
        assert_eq!(["event", "generation", "key_id", "slot"].map(|name| event[name].clone()), expected);

        assert!(publisher.publish().unwrap().is_none() && publisher.follow().is_none());
        let second = rotate(&dir).to_string();
        let unsealed = followed(publisher.follow());
        assert_eq!((unsealed.generation, &*unsealed.key_id, unsealed.slot_opened), (3, second.as_str(), false));
        assert_eq!(*served.current().as_ref().unwrap().primary().id, second);
        assert!(publisher.follow().is_none());
    }

    #[test]
    fn a_backup_that_is_listed_counts_without_a_new_record() {
        let (_keep, dir) = set_up();
        let (mut publisher, served) = publisher(&dir);
        publisher.publish().unwrap();
        let unbacked = || served.current().as_ref().unwrap().unbacked();
        assert_eq!(unbacked(), 1);
        list(&dir);
        assert!(publisher.follow().is_none(), "the record is the same");
        assert_eq!(unbacked(), 0);
    }

    #[test]
    fn a_failure_is_reported_once_and_tried_again() {
        let (_keep, dir) = set_up();
        let (mut publisher, served) = publisher(&dir);
        publisher.publish().unwrap();
        let path = dir.path_of(KEYRING);
        let record = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let missing = format!("the record {} is missing beside the other files of the keyring", path.display());
        assert_eq!(failure(publisher.follow()), missing.clone());
        assert_eq!(reason(&served), Some((missing.clone(), false)));
        assert!(served.current().is_some(), "it serves what it has");
        wait(&mut publisher);
        assert!(publisher.follow().is_none(), "the same failure");
        assert_eq!(reason(&served), Some((missing.clone(), false)));
        dir.create(KEYRING, b"damaged").unwrap();
        let damaged = failure(publisher.follow());
        assert_ne!(damaged, missing, "another failure");
        dir.replace(KEYRING, &record).unwrap();
        assert_good_again(publisher.follow().as_ref());
        assert_eq!(served.degraded(), None);
    }

    #[test]
    fn what_was_put_back_is_found_at_once_and_any_other_repair_when_it_is_time_to_try_again() {
        let (_keep, dir) = set_up();
        let (mut publisher, served) = publisher(&dir);
        publisher.publish().unwrap();
        std::fs::rename(dir.path_of("root"), dir.path_of("aside")).unwrap();
        // The same record is written again to a new file.
        let record = std::fs::read(dir.path_of(KEYRING)).unwrap();
        dir.replace(KEYRING, &record).unwrap();
        failure(publisher.follow());
        assert!(publisher.follow().is_none(), "nothing was put back");
        std::fs::rename(dir.path_of("aside"), dir.path_of("root")).unwrap();
        assert_good_again(publisher.follow().as_ref());
        assert_eq!(served.degraded(), None);

        let chmod = |mode| std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(mode)).unwrap();
        chmod(0o755);
        dir.replace(KEYRING, &record).unwrap();
        failure(publisher.follow());
        chmod(0o700);
        assert!(publisher.follow().is_none());
        assert!(served.degraded().is_some(), "it is not time yet");
        wait(&mut publisher);
        assert_good_again(publisher.follow().as_ref());
        assert_eq!(served.degraded(), None);
    }

    #[test]
    fn a_directory_that_was_replaced_or_removed_is_named_and_not_followed() {
        let (_keep, dir) = set_up();
        let (mut publisher, served) = publisher(&dir);
        publisher.publish().unwrap();
        let path = dir.path().canonicalize().unwrap();
        let from = served.served_from().unwrap();
        assert_eq!((&from.path, from.directory), (&path, dir.id().unwrap()));
        let aside = path.with_extension("aside");
        std::fs::rename(&path, &aside).unwrap();
        let gone = format!("the state directory {} is gone", path.display());
        assert_eq!(failure(publisher.follow()), gone.clone());
        assert_eq!(reason(&served), Some((gone, false)));

        // A copy with the same record and mark. The lock of the copy is another file.
        let copied = std::process::Command::new("cp").arg("-a").args([&aside, &path]).status().unwrap();
        assert!(copied.success());
        let replaced = format!("another directory took the place of the state directory {}", path.display());
        assert_eq!(failure(publisher.follow()), replaced.clone());
        assert_eq!((reason(&served), served.current().is_some()), (Some((replaced, false)), true));

        std::fs::remove_dir_all(&path).unwrap();
        std::fs::rename(&aside, &path).unwrap();
        assert_good_again(publisher.follow().as_ref());
        assert_eq!(served.degraded(), None);
    }

    #[test]
    fn a_keyring_that_was_put_back_whole_is_not_followed_and_a_restart_would_serve_it() {
        let (_keep, dir) = set_up();
        let kept = [KEYRING, "mark"].map(|name| (name, std::fs::read(dir.path_of(name)).unwrap()));
        rotate(&dir);
        let (mut publisher, served) = publisher(&dir);
        publisher.publish().unwrap();
        for (name, bytes) in &kept {
            dir.replace(name, bytes).unwrap();
        }
        failure(publisher.follow());
        let rolled_back = "the keyring was rolled back: it has generation 1, this node has seen 3";
        let (reason, no_successor) = reason(&served).unwrap();
        assert!(reason.ends_with(rolled_back) && no_successor, "{reason}");
        let (mut started, _) = self::publisher(&dir);
        assert_eq!(started.publish().unwrap().unwrap().generation, 1);
    }

    #[test]
    fn a_daemon_marks_what_it_serves() {
        let (_keep, dir) = set_up();
        let (mut publisher, _) = publisher(&dir);
        publisher.publish().unwrap();
        let add = || add_key(&dir, &Means::default(), &[], now());
        dying_after(CommitStep::Swap, add).0.unwrap_err();
        assert_eq!(opened(&dir).standing, Some(Standing::Ahead));
        let unsealed = followed(publisher.follow());
        assert_eq!((unsealed.generation, unsealed.standing), (2, Some(Standing::Ahead)));
        assert_eq!(opened(&dir).standing, Some(Standing::Current));
        // A daemon that has the root key needs no slot to follow, also after a rekey.
        rekey(&dir, &Means::default()).unwrap();
        followed(publisher.follow());
        added(&dir);
        let unsealed = followed(publisher.follow());
        assert!(!unsealed.slot_opened);
    }
}
