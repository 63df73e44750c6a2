//! Decides what a sweep does next: which object it asks for, when, and when it is over.
//!
//! ```text
//! scanned ──> ready ──> under way ──> written, unchanged, gone, or failed
//!               ^           │
//!               └── later <─┘  conflict, busy, no answer, not adopted yet
//! ```
//!
//! Pure: the caller sends the requests and passes the time. Invariants: an object is in one of these states only; an
//! object counts as written only if the API server answered with a new revision; until the API server has written one
//! object, at most one is under way.

use std::{
    collections::{HashSet, VecDeque},
    hash::{DefaultHasher, Hash, Hasher},
    mem,
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use crate::apiclient::{
    ApiError, CredentialsError, ObjectAnswer, RewriteAnswer, ServedResource, Unanswered, is_server_distrusted,
};

use super::{
    failures::{FailureKind, FailureList},
    locate::NotInApi,
    pace::RequestPace,
    stale::{BATCH, StaleBatch, StaleObject},
};

/// The number of objects that are tried while the API server has not adopted the primary key.
const TRIED: usize = 10;

/// The number of attempts for an object that conflicts, or for which the API server is too busy.
pub(super) const ATTEMPTS: u32 = 10;

/// The number of denials for one resource after which its other objects are not tried: the user lacks the right for it.
const DENIED: u32 = 20;

/// The reason for objects that were not tried.
const SKIPPED: &str = "not tried, because the user may not patch others of its resource";

/// The reason for objects that conflicted at every attempt.
const CONFLICTS: &str = "others wrote it at the same moment, each time";

/// The longest pause before a busy API server is asked for the same object again.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// The time limits of a sweep.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// How long the sweep waits until the API server has adopted the primary key.
    pub adoption: Duration,
    /// The time between two requests for the same object during that wait.
    pub retry: Duration,
    /// How long the sweep goes on while the API server does not answer, or only answers that it is busy.
    pub silence: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        // An API server that has lost the plugin writes under the previous key for up to 263 s.
        Self { adoption: Duration::from_mins(5), retry: Duration::from_secs(5), silence: Duration::from_mins(2) }
    }
}

/// Why a sweep ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SweepEnd {
    /// Every stale object was tried.
    Tried,
    /// The operator interrupted the sweep. No request is under way any more.
    Interrupted,
    /// The API server wrote nothing, because it still uses another key or another configuration.
    NotAdopted,
    /// The sweep cannot go on, and another attempt would fail in the same way.
    Failed(SweepFailure),
}

/// Why a sweep cannot go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SweepFailure {
    /// The user lacks the right to patch, or to see what the API server serves. Contains what the API server says.
    Denied(String),
    /// The API server does not accept the credentials. Contains the text of its answer.
    Unauthenticated(String),
    /// There are no credentials to send, for example because the program that prints them failed.
    NoCredentials(CredentialsError),
    /// The API server keeps its objects in another etcd.
    OtherCluster,
    /// etcd refuses every write, because its database has reached its quota. Contains the address of a member.
    NoSpace(String),
    /// For a long time the API server did not answer, or only answered that it is busy. Contains the last reason.
    Unreachable(String),
    /// The server is no API server, or does not serve the Kubernetes API at this address.
    NotAnApiServer(ApiError),
}

impl SweepFailure {
    /// Returns the failure, if another request would fail in the same way.
    pub fn lasting(error: &ApiError) -> Option<Self> {
        match error {
            ApiError::Unreachable { reason, .. } if is_server_distrusted(reason) => {
                Some(Self::Unreachable(reason.clone()))
            }
            ApiError::Unreachable { .. } | ApiError::Refused { status: 429 | 500.., .. } => None,
            ApiError::NoCredentials(reason) => Some(Self::NoCredentials(reason.clone())),
            ApiError::Refused { status: 401, reason, .. } => Some(Self::Unauthenticated(reason.clone())),
            ApiError::Refused { status: 403, reason, .. } => Some(Self::Denied(reason.clone())),
            ApiError::Refused { .. } | ApiError::NoApi { .. } | ApiError::Malformed { .. } => {
                Some(Self::NotAnApiServer(error.clone()))
            }
        }
    }
}

impl From<SweepFailure> for SweepEnd {
    fn from(failure: SweepFailure) -> Self {
        Self::Failed(failure)
    }
}

