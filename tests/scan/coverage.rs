//! Compares claviger with API servers on each `EncryptionConfiguration`: whether it is valid, and which resources it
//! covers.

use std::{collections::BTreeMap, fs, path::Path};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use serde_json::json;

use super::{
    objects::{ALL, define_widgets},
    scanned::{Scan, put, stored},
};
use crate::harness::wait::wait_until;
use crate::{
    contract::front::Front,
    harness::{
        api_server::{ApiServer, Options},
        etcd::Etcd,
        processes::Run,
    },
};

const HEAD: &str = "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n";

/// 32 and 16 bytes in base64, made for this test. No text of claviger's may contain them.
const SECRET: &str = "c2NhbjogdGhlIHNlY3JldCB0ZXh0IG9mIGEgdGVzdCE=";
const SHORT_SECRET: &str = "c2NhbjogMTYgYnl0ZXMhIQ==";

/// Returns a configuration with the words in capitals replaced by a provider or a secret.
fn fill(text: &str) -> String {
    let keys = |scheme: &str, name: &str| format!("{{{scheme}: {{keys: [{{name: {name}, secret: {SECRET}}}]}}}}");
    [
        ("CBC", keys("aescbc", "cbc")),
        ("GCM", keys("aesgcm", "gcm")),
        ("BOX", keys("secretbox", "box")),
        ("PLAIN", "{identity: {}}".to_owned()),
        ("KMS", r#"kms: {apiVersion: v2, name: a, endpoint: "unix:///a.sock""#.to_owned()),
        ("SHORT", SHORT_SECRET.to_owned()),
        ("SECRET", SECRET.to_owned()),
    ]
    .iter()
    .fold(text.to_owned(), |text, (word, value)| text.replace(word, value))
}

/// Asserts that an API server writes every object with the first provider that claviger sees for it, and in plaintext
/// if claviger sees no entry that covers it.
fn is_covered_as_by_an_api_server(configuration: &str) {
    is_covered_as_by(configuration, &["ranges"], |_, options| options);
}

/// Asserts the same for an API server with further flags. It keeps objects of its own at the paths in `bookkeeping`.
fn is_covered_as_by(configuration: &str, bookkeeping: &[&str], with_flags: impl Fn(&Run, Options) -> Options) {
    let run = Run::new().unwrap();
    let etcd = Etcd::start(&run, 1).unwrap();
    let config = run.path("encryption.yaml");
    fs::write(&config, configuration).unwrap();
    let mut api = with_flags(&run, ApiServer::on(&run, &etcd).encryption_config(&config)).start().unwrap();
    let front = Front::of(&run, &api);
    define_widgets(&front);
    for kind in &ALL {
        kind.create(&front, "one");
    }
    let own = |path: &str| !etcd.keys(&format!("/registry/{path}/")).unwrap().is_empty();
    wait_until("it has written what it keeps for itself", || bookkeeping.iter().all(|path| own(path)));
    api.kill().unwrap();

    let (list, stored) = (Scan::live(&run, &etcd).config(&config).list(), stored(&etcd, "/registry/"));
    assert!(list.keys().eq(stored.keys()));
    let mut first_of_each = BTreeMap::new();
    for (key, line) in &list {
        let (provider, _) = stored[key].under();
        assert_eq!(line["provider"], provider.as_str(), "{key}");
        // A Secret in plaintext is always a finding.
        let is_open_secret = line["resource"] == "secrets" && provider == "identity";
        assert_eq!(line["finding"], if is_open_secret { json!("plaintext") } else { json!(null) }, "{key}");
        first_of_each.entry(line["resource"].clone().to_string()).or_insert((key, provider));
    }
    assert!(ALL.iter().all(|kind| first_of_each.contains_key(&json!(kind.resource).to_string())));

    // Beside each object, the test puts another one in plaintext. It should be encrypted if the first one is.
    let beside = |key: &str| format!("{key}-beside");
    let probes: Vec<_> = first_of_each.values().map(|(key, _)| (beside(key), &b"{}"[..])).collect();
    put(&etcd, &probes);
    let list = Scan::live(&run, &etcd).config(&config).list();
    for (key, provider) in first_of_each.values() {
        let is_found = list[&beside(key)]["finding"] == "plaintext-although-covered";
        assert_eq!(is_found, provider != "identity", "{key} is under {provider}");
    }
}

#[test]
fn an_entry_before_a_wildcard_is_taken_before_it() {
    is_covered_as_by_an_api_server(&fill(&format!(
        "{HEAD}
- resources: [events, leases.coordination.k8s.io]
  providers: [PLAIN]
- resources: [secrets, configmaps, widgets.example.com]
  providers: [CBC, PLAIN]
- resources: ['*.apps']
  providers: [GCM]
- resources: ['*.*']
  providers: [BOX, PLAIN]
"
    )));
}

#[test]
fn wildcards_cover_their_group_alone() {
    is_covered_as_by_an_api_server(&fill(&format!(
        "{HEAD}
# No resource is called so.
- resources: [deployments, widgets, roles, ingress.networking.k8s.io, secrets.example.org, '*.*.*', '*.k8s.io']
  providers: [GCM]
- resources: ['*.']
  providers: [BOX, PLAIN]
- resources: [ingresses.networking.k8s.io, '*.example.com']
  providers: [CBC, PLAIN]
- resources: ['*.coordination.k8s.io', roles.rbac.authorization.k8s.io]
  providers: [PLAIN, GCM]
"
    )));
}

#[test]
fn a_resource_in_two_entries_has_the_providers_of_both() {
    is_covered_as_by_an_api_server(&fill(&format!(
        "{HEAD}
- resources: [secrets., services]
  providers: [CBC]
- resources: [secrets, configmaps]
  providers: [BOX, PLAIN]
- resources: [endpoints]
  providers: [PLAIN]
- resources: [endpoints, services, deployments.apps]
  providers: [PLAIN, GCM, CBC]
- resources: [configmaps]
  providers: [GCM]
- resources: ['*.', '*.apps']
  providers: [GCM, PLAIN]
"
    )));
}

/// Makes an API server keep its own leases: the addresses for clients, and those for other API servers.
fn with_bookkeeping(run: &Run, options: Options) -> Options {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed([]).unwrap();
    let (certificate, key) = (run.path("peers.crt"), run.path("peers.key"));
    fs::write(&certificate, cert.pem()).unwrap();
    fs::write(&key, signing_key.serialize_pem()).unwrap();
    let flags = ["peer-ca-file", "requestheader-client-ca-file", "proxy-client-cert-file"];
    let options =
        flags.iter().fold(options, |options, flag| options.argument(format!("--{flag}={}", certificate.display())));
    options
        .argument(format!("--proxy-client-key-file={}", key.display()))
        .argument("--feature-gates=UnknownVersionInteroperabilityProxy=true")
        .argument("--endpoint-reconciler-type=lease")
        // No machine has this address. The API server refuses a loopback address.
        .argument("--advertise-address=192.0.2.1")
}

#[test]
fn everything_is_covered_by_one_wildcard_but_what_an_api_server_keeps_for_itself() {
    // The same, as JSON.
    let document = json!({
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "EncryptionConfiguration",
        "resources": [{"resources": ["*.*"], "providers": [{"secretbox": {"keys": [{"name": "box", "secret": SECRET}]}}]}],
    });
    is_covered_as_by(&document.to_string(), &["masterleases", "peerserverleases", "ranges"], with_bookkeeping);
}

/// The other kind, a mark at the beginning, comments, other documents after it, texts that look like something else;
/// and of the first entry's keys one with a colon in its name, and a secret in lines whose last bits say nothing.
#[test]
fn a_file_is_read_as_an_api_server_reads_it() {
    let (lines, last) = (&SECRET[..SECRET.len() - 2], "F=");
    let configuration = fill(&format!(
        "\u{feff}# Ours.
---
kind: EncryptionConfig
apiVersion: v1
resources:
- resources: [secrets]
  providers: &both
  - aescbc:
      keys:
      - name: 'a:b'
        secret: |
          {}
          {}{last}
      - {{name: '1', secret: SHORT}}
    identity:
  - identity: {{}}
    kms: null
- resources: [configmaps, '']
  providers: *both
- resources: [services]
  providers:
  - {{secretbox: {{keys: [{{name: 2026-01-01, secret: \"SECRET\\n\"}}, {{name: 1:30, secret: SECRET}}]}}}}
---
resources: no more
---
",
        &lines[..20],
        &lines[20..]
    ));
    assert!(!configuration.contains("SECRET"));
    is_covered_as_by_an_api_server(&configuration);
}

/// Faults of a resource list, each with claviger's error text.
const WRONG_RESOURCES: [(&str, &str); 18] = [
    ("", "resources: at least one is required"),
    ("[]", "resources: at least one is required"),
    ("[{resources: [], providers: [CBC]}]", "resources[0].resources: at least one is required"),
    ("[{providers: [CBC]}]", "resources[0].resources: at least one is required"),
    ("[{resources: [secrets]}]", "resources[0].providers: at least one is required"),
    ("[{resources: [secrets], providers: []}]", "resources[0].providers: at least one is required"),
    ("[{resources: [secrets, secrets.], providers: [CBC]}]", "resources[0].resources: a resource occurs twice"),
    (
        "[{resources: [secrets, '*.'], providers: [CBC]}]",
        "resources[0].resources: a wildcard masks another resource of the same list",
    ),
    (
        "[{resources: ['*.*', deployments.apps], providers: [CBC]}]",
        "resources[0].resources: a wildcard masks another resource of the same list",
    ),
    (
        "[{resources: ['*.'], providers: [CBC]}, {resources: [secrets], providers: [CBC]}]",
        "resources[1].resources: resource \"secrets\" is masked by the earlier \"*.\"",
    ),
    (
        "[{resources: ['*.*'], providers: [CBC]}, {resources: ['*.apps'], providers: [CBC]}]",
        "resources[1].resources: resource \"*.apps\" is masked by the earlier \"*.*\"",
    ),
    ("[{resources: [Secrets], providers: [CBC]}]", "resources[0].resources[0]: \"Secrets\": has capital letters"),
    (
        "[{resources: ['*'], providers: [CBC]}]",
        "resources[0].resources[0]: \"*\": use '*.' for the core group, or '*.*' for everything",
    ),
    (
        "[{resources: [events.events.k8s.io], providers: [CBC]}]",
        "resources[0].resources[0]: \"events.events.k8s.io\": events are stored in the core group: use 'events'",
    ),
    (
        "[{resources: [deployments.extensions], providers: [CBC]}]",
        "resources[0].resources[0]: \"deployments.extensions\": the group 'extensions' no longer exists",
    ),
    (
        "[{resources: ['foo.*'], providers: [CBC]}]",
        "resources[0].resources[0]: \"foo.*\": a resource of all groups cannot be encrypted; name its group",
    ),
    (
        "[{resources: [serviceipallocations], providers: [CBC]}]",
        "resources[0].resources[0]: \"serviceipallocations\": has no REST API, and cannot be encrypted",
    ),
    ("[{resources: [1], providers: [CBC]}]", "line 3, column 26: not what is expected there"),
];

/// Faults of a provider of the first entry, each with claviger's error text. The texts are about
/// `resources[0].providers[0]`, except those that begin with `line`.
const WRONG_PROVIDERS: [(&str, &str); 40] = [
    ("{}", ": names no provider, expected one of kms, aesgcm, aescbc, secretbox and identity"),
    ("{identity: }", ": names no provider, expected one of kms, aesgcm, aescbc, secretbox and identity"),
    ("{aescbc: {keys: [{name: k, secret: SECRET}]}, identity: {}}", ": names more than one provider"),
    ("{aescbc: {keys: []}}", ".aescbc.keys: at least one is required"),
    ("{aescbc: {keys: [{secret: SECRET}]}}", ".aescbc.keys[0]: name is missing"),
    ("{aescbc: {keys: [{name: '', secret: SECRET}]}}", ".aescbc.keys[0]: name is missing"),
    ("{aesgcm: {keys: [{name: k}]}}", ".aesgcm.keys[0]: secret is missing"),
    ("{aesgcm: {keys: [{name: k, secret: ''}]}}", ".aesgcm.keys[0]: secret is missing"),
    (
        "{secretbox: {keys: [{name: k, secret: SHORT}]}}",
        ".secretbox.keys[0]: secret has a wrong length, expected one of [32]",
    ),
    (
        "{aescbc: {keys: [{name: k, secret: SECRET}, {name: l, secret: c2Nhbg==}]}}",
        ".aescbc.keys[1]: secret has a wrong length, expected one of [16, 24, 32]",
    ),
    ("{aescbc: {keys: [{name: k, secret: '-SECRET'}]}}", ".aescbc.keys[0]: secret is not base64"),
    ("{aescbc: {keys: [{name: k, secret: 'SECRET '}]}}", ".aescbc.keys[0]: secret is not base64"),
    ("{aescbc: {keys: [{name: k, secret: 'SECRET='}]}}", ".aescbc.keys[0]: secret is not base64"),
    ("{aescbc: {keys: [{name: k, secret: c2NhbjogMTYgYnl0ZXMhIQ}]}}", ".aescbc.keys[0]: secret is not base64"),
    ("{aescbc: {keys: [{name: 1, secret: SECRET}]}}", "line 5, column 39: not what is expected there"),
    ("{aescbc: {keys: [{name: yes, secret: SECRET}]}}", "line 5, column 39: not what is expected there"),
    ("{aescbc: {keys: [{name: 0x1f, secret: SECRET}]}}", "line 5, column 39: not what is expected there"),
    ("{KMS, cachesize: 100}}", ".kms: v2 has no cachesize"),
    ("{kms: {apiVersion: v1, name: a, endpoint: 'unix:///a', cachesize: 0}}", ".kms: cachesize is zero"),
    (
        "{kms: {name: a, endpoint: 'unix:///a'}}",
        ".kms: apiVersion is v1, which is the default, and needs --feature-gates=KMSv1=true",
    ),
    ("{kms: {apiVersion: v3, name: a, endpoint: 'unix:///a'}}", ".kms: apiVersion is neither v1 nor v2"),
    ("{kms: {apiVersion: v2, endpoint: 'unix:///a'}}", ".kms: name is missing"),
    ("{kms: {apiVersion: v2, name: 'a:b', endpoint: 'unix:///a'}}", ".kms: name has a colon"),
    ("{KMS}}, {KMS}}", "[1].kms: another provider has the same name"),
    ("{kms: {apiVersion: v2, name: a, endpoint: 'tcp://127.0.0.1:1'}}", ".kms: endpoint is not unix:…"),
    ("{kms: {apiVersion: v2, name: a}}", ".kms: endpoint is not unix:…"),
    ("{KMS, timeout: 0s}}", ".kms: timeout is not a positive duration"),
    ("{KMS, timeout: -3s}}", ".kms: timeout is not a positive duration"),
    ("{KMS, timeout: '3'}}", ".kms: timeout is not a positive duration"),
    ("{KMS, timeout: SECRET}}", ".kms: timeout is not a positive duration"),
    // A value of the wrong type may be a secret, so it is not shown.
    ("{rot13: {}}", "line 5, column 16: unknown field, expected one of aesgcm, aescbc, secretbox, identity, kms"),
    ("{SECRET: {}}", "line 5, column 16: unknown field, expected one of aesgcm, aescbc, secretbox, identity, kms"),
    ("{identity: {SECRET: a}}", "line 5, column 27: unknown field"),
    ("{aescbc: {keys: [{name: k, SECRET}]}}", "line 5, column 42: unknown field, expected one of name, secret"),
    ("{aescbc: {keys: [SECRET]}}", "line 5, column 32: not what is expected there"),
    ("{aescbc: {keys: SECRET}}", "line 5, column 31: not what is expected there"),
    ("{aescbc: {keys: [{name: k, secret: [SECRET]}]}}", "line 5, column 50: not what is expected there"),
    ("{aescbc: {keys: [{name: k, secret: SECRET, secret: SECRET}]}}", "line 5, column 96: a field that occurs twice"),
    ("{aescbc: {keys: [{name: k, secret: *SECRET}]}}", "line 5, column 50: not what is expected there"),
    ("{aescbc: {keys: [{name: k, secret: \"SECRET", "line 5, column 50: not what is expected there"),
];

const OTHER_KIND: &str = "not an EncryptionConfiguration: its kind and apiVersion must be EncryptionConfiguration and apiserver.config.k8s.io/v1";

/// Texts that are no such document.
const WRONG_DOCUMENTS: [(&str, &str); 13] = [
    ("# nothing\n", OTHER_KIND),
    ("hello\n", "not an EncryptionConfiguration: line 1, column 1: not what is expected there"),
    ("apiVersion: v1\nkind: SECRET\n\n  SECRET\n", OTHER_KIND),
    ("apiVersion: v1\nkind: EncryptionConfiguration\nresources: []\n", OTHER_KIND),
    ("apiVersion: apiserver.config.k8s.io/v1beta1\nkind: EncryptionConfiguration\n", OTHER_KIND),
    (
        "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources: []\nmore: 1\n",
        "not an EncryptionConfiguration: line 4, column 1: unknown field, expected one of apiVersion, kind, resources",
    ),
    (
        "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nkind: EncryptionConfiguration\n",
        "not an EncryptionConfiguration: line 3, column 1: a field that occurs twice",
    ),
    (
        "{\"apiVersion\":\"apiserver.config.k8s.io/v1\",\"kind\":\"EncryptionConfiguration\",\"resources\":[]} x",
        "not an EncryptionConfiguration: line 1, column 93: not what is expected there",
    ),
    // A text that begins with a brace is JSON, without the liberties of YAML.
    (
        " {'kind':'EncryptionConfiguration','apiVersion':'apiserver.config.k8s.io/v1','resources':[]}",
        "not an EncryptionConfiguration: line 1, column 3: not what is expected there",
    ),
    (
        "{\"apiVersion\":\"apiserver.config.k8s.io/v1\",\n\"kind\":\"EncryptionConfiguration\",}",
        "not an EncryptionConfiguration: line 2, column 34: not what is expected there",
    ),
    (
        "{\"apiVersion\":\"apiserver.config.k8s.io/v1\"} # a comment",
        "not an EncryptionConfiguration: line 1, column 45: not what is expected there",
    ),
    (
        "{\"SECRET\":\"apiserver.config.k8s.io/v1\"}",
        "not an EncryptionConfiguration: line 1, column 47: unknown field, expected one of apiVersion, kind, resources",
    ),
    ("{\"kind\":\"a\",\"kind\":\"a\"}", "not an EncryptionConfiguration: line 1, column 18: a field that occurs twice"),
];

/// Asserts that both refuse the configuration: claviger with this text and without a secret, and an API server by
/// ending.
fn is_refused(run: &Run, etcd: &Etcd, snapshot: &Path, configuration: &str, text: &str) {
    let config = run.path("wrong.yaml");
    fs::write(&config, configuration).unwrap();
    let gates = if text.contains("--feature-gates") { "" } else { "KMSv1=true" };
    let scanned = Scan::snapshot(run, snapshot).config(&config).with("--feature-gates", gates).run();
    assert_eq!((scanned.exit, scanned.stdout.as_str()), (Some(7), ""), "{configuration}{}", scanned.stderr);
    let error: serde_json::Value = serde_json::from_str(&scanned.stderr).unwrap();
    assert_eq!(error["error"], format!("{}: {text}", config.display()), "{configuration}");
    assert!(!scanned.stderr.contains(&SECRET[..8]), "{}", scanned.stderr);

    let mut api = ApiServer::on(run, etcd).encryption_config(config);
    if !text.contains("--feature-gates") {
        // Without this gate, an API server would refuse every configuration that names KMS v1.
        api = api.argument("--feature-gates=KMSv1=true");
    }
    let mut api = api.launch().unwrap();
    wait_until("it has ended", || api.process().unwrap().ended().unwrap().is_some());
    let status = api.process().unwrap().ended().unwrap();
    assert_eq!(status.and_then(|status| status.code()), Some(1), "{configuration}");
    let log = api.log().unwrap();
    assert!(log.contains("error while parsing file") || log.contains("error while building transformers"), "{log}");
}

/// Asserts that all configurations are refused.
fn are_refused(configurations: impl Iterator<Item = (String, String)>) {
    let run = Run::new().unwrap();
    let etcd = Etcd::start(&run, 1).unwrap();
    put(&etcd, &[("/registry/secrets/default/a".to_owned(), b"{}")]);
    let snapshot = run.path("etcd.db");
    etcd.snapshot(&snapshot).unwrap();
    for (configuration, text) in configurations {
        is_refused(&run, &etcd, &snapshot, &fill(&configuration), &text);
    }
}

#[test]
fn resources_that_an_api_server_refuses_are_refused() {
    let head = HEAD.trim_end();
    are_refused(WRONG_RESOURCES.iter().map(|(list, text)| {
        let syntax = if text.starts_with("line") { "not an EncryptionConfiguration: " } else { "" };
        (format!("{head} {list}\n"), format!("{syntax}{text}"))
    }));
}

#[test]
fn providers_that_an_api_server_refuses_are_refused() {
    are_refused(WRONG_PROVIDERS.iter().map(|(provider, text)| {
        let place = match text {
            text if text.starts_with("line") => "not an EncryptionConfiguration: ",
            text if text.starts_with('[') => "resources[0].providers",
            _ => "resources[0].providers[0]",
        };
        (format!("{HEAD}- resources: [secrets]\n  providers: [{provider}]\n"), format!("{place}{text}"))
    }));
}

#[test]
fn documents_that_an_api_server_refuses_are_refused() {
    are_refused(WRONG_DOCUMENTS.iter().map(|(document, text)| ((*document).to_owned(), (*text).to_owned())));
}
