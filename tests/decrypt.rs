//! Compares the output of `claviger decrypt` with the objects that a real API server returns.

use std::{
    collections::BTreeMap,
    fs,
    io::Read,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    cli::{
        identity,
        sandbox::{Daemon, Sandbox, report_snapshot},
        terminal::type_into,
    },
    harness::{api_server::ApiServer, etcd::Etcd, processes::Run},
    scan::{
        forged::{FREE, Forged, LEAF, Record, leaf, revision},
        proxy::{Proxy, Then},
    },
};

const KEYRING: &str = "--state-dir [DIR]/state";
const SOCKET: &str = "--socket [DIR]/run/kms.sock";
const BACKUP: &str = "--backup [DIR]/node.age --recovery-identity [DIR]/ours.txt";

/// A control plane with a plugin, and a backup of its keyring.
struct Cluster {
    sandbox: Sandbox,
    run: Run,
    etcd: Etcd,
    api: ApiServer,
    _daemon: Daemon,
}

/// Returns an EncryptionConfiguration with these providers. The first one writes.
fn configuration(sandbox: &Sandbox, providers: &[&str]) -> String {
    let kms = format!(
        "kms: {{apiVersion: v2, name: claviger, endpoint: 'unix://{}/run/kms.sock'}}",
        sandbox.root().display()
    );
    let providers =
        providers.iter().map(|provider| format!("\n  - {}", if *provider == "kms" { &kms } else { *provider }));
    let resources = "[secrets, configmaps, widgets.example.com]";
    let head = "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:";
    format!("{head}\n- resources: {resources}\n  providers:{}\n", providers.collect::<String>())
}

impl Cluster {
    fn start() -> Self {
        let run = Run::new().unwrap();
        let etcd = Etcd::start(&run, 1).unwrap();
        let sandbox = Sandbox::inside(run.directory());
        let ours = identity(&sandbox, "ours.txt");
        let init = format!("init {KEYRING} --recovery-recipient {ours} --recovery-identity [DIR]/ours.txt");
        sandbox.run(&init).ends_with(0);
        sandbox.run(&format!("backup create [DIR]/node.age {KEYRING}")).ends_with(0);
        let daemon = sandbox.serve(&format!("{KEYRING} {SOCKET}"));
        let config = sandbox.path("encryption.yaml");
        fs::write(&config, configuration(&sandbox, &["kms", "identity: {}"])).unwrap();
        let api = ApiServer::on(&run, &etcd).encryption_config(config).start().unwrap();
        Self { sandbox, run, etcd, api, _daemon: daemon }
    }

    fn kubectl(&self, arguments: &[&str]) -> String {
        self.api.kubectl(arguments).unwrap()
    }

    fn apply(&self, manifests: &str) {
        self.api.kubectl_stdin(&["create", "-f", "-"], manifests).unwrap();
    }

    /// Restarts the API server with other providers.
    fn write_under(&mut self, providers: &[&str]) {
        fs::write(self.sandbox.path("encryption.yaml"), configuration(&self.sandbox, providers)).unwrap();
        self.api.restart().unwrap();
    }

    fn snapshot(&self) {
        let path = self.sandbox.path("etcd.db");
        _ = fs::remove_file(&path);
        self.etcd.snapshot(&path).unwrap();
    }

    /// Returns every Secret and ConfigMap in the namespace `default`, without the fields that only a stored object has.
    fn objects(&self) -> BTreeMap<String, Value> {
        let list = self.kubectl(&["get", "secrets,configmaps", "-o", "json"]);
        let list: Value = serde_json::from_str(&list).unwrap();
        list["items"].as_array().unwrap().iter().map(essence).collect()
    }
}

/// Returns the name of an object, and the fields that a new object needs.
fn essence(object: &Value) -> (String, Value) {
    let metadata = &object["metadata"];
    let mut annotations = metadata["annotations"].as_object().cloned().unwrap_or_default();
    annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    let field = |name: &str| object.get(name).cloned().unwrap_or_default();
    let name = format!("{}/{}", object["kind"].as_str().unwrap(), metadata["name"].as_str().unwrap());
    let essence = json!({
        "labels": metadata.get("labels"), "annotations": annotations, "namespace": metadata["namespace"],
        "type": field("type"), "immutable": field("immutable"), "data": field("data"), "binaryData": field("binaryData"),
    });
    (name, essence)
}

