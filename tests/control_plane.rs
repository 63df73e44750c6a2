//! Tests claviger with a real kube-apiserver and a real etcd: users write Secrets, and the test reads the bytes in
//! etcd.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    sync::LazyLock,
};

use prost::Message;

use crate::{
    admin,
    harness::{api_server::ApiServer, binaries::Version, etcd::Etcd, plugin::Plugin, processes::Run},
    oracle::{EncryptedObject, Keys},
};

const BINARY: &str = env!("CARGO_BIN_EXE_claviger");
const PROVIDER: &str = "claviger";
const PREFIX: &[u8] = b"k8s:enc:kms:v2:claviger:";
const RESOURCES: [&str; 3] = ["secrets", "configmaps", "widgets.example.com"];

/// One control plane for all tests that change only their own objects.
static SHARED: LazyLock<Rig> = LazyLock::new(|| {
    let rig = Rig::start(Version::V1_37, "kms.sock", &RESOURCES);
    rig.api.kubectl_stdin(&["apply", "-f", "-"], WIDGETS).unwrap();
    rig.api.kubectl(&["wait", "--for=condition=Established", "crd/widgets.example.com", "--timeout=60s"]).unwrap();
    rig
});

/// etcd, a plugin, and an API server that uses it.
struct Rig {
    api: ApiServer,
    plugin: Plugin,
    etcd: Etcd,
    run: Run,
}

impl Rig {
    fn start(version: Version, socket: &str, resources: &[&str]) -> Self {
        let run = Run::new().unwrap();
        let etcd = Etcd::start(&run, 1).unwrap();
        let mut plugin = Plugin::init(&run, BINARY, "claviger").unwrap();
        let socket = match socket.strip_prefix('@') {
            Some(_) => socket.to_owned(),
            None => run.socket(socket).unwrap().display().to_string(),
        };
        plugin.flag(format!("--metrics-listen={}", run.socket("metrics.sock").unwrap().display()));
        plugin.serve(socket).unwrap();
        let config = plugin.encryption_config(resources, true).unwrap();
        let api = ApiServer::on(&run, &etcd).version(version).encryption_config(config).start().unwrap();
        Self { api, plugin, etcd, run }
    }

    fn key(kind: &str, name: &str) -> String {
        format!("/registry/{kind}/default/{name}")
    }

    /// Returns the bytes of an object in etcd.
    fn stored(&self, kind: &str, name: &str) -> Vec<u8> {
        self.etcd.get(&Self::key(kind, name)).unwrap().expect("the object is in etcd")
    }

    /// Returns the plaintext of an object in etcd, opened from the state directory alone. Checks that the stored bytes
    /// contain none of `needles`.
    fn opened(&self, kind: &str, name: &str, needles: &[&str]) -> Vec<u8> {
        let value = self.stored(kind, name);
        assert!(value.starts_with(PREFIX), "{kind} {name} is not under our provider");
        for needle in needles {
            assert!(!contains(&value, needle.as_bytes()), "{needle} can be read in etcd");
        }
        let opened = Keys::open(self.plugin.state_dir()).open_value(PROVIDER, &Self::key(kind, name), &value);
        for needle in needles {
            assert!(contains(&opened, needle.as_bytes()), "{needle} is not in what was opened");
        }
        opened
    }

