//! Explores how a key is given up: first it is disabled, then it is destroyed.
//!
//! It begins when key 2 has just been promoted over key 1. API servers write under their seeds, adopt the new key,
//! coast, freeze with a write under way, and lose their plugin. etcd may be restored from a snapshot that the ledger
//! lists, with a value under key 1. Meanwhile the command does what [`retire`](super::retire()) says. Time passes in
//! steps of 90 s. What must hold:
//!
//! - no plugin refuses the key of a value that an API server wrote;
//! - no value is under a destroyed key;
//! - no client can read etcd at an older revision at which a value needs a destroyed key.

use std::time::Duration;

use stateright::{Model, Property};

use crate::{
    crypto::Digest,
    keyring::{state::State, unused::EtcdRevision},
};

use super::{
    checking::{breaks, explored, holds},
    retire::{History, KeyScan, RetireProgress, RetireStep, retire_by},
    rules::{Rule, Rules},
    testing::{connection, counted, key},
    world::{ClusterNow, ConnectionNow, KeyNow, NodeNow, RecordNow, ServedNow, Ticks, Timeouts},
};

/// The length of a step of time. A write takes less.
const STEP: Duration = Duration::from_secs(90);
/// The number of steps for which an API server writes under its seed after its last good Status.
const COASTING: u8 = 2;
/// The number of steps without a Status after which a connection counts as dead. An unbroken run of Status has no
/// longer gap.
const ALIVE: u8 = 1;
/// The greatest number of steps that the model counts. Longer times make no difference.
const LONG: u8 = 4;

/// The number of each record, in their order.
const BEFORE: u8 = 0;
const PROMOTED: u8 = 1;
const DISABLED: u8 = 2;
const DESTROYED: u8 = 3;

/// Returns the state of key 1 in each record. `None` once it is destroyed.
fn first_key(record: u8) -> Option<State> {
    [Some(State::Primary), Some(State::DecryptOnly), Some(State::Disabled), None][usize::from(record)]
}

fn primary(record: u8) -> u32 {
    if record == BEFORE { 1 } else { 2 }
}

/// A write that an API server has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct LateWrite {
    key: u32,
    /// Whether the API server was paused after it began the write. Then the write ends as soon as the API server runs
    /// again.
    is_stuck: bool,
}

/// An API server and the plugin beside it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct RetirePair {
    /// The record that the plugin serves. `None` if the plugin is down.
    serves: Option<u8>,
    /// The number of steps for which the plugin has served its primary key.
    primary_for: u8,
    /// Whether the plugin follows changes of the keyring. A plugin with a copied keyring file does not.
    follows: bool,
    /// The key under which the API server writes.
    seed: u32,
    /// The number of steps since the last good Status.
    age: u8,
    /// Whether the last good Status came over the present connection.
    is_connected: bool,
    /// The number of steps between the first and the last Status of an unbroken run: one key, no gap, no Encrypt.
    steady: Option<u8>,
    is_frozen: bool,
    write: Option<LateWrite>,
}

impl RetirePair {
    fn is_open(&self) -> bool {
        self.serves.is_some() && self.is_connected
    }

    /// Makes the plugin serve `record` from now on.
    fn follow(&mut self, record: u8) {
        if self.serves.map(primary) != Some(primary(record)) {
            self.primary_for = 0;
        }
        self.serves = Some(record);
    }

    fn ask_status(&mut self) {
        self.steady = Some(match self.steady {
            Some(steady) if self.is_connected && self.age <= ALIVE => (steady + self.age).min(LONG),
            _ => 0,
        });
        (self.age, self.is_connected) = (0, true);
    }

    /// Status announces another key, and Encrypt is answered with it.
    fn adopt(&mut self, announced: u32) {
        (self.seed, self.age, self.is_connected, self.steady) = (announced, 0, true, None);
    }

    fn tick(&mut self) {
        self.age = (self.age + 1).min(COASTING + 1);
        self.primary_for = (self.primary_for + 1).min(LONG);
        if let Some(write) = &mut self.write {
            write.is_stuck = true;
        }
    }
}

/// The older revisions that etcd still has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
struct Older {
    /// Whether a value at one of these revisions needs key 1.
    needs_first: bool,
    /// Whether a value at a revision after the noted one needs key 1.
    needs_first_since: bool,
    noted: Noted,
}

/// The revision in the ledger at which no value needs key 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
enum Noted {
    /// The ledger notes no revision.
    #[default]
    No,
    /// The ledger notes a revision, and etcd still has older ones.
    Kept,
    /// The ledger notes a revision, and etcd has compacted the older ones.
    Compacted,
}

