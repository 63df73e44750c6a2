//! Sends malformed inputs of every kind, from several peers at a time. For a million inputs: `CLAVIGER_CAMPAIGN=1000000
//! cargo test --release --test integration campaign::hostile -- --ignored --nocapture`.

use std::{
    collections::BTreeMap,
    os::unix::net::SocketAddr,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Instant,
};

use tokio::runtime::Runtime;

use super::{
    calls::{self, Sample},
    exchange::{self, Answers},
    framing,
    good::{GoodClient, runtime},
    headers,
    random::Random,
    victim::Victim,
    wire,
};
use crate::campaign::{seed, size};

/// The number of inputs in the gate.
const GATE: u64 = 50_000;

/// The number of inputs of one kind in a turn. Then another kind has its turn.
const TURN: u64 = 32;

/// The number of peers at a time. Each has one or two of the daemon's sixteen places, and the good client has two.
const PEERS: usize = 4;

/// By how much the memory of the daemon may grow from the first tenth of the attack to its end.
const GROWTH_KIB: u64 = 8 * 1024;

/// The greatest length of the one line that the daemon may log for an input. The line repeats a refused
/// `grpc-encoding`, and the headers of a call end at 16 KiB.
const LINE: usize = 20 * 1024;

#[derive(Clone, Copy)]
enum Kind {
    Wire(wire::Kind),
    Call(calls::Kind),
}

impl Kind {
    fn all() -> Vec<Self> {
        let wire = framing::KINDS.into_iter().chain(headers::KINDS).map(Self::Wire);
        wire.chain(calls::KINDS.into_iter().map(Self::Call)).collect()
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Wire(kind) => kind.name,
            Self::Call(kind) => kind.name,
        }
    }
}

/// The state that all peers share.
struct Attack {
    address: SocketAddr,
    seed: u64,
    kinds: Vec<Kind>,
    sample: Sample,
    turn: AtomicU64,
    turns: AtomicU64,
    inputs: Mutex<BTreeMap<&'static str, u64>>,
    answers: Mutex<Answers>,
}

impl Attack {
    fn new(address: &SocketAddr, seed: u64) -> Self {
        Self {
            address: address.clone(),
            seed,
            kinds: Kind::all(),
            sample: Sample::ask(address),
            turn: AtomicU64::new(0),
            turns: AtomicU64::new(0),
            inputs: Mutex::default(),
            answers: Mutex::default(),
        }
    }

    /// Continues until `turns` turns have been taken in all.
    fn until(&self, turns: u64) {
        self.turns.store(turns, Ordering::Relaxed);
        thread::scope(|scope| {
            for _ in 0..PEERS {
                scope.spawn(|| self.take_turns());
            }
        });
    }

    fn take_turns(&self) {
        let (runtime, turns) = (runtime(), self.turns.load(Ordering::Relaxed));
        let next =
            || self.turn.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |turn| (turn < turns).then_some(turn + 1));
        while let Ok(turn) = next() {
            self.take_turn(&runtime, turn);
        }
    }

    /// Sends the inputs of a turn. The seed and the number of the turn decide them, whichever peer has the turn.
    fn take_turn(&self, runtime: &Runtime, turn: u64) {
        let mut random = Random::nth(self.seed, turn);
        let kind = self.kinds[usize::try_from(turn).unwrap() % self.kinds.len()];
        let address = &self.address;
        let outcome = match &kind {
            Kind::Wire(kind) => wire::send(address, kind, &mut random, TURN),
            Kind::Call(kind) => exchange::send(runtime, address, kind, &self.sample, (&mut random, TURN))
                .map(|answers| self.note(answers)),
        };
        outcome.unwrap_or_else(|wrong| panic!("turn {turn} of seed {}: {wrong}", self.seed));
        *self.inputs.lock().unwrap().entry(kind.name()).or_default() += TURN;
    }

    fn note(&self, answers: Answers) {
        let mut all = self.answers.lock().unwrap();
        for (answer, count) in answers {
            *all.entry(answer).or_default() += count;
        }
    }
}

#[test]
#[ignore = "campaign"]
fn malformed_inputs_harm_nobody() {
    let (seed, turns) = (seed(), size(GATE).div_ceil(TURN));
    let mut victim = Victim::on_path();
    let before = victim.vitals();
    let good = GoodClient::start(victim.address());
    let attack = Attack::new(victim.address(), seed);
    let start = Instant::now();
    // Each kind has had its turn before the memory counts as settled.
    attack.until((turns / 10).max(attack.kinds.len() as u64));
    let warm = victim.vitals();
    attack.until(turns);
    let (elapsed, report) = (start.elapsed(), good.finish());

    let after = victim.assert_unharmed(&before);
    let log = victim.log();
    let (inputs, answers) = (attack.inputs.into_inner().unwrap(), attack.answers.into_inner().unwrap());
    let count: u64 = inputs.values().sum();
    let rate = u128::from(count) * 1000 / elapsed.as_millis().max(1);
    println!("seed {seed}: {count} inputs in {elapsed:.1?}, {rate} a second");
    for (kind, count) in inputs {
        println!("{count:8}  {kind}");
    }
    for ((kind, code), count) in answers {
        println!("{count:8}  {kind} -> {code}");
    }
    println!("good client: {report:?}");
    println!("before: {before:?}; warm: {warm:?}; after: {after:?}");
    println!("log: {} lines, {} bytes, the longest has {}", log.lines, log.bytes, log.longest.len());
    assert!(count >= turns * TURN && report.fresh > 0);
    assert!(after.resident_kib <= warm.resident_kib + GROWTH_KIB, "memory grew: {warm:?}, then {after:?}");
    assert!(log.lines <= count + 100, "{} lines for {count} inputs", log.lines);
    assert!(log.longest.len() <= LINE, "a line of {} bytes: {}", log.longest.len(), log.longest);
}
