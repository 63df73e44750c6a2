//! Tests the start of an API server: which faults end it at once, which it survives, and what it then needs of a
//! plugin.

use std::{
    sync::{LazyLock, Mutex},
    thread,
    time::Duration,
};

use super::{
    config::{Provider, SECRETS, write, write_text},
    front::Front,
    meddled::serving,
    rig::{Ground, Rig},
    seal::Seed,
};
use crate::harness::wait::wait_until;
use crate::harness::{api_server::ApiServer, binaries::Version, etcd::Etcd, processes::Run};

/// An etcd for API servers that end before they use it.
static UNUSED: LazyLock<(Run, Etcd)> = LazyLock::new(|| {
    let run = Run::new().unwrap();
    let etcd = Etcd::start(&run, 1).unwrap();
    (run, etcd)
});

/// Returns a configuration with one KMS provider that has these fields.
fn with_kms(fields: &str) -> String {
    format!(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n\
         - resources: [secrets]\n  providers:\n  - kms: {{{fields}}}\n"
    )
}

/// Asserts that an API server with this configuration ends by itself, and prints `text`.
fn is_fatal(name: &str, configuration: Option<&str>, text: &str) {
    let (run, etcd) = &*UNUSED;
    let path = run.path(name);
    if let Some(configuration) = configuration {
        write_text(run, name, configuration);
    }
    let mut api = ApiServer::on(run, etcd).encryption_config(path).launch().unwrap();
    wait_until("it has ended", || api.process().unwrap().ended().unwrap().is_some());
    let status = api.process().unwrap().ended().unwrap();
    assert_eq!(status.and_then(|status| status.code()), Some(1));
    assert!(api.log().unwrap().contains(text), "{}", api.log().unwrap());
}

#[test]
fn a_configuration_that_is_missing_is_fatal() {
    is_fatal("missing.yaml", None, "error reading encryption provider configuration file");
}

#[test]
fn a_configuration_that_is_no_yaml_is_fatal() {
    is_fatal("none.yaml", Some("{"), "error decoding encryption provider configuration file");
}

#[test]
fn an_endpoint_that_is_no_unix_socket_is_fatal() {
    let fields = "apiVersion: v2, name: a, endpoint: \"tcp://127.0.0.1:1\"";
    is_fatal("tcp.yaml", Some(&with_kms(fields)), "for KMS provider, only unix is supported");
}

#[test]
fn a_cache_size_with_v2_is_fatal() {
    let fields = "apiVersion: v2, name: a, cachesize: 100, endpoint: \"unix:///a.sock\"";
    is_fatal("cachesize.yaml", Some(&with_kms(fields)), "cachesize is not supported in v2");
}

#[test]
fn an_empty_provider_name_is_fatal() {
    let fields = "apiVersion: v2, name: \"\", endpoint: \"unix:///a.sock\"";
    is_fatal("empty-name.yaml", Some(&with_kms(fields)), "name is a mandatory field for a provider");
}

#[test]
fn a_colon_in_the_provider_name_is_fatal() {
    let fields = "apiVersion: v2, name: \"a:b\", endpoint: \"unix:///a.sock\"";
    is_fatal("colon.yaml", Some(&with_kms(fields)), "invalid KMS provider name a:b, must not contain ':'");
}

#[test]
fn a_provider_name_used_twice_is_fatal() {
    let once = "  - kms: {apiVersion: v2, name: a, endpoint: \"unix:///a.sock\"}\n";
    let text = with_kms("apiVersion: v2, name: a, endpoint: \"unix:///a.sock\"") + once;
    is_fatal("twice.yaml", Some(&text), "duplicate KMS provider name a, names must be unique");
}

#[test]
fn a_timeout_of_0_is_fatal() {
    let fields = "apiVersion: v2, name: a, timeout: 0s, endpoint: \"unix:///a.sock\"";
    is_fatal("timeout.yaml", Some(&with_kms(fields)), "timeout should be a positive value");
}

