//! The record as the value of a key in etcd.
//!
//! A swap is one transaction that compares the `mod_revision` of the key. If the answer to it is lost, the same
//! transaction is sent again: the comparison lets etcd execute it once at most. Invariant: after a load has succeeded,
//! no earlier transaction of this store can change the record. Two threads or nodes may swap at the same time without a
//! lock. Source: `docs/formats.md`, "In etcd".

use std::{
    io,
    time::{Duration, Instant},
};

use tokio::runtime::{Builder, Runtime};
use zeroize::Zeroizing;

use super::{Deadline, Held, KeyringStore, RecordVersion, StoreError, Swapped};
use crate::{
    crypto::{Digest, Uuid},
    etcd::{EtcdError, KeyReading, KeyValue, KeyWriter, Replaced, Servers, ServersError, SingleKey},
};

/// The time limit of a swap with all of its attempts. etcd itself gives up after 7 s.
const SWAP_WAIT: Duration = Duration::from_secs(20);

/// The time limit for the answer to one transaction.
const ANSWER_WAIT: Duration = Duration::from_secs(8);

/// The number of times that a swap sends its transaction.
const ATTEMPTS: u32 = 3;

/// Keeps the record in one key of etcd.
pub struct EtcdStore {
    runtime: Runtime,
    head: EtcdHead,
}

