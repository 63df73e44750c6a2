//! Publishes the keys that calls use, as an immutable set behind an atomic pointer. Reading it needs no disk, no
//! network and no lock.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

use arc_swap::{ArcSwapOption, Guard};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::{
    crypto::{Digest, Uuid, wrap::Kek},
    durable::DirectoryId,
    keyring::{Keyring, state::State},
};

/// The keys of one generation of a keyring, by their names.
#[derive(Debug)]
pub struct ServedKeys {
    uuid: Uuid,
    generation: u64,
    record: Digest,
    keys: HashMap<Arc<str>, Arc<ServingKey>>,
    primary: Arc<ServingKey>,
    since: Instant,
    unbacked: usize,
}

/// A key as the calls use it.
#[derive(Debug)]
pub struct ServingKey {
    /// The public name of the key, its key_id.
    pub id: Arc<str>,
    /// The state of the key.
    pub state: State,
    /// The KEK, which wraps and unwraps.
    pub kek: Arc<Kek>,
    /// The number of seeds that the key has unwrapped since the process started.
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

impl ServedKeys {
    /// Takes the keys of `keyring`, whose primary key is published at `since`.
    #[cfg(test)]
    pub fn new(keyring: &Keyring, since: Instant) -> Self {
        Self::counting_on(None, keyring, Digest::of(b""), since)
    }

    /// Takes the keys of `keyring`. They continue the counts of `before`.
    fn counting_on(before: Option<&Self>, keyring: &Keyring, record: Digest, since: Instant) -> Self {
        let serving = |key: &crate::keyring::Key| {
            let id: Arc<str> = key.id().to_string().into();
            let before = before.and_then(|before| before.key(&id));
            let unwrapped = before.map_or_else(Arc::default, |before| Arc::clone(&before.unwrapped));
            Arc::new(ServingKey { id, state: key.state(), kek: Arc::clone(key.kek()), unwrapped })
        };
        let keys = keyring.keys().map(serving).map(|key| (Arc::clone(&key.id), key)).collect();
        let (uuid, generation) = (keyring.uuid(), keyring.generation());
        Self { uuid, generation, record, keys, primary: serving(keyring.primary()), since, unbacked: 0 }
    }

    /// Returns the uuid of the keyring.
    pub fn uuid(&self) -> Uuid {
        self.uuid
    }

    /// Returns the generation of the keyring.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Returns the SHA-256 of the keyring's record.
    pub fn record(&self) -> Digest {
        self.record
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

    /// Returns the number of keys that no listed backup contains.
    pub fn unbacked(&self) -> usize {
        self.unbacked
    }

    /// Takes the keys of `keyring`, which is published now and replaces `before`. A key that stays primary keeps its
    /// time of publication. `record` is the SHA-256 of the record, and `unbacked` the number of keys that no listed
    /// backup contains.
    pub fn after(before: Option<&Self>, keyring: &Keyring, record: Digest, unbacked: usize) -> Self {
        let next = Self { unbacked, ..Self::counting_on(before, keyring, record, Instant::now()) };
        match before.filter(|before| before.primary.id == next.primary.id) {
            Some(before) => Self { since: before.since, ..next },
            None => next,
        }
    }

    /// Returns the time when the primary key was first published as primary.
    pub fn since(&self) -> Instant {
        self.since
    }
}

/// Why a daemon does not serve the keyring on the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Degraded {
    /// The error text, for an operator.
    pub reason: String,
    /// Whether the keyring opens, and is refused only because it does not follow from the served keyring. Then a
    /// restart would serve it.
    pub no_successor: bool,
}

/// The state directory from which a daemon serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServedFrom {
    /// The absolute path of the directory.
    pub path: PathBuf,
    /// Identifies the directory itself, even if it is moved.
    pub directory: DirectoryId,
}

/// The keys that calls use now. There are none while the plugin is sealed.
#[derive(Debug, Default)]
pub struct Published {
    keys: ArcSwapOption<ServedKeys>,
    degraded: ArcSwapOption<Degraded>,
    served_from: ArcSwapOption<ServedFrom>,
    unsealed: watch::Sender<bool>,
    alone: AtomicBool,
}

impl Published {
    /// Replaces the served keys by `keys`.
    pub fn publish(&self, keys: ServedKeys) {
        self.keys.store(Some(Arc::new(keys)));
        self.degraded.store(None);
        self.unsealed.send_replace(true);
    }

    /// Returns the served keys. There are none while the plugin is sealed.
    pub fn current(&self) -> Guard<Option<Arc<ServedKeys>>> {
        self.keys.load()
    }

    /// Notes why the keyring on the disk cannot be served. `None` means that it is served.
    pub fn degrade(&self, degraded: Option<Degraded>) {
        self.degraded.store(degraded.map(Arc::new));
    }