impl Older {
    /// Notes that a value has needed key 1 up to now.
    fn see_first(&mut self) {
        self.needs_first = true;
        self.needs_first_since |= self.noted != Noted::No;
    }

    /// Notes the present revision in the ledger. Nothing needs key 1 there.
    fn note(&mut self) {
        (self.noted, self.needs_first_since) = (Noted::Kept, false);
    }

    /// Compacts the revisions before the noted one, or before the present one if the ledger notes none.
    fn compact(&mut self) {
        if self.noted == Noted::Kept {
            self.noted = Noted::Compacted;
        }
        self.needs_first = self.needs_first_since;
    }
}

/// The state of the model: all nodes, etcd, the records and the command.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct RetireCluster {
    now: u8,
    newest: u8,
    /// The key that the value in etcd is under. `None` if there is no value.
    value: Option<u32>,
    pairs: Vec<RetirePair>,
    /// Whether the ledger lists a snapshot of etcd with a value under key 1.
    has_snapshot: bool,
    is_restored: bool,
    /// The older revisions that etcd still has.
    older: Older,
    /// The facts that the running command has seen. `None` if it does not run.
    progress: Option<RetireProgress>,
    crashes: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum RetireEvent {
    /// A step of time passes: 90 s.
    Tick,
    /// The command does its next step.
    Go,
    /// The command is killed.
    Die,
    /// The command is called, first to disable key 1, then to destroy it.
    Call,
    /// The plugin of this pair serves the newest record.
    Follow(usize),
    /// The plugin of this pair dies.
    Stop(usize),
    /// The API server of this pair asks its plugin, which announces the key of its seed.
    Status(usize),
    /// The API server of this pair adopts a new key.
    Adopt(usize),
    /// The API server of this pair begins a write.
    Begin(usize),
    /// The write of this API server reaches etcd.
    Commit(usize),
    /// The write of this API server fails.
    Abort(usize),
    /// This API server is paused.
    Freeze(usize),
    /// This API server runs again after a pause.
    Thaw(usize),
    /// etcd is restored from the listed snapshot, and gets a new cluster number.
    Restore,
    /// The snapshot is deleted, and removed from the ledger.
    Forget,
    /// The API server compacts etcd.
    Compact,
    /// The ledger loses the note about key 1.
    LoseNote,
}

struct RetireExploration {
    rules: Rules,
    /// The number of API servers. All but the first have a copy of the keyring file.
    api_servers: usize,
    has_snapshot: bool,
    until: u8,
    crashes: u8,
}

fn digest(record: u8) -> Digest {
    Digest([record; 32])
}

impl RetireCluster {
    fn ticks(&self) -> Ticks {
        Ticks(STEP * u32::from(self.now))
    }

    /// Returns what the planner sees of this state of the model.
    fn world(&self) -> ClusterNow {
        let newest = self.newest;
        let state = |seq, state| KeyNow { id: key(seq), state, is_backed_up: true, is_compromised: false };
        let second = if newest == BEFORE { State::Pending } else { State::Primary };
        let first = first_key(newest).map(|first| state(1, first));
        let keys = first.into_iter().chain([state(2, second)]).collect();
        let pair = &self.pairs[0];
        let steady = pair.steady.filter(|_| pair.age <= ALIVE).unwrap_or(0);
        let connection = connection(Some(key(pair.seed)), STEP * u32::from(steady));
        let connection = ConnectionNow { is_alive: pair.age <= ALIVE, ..connection };
        let node = NodeNow {
            name: "a".to_owned(),
            is_skipped: false,
            serves: pair.serves.map(|record| ServedNow {
                record: digest(record),
                primary: key(primary(record)),
                canary: None,
                primary_for: STEP * u32::from(pair.primary_for),
            }),
            connections: pair.is_open().then_some(connection).into_iter().collect(),
        };
        ClusterNow {
            now: self.ticks(),
            record: RecordNow { digest: digest(newest), past: (0..newest).rev().map(digest).collect(), keys },
            nodes: vec![node],
            timeouts: Timeouts::default(),
            entries: 1,
            can_back_up: false,
            needs_no_backup: false,
            is_compromise: false,
        }
    }

    fn step(&self, rules: Rules) -> Option<RetireStep> {
        Some(retire_by(rules, &self.world(), &self.progress()?))
    }

    /// Returns the facts that the command sees. It asks the ledger and etcd anew each time.
    fn progress(&self) -> Option<RetireProgress> {
        let history = match self.older.noted {
            Noted::No => History::Unnoted,
            Noted::Kept => History::Kept(EtcdRevision { etcd: String::new(), revision: 1 }),
            Noted::Compacted => History::Compacted,
        };
        let history = (self.newest == DISABLED).then_some(history);
        self.progress.clone().map(|progress| RetireProgress { history, ..progress })
    }

