//! Limits how often the log repeats a line. A peer may cause some lines as often as it likes, and they must not fill a
//! disk.

use std::time::{Duration, Instant};

/// Allows one line in each period, and counts the lines that it does not allow.
#[derive(Debug)]
pub struct Quota {
    period: Duration,
    said: Option<Instant>,
    left_out: u64,
}

impl Quota {
    /// Allows one line in each `period`, and the first line at once.
    pub const fn new(period: Duration) -> Self {
        Self { period, said: None, left_out: 0 }
    }

    /// Takes a line from the quota. If the line may be written at the time `now`, returns how many lines were left out
    /// since the last one.
    pub fn take(&mut self, now: Instant) -> Option<u64> {
        if self.said.is_some_and(|said| now.saturating_duration_since(said) < self.period) {
            self.left_out += 1;
            return None;
        }
        self.said = Some(now);
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_in_a_period_tells_of_those_that_were_left_out() {
        let (mut quota, start) = (Quota::new(Duration::from_mins(1)), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!([0, 0, 59].map(|seconds| quota.take(after(seconds))), [Some(0), None, None]);
        assert_eq!([60, 61, 119, 300].map(|seconds| quota.take(after(seconds))), [Some(2), None, None, Some(2)]);
        assert_eq!(quota.take(start), None, "a clock that went back says nothing");
    }
}
