//! Changes keys: add, promote, disable, enable, destroy.
//!
//! A change opens the keyring, takes the lock, opens the keyring again, decides, and commits. `key_errors` has the
//! error of each operation.

use std::sync::Arc;

use rand::rngs::SysRng;

use super::{
    commit::{Commit, CommitError, PrevCopy},
    key_errors::{
        AddKeyError, DestroyKeyError, DisableKeyError, EnableKeyError, InUse, Needing, PromoteKeyError, UsageDoubt,
    },
    open::{Opened, open_to_change},
    rotation::is_under_way,
    state_dir::StateFiles,
};
use crate::{
    audit::{Event, KeyEvent},
    crypto::Digest,
    durable::Dir,
    keyring::{Keyring, key_id::KeyId, ledger::Ledger, time::Time, unused::EtcdRevision},
    plan::PlanId,
    root::Means,
};

/// A promotion: the key that becomes primary, and the conditions.
#[derive(Debug, Clone, Copy)]
pub struct Promotion {
    /// The name of the key.
    pub key_id: KeyId,
    /// Whether a listed backup has to contain the key.
    pub backed_up: BackedUp,
    /// The greatest sequence number of the keys that are marked as compromised, except the promoted one. `None` marks
    /// no key.
    pub compromised_up_to: Option<u32>,
    /// The rotation that promotes the key. Its plan must be unfinished then: another command may have given it up.
    pub rotation: Option<PlanId>,
}

/// Whether a promotion needs a backup of the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackedUp {
    /// The key is promoted only if a listed backup contains it.
    Required,
    /// The key is promoted without a backup, because the operator accepts the risk.
    Waived,
}

/// The knowledge about values in etcd that need a key. The state directory cannot provide it, because the directory may
/// have been restored, cloned or rolled back.
#[derive(Debug, Clone)]
pub enum Usage {
    /// Every value in the declared etcds was scanned.
    Scanned {
        /// The live objects that need the key.
        needing: Needing,
        /// The SHA-256 of the record before the scan. If the record has changed since, another key may have wrapped
        /// values.
        record: Digest,
        /// The revision at which each etcd was scanned.
        etcds: Vec<EtcdRevision>,
        /// The keys in etcd of the objects that the operator leaves by name. They do not count as needing the key.
        left: Vec<String>,
    },
    /// The key may still be in use.
    Unknown(UsageDoubt),
    /// The change needs no scan, because the operator accepts the risk.
    Waived,
}

/// The result of a change of one key.
#[derive(Debug)]
pub struct Changed {
    /// The keyring after the change.
    pub keyring: Keyring,
    /// The SHA-256 of the record of that keyring.
    pub digest: Digest,
    /// The name of the changed key.
    pub key_id: KeyId,
    /// The keys in etcd of the objects that stay although the key was given up.
    pub left: Vec<String>,
}

/// Makes a pending key in the keyring in `dir`, with a number that none of `others` uses. These keys exist somewhere,
/// perhaps not in this keyring.
///
/// # Errors
/// When the keyring does not open, no number is left, no key can be made, or a file cannot be written.
pub fn add_key(dir: &Dir, means: &Means, others: &[KeyId], now: Time) -> Result<Changed, AddKeyError> {
    let state = StateFiles::new(dir);
    let (opened, _lock) = open_to_change(state, means)?;
    let others = [opened.listed_keys().as_slice(), others].concat();
    let (keyring, key_id) = opened.keyring.add(&others, &mut SysRng, &opened.root, opened.digest, now)?;
    let event = Event::Add(key_event(&keyring, key_id, None));
    Ok(commit(state, &opened, (keyring, key_id), event, PrevCopy::Before)?)
}