/// Texts that YAML reads as another type if they are not quoted, and texts that some readers refuse.
const TEXTS: [&str; 18] = [
    "yes",
    "no",
    "on",
    "null",
    "~",
    "012",
    "0x1f",
    "1e3",
    "1:30",
    "1_000",
    "2026-11-28",
    ".5",
    "=",
    "true",
    "- a",
    "a: b # c",
    "%",
    "\u{85}\u{2028}\u{feff}\u{7f}\u{1F511}",
];

/// Returns objects with all fields that a Secret or a ConfigMap can have.
fn manifests() -> String {
    let numbered = |name: &str| -> Value {
        TEXTS
            .iter()
            .enumerate()
            .map(|(number, text)| (format!("{name}{number}"), Value::from(*text)))
            .collect::<serde_json::Map<_, _>>()
            .into()
    };
    // The keys of the data have every form that is allowed and that YAML might not read as text.
    let keys: Value =
        ["yes", "no", "on", "null", "012", "0x1f", "1e3", "1_000", "2026-11-28", ".5", "true", "-", "1.5"]
            .iter()
            .map(|key| ((*key).to_owned(), Value::from("bnVsbA==")))
            .collect::<serde_json::Map<_, _>>()
            .into();
    let secret = |name: &str, kind: &str, data: Value| json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": "default"}, "type": kind, "data": data});
    let mut marked = secret("marked", "Opaque", json!({"a": "AAH/"}));
    marked["metadata"]["labels"] = json!({"app": "yes", "n": "012", "empty": ""});
    marked["metadata"]["annotations"] = numbered("example.com/n");
    marked["immutable"] = true.into();
    let config = |name: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}});
    let mut texts = config("texts");
    texts["data"] = numbered("key.");
    texts["data"]["file.yaml"] = "a:\n  - b\n\ttab\n  \n".into();
    texts["binaryData"] = json!({"bytes": "AP8="});
    let mut frozen = config("frozen");
    frozen["immutable"] = true.into();
    let items = json!([
        secret("keys", "Opaque", keys),
        secret("empty", "example.com/own", json!({})),
        secret("password", "kubernetes.io/basic-auth", json!({"username": "YWRtaW4=", "password": "cy1wYXNzd29yZA=="})),
        secret("registry", "kubernetes.io/dockerconfigjson", json!({".dockerconfigjson": "e30="})),
        marked,
        texts,
        frozen,
    ]);
    json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string()
}

#[test]
fn an_emptied_cluster_gets_its_secrets_back_from_a_snapshot_and_a_backup_alone() {
    let cluster = Cluster::start();
    cluster.apply(&manifests());
    let before = cluster.objects();
    assert!(before.len() >= 7, "{before:#?}");
    cluster.snapshot();
    cluster.kubectl(&["delete", "secrets,configmaps", "--all"]);
    assert_eq!(cluster.objects().len(), 0);
    // A machine that never was a node has no state directory. The objects are piped to kubectl.
    let line =
        format!("decrypt --below secrets/default/ --below configmaps/default/ --snapshot [DIR]/etcd.db {BACKUP}");
    let answer = cluster.sandbox.run(&line);
    answer.ends_with(0);
    assert!(answer.stderr.contains(&format!("{} objects decrypted to standard output", before.len())), "{answer}");
    cluster.api.kubectl_stdin(&["apply", "-f", "-"], &answer.stdout).unwrap();
    let after = cluster.objects();
    for (name, object) in &before {
        assert_eq!(after.get(name), Some(object), "{name}");
    }
    assert_eq!(after.len(), before.len());
    // The objects are also written as files, which nobody else may read.
    let to = cluster.sandbox.path("out");
    let line =
        format!("decrypt --resource secrets --resource configmaps --snapshot [DIR]/etcd.db {BACKUP} --to [DIR]/out");
    let answer = cluster.sandbox.run(&line);
    answer.ends_with(0);
    report_snapshot("report/decrypt", &answer);
    cluster.kubectl(&["delete", "secrets,configmaps", "--all"]);
    cluster.kubectl(&["apply", "--recursive", "-f", &to.join("secrets/default").to_string_lossy()]);
    cluster.kubectl(&["apply", "--recursive", "-f", &to.join("configmaps/default").to_string_lossy()]);
    assert_eq!(cluster.objects(), before);
    let modes: Vec<u32> = tree(&to).iter().map(|path| path.metadata().unwrap().permissions().mode() & 0o7777).collect();
    assert!(modes.iter().all(|mode| matches!(mode, 0o600 | 0o700)) && modes.len() > before.len(), "{modes:?}");
    // With the live etcd and the keyring of the node, the result is the same. The audit log says before who asked for
    // what.
    let of_node = format!("decrypt secrets/default/password --etcd-servers {} {KEYRING}", cluster.etcd.endpoints());
    let answer = cluster.sandbox.run(&of_node);
    answer.ends_with(0);
    assert!(answer.stdout.contains("  password: 'cy1wYXNzd29yZA=='\n"), "{answer}");
    let audit = fs::read_to_string(cluster.sandbox.path("state/audit.jsonl")).unwrap();
    let last: Value = serde_json::from_str(audit.lines().last().unwrap()).unwrap();
    assert_eq!((&last["event"], &last["to"]), (&json!("decrypt"), &json!("standard output")));
    assert_eq!(last["objects"], json!(["secrets/default/password"]));
    nothing_else_is_read_for_a_named_object(&cluster);
    drop(cluster.run);
}

