//! Tests that kill every operation after every step of its commit.
//!
//! After each step, the keyring opens and is either the whole old one or the whole new one. The error says which of the
//! two it is, and the ledger is accepted. If the keyring is the old one, the same operation succeeds afterwards.

use std::collections::BTreeSet;

use rand::rngs::SysRng;

use super::{
    AddKeyError, AddRecoveryError, AddSlotError, BackedUp, CarryOutMergeError, DestroyKeyError, DisableKeyError,
    EnableKeyError, Forget, ForgetBackupsError, FreshBackup, InitError, InitRequest, ListBackupError, Opened,
    PromoteKeyError, Promotion, Publisher, RekeyError, RemoveSlotError, RestoreError, RestoreRequest, ServeError,
    SetUpError, Source, Usage, WritePlanError, add_key, add_recovery, add_slot, back_up,
    commit::{CommitError, CommitStep, testing::dying_after},
    destroy_key, disable_key, enable_key, forget_backups, init, list_backup, open, preview_merge, promote_key, rekey,
    remove_slot, restore, write_plan,
};
use crate::{
    crypto::{Digest, RootId},
    durable::{self, Dir},
    escrow::{Backup, Identities, Recipient, testing::identity},
    keyring::{
        key_id::KeyId,
        ledger::{ListedBackup, Proven},
        merge::Wishes,
        testing::now,
    },
    plan::{Aim, BeganAt, PlanId, RotationPlan},
    root::{FileSlot, Means},
};

/// Which keyring opens after an operation, as its outcome says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    /// The operation succeeded, so the new keyring opens.
    Done,
    /// The operation failed, and the old keyring opens.
    Old,
    /// The new keyring opens, and a later step of the operation is missing.
    New,
}

/// A state directory, and the inputs of the operations on it.
struct Scene {
    keep: tempfile::TempDir,
    dir: Dir,
    recipient: Recipient,
    identities: Identities,
    backup: Backup,
    first: KeyId,
}

/// An operation, the preparation before it, and the steps that its commits take.
struct Operation {
    name: &'static str,
    before: fn(&Scene),
    act: fn(&Scene) -> (Said, String),
    steps: &'static [CommitStep],
}

fn nothing(_: &Scene) {}

const ORDINARY: &[CommitStep] = &[CommitStep::Audit, CommitStep::Copy, CommitStep::Swap];

const OPERATIONS: &[Operation] = &[
    Operation { name: "key add", before: nothing, act: Scene::add, steps: ORDINARY },
    Operation { name: "key promote", before: |scene| drop(scene.add()), act: Scene::promote, steps: ORDINARY },
    Operation {
        name: "key disable",
        before: |scene| drop((scene.add(), scene.promote())),
        act: Scene::disable,
        steps: ORDINARY,
    },
    Operation {
        name: "key enable",
        before: disable_first,
        act: |scene| said(enable_key(&scene.dir, &Means::default(), scene.first)),
        steps: ORDINARY,
    },
    Operation {
        name: "key destroy",
        before: disable_first,
        act: |scene| said(destroy_key(&scene.dir, &Means::default(), scene.first, &Usage::Waived)),
        steps: ORDINARY,
    },
    Operation { name: "recovery add", before: nothing, act: Scene::add_recipient, steps: ORDINARY },
    Operation {
        name: "rekey",
        before: |scene| drop(scene.list()),
        act: |scene| said(rekey(&scene.dir, &Means::default())),
        steps: &[CommitStep::Audit, CommitStep::Root, CommitStep::Copy, CommitStep::Swap, CommitStep::Ledger],
    },
    Operation {
        name: "slot add",
        before: nothing,
        act: Scene::add_slot,
        steps: &[CommitStep::Audit, CommitStep::KeyFile, CommitStep::Root],
    },
    Operation {
        name: "slot remove",
        before: |scene| drop(scene.add_slot()),
        act: |scene| said(remove_slot(&scene.dir, &Means::default(), "file")),
        steps: &[CommitStep::Audit, CommitStep::Root],
    },
    Operation {
        name: "backup check",
        before: nothing,
        act: Scene::list,
        steps: &[CommitStep::Audit, CommitStep::Ledger],
    },
    Operation {
        name: "backup forget",
        before: |scene| drop(scene.list()),
        act: |scene| {
            let forget = Forget::One(scene.backup.digest().to_hex());
            said(forget_backups(&scene.dir, &Means::default(), &forget))
        },
        steps: &[CommitStep::Audit, CommitStep::Ledger],
    },
    Operation {
        name: "merge",
        before: disable_first,
        act: Scene::merge,
        steps: &[CommitStep::Audit, CommitStep::Backup, CommitStep::Copy, CommitStep::Swap, CommitStep::Ledger],
    },
    Operation { name: "rotate", before: nothing, act: Scene::write_plan, steps: &[CommitStep::Plan] },
    Operation { name: "serve", before: leave_unmarked, act: Scene::serve, steps: &[] },
];

