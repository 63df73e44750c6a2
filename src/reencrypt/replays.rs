//! Tests sweeps against a model of an API server that answers wrongly, late or never, with crashes at any step.
//! Invariant: whatever happened before, sweeps of a healthy API server leave nothing stale.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use proptest::prelude::*;
use tokio::time::Instant;

use super::{
    pace::RequestPace,
    stale::{StaleBatch, StaleObject},
    state::{ATTEMPTS, Answered, Attempt, Patience, SweepEnd, SweepFailure, SweepOutcome, SweepState},
};
use crate::apiclient::{ObjectAnswer, RewriteAnswer, ServedResource, Unanswered};

/// The greatest number of requests that a sweep may have under way.
const MOST: usize = 64;

/// A sweep of so few objects that takes more steps never ends.
const STEPS: usize = 100_000;

/// The reaction of the API server to one request.
#[derive(Debug, Clone, Copy)]
enum Deed {
    /// The API server rewrites a stale object, and answers.
    Rewrite,
    /// The API server rewrites a stale object, and the answer is lost.
    RewriteUnheard,
    /// The API server has not adopted the key, and answers with the object unchanged.
    Repeat,
    /// Somebody else writes the object at the same moment.
    Conflict,
    /// Somebody else removes the object first.
    Remove,
    Busy(u8),
    Lose,
    Deny,
    Refuse,
}

/// An object in etcd.
#[derive(Debug, Clone, Copy)]
struct Stored {
    revision: u64,
    is_stale: bool,
}

/// An etcd with its API server, as a model.
#[derive(Debug)]
struct ReplayCluster {
    objects: BTreeMap<u8, Stored>,
    revision: u64,
    deeds: Vec<Deed>,
}

impl ReplayCluster {
    fn new(count: u8, mut deeds: Vec<Deed>) -> Self {
        deeds.reverse();
        let objects = (0..count).map(|name| (name, Stored { revision: u64::from(name) + 1, is_stale: true })).collect();
        Self { objects, revision: 1000, deeds }
    }

    fn stale(&self) -> StaleBatch {
        let stale = self.objects.iter().filter(|(_, stored)| stored.is_stale);
        stale.map(|(name, stored)| StaleObject { key: [*name].into(), mod_revision: stored.revision }).collect()
    }

    /// Whether etcd still has the object at the revision that a scan has found.
    fn has(&self, object: &StaleObject) -> bool {
        self.objects.get(&object.key[0]).is_some_and(|stored| stored.revision == object.mod_revision)
    }

    fn write(&mut self, name: u8) {
        self.revision += 1;
        let revision = self.revision;
        self.objects.entry(name).and_modify(|stored| *stored = Stored { revision, is_stale: false });
    }

    /// Carries out the next deed on the object, and answers. If no deed is left, the API server is healthy.
    fn answer(&mut self, object: &StaleObject) -> RewriteAnswer {
        let (name, deed) = (object.key[0], self.deeds.pop().unwrap_or(Deed::Rewrite));
        let is_stale = self.objects.get(&name).is_some_and(|stored| stored.is_stale);
        match deed {
            Deed::Rewrite | Deed::RewriteUnheard if is_stale => self.write(name),
            Deed::Conflict => self.write(name),
            Deed::Remove => drop(self.objects.remove(&name)),
            _ => {}
        }
        match deed {
            Deed::RewriteUnheard | Deed::Lose => RewriteAnswer::Unanswered(Unanswered::Unreachable("reset".to_owned())),
            Deed::Conflict => RewriteAnswer::Object(ObjectAnswer::Conflict),
            Deed::Busy(seconds) => RewriteAnswer::Unanswered(Unanswered::Busy {
                wait: Some(Duration::from_secs(seconds.into())),
                reason: "full".to_owned(),
            }),
            Deed::Deny => RewriteAnswer::Object(ObjectAnswer::Denied("not you".to_owned())),
            Deed::Refuse => RewriteAnswer::Object(ObjectAnswer::Refused("no".to_owned())),
            Deed::Rewrite | Deed::Repeat | Deed::Remove => {
                self.objects.get(&name).map_or(RewriteAnswer::Object(ObjectAnswer::Gone), |stored| {
                    RewriteAnswer::Object(ObjectAnswer::At(stored.revision))
                })
            }
        }
    }
}

/// A sweep that has begun, in the model.
struct Replay {
    state: SweepState,
    batches: Vec<StaleBatch>,
    under_way: Vec<Attempt>,
    now: Instant,
    /// The number of answers with a new revision of the object.
    written: u64,
    /// The number of conflicts and busy answers for each object.
    tried: BTreeMap<u8, u32>,
}

impl Replay {
    fn begin(cluster: &ReplayCluster, batch: usize) -> Self {
        let mut batches: Vec<StaleBatch> = cluster.stale().chunks(batch).map(<[_]>::to_vec).collect();
        batches.reverse();
        let now = Instant::now();
        let state = SweepState::new(RequestPace::new(None, now), Patience::default());
        Self { state, batches, under_way: Vec::new(), now, written: 0, tried: BTreeMap::new() }
    }

