//! The health that Status announces: can the primary key wrap and unwrap now?

use std::sync::Arc;

use rand::rngs::SysRng;

use crate::{
    crypto::{aead, seed::Seed},
    keeper::ServingKey,
    telemetry::metrics::Metrics,
};

/// The answer to Status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// How the self-test went.
    pub healthz: Healthz,
    /// The key that Encrypt will use.
    pub key_id: Arc<str>,
}

/// What Status says of the plugin's health.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Healthz {
    /// The primary key wraps and unwraps.
    Ok,
    /// It does not.
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

impl Health {
    /// Tests the key that wraps, and counts the outcome in `metrics`.
    pub(super) fn of(primary: &ServingKey, metrics: &Metrics) -> Self {
        let passed = round_trip(primary, &mut SysRng);
        metrics.self_test(passed);
        Self { healthz: if passed { Healthz::Ok } else { Healthz::SelfTestFailed }, key_id: Arc::clone(&primary.id) }
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
    fn each_outcome_has_its_sentence() {
        assert_eq!(Healthz::Ok.as_str(), "ok");
        assert_eq!(Healthz::SelfTestFailed.as_str(), "the self-test of wrapping and unwrapping failed");
    }
}
