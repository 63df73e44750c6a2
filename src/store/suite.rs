//! The tests that every store has to pass. Each test runs with each store.

use std::{
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

#[cfg(feature = "scan")]
use super::testing;
use super::{FileStore, Held, KeyringStore, LostAnswer, MemoryStore, RecordVersion, Swapped};
use crate::durable::{self, DurableError, Lock};

const NAME: &str = "keyring";

/// Runs `test` with an empty store of each kind.
fn with_each(test: impl Fn(&mut dyn KeyringStore)) {
    let (_keep, dir) = durable::testing::private();
    test(&mut FileStore::new(&dir, NAME, 100));
    test(&mut MemoryStore::default());
    #[cfg(feature = "scan")]
    for servers in testing::servers() {
        let [mut store] = testing::stores(&servers);
        test(&mut store);
    }
}

fn load(store: &mut dyn KeyringStore) -> Option<Held> {
    store.load(Instant::now() + Duration::from_secs(5)).unwrap()
}

/// Replaces the record in `store` by `record`.
fn put(store: &mut dyn KeyringStore, record: &[u8]) -> Held {
    let old = load(store).map(|held| held.version);
    assert!(matches!(store.swap(old.as_ref(), record).unwrap(), Swapped::Done));
    load(store).unwrap()
}

#[test]
fn an_empty_store_holds_nothing_and_takes_a_first_record() {
    with_each(|store| {
        assert_eq!(load(store), None);
        assert!(matches!(store.swap(None, b"one").unwrap(), Swapped::Done));
        assert_eq!(**load(store).unwrap().bytes, *b"one");
    });
}

#[test]
fn a_first_record_never_replaces_another_one() {
    with_each(|store| {
        let before = put(store, b"one");
        assert!(matches!(store.swap(None, b"two").unwrap(), Swapped::Lost));
        assert_eq!(load(store), Some(before));
    });
}

#[test]
fn a_swap_needs_the_version_that_is_there() {
    with_each(|store| {
        let first = put(store, b"one");
        let second = put(store, b"two");
        assert_ne!(first.version, second.version);
        assert!(matches!(store.swap(Some(&first.version), b"three").unwrap(), Swapped::Lost));
        assert_eq!(load(store), Some(second.clone()));
        assert!(matches!(store.swap(Some(&second.version), b"three").unwrap(), Swapped::Done));
        assert_eq!(**load(store).unwrap().bytes, *b"three");
    });
}

#[test]
fn an_empty_store_has_no_version() {
    with_each(|store| {
        let (_keep, dir) = durable::testing::private();
        let version = put(&mut FileStore::new(&dir, NAME, 100), b"one").version;
        assert!(matches!(store.swap(Some(&version), b"two").unwrap(), Swapped::Lost));
        assert_eq!(load(store), None);
    });
}

#[test]
fn two_loads_of_one_record_give_one_version() {
    with_each(|store| {
        put(store, b"one");
        assert_eq!(load(store), load(store));
    });
}

/// Swaps with both handles at once, each for its own record, and returns what they did. Each thread holds what `lock`
/// returns.
fn race(
    handles: [(&mut dyn KeyringStore, &str); 2],
    lock: &(dyn Fn() -> Option<Lock> + Sync),
    old: Option<&RecordVersion>,
) -> [Swapped; 2] {
    let start = &Barrier::new(2);
    thread::scope(|scope| {
        let threads = handles.map(|(store, record)| {
            scope.spawn(move || {
                start.wait();
                let _lock = lock();
                store.swap(old, record.as_bytes()).unwrap()
            })
        });
        threads.map(|thread| thread.join().unwrap())
    })
}

/// Runs `test` with two handles on one empty store of each kind. Only the file store needs a lock for a swap.
fn with_two(test: impl Fn(&mut dyn KeyringStore, &mut dyn KeyringStore, &(dyn Fn() -> Option<Lock> + Sync))) {
    let (_keep, dir) = durable::testing::private();
    let (mut one, mut other) = (FileStore::new(&dir, NAME, 100), FileStore::new(&dir, NAME, 100));
    test(&mut one, &mut other, &|| Some(dir.lock().unwrap()));
    let mut one = MemoryStore::default();
    test(&mut one.clone(), &mut one, &|| None);
    #[cfg(feature = "scan")]
    for servers in testing::servers() {
        let [mut one, mut other] = testing::stores(&servers);
        test(&mut one, &mut other, &|| None);
    }
}

#[test]
fn exactly_one_of_two_swaps_at_once_wins() {
    with_two(|one, other, lock| {
        for round in 0..20 {
            // Each round uses other records, because the version of a file is the digest of its bytes.
            let records = [format!("one, {round}"), format!("other, {round}")];
            let old = load(one).map(|held| held.version);
            let swapped = race([(&mut *one, &records[0]), (&mut *other, &records[1])], lock, old.as_ref());
            let winner = match swapped {
                [Swapped::Done, Swapped::Lost] => &records[0],
                [Swapped::Lost, Swapped::Done] => &records[1],
                swapped => panic!("{swapped:?}"),
            };
            assert_eq!(**load(other).unwrap().bytes, *winner.as_bytes());
            assert_eq!(load(one), load(other));
        }
    });
}

/// Checks that `store`, which held `one`, holds `one` or `two` after a swap for `two` that may have been interrupted.
fn check_interrupted(store: &mut dyn KeyringStore, swapped: &Swapped) {
    let now = load(store).unwrap();
    match swapped {
        Swapped::Done => assert_eq!(**now.bytes, *b"two"),
        Swapped::Unknown(_) => assert!([&b"one"[..], b"two"].contains(&&**now.bytes)),
        Swapped::Lost => panic!("nobody else was there"),
    }
}

#[test]
fn a_swap_that_is_interrupted_leaves_one_of_the_two_records() {
    for steps in 0..6 {
        let (_keep, dir) = durable::testing::private();
        let store = &mut FileStore::new(&dir, NAME, 100);
        let before = put(store, b"one");
        let swap = || store.swap(Some(&before.version), b"two").unwrap();
        let (swapped, died) = durable::testing::dying_after(steps, swap);
        assert!(died || matches!(swapped, Swapped::Done));
        check_interrupted(store, &swapped);
    }
    for is_held in [false, true] {
        let store = &mut MemoryStore::default();
        let before = put(store, b"one");
        store.fail(LostAnswer { is_held, error: DurableError::ReadBack("keyring".into()).into() });
        let swapped = store.swap(Some(&before.version), b"two").unwrap();
        assert!(matches!(swapped, Swapped::Unknown(_)));
        check_interrupted(store, &swapped);
    }
}
