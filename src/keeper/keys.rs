//! Changes keys: add, promote, disable, enable, destroy.
//!
//! A change opens the keyring, takes the lock, opens the keyring again, decides, and commits.

use rand::rngs::SysRng;

use super::{
    commit::{Commit, CommitError, PrevCopy},
    listed::ReadLedgerError,
    open::{BeginError, Opened, open_to_change},
    state_dir::StateFiles,
};
use crate::{
    audit::{Event, KeyEvent},
    crypto::Digest,
    durable::Dir,
    keyring::{ChangeError, Keyring, key_id::KeyId, ledger::Ledger, state::Verb, time::Time},
    root::Means,
};

/// A change of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// Makes a pending key.
    Add,
    /// Makes a key the primary one, which wraps.
    Promote(KeyId, BackedUp),
    /// Disables a key. It then neither wraps nor unwraps.
    Disable(KeyId, Usage),
    /// Enables a key. It then unwraps again.
    Enable(KeyId),
    /// Destroys a key. Its bytes are removed.
    Destroy(KeyId, Usage),
}

/// Whether a promotion needs a backup of the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackedUp {
    /// The key is promoted only if a listed backup contains it.
    Required,
    /// The key is promoted without a backup, because the operator accepts the risk.
    Waived,
}

/// What is known about the values in etcd that a key wraps. The state directory cannot answer this, because it may have
/// been restored, cloned or rolled back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Usage {
    /// All declared values were scanned.
    Scanned {
        /// How many live objects need the key.
        objects: u64,
        /// The key in etcd of one of them.
        example: Option<String>,
        /// The SHA-256 of the record before the scan. A key that was promoted after that may have wrapped values.
        record: Digest,
    },
    /// The key may still be in use.
    Unknown(UsageDoubt),
    /// The change needs no scan, because the operator accepts the risk.
    Waived,
}

/// Why it is not known whether a key is in use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UsageDoubt {
    /// This build cannot scan.
    #[cfg(not(feature = "scan"))]
    #[error("this claviger was built without `claviger scan`")]
    CannotScan,
    /// Nobody looked.
    #[error("etcd was not read")]
    NotRead,
    /// No flag, file or manifest names an etcd.
    #[error("nothing says where etcd is")]
    NotDeclared,
    /// This many connected API servers may still write under the key.
    #[error("{}", not_adopted(*.0))]
    NotAdopted(usize),
    /// A declared etcd cannot be read. Contains the reason.
    #[error("{0}")]
    Unreadable(String),
    /// Values may have been missed. Contains the reasons.
    #[error("{0}")]
    Incomplete(String),
    /// Another key may have been promoted during the scan.
    #[error("the keyring was changed while etcd was read; run it again")]
    KeyringChanged,
}

fn not_adopted(servers: usize) -> String {
    match servers {
        1 => "1 connected API server has not adopted another key yet".to_owned(),
        _ => format!("{servers} connected API servers have not adopted another key yet"),
    }
}

/// The outcome of a change.
#[derive(Debug)]
pub struct Changed {
    /// The new keyring.
    pub keyring: Keyring,
    /// The SHA-256 of its record.
    pub digest: Digest,
    /// The changed key.
    pub key_id: KeyId,
}

