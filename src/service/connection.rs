//! The calls of one connection, and which key it wraps under.
//!
//! Invariant: a call tries exactly one key. Encrypt wraps under the key that the last Status of this connection
//! announced, for [`GRACE`] after another key was promoted, because an API server throws a seed away if the two differ.
//! Decrypt unwraps with the key that the request names. Source: KEP-3299, "Status Key ID"; `kmsv2/envelope.go` in
//! k8s.io/apiserver.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use base64ct::{Base64, Encoding};
use rand::rngs::SysRng;

use super::{
    adoption::{Adoption, Peer},
    error::{DecryptError, EncryptError, Sealed},
    health::Health,
    report::SelfReport,
    shared::{Service, served_keys},
};
use crate::{
    crypto::{canary::answer_to, seed::Seed, wrap::UnwrapError},
    keeper::{ServedKeys, ServingKey},
};

/// How long Encrypt continues with an announced key after another key was promoted.
const GRACE: Duration = Duration::from_secs(10);

/// A connection of an API server, with the key that its last Status announced.
#[derive(Debug)]
pub struct Connection {
    service: Arc<Service>,
    adoption: Arc<Adoption>,
}

/// The answer to Encrypt.
#[derive(Debug)]
pub struct Wrapped {
    /// The wrapped seed, as etcd will store it.
    pub ciphertext: Vec<u8>,
    /// The key_id of the key that the seed is under.
    pub key_id: Arc<str>,
}

impl Connection {
    /// Makes the state of a new connection of `peer`. No key is announced to it yet.
    pub fn new(service: Arc<Service>, peer: Peer) -> Self {
        let adoption = service.enter(peer);
        Self { service, adoption }
    }

    /// Waits for the keyring shortly after the start of the process. Later it returns at once, and calls are refused
    /// while the keyring is not open.
    pub async fn wait_until_unsealed(&self) {
        self.service.wait_until_unsealed().await;
    }

    /// Announces the primary key, and tests it: wraps and unwraps a random value.
    ///
    /// # Errors
    /// When the keyring is not open yet.
    pub fn status(&self) -> Result<Health, Sealed> {
        let current = self.service.current();
        let primary = served_keys(current.as_ref())?.primary();
        self.adoption.announce(primary);
        Ok(self.service.test(primary))
    }

    /// Returns what Status would answer, without announcing a key.
    ///
    /// # Errors
    /// When the keyring is not open yet.
    pub fn health(&self) -> Result<Health, Sealed> {
        self.service.health()
    }

    /// Returns the plugin's report of itself, with the answer to `canary`, which has the form `<key_id> <base64>`. Only
    /// root and the plugin's own user may read the report: every other peer gets `None`.
    pub fn report_for_peer(&self, canary: Option<&str>) -> Option<SelfReport> {
        let own = rustix::process::geteuid().as_raw();
        may_read_report(self.adoption.peer.uid, own).then(|| {
            let canary = canary.and_then(|canary| self.answer_in_base64(canary));
            SelfReport { canary, ..self.service.report(&self.adoption) }
        })
    }

    fn answer_in_base64(&self, canary: &str) -> Option<String> {
        let (key_id, wrapped) = canary.split_once(' ')?;
        let wrapped = Base64::decode_vec(wrapped).ok()?;
        self.answer_canary(key_id, &wrapped).map(|answer| Base64::encode_string(&answer))
    }

    /// Opens a canary under the served key `key_id`, and returns the answer. Returns `None` if this plugin cannot read
    /// under that key.
    fn answer_canary(&self, key_id: &str, wrapped: &[u8]) -> Option<[u8; 32]> {
        let current = self.service.current();
        let key = served_keys(current.as_ref()).ok()?.key(key_id).filter(|key| key.state.unwraps())?;
        answer_to(&key.kek, &key.id, wrapped).ok()
    }

    /// Wraps a seed under the key that this connection's last Status announced.
    ///
    /// # Errors
    /// When the keyring is not open yet, the seed's size is not 1 to 512 bytes, or the random source fails.
    pub fn encrypt(&self, plaintext: Vec<u8>) -> Result<Wrapped, EncryptError> {
        let seed = Seed::new(plaintext);
        let current = self.service.current();
        let key = self.key_to_wrap(served_keys(current.as_ref())?, Instant::now());
        self.adoption.ask();
        let ciphertext = key.kek.wrap(&mut SysRng, &key.id, &seed?)?;
        self.adoption.answered(&key.id);
        Ok(Wrapped { ciphertext, key_id: Arc::clone(&key.id) })
    }

