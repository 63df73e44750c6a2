//! Counts the calls of Decrypt that were refused because the keyring does not hold the key, or has disabled it.
//!
//! Such a call means that a stored value needs that key. Most likely an older keyring was restored, or somebody has
//! disabled a key that is needed. Invariant: a peer can make neither the memory nor the log grow. At most [`KEYS_MAX`]
//! key_ids are kept, only those that claviger could have made, and the log has at most one line a minute for missing
//! keys, and one for disabled keys.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use tracing::error;

use crate::{
    keyring::key_id::KeyId,
    telemetry::{advice, event, quota::Quota},
};

/// The greatest number of key_ids that are counted separately. Calls for all others are counted together.
const KEYS_MAX: usize = 16;

/// The refused calls for keys that the keyring does not hold or has disabled.
#[derive(Debug)]
pub(super) struct MissingKeys(Mutex<MissingCounts>);

#[derive(Debug)]
struct MissingCounts {
    keys: BTreeMap<KeyId, MissingCalls>,
    others: u64,
    /// Limits the log lines about keys that the keyring does not hold.
    quota: Quota,
    /// Limits the log lines about disabled keys.
    disabled: Quota,
}

#[derive(Debug)]
struct MissingCalls {
    calls: u64,
    last: Instant,
}

/// A key that API servers need and that the keyring does not hold or has disabled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissingKey {
    /// The key_id that the calls named.
    pub key_id: String,
    /// The number of calls of Decrypt that were refused since the process started.
    pub calls: u64,
    /// Seconds since the last of these calls.
    pub last_s: u64,
}

impl Default for MissingKeys {
    fn default() -> Self {
        let quota = || Quota::new(Duration::from_mins(1));
        Self(Mutex::new(MissingCounts { keys: BTreeMap::new(), others: 0, quota: quota(), disabled: quota() }))
    }
}

impl MissingKeys {
    /// Counts a call that named `key_id`, which the keyring does not hold. Logs it unless such a line was logged within
    /// the last minute. Returns whether it was logged.
    pub(super) fn note(&self, key_id: &str) -> bool {
        let key_id = key_id.parse::<KeyId>().ok();
        let said = self.count(key_id, |counts| &mut counts.quota);
        if let Some(left_out) = said {
            let key_id = key_id.map(|key_id| key_id.to_string());
            error!(message = event::KEY_MISSING, key_id, left_out, advice = advice::whole(advice::KEY_MISSING));
        }
        said.is_some()
    }

    /// Counts and logs a call that named `key_id`, which is disabled, as [`note`](Self::note) does.
    pub(super) fn note_disabled(&self, key_id: &str) -> bool {
        let said = self.count(key_id.parse().ok(), |counts| &mut counts.disabled);
        if let Some(left_out) = said {
            error!(message = event::KEY_DISABLED, key_id, left_out, advice = advice::whole(advice::KEY_DISABLED));
        }
        said.is_some()
    }

    /// Counts a call. If a line may be logged, returns how many lines were left out since the last line.
    fn count(&self, key_id: Option<KeyId>, quota: impl Fn(&mut MissingCounts) -> &mut Quota) -> Option<u64> {
        let now = Instant::now();
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.add(key_id, now);
        quota(&mut counts).take(now)
    }

    /// Returns the keys for which calls were refused and which are not served now, and the number of calls for all
    /// other key_ids.
    pub(super) fn report(&self, is_served: impl Fn(&str) -> bool) -> (Vec<MissingKey>, u64) {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let keys = counts.keys.iter().map(|(key_id, MissingCalls { calls, last })| MissingKey {
            key_id: key_id.to_string(),
            calls: *calls,
            last_s: last.elapsed().as_secs(),
        });
        (keys.filter(|key| !is_served(&key.key_id)).collect(), counts.others)
    }
}

impl MissingCounts {
    fn add(&mut self, key_id: Option<KeyId>, now: Instant) {
        let is_full = self.keys.len() >= KEYS_MAX;
        match key_id.filter(|key_id| !is_full || self.keys.contains_key(key_id)) {
            Some(key_id) => {
                let key = self.keys.entry(key_id).or_insert(MissingCalls { calls: 0, last: now });
                key.calls = key.calls.saturating_add(1);
                key.last = now;
            }
            None => self.others = self.others.saturating_add(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key_id(number: usize) -> String {
        format!("k{}-{:032x}", number + 1, number)
    }

    #[test]
    fn calls_are_counted_by_key_and_forgotten_when_the_keyring_holds_it() {
        let missing = MissingKeys::default();
        for number in [1, 2, 1] {
            missing.note(&key_id(number));
        }
        let counted: Vec<(String, u64)> =
            missing.report(|_| false).0.into_iter().map(|key| (key.key_id, key.calls)).collect();
        assert_eq!(counted, [(key_id(1), 2), (key_id(2), 1)]);
        let (rest, others) = missing.report(|held| held == key_id(1));
        assert_eq!((rest.len(), rest[0].key_id.clone(), others), (1, key_id(2), 0));
        assert!(rest[0].last_s < 60);
    }

    #[test]
    fn a_peer_cannot_fill_the_memory() {
        let missing = MissingKeys::default();
        for number in 0..1000 {
            missing.note(&key_id(number));
            missing.note(&format!("of-another-plugin-{number}"));
        }
        missing.note("");
        missing.note(&"k1-".repeat(20_000));
        let (keys, others) = missing.report(|_| false);
        assert_eq!((keys.len(), others), (KEYS_MAX, 1000 - 16 + 1000 + 2));
        missing.note(&key_id(3));
        let (keys, still) = missing.report(|_| false);
        assert_eq!((keys[3].calls, still), (2, others), "a key that is listed goes on counting");
    }
}
