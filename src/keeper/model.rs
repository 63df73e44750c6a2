//! Tests random lives of a keyring: changes that die between any two writes, restarts, a daemon that follows the
//! changes, and several commands at once.
//!
//! After each step, exactly one key is primary, no key that ever wrapped something was lost except by `destroy`, no
//! number of a key was used again, and the generation did not fall. The directory `proptest-regressions/` keeps the
//! failures that a run finds.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use proptest::prelude::*;
use rand::rngs::SysRng;

use super::{
    AddKeyError, AddSlotError, BackedUp, BeginError, Changed, DestroyKeyError, DisableKeyError, EnableKeyError,
    InitRequest, Opened, PromoteKeyError, Promotion, Publisher, RemoveSlotError, Usage, add_key, add_slot, destroy_key,
    disable_key, enable_key, init, open,
    open_to_serve::{Served, open_to_serve},
    promote_key, rekey, remove_slot, slots,
    state_dir::StateFiles,
};
use crate::{
    crypto::seed::Seed,
    durable::{self, Dir, Privacy, testing::dying_after},
    keeper::Published,
    keyring::{Entry, key_id::KeyId, state::State, testing::now},
    root::{FileSlot, Means, key_file_name},
};

const SEED: [u8; 32] = [0x5a; 32];

fn seed() -> Seed {
    Seed::new(SEED.to_vec()).unwrap()
}

/// One step in the life of a keyring. A step chooses a key by its place in the record.
#[derive(Debug, Clone, Copy)]
enum Step {
    Add,
    Promote(usize),
    Disable(usize),
    Enable(usize),
    Destroy(usize),
    Rekey,
    /// Adds a slot if there is only one. Removes the first slot if there are two.
    Slot,
    /// The daemon looks for changes of the files.
    Follow,
    /// The daemon ends, and another one starts.
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let place = 0..6_usize;
    prop_oneof![
        4 => Just(Step::Add),
        6 => place.clone().prop_map(Step::Promote),
        3 => place.clone().prop_map(Step::Disable),
        2 => place.clone().prop_map(Step::Enable),
        2 => place.prop_map(Step::Destroy),
        2 => Just(Step::Rekey),
        2 => Just(Step::Slot),
        2 => Just(Step::Follow),
        1 => Just(Step::Restart),
    ]
}

/// Makes a list of steps. In some of them the process dies after the given number of write steps.
fn life() -> impl Strategy<Value = Vec<(Step, Option<usize>)>> {
    prop::collection::vec((step(), prop::option::weighted(0.4, 0..14_usize)), 1..24)
}

/// Why a step did not succeed.
enum Failed {
    /// The keyring does not allow the step.
    Refused,
    /// A write failed, for this reason.
    Otherwise(String),
}

impl Failed {
    fn of(error: impl std::fmt::Display) -> Self {
        Self::Otherwise(error.to_string())
    }
}

/// Tells a change that the keyring refused from one whose write failed.
fn outcome<E: Refuses>(changed: Result<Changed, E>) -> Result<(), Failed> {
    match changed {
        Err(error) if error.is_refusal() => Err(Failed::Refused),
        changed => changed.map(drop).map_err(Failed::of),
    }
}

/// An error that may say that the keyring does not allow a change.
trait Refuses: std::fmt::Display {
    fn is_refusal(&self) -> bool;
}

macro_rules! refuses {
    ($($error:ident),+) => {$(
        impl Refuses for $error {
            fn is_refusal(&self) -> bool {
                matches!(self, Self::Refused(_) | Self::Begin(BeginError::Rekeying(_)))
            }
        }
    )+};
}

refuses!(AddKeyError, PromoteKeyError, DisableKeyError, EnableKeyError, DestroyKeyError);

/// A state directory with a daemon, and what the test knows about both.
struct World {
    _keep: tempfile::TempDir,
    dir: Dir,
    publisher: Publisher,
    keys: Arc<Published>,
    generation: u64,
    /// A seed that was wrapped under each key that was ever primary.
    wrapped: BTreeMap<KeyId, Vec<u8>>,
    /// The keys whose destruction has begun. They may be gone.
    doomed: BTreeSet<KeyId>,
    /// Every key_id that was ever in the record, by its number.
    names: BTreeMap<String, KeyId>,
}

impl World {
    fn new() -> Self {
        let (keep, dir) = durable::testing::private();
        init(&dir, &InitRequest { recovery: None, slot_file: None, restart: false, now: now() }).unwrap();
        let (publisher, keys) = daemon(&dir);
        let (wrapped, doomed, names) = (BTreeMap::new(), BTreeSet::new(), BTreeMap::new());
        let mut world = Self { _keep: keep, dir, publisher, keys, generation: 0, wrapped, doomed, names };
        world.check();
        world
    }