/// Breaks the connection to etcd long before everything was read.
fn nothing_else_is_read_for_a_named_object(cluster: &Cluster) {
    let run = |chosen: &str| {
        let proxy = Proxy::start(&cluster.etcd.endpoints(), 16 << 10, Then::Break);
        cluster.sandbox.run(&format!("decrypt {chosen} --etcd-servers {} {KEYRING}", proxy.url()))
    };
    run("--all").ends_with(6);
    let two = run("configmaps/default/frozen /registry/secrets/default/password");
    two.ends_with(0);
    assert!(two.stdout.contains("name: 'frozen'") && two.stdout.contains("name: 'password'"), "{two}");
    let one_is_missing = run("secrets/default/nobody secrets/default/password");
    one_is_missing.ends_with(1);
    let says = "! /registry/secrets/default/nobody is not there";
    assert!(
        one_is_missing.stderr.contains(says) && one_is_missing.stdout.contains("name: 'password'"),
        "{one_is_missing}"
    );
    let wrong = run("secrets/default/password --etcd-prefix /k8s");
    wrong.ends_with(7);
    assert!(wrong.stderr.contains("/registry"), "{wrong}");
}

fn tree(path: &Path) -> Vec<PathBuf> {
    let mut all = vec![path.to_owned()];
    if path.is_dir() {
        all.extend(fs::read_dir(path).unwrap().flat_map(|entry| tree(&entry.unwrap().path())));
    }
    all
}

/// The secrets of the local providers, made as an API server makes them.
const LOCAL: [&str; 6] = [
    "aescbc: {keys: [{name: short, secret: MDEyMzQ1Njc4OWFiY2RlZg==}]}",
    "aescbc: {keys: [{name: 'with:colon', secret: MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=}]}",
    "aesgcm: {keys: [{name: k16, secret: MDEyMzQ1Njc4OWFiY2RlZg==}]}",
    "aesgcm: {keys: [{name: k24, secret: MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3}]}",
    "aesgcm: {keys: [{name: k32, secret: MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=}]}",
    "secretbox: {keys: [{name: box, secret: MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=}]}",
];

#[test]
fn values_of_every_provider_open_as_the_api_server_reads_them() {
    let mut cluster = Cluster::start();
    let all: Vec<&str> = LOCAL.into_iter().chain(["kms", "identity: {}"]).collect();
    for first in 0..all.len() {
        let mut providers = all.clone();
        providers.rotate_left(first);
        cluster.write_under(&providers);
        let value = format!("--from-literal=value=s-under-{first}");
        cluster.kubectl(&["create", "secret", "generic", &format!("under-{first}"), &value]);
    }
    cluster.snapshot();
    let read = cluster.objects();
    let raw = |flags: &str| {
        cluster.sandbox.run(&format!("decrypt --below secrets/default/under- --snapshot [DIR]/etcd.db {flags}"))
    };
    let config = "--encryption-config [DIR]/encryption.yaml";
    let answer = raw(&format!("{BACKUP} {config} --to [DIR]/out"));
    answer.ends_with(0);
    for first in 0..all.len() {
        let file = cluster.sandbox.path(&format!("out/secrets/default/under-{first}.yaml"));
        let shown = cluster.kubectl(&["apply", "--dry-run=client", "-o", "json", "-f", &file.to_string_lossy()]);
        let (name, object) = essence(&serde_json::from_str(&shown).unwrap());
        assert_eq!((&object["data"], &object["type"]), (&read[&name]["data"], &read[&name]["type"]), "{name}");
    }
    // Without their keys, these objects are named in the report. All others are written.
    let answer = raw(BACKUP);
    answer.ends_with(7);
    let stored =
        ["aescbc:v1:short", "aescbc:v1:with", "aesgcm:v1:k16", "aesgcm:v1:k24", "aesgcm:v1:k32", "secretbox:v1:box"];
    for (number, provider) in stored.iter().enumerate() {
        let line = format!(
            "! /registry/secrets/default/under-{number}: it is under {provider}, and no given key is of that provider"
        );
        assert!(answer.stderr.contains(&line), "{answer}");
    }
    assert!(answer.stdout.contains("under-6") && answer.stdout.contains("under-7"), "{answer}");
    assert!(answer.stderr.contains("--encryption-config FILE"), "{answer}");
    // Other keys with the same names do not open them. aescbc, which is not authenticated, does not return wrong bytes
    // either.
    let wrong = fs::read_to_string(cluster.sandbox.path("encryption.yaml")).unwrap().replace("secret: M", "secret: N");
    fs::write(cluster.sandbox.path("wrong.yaml"), wrong).unwrap();
    let answer = raw(&format!("{BACKUP} --encryption-config [DIR]/wrong.yaml"));
    answer.ends_with(7);
    assert_eq!(answer.stderr.matches("it does not open under the given key of ").count(), stored.len(), "{answer}");
}

