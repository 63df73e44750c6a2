//! Which connection has adopted which key.
//!
//! A key counts as adopted when Status announced it twice and Encrypt was not called in between. kube-apiserver calls
//! Encrypt after a Status that announces a new key. If the answer to Encrypt was lost, it calls Encrypt again after the
//! next Status. So a Status without an Encrypt after it shows that the answer has arrived. An adoption takes two to
//! three minutes. The API server writes under the key from the moment when Encrypt was answered with it, so this moment
//! is kept, too. Source: KEP-3299, and `kmsv2` in k8s.io/apiserver.

use std::{
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use serde::{Deserialize, Serialize};

use crate::keeper::ServingKey;

/// The longest time since the last Status of a connection that counts as alive. A live API server calls Status every 60
/// s.
const ALIVE: Duration = Duration::from_secs(150);

/// The longest gap between two consecutive calls of Status. A longer gap means that the API server or its machine was
/// paused.
const GAP: Duration = Duration::from_secs(90);

/// A connection has adopted a key after this many calls of Status in a row that announced it, without an Encrypt
/// between them.
const IN_A_ROW: u32 = 2;

/// The process at the other end of a connection, as the kernel identifies it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Peer {
    /// The user that the process runs as.
    pub uid: u32,
    /// The number of the process. `None` if it is in another PID namespace.
    pub pid: Option<i32>,
}

/// The key that was announced to one connection, and how far its API server has adopted it.
#[derive(Debug)]
pub(super) struct Adoption {
    pub(super) peer: Peer,
    since: Instant,
    /// The name of the key that the last Status announced. A handle on the key itself would keep it in memory after it
    /// was destroyed.
    pub(super) announced: ArcSwapOption<Arc<str>>,
    in_a_row: AtomicU32,
    /// The time of the last Status.
    status: Moment,
    /// The time of the first Status that announced this key.
    first: Moment,
    /// The time of the first Encrypt that was answered with this key, after `first`.
    used: Moment,
    /// The time of the Status by which the key counts as adopted.
    adopted: Moment,
    /// The time of the first Status of an unbroken run: every Status announced this key, with no gap and no Encrypt
    /// between.
    steady: Moment,
}

/// A moment in the life of a connection: milliseconds since its beginning, plus one. Zero means that it has not
/// happened yet.
#[derive(Debug, Default)]
struct Moment(AtomicU64);

impl Moment {
    fn set(&self, after: Duration) {
        self.0.store(stored(after), Ordering::Relaxed);
    }

    /// Sets the moment if it is not set yet.
    fn set_once(&self, after: Duration) {
        // Fails if the time is set already: the first one counts.
        let _ = self.0.compare_exchange(0, stored(after), Ordering::Relaxed, Ordering::Relaxed);
    }

    fn clear(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    fn get(&self) -> Option<Duration> {
        self.0.load(Ordering::Relaxed).checked_sub(1).map(Duration::from_millis)
    }

    /// Returns how many seconds ago the moment was, on a connection that is `age` old.
    fn seconds_ago(&self, age: Duration) -> Option<u64> {
        Some(age.saturating_sub(self.get()?).as_secs())
    }
}

fn stored(after: Duration) -> u64 {
    u64::try_from(after.as_millis()).unwrap_or(u64::MAX - 1).saturating_add(1)
}

/// A connection as `claviger status` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionReport {
    /// The user of the peer.
    pub uid: u32,
    /// The process of the peer. `None` if it is in another PID namespace.
    pub pid: Option<i32>,
    /// The age of the connection in seconds.
    pub connected_s: u64,
    /// Seconds since the last Status. `None` before the first one.
    pub status_s: Option<u64>,
    /// The key_id that the last Status announced.
    pub key_id: Option<String>,
    /// Whether the API server has adopted the key `key_id`.
    pub adopted: bool,
    /// Seconds since the first Status that announced the key `key_id`.
    #[serde(default)]
    pub announced_s: Option<u64>,
    /// Seconds since the first Encrypt that was answered with the key `key_id`. `None` also if the API server got its
    /// seed under the key over an earlier connection.
    #[serde(default)]
    pub in_use_s: Option<u64>,
    /// Seconds since the API server adopted the key `key_id`.
    #[serde(default)]
    pub adopted_s: Option<u64>,
    /// Seconds from the first to the last Status of the current unbroken run that announces the key `key_id`. An
    /// Encrypt or a gap of 90 s ends a run. `None` between runs.
    #[serde(default)]
    pub steady_s: Option<u64>,
}

impl Adoption {
    fn new(peer: Peer) -> Self {
        Self {
            peer,
            since: Instant::now(),
            announced: ArcSwapOption::empty(),
            in_a_row: AtomicU32::new(0),
            status: Moment::default(),
            first: Moment::default(),
            used: Moment::default(),
            adopted: Moment::default(),
            steady: Moment::default(),
        }
    }

    /// Notes that Status announces `key`.
    pub(super) fn announce(&self, key: &Arc<ServingKey>) {
        self.announce_at(&key.id, self.since.elapsed());
    }