    /// Carries out a step of the planner.
    fn act(&mut self, step: &RetireStep) {
        let (at, count) = (self.ticks(), self.pairs.len() as u64);
        let objects = u64::from(self.value == Some(1));
        let Some(progress) = &mut self.progress else { return };
        match step {
            RetireStep::Scan { is_proof } => {
                progress.scanned = Some(KeyScan { record: digest(self.newest), objects, is_proof: *is_proof });
            }
            RetireStep::Count => progress.counted = Some(counted(at, count)),
            RetireStep::Note => self.older.note(),
            RetireStep::Retire => {
                self.newest += 1;
                self.progress = None;
                if self.newest == DISABLED {
                    self.older.note();
                }
            }
            other => unreachable!("{other:?}"),
        }
    }

    fn may_tick(&self) -> bool {
        self.pairs.iter().all(|pair| pair.is_frozen || pair.write.is_none())
    }

    /// Returns the events that can happen to a pair in this state.
    fn pair_events(&self, number: usize, may_crash: bool) -> Vec<RetireEvent> {
        let pair = &self.pairs[number];
        let mut events = Vec::new();
        if pair.serves.is_none() || pair.follows && pair.serves != Some(self.newest) {
            events.push(RetireEvent::Follow(number));
        }
        if pair.serves.is_some() && may_crash {
            events.push(RetireEvent::Stop(number));
        }
        if pair.is_frozen {
            events.push(RetireEvent::Thaw(number));
            return events;
        }
        let is_stuck = pair.write.is_some_and(|write| write.is_stuck);
        if let Some(record) = pair.serves.filter(|_| !is_stuck) {
            let is_told = primary(record) == pair.seed;
            events.push(if is_told { RetireEvent::Status(number) } else { RetireEvent::Adopt(number) });
        }
        match pair.write {
            None if pair.age <= COASTING => events.push(RetireEvent::Begin(number)),
            None => {}
            Some(_) => events.extend([RetireEvent::Commit(number), RetireEvent::Abort(number)]),
        }
        if pair.write.is_some() && !is_stuck {
            events.push(RetireEvent::Freeze(number));
        }
        events
    }

    fn happen(&mut self, event: RetireEvent) {
        match event {
            RetireEvent::Tick => {
                self.now += 1;
                self.pairs.iter_mut().for_each(RetirePair::tick);
            }
            RetireEvent::Go => {}
            RetireEvent::Die => (self.progress, self.crashes) = (None, self.crashes + 1),
            RetireEvent::Call => {
                // A disabled key can be enabled again, so only a destroyed key is missed.
                let listed = u64::from(self.has_snapshot && self.newest == DISABLED);
                self.progress = Some(RetireProgress { listed, ..RetireProgress::default() });
            }
            RetireEvent::Follow(number) => {
                let newest = if self.pairs[number].follows { self.newest } else { BEFORE };
                self.pairs[number].follow(newest);
            }
            RetireEvent::Stop(number) => {
                let pair = &mut self.pairs[number];
                (pair.serves, pair.is_connected, pair.steady) = (None, false, None);
                self.crashes += 1;
            }
            RetireEvent::Status(number) => self.pairs[number].ask_status(),
            RetireEvent::Adopt(number) => {
                let pair = &mut self.pairs[number];
                if let Some(record) = pair.serves {
                    pair.adopt(primary(record));
                }
            }
            RetireEvent::Begin(number) => {
                let pair = &mut self.pairs[number];
                pair.write = Some(LateWrite { key: pair.seed, is_stuck: false });
            }
            RetireEvent::Commit(number) => {
                if let Some(write) = self.pairs[number].write.take() {
                    (self.value, self.is_restored) = (Some(write.key), false);
                    if write.key == 1 {
                        self.older.see_first();
                    }
                }
            }
            RetireEvent::Abort(number) => self.pairs[number].write = None,
            RetireEvent::Freeze(number) => self.pairs[number].is_frozen = true,
            RetireEvent::Thaw(number) => self.pairs[number].is_frozen = false,
            RetireEvent::Restore => {
                (self.value, self.is_restored) = (Some(1), true);
                // The restored etcd has another cluster number, so the ledger notes nothing about it.
                self.older = Older { needs_first: true, ..Older::default() };
            }
            RetireEvent::Forget => self.has_snapshot = false,
            RetireEvent::Compact => self.older.compact(),
            RetireEvent::LoseNote => self.older.noted = Noted::No,
        }
    }
}

impl Model for RetireExploration {
    type State = RetireCluster;
    type Action = RetireEvent;

