//! Tests that a scan finds the key of a value whatever the name of its provider is: two providers may share one socket,
//! and a provider may be renamed.

use std::{collections::BTreeMap, fs, path::Path};

use serde_json::Value;

use super::{
    objects::SECRETS,
    scanned::Scan,
    truth::Store,
    values::{Chance, Stored, seed_under},
};
use crate::{
    cli::sandbox::Sandbox,
    contract::front::Front,
    harness::{api_server::ApiServer, etcd::Etcd, plugin::Plugin, processes::Run},
};

const BINARY: &str = env!("CARGO_BIN_EXE_claviger");

/// An etcd with values under the keys of a keyring whose primary key is the second one.
struct Site {
    sandbox: Sandbox,
    store: Store,
    keys: Vec<String>,
    url: String,
    _etcd: Etcd,
    _run: Run,
}

impl Site {
    fn new() -> Self {
        let (run, sandbox) = (Run::new().unwrap(), Sandbox::new());
        sandbox.init("state");
        sandbox.run("key add --state-dir [DIR]/state").ends_with(0);
        sandbox.run("key promote k2 --without-backup --state-dir [DIR]/state").ends_with(0);
        let list = sandbox.run("key list --state-dir [DIR]/state --output json").json();
        let keys = list["keys"].as_array().unwrap().iter().map(|key| key["key_id"].as_str().unwrap().to_owned());
        let etcd = Etcd::start(&run, 1).unwrap();
        let url = etcd.endpoints();
        Self { keys: keys.collect(), store: Store::new(&url), url, sandbox, _etcd: etcd, _run: run }
    }

    /// Writes a Secret under a provider with a key_id. Its seed is under the key with the key_id `under`, or under
    /// none.
    fn put(&mut self, name: &str, provider: &str, key_id: &str, under: Option<&str>) {
        let mut chance = Chance(7);
        let seed = under.map_or_else(|| b"a seed of another plugin".to_vec(), |under| seed_under(under, &mut chance));
        let value = Stored::kms_v2(provider, key_id, &seed, 20, &mut chance);
        self.store.put(&format!("/registry/secrets/default/{name}"), value);
    }

    /// Returns the findings of a scan, by the names of the Secrets.
    fn found(&self, exit: i32, flags: &str) -> BTreeMap<String, Vec<String>> {
        let answer = self.sandbox.run(&format!("scan --etcd-servers {} {flags} --output json", self.url));
        let report = answer.ends_with(exit).json();
        let text = |field: &Value| field.as_str().unwrap().to_owned();
        let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for finding in report["findings"].as_array().unwrap() {
            let name = text(&finding["key"]).rsplit_once('/').unwrap().1.to_owned();
            found.entry(name).or_default().push(text(&finding["kind"]));
        }
        found
    }
}

fn expected(found: &[(&str, &[&str])]) -> BTreeMap<String, Vec<String>> {
    found
        .iter()
        .map(|(name, kinds)| ((*name).to_owned(), kinds.iter().map(|kind| (*kind).to_owned()).collect()))
        .collect()
}

#[test]
fn a_value_under_an_old_key_is_found_whatever_its_provider_is_called() {
    let mut site = Site::new();
    let [first, second] = [0, 1].map(|index| site.keys[index].clone());
    let stranger = format!("k1-{}", "5".repeat(32));
    // `renamed` is the name of a second provider on the same socket.
    site.put("new", "claviger", &second, Some(&second));
    site.put("new-renamed", "renamed", &second, Some(&second));
    site.put("foreign", "vault", "projects/p/keys/1", None);
    for flags in ["--keyring [DIR]/state/keyring".to_owned(), format!("--primary {second}")] {
        assert_eq!(site.found(0, &flags), expected(&[]), "{flags}");
    }

    site.put("old-renamed", "renamed", &first, Some(&first));
    site.put("stranger-renamed", "renamed", &stranger, Some(&stranger));
    let by_keyring = [("old-renamed", &["stale"][..])];
    assert_eq!(site.found(1, "--keyring [DIR]/state/keyring"), expected(&by_keyring));
    // The primary key alone does not tell to which keyring another key belongs.
    let by_primary = [("old-renamed", &["stale"][..]), ("stranger-renamed", &["stale"])];
    assert_eq!(site.found(1, &format!("--primary {second}")), expected(&by_primary));

    // The values have the configured name, so all must be under keys of the keyring.
    site.put("stranger", "claviger", &stranger, Some(&stranger));
    site.put("no-seed-of-ours", "claviger", &second, None);
    let more = [("no-seed-of-ours", &["unknown-key"][..]), ("stranger", &["unknown-key"])];
    assert_eq!(site.found(1, "--keyring [DIR]/state/keyring"), expected(&[&by_keyring[..], &more].concat()));
    let more = [("no-seed-of-ours", &["stale"][..]), ("stranger", &["stale"])];
    assert_eq!(site.found(1, &format!("--primary {second}")), expected(&[&by_primary[..], &more].concat()));

    site.sandbox.run(&format!("key disable {first} --risk-unreadable-secrets --state-dir [DIR]/state")).ends_with(0);
    let disabled = site.found(1, "--keyring [DIR]/state/keyring --provider-name renamed");
    let by_name = [("old-renamed", &["disabled-key"][..]), ("stranger-renamed", &["unknown-key"])];
    assert_eq!(disabled, expected(&by_name));
}