    /// Notes that Status announces a key at the moment `now` of the connection.
    fn announce_at(&self, key_id: &Arc<str>, now: Duration) {
        let before = self.announced.swap(Some(Arc::new(Arc::clone(key_id))));
        let is_same = before.is_some_and(|before| *before == *key_id);
        if !is_same {
            self.first.set(now);
            self.used.clear();
            self.adopted.clear();
        }
        let has_gap = self.status.get().is_none_or(|last| now.saturating_sub(last) > GAP);
        if !is_same || has_gap || self.steady.get().is_none() {
            self.steady.set(now);
        }
        let in_a_row = if is_same { self.in_a_row.load(Ordering::Relaxed).saturating_add(1) } else { 1 };
        self.in_a_row.store(in_a_row, Ordering::Relaxed);
        if in_a_row >= IN_A_ROW {
            self.adopted.set_once(now);
        }
        self.status.set(now);
    }

    /// Notes that Encrypt was called.
    pub(super) fn ask(&self) {
        self.in_a_row.store(0, Ordering::Relaxed);
        self.adopted.clear();
        self.steady.clear();
    }

    /// Notes that Encrypt was answered with the key `key_id`.
    pub(super) fn answered(&self, key_id: &Arc<str>) {
        if self.announced.load().as_ref().is_some_and(|announced| **announced == *key_id) {
            self.used.set_once(self.since.elapsed());
        }
    }

    /// Returns the length of the current unbroken run: every Status announced the key, without a gap and without an
    /// Encrypt.
    fn steady(&self, age: Duration) -> Option<Duration> {
        let last = self.status.get().filter(|last| age.saturating_sub(*last) <= GAP)?;
        Some(last.saturating_sub(self.steady.get()?))
    }

    fn report(&self) -> ConnectionReport {
        let age = self.since.elapsed();
        ConnectionReport {
            uid: self.peer.uid,
            pid: self.peer.pid,
            connected_s: age.as_secs(),
            status_s: self.status.seconds_ago(age),
            key_id: self.announced.load().as_ref().map(ToString::to_string),
            adopted: self.in_a_row.load(Ordering::Relaxed) >= IN_A_ROW,
            announced_s: self.first.seconds_ago(age),
            in_use_s: self.used.seconds_ago(age),
            adopted_s: self.adopted.seconds_ago(age),
            steady_s: self.steady(age).map(|steady| steady.as_secs()),
        }
    }
}

impl ConnectionReport {
    /// Whether a live API server is at the other end.
    pub fn is_alive(&self) -> bool {
        self.status_s.is_some_and(|seconds| Duration::from_secs(seconds) < ALIVE)
    }

    /// Whether the API server has adopted the key `key_id`.
    pub fn has_adopted(&self, key_id: &str) -> bool {
        self.adopted && self.key_id.as_deref() == Some(key_id)
    }
}

/// The adoptions of all open connections.
#[derive(Debug, Default)]
pub(super) struct Adoptions(Mutex<Vec<Weak<Adoption>>>);

impl Adoptions {
    /// Notes a new connection of `peer`. The list forgets it when the last handle is dropped.
    pub(super) fn enter(&self, peer: Peer) -> Arc<Adoption> {
        let adoption = Arc::new(Adoption::new(peer));
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|other| other.strong_count() > 0);
        all.push(Arc::downgrade(&adoption));
        adoption
    }

    /// Reports all connections except `asking`.
    pub(super) fn report_to(&self, asking: &Arc<Adoption>) -> Vec<ConnectionReport> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let others = all.iter().filter_map(Weak::upgrade).filter(|other| !Arc::ptr_eq(other, asking));
        others.map(|adoption| adoption.report()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the length of the unbroken run of a connection after these calls of Status, which are given in seconds
    /// of its life.
    fn steady(adoption: &Adoption, key_id: &str, status: &[u64]) -> Option<u64> {
        let key_id = Arc::from(key_id);
        for at in status {
            adoption.announce_at(&key_id, Duration::from_secs(*at));
        }
        adoption.steady(Duration::from_secs(*status.last().unwrap())).map(|steady| steady.as_secs())
    }

    #[test]
    fn a_run_of_status_ends_with_a_gap_an_encrypt_or_another_key() {
        let adoption = Adoption::new(Peer::default());
        assert_eq!(adoption.steady(Duration::ZERO), None, "no Status yet");
        assert_eq!(steady(&adoption, "k1", &[5]), Some(0));
        assert_eq!(steady(&adoption, "k1", &[65, 155]), Some(150));
        assert_eq!(steady(&adoption, "k1", &[246]), Some(0), "91 s without a Status");
        assert_eq!(steady(&adoption, "k1", &[300, 360]), Some(114));
        adoption.ask();
        assert_eq!(adoption.steady(Duration::from_mins(6)), None, "an Encrypt");
        assert_eq!(steady(&adoption, "k1", &[420, 480]), Some(60));
        assert_eq!(steady(&adoption, "k2", &[540]), Some(0), "another key");
        assert_eq!(steady(&adoption, "k2", &[600, 660]), Some(120));
        assert_eq!(adoption.steady(Duration::from_secs(750)), Some(Duration::from_mins(2)));
        assert_eq!(adoption.steady(Duration::from_secs(751)), None, "it is paused");
    }
}
