//! Explores rotations: every order in which API servers, plugins and the command can act, die and begin anew, while
//! nobody else changes the keyring.
//!
//! The model has nodes, each with a plugin and an API server, objects in etcd, and a command that does what
//! [`next`](super::next) says. Time passes in steps of 90 s. An API server writes under its seed for two steps (180 s)
//! after its last good Status, and a write that it has begun reaches etcd within a step. A real one takes less. What
//! must hold:
//!
//! - every plugin that runs reads every value in etcd;
//! - once a rotation is proven, no value is under another key than the primary one, whatever is still under way;
//! - no rotation is proven while a plugin serves a fork of the keyring;
//! - no key is promoted while a scan shows that an earlier rotation is unfinished, but in a compromise.
//!
//! The tests in `rotations` take out one rule each. Then the model checker finds an order that breaks one of these.

use std::{collections::BTreeSet, time::Duration};

use stateright::{Model, Property};

use crate::{
    crypto::Digest,
    keyring::{key_id::KeyId, state::State, testing::now},
};

use super::{
    next::next_by,
    progress::RotationProgress,
    rotation::{BeganAt, Phase, PlanId, RotationPlan},
    rules::Rules,
    step::{Action, NextStep},
    testing::{clean, connection, counted, key},
    world::{ClusterNow, KeyNow, NodeNow, RecordNow, Scanned, ServedNow, Ticks, Timeouts},
};

/// The length of a step of time. A write takes less: 60 s of `--request-timeout` and 20 s of delivery.
const STEP: Duration = Duration::from_secs(90);
/// The number of steps for which an API server writes under its seed after its last good Status.
const COASTING: u8 = 2;

/// The greatest number of steps that the model counts. Longer times make no difference.
const LONG: u8 = 4;

/// A record: its keys, each with its state. In a compromise, others may know every key but the newest.
type Keys = Vec<(u32, State)>;

/// A write that an API server has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct UnderWay {
    object: usize,
    key: u32,
}

/// An API server and the plugin beside it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Pair {
    /// The record that the plugin serves, by its number. `None` if the plugin is down.
    serves: Option<usize>,
    /// Whether the served record is a fork: the key of the plan was promoted on a copy of the keyring file, too.
    is_forked: bool,
    /// Whether the plugin follows changes of the keyring. A plugin with a copied keyring file does not.
    follows: bool,
    /// The key under which the API server writes.
    seed: u32,
    /// The number of steps since the last good Status.
    age: u8,
    /// The number of steps between the first and the last Status of an unbroken run: one key, no gap, no Encrypt.
    steady: Option<u8>,
    /// The number of steps for which the plugin has served its primary key.
    primary_for: u8,
    /// Whether the API server is paused. Its write may then reach etcd much later.
    is_frozen: bool,
    write: Option<UnderWay>,
}

/// The state of the model: all nodes, etcd, the records and the command.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct ModelCluster {
    now: u8,
    /// The key that each object is under.
    objects: Vec<u32>,
    pairs: Vec<Pair>,
    /// All records, the newest last.
    records: Vec<Keys>,
    plan: Option<RotationPlan>,
    /// The facts that the running command has seen. `None` if it does not run.
    progress: Option<RotationProgress>,
    crashes: u8,
    /// The record in the last backup. `None` if every key is in a backup.
    backup: Option<usize>,
    /// Whether a key was promoted although the last scan of the command had found values under other keys.
    is_early: bool,
}

/// An event of the model. The model checker tries every order of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum ModelEvent {
    /// A step of time passes: 90 s.
    Tick,
    /// The command does its next step.
    Go,
    /// The command makes a key, and dies before it notes that.
    AddAndDie,
    /// The command is killed.
    Die,
    /// The command is called again.
    Call,
    /// The plugin of this pair serves the newest record.
    Follow(usize),
    /// The plugin of this pair dies.
    Stop(usize),
    /// The API server of this pair asks its plugin, which announces the key of its seed.
    Status(usize),
    /// The API server of this pair adopts a new key.
    Adopt(usize),
    /// The API server of the first number begins to write the object of the second number.
    Begin(usize, usize),
    /// The write of this API server reaches etcd.
    Commit(usize),
    /// The write of this API server fails.
    Abort(usize),
    /// The plugin of this pair serves a fork, in which another command has promoted the key of the plan, too.
    Fork(usize),
    /// This API server is paused. It happens only in a compromise, whose end disables a key.
    Freeze(usize),
    /// This API server runs again after a pause.
    Thaw(usize),
    /// The plan is deleted or damaged, and the command dies.
    LosePlan,
    /// The disk is lost, and the keyring is restored from the last backup.
    Restore,
}

