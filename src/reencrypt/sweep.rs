//! One sweep: asks the API server to write again each stale object that a scan finds.
//!
//! An API server that has not adopted the primary key answers a patch without writing. So a sweep begins with one
//! request at a time, and repeats them until an object was written. Objects that an API server then still answers
//! without writing are left to the next sweep: several API servers do not adopt a key at the same moment.
//!
//! An object that cannot be written does not end the sweep, and does not count as written.

use std::{collections::VecDeque, future::pending, sync::Arc, thread, time::Duration};

use tokio::{
    runtime::Runtime,
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, sleep_until},
};

use crate::{
    apiclient::{ApiError, CredentialsError, ObjectApi, ObjectRef, ServedResource, Touched},
    scan::live::LiveError,
};

use super::{
    failures::{FailureKind, FailureList},
    pace::RequestPace,
    place::{NoPlace, Places},
    stale::{BATCH, StaleBatch, StaleObject, StaleScan},
    witness::Witness,
};

/// How many objects are tried while the API server has not adopted the primary key.
const TRIED: usize = 10;

/// How often an object is tried that conflicts, or that the API server is too busy for.
const ATTEMPTS: u32 = 10;

/// After this many denials for one resource, its other objects are not tried: the user lacks the right for it.
const DENIED: u32 = 20;

/// Why an object was not tried.
const SKIPPED: &str = "not tried, because the user may not patch others of its resource";

/// The longest time until a busy API server is asked for the same object again.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// How long a sweep waits.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Until the API server has adopted the primary key.
    pub adoption: Duration,
    /// Between two requests for the same object meanwhile.
    pub retry: Duration,
    /// While the API server does not answer, or only says that it is busy.
    pub unreachable: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        // An API server that has lost the plugin writes under the previous key for up to 263 s.
        Self { adoption: Duration::from_mins(5), retry: Duration::from_secs(5), unreachable: Duration::from_mins(2) }
    }
}

/// Why a sweep ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SweepEnd {
    /// Every stale object was tried.
    Tried,
    /// The operator interrupted it. No request is under way any more.
    Interrupted,
    /// The API server wrote nothing, because it holds another key or another configuration.
    NotAdopted,
    /// The user lacks the right to patch, or to see what the API server serves.
    Denied(String),
    /// The credentials are not accepted.
    Unauthenticated(String),
    /// There are no credentials to send, for example because the program that makes them failed.
    NoCredentials(CredentialsError),
    /// The API server keeps its objects in another etcd.
    OtherCluster,
    /// Nobody answered for a long time, or only by being busy.
    Unreachable(String),
    /// What answered is no API server, or does not speak its language at this address.
    NotAnApiServer(ApiError),
}

/// What became of the objects of a sweep.
#[derive(Debug)]
pub struct SweepOutcome {
    /// Why the sweep ended.
    pub end: SweepEnd,
    /// Objects that have a new revision.
    pub written: u64,
    /// Objects that the API server answered with, without writing them.
    pub unchanged: u64,
    /// Objects that do not exist any more.
    pub gone: u64,
    /// Answers that said that somebody else wrote the object. It was tried again.
    pub conflicts: u64,
    /// Answers that said that the API server is busy. The object was tried again.
    pub busy: u64,
    /// Objects that were not written.
    pub failures: FailureList,
    /// Whether the API server answers without writing, and has written nothing yet.
    pub is_waiting: bool,
}

impl SweepOutcome {
    fn new() -> Self {
        let (end, failures) = (SweepEnd::Tried, FailureList::default());
        Self { end, written: 0, unchanged: 0, gone: 0, conflicts: 0, busy: 0, failures, is_waiting: false }
    }

    /// Returns how many objects are done with, in one way or another.
    pub fn tried(&self) -> u64 {
        self.written + self.unchanged + self.gone + self.failures.count()
    }
}

/// Sweeps once. `stop` ends it early, and `progress` is called after each answer.
///
/// # Errors
/// When an etcd cannot be read. Objects that were found before have been tried.
pub fn sweep<A: ObjectApi>(
    runtime: &Runtime,
    scan: &StaleScan<'_>,
    (api, pace, patience): (&Arc<A>, RequestPace, Patience),
    stop: watch::Receiver<bool>,
    progress: &mut dyn FnMut(&SweepOutcome),
) -> Result<SweepOutcome, LiveError> {
    let (sender, batches) = mpsc::channel(1);
    thread::scope(|threads| {
        let scanning = threads.spawn(move || scan.send(&sender));
        let found = (Places::new(scan.summarizer.names().clone()), Witness::new(scan.places));
        let sweeper = Sweeper::new(api, pace, patience, found);
        let outcome = runtime.block_on(sweeper.run(batches, stop, progress));
        let scanned = scanning.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        scanned.map(|()| outcome)
    })
}