/// Makes a key of the keyring in `dir` the primary one, which wraps.
///
/// # Errors
/// When the keyring does not open or does not allow the change, no backup contains the key, or a file cannot be
/// written. Also when the rotation was given up or replaced.
pub fn promote_key(dir: &Dir, means: &Means, promotion: Promotion, now: Time) -> Result<Changed, PromoteKeyError> {
    let Promotion { key_id, backed_up, compromised_up_to, rotation } = promotion;
    let state = StateFiles::new(dir);
    let (opened, _lock) = open_to_change(state, means)?;
    let keyring = match compromised_up_to {
        Some(newest) => opened.keyring.supersede(key_id, newest, opened.digest, now)?,
        None => opened.keyring.promote(key_id, opened.digest, now)?,
    };
    if let Some(rotation) = rotation
        && !is_under_way(dir, &opened, rotation)?
    {
        return Err(PromoteKeyError::GivenUp(key_id));
    }
    if backed_up == BackedUp::Required && opened.unbacked().contains(&key_id) {
        return Err(PromoteKeyError::Unbacked { key_id, ledger: opened.listed.ledger().err().cloned() });
    }
    let key = key_event(&keyring, key_id, Some(backed_up == BackedUp::Waived));
    let event = match compromised_up_to {
        Some(compromised_up_to) => Event::Supersede { key, compromised_up_to },
        None => Event::Promote(key),
    };
    Ok(commit(state, &opened, (keyring, key_id), event, PrevCopy::Before)?)
}

/// Disables a key of the keyring in `dir`. The key then neither wraps nor unwraps. The ledger notes at which revision
/// of each etcd no value needed the key.
///
/// # Errors
/// When the keyring does not open or does not allow the change, values may need the key, or a file cannot be written.
pub fn disable_key(dir: &Dir, means: &Means, key_id: KeyId, usage: &Usage) -> Result<Changed, DisableKeyError> {
    let state = StateFiles::new(dir);
    let (mut opened, _lock) = open_to_change(state, means)?;
    let keyring = opened.keyring.disable(key_id, opened.digest)?;
    usage.check(opened.digest).map_err(|in_use| DisableKeyError::in_use(key_id, in_use))?;
    opened.listed.note_unused(key_id, usage.etcds());
    let left = usage.left().to_vec();
    let event = KeyEvent { left: left.clone(), ..key_event(&keyring, key_id, Some(usage.is_waived())) };
    let changed = commit(state, &opened, (keyring, key_id), Event::Disable(event), PrevCopy::Before)?;
    Ok(Changed { left, ..changed })
}

/// Enables a key of the keyring in `dir`. The key then unwraps again.
///
/// # Errors
/// When the keyring does not open or does not allow the change, or a file cannot be written.
pub fn enable_key(dir: &Dir, means: &Means, key_id: KeyId) -> Result<Changed, EnableKeyError> {
    let state = StateFiles::new(dir);
    let (mut opened, _lock) = open_to_change(state, means)?;
    let keyring = opened.keyring.enable(key_id, opened.digest)?;
    opened.listed.note_unused(key_id, &[]);
    let event = Event::Enable(key_event(&keyring, key_id, None));
    Ok(commit(state, &opened, (keyring, key_id), event, PrevCopy::Before)?)
}

/// Destroys a key of the keyring in `dir`: removes its bytes.
///
/// # Errors
/// When the keyring does not open or does not allow the change, when values or a snapshot may need the key, or when a
/// file cannot be written.
pub fn destroy_key(dir: &Dir, means: &Means, key_id: KeyId, usage: &Usage) -> Result<Changed, DestroyKeyError> {
    let state = StateFiles::new(dir);
    let (mut opened, _lock) = open_to_change(state, means)?;
    let keyring = opened.keyring.destroy(key_id, opened.digest)?;
    if !usage.is_waived() {
        check_ledger(&opened, key_id)?;
    }
    usage.check(opened.digest).map_err(|in_use| DestroyKeyError::in_use(key_id, in_use))?;
    opened.listed.note_unused(key_id, &[]);
    let left = usage.left().to_vec();
    let event = KeyEvent { left: left.clone(), ..key_event(&keyring, key_id, Some(usage.is_waived())) };
    let changed = commit(state, &opened, (keyring, key_id), Event::Destroy(event), PrevCopy::After)?;
    Ok(Changed { left, ..changed })
}

/// Commits the changed keyring, with its audit event and ledger.
fn commit(
    state: StateFiles<'_>,
    opened: &Opened,
    (keyring, key_id): (Keyring, KeyId),
    event: Event<'static>,
    copy: PrevCopy,
) -> Result<Changed, CommitError> {
    let (commit, digest) = Commit::change(opened, &keyring, event, copy)?;
    commit.run(state, &mut state.store())?;
    Ok(Changed { keyring, digest, key_id, left: Vec::new() })
}