/// A mishap that may happen at any moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RotationMishap {
    /// A node serves a fork, until the promotion is published.
    Fork,
    /// The plan is lost.
    LostPlan,
    /// The disk is lost, so a key has to be backed up first.
    LostDisk,
}

/// The cluster that is explored, and the rules of the planner.
pub(super) struct Exploration {
    pub(super) rules: Rules,
    /// Whether others may know the first key.
    pub(super) is_compromise: bool,
    /// The mishap that may happen besides, if any.
    pub(super) mishap: Option<RotationMishap>,
    /// The number of nodes of the keyring.
    pub(super) nodes: usize,
    /// The number of API servers. Those beyond the nodes have a copy of the keyring file.
    pub(super) api_servers: usize,
    pub(super) objects: usize,
    pub(super) until: u8,
    pub(super) crashes: u8,
}

/// The SHA-256 of the record of a fork.
const FORK: Digest = Digest([255; 32]);

fn digest(number: usize) -> Digest {
    Digest([u8::try_from(number).unwrap(); 32])
}

fn primary(keys: &Keys) -> u32 {
    keys.iter().find(|(_, state)| *state == State::Primary).unwrap().0
}

impl Pair {
    fn ask_status(&mut self) {
        self.steady = Some(match self.steady {
            Some(steady) if self.age <= 1 => (steady + self.age).min(LONG),
            _ => 0,
        });
        self.age = 0;
    }
}

impl ModelCluster {
    fn keys(&self) -> &Keys {
        self.records.last().unwrap()
    }

    fn ticks(&self) -> Ticks {
        Ticks(STEP * u32::from(self.now))
    }

    /// Returns what the planner sees of this state of the model.
    fn world(&self, nodes: usize, is_compromise: bool) -> ClusterNow {
        let newest = self.records.len() - 1;
        let is_superseded = is_compromise && primary(self.keys()) > 1;
        let keys = self.keys().iter().map(|(seq, state)| KeyNow {
            id: key(*seq),
            state: *state,
            is_backed_up: self.backup.is_none_or(|record| self.records[record].iter().any(|(one, _)| one == seq)),
            is_compromised: is_superseded && *seq < primary(self.keys()),
        });
        let wanted = self.plan.as_ref().and_then(|plan| plan.key);
        let node = |(number, pair): (usize, &Pair)| NodeNow {
            name: number.to_string(),
            is_skipped: false,
            connections: vec![connection(
                Some(key(pair.seed)),
                STEP * u32::from(pair.steady.filter(|_| pair.age <= 1).unwrap_or(0)),
            )],
            serves: pair.serves.map(|record| ServedNow {
                record: if pair.is_forked { FORK } else { digest(record) },
                primary: key(primary(&self.records[record])),
                canary: wanted.filter(|wanted| self.records[record].iter().any(|(seq, _)| key(*seq) == *wanted)),
                primary_for: STEP * u32::from(pair.primary_for),
            }),
        };
        ClusterNow {
            now: self.ticks(),
            record: RecordNow {
                digest: digest(newest),
                past: (0..newest).rev().map(digest).collect(),
                keys: keys.collect(),
            },
            nodes: self.pairs.iter().take(nodes).enumerate().map(node).collect(),
            timeouts: Timeouts::default(),
            entries: 1,
            can_back_up: self.backup.is_some(),
            needs_no_backup: false,
            is_compromise,
        }
    }

    fn scan(&self, failed: u64, is_settled: bool) -> Scanned {
        let stale = self.objects.iter().filter(|under| **under != primary(self.keys())).count() as u64;
        let primary = key(primary(self.keys()));
        Scanned {
            primary,
            stale,
            under_other_keys: stale,
            in_need: stale,
            failed: failed.min(stale),
            is_settled,
            ..clean(self.ticks())
        }
    }

    fn is_proven(&self) -> bool {
        self.plan.as_ref().is_some_and(|plan| plan.phase == Phase::Done)
    }