/// Leaves a record that the mark does not name yet.
fn leave_unmarked(scene: &Scene) {
    let (_, died) = dying_after(CommitStep::Swap, || scene.add());
    assert!(died);
}

fn disable_first(scene: &Scene) {
    assert_eq!(scene.add().0, Said::Done);
    assert_eq!(scene.promote().0, Said::Done);
    assert_eq!(scene.disable().0, Said::Done);
}

/// The contents of the files: the record, the current root key, the slots, and the listed backups.
type Reading = (Digest, RootId, Vec<String>, Vec<Digest>);

impl Scene {
    fn new() -> Self {
        let (keep, dir) = durable::testing::private();
        let (recipient, identities) = identity();
        init(&dir, &InitRequest { recovery: None, slot_file: None, restart: false, now: now() }).unwrap();
        let made = back_up(&dir, &Means::default(), vec![recipient.clone()], now()).unwrap();
        let backup = Backup::open(&made.bytes, &identities).unwrap();
        let first = made.opened.keyring.primary().id();
        Self { keep, dir, recipient, identities, backup, first }
    }

    fn open(&self) -> Opened {
        open(&self.dir, &Means::default()).unwrap()
    }

    fn state(&self) -> Reading {
        let opened = self.open();
        let backups = opened.backups().expect("the ledger is believed").iter().map(ListedBackup::record).collect();
        let slots = opened.slots.iter().map(|slot| slot.name.clone()).collect();
        (opened.digest, opened.current.id(opened.keyring.uuid()), slots, backups)
    }

    fn newest(&self) -> KeyId {
        self.open().keyring.keys().map(crate::keyring::Key::id).last().unwrap()
    }

    fn add(&self) -> (Said, String) {
        said(add_key(&self.dir, &Means::default(), &[], now()))
    }

    fn promote(&self) -> (Said, String) {
        let promotion =
            Promotion { key_id: self.newest(), backed_up: BackedUp::Waived, compromised_up_to: None, rotation: None };
        said(promote_key(&self.dir, &Means::default(), promotion, now()))
    }

    fn disable(&self) -> (Said, String) {
        said(disable_key(&self.dir, &Means::default(), self.first, &Usage::Waived))
    }

    fn add_recipient(&self) -> (Said, String) {
        let (recipient, identities) = identity();
        said(add_recovery(&self.dir, &Means::default(), &recipient, &identities))
    }

    fn add_slot(&self) -> (Said, String) {
        let names = self.open().slots.len();
        let slot = FileSlot::generate(&mut SysRng, None).unwrap();
        // An earlier attempt that died may have left its key file, which is never overwritten.
        let is_taken = |number: &usize| self.dir.contains(&format!("slot-another-{number}.key")).unwrap();
        let number = (names..99).find(|number| !is_taken(number)).unwrap();
        said(add_slot(&self.dir, &Means::default(), &format!("another-{number}"), &slot))
    }

    fn list(&self) -> (Said, String) {
        let Backup { keyring, .. } = &self.backup;
        let listed = ListedBackup::of(keyring, self.backup.digest(), Proven::Checked(now()), None);
        said(list_backup(&self.dir, &Means::default(), keyring.root_id(), listed))
    }

    /// Merges the backup, and calls every key compromised, so that the merge has to make a key.
    fn merge(&self) -> (Said, String) {
        let sources = [Source::of_backup(&self.backup, "backup.age".to_owned())];
        let compromised = self.open().keyring.keys().map(crate::keyring::Key::id).collect();
        let wishes = Wishes { compromised, ..Wishes::default() };
        let plan = preview_merge(&self.dir, &Means::default(), &sources, &wishes, now()).unwrap().unwrap();
        said(plan.carry_out(&self.dir, &Means::default(), Some(&self.fresh())))
    }

    fn write_plan(&self) -> (Said, String) {
        let opened = self.open();
        let at = BeganAt { record: opened.digest, newest: 1 };
        let plan = RotationPlan::begin(PlanId([7; 16]), at, Aim::NewKey, BTreeSet::new(), now());
        said(write_plan(&self.dir, &Means::default(), &plan, None))
    }

    fn fresh(&self) -> FreshBackup {
        let file = |number: usize| self.keep.path().join(format!("fresh-{number}.age"));
        let file = (0..99).map(file).find(|file| !file.exists()).unwrap();
        FreshBackup { file, recipients: vec![self.recipient.clone()] }
    }

