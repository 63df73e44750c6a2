//! The three KMS v2 calls, on a snapshot; and the latch that makes Status and Encrypt of one connection agree.
//!
//! No transport, no disk, no lock. Invariants: exactly one key is tried; bytes that were not authenticated are never
//! returned; Encrypt answers with the key that this connection's last Status announced, for 10 s after another was
//! promoted. Source: KEP-3299, and the checks of
//! `kmsv2/envelope.go` in k8s.io/apiserver.

mod adoption;
#[cfg(test)]
pub mod testing;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use rand::rngs::SysRng;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{
    crypto::{
        Digest, aead, fill_random,
        wrap::{UnwrapError, WrapError},
    },
    keeper::{Published, ServingKey, Snapshot},
    telemetry::metrics::{self, Metrics},
};

use self::adoption::{Adoption, Adoptions};
pub use self::adoption::{ConnectionReport, Peer};

/// How long Encrypt goes on with an announced key after another was promoted.
const GRACE: Duration = Duration::from_secs(10);

/// How long after the start a call waits for the keyring rather than being refused. An API server does not repeat a
/// refused call: a user would see it fail. Less than a call may take, so that the refusal still comes in time.
const PATIENCE: Duration = Duration::from_secs(2);

const HEALTHY: &str = "ok";
const SELF_TEST_FAILED: &str = "the self-test of wrapping and unwrapping failed";

/// What all connections share.
#[derive(Debug, Default)]
pub struct Service {
    published: Arc<Published>,
    patient_until: Option<Instant>,
    metrics: Arc<Metrics>,
    adoptions: Arc<Adoptions>,
    node: Arc<Node>,
}

/// What a plugin says of itself, whatever it serves.
#[derive(Debug, Default)]
struct Node {
    /// Another for each start.
    instance: String,
    layers: BTreeMap<String, String>,
}

/// What a plugin says of itself to whoever looks after the node; nothing of it is secret.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Another for each start.
    pub instance: String,
    /// The layers that protect the process, each with how far it is in force.
    pub layers: BTreeMap<String, String>,
    /// The generation that is served.
    pub generation: u64,
    /// Why a later one on the disk is not; none if there is none.
    #[serde(default)]
    pub degraded: Option<String>,
    /// Whether no other plugin serves from the state directory; none from a version that does not know.
    #[serde(default)]
    pub alone: Option<bool>,
    /// Seeds that each key has unwrapped since the process started; keys that have unwrapped none are left out.
    #[serde(default)]
    pub unwrapped: BTreeMap<String, u64>,
    /// The other connections, the oldest first.
    pub connections: Vec<ConnectionReport>,
}

/// One connection of an API server, with what its last Status announced.
#[derive(Debug)]
pub struct Connection {
    published: Arc<Published>,
    patient_until: Option<Instant>,
    metrics: Arc<Metrics>,
    adoptions: Arc<Adoptions>,
    node: Arc<Node>,
    adoption: Arc<Adoption>,
}

/// The answer to Status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// `ok`, or a fixed sentence.
    pub healthz: &'static str,
    /// The key that Encrypt will use.
    pub key_id: Arc<str>,
}

impl Health {
    /// Whether everything is well.
    pub fn is_ok(&self) -> bool {
        self.healthz == HEALTHY
    }
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
    /// The service of what is, or will be, published, by a process that is protected by these layers.
    pub fn new(published: Arc<Published>, layers: BTreeMap<String, String>) -> Self {
        let mut instance = [0; 16];
        // Without a random source nothing else works either, and says so.
        let _ = fill_random(&mut SysRng, &mut instance);
        let node = Arc::new(Node { instance: base16ct::lower::encode_string(&instance), layers });
        let patient_until = Instant::now().checked_add(PATIENCE);
        Self { published, patient_until, metrics: Arc::default(), adoptions: Arc::default(), node }
    }