    fn take(&mut self, step: Step, dies_after: Option<usize>) {
        let (outcome, died) = dying_after(dies_after.unwrap_or(usize::MAX), || self.attempt(step));
        match outcome {
            Ok(()) | Err(Failed::Refused) => {}
            Err(Failed::Otherwise(error)) => assert!(died, "{step:?} was not refused but failed: {error}"),
        }
        self.check();
    }

    fn attempt(&mut self, step: Step) -> Result<(), Failed> {
        let at = |place: usize| self.open().keyring.entries().get(place).map(Entry::id);
        let means = Means::default();
        match step {
            Step::Add => outcome(add_key(&self.dir, &means, &[], now())),
            Step::Promote(place) => at(place).map_or(Ok(()), |key_id| {
                let promotion =
                    Promotion { key_id, backed_up: BackedUp::Waived, compromised_up_to: None, rotation: None };
                outcome(promote_key(&self.dir, &means, promotion, now()))
            }),
            Step::Disable(place) => {
                at(place).map_or(Ok(()), |key_id| outcome(disable_key(&self.dir, &means, key_id, &Usage::Waived)))
            }
            Step::Enable(place) => at(place).map_or(Ok(()), |key_id| outcome(enable_key(&self.dir, &means, key_id))),
            Step::Destroy(place) => at(place).map_or(Ok(()), |key_id| self.destroy(key_id)),
            Step::Rekey => rekey(&self.dir, &means).map(drop).map_err(Failed::of),
            Step::Slot => self.change_slots(),
            Step::Follow => {
                let _ = self.publisher.follow();
                Ok(())
            }
            Step::Restart => {
                (self.publisher, self.keys) = daemon(&self.dir);
                Ok(())
            }
        }
    }

    fn destroy(&mut self, key_id: KeyId) -> Result<(), Failed> {
        let is_disabled = |key: &crate::keyring::Key| key.id() == key_id && key.state() == State::Disabled;
        if self.open().keyring.keys().any(is_disabled) {
            self.doomed.insert(key_id);
        }
        outcome(destroy_key(&self.dir, &Means::default(), key_id, &Usage::Waived))
    }

    fn change_slots(&self) -> Result<(), Failed> {
        let slots = slots(&self.dir).map_err(Failed::of)?;
        if let [first, _, ..] = slots.as_slice() {
            return match remove_slot(&self.dir, &Means::default(), &first.name) {
                Err(RemoveSlotError::Begin(BeginError::Rekeying(_))) => Err(Failed::Refused),
                changed => changed.map(drop).map_err(Failed::of),
            };
        }
        {
            // An earlier attempt that died may have left its key file, which is never overwritten.
            let is_free = |name: &String| !self.dir.contains(&key_file_name(name)).unwrap();
            let name = (0..99).map(|n| format!("slot-{n}")).find(is_free).unwrap();
            let slot = FileSlot::generate(&mut SysRng, None).map_err(Failed::of)?;
            match add_slot(&self.dir, &Means::default(), &name, &slot) {
                Err(AddSlotError::Begin(BeginError::Rekeying(_))) => Err(Failed::Refused),
                changed => changed.map(drop).map_err(Failed::of),
            }
        }
    }

    fn open(&self) -> Opened {
        open(&self.dir, &Means::default()).expect("whatever happened, the keyring opens")
    }

    /// Checks the directory and the daemon against what is known.
    fn check(&mut self) {
        let Opened { keyring, .. } = self.open();
        assert!(keyring.generation() >= self.generation, "the generation fell");
        self.generation = keyring.generation();
        assert_eq!(keyring.keys().filter(|key| key.state() == State::Primary).count(), 1);
        for id in keyring.entries().iter().map(Entry::id) {
            let number = id.to_string().split('-').next().unwrap().to_owned();
            assert_eq!(*self.names.entry(number).or_insert(id), id, "a number was used again");
        }
        for id in self.names.values() {
            assert!(keyring.entries().iter().any(|entry| entry.id() == *id), "{id} is neither key nor tomb");
        }
        for (id, wrapped) in &self.wrapped {
            match keyring.keys().find(|key| key.id() == *id) {
                Some(key) => assert_eq!(key.kek().unwrap(&id.to_string(), wrapped).unwrap().expose(), SEED),
                None => assert!(self.doomed.contains(id), "{id} is lost"),
            }
        }
        let primary = keyring.primary();
        let wrap = || primary.kek().wrap(&mut SysRng, &primary.id().to_string(), &seed()).unwrap();
        self.wrapped.entry(primary.id()).or_insert_with(wrap);
        self.check_daemon();
    }