    /// Whether the key of the plan is primary, and the plan does not say yet that every node serves it.
    fn is_promoted_and_not_published(&self) -> bool {
        self.plan.as_ref().is_some_and(|plan| {
            plan.key == Some(key(primary(self.keys()))) && matches!(plan.phase, Phase::Prepare | Phase::Promote)
        })
    }

    /// Carries out an action of the planner.
    fn act(&mut self, action: Action) {
        let Some(mut progress) = self.progress.take() else { return };
        let mut plan = self.plan.clone();
        match action {
            Action::Scan { is_settled } => progress.scanned = Some(self.scan(0, is_settled)),
            Action::Count => progress.counted = Some(counted(self.ticks(), self.pairs.len() as u64)),
            Action::Begin(aim) => {
                let record = digest(self.records.len() - 1);
                let newest = self.keys().iter().map(|(seq, _)| *seq).max().unwrap();
                plan =
                    Some(RotationPlan::begin(PlanId([0; 16]), BeganAt { record, newest }, aim, BTreeSet::new(), now()));
            }
            Action::Add => plan.as_mut().unwrap().key = Some(self.add()),
            Action::Take(key) => plan.as_mut().unwrap().key = Some(key),
            Action::BackUp(_) => self.backup = Some(self.records.len() - 1),
            Action::Promote(promoted) => {
                let is_compromise = plan.as_ref().is_some_and(|plan| plan.is_compromise);
                let has_found = progress.scanned.is_some_and(|scanned| scanned.under_other_keys > 0);
                self.is_early |= has_found && !is_compromise;
                self.promote(promoted);
            }
            Action::Disable(disabled) => self.change(disabled, State::Disabled),
            Action::Promoted => plan.as_mut().unwrap().phase = Phase::Promote,
            Action::Published => {
                progress.see_published(plan.as_ref().and_then(|plan| plan.key).unwrap(), self.ticks());
                plan.as_mut().unwrap().phase = Phase::Sweep;
                progress.scanned = None;
            }
            Action::Rewrite => {
                self.rewrite();
                progress.scanned = Some(self.scan(u64::MAX, false));
            }
            Action::Finish => {
                let scanned = self.scan(0, false);
                if scanned.stale == 0 {
                    plan.as_mut().unwrap().phase = Phase::Done;
                }
                progress.scanned = Some(scanned);
            }
        }
        (self.plan, self.progress) = (plan, Some(progress));
    }

    /// Adds a pending key to the keyring, in a new record.
    fn add(&mut self) -> KeyId {
        let seq = self.keys().iter().map(|(seq, _)| *seq).max().unwrap() + 1;
        let mut keys = self.keys().clone();
        keys.push((seq, State::Pending));
        self.records.push(keys);
        key(seq)
    }

    fn change(&mut self, changed: KeyId, state: State) {
        let states = self.keys().iter().map(|(seq, before)| (*seq, if key(*seq) == changed { state } else { *before }));
        let states = states.collect();
        self.records.push(states);
    }

    fn promote(&mut self, promoted: KeyId) {
        let state = |seq: u32, state: State| match state {
            _ if key(seq) == promoted => State::Primary,
            State::Primary => State::DecryptOnly,
            state => state,
        };
        self.records.push(self.keys().iter().map(|(seq, before)| (*seq, state(*seq, *before))).collect());
    }

    /// Restores the last backup. Its newest key becomes primary, because it may have been promoted since.
    fn restore(&mut self) {
        let Some(backup) = self.backup else { return };
        let newest = self.records[backup].iter().map(|(seq, _)| *seq).max().unwrap();
        let state = |seq: u32| if seq == newest { State::Primary } else { State::DecryptOnly };
        self.records.push(self.records[backup].iter().map(|(seq, _)| (*seq, state(*seq))).collect());
        self.pairs.iter_mut().for_each(|pair| (pair.serves, pair.steady) = (None, None));
        (self.plan, self.progress, self.crashes) = (None, None, self.crashes + 1);
    }

    /// Makes the first API server write the stale objects under the key of its seed.
    fn rewrite(&mut self) {
        let pair = &self.pairs[0];
        if pair.age <= COASTING {
            let (seed, wanted) = (pair.seed, primary(self.keys()));
            self.objects.iter_mut().filter(|under| **under != wanted).for_each(|under| *under = seed);
        }
    }

