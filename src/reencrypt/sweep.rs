//! Sweeps once: asks the API server to rewrite each stale object that a scan finds.
//!
//! An API server that has not adopted the primary key answers a patch without writing. So a sweep begins with one
//! request at a time, and repeats them until an object was written. Objects that an API server then still answers
//! without writing are left to the next sweep: several API servers do not adopt a key at the same moment.
//!
//! An object that cannot be written does not end the sweep, and does not count as written. This file does the I/O:
//! requests, scan, timers and Ctrl-C. [`SweepState`] decides.

use std::{future::pending, sync::Arc, thread};

use tokio::{
    runtime::Runtime,
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, sleep_until},
};

use crate::{
    apiclient::{ObjectAnswer, ObjectApi, ObjectRef, RewriteAnswer, Unanswered},
    scan::live::LiveError,
};

use super::{
    locate::{Located, ObjectFinder},
    pace::RequestPace,
    room::RoomWatch,
    stale::{StaleBatch, StaleScan},
    state::{Answered, Attempt, Patience, SweepEnd, SweepFailure, SweepOutcome, SweepState, Taken},
    witness::Witness,
};

/// A sweep and everything that it needs.
pub struct Sweep<'a, A> {
    /// The event loop in which the requests run.
    pub runtime: &'a Runtime,
    /// The scan that finds the objects to rewrite.
    pub scan: &'a StaleScan<'a>,
    /// The client of the API server.
    pub api: &'a Arc<A>,
    /// Limits how fast requests are sent.
    pub pace: RequestPace,
    /// Limits how long the sweep waits.
    pub patience: Patience,
    /// Ends the sweep early, if it becomes true.
    pub stop: watch::Receiver<bool>,
}

impl<A: ObjectApi> Sweep<'_, A> {
    /// Sweeps once. `progress` is called after each answer, and while the API server does not answer.
    ///
    /// # Errors
    /// When an etcd cannot be read. Objects that were found before have been tried.
    pub fn run(self, progress: &mut dyn FnMut(&SweepOutcome)) -> Result<SweepOutcome, LiveError> {
        let Self { runtime, scan, api, pace, patience, stop } = self;
        let (sender, batches) = mpsc::channel(1);
        thread::scope(|threads| {
            let scanning = threads.spawn(move || scan.send(&sender));
            let sweeper = Sweeper {
                api: Arc::clone(api),
                finder: ObjectFinder::new(scan.summarizer.names().clone()),
                witness: Witness::new(scan.places),
                room: RoomWatch::new(scan.places),
                under_way: JoinSet::new(),
                state: SweepState::new(pace, patience),
            };
            let outcome = runtime.block_on(sweeper.run(batches, stop, progress));
            let scanned = scanning.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            scanned.map(|()| outcome)
        })
    }
}

/// An event that a sweep reacts to.
enum SweepEvent {
    Stopped,
    Answered(Answered),
    Batch(Option<StaleBatch>),
    Timer,
}

struct Sweeper<A> {
    api: Arc<A>,
    finder: ObjectFinder,
    witness: Witness,
    room: RoomWatch,
    under_way: JoinSet<Answered>,
    state: SweepState,
}

impl<A: ObjectApi> Sweeper<A> {
    /// Handles events until the sweep ends, and then waits for the answers to all requests.
    async fn run(
        mut self,
        mut batches: mpsc::Receiver<StaleBatch>,
        mut stop: watch::Receiver<bool>,
        progress: &mut dyn FnMut(&SweepOutcome),
    ) -> SweepOutcome {
        let end = loop {
            if let Some(end) = self.state.end(Instant::now()) {
                break self.room.full_at_end().await.map_or(end, no_space);
            }
            if let Err(end) = self.begin_requests().await {
                break end;
            }
            if self.state.outcome().silence.is_some() {
                progress(self.state.outcome());
            }
            match self.event(&mut batches, &mut stop).await {
                SweepEvent::Stopped => break SweepEnd::Interrupted,
                SweepEvent::Batch(batch) => self.state.found(batch),
                SweepEvent::Timer => {}
                SweepEvent::Answered(answered) => {
                    let end = self.take(answered);
                    progress(self.state.outcome());
                    if self.witness.contradicts().await {
                        break SweepEnd::Failed(SweepFailure::OtherCluster);
                    }
                    if let Some(url) = self.room.full().await {
                        break no_space(url);
                    }
                    if let Some(end) = end {
                        break end;
                    }
                }
            }
        };
        // The scan ends when nobody receives its batches.
        drop(batches);
        while let Some(Ok(answered)) = self.under_way.join_next().await {
            self.take(answered);
        }
        progress(self.state.outcome());
        self.state.ended(end)
    }

    async fn begin_requests(&mut self) -> Result<(), SweepEnd> {
        while let Some(attempt) = self.state.next_attempt(Instant::now()) {
            match self.finder.find(&attempt.object.key, &*self.api).await {
                Ok(Located::Object(object)) => {
                    if let Some(attempt) = self.state.begin(attempt, &object.resource, Instant::now()) {
                        self.send(attempt, object);
                    }
                }
                Ok(Located::Nowhere(reason)) => self.state.nowhere(&attempt, reason),
                Err(error) => self.state.not_located(attempt, error, Instant::now())?,
            }
        }
        Ok(())
    }

    fn send(&mut self, attempt: Attempt, object: ObjectRef) {
        let (api, begun) = (Arc::clone(&self.api), Instant::now());
        let is_awaiting_adoption = self.state.outcome().is_awaiting_adoption;
        self.under_way.spawn(async move {
            if is_awaiting_adoption {
                api.poke().await;
            }
            let answer = api.rewrite(&object).await;
            Answered { attempt, resource: object.resource, answer, latency: begun.elapsed() }
        });
    }

    /// Waits for the next event.
    async fn event(
        &mut self,
        batches: &mut mpsc::Receiver<StaleBatch>,
        stop: &mut watch::Receiver<bool>,
    ) -> SweepEvent {
        let timer = self.state.next_begin();
        let wants_objects = self.state.wants_objects();
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
            batch = batches.recv(), if wants_objects => SweepEvent::Batch(batch),
            () = timer => SweepEvent::Timer,
        }
    }

    /// Notes the answer about an object. Returns why the sweep is over, if it is.
    fn take(&mut self, answered: Answered) -> Option<SweepEnd> {
        let is_refused = matches!(answered.answer, RewriteAnswer::Object(ObjectAnswer::Refused(_)));
        let is_busy = matches!(answered.answer, RewriteAnswer::Unanswered(Unanswered::Busy { .. }));
        if is_refused || is_busy {
            self.room.note_refusal();
        }
        let Taken { end, changed } = self.state.take(answered, Instant::now());
        if let Some(object) = changed {
            self.witness.says_changed(object);
        }
        end
    }
}

fn no_space(url: String) -> SweepEnd {
    SweepEnd::Failed(SweepFailure::NoSpace(url))
}
