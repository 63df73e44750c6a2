//! What every store promises. Each test runs with each store.

use std::{
    os::unix::fs::PermissionsExt,
    time::{Duration, Instant},
};

use super::{FileStore, Held, KeyringStore, MemoryStore, Swapped};
use crate::durable;

const NAME: &str = "keyring";

/// Runs `test` with an empty store of each kind.
fn with_each(test: impl Fn(&mut dyn KeyringStore)) {
    let (_keep, dir) = durable::testing::private();
    test(&mut FileStore::new(&dir, NAME, 100));
    test(&mut MemoryStore::default());
}

fn load(store: &mut dyn KeyringStore) -> Option<Held> {
    store.load(Instant::now() + Duration::from_secs(5)).unwrap()
}

/// Puts `record` into the place of what `store` holds.
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

#[test]
fn a_file_that_cannot_be_trusted_is_refused_and_not_replaced() {
    let (_keep, dir) = durable::testing::private();
    let store = &mut FileStore::new(&dir, NAME, 100);
    let held = put(store, b"one");
    std::fs::set_permissions(dir.path_of(NAME), std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(store.load(Instant::now()).unwrap_err().to_string().ends_with("has mode 0644, expected 0600"));
    assert!(store.swap(Some(&held.version), b"two").is_err());
    assert_eq!(std::fs::read(dir.path_of(NAME)).unwrap(), b"one");
}

#[test]
fn a_swap_that_dies_in_the_middle_leaves_one_of_the_two_records() {
    for steps in 0..6 {
        let (_keep, dir) = durable::testing::private();
        let store = &mut FileStore::new(&dir, NAME, 100);
        let before = put(store, b"one");
        let swap = || store.swap(Some(&before.version), b"two").unwrap();
        let (swapped, died) = durable::testing::dying_after(steps, swap);
        let now = load(store).unwrap();
        match swapped {
            Swapped::Done => assert_eq!(**now.bytes, *b"two"),
            Swapped::Unknown(_) => assert!(died && [&b"one"[..], b"two"].contains(&&**now.bytes)),
            Swapped::Lost => panic!("nobody else was there"),
        }
    }
}