    /// Does one step of the sweep. Returns why the sweep is over, if it is.
    fn step(&mut self, cluster: &mut ReplayCluster, choice: usize, resource: &Arc<ServedResource>) -> Option<SweepEnd> {
        if let Some(end) = self.state.end(self.now) {
            return Some(end);
        }
        while let Some(attempt) = self.state.next_attempt(self.now) {
            self.under_way.extend(self.state.begin(attempt, resource, self.now));
            let most = if self.written == 0 { 1 } else { MOST };
            assert!(self.under_way.len() <= most, "{} of {most}", self.under_way.len());
        }
        let timer = self.state.next_begin();
        if self.state.wants_objects() {
            self.state.found(self.batches.pop());
        } else if self.under_way.is_empty() || timer.is_some() && choice.is_multiple_of(3) {
            self.now = self.now.max(timer.expect("nothing is under way, and nothing is waited for"));
        } else {
            let attempt = self.under_way.swap_remove(choice % self.under_way.len());
            return self.take(cluster, attempt, resource);
        }
        None
    }

    fn take(
        &mut self,
        cluster: &mut ReplayCluster,
        attempt: Attempt,
        resource: &Arc<ServedResource>,
    ) -> Option<SweepEnd> {
        let (object, latency) = (attempt.object.clone(), Duration::from_millis(20));
        let answer = cluster.answer(&object);
        self.now += latency;
        match answer {
            RewriteAnswer::Object(ObjectAnswer::At(revision)) => {
                self.written += u64::from(revision != object.mod_revision);
            }
            RewriteAnswer::Object(ObjectAnswer::Conflict) | RewriteAnswer::Unanswered(Unanswered::Busy { .. }) => {
                let tried = self.tried.entry(object.key[0]).or_default();
                *tried += 1;
                assert!(*tried <= ATTEMPTS);
            }
            _ => {}
        }
        let resource = Arc::clone(resource);
        let taken = self.state.take(Answered { attempt, resource, answer, latency }, self.now);
        if let Some(object) = taken.changed {
            assert!(!cluster.has(&object), "a claim that etcd contradicts: {object:?}");
        }
        assert_eq!(self.state.outcome().written, self.written);
        taken.end
    }
}

fn secrets() -> Arc<ServedResource> {
    Arc::new(ServedResource { base: "/api/v1".to_owned(), name: "secrets".to_owned(), is_namespaced: true })
}

/// Sweeps once. Returns `None` if the command died after `life` steps. Requests that were under way then may still be
/// carried out.
fn sweep(cluster: &mut ReplayCluster, batch: usize, life: usize, choices: &[usize]) -> Option<SweepOutcome> {
    let (resource, found) = (secrets(), cluster.stale().len() as u64);
    let mut replay = Replay::begin(cluster, batch);
    for step in 0..STEPS {
        if step == life {
            for attempt in std::mem::take(&mut replay.under_way) {
                cluster.answer(&attempt.object);
            }
            return None;
        }
        let choice = choices.get(step % choices.len().max(1)).copied().unwrap_or_default();
        if let Some(end) = replay.step(cluster, choice, &resource) {
            while let Some(attempt) = replay.under_way.pop() {
                replay.take(cluster, attempt, &resource);
            }
            let outcome = replay.state.ended(end);
            if outcome.end == SweepEnd::Tried {
                assert_eq!(outcome.tried(), found, "each object counts once: {outcome:?}");
            }
            return Some(outcome);
        }
    }
    panic!("no end after {STEPS} steps: {:?}", replay.state.outcome());
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        4 => Just(Deed::Rewrite),
        1 => Just(Deed::RewriteUnheard),
        4 => Just(Deed::Repeat),
        2 => Just(Deed::Conflict),
        1 => Just(Deed::Remove),
        2 => (0..60_u8).prop_map(Deed::Busy),
        2 => Just(Deed::Lose),
        1 => Just(Deed::Deny),
        1 => Just(Deed::Refuse),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn whatever_happened_before_a_healthy_api_server_leaves_nothing_stale(
        count in 0..60_u8,
        batch in 1..20_usize,
        deeds in prop::collection::vec(deed(), 0..300),
        lives in prop::collection::vec(0..120_usize, 0..4),
        choices in prop::collection::vec(any::<usize>(), 1..50),
    ) {
        let mut cluster = ReplayCluster::new(count, deeds);
        for life in lives {
            sweep(&mut cluster, batch, life, &choices);
        }
        while !cluster.deeds.is_empty() && !cluster.stale().is_empty() {
            prop_assert!(sweep(&mut cluster, batch, usize::MAX, &choices).is_some());
        }
        cluster.deeds.clear();
        let left = cluster.stale().len() as u64;
        let outcome = sweep(&mut cluster, batch, usize::MAX, &choices).unwrap();
        prop_assert_eq!((outcome.end, outcome.written), (SweepEnd::Tried, left));
        prop_assert!(cluster.stale().is_empty());
    }
}

#[test]
fn an_api_server_that_only_repeats_or_loses_ends_each_sweep_in_time() {
    for (deed, end) in [
        (Deed::Repeat, SweepEnd::NotAdopted),
        (Deed::Lose, SweepEnd::Failed(SweepFailure::Unreachable("reset".to_owned()))),
        (Deed::Deny, SweepEnd::Failed(SweepFailure::Denied("not you".to_owned()))),
    ] {
        let mut cluster = ReplayCluster::new(40, vec![deed; 10_000]);
        let outcome = sweep(&mut cluster, 7, usize::MAX, &[1]).unwrap();
        assert_eq!((outcome.end, outcome.written, cluster.stale().len()), (end, 0, 40));
    }
}