/// One object, and how often it was tried.
struct Attempt {
    object: StaleObject,
    count: u32,
}

/// An object that was tried.
struct Answered {
    attempt: Attempt,
    resource: Arc<ServedResource>,
    touched: Touched,
    latency: Duration,
}

/// What can happen next.
enum SweepEvent {
    Stopped,
    Answered(Answered),
    Batch(Option<StaleBatch>),
    Timer,
}

struct Sweeper<A> {
    api: Arc<A>,
    pace: RequestPace,
    patience: Patience,
    places: Places,
    witness: Witness,
    /// Objects that are tried as soon as the pace allows it.
    ready: VecDeque<Attempt>,
    /// Objects that are tried again, each not before its time.
    later: VecDeque<(Instant, Attempt)>,
    under_way: JoinSet<Answered>,
    is_scan_over: bool,
    /// Whether the API server has written an object.
    has_adopted: bool,
    /// When the first request of this sweep began.
    begun: Option<Instant>,
    /// How often patches were denied, for each resource.
    denied: Vec<(Arc<ServedResource>, u32)>,
    /// Since when nobody answers but by being busy, with the last reason.
    unreachable: Option<(Instant, String)>,
    outcome: SweepOutcome,
}

impl<A: ObjectApi> Sweeper<A> {
    fn new(api: &Arc<A>, pace: RequestPace, patience: Patience, (places, witness): (Places, Witness)) -> Self {
        Self {
            api: Arc::clone(api),
            pace,
            patience,
            places,
            witness,
            ready: VecDeque::new(),
            later: VecDeque::new(),
            under_way: JoinSet::new(),
            is_scan_over: false,
            has_adopted: false,
            begun: None,
            denied: Vec::new(),
            unreachable: None,
            outcome: SweepOutcome::new(),
        }
    }

    async fn run(
        mut self,
        mut batches: mpsc::Receiver<StaleBatch>,
        mut stop: watch::Receiver<bool>,
        progress: &mut dyn FnMut(&SweepOutcome),
    ) -> SweepOutcome {
        let end = loop {
            if let Some(end) = self.end() {
                break end;
            }
            if let Err(end) = self.begin_requests().await {
                break end;
            }
            match self.event(&mut batches, &mut stop).await {
                SweepEvent::Stopped => break SweepEnd::Interrupted,
                SweepEvent::Batch(Some(batch)) => {
                    self.ready.extend(batch.into_iter().map(|object| Attempt { object, count: 0 }));
                }
                SweepEvent::Batch(None) => self.is_scan_over = true,
                SweepEvent::Timer => {}
                SweepEvent::Answered(answered) => {
                    self.take(answered);
                    progress(&self.outcome);
                    if self.witness.contradicts().await {
                        break SweepEnd::OtherCluster;
                    }
                }
            }
        };
        // The scan ends when nobody receives its batches.
        drop(batches);
        while let Some(Ok(answered)) = self.under_way.join_next().await {
            self.take(answered);
        }
        progress(&self.outcome);
        SweepOutcome { end, ..self.outcome }
    }

    /// Returns why the sweep is over, if it is.
    fn end(&self) -> Option<SweepEnd> {
        let has_waited = |since: Instant, patience: Duration| since.elapsed() >= patience;
        if let Some((since, reason)) = &self.unreachable
            && has_waited(*since, self.patience.unreachable)
        {
            return Some(SweepEnd::Unreachable(reason.clone()));
        }
        if self.is_waiting() && self.begun.is_some_and(|begun| has_waited(begun, self.patience.adoption)) {
            return Some(SweepEnd::NotAdopted);
        }
        if self.outcome.end != SweepEnd::Tried {
            return Some(self.outcome.end.clone());
        }
        let is_idle = self.ready.is_empty() && self.later.is_empty() && self.under_way.is_empty();
        (self.is_scan_over && is_idle).then(|| self.denied_end().unwrap_or(SweepEnd::Tried))
    }