    /// Unwraps a seed under exactly the key that `key_id` names, for a request with this number of annotations.
    ///
    /// # Errors
    /// When the keyring is not open yet, the request has annotations, the key is unknown or disabled, or the bytes are
    /// no seed that was wrapped under it.
    pub fn decrypt(&self, key_id: &str, wrapped: &[u8], annotations: usize) -> Result<Seed, DecryptError> {
        let current = self.service.current();
        let served = served_keys(current.as_ref())?;
        if annotations > 0 {
            return Err(DecryptError::Annotations);
        }
        let Some(key) = served.key(key_id) else {
            return Err(DecryptError::UnknownKey { is_logged: self.service.note_missing(key_id) });
        };
        if !key.state.unwraps() {
            let is_logged = self.service.note_disabled(key_id);
            return Err(DecryptError::Disabled { key_id: Arc::clone(&key.id), is_logged });
        }
        let seed = key.kek.unwrap(&key.id, wrapped).map_err(|error| match error {
            UnwrapError::OtherKey => DecryptError::OtherKey,
            UnwrapError::NotAuthentic(_) => DecryptError::Authentication,
            UnwrapError::Length(_) | UnwrapError::Magic | UnwrapError::Version(_) | UnwrapError::Suite(_) => {
                DecryptError::Malformed
            }
        })?;
        key.count();
        Ok(seed)
    }

    /// Returns the primary key. For [`GRACE`] after a promotion, returns the key that was announced to this connection,
    /// if it still unwraps.
    fn key_to_wrap(&self, served: &ServedKeys, now: Instant) -> Arc<ServingKey> {
        let primary = served.primary();
        let announced = self.adoption.announced.load();
        let announced = announced
            .as_ref()
            .and_then(|id| served.key(id))
            .filter(|key| key.state.unwraps() && now.duration_since(served.since()) < GRACE);
        Arc::clone(announced.unwrap_or(primary))
    }
}