fn key_event(keyring: &Keyring, key_id: KeyId, unproven: Option<bool>) -> KeyEvent {
    KeyEvent {
        keyring: keyring.uuid().to_hex(),
        generation: keyring.generation(),
        key_id: key_id.to_string(),
        unproven,
        left: Vec::new(),
    }
}

/// Refuses to destroy a key if a listed snapshot needs it, or if a lost ledger may have listed such a snapshot.
fn check_ledger(opened: &Opened, key_id: KeyId) -> Result<(), DestroyKeyError> {
    let lost = |ledger: &Arc<_>| DestroyKeyError::LedgerLost { key_id, ledger: Arc::clone(ledger) };
    let ledger = opened.listed.ledger().map_err(lost)?;
    match ledger.forgot().filter(|seq| key_id.seq() <= *seq) {
        Some(forgot) => Err(DestroyKeyError::Forgotten { key_id, forgot }),
        None => check_snapshots(ledger, key_id),
    }
}

fn check_snapshots(ledger: &Ledger, key_id: KeyId) -> Result<(), DestroyKeyError> {
    let mut needing = ledger.needing(key_id);
    let Some(first) = needing.next() else { return Ok(()) };
    let id = first.sha256();
    let snapshot = first.file().map_or_else(|| format!("sha256 {}", id.to_hex()), ToOwned::to_owned);
    Err(DestroyKeyError::InSnapshot { key_id, snapshot, id, others: needing.count() })
}

impl Usage {
    /// Returns the revision at which each etcd was scanned. The list is empty without a scan.
    fn etcds(&self) -> &[EtcdRevision] {
        match self {
            Self::Scanned { etcds, .. } => etcds,
            Self::Unknown(_) | Self::Waived => &[],
        }
    }

    /// Returns the keys in etcd of the objects that the operator leaves by name.
    fn left(&self) -> &[String] {
        match self {
            Self::Scanned { left, .. } => left,
            Self::Unknown(_) | Self::Waived => &[],
        }
    }

    fn is_waived(&self) -> bool {
        matches!(self, Self::Waived)
    }

