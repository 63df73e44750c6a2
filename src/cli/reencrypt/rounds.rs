//! Sweeps and scans in turn, until a scan finds nothing that can be rewritten, or a sweep gets no further.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio::{runtime::Runtime, time::Instant};

use crate::{
    apiclient::ApiClient,
    etcd::Servers,
    reencrypt::{BATCH, Patience, RequestPace, StaleScan, Sweep, SweepEnd, SweepOutcome},
    scan::{names::Names, place::ScanPlace, summarizer::Summarizer},
};

use super::{
    super::{
        Global, failure::Failure, interrupt::Interrupt, output, progress::Meter, scanning::ScanInput, tables::span,
        waiting::AnswerWait,
    },
    args::Rate,
    census::Census,
};

/// The greatest number of sweeps. A further sweep is needed if objects were written under an old key during the
/// previous one.
pub(super) const SWEEPS: u32 = 20;

/// The pause between two sweeps while the API server has not adopted the primary key.
const BETWEEN: Duration = Duration::from_secs(10);

/// The result of all sweeps.
pub(in crate::cli) struct Rounds {
    /// The census of the last scan.
    pub(in crate::cli) census: Census,
    /// The outcome of the last sweep, with the totals of all sweeps.
    pub(in crate::cli) outcome: Option<SweepOutcome>,
    pub(in crate::cli) sweeps: u32,
}

/// The inputs of the sweeps.
pub(in crate::cli) struct Sweeping<'a> {
    pub(in crate::cli) input: &'a ScanInput,
    pub(in crate::cli) left: &'a BTreeSet<Vec<u8>>,
    pub(in crate::cli) api: &'a Arc<ApiClient>,
    pub(in crate::cli) rate: Rate,
    pub(in crate::cli) runtime: &'a Runtime,
    pub(in crate::cli) interrupt: &'a Interrupt,
    pub(in crate::cli) global: &'a Global,
}

impl Sweeping<'_> {
    /// Sweeps until a scan finds nothing more to rewrite. `census` has the counts of the scan before the first sweep.
    ///
    /// # Errors
    /// When an etcd cannot be read.
    pub(in crate::cli) fn run(&self, census: Census) -> Result<Rounds, Failure> {
        let mut rounds = Rounds { census, outcome: None, sweeps: 0 };
        while rounds.census.count() > 0 && rounds.sweeps < SWEEPS {
            let before = rounds.census.count();
            let outcome = self.interrupt.during(|| self.sweep(&rounds.census))?;
            rounds.sweeps += 1;
            rounds.census = Census::take(self.input, self.left, self.global)?;
            let is_over = self.is_over(&outcome, &rounds.census);
            let is_slow = outcome.unchanged > 0 || rounds.census.count() >= before;
            rounds.outcome = Some(with_sums(outcome, rounds.outcome));
            if is_over || is_slow && self.interrupt.wait(BETWEEN, self.runtime) {
                break;
            }
        }
        if let Some(outcome) = rounds.outcome.as_mut().filter(|_| self.interrupt.is_stopped()) {
            outcome.end = SweepEnd::Interrupted;
        }
        Ok(rounds)
    }

    /// Whether another sweep would achieve nothing.
    fn is_over(&self, outcome: &SweepOutcome, census: &Census) -> bool {
        let has_ended_early = outcome.end != SweepEnd::Tried;
        let did_nothing = outcome.written + outcome.unchanged == 0;
        has_ended_early || did_nothing || census.count() <= outcome.failures.count() || self.interrupt.is_stopped()
    }

    /// Sweeps once, and shows how far it is.
    fn sweep(&self, census: &Census) -> Result<SweepOutcome, Failure> {
        let summarizer = Summarizer::seeded(Names::new(&self.input.prefix))?;
        let places: Vec<Servers> = self.input.places.iter().filter_map(live).collect();
        let scan = StaleScan {
            places: &places,
            judge: &self.input.judge,
            batch: BATCH,
            left: self.left,
            summarizer: &summarizer,
        };
        let mut bar = Meter::objects(self.global.is_for_people());
        let (total, mut has_told, mut has_told_of_silence) = (census.count(), false, false);
        let api_server = format!("the API server at {}", self.api.url());
        let mut wait = AnswerWait::begin(&api_server, self.global);
        let patience = Patience::default();
        let mut progress = |outcome: &SweepOutcome| {
            wait.end();
            if let Some(reason) = &outcome.silence
                && !std::mem::replace(&mut has_told_of_silence, true)
            {
                let limit = span(patience.silence);
                output::aside(
                    &format!("{api_server} does not answer, waiting for up to {limit}: {reason}"),
                    self.global,
                );
            }
            if outcome.is_awaiting_adoption {
                bar.waits();
            }
            if outcome.is_awaiting_adoption && !std::mem::replace(&mut has_told, true) {
                output::aside(if census.plaintext() > 0 { UNREAD } else { WAITING }, self.global);
            }
            bar.of(outcome.tried(), total.max(outcome.tried()));
        };
        let pace = RequestPace::new(self.rate.0, Instant::now());
        let stop = self.interrupt.stopped.clone();
        let sweep = Sweep { runtime: self.runtime, scan: &scan, api: self.api, pace, patience, stop };
        Ok(sweep.run(&mut progress)?)
    }
}

const WAITING: &str = "waiting for the API server: it answers without writing; within a minute it learns of a new primary key, and, if it reloads the file, of a changed EncryptionConfiguration; this command waits for up to five minutes";

/// The line if objects stay in plaintext, which shows that the API server has not read the configuration.
const UNREAD: &str = "waiting for the API server: it answers without writing, and objects are in plaintext, so it has probably not read the EncryptionConfiguration: if it does not reload the file, restart kube-apiserver; a reload takes a minute; this command waits for up to five minutes";

pub(super) fn live(place: &ScanPlace) -> Option<Servers> {
    match place {
        ScanPlace::Etcd(servers) => Some(servers.clone()),
        ScanPlace::Snapshot(_) => None,
    }
}

/// Adds the totals of the earlier sweeps. The failures are those of the last sweep, which has tried the failed objects
/// again.
fn with_sums(outcome: SweepOutcome, before: Option<SweepOutcome>) -> SweepOutcome {
    let Some(before) = before else { return outcome };
    let mut rewritten = before.rewritten;
    rewritten.extend(&outcome.rewritten);
    SweepOutcome {
        written: outcome.written + before.written,
        rewritten,
        gone: outcome.gone + before.gone,
        conflicts: outcome.conflicts + before.conflicts,
        busy: outcome.busy + before.busy,
        ..outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reencrypt::FailureList;

    #[test]
    fn an_object_that_two_sweeps_wrote_is_one_object() {
        let swept = |rewritten: &[u64]| SweepOutcome {
            end: SweepEnd::Tried,
            written: rewritten.len() as u64,
            rewritten: rewritten.iter().copied().collect(),
            unchanged: 0,
            gone: 0,
            conflicts: 0,
            busy: 0,
            failures: FailureList::default(),
            is_awaiting_adoption: false,
            silence: None,
        };
        let both = with_sums(swept(&[1, 2, 3]), Some(swept(&[1, 2])));
        assert_eq!((both.objects(), both.written), (3, 5));
    }
}
