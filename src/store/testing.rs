//! Stores in a real etcd, and in kine over SQLite. All tests of stores share these two servers.

use std::sync::{
    LazyLock,
    atomic::{AtomicU64, Ordering},
};

use super::etcd::EtcdStore;
use crate::{
    crypto::Uuid,
    etcd::Servers,
    harness::{etcd::Etcd, kine::Kine, processes::Run},
};

/// The length limit of the records in the tests' stores.
pub const LIMIT: usize = 1000;

struct Shared {
    _run: Run,
    etcd: Etcd,
    kine: Kine,
}

static SHARED: LazyLock<Shared> = LazyLock::new(|| {
    let run = Run::new().unwrap();
    let (etcd, kine) = (Etcd::start(&run, 1).unwrap(), Kine::over_sqlite(&run).unwrap());
    Shared { _run: run, etcd, kine }
});

/// Returns the servers of a shared etcd and of a shared kine.
pub fn servers() -> [Servers; 2] {
    let Shared { etcd, kine, .. } = &*SHARED;
    [etcd.client_urls(), vec![kine.url()]].map(|urls| Servers { urls, ..Servers::default() })
}

/// Returns several stores of one new record.
pub fn stores<const COUNT: usize>(servers: &Servers) -> [EtcdStore; COUNT] {
    let uuid = new_uuid();
    [(); COUNT].map(|()| EtcdStore::new(servers, "/claviger", uuid, LIMIT).unwrap())
}

/// Returns a uuid that no other test has.
pub fn new_uuid() -> Uuid {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    Uuid(u128::from(number).to_be_bytes())
}