    /// Checks that no value needs the key in a keyring whose record has the SHA-256 `current`.
    fn check(&self, current: Digest) -> Result<(), InUse> {
        match self {
            Self::Scanned { needing, .. } if needing.objects > 0 => Err(InUse::Needed(needing.clone())),
            Self::Scanned { record, .. } if *record != current => Err(InUse::Unproven(UsageDoubt::KeyringChanged)),
            Self::Scanned { .. } | Self::Waived => Ok(()),
            Self::Unknown(doubt) => Err(InUse::Unproven(doubt.clone())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::plan::{CountDoubt, Unsettled};
    use crate::{
        durable::testing::dying_after,
        escrow::testing::identity,
        keeper::{
            self, note_unused,
            state_dir::{KEYRING, KEYRING_PREV, LEDGER, ROOT},
            testing::{
                added, destroyed, disable_first, disabled, enabled, events, fill, list, opened, promoted, rotate,
                set_up, unused,
            },
        },
        keyring::{
            ledger::LEDGER_MAX,
            record::{self, RECORD_MAX},
            testing::now,
        },
    };

    fn scanned(objects: u64, example: Option<&str>, record: Digest) -> Usage {
        let needing = Needing { objects, example: example.map(str::to_owned) };
        Usage::Scanned { needing, record, etcds: Vec::new(), left: Vec::new() }
    }

    #[test]
    fn a_key_that_may_be_in_use_is_kept() {
        let (_keep, dir) = set_up();
        let key_id = added(&dir);
        let refused = |usage: Usage| disable_key(&dir, &Means::default(), key_id, &usage).unwrap_err().to_string();
        let text = format!("not disabling key {key_id}, which may still be in use: ");
        assert_eq!(refused(Usage::Unknown(UsageDoubt::NotRead)), format!("{text}etcd was not read"));
        let older = scanned(0, None, Digest::of(b"an older record"));
        assert_eq!(refused(older), format!("{text}the keyring was changed while etcd was read"));
        let needed = refused(scanned(3, None, opened(&dir).digest));
        assert_eq!(needed, format!("not disabling key {key_id}: 3 objects need it"));
    }

    #[test]
    fn a_refusal_says_what_needs_the_key() {
        let (_keep, dir) = set_up();
        let key_id = disable_first(&dir);
        let record = opened(&dir).digest;
        let refused = |usage: Usage| destroy_key(&dir, &Means::default(), key_id, &usage).unwrap_err().to_string();
        let needed = |objects, example| refused(scanned(objects, example, record));
        let text = format!("not destroying key {key_id}: ");
        let example = "/registry/secrets/default/token";
        assert_eq!(needed(1, Some(example)), format!("{text}1 object needs it, for example {example}"));
        assert_eq!(needed(2, None), format!("{text}2 objects need it"));
        let text = format!("not destroying key {key_id}, which may still be in use: ");
        let waiting = refused(Usage::Unknown(UsageDoubt::Unsettled(Unsettled::Quiet(Duration::from_secs(7)))));
        let seconds = "an API server that is not connected now may still write under another key, for 7 s more";
        assert_eq!(waiting, format!("{text}{seconds}"));
        let listed = refused(Usage::Unknown(UsageDoubt::SnapshotForgotten));
        assert_eq!(
            listed,
            format!("{text}a snapshot of etcd that needs it was removed from the ledger during this command")
        );
        let counted = refused(Usage::Unknown(UsageDoubt::Count(CountDoubt::TooMany { count: 2, nodes: 1 })));
        assert_eq!(
            counted,
            format!(
                "{text}2 API servers use this etcd, expected at most 1, because a keyring file serves one API server"
            )
        );
        let elsewhere = refused(Usage::Unknown(UsageDoubt::OtherSocket("unix:///s".to_owned())));
        assert_eq!(elsewhere, format!("{text}a plugin serves from this state directory, and not at unix:///s"));
    }

    #[test]
    fn only_a_key_in_a_listed_backup_is_promoted() {
        let (_keep, dir) = set_up();
        let added = added(&dir);
        let promotion =
            Promotion { key_id: added, backed_up: BackedUp::Required, compromised_up_to: None, rotation: None };
        let promote = || promote_key(&dir, &Means::default(), promotion, now());
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
        let destroy = |usage| destroy_key(&dir, &Means::default(), first, &usage);
        dir.replace(LEDGER, b"no ledger").unwrap();
        assert!(matches!(destroy(unused(&dir)), Err(DestroyKeyError::LedgerLost { .. })));
        assert_eq!(destroy(Usage::Waived).unwrap().key_id, first, "an operator who accepts the risk needs no ledger");

        let (_keep, dir) = set_up();
        let first = disable_first(&dir);
        let scanned = |objects, record| scanned(objects, None, record);
        let record = opened(&dir).digest;
        let destroy = |usage| destroy_key(&dir, &Means::default(), first, &usage);
        assert!(matches!(
            destroy(scanned(1, record)),
            Err(DestroyKeyError::Needed { needing: Needing { objects: 1, .. }, .. })
        ));
        assert!(matches!(destroy(scanned(0, Digest::of(b"an older record"))), Err(DestroyKeyError::Unproven { .. })));
        let changed = destroy(scanned(0, record)).unwrap();
        assert!(changed.keyring.keys().all(|key| key.id() != first));
    }

    #[test]
    fn the_audit_log_says_what_was_changed_without_a_proof() {
        let (_keep, dir) = set_up();
        let [first, second] = [opened(&dir).keyring.primary().id(), added(&dir)];
        let third = added(&dir);
        list(&dir);
        promoted(&dir, second, BackedUp::Required);
        promoted(&dir, third, BackedUp::Waived);
        for usage in [unused(&dir), Usage::Waived] {
            disabled(&dir, first, &usage);
            enabled(&dir, first);
        }
        disabled(&dir, first, &unused(&dir));
        destroyed(&dir, first, &unused(&dir));
        disabled(&dir, second, &Usage::Waived);
        destroyed(&dir, second, &Usage::Waived);
        let found = events(&dir).into_iter().filter(|event| event["key_id"].is_string()).map(|event| {
            let key_id: KeyId = event["key_id"].as_str().unwrap().parse().unwrap();
            (event["event"].as_str().unwrap().to_owned(), key_id.seq(), event["unproven"].as_bool())
        });
        let expected = [
            ("add", 2, None),
            ("add", 3, None),
            ("promote", 2, Some(false)),
            ("promote", 3, Some(true)),
            ("disable", 1, Some(false)),
            ("enable", 1, None),
            ("disable", 1, Some(true)),
            ("enable", 1, None),
            ("disable", 1, Some(false)),
            ("destroy", 1, Some(false)),
            ("disable", 2, Some(true)),
            ("destroy", 2, Some(true)),
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
        added(&dir);
        assert_eq!(Digest::of(&dir.read(KEYRING_PREV, RECORD_MAX).unwrap()), before, "the record before");
        destroyed(&dir, first, &Usage::Waived);
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
                "not destroying key {key_id}: the earlier ledger is lost, and a snapshot of etcd that it listed may need any key up to k1"
            )
        );

        dir.replace(LEDGER, b"no ledger").unwrap();
        let opened = keeper::open(&dir, &Means::default()).unwrap();
        let text = check_ledger(&opened, key_id).unwrap_err().to_string();
        let expected = format!(
            "not destroying key {key_id}: a snapshot of etcd that the lost ledger listed may need it (the ledger: "
        );
        assert!(text.starts_with(&expected), "{text}");
    }

    #[test]
    fn room_for_a_last_rotation_is_kept() {
        let (_keep, dir) = set_up();
        let added = added(&dir);
        fill(&dir);
        let record = dir.read(KEYRING, RECORD_MAX).unwrap();
        let error = add_key(&dir, &Means::default(), &[], now()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the keyring has no room for more: 17408 bytes are kept for changes of the keys that exist"
        );
        let (recipient, identities) = identity();
        let error = keeper::add_recovery(&dir, &Means::default(), &recipient, &identities).map(drop).unwrap_err();
        assert!(
            matches!(error, keeper::AddRecoveryError::Commit(CommitError::Encode(keeper::EncodeRecordError::Full))),
            "{error}"
        );
        assert_eq!(dir.read(KEYRING, RECORD_MAX).unwrap(), record);
        promoted(&dir, added, BackedUp::Waived);
        assert_eq!(opened(&dir).keyring.primary().id(), added);
    }

    #[test]
    fn a_failure_after_the_rename_says_that_the_keyring_was_changed() {
        let changed_and_said = (0..20).map(|steps| {
            let (_keep, dir) = set_up();
            let (changed, _) = dying_after(steps, || add_key(&dir, &Means::default(), &[], now()));
            let generation = keeper::open(&dir, &Means::default()).unwrap().keyring.generation();
            match changed {
                Ok(_) => assert_eq!(generation, 2, "after {steps} steps"),
                Err(AddKeyError::Commit(error @ (CommitError::NotMarked(_) | CommitError::NotConfirmed(_)))) => {
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
        let error = add_key(&dir, &Means::default(), &[], now()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "a rekey is not finished: the keyring or its mark is still under the earlier root key"
        );
        keeper::rekey(&dir, &Means::default()).unwrap();
        add_key(&dir, &Means::default(), &[], now()).unwrap();
    }

    #[test]
    fn the_ledger_notes_at_which_revision_a_disabled_key_was_unused() {
        let (_keep, dir) = set_up();
        let first = opened(&dir).keyring.primary().id();
        rotate(&dir);
        let at = |revision| vec![EtcdRevision { etcd: "a".to_owned(), revision }];
        let noted = || opened(&dir).unused(first).unwrap();
        let disable = |usage: &Usage| drop(disable_key(&dir, &Means::default(), first, usage).unwrap());
        let scanned = |revision| {
            let needing = Needing { objects: 0, example: None };
            Usage::Scanned { needing, record: opened(&dir).digest, etcds: at(revision), left: Vec::new() }
        };
        disable(&scanned(7));
        assert_eq!(noted(), at(7));
        note_unused(&dir, &Means::default(), first, &at(9)).unwrap();
        assert_eq!(noted(), at(9));
        let last = events(&dir).pop().unwrap();
        assert_eq!((&last["event"], &last["etcds"][0]["revision"]), (&"key-unused".into(), &9.into()), "{last}");
        enable_key(&dir, &Means::default(), first).unwrap();
        assert_eq!(noted(), [], "values may need it again");
        disable(&scanned(11));
        enable_key(&dir, &Means::default(), first).unwrap();
        disable(&Usage::Waived);
        assert_eq!(noted(), [], "nobody has looked");
        note_unused(&dir, &Means::default(), first, &at(12)).unwrap();
        destroy_key(&dir, &Means::default(), first, &scanned(13)).unwrap();
        assert_eq!(noted(), []);
    }
}
