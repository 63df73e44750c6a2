//! The three KMS v2 calls, on a snapshot; and the latch that makes Status and Encrypt of one connection agree.
//!
//! No transport, no disk, no lock. Invariants: exactly one key is tried; bytes that were not authenticated are never
//! returned; Encrypt answers with the key that this connection's last Status announced, for 10 s after another was
//! promoted. Source: KEP-3299, and the checks of
//! `kmsv2/envelope.go` in k8s.io/apiserver.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use rand::rngs::SysRng;
use zeroize::Zeroizing;

use crate::{
    crypto::{
        aead, fill_random,
        wrap::{UnwrapError, WrapError},
    },
    keeper::{Published, ServingKey, Snapshot},
};

/// How long Encrypt goes on with an announced key after another was promoted.
const GRACE: Duration = Duration::from_secs(10);
const HEALTHY: &str = "ok";
const SELF_TEST_FAILED: &str = "the self-test of wrapping and unwrapping failed";

/// What all connections share.
#[derive(Debug, Default)]
pub struct Service {
    published: Arc<Published>,
}

/// One connection of an API server, with what its last Status announced.
#[derive(Debug)]
pub struct Connection {
    published: Arc<Published>,
    announced: ArcSwapOption<ServingKey>,
}

/// The answer to Status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// `ok`, or a fixed sentence.
    pub healthz: &'static str,
    /// The key that Encrypt will use.
    pub key_id: Arc<str>,
}

/// The answer to Encrypt.
#[derive(Debug)]
pub struct Wrapped {
    /// The wrapped seed.
    pub ciphertext: Vec<u8>,
    /// The key that it is under.
    pub key_id: Arc<str>,
}

/// Why a call was refused. The texts reach clients of the API server: fixed, and without secrets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The keyring is not open yet.
    #[error("sealed: the keyring is not open yet")]
    Sealed,
    /// No key has this name.
    #[error("unknown key_id")]
    UnknownKey,
    /// The key is there and must not be used.
    #[error("key {0} is disabled")]
    Disabled(Arc<str>),
    /// The bytes are not a wrapped seed.
    #[error("ciphertext is malformed")]
    Malformed,
    /// The bytes name another key than the request.
    #[error("ciphertext is wrapped under another key")]
    OtherKey,
    /// The tag does not match.
    #[error("ciphertext failed authentication")]
    Authentication,
    /// A seed of no bytes or too many.
    #[error("plaintext must be 1 to 512 bytes")]
    PlaintextSize,
    /// We never emit any, so whoever sends some sends another plugin's.
    #[error("annotations are not supported")]
    Annotations,
    /// The machine's fault; the detail is for the log.
    #[error("internal error")]
    Internal(&'static str),
}

impl Service {
    /// The service of what is, or will be, published.
    pub fn new(published: Arc<Published>) -> Self {
        Self { published }
    }

    /// A new connection, to which nothing was announced yet.
    pub fn connect(&self) -> Connection {
        Connection { published: Arc::clone(&self.published), announced: ArcSwapOption::empty() }
    }
}

impl Connection {
    /// Announces the primary key, after a round trip with a random value through it.
    ///
    /// # Errors
    /// [`Error::Sealed`].
    pub fn status(&self) -> Result<Health, Error> {
        let current = self.published.current();
        let snapshot = current.as_ref().ok_or(Error::Sealed)?;
        let primary = snapshot.primary();
        self.announced.store(Some(Arc::clone(primary)));
        let healthz = if round_trip(primary, &mut SysRng) { HEALTHY } else { SELF_TEST_FAILED };
        Ok(Health { healthz, key_id: Arc::clone(&primary.id) })
    }

    /// Wraps a seed under the key that this connection was told of.
    ///
    /// # Errors
    /// [`Error::Sealed`], [`Error::PlaintextSize`], or [`Error::Internal`] when the random source fails.
    pub fn encrypt(&self, seed: &[u8]) -> Result<Wrapped, Error> {
        let current = self.published.current();
        let snapshot = current.as_ref().ok_or(Error::Sealed)?;
        let key = self.key_to_wrap(snapshot, Instant::now());
        let ciphertext = key.kek.wrap(&mut SysRng, &key.id, seed).map_err(|error| match error {
            WrapError::SeedSize => Error::PlaintextSize,
            WrapError::Random(_) => Error::Internal("the random source failed"),
        })?;
        Ok(Wrapped { ciphertext, key_id: Arc::clone(&key.id) })
    }

    /// Unwraps a seed under exactly the key that `key_id` names.
    ///
    /// # Errors
    /// All but [`Error::PlaintextSize`] and [`Error::Internal`].
    pub fn decrypt(&self, key_id: &str, wrapped: &[u8], annotated: bool) -> Result<Zeroizing<Vec<u8>>, Error> {
        let current = self.published.current();
        let snapshot = current.as_ref().ok_or(Error::Sealed)?;
        if annotated {
            return Err(Error::Annotations);
        }
        let key = snapshot.key(key_id).ok_or(Error::UnknownKey)?;
        if !key.state.unwraps() {
            return Err(Error::Disabled(Arc::clone(&key.id)));
        }
        key.kek.unwrap(&key.id, wrapped).map_err(|error| match error {
            UnwrapError::OtherKey => Error::OtherKey,
            UnwrapError::NotAuthentic(_) => Error::Authentication,
            UnwrapError::Length(_) | UnwrapError::Magic | UnwrapError::Version(_) | UnwrapError::Suite(_) => {
                Error::Malformed
            }
        })
    }

    /// The announced key while it is the primary, or was until less than the grace ago and still unwraps; else the primary.
    fn key_to_wrap(&self, snapshot: &Snapshot, now: Instant) -> Arc<ServingKey> {
        let primary = snapshot.primary();
        let announced = self.announced.load_full().filter(|announced| {
            let still_unwraps = snapshot.key(&announced.id).is_some_and(|key| key.state.unwraps());
            still_unwraps && now.duration_since(snapshot.since()) < GRACE
        });
        announced.unwrap_or_else(|| Arc::clone(primary))
    }
}

/// Whether a random value comes back as it went in.
fn round_trip(key: &ServingKey, rng: &mut impl rand::TryCryptoRng) -> bool {
    let mut value = Zeroizing::new([0; 32]);
    if fill_random(rng, value.as_mut()).is_err() {
        return false;
    }
    let wrapped = key.kek.wrap(rng, &key.id, value.as_ref());
    let unwrapped = wrapped.ok().and_then(|wrapped| key.kek.unwrap(&key.id, &wrapped).ok());
    unwrapped.is_some_and(|unwrapped| aead::equal(&unwrapped, value.as_ref()))
}