    fn serve(&self) -> (Said, String) {
        let path = self.dir.path().to_owned();
        said(Publisher::new(path, Means::default(), None, std::sync::Arc::default()).publish())
    }
}

fn said<T, E: Says>(outcome: Result<T, E>) -> (Said, String) {
    match outcome {
        Ok(_) => (Said::Done, String::new()),
        Err(error) => (error.says(), error.to_string()),
    }
}

/// Tells which keyring opens, from an error.
trait Says: std::fmt::Display {
    fn says(&self) -> Said;
}

impl Says for CommitError {
    fn says(&self) -> Said {
        match self {
            Self::NotConfirmed(_)
            | Self::RootNotConfirmed(_)
            | Self::NotMarked(_)
            | Self::LedgerNotMarked(_)
            | Self::DoesNotOpen(_) => Said::New,
            Self::NotExported(_) | Self::NotAudited(_) | Self::NotWritten(_) | Self::NotSwapped(_) => Said::Old,
            error => panic!("not by dying: {error}"),
        }
    }
}

/// Implements `Says` for errors that contain a [`CommitError`].
macro_rules! says_what_its_commit_says {
    ($($error:ident),+) => {$(
        impl Says for $error {
            fn says(&self) -> Said {
                match self {
                    Self::Commit(error) => error.says(),
                    error => panic!("not by dying: {error}"),
                }
            }
        }
    )+};
}

says_what_its_commit_says!(
    AddKeyError,
    PromoteKeyError,
    DisableKeyError,
    EnableKeyError,
    DestroyKeyError,
    AddRecoveryError,
    AddSlotError,
    RemoveSlotError,
    ListBackupError,
    ForgetBackupsError,
    CarryOutMergeError,
    WritePlanError
);

impl Says for RekeyError {
    fn says(&self) -> Said {
        match self {
            Self::Commit(error) => error.says(),
            Self::Unfinished(_) => Said::New,
            error => panic!("not by dying: {error}"),
        }
    }
}

impl Says for ServeError {
    fn says(&self) -> Said {
        match self {
            Self::NotMarked(error) => error.says(),
            error => panic!("not by dying: {error}"),
        }
    }
}

#[test]
fn a_commit_that_dies_after_any_step_leaves_the_old_keyring_or_the_new_one_and_says_which() {
    const STEPS: [CommitStep; 9] = [
        CommitStep::Audit,
        CommitStep::Backup,
        CommitStep::Aside,
        CommitStep::KeyFile,
        CommitStep::Root,
        CommitStep::Copy,
        CommitStep::Swap,
        CommitStep::Ledger,
        CommitStep::Plan,
    ];
    let mut texts = Vec::new();
    for operation in OPERATIONS {
        for step in STEPS {
            let scene = Scene::new();
            (operation.before)(&scene);
            let before = scene.state();
            let ((said, text), died) = dying_after(step, || (operation.act)(&scene));
            let what = format!("{} after {step:?}: {text}", operation.name);
            assert_eq!(died, operation.steps.contains(&step), "{what}");
            let now = scene.state();
            match said {
                Said::Done => assert!(!died, "{what}"),
                Said::Old => assert_eq!(now, before, "{what}"),
                Said::New => assert_ne!(now, before, "{what}"),
            }
            if said == Said::Old && died {
                assert_eq!((operation.act)(&scene).0, Said::Done, "again: {what}");
            }
            assert_eq!(rekey_again(&scene), Said::Done, "{what}");
            assert_eq!(scene.serve().0, Said::Done, "{what}");
            texts.push(text);
        }
    }
    for expected in [
        "the keyring was changed, but not marked: ",
        "the root file was changed, but may not be on the disk yet: ",
        "the ledger was changed, but not marked: ",
        "the rekey is not finished: ",
    ] {
        assert!(texts.iter().any(|text| text.starts_with(expected)), "nothing says {expected:?}");
    }
}

#[test]
fn a_merge_after_a_rekey_that_broke_off_keeps_the_listed_backups() {
    for step in [CommitStep::Root, CommitStep::Copy, CommitStep::Swap, CommitStep::Ledger] {
        let scene = Scene::new();
        assert_eq!(scene.add().0, Said::Done);
        let other = back_up(&scene.dir, &Means::default(), vec![scene.recipient.clone()], now()).unwrap();
        let other = Backup::open(&other.bytes, &scene.identities).unwrap();
        let listed = ListedBackup::of(&other.keyring, other.digest(), Proven::Checked(now()), None);
        list_backup(&scene.dir, &Means::default(), other.keyring.root_id(), listed.clone()).unwrap();
        let (_, died) = dying_after(step, || rekey(&scene.dir, &Means::default()));
        assert!(died, "{step:?}");
        // The merge takes another backup, and makes a key. The backup of the new key counts only after a check.
        assert_eq!(scene.merge().0, Said::Done, "after {step:?}");
        let opened = scene.open();
        let backups = opened.backups().expect("the ledger is believed");
        assert_eq!((backups.len(), &backups[0]), (2, &listed), "after {step:?}");
        assert_eq!(opened.unbacked(), [opened.keyring.primary().id()], "after {step:?}");
        assert_eq!(rekey_again(&scene), Said::Done, "after {step:?}");
        assert_eq!(scene.open().backups().unwrap().len(), 2, "after {step:?}");
    }
}