    /// Returns an item of a Secret's data, read through the API.
    fn read_back(&self, name: &str, item: &str) -> String {
        let template = format!("go-template={{{{index .data \"{item}\" | base64decode}}}}");
        self.api.kubectl(&["get", "secret", name, "-o", &template]).unwrap()
    }
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

/// The message that kube-apiserver stores after `k8s\0`: a `runtime.Unknown`, with the fields of a Secret that are
/// compared here.
#[derive(Clone, PartialEq, Message)]
struct Unknown {
    #[prost(bytes = "vec", tag = "2")]
    raw: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct StoredSecret {
    #[prost(map = "string, bytes", tag = "2")]
    data: HashMap<String, Vec<u8>>,
    #[prost(string, tag = "3")]
    kind: String,
}

fn stored_secret(opened: &[u8]) -> StoredSecret {
    let unknown = Unknown::decode(opened.strip_prefix(b"k8s\0").expect("protobuf")).unwrap();
    StoredSecret::decode(unknown.raw.as_slice()).unwrap()
}

fn data(items: &[(&str, &[u8])]) -> HashMap<String, Vec<u8>> {
    items.iter().map(|(name, value)| ((*name).to_owned(), value.to_vec())).collect()
}

#[test]
fn a_secret_from_a_file_is_unreadable_in_etcd_and_opens_byte_for_byte() {
    let rig = &*SHARED;
    let file = rig.run.path("username.txt");
    // The value is not only text: the bytes of a user's file must come back unchanged.
    let bytes = [b"s-from-file\n".as_slice(), &[0, 0xff, 0xfe, b'\r', b'\n']].concat();
    fs::write(&file, &bytes).unwrap();
    let from_file = format!("--from-file={}", file.display());
    rig.api.kubectl(&["create", "secret", "generic", "user", &from_file]).unwrap();
    let secret = stored_secret(&rig.opened("secrets", "user", &["s-from-file"]));
    assert_eq!(secret.data, data(&[("username.txt", &bytes)]));
    assert_eq!(secret.kind, "Opaque");
}

#[test]
fn a_secret_from_literals_is_unreadable_in_etcd() {
    let rig = &*SHARED;
    let literals = ["--from-literal=user=s-alice", "--from-literal=password=s-pa$$w0rd"];
    rig.api.kubectl(&[&["create", "secret", "generic", "literal"], &literals[..]].concat()).unwrap();
    let secret = stored_secret(&rig.opened("secrets", "literal", &["s-alice", "s-pa$$w0rd"]));
    assert_eq!(secret.data, data(&[("user", b"s-alice"), ("password", b"s-pa$$w0rd")]));
    assert_eq!(rig.read_back("literal", "password"), "s-pa$$w0rd");
}

#[test]
fn a_secret_in_yaml_is_unreadable_in_etcd() {
    let rig = &*SHARED;
    let yaml = "apiVersion: v1\nkind: Secret\nmetadata: {name: yaml}\ntype: Opaque\nstringData: {token: s-from-yaml}\n";
    rig.api.kubectl_stdin(&["apply", "-f", "-"], yaml).unwrap();
    // `kubectl apply` keeps the manifest in an annotation, which must not be readable either.
    let secret = stored_secret(&rig.opened("secrets", "yaml", &["s-from-yaml"]));
    assert_eq!(secret.data, data(&[("token", b"s-from-yaml")]));
    assert_eq!(rig.read_back("yaml", "token"), "s-from-yaml");
}

#[test]
fn a_config_map_is_unreadable_in_etcd() {
    let rig = &*SHARED;
    rig.api.kubectl(&["create", "configmap", "settings", "--from-literal=mode=s-configured"]).unwrap();
    rig.opened("configmaps", "settings", &["s-configured"]);
    let read = rig.api.kubectl(&["get", "configmap", "settings", "-o", "jsonpath={.data.mode}"]).unwrap();
    assert_eq!(read, "s-configured");
}

const WIDGETS: &str = "
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: widgets, singular: widget, kind: Widget}
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        properties: {spec: {type: object, properties: {pin: {type: string}}}}
";

#[test]
fn a_custom_resource_is_unreadable_in_etcd() {
    let rig = &*SHARED;
    let widget = "apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: one}\nspec: {pin: s-custom}\n";
    rig.api.kubectl_stdin(&["create", "-f", "-"], widget).unwrap();
    let opened = rig.opened("example.com/widgets", "one", &["s-custom"]);
    let stored: serde_json::Value = serde_json::from_slice(&opened).unwrap();
    assert_eq!(stored["spec"]["pin"], "s-custom");
}

#[test]
fn the_api_server_names_the_key_that_status_names() {
    let rig = &*SHARED;
    rig.api.kubectl(&["create", "secret", "generic", "named", "--from-literal=a=b"]).unwrap();
    let object = EncryptedObject::parse(PROVIDER, &rig.stored("secrets", "named"));
    let keys = rig.plugin.claviger(&["key", "list", "--output", "json"]).unwrap();
    let keys: serde_json::Value = serde_json::from_str(&keys).unwrap();
    assert_eq!(keys["keys"][0]["key_id"], object.key_id);
    assert!(rig.api.readyz().unwrap().contains("kms-providers ok"));
}

/// An operator can therefore join the metrics of both.
#[test]
fn the_metrics_hash_a_key_id_as_the_api_server_does() {
    let rig = &*SHARED;
    rig.api.kubectl(&["create", "secret", "generic", "hashed", "--from-literal=a=b"]).unwrap();
    let ours = admin::scrape(rig.run.path("metrics.sock").to_str().unwrap());
    let ours = label(&ours, "claviger_key_info{", "key_id_hash");
    let theirs = rig.api.kubectl(&["get", "--raw", "/metrics"]).unwrap();
    assert_eq!(label(&theirs, "apiserver_envelope_encryption_key_id_hash_total{", "key_id_hash"), ours);
    assert_eq!(label(&theirs, "apiserver_envelope_encryption_key_id_hash_status_last", "key_id_hash"), ours);
}

/// Returns the value of a label of the first sample that begins with `start`.
fn label<'a>(metrics: &'a str, start: &str, name: &str) -> &'a str {
    let sample = metrics.lines().find(|line| line.starts_with(start)).expect("the metric is there");
    sample.split_once(&format!("{name}=\"")).unwrap().1.split('"').next().unwrap()
}