const WIDGETS: &str = r"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: widgets, singular: widget, kind: Widget}
  versions:
  - {name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}
";

#[test]
fn custom_resources_come_as_json_and_other_kinds_as_they_are_stored() {
    let cluster = Cluster::start();
    cluster.apply(WIDGETS);
    cluster.kubectl(&["wait", "--for=condition=Established", "crd/widgets.example.com", "--timeout=60s"]);
    let widget =
        "apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: one, namespace: default}\nspec: {pin: s-custom}\n";
    cluster.api.kubectl_stdin(&["create", "-f", "-"], widget).unwrap();
    cluster.kubectl(&["create", "serviceaccount", "robot"]);
    cluster.snapshot();
    let all = format!("--all --snapshot [DIR]/etcd.db {BACKUP}");
    cluster.sandbox.run(&format!("decrypt {all} --to [DIR]/out")).ends_with(0);
    let file = |name: &str| fs::read(cluster.sandbox.path(&format!("out/{name}"))).unwrap();
    let stored: Value = serde_json::from_slice(&file("example.com/widgets/default/one.json")).unwrap();
    let read: Value = serde_json::from_str(&cluster.kubectl(&["get", "widget", "one", "-o", "json"])).unwrap();
    assert_eq!((&stored["spec"], &stored["kind"]), (&read["spec"], &read["kind"]));
    assert!(file("serviceaccounts/default/robot.pb").starts_with(b"k8s\0"));
    // In a stream, objects that kubectl does not take are in a comment, with their type.
    let answer = cluster.sandbox.run(&format!("decrypt {all}"));
    answer.ends_with(0);
    let comment = ": v1 ServiceAccount, as it is stored (pb), in base64\n# azhzA";
    assert!(answer.stdout.contains(comment), "{}", answer.stderr);
    let one = format!("decrypt example.com/widgets/default/one --snapshot [DIR]/etcd.db {BACKUP}");
    let document = cluster.sandbox.run(&one).stdout;
    cluster.kubectl(&["delete", "widget", "one"]);
    // The JSON has the fields of the old object, so it can be created, but not applied over an existing object.
    let body = document.lines().find(|line| line.starts_with('{')).unwrap();
    let mut fresh: Value = serde_json::from_str(body).unwrap();
    fresh["metadata"].as_object_mut().unwrap().retain(|name, _| name == "name" || name == "namespace");
    cluster.api.kubectl_stdin(&["create", "-f", "-"], &fresh.to_string()).unwrap();
    // With --raw, a line with its length precedes every object. A single object has no such line.
    let raw = cluster.sandbox.run(&format!("{one} --raw"));
    assert_eq!(raw.stdout.trim_end(), body, "{raw}");
    let raw = cluster.sandbox.run(&format!("decrypt --resource widgets --raw --snapshot [DIR]/etcd.db {BACKUP}"));
    let (head, rest) = raw.stdout.split_once('\n').unwrap();
    let words: Vec<&str> = head.split(' ').collect();
    assert_eq!(words[2..], ["example.com/v1", "Widget", "/registry/example.com/widgets/default/one"]);
    assert_eq!(words[0].parse::<usize>().unwrap() + 1, rest.len());
}