/// The outcome of a sweep: how many objects were written, and why others were not.
#[derive(Debug)]
pub struct SweepOutcome {
    /// The reason why the sweep ended.
    pub end: SweepEnd,
    /// The number of new revisions that the API server made.
    pub written: u64,
    /// The fingerprints of the keys of these objects. Another sweep may write an object again.
    pub rewritten: HashSet<u64>,
    /// The number of objects that the API server answered with, without writing them.
    pub unchanged: u64,
    /// The number of objects that do not exist any more.
    pub gone: u64,
    /// The number of answers that reported a write by somebody else. Such an object was tried again.
    pub conflicts: u64,
    /// The number of answers that reported a busy API server. Such an object was tried again.
    pub busy: u64,
    /// The objects that were not written, with reasons.
    pub failures: FailureList,
    /// Whether the API server answers without writing, and has written nothing in this sweep yet.
    pub is_awaiting_adoption: bool,
    /// The reason why the API server gave no answer to the last request. `None` if it answered.
    pub silence: Option<String>,
}

impl SweepOutcome {
    fn new() -> Self {
        Self {
            end: SweepEnd::Tried,
            written: 0,
            rewritten: HashSet::new(),
            unchanged: 0,
            gone: 0,
            conflicts: 0,
            busy: 0,
            failures: FailureList::default(),
            is_awaiting_adoption: false,
            silence: None,
        }
    }

    /// Returns how many objects have a new revision.
    pub fn objects(&self) -> u64 {
        u64::try_from(self.rewritten.len()).unwrap_or(u64::MAX)
    }

    /// Returns how many objects the sweep is done with, whatever their outcome.
    pub fn tried(&self) -> u64 {
        self.written + self.unchanged + self.gone + self.failures.count()
    }
}

/// Returns 64 bits that identify the key of an object well enough to count objects.
fn fingerprint(key: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish()
}

/// An object, with the number of its attempts.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) object: StaleObject,
    count: u32,
}

/// The answer to the request for one object.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) attempt: Attempt,
    pub(super) resource: Arc<ServedResource>,
    pub(super) answer: RewriteAnswer,
    pub(super) latency: Duration,
}

/// The consequences of an answer.
#[derive(Debug, Default)]
pub(super) struct Taken {
    /// The end of the sweep, if the answer ends it.
    pub(super) end: Option<SweepEnd>,
    /// The object, if the API server claims that etcd does not have it any more as the scan found it.
    pub(super) changed: Option<StaleObject>,
}

/// The objects of a sweep, and what the sweep knows about the API server.
pub(super) struct SweepState {
    pace: RequestPace,
    patience: Patience,
    /// The objects that are tried as soon as the pace allows it.
    ready: VecDeque<Attempt>,
    /// The objects that are tried again, each with its earliest time.
    later: VecDeque<(Instant, Attempt)>,
    under_way: usize,
    is_scan_over: bool,
    /// Whether the API server has written an object.
    has_adopted: bool,
    /// The time when the first request of this sweep began.
    begun: Option<Instant>,
    /// The number of denied patches for each resource.
    denied: Vec<(Arc<ServedResource>, u32)>,
    /// Since when the API server has not answered, or only that it is busy, with the last reason.
    silent_since: Option<(Instant, String)>,
    outcome: SweepOutcome,
}

impl SweepState {
    pub(super) fn new(pace: RequestPace, patience: Patience) -> Self {
        Self {
            pace,
            patience,
            ready: VecDeque::new(),
            later: VecDeque::new(),
            under_way: 0,
            is_scan_over: false,
            has_adopted: false,
            begun: None,
            denied: Vec::new(),
            silent_since: None,
            outcome: SweepOutcome::new(),
        }
    }

    pub(super) fn outcome(&self) -> &SweepOutcome {
        &self.outcome
    }

    /// Returns the outcome of a sweep that is over.
    pub(super) fn ended(self, end: SweepEnd) -> SweepOutcome {
        SweepOutcome { end, ..self.outcome }
    }

    /// Adds the objects that the scan found. `None` means that the scan is over.
    pub(super) fn found(&mut self, batch: Option<StaleBatch>) {
        self.is_scan_over |= batch.is_none();
        self.ready.extend(batch.into_iter().flatten().map(|object| Attempt { object, count: 0 }));
    }

    /// Whether the scan should find more objects.
    pub(super) fn wants_objects(&self) -> bool {
        self.ready.is_empty() && self.later.len() < BATCH && !self.is_scan_over
    }