/// The API server that was started while there was no plugin.
static LATE: LazyLock<Mutex<Rig>> = LazyLock::new(|| Mutex::new(Rig::without_plugin()));

#[test]
fn a_plugin_that_comes_late_is_found() {
    LATE.lock().unwrap().serve_late();
}

#[test]
fn a_call_waits_for_a_plugin_that_restarts() {
    let mut rig = LATE.lock().unwrap();
    rig.serve_late();
    let (etcd_key, object) = (SECRETS.etcd_key("sealed"), SECRETS.object("sealed"));
    let value = Seed::one_wrapped_by(&rig.socket()).seal("claviger", &etcd_key, object.as_bytes());
    rig.plugin.kill().unwrap();
    rig.etcd.put(&etcd_key, &value).unwrap();
    let Rig { front, plugin, .. } = &mut *rig;
    thread::scope(|scope| {
        let read = scope.spawn(|| front.get(&SECRETS.path("sealed")));
        thread::sleep(Duration::from_millis(300));
        plugin.launch().unwrap();
        read.join().unwrap().expect(200);
    });
}

#[test]
fn one_object_that_does_not_open_keeps_the_next_start_from_being_ready() {
    let mut ground = Ground::prepare();
    ground.serve();
    let _elsewhere = serving(&ground.run, "elsewhere");
    let etcd_key = SECRETS.etcd_key("theirs");
    let seed = Seed::one_wrapped_by(&ground.run.path("elsewhere.sock"));
    ground.etcd.put(&etcd_key, &seed.seal("claviger", &etcd_key, SECRETS.object("theirs").as_bytes())).unwrap();
    let socket = ground.socket();
    let mut rig = ground.launch(&socket, &["secrets"]);
    let front = &rig.front;
    // Everything else starts, and the plugin is well. Only the type that cannot be listed keeps the API server from
    // being ready.
    let expected =
        ["[-]informer-sync failed: reason withheld", "[-]poststarthook/storage-readiness failed: reason withheld"];
    wait_until("nothing else is missing", || failed(front, "/readyz") == expected);
    thread::sleep(Duration::from_secs(5));
    assert_eq!(failed(front, "/readyz"), expected);
    // In its first minute the API server is not even alive, and a kubelet may restart it because of that.
    assert_eq!(failed(front, "/livez"), expected[1..]);
    front.post(&SECRETS.collection(), &SECRETS.object("new")).expect(201);
    front.get(&SECRETS.path("new")).expect(200);
    assert_ne!(front.get(&SECRETS.collection()).status, 200);
    rig.etcd.run_etcdctl(&["del", &etcd_key]).unwrap();
    rig.api.wait_until_ready().unwrap();
}

/// Returns the lines of a health check that report a failure.
fn failed(front: &Front, check: &str) -> Vec<String> {
    let answer = front.try_request(&format!("GET {check}?verbose"), &[], "").map(|answer| answer.body);
    answer.unwrap_or_default().lines().filter(|line| line.starts_with("[-]")).map(str::to_owned).collect()
}

#[test]
fn kubernetes_1_31_over_a_path_fails_with_protocol_error() {
    let run = Run::new().unwrap();
    let etcd = Etcd::start(&run, 1).unwrap();
    let _plugin = serving(&run, "plugin");
    let socket = run.path("plugin.sock");
    let provider = Provider { name: "claviger", resources: &["secrets"], socket: &socket, timeout: None };
    let config = write(&run, "old.yaml", &[provider]);
    let api = ApiServer::on(&run, &etcd).version(Version::V1_31).encryption_config(config).launch().unwrap();
    let front = Front::of(&run, &api);
    front.wait_until_alive();
    let answer = front.providers().expect(500);
    assert!(answer.contains("PROTOCOL_ERROR"), "{answer}");
    front.post(&SECRETS.collection(), &SECRETS.object("new")).expect(500);
}
