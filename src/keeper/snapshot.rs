//! The keys that calls use: an immutable snapshot behind an atomic pointer. Reading it needs no disk, no network and no lock.

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

/// A key as the serving path needs it.
#[derive(Debug)]
pub struct ServingKey {
    /// Its public name.
    pub id: Arc<str>,
    /// Its place in the life of keys.
    pub state: State,
    /// What wraps and unwraps.
    pub kek: Arc<Kek>,
    /// Seeds that were unwrapped by it since the process started.
    unwrapped: Arc<AtomicU64>,
}

impl ServingKey {
    /// Notes that a seed was unwrapped.
    pub fn count(&self) {
        self.unwrapped.fetch_add(1, Ordering::Relaxed);
    }

    /// How many seeds the key has unwrapped since the process started.
    pub fn unwrapped(&self) -> u64 {
        self.unwrapped.load(Ordering::Relaxed)
    }
}

impl Snapshot {
    /// The snapshot of `keyring`, whose primary key is published at `since`.
    #[cfg(test)]
    pub fn new(keyring: &Keyring, since: Instant) -> Self {
        Self::counting_on(None, keyring, since)
    }

    /// The snapshot of `keyring`. Its keys continue the counts of `before`.
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

    /// How many times the keyring was changed.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The key that wraps.
    pub fn primary(&self) -> &Arc<ServingKey> {
        &self.primary
    }

    /// The key of this name.
    pub fn key(&self, id: &str) -> Option<&Arc<ServingKey>> {
        self.keys.get(id)
    }

    /// Every key that is not destroyed.
    pub fn keys(&self) -> impl Iterator<Item = &ServingKey> {
        self.keys.values().map(AsRef::as_ref)
    }

    /// How many of its keys no listed backup holds.
    pub fn unbacked(&self) -> usize {
        self.unbacked
    }

    /// The snapshot of `keyring`, published now in place of `before`. A primary key that stays keeps its time of publication. No listed
    /// backup holds `unbacked` of the keys.
    pub fn after(before: Option<&Self>, keyring: &Keyring, unbacked: usize) -> Self {
        let next = Self { unbacked, ..Self::counting_on(before, keyring, Instant::now()) };
        match before.filter(|before| before.primary.id == next.primary.id) {
            Some(before) => Self { since: before.since, ..next },
            None => next,
        }
    }

    /// When its primary key was published first.
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
    /// Replaces what is served.
    pub fn publish(&self, snapshot: Snapshot) {
        self.snapshot.store(Some(Arc::new(snapshot)));
        self.degraded.store(None);
        self.unsealed.send_replace(true);
    }

    /// What is served now.
    pub fn current(&self) -> Guard<Option<Arc<Snapshot>>> {
        self.snapshot.load()
    }

    /// Notes why the keyring on the disk cannot be served; `None` if it is served.
    pub fn degrade(&self, reason: Option<String>) {
        self.degraded.store(reason.map(Arc::new));
    }

    /// Why the keyring on the disk is not served; `None` if it is.
    pub fn degraded(&self) -> Option<Arc<String>> {
        self.degraded.load_full()
    }

    /// Notes whether this daemon holds the lock of its state directory.
    pub fn note_alone(&self, alone: bool) {
        self.alone.store(alone, Ordering::Release);
    }

    /// Whether no other daemon serves from the state directory. False until this one has taken the lock.
    pub fn is_alone(&self) -> bool {
        self.alone.load(Ordering::Acquire)
    }

    /// Waits for the first snapshot.
    pub async fn first(&self) {
        // It ends in an error only without a sender, which is ours.
        let _ = self.unsealed.subscribe().wait_for(|unsealed| *unsealed).await;
    }
}