    /// Returns why the sweep is over, if it is.
    pub(super) fn end(&self, now: Instant) -> Option<SweepEnd> {
        let has_waited = |since: Instant, patience: Duration| now.duration_since(since) >= patience;
        if let Some((since, reason)) = &self.silent_since
            && (has_waited(*since, self.patience.silence) || is_server_distrusted(reason))
        {
            return Some(SweepEnd::Failed(SweepFailure::Unreachable(reason.clone())));
        }
        let is_awaiting_adoption = self.outcome.is_awaiting_adoption && !self.later.is_empty();
        if is_awaiting_adoption && self.begun.is_some_and(|begun| has_waited(begun, self.patience.adoption)) {
            return Some(SweepEnd::NotAdopted);
        }
        let is_idle = self.ready.is_empty() && self.later.is_empty() && self.under_way == 0;
        (self.is_scan_over && is_idle).then(|| self.denied_end().unwrap_or(SweepEnd::Tried))
    }

    /// Returns the end of a sweep in which every object was denied.
    fn denied_end(&self) -> Option<SweepEnd> {
        let failures = &self.outcome.failures;
        let denied = failures.counts().get(&FailureKind::Denied).copied()?;
        let first = failures.named().iter().find(|failure| failure.kind == FailureKind::Denied)?;
        let absent = [FailureKind::NotServed, FailureKind::NoObject];
        let absent: u64 = absent.iter().filter_map(|kind| failures.counts().get(kind)).sum();
        (denied + absent == self.outcome.tried()).then(|| SweepEnd::Failed(SweepFailure::Denied(first.reason.clone())))
    }

    /// Returns when the next request may begin, if one may. Until the API server has written an object, only one
    /// request at a time is under way.
    pub(super) fn next_begin(&self) -> Option<Instant> {
        let is_allowed = self.has_adopted || self.under_way == 0;
        let pace = self.pace.next(self.under_way).filter(|_| is_allowed)?;
        let has_tried_enough = !self.has_adopted && self.later.len() >= TRIED;
        if !self.ready.is_empty() && !has_tried_enough {
            return Some(pace);
        }
        self.later.front().map(|(at, _)| pace.max(*at))
    }

    /// Takes an object that may be tried now: an object whose time for another attempt has come, or else one that was
    /// not tried yet.
    pub(super) fn next_attempt(&mut self, now: Instant) -> Option<Attempt> {
        self.next_begin().filter(|at| *at <= now)?;
        match self.later.front() {
            Some((at, _)) if *at <= now => self.later.pop_front().map(|(_, attempt)| attempt),
            _ => self.ready.pop_front(),
        }
    }

    /// Decides whether a request for the object begins. If the user lacks the right for the resource, no request
    /// begins, and the object counts as denied. Otherwise the caller sends the request and passes its answer to
    /// [`Self::take`].
    pub(super) fn begin(&mut self, attempt: Attempt, resource: &ServedResource, now: Instant) -> Option<Attempt> {
        if self.denied.iter().any(|(denied, count)| **denied == *resource && *count >= DENIED) {
            self.fail(&attempt, FailureKind::Denied, SKIPPED.to_owned());
            return None;
        }
        self.begun.get_or_insert(now);
        self.pace.begin(now);
        self.under_way += 1;
        Some(Attempt { count: attempt.count + 1, ..attempt })
    }

    /// Notes that an object is not in the API.
    pub(super) fn nowhere(&mut self, attempt: &Attempt, NotInApi { kind, reason }: NotInApi) {
        self.fail(attempt, kind, reason);
    }

    /// Puts an object back if the API server did not say where it serves the resource. Fails if the API server never
    /// will.
    pub(super) fn not_located(
        &mut self,
        mut attempt: Attempt,
        error: ApiError,
        now: Instant,
    ) -> Result<(), SweepFailure> {
        match error {
            ApiError::Unreachable { reason, .. } => self.no_answer(attempt, &reason, now),
            ApiError::Refused { status: 429 | 500.., .. } => {
                attempt.count += 1;
                self.busy(attempt, None, error.to_string(), now);
            }
            _ => return SweepFailure::lasting(&error).map_or(Ok(()), Err),
        }
        Ok(())
    }

    /// Notes the answer about an object that was under way. The object may be tried again.
    pub(super) fn take(&mut self, answered: Answered, now: Instant) -> Taken {
        let Answered { attempt, resource, answer, latency } = answered;
        self.under_way = self.under_way.saturating_sub(1);
        match answer {
            RewriteAnswer::Object(answer) => {
                (self.silent_since, self.outcome.silence) = (None, None);
                self.pace.answered(latency, now);
                Taken { end: None, changed: self.note_answer(attempt, &resource, answer, now) }
            }
            RewriteAnswer::Unanswered(unanswered) => {
                let end = self.note_unanswered(attempt, unanswered, now).map(SweepEnd::Failed);
                Taken { end, changed: None }
            }
        }
    }

