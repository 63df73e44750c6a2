//! The health that Status announces: can the primary key wrap and unwrap now?

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use rand::rngs::SysRng;
use tracing::error;

use crate::{
    crypto::{aead, seed::Seed, wrap::UnwrapError},
    keeper::ServingKey,
    memory::RandomError,
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
        let tested = round_trip(primary, &mut SysRng);
        metrics.self_test(tested.is_ok());
        if let Err(error) = &tested {
            self.note_failure(&primary.id, error);
        }
        let healthz = if tested.is_ok() { Healthz::Ok } else { Healthz::SelfTestFailed };
        Health { healthz, key_id: Arc::clone(&primary.id) }
    }

    /// Logs a failure, unless one was logged within the last minute. Returns whether it was logged.
    fn note_failure(&self, key_id: &str, error: &SelfTestError) -> bool {
        let said = self.0.lock().unwrap_or_else(PoisonError::into_inner).take(Instant::now());
        if let Some(left_out) = said {
            error!(message = event::SELF_TEST_FAILED, key_id, %error, left_out, advice = advice::INTERNAL);
        }
        said.is_some()
    }
}

/// Why a self-test failed.
#[derive(Debug, thiserror::Error)]
enum SelfTestError {
    /// The random source of the system failed.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// The wrapped value did not unwrap.
    #[error("what was just wrapped does not unwrap: {0}")]
    Unwrap(#[from] UnwrapError),
    /// The unwrapped value is not the one that was wrapped.
    #[error("what was just wrapped unwraps to something else")]
    Different,
}

/// Wraps and unwraps a random value.
///
/// # Errors
/// When a step fails, or the value does not come back unchanged.
fn round_trip(key: &ServingKey, rng: &mut impl rand::TryCryptoRng) -> Result<(), SelfTestError> {
    let seed = Seed::random(rng)?;
    let wrapped = key.kek.wrap(rng, &key.id, &seed)?;
    let unwrapped = key.kek.unwrap(&key.id, &wrapped)?;
    if aead::equal(unwrapped.expose(), seed.expose()) { Ok(()) } else { Err(SelfTestError::Different) }
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
        assert!(round_trip(primary, &mut SysRng).is_ok());
        let failed = round_trip(primary, &mut crate::memory::testing::Dry).unwrap_err();
        assert!(matches!(failed, SelfTestError::Random(_)), "{failed}");
        let texts =
            [SelfTestError::Unwrap(UnwrapError::OtherKey), SelfTestError::Different].map(|error| error.to_string());
        assert!(texts[0].starts_with("what was just wrapped does not unwrap: "), "{texts:?}");
        assert_eq!(texts[1], "what was just wrapped unwraps to something else");
    }

    #[test]
    fn a_failure_is_logged_once_a_minute() {
        let tests = SelfTests::default();
        let failed = SelfTestError::Different;
        assert_eq!([tests.note_failure("k1", &failed), tests.note_failure("k1", &failed)], [true, false]);
    }

    #[test]
    fn each_outcome_has_its_sentence() {
        assert_eq!(Healthz::Ok.as_str(), "ok");
        assert_eq!(Healthz::SelfTestFailed.as_str(), "the self-test of wrapping and unwrapping failed");
    }
}
