//! Tests the calls of API servers to a healthy plugin: how often, over which connections, with which bytes, and what
//! the metrics of the API servers show. Two API servers share a plugin and an etcd. Each has two provider entries on
//! the same socket.

use std::{collections::BTreeSet, sync::LazyLock, time::Duration};

use super::{
    config::{CONFIG_MAPS, Kind, Provider, SECRETS, write},
    front::Front,
    kms::key_id,
    meddled::serving,
    meddler::{Faults, Meddler, Method},
};
use crate::harness::wait::wait_until;
use crate::{
    harness::{api_server::ApiServer, etcd::Etcd, plugin::Plugin, processes::Run},
    oracle::EncryptedObject,
};

/// Two API servers, which work during all tests of this file.
static PAIR: LazyLock<Pair> = LazyLock::new(Pair::start);

struct Pair {
    fronts: [Front; 2],
    _apis: [ApiServer; 2],
    meddler: Meddler,
    _plugin: Plugin,
    etcd: Etcd,
    _run: Run,
}

impl Pair {
    fn start() -> Self {
        let run = Run::new().unwrap();
        let etcd = Etcd::start(&run, 1).unwrap();
        let plugin = serving(&run, "plugin");
        let meddler = Meddler::start(&run.socket("kms.sock").unwrap(), &[&run.path("plugin.sock")], Faults::NONE);
        let provider = |name, resources| Provider { name, resources, socket: meddler.socket(), timeout: None };
        let config = write(&run, "pair.yaml", &[provider("one", &["secrets"]), provider("two", &["configmaps"])]);
        let apis = ["cp-1", "cp-2"]
            .map(|name| ApiServer::on(&run, &etcd).host_name(name).encryption_config(&config).start().unwrap());
        let fronts = [&apis[0], &apis[1]].map(|api| Front::of(&run, api));
        Self { fronts, _apis: apis, meddler, _plugin: plugin, etcd, _run: run }
    }

    /// Creates an object through one of the API servers, and returns its value in etcd.
    fn create(&self, server: usize, kind: Kind, name: &str) -> EncryptedObject {
        self.fronts[server].post(&kind.collection(), &kind.object(name)).expect(201);
        let value = self.etcd.get(&kind.etcd_key(name)).unwrap().unwrap();
        EncryptedObject::parse(if kind.resource == "secrets" { "one" } else { "two" }, &value)
    }
}

#[test]
fn two_provider_entries_on_one_socket_have_a_seed_each() {
    let pair = &*PAIR;
    let (secret, config_map) = (pair.create(0, SECRETS, "entries"), pair.create(0, CONFIG_MAPS, "entries"));
    assert_eq!(secret.key_id, config_map.key_id);
    assert_ne!(secret.encrypted_dek_source, config_map.encrypted_dek_source);
    let connections: BTreeSet<usize> =
        pair.meddler.calls_of(Method::Encrypt).iter().map(|call| call.connection).collect();
    assert_eq!(connections.len(), 4, "two entries of two API servers");
}

#[test]
fn two_api_servers_have_a_seed_each_and_read_what_the_other_wrote() {
    let pair = &*PAIR;
    let by = |server| pair.create(server, SECRETS, &format!("by-{server}"));
    let (by_0, by_1) = (by(0), by(1));
    assert_eq!(by_0.key_id, by_1.key_id);
    assert_ne!(by_0.encrypted_dek_source, by_1.encrypted_dek_source);
    for (reader, name) in [(0, "by-1"), (1, "by-0")] {
        let read = pair.fronts[reader].get(&SECRETS.path(name)).expect(200);
        assert!(read.contains("cy1zZWNyZXQ="), "{read}");
    }
}

#[test]
fn encrypt_is_asked_once_by_each_connection_and_not_by_writes() {
    let pair = &*PAIR;
    for number in 0..20 {
        pair.create(number % 2, SECRETS, &format!("written-{number}"));
    }
    let encrypts = pair.meddler.calls_of(Method::Encrypt);
    let connections: BTreeSet<usize> = encrypts.iter().map(|call| call.connection).collect();
    assert_eq!((encrypts.len(), connections.len()), (4, 4));
}

#[test]
fn every_seed_has_32_bytes() {
    let encrypts = PAIR.meddler.calls_of(Method::Encrypt);
    assert_eq!(encrypts.iter().map(|call| call.plaintext).collect::<Vec<_>>(), [32; 4]);
}