    /// Lets a plugin serve a fork, in which another command has promoted the key of the plan, too.
    fn fork(&mut self, number: usize) {
        let newest = self.records.len() - 1;
        (self.pairs[number].serves, self.pairs[number].is_forked) = (Some(newest), true);
        self.crashes += 1;
    }

    /// Ends a plugin.
    fn stop(&mut self, number: usize) {
        let pair = &mut self.pairs[number];
        (pair.serves, pair.steady, pair.is_forked) = (None, None, false);
        self.crashes += 1;
    }

    /// Lets a plugin take up the newest record that it can see.
    fn follow(&mut self, number: usize) {
        let newest = if self.pairs[number].follows { self.records.len() - 1 } else { 0 };
        let pair = &mut self.pairs[number];
        let serves = |record: usize| primary(&self.records[record]);
        if pair.serves.map(serves) != Some(serves(newest)) {
            pair.primary_for = 0;
        }
        (pair.serves, pair.is_forked) = (Some(newest), false);
    }

    /// Lets time pass. Only a compromise asks how steady a connection is.
    fn tick(&mut self, is_compromise: bool) {
        self.now += 1;
        for pair in &mut self.pairs {
            pair.age = pair.age.saturating_add(1).min(COASTING + 1);
            if is_compromise {
                pair.primary_for = (pair.primary_for + 1).min(LONG);
            }
        }
    }
}

impl Exploration {
    /// Adds what can happen next to one API server and its plugin.
    fn pair_actions(&self, state: &ModelCluster, number: usize, events: &mut Vec<ModelEvent>) {
        let (pair, newest) = (&state.pairs[number], state.records.len() - 1);
        let may_crash = state.crashes < self.crashes;
        if self.mishap == Some(RotationMishap::Fork) && may_crash && state.is_promoted_and_not_published() {
            events.push(ModelEvent::Fork(number));
        }
        if pair.is_frozen {
            events.push(ModelEvent::Thaw(number));
        } else if self.is_compromise && may_crash {
            events.push(ModelEvent::Freeze(number));
        }
        if pair.serves.is_none() || pair.follows && (pair.is_forked || pair.serves != Some(newest)) {
            events.push(ModelEvent::Follow(number));
        }
        if let Some(record) = pair.serves {
            let announced = primary(&state.records[record]);
            if pair.is_frozen {
                // The paused API server sends no Status.
            } else if announced != pair.seed {
                events.push(ModelEvent::Adopt(number));
            } else if pair.age > 0 {
                events.push(ModelEvent::Status(number));
            }
            if may_crash {
                events.push(ModelEvent::Stop(number));
            }
        }
        match pair.write {
            _ if pair.is_frozen => {}
            None if pair.age <= COASTING => {
                events.extend((0..self.objects).map(|object| ModelEvent::Begin(number, object)));
            }
            None => {}
            Some(_) => events.extend([ModelEvent::Commit(number), ModelEvent::Abort(number)]),
        }
    }
}

impl Model for Exploration {
    type State = ModelCluster;
    type Action = ModelEvent;

    fn init_states(&self) -> Vec<ModelCluster> {
        let pair = |number| Pair {
            serves: Some(0),
            is_forked: false,
            follows: number < self.nodes,
            seed: 1,
            age: 0,
            steady: None,
            primary_for: 0,
            is_frozen: false,
            write: None,
        };
        vec![ModelCluster {
            now: 0,
            objects: vec![1; self.objects],
            pairs: (0..self.api_servers).map(pair).collect(),
            records: vec![vec![(1, State::Primary)]],
            plan: None,
            progress: Some(RotationProgress::default()),
            crashes: 0,
            backup: (self.mishap == Some(RotationMishap::LostDisk)).then_some(0),
            is_early: false,
        }]
    }

    fn actions(&self, state: &ModelCluster, events: &mut Vec<ModelEvent>) {
        let may_crash = state.crashes < self.crashes;
        if state.now < self.until && state.pairs.iter().all(|pair| pair.write.is_none() || pair.is_frozen) {
            events.push(ModelEvent::Tick);
        }
        match &state.progress {
            Some(progress) if !state.is_proven() => {
                let step =
                    next_by(self.rules, &state.world(self.nodes, self.is_compromise), state.plan.as_ref(), progress);
                if let NextStep::Do(action) = step {
                    events.push(ModelEvent::Go);
                    if action == Action::Add && may_crash {
                        events.push(ModelEvent::AddAndDie);
                    }
                }
                if may_crash {
                    events.push(ModelEvent::Die);
                }
            }
            Some(_) => {}
            None => events.push(ModelEvent::Call),
        }
        match self.mishap.filter(|_| may_crash) {
            Some(RotationMishap::LostPlan) if state.plan.is_some() => events.push(ModelEvent::LosePlan),
            Some(RotationMishap::LostDisk) => events.push(ModelEvent::Restore),
            _ => {}
        }
        for number in 0..state.pairs.len() {
            self.pair_actions(state, number, events);
        }
    }