#[test]
fn a_plaintext_secret_is_read_and_is_encrypted_by_its_next_update() {
    let run = Run::new().unwrap();
    let etcd = Etcd::start(&run, 1).unwrap();
    let mut before = ApiServer::on(&run, &etcd).start().unwrap();
    before.kubectl(&["create", "secret", "generic", "early", "--from-literal=a=s-in-clear"]).unwrap();
    assert!(contains(&etcd.get(&Rig::key("secrets", "early")).unwrap().unwrap(), b"s-in-clear"));
    before.kill().unwrap();

    let mut plugin = Plugin::init(&run, BINARY, "claviger").unwrap();
    plugin.serve(run.socket("kms.sock").unwrap().display().to_string()).unwrap();
    let config = plugin.encryption_config(&["secrets"], true).unwrap();
    let api = ApiServer::on(&run, &etcd).encryption_config(config).start().unwrap();
    let rig = Rig { api, plugin, etcd, run };
    assert_eq!(rig.read_back("early", "a"), "s-in-clear");
    assert!(contains(&rig.stored("secrets", "early"), b"s-in-clear"), "reading must not rewrite");

    // The command is that of the README for existing Secrets.
    let all = rig.api.kubectl(&["get", "secrets", "--all-namespaces", "-o", "json"]).unwrap();
    rig.api.kubectl_stdin(&["replace", "-f", "-"], &all).unwrap();
    rig.opened("secrets", "early", &["s-in-clear"]);
    assert_eq!(rig.read_back("early", "a"), "s-in-clear");
}

#[test]
fn everything_is_read_again_after_plugin_and_api_server_were_killed() {
    let mut rig = Rig::start(Version::V1_37, "kms.sock", &["secrets"]);
    let mut expected = BTreeMap::new();
    for round in 0..3 {
        for number in 0..4 {
            let (name, value) = (format!("kept-{round}-{number}"), format!("s-value-{round}-{number}"));
            let literal = format!("--from-literal=a={value}");
            rig.api.kubectl(&["create", "secret", "generic", &name, &literal]).unwrap();
            expected.insert(name, value);
        }
        // After SIGKILL the file of the socket remains. The next start has to replace it, and the API server has to
        // connect again.
        rig.plugin.restart().unwrap();
        rig.api.restart().unwrap();
        for (name, value) in &expected {
            assert_eq!(&rig.read_back(name, "a"), value);
        }
    }
    // Each start of the API server made its own seed.
    let seeds =
        expected.keys().map(|name| EncryptedObject::parse(PROVIDER, &rig.stored("secrets", name)).encrypted_dek_source);
    assert_eq!(seeds.collect::<std::collections::BTreeSet<_>>().len(), 3);
}

#[test]
fn a_value_moved_to_another_name_does_not_open_there() {
    let rig = Rig::start(Version::V1_37, "kms.sock", &["secrets"]);
    rig.api.kubectl(&["create", "secret", "generic", "true", "--from-literal=a=s-true"]).unwrap();
    // An encrypted value that is moved to another name does not open under that name.
    let value = rig.stored("secrets", "true");
    rig.etcd.put(&Rig::key("secrets", "moved"), &value).unwrap();
    let error = rig.api.kubectl(&["get", "secret", "moved"]).unwrap_err().to_string();
    assert!(error.contains("InternalError") || error.contains("Internal error"), "{error}");
    assert!(!error.contains("s-true"), "{error}");
}

#[test]
fn kubernetes_1_31_works_over_an_abstract_socket() {
    let socket = format!("@claviger-test-{}", std::process::id());
    let mut rig = Rig::start(Version::V1_31, &socket, &["secrets"]);
    let version = rig.api.kubectl(&["version", "-o", "json"]).unwrap();
    let version: serde_json::Value = serde_json::from_str(&version).unwrap();
    assert_eq!(version["serverVersion"]["gitVersion"], "v1.31.0");
    rig.api.kubectl(&["create", "secret", "generic", "old", "--from-literal=a=s-abstract"]).unwrap();
    rig.opened("secrets", "old", &["s-abstract"]);
    rig.plugin.restart().unwrap();
    rig.api.restart().unwrap();
    assert_eq!(rig.read_back("old", "a"), "s-abstract");
}