    /// Returns why the keyring on the disk is not served. Returns `None` if it is served.
    pub fn degraded(&self) -> Option<Arc<Degraded>> {
        self.degraded.load_full()
    }

    /// Notes from which directory the keyring was read.
    pub fn note_served_from(&self, from: ServedFrom) {
        self.served_from.store(Some(Arc::new(from)));
    }

    /// Returns the directory from which the keyring was read.
    pub fn served_from(&self) -> Option<Arc<ServedFrom>> {
        self.served_from.load_full()
    }

    /// Notes whether this daemon holds the lock of its state directory.
    pub fn note_alone(&self, alone: bool) {
        self.alone.store(alone, Ordering::Release);
    }

    /// Whether this daemon holds the lock of its state directory, so that no other daemon serves from there.
    pub fn is_alone(&self) -> bool {
        self.alone.load(Ordering::Acquire)
    }

    /// Waits until the first keys are published.
    pub async fn first(&self) {
        // Fails only if the sender was dropped. `self` owns the sender.
        let _ = self.unsealed.subscribe().wait_for(|unsealed| *unsealed).await;
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        task::{Context, Waker},
        time::Duration,
    };

    use rand::rngs::SysRng;

    use super::*;
    use crate::{
        crypto::{Uuid, root_key::RootKey},
        keyring::testing,
    };

    const RECORD: Digest = Digest([5; 32]);

    /// Makes a keyring with a primary key and a pending one.
    fn keyring() -> Keyring {
        let root = RootKey::generate(&mut SysRng).unwrap();
        testing::with_key(testing::keyring(&root, Uuid([5; 16])), &root, State::Pending)
    }

    #[test]
    fn every_key_is_found_by_its_name() {
        let keyring = keyring();
        let served = ServedKeys::after(None, &keyring, RECORD, 2);
        assert_eq!((served.generation(), served.unbacked()), (keyring.generation(), 2));
        assert_eq!(*served.primary().id, keyring.primary().id().to_string());
        for key in keyring.keys() {
            let found = served.key(&key.id().to_string()).unwrap();
            assert_eq!((found.state, found.kek.commitment()), (key.state(), key.kek().commitment()));
        }
        assert!(served.key("k9").is_none());
        assert_eq!(served.keys().count(), 2);
        let later = testing::later(&testing::later(&keyring, |_| {}), |_| {});
        assert_eq!(ServedKeys::after(Some(&served), &later, RECORD, 1).generation(), 3);
    }

    #[test]
    fn a_key_goes_on_counting_what_it_unwraps() {
        let keyring = keyring();
        let before = ServedKeys::after(None, &keyring, RECORD, 0);
        let id = keyring.primary().id().to_string();
        before.key(&id).unwrap().count();
        before.key(&id).unwrap().count();
        let after = ServedKeys::after(Some(&before), &testing::promote(&keyring, 1), RECORD, 0);
        before.key(&id).unwrap().count();
        assert_eq!(after.key(&id).unwrap().unwrapped(), 3);
        assert_eq!(after.primary().unwrapped(), 0);
    }

    #[test]
    fn a_key_that_stays_primary_keeps_its_time_of_publication() {
        let keyring = keyring();
        let a_second_ago = Instant::now().checked_sub(Duration::from_secs(1)).unwrap();
        let before = ServedKeys::new(&keyring, a_second_ago);
        assert_eq!(
            ServedKeys::after(Some(&before), &testing::later(&keyring, |_| {}), RECORD, 0).since(),
            a_second_ago
        );
        assert!(ServedKeys::after(Some(&before), &testing::promote(&keyring, 1), RECORD, 0).since() > a_second_ago);
    }

    #[test]
    fn a_caller_that_waits_for_the_first_keys_gets_them() {
        let published = Published::default();
        let mut context = Context::from_waker(Waker::noop());
        let mut first = pin!(published.first());
        assert!(first.as_mut().poll(&mut context).is_pending() && published.current().is_none());
        let degraded = Degraded { reason: "sealed".to_owned(), no_successor: false };
        published.degrade(Some(degraded.clone()));
        assert_eq!(published.degraded().as_deref(), Some(&degraded));
        published.publish(ServedKeys::after(None, &keyring(), RECORD, 0));
        assert!(first.as_mut().poll(&mut context).is_ready() && published.current().is_some());
        assert_eq!(published.degraded(), None);
    }

    #[test]
    fn a_daemon_is_alone_only_while_it_says_so() {
        let published = Published::default();
        assert!(!published.is_alone());
        published.note_alone(true);
        assert!(published.is_alone());
        published.note_alone(false);
        assert!(!published.is_alone());
    }
}
