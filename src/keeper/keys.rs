//! Changes keys: add, promote, disable, enable, destroy.
//!
//! A change opens the keyring, takes the lock, opens the keyring again, decides, and commits.

use std::{error::Error, sync::Arc};

use rand::rngs::SysRng;

use super::{
    commit::{Commit, CommitError, PrevCopy},
    error::ReadLedgerError,
    open::{BeginError, Opened, open_to_change},
    state_dir::StateFiles,
};
use crate::{
    audit::{Event, KeyEvent},
    crypto::Digest,
    durable::Dir,
    keyring::{ChangeError, Keyring, key_id::KeyId, ledger::Ledger, state::Verb, time::Time},
    plan::{CountDoubt, Unsettled},
    root::Means,
};

/// A change of one key.
#[derive(Debug, Clone)]
pub enum Act {
    /// Makes a pending key with a number that none of these keys uses. They exist somewhere, perhaps not in this
    /// keyring.
    Add(Vec<KeyId>),
    /// Makes a key the primary one, which wraps.
    Promote(KeyId, BackedUp),
    /// Makes a key the primary one, and marks every other key up to this number as compromised.
    Supersede(KeyId, BackedUp, u32),
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
#[derive(Debug, Clone)]
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
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum UsageDoubt {
    /// This build cannot scan.
    #[cfg(not(feature = "scan"))]
    #[error("this claviger was built without a scan of etcd")]
    CannotScan,
    /// Nobody looked.
    #[error("etcd was not read")]
    NotRead,
    /// No flag, file or manifest names an etcd.
    #[error("nothing says where etcd is")]
    NotDeclared,
    /// API servers may still write under the key.
    #[error(transparent)]
    Unsettled(Unsettled),
    /// It is not known whether other API servers write under the key.
    #[error(transparent)]
    Count(CountDoubt),
    /// A plugin may serve on this node, and did not answer. Contains the reason.
    #[error("the plugin did not say which key each API server has adopted: {0}")]
    PluginSilent(Arc<dyn Error + Send + Sync>),
    /// A plugin serves from the state directory, and nobody listens at this socket.
    #[error("a plugin serves from this state directory, and not at {0}")]
    OtherSocket(String),
    /// The plugin answered without a report of its connections. It reports them to its own user and to root only.
    #[error("the plugin does not report to this user which key each API server has adopted")]
    NotReported,
    /// A declared etcd cannot be read, or values in it may have been missed. Contains the reason.
    #[error(transparent)]
    Incomplete(Arc<dyn Error + Send + Sync>),
    /// A snapshot was taken from the ledger since the command began, and may have been restored.
    #[error("a listed snapshot of etcd needed it when the command began")]
    Listed,
    /// Another key may have been promoted during the scan.
    #[error("the keyring was changed while etcd was read")]
    KeyringChanged,
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
        ledger: Arc<ReadLedgerError>,
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
    /// A listed snapshot of etcd needs the key.
    #[error("not destroying key {key_id}: a listed snapshot needs it: {snapshot}{}", and_more(*others))]
    InSnapshot {
        /// The key.
        key_id: KeyId,
        /// The file of the snapshot, or its SHA-256.
        snapshot: String,
        /// Its ID in the ledger.
        id: Digest,
        /// How many other listed snapshots need the key.
        others: usize,
    },
    /// No listed backup contains the key. If this disk were lost, all values that the key wraps would be lost.
    #[error("no listed backup holds key {key_id}, so it is not promoted{}", because(ledger.as_deref()))]
    Unbacked {
        /// The key.
        key_id: KeyId,
        /// Why the ledger was refused. `None` if it was accepted.
        ledger: Option<Arc<ReadLedgerError>>,
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
    let (opened, _lock) = open_to_change(state, means)?;
    let (keyring, key_id) = decide(&opened, act, now)?;
    let event = act.event(&keyring, key_id);
    let copy = if matches!(act, Act::Destroy(..)) { PrevCopy::After } else { PrevCopy::Before };
    let (commit, digest) = Commit::change(&opened, &keyring, event, copy)?;
    commit.run(state, &mut state.store())?;
    Ok(Changed { keyring, digest, key_id })
}

fn decide(opened: &Opened, act: &Act, now: Time) -> Result<(Keyring, KeyId), ChangeKeysError> {
    let Opened { keyring, digest, root, .. } = opened;
    let decided = match act {
        Act::Add(others) => {
            let others = [opened.listed_keys().as_slice(), others].concat();
            keyring.add(&others, &mut SysRng, root, *digest, now)?
        }
        Act::Promote(key_id, _) => (keyring.promote(*key_id, *digest, now)?, *key_id),
        Act::Supersede(key_id, _, newest) => (keyring.supersede(*key_id, *newest, *digest, now)?, *key_id),
        Act::Disable(key_id, _) => (keyring.disable(*key_id, *digest)?, *key_id),
        Act::Enable(key_id) => (keyring.enable(*key_id, *digest)?, *key_id),
        Act::Destroy(key_id, _) => (keyring.destroy(*key_id, *digest)?, *key_id),
    };
    // Comes last, so that a change that the keyring does not allow is refused for that reason.
    act.check(opened)?;
    Ok(decided)
}

fn and_more(others: usize) -> String {
    if others == 0 { String::new() } else { format!(", and {others} more") }
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
    fn check(&self, opened: &Opened) -> Result<(), ChangeKeysError> {
        match self {
            Self::Promote(key_id, BackedUp::Required) | Self::Supersede(key_id, BackedUp::Required, _)
                if opened.unbacked().contains(key_id) =>
            {
                let ledger = opened.listed.ledger().err().cloned();
                Err(ChangeKeysError::Unbacked { key_id: *key_id, ledger })
            }
            Self::Disable(key_id, usage) => usage.check(opened, *key_id, Verb::Disable),
            Self::Destroy(key_id, usage) => {
                if !usage.is_waived() {
                    check_ledger(opened, *key_id)?;
                }
                usage.check(opened, *key_id, Verb::Destroy)
            }
            Self::Add(_) | Self::Promote(..) | Self::Supersede(..) | Self::Enable(_) => Ok(()),
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
            Self::Add(_) => Event::Add(event(false)),
            Self::Promote(_, backed_up) => Event::Promote(event(*backed_up == BackedUp::Waived)),
            Self::Supersede(_, backed_up, newest) => {
                Event::Supersede { key: event(*backed_up == BackedUp::Waived), compromised_up_to: *newest }
            }
            Self::Enable(_) => Event::Enable(event(false)),
            Self::Disable(_, usage) => Event::Disable(event(usage.is_waived())),
            Self::Destroy(_, usage) => Event::Destroy(event(usage.is_waived())),
        }
    }
}

/// Refuses to destroy a key if a listed snapshot needs it, or if a lost ledger may have listed a backup that needs it.
fn check_ledger(opened: &Opened, key_id: KeyId) -> Result<(), ChangeKeysError> {
    let lost = |ledger: &Arc<_>| ChangeKeysError::LedgerLost { key_id, ledger: Arc::clone(ledger) };
    let ledger = opened.listed.ledger().map_err(lost)?;
    match ledger.forgot().filter(|seq| key_id.seq() <= *seq) {
        Some(forgot) => Err(ChangeKeysError::Forgotten { key_id, forgot }),
        None => check_snapshots(ledger, key_id),
    }
}

fn check_snapshots(ledger: &Ledger, key_id: KeyId) -> Result<(), ChangeKeysError> {
    let mut needing = ledger.needing(key_id);
    let Some(first) = needing.next() else { return Ok(()) };
    let id = first.sha256();
    let snapshot = first.file().map_or_else(|| format!("sha256 {}", id.to_hex()), ToOwned::to_owned);
    Err(ChangeKeysError::InSnapshot { key_id, snapshot, id, others: needing.count() })
}

impl Usage {
    fn is_waived(&self) -> bool {
        matches!(self, Self::Waived)
    }

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
    use std::time::Duration;

    use super::*;
    use crate::{
        durable::testing::dying_after,
        escrow::testing::identity,
        keeper::{
            self,
            state_dir::{KEYRING, KEYRING_PREV, LEDGER, ROOT},
            testing::{change, disable_first, events, fill, list, opened, set_up},
        },
        keyring::{
            ledger::LEDGER_MAX,
            record::{self, RECORD_MAX},
            testing::now,
        },
    };

    #[test]
    fn a_key_that_may_be_in_use_is_kept() {
        let (_keep, dir) = set_up();
        let opened = keeper::open(&dir, &Means::default()).unwrap();
        let key_id = opened.keyring.primary().id();
        let refused = |usage: Usage| usage.check(&opened, key_id, Verb::Disable).unwrap_err().to_string();
        let text = format!("not disabling key {key_id}, which may still be in use: ");
        assert_eq!(refused(Usage::Unknown(UsageDoubt::NotRead)), format!("{text}etcd was not read"));
        let scanned = Usage::Scanned { objects: 0, example: None, record: Digest::of(b"an older record") };
        assert_eq!(refused(scanned), format!("{text}the keyring was changed while etcd was read"));
    }

    #[test]
    fn a_refusal_says_what_needs_the_key() {
        let (_keep, dir) = set_up();
        let opened = opened(&dir);
        let key_id = opened.keyring.primary().id();
        let refused = |usage: Usage| usage.check(&opened, key_id, Verb::Destroy).unwrap_err().to_string();
        let needed = |objects, example: Option<&str>| {
            refused(Usage::Scanned { objects, example: example.map(str::to_owned), record: opened.digest })
        };
        let text = format!("not destroying key {key_id}: ");
        let example = "/registry/secrets/default/token";
        assert_eq!(needed(1, Some(example)), format!("{text}1 object needs it, for example {example}"));
        assert_eq!(needed(2, None), format!("{text}2 objects need it"));
        let text = format!("not destroying key {key_id}, which may still be in use: ");
        let waiting = refused(Usage::Unknown(UsageDoubt::Unsettled(Unsettled::Quiet(Duration::from_secs(7)))));
        let seconds = "an API server that has lost its plugin may write under another key for 7 s more";
        assert_eq!(waiting, format!("{text}{seconds}"));
        let listed = refused(Usage::Unknown(UsageDoubt::Listed));
        assert_eq!(listed, format!("{text}a listed snapshot of etcd needed it when the command began"));
        let counted = refused(Usage::Unknown(UsageDoubt::Count(CountDoubt::TooMany { count: 2, nodes: 1 })));
        assert_eq!(counted, format!("{text}2 API servers use this etcd, and one keyring file serves 1"));
        let elsewhere = refused(Usage::Unknown(UsageDoubt::OtherSocket("unix:///s".to_owned())));
        assert_eq!(elsewhere, format!("{text}a plugin serves from this state directory, and not at unix:///s"));
    }

    #[test]
    fn only_a_key_in_a_listed_backup_is_promoted() {
        let (_keep, dir) = set_up();
        let added = change(&dir, &Act::Add(Vec::new()));
        let promote = || change_keys(&dir, &Means::default(), &Act::Promote(added, BackedUp::Required), now());
        let text = format!("no listed backup holds key {added}, so it is not promoted");
        assert_eq!(promote().unwrap_err().to_string(), text);
        list(&dir);
        let ledger = dir.read(LEDGER, LEDGER_MAX).unwrap();
        dir.replace(LEDGER, b"no ledger").unwrap();
        let refused = promote().unwrap_err().to_string();
        assert!(refused.starts_with(&format!("{text}: the ledger: ")), "{refused}");
        dir.replace(LEDGER, &ledger).unwrap();
        assert_eq!(promote().unwrap().keyring.primary().id(), added);
    }

    #[test]
    fn a_key_that_nothing_needs_is_destroyed_unless_the_ledger_is_lost() {
        let (_keep, dir) = set_up();
        let first = disable_first(&dir);
        let destroy = |usage| change_keys(&dir, &Means::default(), &Act::Destroy(first, usage), now());
        let unused = || Usage::Scanned { objects: 0, example: None, record: opened(&dir).digest };
        dir.replace(LEDGER, b"no ledger").unwrap();
        assert!(matches!(destroy(unused()), Err(ChangeKeysError::LedgerLost { .. })));
        assert_eq!(destroy(Usage::Waived).unwrap().key_id, first, "an operator who accepts the risk needs no ledger");

        let (_keep, dir) = set_up();
        let first = disable_first(&dir);
        let scanned = |objects, record| Usage::Scanned { objects, example: None, record };
        let record = opened(&dir).digest;
        let destroy = |usage| change_keys(&dir, &Means::default(), &Act::Destroy(first, usage), now());
        assert!(matches!(destroy(scanned(1, record)), Err(ChangeKeysError::Needed { objects: 1, .. })));
        assert!(matches!(destroy(scanned(0, Digest::of(b"an older record"))), Err(ChangeKeysError::Unproven { .. })));
        let changed = destroy(scanned(0, record)).unwrap();
        assert!(changed.keyring.keys().all(|key| key.id() != first));
    }

    #[test]
    fn the_audit_log_says_what_was_changed_without_a_proof() {
        let (_keep, dir) = set_up();
        let unused = || Usage::Scanned { objects: 0, example: None, record: opened(&dir).digest };
        let [first, second] = [opened(&dir).keyring.primary().id(), change(&dir, &Act::Add(Vec::new()))];
        let third = change(&dir, &Act::Add(Vec::new()));
        list(&dir);
        change(&dir, &Act::Promote(second, BackedUp::Required));
        change(&dir, &Act::Promote(third, BackedUp::Waived));
        for usage in [unused(), Usage::Waived] {
            change(&dir, &Act::Disable(first, usage));
            change(&dir, &Act::Enable(first));
        }
        change(&dir, &Act::Disable(first, unused()));
        change(&dir, &Act::Destroy(first, unused()));
        change(&dir, &Act::Disable(second, Usage::Waived));
        change(&dir, &Act::Destroy(second, Usage::Waived));
        let found = events(&dir).into_iter().filter(|event| event["key_id"].is_string()).map(|event| {
            let key_id: KeyId = event["key_id"].as_str().unwrap().parse().unwrap();
            (event["event"].as_str().unwrap().to_owned(), key_id.seq(), event["unproven"].as_bool().unwrap())
        });
        let expected = [
            ("add", 2, false),
            ("add", 3, false),
            ("promote", 2, false),
            ("promote", 3, true),
            ("disable", 1, false),
            ("enable", 1, false),
            ("disable", 1, true),
            ("enable", 1, false),
            ("disable", 1, false),
            ("destroy", 1, false),
            ("disable", 2, true),
            ("destroy", 2, true),
        ];
        let expected = expected.map(|(verb, seq, unproven)| (verb.to_owned(), seq, unproven));
        assert_eq!(found.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn no_copy_keeps_the_bytes_of_a_destroyed_key() {
        let (_keep, dir) = set_up();
        let first = disable_first(&dir);
        let copied = || record::outline(&dir.read(KEYRING_PREV, RECORD_MAX).unwrap()).unwrap();
        let before = opened(&dir).digest;
        change(&dir, &Act::Add(Vec::new()));
        assert_eq!(Digest::of(&dir.read(KEYRING_PREV, RECORD_MAX).unwrap()), before, "the record before");
        change(&dir, &Act::Destroy(first, Usage::Waived));
        assert!(copied().iter().any(|key| key.key_id == first && key.state.is_none()), "{:?}", copied());
    }

    #[test]
    fn a_key_that_a_lost_ledger_may_have_listed_is_not_destroyed() {
        let (_keep, dir) = set_up();
        let mut opened = keeper::open(&dir, &Means::default()).unwrap();
        let (key_id, uuid) = (opened.keyring.primary().id(), opened.keyring.uuid());
        let empty = Ledger::empty(uuid, opened.root.id(uuid));
        opened.listed.replaced_by(empty.begun_anew(1, 1));
        let text = check_ledger(&opened, key_id).unwrap_err().to_string();
        assert_eq!(
            text,
            format!(
                "not destroying key {key_id}: the ledger was begun anew, and a backup that the old one listed may need any key up to k1"
            )
        );

        dir.replace(LEDGER, b"no ledger").unwrap();
        let opened = keeper::open(&dir, &Means::default()).unwrap();
        let text = check_ledger(&opened, key_id).unwrap_err().to_string();
        let expected =
            format!("not destroying key {key_id}: a backup that the lost ledger listed may need it (the ledger: ");
        assert!(text.starts_with(&expected), "{text}");
    }

    #[test]
    fn room_for_a_last_rotation_is_kept() {
        let (_keep, dir) = set_up();
        let added = change(&dir, &Act::Add(Vec::new()));
        fill(&dir);
        let record = dir.read(KEYRING, RECORD_MAX).unwrap();
        let error = change_keys(&dir, &Means::default(), &Act::Add(Vec::new()), now()).unwrap_err();
        assert_eq!(error.to_string(), "the keyring has no room for more: 17408 bytes are kept for a last rotation");
        let (recipient, identities) = identity();
        let recovery = keeper::RecoveryAct::Add(recipient, identities);
        let error = keeper::change_recovery(&dir, &Means::default(), &recovery).map(drop).unwrap_err();
        assert!(matches!(error, keeper::ChangeRecoveryError::Commit(CommitError::Full)), "{error}");
        assert_eq!(dir.read(KEYRING, RECORD_MAX).unwrap(), record);
        change(&dir, &Act::Promote(added, BackedUp::Waived));
        assert_eq!(opened(&dir).keyring.primary().id(), added);
    }

    #[test]
    fn a_failure_after_the_rename_says_that_the_keyring_was_changed() {
        let changed_and_said = (0..20).map(|steps| {
            let (_keep, dir) = set_up();
            let (changed, _) =
                dying_after(steps, || change_keys(&dir, &Means::default(), &Act::Add(Vec::new()), now()));
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
        let (_keep, dir) = set_up();
        let before = dir.read(ROOT, 4096).unwrap();
        let mut steps = 0;
        while *dir.read(ROOT, 4096).unwrap() == *before {
            let (rekeyed, _) = dying_after(steps, || keeper::rekey(&dir, &Means::default()));
            assert!(rekeyed.is_err());
            steps += 1;
        }
        let error = change_keys(&dir, &Means::default(), &Act::Add(Vec::new()), now()).unwrap_err();
        assert_eq!(error.to_string(), "a rekey is not finished: the keyring is still under the root key from before");
        keeper::rekey(&dir, &Means::default()).unwrap();
        change_keys(&dir, &Means::default(), &Act::Add(Vec::new()), now()).unwrap();
    }
}
