//! The state that all connections share: the published keys, the counters, and what the plugin reports about itself.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::Guard;
use rand::rngs::SysRng;

use super::{
    adoption::{Adoption, Adoptions, Peer},
    error::Sealed,
    health::{Health, SelfTests},
    missing::MissingKeys,
    refused::RefusedCalls,
    report::SelfReport,
};
use crate::{
    crypto::Digest,
    keeper::{Degraded, Published, ServedKeys, ServingKey},
    memory::fill_random,
    telemetry::metrics::{self, Metrics},
};

/// How long after the start of the process a call waits for the keyring instead of being refused. An API server does
/// not repeat a refused call, so its user would see the failure. The wait is shorter than a call may take, so that a
/// refusal still arrives in time.
const PATIENCE: Duration = Duration::from_secs(2);

/// The state that all connections share.
#[derive(Debug, Default)]
pub struct Service {
    published: Arc<Published>,
    patient_until: Option<Instant>,
    metrics: Metrics,
    adoptions: Adoptions,
    missing: MissingKeys,
    refused: RefusedCalls,
    self_tests: SelfTests,
    /// A random text that identifies this start of the plugin.
    instance: String,
    layers: BTreeMap<String, String>,
    /// Whether the operator keeps no backups on purpose.
    #[cfg(feature = "metrics")]
    has_no_backups: bool,
}

impl Service {
    /// Makes the service of the keys that are or will be `published`, in a process that these layers protect.
    pub fn new(published: Arc<Published>, layers: BTreeMap<String, String>) -> Self {
        let mut instance = [0; 16];
        // If the random source fails, Encrypt and the self-test fail, too, and report it.
        let _ = fill_random(&mut SysRng, &mut instance);
        Self {
            published,
            patient_until: Instant::now().checked_add(PATIENCE),
            metrics: Metrics::default(),
            adoptions: Adoptions::default(),
            missing: MissingKeys::default(),
            refused: RefusedCalls::default(),
            self_tests: SelfTests::default(),
            instance: base16ct::lower::encode_string(&instance),
            layers,
            #[cfg(feature = "metrics")]
            has_no_backups: false,
        }
    }

    /// Stops counting keys without a backup, because the operator keeps no backups.
    #[cfg(feature = "metrics")]
    #[must_use]
    pub fn without_backups(self) -> Self {
        Self { has_no_backups: true, ..self }
    }

    /// Returns what Status would answer, without announcing a key.
    ///
    /// # Errors
    /// When the keyring is not open yet.
    pub fn health(&self) -> Result<Health, Sealed> {
        let current = self.current();
        Ok(self.test(served_keys(current.as_ref())?.primary()))
    }

    /// Tests the primary key, counts the outcome, and logs a failure.
    pub(super) fn test(&self, primary: &ServingKey) -> Health {
        self.self_tests.run(primary, &self.metrics)
    }

    /// Returns the counters of calls and connections.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Returns the quotas of log lines about failed calls.
    pub fn refused_calls(&self) -> &RefusedCalls {
        &self.refused
    }

    /// Returns the metrics of the served keyring. `None` while sealed.
    #[cfg(feature = "metrics")]
    pub fn keyring(&self) -> Option<metrics::ServedKeyring> {
        let current = self.current();
        let served = current.as_ref()?;
        let keys = served.keys().map(|key| metrics::ServedKey {
            id_hash: key_id_hash(&key.id),
            state: key.state.as_str(),
            unwrapped: key.unwrapped(),
        });
        let (missing, others) = self.missing.report(|key_id| served.key(key_id).is_some());
        let missing = missing.into_iter().map(|key| (key_id_hash(&key.key_id), key.calls));
        Some(metrics::ServedKeyring {
            generation: served.generation(),
            degraded: self.published.degraded().is_some(),
            unbacked: (!self.has_no_backups).then(|| served.unbacked()),
            missing: [("others".to_owned(), others)].into_iter().chain(missing).collect(),
            keys: keys.collect(),
        })
    }

    /// Returns the keys that are served now.
    pub(super) fn current(&self) -> Guard<Option<Arc<ServedKeys>>> {
        self.published.current()
    }

    /// Waits for the keyring until `PATIENCE` after the start of the process. Later it returns at once.
    pub(super) async fn wait_until_unsealed(&self) {
        if let Some(until) = self.patient_until.filter(|_| self.current().is_none()) {
            // The call itself finds out whether the keyring was opened in time.
            let _ = tokio::time::timeout_at(until.into(), self.published.first()).await;
        }
    }

    /// Notes that a call of Decrypt was refused because the keyring does not hold the key `key_id`. Returns whether the
    /// log names the key: at most once a minute.
    #[cold]
    pub(super) fn note_missing(&self, key_id: &str) -> bool {
        self.missing.note(key_id)
    }

    /// Notes that a call of Decrypt was refused because the key `key_id` is disabled. Returns whether the log names the
    /// key: at most once a minute.
    #[cold]
    pub(super) fn note_disabled(&self, key_id: &str) -> bool {
        self.missing.note_disabled(key_id)
    }

    /// Notes a new connection of `peer`.
    pub(super) fn enter(&self, peer: Peer) -> Arc<Adoption> {
        self.adoptions.enter(peer)
    }

    /// Returns the plugin's report of itself. It leaves out the connection `asking`.
    pub(super) fn report(&self, asking: &Arc<Adoption>) -> SelfReport {
        let current = self.current();
        let keys = || current.iter().flat_map(|served| served.keys());
        let unwrapped = keys().map(|key| (key.id.to_string(), key.unwrapped())).filter(|(_, count)| *count > 0);
        let key = |key_id: &str| current.as_ref().and_then(|served| served.key(key_id).map(|key| key.state.unwraps()));
        let degraded = self.published.degraded();
        let (missing, missing_others) = self.missing.report(|key_id| key(key_id) == Some(true));
        SelfReport {
            instance: self.instance.clone(),
            layers: self.layers.clone(),
            keyring: current.as_ref().map(|served| served.uuid().to_hex()),
            generation: current.as_ref().map_or(0, |served| served.generation()),
            primary_s: current.as_ref().map(|served| served.since().elapsed().as_secs()),
            record: current.as_ref().map(|served| served.record().to_hex()),
            canary: None,
            keys: keys().map(|key| key.id.to_string()).collect(),
            served_from: self.published.served_from().map(|from| (*from).clone()),
            degraded: degraded.as_deref().map(|Degraded { reason, .. }| reason.clone()),
            no_successor: degraded.is_some_and(|degraded| degraded.no_successor),
            alone: Some(self.published.is_alone()),
            unwrapped: unwrapped.collect(),
            missing,
            missing_others,
            connections: self.adoptions.report_to(asking),
        }
    }
}

/// Returns the served keys, or fails while the plugin is sealed. `current` comes from [`Service::current`].
pub(super) fn served_keys(current: Option<&Arc<ServedKeys>>) -> Result<&ServedKeys, Sealed> {
    current.map(AsRef::as_ref).ok_or(Sealed)
}

/// Returns the hash of a key_id, as kube-apiserver's metrics show it.
pub(super) fn key_id_hash(key_id: &str) -> String {
    format!("sha256:{}", Digest::of(key_id.as_bytes()).to_hex())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_id_is_hashed_as_the_api_server_does_it() {
        // Computed by `printf k1-00 | sha256sum`.
        let expected = "sha256:0631937a0c5363c4a9ddc68b0d748df97d5f250c5443370dbda5abdd1998898a";
        assert_eq!(key_id_hash("k1-00"), expected);
    }
}
