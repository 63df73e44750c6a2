//! Which connection has taken up which key.
//!
//! kube-apiserver takes a new key_id up between two Status: it learns of it by one, asks for a seed by Encrypt, and has done
//! so when the next Status is not followed by another Encrypt. An answer to Encrypt that was lost looks the same from here
//! until the Status after that, so two in a row with no Encrypt between are what counts.

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

/// A connection that has called Status within this time is an API server's that is alive: it does so every 60 s.
const ALIVE: Duration = Duration::from_secs(150);

/// So many Status in a row with one key_id, and no Encrypt between, are an adoption.
const IN_A_ROW: u32 = 2;

/// Who is at the other end, as the kernel says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Peer {
    /// Its user.
    pub uid: u32,
    /// Its process; none in another namespace.
    pub pid: Option<i32>,
}

/// What one connection was told, and has asked.
#[derive(Debug)]
pub(super) struct Adoption {
    pub(super) peer: Peer,
    since: Instant,
    /// The key that the last Status announced.
    pub(super) announced: ArcSwapOption<ServingKey>,
    in_a_row: AtomicU32,
    /// Milliseconds from `since` to the last Status, and one; zero is never.
    status: AtomicU64,
}

/// A connection as `claviger status` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionReport {
    /// The peer's user.
    pub uid: u32,
    /// The peer's process; none in another namespace.
    pub pid: Option<i32>,
    /// Seconds since it connected.
    pub connected_s: u64,
    /// Seconds since its last Status; none before the first.
    pub status_s: Option<u64>,
    /// The key that it was last told of.
    pub key_id: Option<String>,
    /// Whether it has taken that key up.
    pub adopted: bool,
}

impl Adoption {
    fn new(peer: Peer) -> Self {
        let (announced, in_a_row, status) = (ArcSwapOption::empty(), AtomicU32::new(0), AtomicU64::new(0));
        Self { peer, since: Instant::now(), announced, in_a_row, status }
    }

    /// Status has announced `key`.
    pub(super) fn told(&self, key: &Arc<ServingKey>) {
        let before = self.announced.swap(Some(Arc::clone(key)));
        let is_same = before.is_some_and(|before| before.id == key.id);
        let in_a_row = if is_same { self.in_a_row.load(Ordering::Relaxed).saturating_add(1) } else { 1 };
        self.in_a_row.store(in_a_row, Ordering::Relaxed);
        let milliseconds = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX - 1);
        self.status.store(milliseconds + 1, Ordering::Relaxed);
    }

    /// Encrypt was asked for.
    pub(super) fn asked(&self) {
        self.in_a_row.store(0, Ordering::Relaxed);
    }

    fn report(&self) -> ConnectionReport {
        let connected = self.since.elapsed();
        let status = self.status.load(Ordering::Relaxed).checked_sub(1).map(Duration::from_millis);
        ConnectionReport {
            uid: self.peer.uid,
            pid: self.peer.pid,
            connected_s: connected.as_secs(),
            status_s: status.map(|status| connected.saturating_sub(status).as_secs()),
            key_id: self.announced.load().as_ref().map(|key| key.id.to_string()),
            adopted: self.in_a_row.load(Ordering::Relaxed) >= IN_A_ROW,
        }
    }
}

impl ConnectionReport {
    /// Whether an API server is at the other end, and alive.
    pub fn is_alive(&self) -> bool {
        self.status_s.is_some_and(|seconds| Duration::from_secs(seconds) < ALIVE)
    }

    /// Whether it has taken up `key_id`.
    pub fn has_adopted(&self, key_id: &str) -> bool {
        self.adopted && self.key_id.as_deref() == Some(key_id)
    }
}

/// All connections that there are.
#[derive(Debug, Default)]
pub(super) struct Adoptions(Mutex<Vec<Weak<Adoption>>>);

impl Adoptions {
    pub(super) fn enter(&self, peer: Peer) -> Arc<Adoption> {
        let adoption = Arc::new(Adoption::new(peer));
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|other| other.strong_count() > 0);
        all.push(Arc::downgrade(&adoption));
        adoption
    }

    /// All but the one that asks.
    pub(super) fn report_to(&self, asking: &Arc<Adoption>) -> Vec<ConnectionReport> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let others = all.iter().filter_map(Weak::upgrade).filter(|other| !Arc::ptr_eq(other, asking));
        others.map(|adoption| adoption.report()).collect()
    }
}
