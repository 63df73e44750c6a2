//! The start of an API server: what ends it at once, what it gets over, and what it then needs of a plugin.

use std::sync::LazyLock;

use super::{
    BINARY,
    config::{Provider, SECRETS, write, write_text},
    front::{Front, wait_until},
    meddled::serving,
};
use crate::harness::{api_server::ApiServer, binaries::Version, etcd::Etcd, plugin::Plugin, processes::Run};

/// An etcd for API servers that do not come to use it.
static UNUSED: LazyLock<(Run, Etcd)> = LazyLock::new(|| {
    let run = Run::new().unwrap();
    let etcd = Etcd::start(&run, 1).unwrap();
    (run, etcd)
});

/// A configuration with one KMS provider, of these fields.
fn with_kms(fields: &str) -> String {
    format!(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n\
         - resources: [secrets]\n  providers:\n  - kms: {{{fields}}}\n"
    )
}

/// Asserts that an API server with this configuration ends by itself, and says `text`.
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
    is_fatal(
        "tcp.yaml",
        Some(&with_kms(fields)),
        r#"unsupported scheme "tcp" for KMS provider, only unix is supported"#,
    );
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

/// etcd, and an API server that is started while there is no plugin.
struct Late {
    front: Front,
    api: ApiServer,
    plugin: Plugin,
    etcd: Etcd,
    run: Run,
}

impl Late {
    fn start() -> Self {
        let run = Run::new().unwrap();
        let etcd = Etcd::start(&run, 1).unwrap();
        let plugin = Plugin::init(&run, BINARY, "plugin").unwrap();
        let socket = run.socket("kms.sock").unwrap();
        let provider = Provider { name: "claviger", resources: &["secrets"], socket: &socket, timeout: None };
        let config = write(&run, "late.yaml", &[provider]);
        let api = ApiServer::on(&run, &etcd).encryption_config(config).launch().unwrap();
        let front = Front::of(&run, &api);
        front.wait_until_alive();
        Self { front, api, plugin, etcd, run }
    }

    fn create(&self, name: &str) -> super::http::Answer {
        self.front.post(&SECRETS.collection(), &SECRETS.object(name))
    }

    fn serve(&mut self) {
        self.plugin.serve(self.run.path("kms.sock").display().to_string()).unwrap();
    }
}

#[test]
fn a_plugin_that_comes_late_is_found_and_one_bad_object_fails_the_next_start() {
    let mut late = Late::start();
    late.front.providers().expect(500);
    late.create("early").expect(500);
    late.serve();
    wait_until("the plugin is found", || late.create("good").status == 201);
    late.front.wait_for_providers("ok");
    late.api.wait_until_ready().unwrap();

    // A value that opens nowhere stops nothing while this API server runs, and its next start for as long as it is there.
    let stored = late.etcd.get(&SECRETS.etcd_key("good")).unwrap().unwrap();
    late.etcd.put(&SECRETS.etcd_key("moved"), &stored).unwrap();
    println!("before: {:?}", late.front.get("/readyz"));
    late.api.kill().unwrap();
    late.api.launch().unwrap();
    std::thread::sleep(std::time::Duration::from_secs(25));
    println!("after: {}", late.front.get("/readyz?verbose").body);
    println!("livez: {:?}", late.front.get("/livez"));
    println!("read: {:?}", late.front.get(&SECRETS.path("good")));
    late.etcd.run_etcdctl(&["del", &SECRETS.etcd_key("moved")]).unwrap();
    late.api.wait_until_ready().unwrap();
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