#[test]
fn status_comes_before_encrypt_on_every_connection() {
    let calls = PAIR.meddler.calls();
    for encrypt in calls.iter().filter(|call| call.method == Method::Encrypt) {
        let first = calls.iter().find(|call| call.connection == encrypt.connection).unwrap();
        assert_eq!(first.method, Method::Status);
    }
}

#[test]
fn every_call_has_localhost_as_its_authority_and_waits_at_most_3_s() {
    let pair = &*PAIR;
    pair.create(0, SECRETS, "headers");
    pair.fronts[1].get(&SECRETS.path("headers")).expect(200);
    let calls = pair.meddler.calls();
    for method in [Method::Status, Method::Encrypt, Method::Decrypt] {
        assert!(calls.iter().any(|call| call.method == method), "{method:?}");
    }
    for call in &calls {
        assert_eq!(call.authority, "localhost");
        assert!(call.user_agent.starts_with("grpc-go/"), "{call:?}");
        assert!(call.waits_for() <= Duration::from_secs(3), "{call:?}");
    }
}

#[test]
fn encrypt_and_decrypt_are_named_by_uids_that_are_never_used_twice() {
    let pair = &*PAIR;
    pair.create(0, SECRETS, "uids");
    pair.fronts[1].get(&SECRETS.path("uids")).expect(200);
    let calls = pair.meddler.calls();
    let uids: Vec<&str> =
        calls.iter().filter(|call| call.method != Method::Status).map(|call| call.uid.as_str()).collect();
    assert!(uids.len() > 4 && uids.iter().all(|uid| uid.len() == 36), "{uids:?}");
    assert_eq!(uids.iter().collect::<BTreeSet<_>>().len(), uids.len());
}

#[test]
fn a_seed_is_unwrapped_once_and_kept() {
    let pair = &*PAIR;
    let object = pair.create(0, SECRETS, "kept");
    let read = || pair.fronts[1].get(&SECRETS.path("kept")).expect(200);
    let asked = || {
        let decrypts = pair.meddler.calls_of(Method::Decrypt);
        decrypts.iter().filter(|call| call.ciphertext == object.encrypted_dek_source).count()
    };
    // The watch may ask at the same time: two calls for one seed are possible.
    (0..3).for_each(|_| drop(read()));
    let before = asked();
    (0..10).for_each(|_| drop(read()));
    assert!(before > 0, "the other API server did not make it");
    assert_eq!(asked(), before);
}

#[test]
fn lists_come_from_memory_and_prove_nothing_about_what_is_stored() {
    let pair = &*PAIR;
    for number in 0..5 {
        pair.create(0, SECRETS, &format!("listed-{number}"));
    }
    let reads =
        || pair.fronts[1].metric("apiserver_envelope_encryption_key_id_hash_total", &["from_storage", "\"one\""]);
    let list = || pair.fronts[1].get(&SECRETS.collection()).expect(200);
    wait_until("all are listed", || list().contains("\"listed-4\""));
    let before = reads();
    (0..20).for_each(|_| drop(list()));
    // Others read and write meanwhile, but far less than 20 times the number of listed objects.
    let after = reads();
    assert!(before > 0.0 && after < before + 100.0, "{before} reads from storage before 20 lists, {after} after");
}

#[test]
fn metrics_name_the_key_id_by_its_sha_256() {
    let pair = &*PAIR;
    pair.create(0, SECRETS, "measured");
    let hash = format!("key_id_hash=\"sha256:{}\"", sha256(&key_id(pair.meddler.backend())));
    for name in [
        "apiserver_envelope_encryption_key_id_hash_total",
        "apiserver_envelope_encryption_key_id_hash_last_timestamp_seconds",
        "apiserver_envelope_encryption_key_id_hash_status_last_timestamp_seconds",
    ] {
        assert!(pair.fronts[0].metric(name, &[&hash]) > 0.0, "{name} with {hash}");
    }
}

fn sha256(text: &str) -> String {
    base16ct::lower::encode_string(ring::digest::digest(&ring::digest::SHA256, text.as_bytes()).as_ref())
}

#[test]
fn metrics_count_seeds_and_calls() {
    let pair = &*PAIR;
    pair.create(0, SECRETS, "counted");
    assert!(pair.fronts[0].metric("apiserver_envelope_encryption_dek_source_cache_size", &["\"one\""]) >= 1.0);
    let calls = "apiserver_envelope_encryption_kms_operations_latency_seconds_count";
    for method in ["Status", "Encrypt"] {
        let method = format!("/v2.KeyManagementService/{method}");
        assert!(pair.fronts[0].metric(calls, &[&method, "grpc_status_code=\"OK\""]) >= 1.0, "{method}");
    }
}
