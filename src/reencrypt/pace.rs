//! Limits how fast objects are rewritten: how many requests may be unanswered, and how many may begin in a second.
//!
//! The number of unanswered requests adapts as in TCP Vegas. Of `limit` requests, `limit * (1 - least / latency)` wait
//! in the API server. `least` is the shortest latency of the last half minute. A few waiting requests keep the API
//! server at work. More of them only delay other clients. When the API server says that it is busy, the number is
//! halved at once.
//!
//! Source: L. Brakmo, L. Peterson, "TCP Vegas: End to End Congestion Avoidance on a Global Internet", 1995. Pure: the
//! caller passes the time.

use std::time::Duration;

use tokio::time::Instant;

/// The least and the greatest limit of unanswered requests, and the limit at the beginning.
const LEAST: usize = 1;
const MOST: usize = 64;
const FIRST: usize = 4;

/// The number of waiting requests below which the limit rises, and the number above which it falls.
const FEW_WAITING: f64 = 8.0;
const MANY_WAITING: f64 = 16.0;

/// How long the least latency counts. An API server may become slower for good.
const MEMORY: Duration = Duration::from_secs(30);

/// The longest pause before new requests after a busy answer.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// The pause before new requests after a busy answer that names no time.
const PAUSE: Duration = Duration::from_secs(1);

/// How late a request may begin without delaying the requests after it. Timers are late by about a millisecond.
const LATE: Duration = Duration::from_millis(50);

/// Decides when the next request may begin.
#[derive(Debug)]
pub struct RequestPace {
    /// The time between the beginnings of two requests. Zero without a limit.
    interval: Duration,
    next: Instant,
    limit: usize,
    window: LatencyWindow,
    least: LeastLatency,
    /// The time when the limit was halved last.
    halved: Option<Instant>,
}

/// The answers since the limit was last changed.
#[derive(Debug, Default)]
struct LatencyWindow {
    answers: u32,
    latency: Duration,
}

/// The shortest mean latency of the last windows.
#[derive(Debug, Default)]
struct LeastLatency {
    now: Option<Duration>,
    /// The shortest mean latency since `since`, which replaces `now` after [`MEMORY`].
    next: Option<Duration>,
    since: Option<Instant>,
}

impl RequestPace {
    /// Allows at most `rate` requests to begin in a second, or any number without a rate.
    pub fn new(rate: Option<u32>, now: Instant) -> Self {
        let interval = rate.map_or(Duration::ZERO, |rate| Duration::from_secs(1) / rate.max(1));
        let (window, least) = (LatencyWindow::default(), LeastLatency::default());
        Self { interval, next: now, limit: FIRST, window, least, halved: None }
    }

    /// Returns when the next request may begin. Returns `None` if one of the `unanswered` requests has to be answered
    /// first.
    pub(super) fn next(&self, unanswered: usize) -> Option<Instant> {
        (unanswered < self.limit).then_some(self.next)
    }

    /// Notes that a request begins. If requests were late, the next ones make up for at most [`LATE`].
    pub(super) fn begin(&mut self, now: Instant) {
        self.next = self.next.max(now.checked_sub(LATE).unwrap_or(now)) + self.interval;
    }

    /// Notes that a request was answered.
    pub(super) fn answered(&mut self, latency: Duration, now: Instant) {
        self.window.answers += 1;
        self.window.latency += latency;
        let enough = u32::try_from(self.limit).unwrap_or(u32::MAX).max(8);
        if self.window.answers >= enough {
            let window = std::mem::take(&mut self.window);
            self.adapt(window.latency / window.answers, now);
        }
    }

    /// Notes that the API server is busy, and for how long it asks to be left alone, if it says so.
    pub(super) fn busy(&mut self, wait: Option<Duration>, now: Instant) {
        self.next = self.next.max(now + wait.unwrap_or(PAUSE).min(LONGEST_PAUSE));
        // Busy answers to requests that were under way together halve the limit once.
        if self.halved.is_none_or(|at| now.duration_since(at) >= PAUSE) {
            self.limit = (self.limit / 2).max(LEAST);
            self.halved = Some(now);
        }
        self.window = LatencyWindow::default();
    }