#[test]
fn what_is_lost_is_named_and_what_is_wrong_is_said_before_anything_is_shown() {
    let cluster = Cluster::start();
    cluster.kubectl(&["create", "secret", "generic", "user", "--from-literal=value=s-user"]);
    cluster.snapshot();
    let sandbox = &cluster.sandbox;
    let run = |line: &str| sandbox.run(&format!("decrypt {line} --snapshot [DIR]/etcd.db"));
    // The other keyring has none of the keys.
    identity(sandbox, "theirs.txt");
    sandbox.run("init --state-dir [DIR]/other --without-recovery").ends_with(0);
    let answer = run("secrets/default/user --state-dir [DIR]/other");
    answer.ends_with(7);
    assert!(answer.stderr.contains("! /registry/secrets/default/user: it needs k1-"), "{answer}");
    assert!(answer.stderr.contains("--backup FILE") && answer.stdout.is_empty(), "{answer}");
    // One name does not exist, and one resource has another name.
    let answer = run(&format!("secrets/default/nobody secrets/default/user {KEYRING}"));
    answer.ends_with(1);
    assert!(answer.stderr.contains("! /registry/secrets/default/nobody is not there"), "{answer}");
    assert!(answer.stdout.contains("name: 'user'"), "{answer}");
    let answer = run(&format!("--resource secret {KEYRING}"));
    answer.ends_with(1);
    assert!(answer.stderr.contains("0 objects decrypted") && answer.stderr.contains("claviger scan"), "{answer}");
    let hint =
        "hint:  nothing is stored of secret: a resource has the name that `kubectl api-resources` shows, in the plural";
    assert!(answer.stderr.contains(hint), "{answer}");
    run(KEYRING).ends_with(2);
    run(&format!("--all --resource secrets {KEYRING}")).ends_with(2);
    run(&format!("--all --show {KEYRING}")).ends_with(2);
    run("--all --backup [DIR]/node.age --recovery-identity [DIR]/theirs.txt").ends_with(4);
    let nowhere = run("--all --state-dir [DIR]/nowhere");
    let hint = "hint:  use the keys of a backup: --backup FILE; or if this node had a keyring";
    assert!(nowhere.code == 3 && nowhere.stderr.contains(hint), "{nowhere}");
    let wrong = run(&format!("--all --etcd-prefix /wrong {KEYRING}"));
    wrong.ends_with(7);
    // An existing directory is not changed.
    fs::create_dir(sandbox.path("out")).unwrap();
    let answer = run(&format!("--all --to [DIR]/out {KEYRING}"));
    assert!(answer.code == 3 && answer.stderr.contains("already exists"), "{answer}");
    assert!(answer.stderr.contains("give the name of a new directory"), "{answer}");
    assert_eq!(fs::read_dir(sandbox.path("out")).unwrap().count(), 0);
    leaves_nothing_behind(sandbox);
    on_a_terminal(sandbox);
    to_a_file(sandbox);
    for_programs(sandbox);
}

/// After an error, or if nothing could be written, there is no directory. So the next attempt can use its name.
fn leaves_nothing_behind(sandbox: &Sandbox) {
    let left = || {
        let names = fs::read_dir(sandbox.root())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
        names.filter(|name| name == "fresh" || name.starts_with("fresh.")).collect::<Vec<_>>()
    };
    let to = "--to [DIR]/fresh";
    for (line, exit) in [
        (format!("secrets/default/nobody {KEYRING} --snapshot [DIR]/etcd.db"), 1),
        ("--below secrets/default/ --state-dir [DIR]/other --snapshot [DIR]/etcd.db".to_owned(), 7),
        (format!("--all {KEYRING} --snapshot [DIR]/nowhere.db"), 2),
        (format!("--all {KEYRING} --etcd-servers http://127.0.0.1:1"), 6),
    ] {
        let answer = sandbox.run(&format!("decrypt {line} {to}"));
        answer.ends_with(exit);
        assert_eq!(left(), Vec::<String>::new(), "{answer}");
        assert_eq!(answer.stderr.contains(" --list --snapshot "), exit == 1, "{answer}");
    }
}

/// Checks that a terminal shows only one object, and only if the operator asks for it.
fn on_a_terminal(sandbox: &Sandbox) {
    let line = format!("decrypt secrets/default/user --snapshot [DIR]/etcd.db {KEYRING}");
    let (said, is_done) = type_into(sandbox, &line, &[]);
    assert!(!is_done && said.contains("secrets would be shown on the terminal") && said.contains("--show"), "{said}");
    assert!(!said.contains("cy11c2Vy"), "{said}");
    let (said, is_done) = type_into(sandbox, &format!("{line} --show"), &[]);
    assert!(is_done && said.contains("value: 'cy11c2Vy'"), "{said}");
}