#[test]
fn a_value_that_names_another_key_than_its_seed_is_damaged_and_judged_by_its_seed() {
    let mut site = Site::new();
    let [first, second] = [0, 1].map(|index| site.keys[index].clone());
    site.put("right", "claviger", &second, Some(&second));
    site.put("names-the-primary", "claviger", &second, Some(&first));
    site.put("names-an-old-one", "renamed", &first, Some(&second));
    let found = site.found(7, "--keyring [DIR]/state/keyring");
    let damaged = [("names-an-old-one", &["damaged"][..]), ("names-the-primary", &["damaged", "stale"])];
    assert_eq!(found, expected(&damaged));

    let answer = site.sandbox.run(&format!("scan --etcd-servers {} --primary {second} --prometheus [DIR]/m", site.url));
    let reason = "/registry/secrets/default/names-the-primary: its key_id names another key than its wrapped seed\n";
    assert!(answer.ends_with(7).stdout.contains(reason), "{answer}");
    // Two groups with the same names make one metric.
    let metrics = std::fs::read_to_string(site.sandbox.path("m")).unwrap();
    let objects =
        format!("claviger_scan_objects{{resource=\"secrets\",provider=\"kms:v2:claviger\",key_id=\"{second}\"}} 2\n");
    assert!(metrics.contains(&objects), "{metrics}");
}

/// Writes an EncryptionConfiguration with these providers, all on one socket.
fn configure(path: &Path, socket: &str, names: &[&str]) {
    let provider = |name: &&str| format!("  - kms: {{apiVersion: v2, name: {name}, endpoint: \"unix://{socket}\"}}\n");
    let providers: String = names.iter().map(provider).collect();
    let head = "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n";
    fs::write(path, format!("{head}- resources: [secrets]\n  providers:\n{providers}  - identity: {{}}\n")).unwrap();
}

#[test]
fn two_providers_on_one_socket_of_a_real_api_server_are_judged_by_their_keys() {
    let run = Run::new().unwrap();
    let mut plugin = Plugin::init(&run, BINARY, "claviger").unwrap();
    let socket = run.socket("claviger.sock").unwrap().display().to_string();
    plugin.serve(&socket).unwrap();
    let (etcd, config) = (Etcd::start(&run, 1).unwrap(), run.path("encryption.yaml"));
    configure(&config, &socket, &["renamed"]);
    let mut api = ApiServer::on(&run, &etcd).encryption_config(&config).start().unwrap();
    SECRETS.create(&Front::of(&run, &api), "before");
    plugin.claviger(&["key", "add"]).unwrap();
    plugin.claviger(&["key", "promote", "k2", "--without-backup"]).unwrap();
    // On a busy machine the API server may start before the plugin has followed the promotion.
    plugin.restart().unwrap();
    api.kill().unwrap();
    configure(&config, &socket, &["claviger", "renamed"]);
    api.restart().unwrap();
    let front = Front::of(&run, &api);
    SECRETS.create(&front, "after");
    assert_eq!(front.get("/api/v1/namespaces/default/secrets/before").status, 200, "both providers read");

    let scan = || Scan::live(&run, &etcd).with("--keyring", plugin.state_dir().join("keyring"));
    let found = |scan: Scan| {
        let list = scan.list();
        ["before", "after"].map(|name| list[&SECRETS.etcd_key(name)]["finding"].clone())
    };
    assert_eq!(found(scan()), [Value::from("stale"), Value::Null]);
    SECRETS.update(&front, "before", "again");
    assert_eq!(found(scan()), [Value::Null, Value::Null]);
}