/// Why a store in etcd cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EtcdStoreError {
    /// The addresses or certificates cannot be used.
    #[error(transparent)]
    Servers(#[from] ServersError),
    /// The system refuses what an event loop needs.
    #[error("starting the event loop of the keyring's store: {0}")]
    Runtime(#[source] io::Error),
}

/// The key of the record.
struct EtcdHead {
    name: String,
    client: SingleKey,
    limit: usize,
    /// A transaction without an answer, if there is one.
    unsettled: Option<Outstanding>,
}

/// A transaction without an answer. etcd may execute it as long as the record has the version that it compares.
struct Outstanding {
    compared: Option<RecordVersion>,
}

/// The record as a read has just returned it.
struct SeenHead {
    held: Option<Held>,
    /// The number that a transaction compares.
    mod_revision: u64,
    writer: KeyWriter,
}

/// What a swap has heard from etcd about its transactions.
enum Heard {
    /// Nothing: no transaction was sent yet.
    Nothing,
    /// It denied every transaction. Contains the last reason.
    Denied(EtcdError),
    /// It did not answer at least one transaction. Contains the first cause.
    Unanswered(EtcdError),
}

impl EtcdStore {
    /// Keeps records of at most `limit` bytes in the key `<prefix>/<uuid>/head`. A thread that already runs an event
    /// loop cannot call the store.
    ///
    /// # Errors
    /// When an address or a certificate cannot be used, or the system refuses what an event loop needs.
    pub fn new(servers: &Servers, prefix: &str, uuid: Uuid, limit: usize) -> Result<Self, EtcdStoreError> {
        let name = format!("{prefix}/{}/head", uuid.to_hex());
        let client = SingleKey::new(servers, name.clone())?;
        let runtime = Builder::new_current_thread().enable_all().build().map_err(EtcdStoreError::Runtime)?;
        Ok(Self { runtime, head: EtcdHead { name, client, limit, unsettled: None } })
    }
}

impl KeyringStore for EtcdStore {
    fn load(&mut self, by: Deadline) -> Result<Option<Held>, StoreError> {
        self.runtime.block_on(self.head.load(by))
    }

    fn swap(&mut self, old: Option<&RecordVersion>, new: &[u8]) -> Result<Swapped, StoreError> {
        self.runtime.block_on(self.head.swap(old, new, Instant::now() + SWAP_WAIT))
    }
}

impl EtcdHead {
    async fn load(&mut self, by: Deadline) -> Result<Option<Held>, StoreError> {
        let seen = self.look(by).await?;
        if self.is_settled(&seen) {
            return Ok(seen.held);
        }
        let Some(held) = &seen.held else { return Err(StoreError::Unsettled { key: self.name.clone() }) };
        // The same record gets another version. So the transaction that may still come is refused.
        let failed = match seen.writer.replace(seen.mod_revision, &held.bytes, by).await {
            Replaced::Done => None,
            Replaced::Denied(error) | Replaced::Unanswered(error) => Some(error),
        };
        let seen = self.look(by).await?;
        match failed {
            Some(error) if !self.is_settled(&seen) => Err(error.into()),
            _ => Ok(seen.held),
        }
    }

    async fn swap(&mut self, old: Option<&RecordVersion>, new: &[u8], by: Deadline) -> Result<Swapped, StoreError> {
        self.check(new.len())?;
        let mut heard = Heard::Nothing;
        let mut attempts = 0;
        loop {
            let seen = match self.look(by).await {
                Ok(seen) => seen,
                Err(error) => return heard.failed(error),
            };
            if seen.version() != old {
                return Ok(heard.replaced(seen.held.is_some_and(|held| *held.bytes == *new)));
            }
            match heard {
                Heard::Denied(error) => return Err(error.into()),
                Heard::Unanswered(cause) if attempts == ATTEMPTS => return Ok(Swapped::Unknown(cause.into())),
                Heard::Nothing | Heard::Unanswered(_) => attempts += 1,
            }
            match seen.writer.replace(seen.mod_revision, new, by.min(Instant::now() + ANSWER_WAIT)).await {
                Replaced::Done => return Ok(Swapped::Done),
                Replaced::Denied(error) => heard = heard.or_denied(error),
                Replaced::Unanswered(cause) => {
                    self.unsettled = Some(Outstanding { compared: old.cloned() });
                    self.client.skip();
                    heard = heard.or_unanswered(cause);
                }
            }
        }
    }

    async fn look(&mut self, by: Deadline) -> Result<SeenHead, StoreError> {
        let KeyReading { found, writer } = self.client.read(by).await?;
        let Some(found) = found else { return Ok(SeenHead { held: None, mod_revision: 0, writer }) };
        self.check(found.value.len())?;
        let held = Held { version: version_of(&found), bytes: Zeroizing::new(found.value.to_vec()) };
        Ok(SeenHead { held: Some(held), mod_revision: found.mod_revision, writer })
    }

    fn check(&self, length: usize) -> Result<(), StoreError> {
        let Self { name, limit, .. } = self;
        if length <= *limit {
            return Ok(());
        }
        Err(StoreError::TooLong { key: name.clone(), found: length, limit: *limit })
    }

    /// Whether no transaction without an answer can change the record that was `seen`.
    fn is_settled(&mut self, seen: &SeenHead) -> bool {
        if self.unsettled.as_ref().is_some_and(|sent| sent.compared.as_ref() != seen.version()) {
            self.unsettled = None;
        }
        self.unsettled.is_none()
    }
}

impl SeenHead {
    fn version(&self) -> Option<&RecordVersion> {
        self.held.as_ref().map(|held| &held.version)
    }
}

/// Returns the version of a record: the revision that wrote it, and its SHA-256. Revisions alone are not enough: an
/// etcd that is restored from a snapshot gives the same revisions to other records.
fn version_of(found: &KeyValue) -> RecordVersion {
    RecordVersion([&found.mod_revision.to_be_bytes()[..], &Digest::of(&found.value).0].concat())
}

impl Heard {
    /// Adds that etcd denied a transaction.
    fn or_denied(self, error: EtcdError) -> Self {
        if let Self::Unanswered(_) = self { self } else { Self::Denied(error) }
    }

    /// Adds that an answer was lost.
    fn or_unanswered(self, cause: EtcdError) -> Self {
        if let Self::Unanswered(_) = self { self } else { Self::Unanswered(cause) }
    }

    /// Returns the outcome of a swap if the store holds another record than before. `is_new` says whether it is the new
    /// one. If two writers write the same bytes, both may have succeeded: the store holds what each of them wants.
    fn replaced(self, is_new: bool) -> Swapped {
        match self {
            Self::Denied(_) | Self::Unanswered(_) if is_new => Swapped::Done,
            // If nothing was sent, somebody else has written it, even if it is the new one.
            Self::Nothing | Self::Denied(_) => Swapped::Lost,
            // The record may be a successor of the new one.
            Self::Unanswered(cause) => Swapped::Unknown(cause.into()),
        }
    }

    /// Returns the outcome of a swap if the record cannot be read.
    fn failed(self, unread: StoreError) -> Result<Swapped, StoreError> {
        match self {
            Self::Nothing => Err(unread),
            Self::Denied(cause) | Self::Unanswered(cause) => Ok(Swapped::Unknown(cause.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        etcd::testing::{LossyProxy, MARK, Mishap, REFUSING, silent},
        harness::{
            certificates::{Certificates, ClientCertificate},
            etcd::Etcd,
            processes::Run,
        },
        store::testing::{LIMIT, new_uuid, servers, stores},
    };

    fn soon() -> Deadline {
        Instant::now() + Duration::from_secs(5)
    }

    fn record(name: &str) -> Vec<u8> {
        format!("{MARK}{name}").into_bytes()
    }

    fn at(urls: Vec<String>, uuid: Uuid, limit: usize) -> EtcdStore {
        EtcdStore::new(&Servers { urls, ..Servers::default() }, "/claviger", uuid, limit).unwrap()
    }

    /// A store behind a proxy that loses transactions, and another store of the same record, without the proxy.
    struct Lossy {
        proxy: LossyProxy,
        store: EtcdStore,
        witness: EtcdStore,
    }

    impl Lossy {
        /// Makes a store that holds the record `held`. Its next transactions have these `mishaps`.
        fn new(held: Option<&str>, mishaps: &[Mishap]) -> Self {
            let urls = servers().remove(0).urls;
            let (proxy, uuid) = (LossyProxy::start(&urls[0], mishaps), new_uuid());
            let (store, mut witness) = (at(vec![proxy.url()], uuid, LIMIT), at(urls, uuid, LIMIT));
            if let Some(held) = held {
                assert!(matches!(witness.swap(None, &record(held)), Ok(Swapped::Done)));
            }
            Self { proxy, store, witness }
        }

        fn version(&mut self) -> Option<RecordVersion> {
            self.witness.load(soon()).unwrap().map(|held| held.version)
        }

        /// Asserts that etcd holds the record `name`.
        fn holds(&mut self, name: &str) {
            assert_eq!(*self.witness.load(soon()).unwrap().unwrap().bytes, record(name));
        }
    }

    #[test]
    fn a_swap_whose_request_or_answer_is_lost_is_made_once() {
        for mishaps in [&[Mishap::RequestLost][..], &[Mishap::AnswerLost], &[Mishap::RequestLost, Mishap::AnswerLost]] {
            for held in [None, Some("one")] {
                let mut lossy = Lossy::new(held, mishaps);
                let old = lossy.version();
                let swapped = lossy.store.swap(old.as_ref(), &record("two")).unwrap();
                assert!(matches!(swapped, Swapped::Done), "{mishaps:?}: {swapped:?}");
                lossy.holds("two");
            }
        }
    }

    #[test]
    fn a_request_that_comes_late_changes_nothing_after_another_attempt_has_succeeded() {
        let mut lossy = Lossy::new(Some("one"), &[Mishap::Late]);
        let old = lossy.version();
        assert!(matches!(lossy.store.swap(old.as_ref(), &record("two")).unwrap(), Swapped::Done));
        let new = lossy.version();
        assert!(matches!(lossy.witness.swap(new.as_ref(), &record("three")).unwrap(), Swapped::Done));
        assert_eq!(lossy.proxy.release(), 1);
        lossy.holds("three");
    }

    #[test]
    fn after_a_load_no_request_changes_the_record_any_more() {
        let mut lossy = Lossy::new(Some("one"), &[Mishap::Late, Mishap::RequestLost, Mishap::RequestLost]);
        let old = lossy.version();
        let swapped = lossy.store.swap(old.as_ref(), &record("two")).unwrap();
        assert!(matches!(swapped, Swapped::Unknown(_)), "{swapped:?}");
        let held = lossy.store.load(soon()).unwrap().unwrap();
        assert_eq!(*held.bytes, record("one"));
        assert_ne!(Some(&held.version), old.as_ref());
        assert_eq!(lossy.proxy.release(), 1);
        assert_eq!(lossy.store.load(soon()).unwrap(), Some(held));
    }

    #[test]
    fn a_late_request_that_came_before_the_load_counts() {
        let mut lossy = Lossy::new(Some("one"), &[Mishap::Late, Mishap::RequestLost, Mishap::RequestLost]);
        let old = lossy.version();
        assert!(matches!(lossy.store.swap(old.as_ref(), &record("two")).unwrap(), Swapped::Unknown(_)));
        assert_eq!(lossy.proxy.release(), 1);
        assert_eq!(*lossy.store.load(soon()).unwrap().unwrap().bytes, record("two"));
    }

    #[test]
    fn a_first_record_whose_request_may_still_come_is_not_called_missing() {
        let mut lossy = Lossy::new(None, &[Mishap::Late, Mishap::RequestLost, Mishap::RequestLost]);
        assert!(matches!(lossy.store.swap(None, &record("one")).unwrap(), Swapped::Unknown(_)));
        let unsettled = lossy.store.load(soon()).unwrap_err().to_string();
        let expected = "in etcd: there is no record yet, but a write without an answer may still add it";
        assert_eq!(unsettled, format!("{} {expected}", lossy.store.head.name));
        assert_eq!(lossy.proxy.release(), 1);
        assert_eq!(*lossy.store.load(soon()).unwrap().unwrap().bytes, record("one"));
    }

    #[test]
    fn a_swap_without_an_answer_that_another_swap_followed_is_unknown() {
        let mut lossy = Lossy::new(Some("one"), &[Mishap::AnswerLost]);
        let old = lossy.version();
        let Lossy { mut store, mut witness, proxy: _proxy } = lossy;
        let follower = std::thread::spawn(move || {
            loop {
                let held = witness.load(soon()).unwrap().unwrap();
                if *held.bytes == record("two") {
                    return witness.swap(Some(&held.version), &record("three")).unwrap();
                }
            }
        });
        let swapped = store.swap(old.as_ref(), &record("two")).unwrap();
        assert!(matches!(swapped, Swapped::Unknown(_)), "{swapped:?}");
        assert!(matches!(follower.join().unwrap(), Swapped::Done));
        assert_eq!(*store.load(soon()).unwrap().unwrap().bytes, record("three"));
        assert!(matches!(store.swap(old.as_ref(), &record("two")).unwrap(), Swapped::Lost));
    }

    #[test]
    fn a_record_that_was_written_counts_although_the_server_denied_it() {
        let error = || EtcdError::NotWritten { url: "a".to_owned() };
        assert!(matches!(Heard::Denied(error()).replaced(true), Swapped::Done));
        assert!(matches!(Heard::Denied(error()).replaced(false), Swapped::Lost));
        // A retry that is denied says nothing about the transaction before.
        let heard = Heard::Unanswered(error()).or_denied(error());
        assert!(matches!(heard.replaced(false), Swapped::Unknown(_)));
    }

    #[test]
    fn a_record_is_read_and_written_while_the_first_endpoint_refuses_or_hangs() {
        let urls = servers().remove(0).urls;
        let (_listener, hanging) = silent();
        for first in [REFUSING.to_owned(), hanging] {
            let mut store = at([vec![first.clone()], urls.clone()].concat(), new_uuid(), LIMIT);
            let begin = Instant::now();
            assert!(matches!(store.swap(None, &record("one")).unwrap(), Swapped::Done));
            assert_eq!(*store.load(soon()).unwrap().unwrap().bytes, record("one"));
            assert!(begin.elapsed() < Duration::from_secs(3), "{first}: {:?}", begin.elapsed());
        }
    }

    #[test]
    fn a_load_ends_in_time_if_no_endpoint_answers() {
        let ((_one, one), (_other, other)) = (silent(), silent());
        for urls in [vec![one.clone()], vec![one, other]] {
            let mut store = at(urls, new_uuid(), LIMIT);
            let begin = Instant::now();
            let error = store.load(begin + Duration::from_secs(1)).unwrap_err().to_string();
            assert!(error.ends_with(" does not answer: deadline has elapsed"), "{error}");
            assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
        }
        let begin = Instant::now();
        let refused = at(vec![REFUSING.to_owned()], new_uuid(), LIMIT).load(soon()).unwrap_err().to_string();
        assert!(refused.starts_with("etcd http://127.0.0.1:1 does not answer: "), "{refused}");
        assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    }

    #[test]
    fn an_etcd_that_stops_keeps_its_record_and_says_nothing_wrong() {
        let run = Run::new().unwrap();
        let mut etcd = Etcd::start(&run, 1).unwrap();
        let mut store = at(etcd.client_urls(), new_uuid(), LIMIT);
        assert!(matches!(store.swap(None, &record("one")).unwrap(), Swapped::Done));
        let held = store.load(soon()).unwrap().unwrap();
        etcd.kill(0).unwrap();
        // Nothing was sent, so the swap is surely not made.
        assert!(matches!(store.swap(Some(&held.version), &record("two")), Err(StoreError::Etcd(_))));
        assert!(matches!(store.load(soon()), Err(StoreError::Etcd(_))));
        etcd.restart(0).unwrap();
        assert_eq!(store.load(soon()).unwrap().as_ref(), Some(&held));
        assert!(matches!(store.swap(Some(&held.version), &record("two")).unwrap(), Swapped::Done));
    }

    #[test]
    fn a_member_that_hangs_loses_no_swap() {
        let run = Run::new().unwrap();
        let mut etcd = Etcd::start(&run, 3).unwrap();
        let uuid = new_uuid();
        let mut store = at(etcd.client_urls(), uuid, LIMIT);
        assert!(matches!(store.swap(None, &record("one")).unwrap(), Swapped::Done));
        // This member answered last, so it is asked first. It may also be the leader.
        etcd.process(0).unwrap().pause().unwrap();
        let held = store.load(Instant::now() + Duration::from_secs(20)).unwrap().unwrap();
        assert!(matches!(store.swap(Some(&held.version), &record("two")).unwrap(), Swapped::Done));
        etcd.process(0).unwrap().resume().unwrap();
        etcd.wait_until_healthy(0).unwrap();
        let mut at_member = at(vec![etcd.client_urls().remove(0)], uuid, LIMIT);
        assert_eq!(*at_member.load(soon()).unwrap().unwrap().bytes, record("two"));
    }

    #[test]
    fn endpoints_of_two_clusters_are_refused() {
        let run = Run::new().unwrap();
        let mut etcd = Etcd::start(&run, 1).unwrap();
        let urls = [etcd.client_urls(), servers().remove(0).urls].concat();
        let mut store = at(urls, new_uuid(), LIMIT);
        assert_eq!(store.load(soon()).unwrap(), None);
        etcd.kill(0).unwrap();
        let other = store.load(soon()).unwrap_err();
        assert!(matches!(other, StoreError::Etcd(EtcdError::OtherCluster { .. })), "{other}");
    }

    #[test]
    fn a_record_that_is_deleted_is_missing_and_no_swap_brings_it_back() {
        let run = Run::new().unwrap();
        let etcd = Etcd::start(&run, 1).unwrap();
        let uuid = new_uuid();
        let mut store = at(etcd.client_urls(), uuid, LIMIT);
        assert!(matches!(store.swap(None, &record("one")).unwrap(), Swapped::Done));
        let held = store.load(soon()).unwrap().unwrap();
        let key = format!("/claviger/{}/head", uuid.to_hex());
        assert_eq!(etcd.get(&key).unwrap(), Some(record("one")));
        etcd.run_etcdctl(&["del", &key]).unwrap();
        assert_eq!(store.load(soon()).unwrap(), None);
        assert!(matches!(store.swap(Some(&held.version), &record("two")).unwrap(), Swapped::Lost));
        assert_eq!(etcd.get(&key).unwrap(), None);
    }

    #[test]
    fn a_restored_etcd_gives_the_same_revision_to_another_record_and_no_swap_confuses_them() {
        let run = Run::new().unwrap();
        let mut etcd = Etcd::start(&run, 1).unwrap();
        let mut store = at(etcd.client_urls(), new_uuid(), LIMIT);
        let snapshot = run.path("snapshot");
        etcd.snapshot(&snapshot).unwrap();
        assert!(matches!(store.swap(None, &record("one")).unwrap(), Swapped::Done));
        let one = store.load(soon()).unwrap().unwrap();
        etcd.restore_in_place(&snapshot).unwrap();
        assert!(matches!(store.swap(None, &record("two")).unwrap(), Swapped::Done));
        let two = store.load(soon()).unwrap().unwrap();
        assert_eq!(one.version.0[..8], two.version.0[..8]);
        assert!(matches!(store.swap(Some(&one.version), &record("three")).unwrap(), Swapped::Lost));
        assert_eq!(store.load(soon()).unwrap(), Some(two));
    }

    #[test]
    fn a_long_record_is_written_and_a_longer_one_is_neither_written_nor_read() {
        const LONG: usize = 512 << 10;
        for Servers { urls, .. } in servers() {
            let uuid = new_uuid();
            let mut store = at(urls.clone(), uuid, LONG);
            let refused = store.swap(None, &vec![1; LONG + 1]).unwrap_err().to_string();
            let expected = format!("in etcd: the record has {} bytes, expected at most {LONG}", LONG + 1);
            assert_eq!(refused, format!("{} {expected}", store.head.name));
            assert_eq!(store.load(soon()).unwrap(), None);
            let long = vec![1; LONG];
            assert!(matches!(store.swap(None, &long).unwrap(), Swapped::Done));
            let held = store.load(soon()).unwrap().unwrap();
            assert_eq!(*held.bytes, long);
            assert!(matches!(store.swap(Some(&held.version), &long).unwrap(), Swapped::Done));
            let mut strict = at(urls, uuid, LONG - 1);
            assert!(matches!(strict.load(soon()), Err(StoreError::TooLong { found: LONG, .. })));
        }
    }

    #[test]
    fn what_etcd_refuses_is_not_written() {
        let run = Run::new().unwrap();
        let mut etcd = Etcd::start_with(&run, &["--max-request-bytes=2000"]).unwrap();
        let mut store = at(etcd.client_urls(), new_uuid(), 1 << 20);
        // The server of gRPC has a limit of its own, which is higher.
        for (length, reason) in [
            (100 << 10, "refused: etcdserver: request is too large"),
            (600 << 10, "refused: grpc: received message larger than max"),
        ] {
            let refused = store.swap(None, &vec![1; length]).unwrap_err().to_string();
            assert!(refused.contains(reason), "{refused}");
        }
        etcd.restart_with(0, &["--quota-backend-bytes=1"]).unwrap();
        let full = store.swap(None, &record("one")).unwrap_err().to_string();
        assert!(full.ends_with("etcdserver: mvcc: database space exceeded"), "{full}");
        assert_eq!(store.load(soon()).unwrap(), None);
    }

    #[test]
    fn a_store_shows_its_certificate_to_etcd() {
        let run = Run::new().unwrap();
        let directory = run.path("pki");
        std::fs::create_dir(&directory).unwrap();
        let certificates = Certificates::create(&directory).unwrap();
        let [ours, other] = ["claviger", "stranger"].map(|name| ClientCertificate::create(&directory, name).unwrap());
        let etcd = Etcd::start_secure(&run, &certificates, &ours).unwrap();
        let uuid = new_uuid();
        let store = |client: &ClientCertificate| {
            let servers = Servers {
                urls: vec![etcd.secure_url().unwrap()],
                cafile: Some(certificates.authority.clone()),
                certfile: Some(client.certificate.clone()),
                keyfile: Some(client.key.clone()),
            };
            EtcdStore::new(&servers, "/claviger", uuid, LIMIT).unwrap()
        };
        assert!(matches!(store(&ours).swap(None, &record("one")).unwrap(), Swapped::Done));
        assert_eq!(*store(&ours).load(soon()).unwrap().unwrap().bytes, record("one"));
        let begin = Instant::now();
        assert!(matches!(store(&other).load(soon()), Err(StoreError::Etcd(EtcdError::Unreachable { .. }))));
        assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
        let error = EtcdStore::new(&Servers::default(), "/claviger", uuid, LIMIT).err().unwrap();
        assert!(error.to_string().starts_with("etcd endpoint \"\": expected "), "{error}");
        let error = EtcdStoreError::Runtime(io::Error::other("no memory")).to_string();
        assert_eq!(error, "starting the event loop of the keyring's store: no memory");
    }

    /// Adds 1 to the number in the record, until it has succeeded so many times. Returns the store.
    fn count_up(mut store: EtcdStore, writer: usize, times: usize) -> EtcdStore {
        let mut wins = 0;
        while wins < times {
            let held = store.load(soon()).unwrap();
            // Each writer writes other bytes: a store takes its own bytes as a sign of success.
            let next = format!("{} {writer}", held.as_ref().map_or(0, count) + 1);
            match store.swap(held.as_ref().map(|held| &held.version), next.as_bytes()).unwrap() {
                Swapped::Done => wins += 1,
                Swapped::Lost => {}
                Swapped::Unknown(error) => panic!("{error}"),
            }
        }
        store
    }

    fn count(held: &Held) -> usize {
        let text = str::from_utf8(&held.bytes).unwrap();
        text.split(' ').next().unwrap().parse().unwrap()
    }

    #[test]
    fn no_swap_of_several_writers_is_lost_or_made_twice() {
        for servers in servers() {
            let writers: [EtcdStore; 4] = stores(&servers);
            let mut last = std::thread::scope(|scope| {
                let start = |(writer, store)| scope.spawn(move || count_up(store, writer, 10));
                let threads: Vec<_> = writers.into_iter().enumerate().map(start).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).next_back().unwrap()
            });
            assert_eq!(count(&last.load(soon()).unwrap().unwrap()), 40);
        }
    }
}