    fn next_state(&self, last: &ModelCluster, event: ModelEvent) -> Option<ModelCluster> {
        let mut state = last.clone();
        match event {
            ModelEvent::Tick => state.tick(self.is_compromise),
            ModelEvent::Go => {
                let progress = state.progress.as_ref()?;
                let step =
                    next_by(self.rules, &state.world(self.nodes, self.is_compromise), state.plan.as_ref(), progress);
                let NextStep::Do(action) = step else { return None };
                state.act(action);
            }
            ModelEvent::AddAndDie => {
                state.add();
                (state.progress, state.crashes) = (None, state.crashes + 1);
            }
            ModelEvent::Die => (state.progress, state.crashes) = (None, state.crashes + 1),
            ModelEvent::Call => state.progress = Some(RotationProgress::default()),
            ModelEvent::Follow(number) => state.follow(number),
            ModelEvent::Fork(number) => state.fork(number),
            ModelEvent::Stop(number) => state.stop(number),
            ModelEvent::Status(number) if self.is_compromise => state.pairs[number].ask_status(),
            ModelEvent::Status(number) => state.pairs[number].age = 0,
            ModelEvent::Adopt(number) => {
                let announced = primary(&state.records[state.pairs[number].serves?]);
                let pair = &mut state.pairs[number];
                (pair.seed, pair.age, pair.steady) = (announced, 0, None);
            }
            ModelEvent::Begin(number, object) => {
                let key = state.pairs[number].seed;
                state.pairs[number].write = Some(UnderWay { object, key });
            }
            ModelEvent::Commit(number) => {
                let write = state.pairs[number].write.take()?;
                state.objects[write.object] = write.key;
            }
            ModelEvent::Abort(number) => state.pairs[number].write = None,
            ModelEvent::Freeze(number) => {
                state.pairs[number].is_frozen = true;
                state.crashes += 1;
            }
            ModelEvent::Thaw(number) => state.pairs[number].is_frozen = false,
            ModelEvent::LosePlan => (state.plan, state.progress, state.crashes) = (None, None, state.crashes + 1),
            ModelEvent::Restore => state.restore(),
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(READABLE, |_, state: &ModelCluster| {
                let reads = |record: usize| {
                    let unwraps =
                        |under: &u32| state.records[record].iter().any(|(seq, key)| seq == under && key.unwraps());
                    state.objects.iter().all(unwraps)
                };
                state.pairs.iter().filter_map(|pair| pair.serves).all(reads)
            }),
            Property::always(PROVEN, |_, state: &ModelCluster| {
                !state.is_proven() || state.objects.iter().all(|under| *under == primary(state.keys()))
            }),
            Property::always(GIVEN_UP, |model: &Self, state: &ModelCluster| {
                let unwraps = |(seq, key): &(u32, State)| *seq < primary(state.keys()) && key.unwraps();
                !(model.is_compromise && state.is_proven() && state.keys().iter().any(unwraps))
            }),
            Property::always(CHAINED, |_, state: &ModelCluster| {
                !state.is_proven() || state.pairs.iter().all(|pair| !pair.is_forked)
            }),
            Property::always(ORDERLY, |_, state: &ModelCluster| !state.is_early),
            Property::sometimes(ENDS, |_, state: &ModelCluster| state.is_proven()),
        ]
    }
}

pub(super) const READABLE: &str = "every plugin that runs reads every value";
pub(super) const PROVEN: &str = "what is proven stays so";
pub(super) const CHAINED: &str = "nothing is proven while a plugin serves a fork";
const GIVEN_UP: &str = "after a compromise, no old key unwraps";
pub(super) const ORDERLY: &str = "an earlier rotation is finished before a key is promoted";
const ENDS: &str = "a rotation ends";