    fn adapt(&mut self, latency: Duration, now: Instant) {
        let least = self.least.note(latency, now);
        let share = least.as_secs_f64() / latency.as_secs_f64().max(f64::MIN_POSITIVE);
        #[allow(clippy::cast_precision_loss, reason = "a limit is at most 64")]
        let waiting = self.limit as f64 * (1.0 - share);
        if waiting < FEW_WAITING {
            self.limit = (self.limit + (self.limit / 4).max(1)).min(MOST);
        } else if waiting > MANY_WAITING {
            self.limit = (self.limit - self.limit / 8).max(LEAST);
        }
    }
}

impl LeastLatency {
    fn note(&mut self, latency: Duration, now: Instant) -> Duration {
        let since = *self.since.get_or_insert(now);
        if now.duration_since(since) >= MEMORY {
            (self.now, self.next, self.since) = (self.next, None, Some(now));
        }
        let shorter = |kept: Option<Duration>| kept.map_or(latency, |kept| kept.min(latency));
        self.next = Some(shorter(self.next));
        let least = shorter(self.now);
        self.now = Some(least);
        least
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the latency of a server that works on `workers` requests at once, each for 10 ms.
    fn latency(limit: usize, workers: usize) -> Duration {
        Duration::from_millis(10) * u32::try_from(limit.div_ceil(workers)).unwrap()
    }

    fn settled(pace: &mut RequestPace, workers: usize, now: &mut Instant) -> usize {
        for _ in 0..20_000 {
            *now += Duration::from_millis(1);
            pace.answered(latency(pace.limit, workers), *now);
        }
        pace.limit
    }

    #[test]
    fn as_many_requests_are_unanswered_as_keep_the_server_at_work() {
        let mut now = Instant::now();
        for workers in [1, 4, 16] {
            let limit = settled(&mut RequestPace::new(None, now), workers, &mut now);
            assert!(limit >= workers && limit <= workers + 24, "{limit} of {workers}");
        }
    }

    #[test]
    fn a_server_that_becomes_slower_gets_fewer_requests() {
        let mut now = Instant::now();
        let mut pace = RequestPace::new(None, now);
        let before = settled(&mut pace, 32, &mut now);
        let after = settled(&mut pace, 2, &mut now);
        assert!(after < before && after <= 26, "{before}, then {after}");
    }

    #[test]
    fn a_busy_server_is_left_alone_and_gets_half_as_many() {
        let now = Instant::now();
        let mut pace = RequestPace::new(None, now);
        pace.limit = 40;
        // Three requests were under way together.
        (0..3).for_each(|_| pace.busy(Some(Duration::from_secs(7)), now));
        assert_eq!((pace.limit, pace.next(0)), (20, Some(now + Duration::from_secs(7))));
        let later = now + Duration::from_secs(8);
        pace.busy(None, later);
        assert_eq!((pace.limit, pace.next(0)), (10, Some(later + PAUSE)));
        let mut hostile = RequestPace::new(None, now);
        hostile.busy(Some(Duration::from_secs(u64::MAX)), now);
        assert_eq!(hostile.next(0), Some(now + LONGEST_PAUSE));
        for second in 2..20 {
            pace.busy(None, later + Duration::from_secs(second));
        }
        assert_eq!(pace.limit, LEAST);
    }

    #[test]
    fn a_rate_is_kept_also_by_late_timers_and_after_a_pause_there_is_no_burst() {
        let now = Instant::now();
        let mut pace = RequestPace::new(Some(100), now);
        let tenth = Duration::from_millis(10);
        pace.begin(now);
        assert_eq!(pace.next(1), Some(now + tenth));
        // Each timer fires a millisecond late.
        let mut at = now;
        for _ in 0..1000 {
            at = pace.next(1).unwrap() + Duration::from_millis(1);
            pace.begin(at);
        }
        assert!(at - now <= tenth * 1000 + Duration::from_millis(2), "{:?}", at - now);
        let late = at + Duration::from_secs(5);
        let mut burst = 0;
        while pace.next(1).unwrap() <= late {
            pace.begin(late);
            burst += 1;
        }
        assert_eq!(burst, 6, "those of 50 ms, and the one that is due");
        assert_eq!(pace.next(FIRST), None);
        let mut pace = RequestPace::new(None, now);
        pace.begin(now);
        assert_eq!(pace.next(1), Some(now));
    }
}
