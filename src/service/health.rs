//! The health that Status announces: can the primary key wrap and unwrap now?

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use rand::rngs::SysRng;
use tracing::error;

use crate::{
    crypto::{aead, seed::Seed},
    keeper::ServingKey,
    telemetry::{advice, event, metrics::Metrics, quota::Quota},
};

/// The answer to a call of Status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// The result of the self-test.
    pub healthz: Healthz,
    /// The key_id of the key that Encrypt will use.
    pub key_id: Arc<str>,
}

/// The health of the plugin, as Status announces it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Healthz {
    /// The primary key wraps and unwraps.
    Ok,
    /// The primary key does not wrap and unwrap.
    SelfTestFailed,
}

impl Healthz {
    /// Returns the fixed sentence of the API's field `healthz`. Anything but `ok` is unhealthy to an API server.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::SelfTestFailed => "the self-test of wrapping and unwrapping failed",
        }
    }
}

/// Tests the primary key, and logs at most one failure a minute.
#[derive(Debug)]
pub(super) struct SelfTests(Mutex<Quota>);

impl Default for SelfTests {
    fn default() -> Self {
        Self(Mutex::new(Quota::new(Duration::from_mins(1))))
    }
}

impl SelfTests {
    /// Tests the primary key, counts the outcome in `metrics`, and logs a failure.
    pub(super) fn run(&self, primary: &ServingKey, metrics: &Metrics) -> Health {
        let passed = round_trip(primary, &mut SysRng);
        metrics.self_test(passed);
        if !passed {
            self.note_failure(&primary.id);
        }
        let healthz = if passed { Healthz::Ok } else { Healthz::SelfTestFailed };
        Health { healthz, key_id: Arc::clone(&primary.id) }
    }

    /// Logs a failure, unless one was logged within the last minute. Returns whether it was logged.
    fn note_failure(&self, key_id: &str) -> bool {
        let said = self.0.lock().unwrap_or_else(PoisonError::into_inner).take(Instant::now());
        if let Some(left_out) = said {
            error!(message = event::SELF_TEST_FAILED, key_id, left_out, advice = advice::INTERNAL);
        }
        said.is_some()
    }
}

/// Whether a random value comes back unchanged after it was wrapped and unwrapped.
fn round_trip(key: &ServingKey, rng: &mut impl rand::TryCryptoRng) -> bool {
    let Ok(seed) = Seed::random(rng) else { return false };
    let wrapped = key.kek.wrap(rng, &key.id, &seed);
    let unwrapped = wrapped.ok().and_then(|wrapped| key.kek.unwrap(&key.id, &wrapped).ok());
    unwrapped.is_some_and(|unwrapped| aead::equal(unwrapped.expose(), seed.expose()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::testing::open_published;

    #[test]
    fn the_self_test_fails_without_random_bytes() {
        let published = open_published();
        let current = published.current();
        let primary = current.as_ref().unwrap().primary();
        assert!(round_trip(primary, &mut SysRng));
        assert!(!round_trip(primary, &mut crate::memory::testing::Dry));
    }

    #[test]
    fn a_failure_is_logged_once_a_minute() {
        let tests = SelfTests::default();
        assert_eq!([tests.note_failure("k1"), tests.note_failure("k1")], [true, false]);
    }

    #[test]
    fn each_outcome_has_its_sentence() {
        assert_eq!(Healthz::Ok.as_str(), "ok");
        assert_eq!(Healthz::SelfTestFailed.as_str(), "the self-test of wrapping and unwrapping failed");
    }
}
