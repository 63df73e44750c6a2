//! Limits how often the log names a failed call.
//!
//! An API server, or a process that pretends to be one, can make calls fail as fast as the plugin answers. Invariant:
//! the log has at most one line a second for each method and code, so a rare failure is still seen beside a frequent
//! one.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::telemetry::{method::Method, quota::Quota};

/// The time between two log lines about the same kind of failure.
const PERIOD: Duration = Duration::from_secs(1);

/// The quotas of log lines for each kind of failure: a method, and a gRPC code.
#[derive(Debug, Default)]
pub struct RefusedCalls(Mutex<BTreeMap<(Method, i32), Quota>>);

impl RefusedCalls {
    /// Takes a line from the quota of calls of `method` that fail with `code`. If the line may be written, returns how
    /// many lines were left out since the last one.
    pub fn take(&self, method: Method, code: i32) -> Option<u64> {
        let mut quotas = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        quotas.entry((method, code)).or_insert_with(|| Quota::new(PERIOD)).take(Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frequent_failure_leaves_room_for_a_rare_one() {
        let refused = RefusedCalls::default();
        assert_eq!(refused.take(Method::Decrypt, 5), Some(0));
        for _ in 0..1000 {
            refused.take(Method::Decrypt, 5);
        }
        assert_eq!((refused.take(Method::Decrypt, 3), refused.take(Method::Encrypt, 5)), (Some(0), Some(0)));
        std::thread::sleep(PERIOD);
        assert!(refused.take(Method::Decrypt, 5).is_some_and(|left_out| left_out >= 990));
    }
}