    fn init_states(&self) -> Vec<RetireCluster> {
        let pair = |number| RetirePair {
            serves: Some(BEFORE),
            primary_for: LONG,
            follows: number == 0,
            seed: 1,
            age: 0,
            is_connected: true,
            steady: Some(LONG),
            is_frozen: false,
            write: None,
        };
        vec![RetireCluster {
            now: 0,
            newest: PROMOTED,
            value: None,
            pairs: (0..self.api_servers).map(pair).collect(),
            has_snapshot: self.has_snapshot,
            is_restored: false,
            older: Older::default(),
            progress: None,
            crashes: 0,
        }]
    }

    fn actions(&self, state: &RetireCluster, events: &mut Vec<RetireEvent>) {
        let may_crash = state.crashes < self.crashes;
        if state.now < self.until && state.may_tick() {
            events.push(RetireEvent::Tick);
        }
        match state.step(self.rules) {
            Some(RetireStep::Scan { .. } | RetireStep::Count | RetireStep::Note | RetireStep::Retire) => {
                events.push(RetireEvent::Go);
            }
            // The planner has told the command to stop.
            Some(RetireStep::Needed(_) | RetireStep::Listed(_) | RetireStep::Refuse(_)) => {
                events.push(RetireEvent::Call);
            }
            None if state.newest < DESTROYED => events.push(RetireEvent::Call),
            Some(RetireStep::Wait(_)) | None => {}
        }
        if state.progress.is_some() && may_crash {
            events.push(RetireEvent::Die);
        }
        let Older { needs_first, noted, .. } = state.older;
        if needs_first && state.value != Some(1) || noted == Noted::Kept {
            events.push(RetireEvent::Compact);
        }
        if noted != Noted::No && may_crash && state.newest == DISABLED {
            events.push(RetireEvent::LoseNote);
        }
        if state.has_snapshot {
            events.extend([RetireEvent::Restore, RetireEvent::Forget]);
        }
        for number in 0..state.pairs.len() {
            events.extend(state.pair_events(number, may_crash));
        }
    }

    fn next_state(&self, last: &RetireCluster, event: RetireEvent) -> Option<RetireCluster> {
        let mut state = last.clone();
        if event == RetireEvent::Go {
            state.act(&last.step(self.rules)?);
        }
        state.happen(event);
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(READABLE, |_, state: &RetireCluster| {
                let refuses = |record: u8| state.value == Some(1) && !first_key(record).is_some_and(State::unwraps);
                state.is_restored || !state.pairs.iter().filter_map(|pair| pair.serves).any(refuses)
            }),
            Property::always(KEPT, |_, state: &RetireCluster| state.value != Some(1) || state.newest != DESTROYED),
            Property::always(LISTED, |_, state: &RetireCluster| !state.older.needs_first || state.newest != DESTROYED),
            Property::sometimes(ENDS, |_, state: &RetireCluster| state.newest == DESTROYED),
        ]
    }
}

const READABLE: &str = "no plugin refuses the key of a value that was written";
const KEPT: &str = "no value is under a destroyed key";
const LISTED: &str = "no older revision that etcd has needs a destroyed key";
const ENDS: &str = "a key is destroyed";

fn one(rules: Rules) -> RetireExploration {
    RetireExploration { rules, api_servers: 1, has_snapshot: false, until: 8, crashes: 2 }
}

fn with_snapshot(rules: Rules) -> RetireExploration {
    RetireExploration { has_snapshot: true, until: 6, crashes: 0, ..one(rules) }
}

fn with_a_copy(rules: Rules) -> RetireExploration {
    RetireExploration { api_servers: 2, until: 4, crashes: 0, ..one(rules) }
}

#[test]
fn a_key_is_given_up_whatever_dies_or_is_paused() {
    holds(one(Rules::default()), 100_000);
}

#[test]
fn a_restored_snapshot_finds_its_keys() {
    holds(with_snapshot(Rules::default()), 10_000);
}

#[test]
fn without_adoption_a_write_comes_late() {
    breaks(one(Rules::without(Rule::Settle)), READABLE);
}

#[test]
fn without_the_count_another_api_server_writes_under_the_old_key() {
    let counted = explored(with_a_copy(Rules::default()));
    assert_eq!((counted.broken, counted.ends), (Vec::new(), false), "it is refused");
    breaks(with_a_copy(Rules::without(Rule::Count)), READABLE);
}

#[test]
fn without_a_scan_values_are_lost() {
    breaks(one(Rules::without(Rule::Scan)), KEPT);
}

#[test]
fn without_the_ledger_a_restored_snapshot_is_lost() {
    breaks(with_snapshot(Rules::without(Rule::Ledger)), KEPT);
}

#[test]
fn without_the_compaction_a_list_at_an_older_revision_fails() {
    breaks(one(Rules::without(Rule::Compaction)), LISTED);
}