/// Why a key was not changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeKeysError {
    /// The change did not begin.
    #[error(transparent)]
    Begin(#[from] BeginError),
    /// The keyring does not allow the change.
    #[error(transparent)]
    Refused(#[from] ChangeError),
    /// Values in etcd need the key.
    #[error("not {} key {key_id}: {objects} {} it{}", gerund(*verb), needing(*objects), for_example(example.as_deref()))]
    Needed {
        /// The key.
        key_id: KeyId,
        /// The refused change.
        verb: Verb,
        /// How many live objects need it.
        objects: u64,
        /// The key in etcd of one of them.
        example: Option<String>,
    },
    /// Values in etcd may need the key.
    #[error("not {} key {key_id}, which may still be in use: {reason}", gerund(*verb))]
    Unproven {
        /// The key.
        key_id: KeyId,
        /// The refused change.
        verb: Verb,
        /// Why this is not known.
        reason: UsageDoubt,
    },
    /// The ledger was refused. It may have listed a backup that needs the key.
    #[error("not destroying key {key_id}: a backup that the lost ledger listed may need it ({ledger})")]
    LedgerLost {
        /// The key.
        key_id: KeyId,
        /// Why the ledger was refused.
        ledger: ReadLedgerError,
    },
    /// The ledger was begun anew. The one before may have listed a backup that needs the key.
    #[error(
        "not destroying key {key_id}: the ledger was begun anew, and a backup that the old one listed may need any key up \
         to k{forgot}"
    )]
    Forgotten {
        /// The key.
        key_id: KeyId,
        /// The greatest sequence number of the keys that existed then.
        forgot: u32,
    },
    /// No listed backup contains the key. If this disk were lost, all values that the key wraps would be lost.
    #[error("no listed backup holds key {key_id}, so it is not promoted{}", because(ledger.as_ref()))]
    Unbacked {
        /// The key.
        key_id: KeyId,
        /// Why the ledger was refused. `None` if it was accepted.
        ledger: Option<ReadLedgerError>,
    },
    /// Writing the change failed. The error says what was changed.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

/// Makes the change `act` in the keyring in `dir`.
///
/// # Errors
/// When the keyring does not open or does not allow the change, values may need the key, no backup contains the key, or
/// a file cannot be written.
pub fn change_keys(dir: &Dir, means: &Means, act: &Act, now: Time) -> Result<Changed, ChangeKeysError> {
    let state = StateFiles::new(dir);
    let (mut opened, _lock) = open_to_change(state, means)?;
    let (keyring, key_id) = decide(&mut opened, act, now)?;
    let event = act.event(&keyring, key_id);
    let copy = if matches!(act, Act::Destroy(..)) { PrevCopy::After } else { PrevCopy::Before };
    let (commit, digest) = Commit::change(&opened, &keyring, event, copy)?;
    commit.run(state, &mut state.store())?;
    Ok(Changed { keyring, digest, key_id })
}

fn decide(opened: &mut Opened, act: &Act, now: Time) -> Result<(Keyring, KeyId), ChangeKeysError> {
    let Opened { keyring, digest, root, .. } = &*opened;
    let decided = match act {
        Act::Add => keyring.add(&mut SysRng, root, *digest, now)?,
        Act::Promote(key_id, _) => (keyring.promote(*key_id, *digest, now)?, *key_id),
        Act::Disable(key_id, _) => (keyring.disable(*key_id, *digest)?, *key_id),
        Act::Enable(key_id) => (keyring.enable(*key_id, *digest)?, *key_id),
        Act::Destroy(key_id, _) => (keyring.destroy(*key_id, *digest)?, *key_id),
    };
    // Comes last, so that a change that the keyring does not allow is refused for that reason.
    act.check(opened)?;
    Ok(decided)
}

fn gerund(verb: Verb) -> &'static str {
    if verb == Verb::Destroy { "destroying" } else { "disabling" }
}

fn needing(objects: u64) -> &'static str {
    if objects == 1 { "object needs" } else { "objects need" }
}

fn for_example(example: Option<&str>) -> String {
    example.map_or_else(String::new, |example| format!(", for example {example}"))
}

fn because(reason: Option<&ReadLedgerError>) -> String {
    reason.map_or_else(String::new, |reason| format!(": {reason}"))
}

impl Act {
    /// Refuses to disable or destroy a key that values may need, and to promote a key without a backup.
    fn check(&self, opened: &mut Opened) -> Result<(), ChangeKeysError> {
        match self {
            Self::Promote(key_id, BackedUp::Required) if opened.unbacked().contains(key_id) => {
                Err(ChangeKeysError::Unbacked { key_id: *key_id, ledger: opened.listed.believe().err() })
            }
            Self::Disable(key_id, usage) => usage.check(opened, *key_id, Verb::Disable),
            Self::Destroy(key_id, usage) => {
                usage.check(opened, *key_id, Verb::Destroy)?;
                if *usage == Usage::Waived { Ok(()) } else { check_ledger(opened, *key_id) }
            }
            Self::Add | Self::Promote(..) | Self::Enable(_) => Ok(()),
        }
    }