    /// A new connection of `peer`, to which nothing was announced yet.
    pub fn connect(&self, peer: Peer) -> Connection {
        Connection {
            published: Arc::clone(&self.published),
            patient_until: self.patient_until,
            metrics: Arc::clone(&self.metrics),
            adoptions: Arc::clone(&self.adoptions),
            node: Arc::clone(&self.node),
            adoption: self.adoptions.enter(peer),
        }
    }

    /// Says what Status would, and announces nothing.
    ///
    /// # Errors
    /// [`Error::Sealed`].
    pub fn health(&self) -> Result<Health, Error> {
        let current = self.published.current();
        let snapshot = current.as_ref().ok_or(Error::Sealed)?;
        Ok(health(snapshot.primary(), &self.metrics))
    }

    /// What counts the calls and connections of this service.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// What a scrape shows of the keyring; none while sealed.
    pub fn keyring(&self) -> Option<metrics::Keyring> {
        let current = self.published.current();
        let snapshot = current.as_ref()?;
        let keys = snapshot.keys().map(|key| metrics::Key {
            id_hash: key_id_hash(&key.id),
            state: key.state.as_str(),
            unwrapped: key.unwrapped(),
        });
        let degraded = self.published.degraded().is_some();
        Some(metrics::Keyring {
            generation: snapshot.generation(),
            degraded,
            unbacked: snapshot.unbacked(),
            keys: keys.collect(),
        })
    }
}

impl Connection {
    /// Waits for the keyring while the plugin is starting; what comes later is refused at once.
    pub async fn unsealed(&self) {
        if let Some(until) = self.patient_until.filter(|_| self.published.current().is_none()) {
            // In time or not: the call itself finds out.
            let _ = tokio::time::timeout_at(until.into(), self.published.first()).await;
        }
    }

    /// Announces the primary key, after a round trip with a random value through it.
    ///
    /// # Errors
    /// [`Error::Sealed`].
    pub fn status(&self) -> Result<Health, Error> {
        let current = self.published.current();
        let snapshot = current.as_ref().ok_or(Error::Sealed)?;
        let primary = snapshot.primary();
        self.adoption.told(primary);
        Ok(health(primary, &self.metrics))
    }

    /// Says what Status would, and announces nothing.
    ///
    /// # Errors
    /// [`Error::Sealed`].
    pub fn health(&self) -> Result<Health, Error> {
        let current = self.published.current();
        let snapshot = current.as_ref().ok_or(Error::Sealed)?;
        Ok(health(snapshot.primary(), &self.metrics))
    }

    /// Who is at the other end.
    pub fn peer(&self) -> Peer {
        self.adoption.peer
    }

    /// What the plugin says of itself.
    pub fn report(&self) -> Report {
        let current = self.published.current();
        let keys = current.iter().flat_map(|snapshot| snapshot.keys());
        let unwrapped = keys.map(|key| (key.id.to_string(), key.unwrapped())).filter(|(_, count)| *count > 0);
        Report {
            instance: self.node.instance.clone(),
            layers: self.node.layers.clone(),
            generation: current.as_ref().map_or(0, |snapshot| snapshot.generation()),
            degraded: self.published.degraded().map(|reason| reason.to_string()),
            alone: Some(self.published.is_alone()),
            unwrapped: unwrapped.collect(),
            connections: self.adoptions.report_to(&self.adoption),
        }
    }

    /// Wraps a seed under the key that this connection was told of.
    ///
    /// # Errors
    /// [`Error::Sealed`], [`Error::PlaintextSize`], or [`Error::Internal`] when the random source fails.
    pub fn encrypt(&self, seed: &[u8]) -> Result<Wrapped, Error> {
        let current = self.published.current();
        let snapshot = current.as_ref().ok_or(Error::Sealed)?;
        let key = self.key_to_wrap(snapshot, Instant::now());
        self.adoption.asked();
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
        let seed = key.kek.unwrap(&key.id, wrapped).map_err(|error| match error {
            UnwrapError::OtherKey => Error::OtherKey,
            UnwrapError::NotAuthentic(_) => Error::Authentication,
            UnwrapError::Length(_) | UnwrapError::Magic | UnwrapError::Version(_) | UnwrapError::Suite(_) => {
                Error::Malformed
            }
        })?;
        key.count();
        Ok(seed)
    }