    /// Returns the end of a sweep in which every object was denied.
    fn denied_end(&self) -> Option<SweepEnd> {
        let failures = &self.outcome.failures;
        let denied = failures.counts().get(&FailureKind::Denied).copied()?;
        let first = failures.named().iter().find(|failure| failure.kind == FailureKind::Denied)?;
        let absent = [FailureKind::NotServed, FailureKind::NoObject];
        let absent: u64 = absent.iter().filter_map(|kind| failures.counts().get(kind)).sum();
        (denied + absent == self.outcome.tried()).then(|| SweepEnd::Denied(first.reason.clone()))
    }

    fn is_denied(&self, resource: &ServedResource) -> bool {
        self.denied.iter().any(|(denied, count)| **denied == *resource && *count >= DENIED)
    }

    fn count_denial(&mut self, resource: &Arc<ServedResource>) {
        match self.denied.iter_mut().find(|(denied, _)| denied == resource) {
            Some((_, count)) => *count += 1,
            None => self.denied.push((Arc::clone(resource), 1)),
        }
    }

    /// Whether objects were answered without being written, and none was written yet.
    fn is_waiting(&self) -> bool {
        self.outcome.is_waiting && !self.later.is_empty()
    }

    /// Returns when the next request may begin, if there is one. As long as the API server has written nothing, it gets
    /// one at a time.
    fn next_begin(&self) -> Option<Instant> {
        let is_allowed = self.has_adopted || self.under_way.is_empty();
        let pace = self.pace.next(self.under_way.len()).filter(|_| is_allowed)?;
        let has_tried_enough = !self.has_adopted && self.later.len() >= TRIED;
        if !self.ready.is_empty() && !has_tried_enough {
            return Some(pace);
        }
        self.later.front().map(|(at, _)| pace.max(*at))
    }

    async fn begin_requests(&mut self) -> Result<(), SweepEnd> {
        while self.next_begin().is_some_and(|at| at <= Instant::now()) {
            let Some(attempt) = self.next_attempt() else { return Ok(()) };
            match self.places.find(&attempt.object.key, &*self.api).await {
                Ok(Ok(object)) if self.is_denied(&object.resource) => {
                    self.outcome.failures.add(&attempt.object.key, FailureKind::Denied, SKIPPED.to_owned());
                }
                Ok(Ok(object)) => self.begin(attempt, object),
                Ok(Err(NoPlace { kind, reason })) => self.outcome.failures.add(&attempt.object.key, kind, reason),
                Err(error) => self.not_found_out(attempt, error)?,
            }
        }
        Ok(())
    }

    /// Puts an object back for which the API server did not say where it serves it. Fails if it never will.
    fn not_found_out(&mut self, mut attempt: Attempt, error: ApiError) -> Result<(), SweepEnd> {
        match error {
            ApiError::Unreachable { reason, .. } => self.unreachable(attempt, reason),
            ApiError::Refused { status: 429 | 500.., .. } => {
                attempt.count += 1;
                self.busy(attempt, None, error.to_string(), Instant::now());
            }
            ApiError::NoCredentials(reason) => return Err(SweepEnd::NoCredentials(reason)),
            ApiError::Refused { status: 401, .. } => return Err(SweepEnd::Unauthenticated(error.to_string())),
            ApiError::Refused { status: 403, .. } => return Err(SweepEnd::Denied(error.to_string())),
            ApiError::Refused { .. } | ApiError::NoApi { .. } | ApiError::Malformed { .. } => {
                return Err(SweepEnd::NotAnApiServer(error));
            }
        }
        Ok(())
    }

    /// Takes an object whose time has come, or else one that was not tried yet.
    fn next_attempt(&mut self) -> Option<Attempt> {
        match self.later.front() {
            Some((at, _)) if *at <= Instant::now() => self.later.pop_front().map(|(_, attempt)| attempt),
            _ => self.ready.pop_front(),
        }
    }

    fn begin(&mut self, mut attempt: Attempt, object: ObjectRef) {
        let now = Instant::now();
        self.begun.get_or_insert(now);
        self.pace.begin(now);
        attempt.count += 1;
        let api = Arc::clone(&self.api);
        let is_waiting = self.outcome.is_waiting;
        self.under_way.spawn(async move {
            if is_waiting {
                api.poke().await;
            }
            let touched = api.touch(&object).await;
            Answered { attempt, resource: object.resource, touched, latency: now.elapsed() }
        });
    }