    fn event(&self, keyring: &Keyring, key_id: KeyId) -> Event<'static> {
        let event = |unproven| KeyEvent {
            keyring: keyring.uuid().to_hex(),
            generation: keyring.generation(),
            key_id: key_id.to_string(),
            unproven,
        };
        match self {
            Self::Add => Event::Add(event(false)),
            Self::Promote(_, backed_up) => Event::Promote(event(*backed_up == BackedUp::Waived)),
            Self::Enable(_) => Event::Enable(event(false)),
            Self::Disable(_, usage) => Event::Disable(event(*usage == Usage::Waived)),
            Self::Destroy(_, usage) => Event::Destroy(event(*usage == Usage::Waived)),
        }
    }
}

/// Refuses to destroy a key if a lost ledger may have listed a backup that needs it.
fn check_ledger(opened: &mut Opened, key_id: KeyId) -> Result<(), ChangeKeysError> {
    opened.listed.believe().map_err(|ledger| ChangeKeysError::LedgerLost { key_id, ledger })?;
    let forgot = opened.listed.ledger().ok().and_then(Ledger::forgot);
    match forgot.filter(|seq| key_id.seq() <= *seq) {
        Some(forgot) => Err(ChangeKeysError::Forgotten { key_id, forgot }),
        None => Ok(()),
    }
}

