//! Publishes the keys that calls use, as an immutable snapshot behind an atomic pointer. Reading it needs no disk, no
//! network and no lock.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

use arc_swap::{ArcSwapOption, Guard};
use tokio::sync::watch;

use crate::{
    crypto::wrap::Kek,
    keyring::{Keyring, state::State},
};

/// The keys of one generation, by their names.
#[derive(Debug)]
pub struct Snapshot {
    generation: u64,
    keys: HashMap<Arc<str>, Arc<ServingKey>>,
    primary: Arc<ServingKey>,
    since: Instant,
    unbacked: usize,
}

/// A key for the serving path.
#[derive(Debug)]
pub struct ServingKey {
    /// Its public name.
    pub id: Arc<str>,
    /// Its state.
    pub state: State,
    /// The KEK, which wraps and unwraps.
    pub kek: Arc<Kek>,
    /// How many seeds it has unwrapped since the process started.
    unwrapped: Arc<AtomicU64>,
}

impl ServingKey {
    /// Counts a seed that was unwrapped.
    pub fn count(&self) {
        self.unwrapped.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns how many seeds the key has unwrapped since the process started.
    pub fn unwrapped(&self) -> u64 {
        self.unwrapped.load(Ordering::Relaxed)
    }
}

impl Snapshot {
    /// Makes a snapshot of `keyring`, whose primary key is published at `since`.
    #[cfg(test)]
    pub fn new(keyring: &Keyring, since: Instant) -> Self {
        Self::counting_on(None, keyring, since)
    }

    /// Makes a snapshot of `keyring`. Its keys continue the counts of `before`.
    fn counting_on(before: Option<&Self>, keyring: &Keyring, since: Instant) -> Self {
        let serving = |key: &crate::keyring::Key| {
            let id: Arc<str> = key.id().to_string().into();
            let before = before.and_then(|before| before.key(&id));
            let unwrapped = before.map_or_else(Arc::default, |before| Arc::clone(&before.unwrapped));
            Arc::new(ServingKey { id, state: key.state(), kek: Arc::clone(key.kek()), unwrapped })
        };
        let keys = keyring.keys().map(serving).map(|key| (Arc::clone(&key.id), key)).collect();
        Self { generation: keyring.generation(), keys, primary: serving(keyring.primary()), since, unbacked: 0 }
    }

    /// Returns the generation of the keyring.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Returns the primary key, which wraps.
    pub fn primary(&self) -> &Arc<ServingKey> {
        &self.primary
    }

    /// Returns the key of this name.
    pub fn key(&self, id: &str) -> Option<&Arc<ServingKey>> {
        self.keys.get(id)
    }

    /// Returns every key that is not destroyed.
    pub fn keys(&self) -> impl Iterator<Item = &ServingKey> {
        self.keys.values().map(AsRef::as_ref)
    }

    /// Returns how many of its keys no listed backup contains.
    pub fn unbacked(&self) -> usize {
        self.unbacked
    }

    /// Makes a snapshot of `keyring`, which is published now and replaces `before`. A key that stays primary keeps its
    /// time of publication. `unbacked` is the number of keys that no listed backup contains.
    pub fn after(before: Option<&Self>, keyring: &Keyring, unbacked: usize) -> Self {
        let next = Self { unbacked, ..Self::counting_on(before, keyring, Instant::now()) };
        match before.filter(|before| before.primary.id == next.primary.id) {
            Some(before) => Self { since: before.since, ..next },
            None => next,
        }
    }

    /// Returns when its primary key was first published as the primary one.
    pub fn since(&self) -> Instant {
        self.since
    }
}

/// The snapshot that is served now. There is no snapshot while the plugin is sealed.
#[derive(Debug, Default)]
pub struct Published {
    snapshot: ArcSwapOption<Snapshot>,
    degraded: ArcSwapOption<String>,
    unsealed: watch::Sender<bool>,
    alone: AtomicBool,
}

impl Published {
    /// Replaces the served snapshot.
    pub fn publish(&self, snapshot: Snapshot) {
        self.snapshot.store(Some(Arc::new(snapshot)));
        self.degraded.store(None);
        self.unsealed.send_replace(true);
    }

    /// Returns the served snapshot. There is no snapshot while the plugin is sealed.
    pub fn current(&self) -> Guard<Option<Arc<Snapshot>>> {
        self.snapshot.load()
    }

    /// Notes why the keyring on the disk cannot be served. `None` means that it is served.
    pub fn degrade(&self, reason: Option<String>) {
        self.degraded.store(reason.map(Arc::new));
    }

    /// Returns why the keyring on the disk is not served. Returns `None` if it is served.
    pub fn degraded(&self) -> Option<Arc<String>> {
        self.degraded.load_full()
    }

    /// Notes whether this daemon holds the lock of its state directory.
    pub fn note_alone(&self, alone: bool) {
        self.alone.store(alone, Ordering::Release);
    }

    /// Whether this daemon holds the lock of its state directory, so that no other daemon serves from there.
    pub fn is_alone(&self) -> bool {
        self.alone.load(Ordering::Acquire)
    }

    /// Waits for the first snapshot.
    pub async fn first(&self) {
        // Fails only if the sender was dropped. `self` owns the sender.
        let _ = self.unsealed.subscribe().wait_for(|unsealed| *unsealed).await;
    }
}