    /// Puts an object back if the API server said nothing about it. Returns why the sweep is over, if it is.
    fn note_unanswered(&mut self, attempt: Attempt, unanswered: Unanswered, now: Instant) -> Option<SweepFailure> {
        match unanswered {
            Unanswered::Busy { wait, reason } => self.busy(attempt, wait, reason, now),
            Unanswered::Unreachable(reason) => {
                // Nobody answered for the object, so the request does not count as an attempt.
                let count = attempt.count.saturating_sub(1);
                self.no_answer(Attempt { count, ..attempt }, &reason, now);
            }
            Unanswered::Unauthenticated(reason) => return Some(SweepFailure::Unauthenticated(reason)),
            Unanswered::NoCredentials(reason) => return Some(SweepFailure::NoCredentials(reason)),
        }
        None
    }

    /// Notes the outcome for an object. Returns the object if the answer claims that it has changed since the scan.
    fn note_answer(
        &mut self,
        attempt: Attempt,
        resource: &Arc<ServedResource>,
        answer: ObjectAnswer,
        now: Instant,
    ) -> Option<StaleObject> {
        match answer {
            ObjectAnswer::At(revision) if revision != attempt.object.mod_revision => {
                self.note_written(&attempt.object.key);
                return Some(attempt.object);
            }
            ObjectAnswer::At(_) if !self.has_adopted => {
                self.outcome.is_awaiting_adoption = true;
                self.put_back(now + self.patience.retry, attempt);
            }
            ObjectAnswer::At(_) => self.outcome.unchanged += 1,
            ObjectAnswer::Gone => {
                self.outcome.gone += 1;
                return Some(attempt.object);
            }
            ObjectAnswer::Conflict => {
                self.outcome.conflicts += 1;
                self.again(attempt, now, FailureKind::Conflict, CONFLICTS.to_owned());
            }
            ObjectAnswer::Denied(reason) => {
                self.count_denial(resource);
                self.fail(&attempt, FailureKind::Denied, reason);
            }
            ObjectAnswer::Refused(reason) => self.fail(&attempt, FailureKind::Refused, reason),
        }
        None
    }

    fn note_written(&mut self, key: &[u8]) {
        self.outcome.written += 1;
        self.outcome.rewritten.insert(fingerprint(key));
        self.outcome.is_awaiting_adoption = false;
        if !mem::replace(&mut self.has_adopted, true) {
            // The API server has adopted the key, so no object has to wait any more.
            self.ready.extend(self.later.drain(..).map(|(_, attempt)| attempt));
        }
    }

    fn count_denial(&mut self, resource: &Arc<ServedResource>) {
        match self.denied.iter_mut().find(|(denied, _)| denied == resource) {
            Some((_, count)) => *count += 1,
            None => self.denied.push((Arc::clone(resource), 1)),
        }
    }

    fn busy(&mut self, attempt: Attempt, wait: Option<Duration>, reason: String, now: Instant) {
        self.outcome.busy += 1;
        self.note_silence(&reason, now);
        self.pace.busy(wait, now);
        let backoff = Duration::from_secs(1) * 2_u32.saturating_pow(attempt.count.saturating_sub(1));
        let at = now + wait.unwrap_or(backoff).min(LONGEST_WAIT);
        self.again(attempt, at, FailureKind::Busy, reason);
    }

    fn no_answer(&mut self, attempt: Attempt, reason: &str, now: Instant) {
        self.note_silence(reason, now);
        self.pace.busy(None, now);
        self.put_back(now + Duration::from_secs(1), attempt);
    }

    fn note_silence(&mut self, reason: &str, now: Instant) {
        let since = self.silent_since.as_ref().map_or(now, |(since, _)| *since);
        self.silent_since = Some((since, reason.to_owned()));
        self.outcome.silence = Some(reason.to_owned());
    }

    /// Puts an object back for another attempt, unless it had [`ATTEMPTS`] attempts.
    fn again(&mut self, attempt: Attempt, at: Instant, kind: FailureKind, reason: String) {
        if attempt.count >= ATTEMPTS {
            self.fail(&attempt, kind, reason);
        } else {
            self.put_back(at, attempt);
        }
    }

    fn fail(&mut self, attempt: &Attempt, kind: FailureKind, reason: String) {
        self.outcome.failures.add(&attempt.object.key, kind, reason);
    }

    /// Puts an object back, sorted by the earliest time of its next attempt.
    fn put_back(&mut self, at: Instant, attempt: Attempt) {
        let index = self.later.partition_point(|(other, _)| *other <= at);
        self.later.insert(index, (at, attempt));
    }
}