/// Whether a peer with the uid `peer` may read the report of a plugin with the uid `own`.
fn may_read_report(peer: u32, own: u32) -> bool {
    peer == 0 || peer == own
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{
        crypto::{Uuid, root_key::RootKey, seed::SeedSize},
        keeper::Published,
        keyring::{Keyring, state::State, testing},
        service::{Healthz, shared::key_id_hash},
        telemetry::metrics,
    };

    const SEED: [u8; 32] = [0x5a; 32];

    /// A service with a keyring of one primary and one pending key.
    struct Fixture {
        keyring: Keyring,
        published: Arc<Published>,
        service: Arc<Service>,
    }

    impl Fixture {
        fn new() -> Self {
            let root = RootKey::generate(&mut SysRng).unwrap();
            let keyring = testing::with_key(testing::keyring(&root, Uuid([1; 16])), &root, State::Pending);
            let published = Arc::new(Published::default());
            let service = Arc::new(Service::new(Arc::clone(&published), BTreeMap::new()));
            let mut fixture = Self { keyring: keyring.clone(), published, service };
            fixture.publish(keyring, Duration::ZERO);
            fixture
        }

        fn publish(&mut self, keyring: Keyring, ago: Duration) {
            self.published.publish(ServedKeys::new(&keyring, Instant::now().checked_sub(ago).unwrap()));
            self.keyring = keyring;
        }

        fn connect(&self) -> Connection {
            self.connect_as(Peer::default())
        }

        fn connect_as(&self, peer: Peer) -> Connection {
            Connection::new(Arc::clone(&self.service), peer)
        }

        fn id(&self, index: usize) -> String {
            self.keyring.entries()[index].id().to_string()
        }
    }

    fn connect(service: Service) -> Connection {
        Connection::new(Arc::new(service), Peer::default())
    }

    #[test]
    fn only_root_and_the_own_user_read_the_report() {
        for (peer, own, may) in [(0, 0, true), (0, 990, true), (990, 990, true), (991, 990, false), (65_534, 0, false)]
        {
            assert_eq!(may_read_report(peer, own), may, "uid {peer} asks a plugin of uid {own}");
        }
        let stranger = Fixture::new().connect_as(Peer { uid: u32::MAX - 1, pid: None });
        assert!(stranger.report_for_peer(None).is_none());
    }

    #[test]
    fn a_seed_comes_back_as_it_was() {
        let connection = Fixture::new().connect();
        let Wrapped { ciphertext, key_id } = connection.encrypt(SEED.to_vec()).unwrap();
        assert_eq!(connection.decrypt(&key_id, &ciphertext, 0).unwrap().expose(), SEED);
    }

    #[test]
    fn a_destroyed_key_leaves_the_memory_while_the_connection_that_was_told_of_it_idles() {
        let mut fixture = Fixture::new();
        let connection = fixture.connect();
        connection.status().unwrap();
        let kek = {
            let current = fixture.service.current();
            Arc::downgrade(&served_keys(current.as_ref()).unwrap().primary().kek)
        };
        assert!(kek.upgrade().is_some());
        let root = RootKey::generate(&mut SysRng).unwrap();
        fixture.publish(testing::keyring(&root, Uuid([2; 16])), Duration::ZERO);
        assert!(kek.upgrade().is_none(), "the connection still holds the key");
        let fresh = fixture.id(0);
        assert_eq!(*connection.encrypt(SEED.to_vec()).unwrap().key_id, *fresh);
    }

    #[test]
    fn every_call_is_refused_while_sealed() {
        let connection = Connection::new(Arc::default(), Peer::default());
        assert_eq!(connection.status().unwrap_err(), Sealed);
        assert_eq!(connection.encrypt(SEED.to_vec()).unwrap_err(), EncryptError::Sealed(Sealed));
        assert_eq!(connection.decrypt("k1", &[0; 108], 0).unwrap_err(), DecryptError::Sealed(Sealed));
    }

    #[tokio::test]
    async fn a_call_waits_for_the_keyring_only_while_the_plugin_starts() {
        let published = Arc::new(Published::default());
        let connection = connect(Service::new(Arc::clone(&published), BTreeMap::new()));
        let opens = async { published.publish(ServedKeys::new(&Fixture::new().keyring, Instant::now())) };
        tokio::join!(connection.wait_until_unsealed(), opens);
        connection.status().unwrap();

        let sealed = connect(Service::new(Arc::default(), BTreeMap::new()));
        sealed.wait_until_unsealed().await;
        assert_eq!(sealed.status().unwrap_err(), Sealed);
    }

    #[test]
    fn encrypt_uses_the_key_that_this_connection_was_given_last() {
        let mut fixture = Fixture::new();
        let (asked, fresh) = (fixture.connect(), fixture.connect());
        let old = asked.status().unwrap().key_id;
        fixture.publish(testing::promote(&fixture.keyring, 1), Duration::ZERO);
        assert_eq!(asked.encrypt(SEED.to_vec()).unwrap().key_id, old);
        assert_eq!(*fresh.encrypt(SEED.to_vec()).unwrap().key_id, fixture.id(1));
        // After the next Status, this connection wraps only under the new key.
        assert_eq!(*asked.status().unwrap().key_id, fixture.id(1));
        assert_eq!(*asked.encrypt(SEED.to_vec()).unwrap().key_id, fixture.id(1));
    }

    #[test]
    fn the_grace_ends_after_ten_seconds() {
        let mut fixture = Fixture::new();
        let connection = fixture.connect();
        let old = connection.status().unwrap().key_id;
        fixture.publish(testing::promote(&fixture.keyring, 1), Duration::from_secs(9));
        assert_eq!(connection.encrypt(SEED.to_vec()).unwrap().key_id, old);
        fixture.publish(fixture.keyring.clone(), GRACE);
        assert_eq!(*connection.encrypt(SEED.to_vec()).unwrap().key_id, fixture.id(1));
    }

    #[test]
    fn a_disabled_key_neither_wraps_in_its_grace_nor_unwraps() {
        let mut fixture = Fixture::new();
        let connection = fixture.connect();
        let old = connection.status().unwrap().key_id;
        let wrapped = connection.encrypt(SEED.to_vec()).unwrap().ciphertext;
        let promoted = testing::promote(&fixture.keyring, 1);
        fixture.publish(testing::set_state(&promoted, 0, State::Disabled), Duration::ZERO);
        assert_eq!(*connection.encrypt(SEED.to_vec()).unwrap().key_id, fixture.id(1));
        let error = connection.decrypt(&old, &wrapped, 0).unwrap_err();
        assert_eq!(error.to_string(), format!("key {old} is disabled"));
    }

    #[test]
    fn every_key_but_a_disabled_one_unwraps() {
        for state in [State::Pending, State::DecryptOnly, State::Primary] {
            let mut fixture = Fixture::new();
            let connection = fixture.connect();
            let Wrapped { ciphertext, key_id } = connection.encrypt(SEED.to_vec()).unwrap();
            let promoted = testing::promote(&fixture.keyring, 1);
            fixture.publish(testing::set_state(&promoted, 0, state), Duration::ZERO);
            assert_eq!(connection.decrypt(&key_id, &ciphertext, 0).unwrap().expose(), SEED, "{state}");
        }
    }

    #[test]
    fn exactly_the_named_key_is_tried() {
        let fixture = Fixture::new();
        let connection = fixture.connect();
        let wrapped = connection.encrypt(SEED.to_vec()).unwrap().ciphertext;
        assert_eq!(connection.decrypt(&fixture.id(1), &wrapped, 0).unwrap_err(), DecryptError::OtherKey);
        assert_eq!(connection.decrypt("k9", &wrapped, 0).unwrap_err(), DecryptError::UnknownKey { is_logged: true });
        assert_eq!(connection.decrypt(&fixture.id(0), &wrapped, 1).unwrap_err(), DecryptError::Annotations);
    }

    #[test]
    fn a_disabled_key_that_is_asked_for_is_reported_until_it_is_enabled() {
        let mut fixture = Fixture::new();
        let connection = fixture.connect();
        let root = RootKey::generate(&mut SysRng).unwrap();
        let keyring = testing::with_key(fixture.keyring.clone(), &root, State::Disabled);
        let index = keyring.entries().len() - 1;
        let disabled = keyring.entries()[index].id().to_string();
        fixture.publish(keyring.clone(), Duration::ZERO);
        let error = connection.decrypt(&disabled, &[0; 108], 0).unwrap_err();
        assert!(matches!(error, DecryptError::Disabled { is_logged: true, .. }), "{error}");
        let report = connection.report_for_peer(None).unwrap();
        assert_eq!((report.missing[0].key_id.as_str(), report.missing[0].calls), (disabled.as_str(), 1));
        assert!(report.keys.contains(&disabled));
        fixture.publish(testing::set_state(&keyring, index, State::DecryptOnly), Duration::ZERO);
        assert!(connection.report_for_peer(None).unwrap().missing.is_empty());
    }

    #[test]
    fn a_key_that_is_missing_is_reported_until_the_keyring_holds_it() {
        let mut fixture = Fixture::new();
        let connection = fixture.connect();
        let root = RootKey::generate(&mut SysRng).unwrap();
        let whole = testing::with_key(fixture.keyring.clone(), &root, State::Pending);
        let missing = whole.entries()[2].id().to_string();
        for _ in 0..3 {
            let error = connection.decrypt(&missing, &[0; 108], 0).unwrap_err();
            assert!(matches!(error, DecryptError::UnknownKey { .. }), "{error}");
        }
        connection.decrypt("of another plugin", &[0; 108], 0).unwrap_err();
        let report = connection.report_for_peer(None).unwrap();
        let counted: Vec<_> = report.missing.iter().map(|key| (key.key_id.as_str(), key.calls)).collect();
        assert_eq!((counted.as_slice(), report.missing_others), (&[(missing.as_str(), 3)][..], 1));
        #[cfg(feature = "metrics")]
        {
            let shown = fixture.service.keyring().unwrap().missing;
            assert_eq!(shown, [("others".to_owned(), 1), (key_id_hash(&missing), 3)]);
        }
        fixture.publish(whole, Duration::ZERO);
        let report = connection.report_for_peer(None).unwrap();
        assert_eq!((report.missing.len(), report.missing_others), (0, 1));
        assert!(report.keys.contains(&missing));
    }

    #[test]
    fn malformed_and_forged_seeds_have_errors_of_their_own() {
        let fixture = Fixture::new();
        let connection = fixture.connect();
        let wrapped = connection.encrypt(SEED.to_vec()).unwrap().ciphertext;
        for length in [0, 1, 76, 600] {
            let bytes = vec![0; length];
            assert_eq!(connection.decrypt(&fixture.id(0), &bytes, 0).unwrap_err(), DecryptError::Malformed, "{length}");
        }
        let mut forged = wrapped;
        forged[107] ^= 1;
        let error = connection.decrypt(&fixture.id(0), &forged, 0).unwrap_err();
        assert_eq!(error.to_string(), "ciphertext failed authentication");
        assert_eq!(connection.encrypt(Vec::new()).unwrap_err(), EncryptError::Size(SeedSize));
        assert_eq!(connection.encrypt(vec![0; 513]).unwrap_err(), EncryptError::Size(SeedSize));
    }

    #[cfg(feature = "metrics")]
    #[test]
    fn a_scrape_shows_the_keys_that_are_not_destroyed() {
        let mut fixture = Fixture::new();
        let connection = fixture.connect();
        let wrapped = connection.encrypt(SEED.to_vec()).unwrap().ciphertext;
        connection.decrypt(&fixture.id(0), &wrapped, 0).unwrap();
        let promoted = testing::promote(&fixture.keyring, 1);
        // Calls after the change continue the count.
        let after =
            ServedKeys::after(fixture.published.current().as_deref(), &promoted, crate::crypto::Digest([5; 32]), 0);
        fixture.publish(promoted, Duration::ZERO);
        fixture.published.publish(after);
        connection.decrypt(&fixture.id(0), &wrapped, 0).unwrap();
        assert_eq!(connection.report_for_peer(None).unwrap().unwrapped, [(fixture.id(0), 2)].into());
        let shown = fixture.service.keyring().unwrap();
        assert_eq!((shown.generation, shown.keys.len()), (fixture.keyring.generation(), 2));
        for (index, state, unwrapped) in [(0, "decrypt-only", 2), (1, "primary", 0)] {
            let key = metrics::ServedKey { id_hash: key_id_hash(&fixture.id(index)), state, unwrapped };
            assert!(shown.keys.contains(&key), "{shown:?}");
        }
        assert!(Service::default().keyring().is_none());
    }

    #[test]
    fn asking_for_the_health_announces_nothing() {
        let mut fixture = Fixture::new();
        let connection = fixture.connect();
        let old = connection.status().unwrap().key_id;
        fixture.publish(testing::promote(&fixture.keyring, 1), Duration::ZERO);
        let health = fixture.service.health().unwrap();
        assert!(health.healthz == Healthz::Ok);
        assert_eq!(*health.key_id, fixture.id(1));
        assert_eq!(connection.encrypt(SEED.to_vec()).unwrap().key_id, old);
        assert_eq!(Service::default().health(), Err(Sealed));
    }

    #[test]
    fn a_key_is_adopted_by_two_status_in_a_row_without_encrypt_between() {
        let mut fixture = Fixture::new();
        let connection = fixture.connect_as(Peer { uid: 7, pid: Some(9) });
        let asking = fixture.connect();
        let adopted = || asking.report_for_peer(None).unwrap().connections[0].clone();
        assert_eq!((adopted().uid, adopted().pid, adopted().is_alive()), (7, Some(9), false));
        let tell = || connection.status().unwrap().key_id;
        for key in 0..2 {
            tell();
            assert!(!adopted().has_adopted(&fixture.id(key)) && adopted().is_alive());
            connection.encrypt(SEED.to_vec()).unwrap();
            tell();
            assert!(!adopted().has_adopted(&fixture.id(key)), "the answer to Encrypt may have been lost");
            tell();
            assert!(adopted().has_adopted(&fixture.id(key)));
            let promoted = testing::promote(&fixture.keyring, 1);
            fixture.publish(promoted, Duration::ZERO);
        }
        drop(connection);
        assert!(asking.report_for_peer(None).unwrap().connections.is_empty(), "who has left is forgotten");
    }

    #[test]
    fn a_key_is_announced_then_in_use_and_then_adopted() {
        let mut fixture = Fixture::new();
        let (connection, asking) = (fixture.connect(), fixture.connect());
        let seen = || {
            let report = asking.report_for_peer(None).unwrap().connections[0].clone();
            assert_eq!(report.adopted, report.adopted_s.is_some());
            (report.announced_s.is_some(), report.in_use_s.is_some(), report.adopted_s.is_some())
        };
        assert_eq!(seen(), (false, false, false));
        for _ in 0..2 {
            connection.status().unwrap();
            assert_eq!(seen(), (true, false, false));
            connection.encrypt(SEED.to_vec()).unwrap();
            assert_eq!(seen(), (true, true, false));
            connection.status().unwrap();
            assert_eq!(seen(), (true, true, false), "the answer to Encrypt may have been lost");
            connection.status().unwrap();
            assert_eq!(seen(), (true, true, true));
            let promoted = testing::promote(&fixture.keyring, 1);
            fixture.publish(promoted, Duration::ZERO);
            // In its grace period the old key wraps, so the new key is not in use yet.
            connection.encrypt(SEED.to_vec()).unwrap();
            assert_eq!(seen(), (true, true, false), "this is still about the old key");
        }
        // A peer that got its seed over an earlier connection does not call Encrypt.
        let again = fixture.connect();
        drop(connection);
        again.status().unwrap();
        again.status().unwrap();
        assert_eq!(
            asking.report_for_peer(None).unwrap().connections.iter().map(|other| other.in_use_s).collect::<Vec<_>>(),
            [None]
        );
        assert!(asking.report_for_peer(None).unwrap().connections[0].adopted);
    }
}