    /// Checks that the served keyring is not newer than the one on the disk, whose keys open what the daemon wraps.
    fn check_daemon(&self) {
        let current = self.keys.current();
        let snapshot = current.as_ref().expect("a daemon never stops to serve");
        assert!(snapshot.generation() <= self.generation);
        let primary = snapshot.primary();
        let wrapped = primary.kek.wrap(&mut SysRng, &primary.id, &seed()).unwrap();
        let Opened { keyring, .. } = self.open();
        let key = keyring.keys().find(|key| key.id().to_string() == *primary.id);
        assert!(key.is_none_or(|key| key.kek().unwrap(&primary.id, &wrapped).unwrap().expose() == SEED));
    }
}

/// Starts a daemon on `dir`.
fn daemon(dir: &Dir) -> (Publisher, Arc<Published>) {
    let keys = Arc::new(Published::default());
    let mut publisher = Publisher::new(dir.path().to_owned(), Means::default(), None, Arc::clone(&keys));
    // If the daemon dies while it starts, the next one starts.
    while publisher.publish().is_err() {
        let _ = dying_after(usize::MAX, || ());
    }
    (publisher, keys)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn no_life_loses_a_key(life in life()) {
        let mut world = World::new();
        for (step, dies_after) in life {
            world.take(step, dies_after);
        }
        // A new daemon serves the keyring on the disk.
        world.take(Step::Restart, None);
        prop_assert_eq!(world.keys.current().as_ref().unwrap().generation(), world.generation);
    }
}

#[test]
fn a_change_that_dies_at_any_step_was_done_or_was_not() {
    for steps in 0..20 {
        let mut world = World::new();
        let before = world.generation;
        world.take(Step::Add, Some(steps));
        assert!(world.generation == before || world.generation == before + 1);
        world.take(Step::Add, None);
        world.take(Step::Promote(1), Some(steps));
        world.take(Step::Restart, None);
    }
}

#[test]
fn a_rekey_that_dies_at_any_step_is_finished_by_the_next() {
    for steps in 0..20 {
        let mut world = World::new();
        let before = world.open().keyring.root_id();
        world.take(Step::Rekey, Some(steps));
        world.take(Step::Follow, None);
        world.take(Step::Restart, None);
        let begun = world.open().is_being_rekeyed();
        let rekeyed = rekey(&world.dir, &Means::default()).unwrap();
        assert_eq!(rekeyed.resumed, begun, "after {steps} steps");
        let after = world.open();
        assert!(!after.is_being_rekeyed());
        assert_ne!(after.keyring.root_id(), before);
        world.take(Step::Add, None);
        world.check();
    }
}

#[test]
fn nothing_under_an_earlier_root_key_is_taken_once_the_rekey_is_done() {
    let world = World::new();
    let forged = std::fs::read(world.dir.path_of("keyring")).unwrap();
    rekey(&world.dir, &Means::default()).unwrap();
    world.dir.replace("keyring", &forged).unwrap();
    let error = open(&world.dir, &Means::default()).unwrap_err();
    assert!(error.to_string().ends_with("is under another root key"), "{error}");
    std::fs::remove_file(world.dir.path_of("mark")).unwrap();
    assert!(
        open_to_serve(StateFiles::new(&world.dir), &Means::default(), Served::default(), None).is_err(),
        "nor without a mark"
    );
}

#[test]
fn commands_at_once_wait_for_each_other() {
    let mut world = World::new();
    let path = world.dir.path().to_owned();
    let before = world.generation;
    let command = || {
        let dir = Dir::open(&path, Privacy::Private).unwrap();
        (0..5).filter(|_| add_key(&dir, &Means::default(), &[], now()).is_ok()).count()
    };
    let done: usize = thread::scope(|scope| {
        let commands = [(); 4].map(|()| scope.spawn(command));
        commands.into_iter().map(|command| command.join().unwrap()).sum()
    });
    assert_eq!(done, 20);
    assert_eq!(world.open().keyring.generation(), before + 20);
    world.check();
}

#[test]
fn who_only_reads_is_not_confused_by_a_command_beside_it() {
    let world = World::new();
    let path = world.dir.path().to_owned();
    let (stop, mut opened) = (AtomicBool::new(false), 0);
    thread::scope(|scope| {
        scope.spawn(|| {
            let dir = Dir::open(&path, Privacy::Private).unwrap();
            for _ in 0..40 {
                rekey(&dir, &Means::default()).unwrap();
                add_key(&dir, &Means::default(), &[], now()).unwrap();
            }
            stop.store(true, Ordering::Relaxed);
        });
        while !stop.load(Ordering::Relaxed) {
            world.open();
            opened += 1;
        }
    });
    assert!(opened > 10, "{opened}");
}