/// Finishes a rekey that has begun, or does a whole new one. Both need every slot, the record, the ledger and the mark.
fn rekey_again(scene: &Scene) -> Said {
    said(rekey(&scene.dir, &Means::default())).0
}

/// The files that an interrupted set-up left, as its error says.
#[derive(Debug, PartialEq, Eq)]
enum Came {
    Nowhere,
    Begun,
    Written,
}

fn came(error: &SetUpError) -> Came {
    match error {
        SetUpError::NotBegun(_) => Came::Nowhere,
        SetUpError::BrokenOff(_) => Came::Begun,
        SetUpError::NotConfirmed(_) | SetUpError::NotMarked(_) | SetUpError::DoesNotOpen(_) => Came::Written,
        error => panic!("not by dying: {error}"),
    }
}

#[test]
fn a_set_up_that_dies_after_any_step_says_how_far_it_came() {
    let plan = |restart| InitRequest { recovery: None, slot_file: None, restart, now: now() };
    for (step, expected) in [
        (CommitStep::Aside, Came::Nowhere),
        (CommitStep::KeyFile, Came::Begun),
        (CommitStep::Root, Came::Begun),
        (CommitStep::Swap, Came::Written),
    ] {
        let (_keep, dir) = durable::testing::private();
        // A file of an unfinished set-up, which the next set-up moves aside.
        dir.create("root", b"half").unwrap();
        let (outcome, died) = dying_after(step, || init(&dir, &plan(true)));
        let Err(InitError::SetUp(error)) = outcome else { panic!("{outcome:?}") };
        assert!(died);
        assert_eq!(came(&error), expected, "after {step:?}: {error}");
        if expected == Came::Written {
            open(&dir, &Means::default()).unwrap();
            assert!(matches!(init(&dir, &plan(true)), Err(InitError::SetUp(SetUpError::Exists(_)))));
        } else {
            init(&dir, &plan(true)).unwrap();
        }
    }
}

#[test]
fn a_set_up_that_fails_after_the_record_was_written_says_what_is_missing() {
    let texts: Vec<String> = (0..60)
        .filter_map(|steps| {
            let (_keep, dir) = durable::testing::private();
            let plan = InitRequest { recovery: None, slot_file: None, restart: false, now: now() };
            let (outcome, _) = durable::testing::dying_after(steps, || init(&dir, &plan));
            outcome.err().map(|error| error.to_string())
        })
        .collect();
    for expected in
        ["the keyring was written, but may not be on the disk yet: ", "the keyring was written, but not marked: "]
    {
        assert!(texts.iter().any(|text| text.starts_with(expected)), "{expected}: {texts:#?}");
    }
}

#[test]
fn a_restore_that_dies_after_any_step_says_how_far_it_came() {
    for (step, expected) in [
        (CommitStep::Backup, Came::Nowhere),
        (CommitStep::Audit, Came::Nowhere),
        (CommitStep::KeyFile, Came::Begun),
        (CommitStep::Root, Came::Begun),
        (CommitStep::Swap, Came::Written),
        (CommitStep::Ledger, Came::Written),
    ] {
        let scene = Scene::new();
        let (_keep, dir) = durable::testing::private();
        let (outcome, died) = dying_after(step, || restore(&dir, scene.restore_request()));
        assert!(died);
        let Err(RestoreError::SetUp(error)) = outcome else { panic!("{outcome:?}") };
        assert_eq!(came(&error), expected, "after {step:?}: {error}");
        if expected == Came::Written {
            open(&dir, &Means::default()).unwrap();
        } else {
            restore(&dir, scene.restore_request()).unwrap();
        }
    }
}

impl Scene {
    /// Plans to restore a backup whose only key is called compromised, so that the restore has to make a key.
    fn restore_request(&self) -> RestoreRequest {
        let made = back_up(&self.dir, &Means::default(), vec![self.recipient.clone()], now()).unwrap();
        let backup = Backup::open(&made.bytes, &self.identities).unwrap();
        RestoreRequest {
            expect: Some(backup.expect()),
            backup,
            file: None,
            needed: None,
            snapshot: None,
            compromised: vec![self.first],
            fresh: self.fresh(),
            slot_file: None,
            now: now(),
        }
    }
}
