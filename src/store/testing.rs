//! Stores in a real etcd, and in kine over SQLite and over PostgreSQL. All tests of stores share these servers.

use std::sync::{
    LazyLock,
    atomic::{AtomicU64, Ordering},
};

use super::etcd::EtcdStore;
use crate::{
    crypto::Uuid,
    etcd::Servers,
    harness::{etcd::Etcd, kine::Kine, postgres::Postgres, processes::Run},
};

/// The length limit of the records in the tests' stores.
pub const LIMIT: usize = 1000;

struct Shared {
    _run: Run,
    etcd: Etcd,
    kines: Vec<Kine>,
    _postgres: Option<Postgres>,
}

static SHARED: LazyLock<Shared> = LazyLock::new(|| {
    let run = Run::new().unwrap();
    let etcd = Etcd::start(&run, 1).unwrap();
    // A machine that cannot have PostgreSQL tests the other servers.
    let postgres = Postgres::impossible().is_none().then(|| Postgres::start(&run).unwrap());
    let over_postgres = postgres.iter().map(|postgres| Kine::over_postgres(&run, postgres).unwrap());
    let kines = [Kine::over_sqlite(&run).unwrap()].into_iter().chain(over_postgres).collect();
    Shared { _run: run, etcd, kines, _postgres: postgres }
});

/// Returns the addresses of the shared etcd, and of each shared kine.
pub fn servers() -> Vec<Servers> {
    let Shared { etcd, kines, .. } = &*SHARED;
    let all = [etcd.client_urls()].into_iter().chain(kines.iter().map(|kine| vec![kine.url()]));
    all.map(|urls| Servers { urls, ..Servers::default() }).collect()
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