/// Checks that the objects are written to a file that others may read, with a warning.
fn to_a_file(sandbox: &Sandbox) {
    let line = format!("decrypt secrets/default/user --snapshot [DIR]/etcd.db {KEYRING}");
    for (mode, is_warned) in [(0o644, true), (0o600, false)] {
        let path = sandbox.path("stream.yaml");
        fs::write(&path, "").unwrap();
        sandbox.chmod("stream.yaml", mode);
        let answer = sandbox.call(&line).stdout(&path.to_string_lossy()).run();
        answer.ends_with(0);
        assert_eq!(answer.stderr.contains("umask 077"), is_warned, "{answer}");
        assert!(fs::read_to_string(&path).unwrap().contains("cy11c2Vy"));
    }
    let full = sandbox.call(&line).stdout("/dev/full").run();
    assert!(full.code == 5 && full.stderr.contains("No space left"), "{full}");
}

fn for_programs(sandbox: &Sandbox) {
    let json = |line: &str| sandbox.run(&format!("decrypt {line} --snapshot [DIR]/etcd.db --output json --quiet"));
    let answer = json(&format!("--all {KEYRING} --to [DIR]/for-programs"));
    answer.ends_with(0);
    let report: Value = answer.json();
    assert_eq!(report["format"], "claviger/decrypt/v1");
    assert!(report["objects"].as_u64().unwrap() > 10 && report["failures"] == json!([]), "{report}");
    let answer = json("--all --state-dir [DIR]/other");
    answer.ends_with(7);
    let report: Value = serde_json::from_str(answer.stderr.lines().last().unwrap()).unwrap();
    let failures = report["failures"].as_array().unwrap();
    assert!(failures.iter().any(|failure| failure["key"] == "/registry/secrets/default/user"), "{report}");
    assert_eq!(report["unopened"], failures.len());
}

/// If the user stops the process, or if it is killed, no directory has the requested name. After Ctrl-C there is no
/// directory at all.
#[test]
fn an_interrupted_directory_never_has_its_name() {
    let sandbox = Sandbox::initialised();
    many_secrets(sandbox.path("etcd.db"), 400_000);
    for (signal, code) in [(rustix::process::Signal::INT, 130), (rustix::process::Signal::KILL, -9)] {
        let line = format!("decrypt --all --snapshot [DIR]/etcd.db {KEYRING} --to [DIR]/all");
        let mut child = sandbox.call(&line).start();
        let begun = Instant::now();
        while partial(&sandbox).is_empty() {
            assert!(begun.elapsed() < Duration::from_mins(1), "it has not begun");
            thread::sleep(Duration::from_millis(1));
        }
        thread::sleep(Duration::from_millis(50));
        rustix::process::kill_process(rustix::process::Pid::from_child(&child), signal).unwrap();
        let status = child.wait().unwrap();
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert!(status.code() == Some(code) || signal == rustix::process::Signal::KILL, "{status:?} {said}");
        assert!(!sandbox.path("all").exists());
        assert_eq!(partial(&sandbox).is_empty(), code == 130, "{:?}", partial(&sandbox));
    }
}

/// Writes a database of Secrets in plaintext.
fn many_secrets(path: PathBuf, count: u64) {
    let leaves = count / 16;
    let forged = Forged::new(path, 4096, FREE + 2 * leaves);
    let mut level = Vec::new();
    for number in 0..leaves {
        let first = 2 + number * 16;
        let secret = |at: u64| {
            Record::first(&format!("/registry/secrets/default/{at:08}"), at, b"{\"kind\":\"Secret\"}".to_vec())
        };
        let elements: Vec<_> = (first..first + 16).map(|at| (revision(at), secret(at))).collect();
        let elements: Vec<_> = elements.iter().map(|(key, value)| (key.as_slice(), value.clone())).collect();
        forged.page(FREE + number, LEAF, 16, 0, &leaf(&elements, 0));
        level.push((revision(first), FREE + number));
    }
    forged.tree(level, FREE + leaves);
}

/// Returns the incomplete directories.
fn partial(sandbox: &Sandbox) -> Vec<String> {
    let names =
        fs::read_dir(sandbox.root()).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    names.filter(|name| name.strip_prefix("all.").is_some_and(|rest| rest.contains(".new"))).collect()
}