impl Usage {
    fn check(&self, opened: &Opened, key_id: KeyId, verb: Verb) -> Result<(), ChangeKeysError> {
        match self {
            Self::Scanned { objects: 0, record, .. } if *record != opened.digest => {
                Err(ChangeKeysError::Unproven { key_id, verb, reason: UsageDoubt::KeyringChanged })
            }
            Self::Scanned { objects: 0, .. } | Self::Waived => Ok(()),
            Self::Scanned { objects, example, .. } => {
                Err(ChangeKeysError::Needed { key_id, verb, objects: *objects, example: example.clone() })
            }
            Self::Unknown(reason) => Err(ChangeKeysError::Unproven { key_id, verb, reason: reason.clone() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        durable::{self, testing::dying_after},
        keeper::{
            self, Plan,
            commit::RESERVE,
            state_dir::{KEYRING, LEDGER, MARK, ROOT},
        },
        keyring::{
            mark::Mark,
            record::{self, RECORD_MAX},
            testing::{now, with_tomb},
        },
    };

    fn initialised() -> (tempfile::TempDir, Dir) {
        let (keep, dir) = durable::testing::private();
        keeper::init(&dir, &Plan { recovery: None, slot_file: None, restart: false, now: now() }).unwrap();
        (keep, dir)
    }

    #[test]
    fn a_key_that_may_be_in_use_is_kept() {
        let (_keep, dir) = initialised();
        let opened = keeper::open(&dir, &Means::default()).unwrap();
        let key_id = opened.keyring.primary().id();
        let refused = |usage: Usage| usage.check(&opened, key_id, Verb::Disable).unwrap_err().to_string();
        let text = format!("not disabling key {key_id}, which may still be in use: ");
        assert_eq!(refused(Usage::Unknown(UsageDoubt::NotRead)), format!("{text}etcd was not read"));
        let scanned = Usage::Scanned { objects: 0, example: None, record: Digest::of(b"an older record") };
        assert_eq!(refused(scanned), format!("{text}the keyring was changed while etcd was read; run it again"));
    }

    #[test]
    fn a_key_that_a_lost_ledger_may_have_listed_is_not_destroyed() {
        let (_keep, dir) = initialised();
        let mut opened = keeper::open(&dir, &Means::default()).unwrap();
        let (key_id, uuid) = (opened.keyring.primary().id(), opened.keyring.uuid());
        let empty = Ledger::empty(uuid, opened.root.id(uuid));
        opened.listed.replaced_by(empty.begun_anew(1, 1));
        let text = check_ledger(&mut opened, key_id).unwrap_err().to_string();
        assert_eq!(
            text,
            format!(
                "not destroying key {key_id}: the ledger was begun anew, and a backup that the old one listed may need any key up to k1"
            )
        );

        dir.replace(LEDGER, b"no ledger").unwrap();
        let mut opened = keeper::open(&dir, &Means::default()).unwrap();
        let text = check_ledger(&mut opened, key_id).unwrap_err().to_string();
        let expected =
            format!("not destroying key {key_id}: a backup that the lost ledger listed may need it (the ledger: ");
        assert!(text.starts_with(&expected), "{text}");
    }

    #[test]
    fn room_for_a_last_rotation_is_kept() {
        let (_keep, dir) = initialised();
        let Opened { keyring, root, .. } = keeper::open(&dir, &Means::default()).unwrap();
        let tombs = |count: u32| (2..count).fold(keyring.clone(), with_tomb);
        let length = |count| record::encode(&tombs(count), &root).unwrap().len();
        let mut count = 5_000;
        while length(count) + RESERVE / 2 < RECORD_MAX {
            count += 5;
        }
        let record = record::encode(&tombs(count), &root).unwrap();
        dir.replace(KEYRING, &record).unwrap();
        let mark = Mark::of(&tombs(count), Digest::of(&record), 0).encode(&root).unwrap();
        dir.replace(MARK, &mark).unwrap();
        let error = change_keys(&dir, &Means::default(), &Act::Add, now()).unwrap_err();
        assert_eq!(error.to_string(), "the keyring has no room for more: 17408 bytes are kept for a last rotation");
        assert_eq!(*dir.read(KEYRING, RECORD_MAX).unwrap(), record);
    }

    #[test]
    fn a_failure_after_the_rename_says_that_the_keyring_was_changed() {
        let changed_and_said = (0..20).map(|steps| {
            let (_keep, dir) = initialised();
            let (changed, _) = dying_after(steps, || change_keys(&dir, &Means::default(), &Act::Add, now()));
            let generation = keeper::open(&dir, &Means::default()).unwrap().keyring.generation();
            match changed {
                Ok(_) => assert_eq!(generation, 2, "after {steps} steps"),
                Err(ChangeKeysError::Commit(error @ (CommitError::NotMarked(_) | CommitError::NotConfirmed(_)))) => {
                    let text = error.to_string();
                    let texts = [
                        "the keyring was changed, but not marked: ",
                        "the keyring was changed, but may not be on the disk yet: ",
                    ];
                    assert!(texts.iter().any(|start| text.starts_with(start)), "{text}");
                    assert_eq!(generation, 2, "after {steps} steps");
                    return true;
                }
                Err(_) => assert_eq!(generation, 1, "after {steps} steps"),
            }
            false
        });
        assert!(changed_and_said.filter(|changed_and_said| *changed_and_said).count() > 1);
    }

    #[test]
    fn nothing_else_is_changed_while_a_rekey_is_not_finished() {
        let (_keep, dir) = initialised();
        let before = dir.read(ROOT, 4096).unwrap();
        let mut steps = 0;
        while *dir.read(ROOT, 4096).unwrap() == *before {
            let (rekeyed, _) = dying_after(steps, || keeper::rekey(&dir, &Means::default()));
            assert!(rekeyed.is_err());
            steps += 1;
        }
        let error = change_keys(&dir, &Means::default(), &Act::Add, now()).unwrap_err();
        assert_eq!(error.to_string(), "a rekey is not finished: the keyring is still under the root key from before");
        keeper::rekey(&dir, &Means::default()).unwrap();
        change_keys(&dir, &Means::default(), &Act::Add, now()).unwrap();
    }
}