    /// The announced key while it is the primary, or was until less than the grace ago and still unwraps; else the primary.
    fn key_to_wrap(&self, snapshot: &Snapshot, now: Instant) -> Arc<ServingKey> {
        let primary = snapshot.primary();
        let announced = self.adoption.announced.load_full().filter(|announced| {
            let still_unwraps = snapshot.key(&announced.id).is_some_and(|key| key.state.unwraps());
            still_unwraps && now.duration_since(snapshot.since()) < GRACE
        });
        announced.unwrap_or_else(|| Arc::clone(primary))
    }
}

/// The health of the key that wraps, tested now and noted.
fn health(primary: &ServingKey, metrics: &Metrics) -> Health {
    let passed = round_trip(primary, &mut SysRng);
    metrics.self_test(passed);
    Health { healthz: if passed { HEALTHY } else { SELF_TEST_FAILED }, key_id: Arc::clone(&primary.id) }
}

/// A key_id as kube-apiserver's metrics show it.
fn key_id_hash(key_id: &str) -> String {
    format!("sha256:{}", Digest::of(key_id.as_bytes()).to_hex())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        crypto::{Uuid, kdf::RootKey},
        keyring::{Keyring, state::State, testing},
    };

    const SEED: [u8; 32] = [0x5a; 32];

    /// A service with a keyring of one primary and one pending key.
    struct Fixture {
        keyring: Keyring,
        published: Arc<Published>,
        service: Service,
    }

    impl Fixture {
        fn new() -> Self {
            let root = RootKey::generate(&mut SysRng).unwrap();
            let keyring = testing::with_key(testing::keyring(&root, Uuid([1; 16])), &root, State::Pending);
            let published = Arc::new(Published::default());
            let service = Service::new(Arc::clone(&published), BTreeMap::new());
            let mut fixture = Self { keyring: keyring.clone(), published, service };
            fixture.publish(keyring, Duration::ZERO);
            fixture
        }

        fn publish(&mut self, keyring: Keyring, ago: Duration) {
            self.published.publish(Snapshot::new(&keyring, Instant::now().checked_sub(ago).unwrap()));
            self.keyring = keyring;
        }

        fn id(&self, index: usize) -> String {
            self.keyring.entries()[index].id().to_string()
        }
    }

    #[test]
    fn a_seed_comes_back_as_it_was() {
        let connection = Fixture::new().service.connect(Peer::default());
        let Wrapped { ciphertext, key_id } = connection.encrypt(&SEED).unwrap();
        assert_eq!(*connection.decrypt(&key_id, &ciphertext, false).unwrap(), SEED);
    }

    #[test]
    fn every_call_is_refused_while_sealed() {
        let connection = Service::default().connect(Peer::default());
        assert_eq!(connection.status().unwrap_err(), Error::Sealed);
        assert_eq!(connection.encrypt(&SEED).unwrap_err(), Error::Sealed);
        assert_eq!(connection.decrypt("k1", &[0; 108], false).unwrap_err(), Error::Sealed);
    }

    #[tokio::test]
    async fn a_call_waits_for_the_keyring_only_while_the_plugin_starts() {
        let published = Arc::new(Published::default());
        let connection = Service::new(Arc::clone(&published), BTreeMap::new()).connect(Peer::default());
        let opens = async { published.publish(Snapshot::new(&Fixture::new().keyring, Instant::now())) };
        tokio::join!(connection.unsealed(), opens);
        connection.status().unwrap();

        let sealed = Service::new(Arc::default(), BTreeMap::new()).connect(Peer::default());
        sealed.unsealed().await;
        assert_eq!(sealed.status().unwrap_err(), Error::Sealed);
    }

    #[test]
    fn encrypt_answers_with_what_this_connection_was_told() {
        let mut fixture = Fixture::new();
        let (told, fresh) = (fixture.service.connect(Peer::default()), fixture.service.connect(Peer::default()));
        let old = told.status().unwrap().key_id;
        fixture.publish(testing::promote(&fixture.keyring, 1), Duration::ZERO);
        assert_eq!(told.encrypt(&SEED).unwrap().key_id, old);
        assert_eq!(*fresh.encrypt(&SEED).unwrap().key_id, fixture.id(1));
        // The next Status announces the new key, and ends the old one for this connection.
        assert_eq!(*told.status().unwrap().key_id, fixture.id(1));
        assert_eq!(*told.encrypt(&SEED).unwrap().key_id, fixture.id(1));
    }

    #[test]
    fn the_grace_ends_after_ten_seconds() {
        let mut fixture = Fixture::new();
        let connection = fixture.service.connect(Peer::default());
        let old = connection.status().unwrap().key_id;
        fixture.publish(testing::promote(&fixture.keyring, 1), Duration::from_secs(9));
        assert_eq!(connection.encrypt(&SEED).unwrap().key_id, old);
        fixture.publish(fixture.keyring.clone(), GRACE);
        assert_eq!(*connection.encrypt(&SEED).unwrap().key_id, fixture.id(1));
    }

    #[test]
    fn a_disabled_key_neither_wraps_in_its_grace_nor_unwraps() {
        let mut fixture = Fixture::new();
        let connection = fixture.service.connect(Peer::default());
        let old = connection.status().unwrap().key_id;
        let wrapped = connection.encrypt(&SEED).unwrap().ciphertext;
        let promoted = testing::promote(&fixture.keyring, 1);
        fixture.publish(testing::set_state(&promoted, 0, State::Disabled), Duration::ZERO);
        assert_eq!(*connection.encrypt(&SEED).unwrap().key_id, fixture.id(1));
        let error = connection.decrypt(&old, &wrapped, false).unwrap_err();
        assert_eq!(error.to_string(), format!("key {old} is disabled"));
    }

    #[test]
    fn every_key_but_a_disabled_one_unwraps() {
        for state in [State::Pending, State::DecryptOnly, State::Primary] {
            let mut fixture = Fixture::new();
            let connection = fixture.service.connect(Peer::default());
            let Wrapped { ciphertext, key_id } = connection.encrypt(&SEED).unwrap();
            let promoted = testing::promote(&fixture.keyring, 1);
            fixture.publish(testing::set_state(&promoted, 0, state), Duration::ZERO);
            assert_eq!(*connection.decrypt(&key_id, &ciphertext, false).unwrap(), SEED, "{state}");
        }
    }

    #[test]
    fn exactly_the_named_key_is_tried() {
        let fixture = Fixture::new();
        let connection = fixture.service.connect(Peer::default());
        let wrapped = connection.encrypt(&SEED).unwrap().ciphertext;
        assert_eq!(connection.decrypt(&fixture.id(1), &wrapped, false).unwrap_err(), Error::OtherKey);
        assert_eq!(connection.decrypt("k9", &wrapped, false).unwrap_err(), Error::UnknownKey);
        assert_eq!(connection.decrypt(&fixture.id(0), &wrapped, true).unwrap_err(), Error::Annotations);
    }

    #[test]
    fn malformed_and_forged_seeds_are_told_apart() {
        let fixture = Fixture::new();
        let connection = fixture.service.connect(Peer::default());
        let wrapped = connection.encrypt(&SEED).unwrap().ciphertext;
        for length in [0, 1, 76, 600] {
            let bytes = vec![0; length];
            assert_eq!(connection.decrypt(&fixture.id(0), &bytes, false).unwrap_err(), Error::Malformed, "{length}");
        }
        let mut forged = wrapped;
        forged[107] ^= 1;
        let error = connection.decrypt(&fixture.id(0), &forged, false).unwrap_err();
        assert_eq!(error.to_string(), "ciphertext failed authentication");
        assert_eq!(connection.encrypt(&[]).unwrap_err(), Error::PlaintextSize);
        assert_eq!(connection.encrypt(&[0; 513]).unwrap_err(), Error::PlaintextSize);
    }

    #[test]
    fn a_scrape_shows_the_keys_that_are_not_destroyed() {
        let mut fixture = Fixture::new();
        let connection = fixture.service.connect(Peer::default());
        let wrapped = connection.encrypt(&SEED).unwrap().ciphertext;
        connection.decrypt(&fixture.id(0), &wrapped, false).unwrap();
        let promoted = testing::promote(&fixture.keyring, 1);
        // What follows goes on counting.
        let after = Snapshot::after(fixture.published.current().as_deref(), &promoted, 0);
        fixture.publish(promoted, Duration::ZERO);
        fixture.published.publish(after);
        connection.decrypt(&fixture.id(0), &wrapped, false).unwrap();
        assert_eq!(connection.report().unwrapped, [(fixture.id(0), 2)].into());
        let shown = fixture.service.keyring().unwrap();
        assert_eq!((shown.generation, shown.keys.len()), (fixture.keyring.generation(), 2));
        for (index, state, unwrapped) in [(0, "decrypt-only", 2), (1, "primary", 0)] {
            let key = metrics::Key { id_hash: key_id_hash(&fixture.id(index)), state, unwrapped };
            assert!(shown.keys.contains(&key), "{shown:?}");
        }
        assert!(Service::default().keyring().is_none());
    }

    #[test]
    fn a_key_id_is_hashed_as_the_api_server_does_it() {
        // printf k1-00 | sha256sum
        let expected = "sha256:0631937a0c5363c4a9ddc68b0d748df97d5f250c5443370dbda5abdd1998898a";
        assert_eq!(key_id_hash("k1-00"), expected);
    }

    #[test]
    fn asking_for_the_health_announces_nothing() {
        let mut fixture = Fixture::new();
        let connection = fixture.service.connect(Peer::default());
        let old = connection.status().unwrap().key_id;
        fixture.publish(testing::promote(&fixture.keyring, 1), Duration::ZERO);
        let health = fixture.service.health().unwrap();
        assert!(health.is_ok());
        assert_eq!(*health.key_id, fixture.id(1));
        assert_eq!(connection.encrypt(&SEED).unwrap().key_id, old);
        assert_eq!(Service::default().health(), Err(Error::Sealed));
    }

    /// A random source that fails.
    struct Dry;

    impl rand::TryRng for Dry {
        type Error = std::fmt::Error;
        fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
            Err(std::fmt::Error)
        }
        fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
            Err(std::fmt::Error)
        }
        fn try_fill_bytes(&mut self, _: &mut [u8]) -> Result<(), Self::Error> {
            Err(std::fmt::Error)
        }
    }

    impl rand::TryCryptoRng for Dry {}

    #[test]
    fn the_self_test_fails_without_random_bytes() {
        let fixture = Fixture::new();
        let current = fixture.published.current();
        let primary = current.as_ref().unwrap().primary();
        assert!(round_trip(primary, &mut SysRng));
        assert!(!round_trip(primary, &mut Dry));
    }

    #[test]
    fn a_key_is_adopted_by_two_status_in_a_row_without_encrypt_between() {
        let mut fixture = Fixture::new();
        let connection = fixture.service.connect(Peer { uid: 7, pid: Some(9) });
        let asking = fixture.service.connect(Peer::default());
        let adopted = || asking.report().connections[0].clone();
        assert_eq!((adopted().uid, adopted().pid, adopted().is_alive()), (7, Some(9), false));
        let tell = || connection.status().unwrap().key_id;
        for key in 0..2 {
            tell();
            assert!(!adopted().has_adopted(&fixture.id(key)) && adopted().is_alive());
            connection.encrypt(&SEED).unwrap();
            tell();
            assert!(!adopted().has_adopted(&fixture.id(key)), "the answer to Encrypt may have been lost");
            tell();
            assert!(adopted().has_adopted(&fixture.id(key)));
            let promoted = testing::promote(&fixture.keyring, 1);
            fixture.publish(promoted, Duration::ZERO);
        }
        drop(connection);
        assert!(asking.report().connections.is_empty(), "who has left is forgotten");
    }
}