    /// Waits for what happens next.
    async fn event(
        &mut self,
        batches: &mut mpsc::Receiver<StaleBatch>,
        stop: &mut watch::Receiver<bool>,
    ) -> SweepEvent {
        let timer = self.next_begin();
        let is_wanting = self.ready.is_empty() && self.later.len() < BATCH && !self.is_scan_over;
        let timer = async {
            match timer {
                Some(at) => sleep_until(at).await,
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            Ok(_) = stop.wait_for(|stopped| *stopped) => SweepEvent::Stopped,
            Some(answered) = self.under_way.join_next() => match answered {
                Ok(answered) => SweepEvent::Answered(answered),
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            },
            batch = batches.recv(), if is_wanting => SweepEvent::Batch(batch),
            () = timer => SweepEvent::Timer,
        }
    }

    /// Notes what became of an object, or puts it back.
    fn take(&mut self, Answered { attempt, resource, touched, latency }: Answered) {
        let now = Instant::now();
        if !matches!(touched, Touched::Unreachable(_) | Touched::Busy { .. }) {
            self.unreachable = None;
        }
        if matches!(touched, Touched::Denied(_)) {
            self.count_denial(&resource);
        }
        match touched {
            Touched::Busy { wait, reason } => self.busy(attempt, wait, reason, now),
            Touched::Unreachable(reason) => self.unreachable(attempt, reason),
            Touched::Unauthenticated(reason) => self.outcome.end = SweepEnd::Unauthenticated(reason),
            Touched::NoCredentials(reason) => self.outcome.end = SweepEnd::NoCredentials(reason),
            _ => {
                self.pace.answered(latency, now);
                self.settle(attempt, touched, now);
            }
        }
    }

    fn settle(&mut self, attempt: Attempt, touched: Touched, now: Instant) {
        let key = &attempt.object.key;
        match touched {
            Touched::At(revision) if revision != attempt.object.mod_revision => {
                self.witness.says_changed(&attempt.object);
                self.outcome.written += 1;
                self.outcome.is_waiting = false;
                if !std::mem::replace(&mut self.has_adopted, true) {
                    // The API server has adopted the key, so nothing has to wait any more.
                    self.ready.extend(self.later.drain(..).map(|(_, attempt)| attempt));
                }
            }
            Touched::At(_) if !self.has_adopted => {
                self.outcome.is_waiting = true;
                self.put_back(now + self.patience.retry, attempt);
            }
            Touched::At(_) => self.outcome.unchanged += 1,
            Touched::Gone => {
                self.witness.says_changed(&attempt.object);
                self.outcome.gone += 1;
            }
            Touched::Conflict => {
                self.outcome.conflicts += 1;
                let reason = "others wrote it at the same moment, each time".to_owned();
                self.again(attempt, now, (FailureKind::Conflict, reason));
            }
            Touched::Denied(reason) => {
                self.outcome.failures.add(key, FailureKind::Denied, reason);
            }
            Touched::Refused(reason) => self.outcome.failures.add(key, FailureKind::Refused, reason),
            Touched::Busy { .. }
            | Touched::Unreachable(_)
            | Touched::Unauthenticated(_)
            | Touched::NoCredentials(_) => {}
        }
    }

    fn busy(&mut self, attempt: Attempt, wait: Option<Duration>, reason: String, now: Instant) {
        self.outcome.busy += 1;
        let since = self.unreachable.as_ref().map_or(now, |(since, _)| *since);
        self.unreachable = Some((since, reason.clone()));
        self.pace.busy(wait, now);
        let backoff = Duration::from_secs(1) * 2_u32.saturating_pow(attempt.count.saturating_sub(1));
        let at = now + wait.unwrap_or(backoff).min(LONGEST_WAIT);
        self.again(attempt, at, (FailureKind::Busy, reason));
    }

    /// Puts an object back that nobody answered for. That does not count as an attempt.
    fn unreachable(&mut self, mut attempt: Attempt, reason: String) {
        let now = Instant::now();
        attempt.count = attempt.count.saturating_sub(1);
        let since = self.unreachable.as_ref().map_or(now, |(since, _)| *since);
        self.unreachable = Some((since, reason));
        self.pace.busy(None, now);
        self.put_back(now + Duration::from_secs(1), attempt);
    }

    fn again(&mut self, attempt: Attempt, at: Instant, (kind, reason): (FailureKind, String)) {
        if attempt.count >= ATTEMPTS {
            self.outcome.failures.add(&attempt.object.key, kind, reason);
        } else {
            self.put_back(at, attempt);
        }
    }

    /// Puts an object back, in the order of time.
    fn put_back(&mut self, at: Instant, attempt: Attempt) {
        let index = self.later.partition_point(|(other, _)| *other <= at);
        self.later.insert(index, (at, attempt));
    }
}
