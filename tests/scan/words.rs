//! Checks the texts that an operator reads: whether the first sentence, the colour, the exit code and the hints agree,
//! and whether a command in a hint can be pasted.

use std::{
    fs,
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use super::{
    truth::Store,
    values::{Chance, Stored, seed_under},
};
use crate::{
    cli::sandbox::{Answer, CLAVIGER, Sandbox, root_for},
    harness::{etcd::Etcd, processes::Run},
};

/// An etcd to write to, and the directory for its snapshots.
struct Cluster {
    sandbox: Sandbox,
    etcd: Etcd,
    store: Store,
    _run: Run,
}

impl Cluster {
    fn new() -> Self {
        let (run, sandbox) = (Run::new().unwrap(), Sandbox::new());
        let etcd = Etcd::start(&run, 1).unwrap();
        let store = Store::new(&etcd.endpoints());
        Self { sandbox, etcd, store, _run: run }
    }

    /// Writes `secrets` Secrets in plaintext below a prefix, and a namespace.
    fn put_plaintext(&mut self, prefix: &str, secrets: usize) {
        self.store.put(&format!("{prefix}/namespaces/default"), Stored::json(10));
        for number in 0..secrets {
            self.store.put(&format!("{prefix}/secrets/default/{number}"), Stored::json(10));
        }
    }

    fn put_encrypted(&mut self, name: &str, provider: &str, key_id: &str) {
        let mut chance = Chance(7);
        let seed = seed_under(key_id, &mut chance);
        let value = Stored::kms_v2(provider, key_id, &seed, 20, &mut chance);
        self.store.put(&format!("/registry/secrets/default/{name}"), value);
    }

    /// Returns the flag for a new snapshot.
    fn snapshot(&self) -> String {
        let file = self.sandbox.path("etcd.db");
        _ = fs::remove_file(&file);
        self.etcd.snapshot(&file).unwrap();
        "--snapshot [DIR]/etcd.db".to_owned()
    }

    fn live(&self) -> String {
        format!("--etcd-servers {}", self.etcd.endpoints())
    }

    fn scan(&self, flags: &str) -> Answer {
        self.sandbox.run(&format!("scan {flags}"))
    }
}

fn first_line(answer: &Answer) -> &str {
    answer.stdout.lines().next().unwrap()
}

fn hints(answer: &Answer) -> Vec<&str> {
    answer.stdout.lines().filter_map(|line| line.strip_prefix("hint:  ")).collect()
}

/// Returns the whole prefix and the parts of a hint about a wrong prefix: its command, and the prefixes after it.
fn hinted(answer: &Answer) -> (String, Vec<String>) {
    let [hint] = hints(answer)[..] else { panic!("{answer}") };
    let mut parts = hint.strip_prefix("scan below the API server's prefix: claviger ").expect(hint).split("; or with ");
    (parts.next().unwrap().to_owned(), parts.map(str::to_owned).collect())
}

#[test]
fn a_wrong_prefix_is_incomplete_and_the_hint_names_the_right_one() {
    let mut cluster = Cluster::new();
    cluster.put_plaintext("/registry", 5);
    cluster.store.put("/registry/services/specs/default/a", Stored::json(10));
    cluster.store.put("/registry/services/endpoints/default/a", Stored::json(10));
    // These keys are those of another program.
    for number in 0..40 {
        cluster.store.put(&format!("/calico/resources/v3/projectcalico.org/pools/{number}"), Stored::json(10));
    }
    for place in [cluster.snapshot(), cluster.live()] {
        for (prefix, sentence, reason) in [
            (
                "/registry/secrets",
                "The objects below /registry/secrets/ are not an API server's: this is the wrong prefix",
                "! no key below /registry/secrets/ names a resource as API servers do; an API server's objects are below /registry",
            ),
            (
                "/elsewhere",
                "There is no object below /elsewhere/",
                "! there is no key below /elsewhere/; an API server's objects are below /registry",
            ),
            (
                "/",
                "The objects below / are not an API server's: this is the wrong prefix",
                "! no key below / names a resource as API servers do",
            ),
            (
                "/registry/services",
                "Only a part of the API server's objects was scanned: /registry/services/ is the wrong prefix",
                "! /registry/services/ has a part of the API server's objects only: all of them are below /registry",
            ),
        ] {
            let answer = cluster.scan(&format!("{place} --etcd-prefix {prefix}"));
            assert_eq!(first_line(answer.ends_with(7)), sentence, "{answer}");
            assert!(answer.stdout.contains(reason), "{answer}");
            if prefix == "/" {
                continue;
            }
            let (command, others) = hinted(&answer);
            assert!(command.ends_with(" --etcd-prefix /registry") && others.is_empty(), "{answer}");
            assert!(
                !answer.stdout.contains("which only a snapshot shows"),
                "nothing repeats the wrong prefix: {answer}"
            );
            let right = cluster.sandbox.run(&command);
            assert_eq!(first_line(right.ends_with(1)), "5 of 5 Secrets are readable in etcd", "{right}");
        }
        let report = cluster.scan(&format!("{place} --etcd-prefix /elsewhere --output json")).json();
        assert_eq!(report["other_prefixes"], json!(["/registry"]));
        let list = cluster.scan(&format!("{place} --etcd-prefix /registry/secrets --list"));
        assert!(list.ends_with(7).stderr.contains("\n! no key below /registry/secrets/"), "{list}");
    }
}

#[test]
fn every_prefix_of_an_api_server_is_named_and_a_shell_reads_it_as_it_is() {
    let mut cluster = Cluster::new();
    for prefix in ["/k8s/prod", "/k8s/it's dev"] {
        cluster.put_plaintext(prefix, if prefix == "/k8s/prod" { 9 } else { 2 });
    }
    let snapshot = cluster.scan(&cluster.snapshot());
    assert_eq!(first_line(snapshot.ends_with(7)), "There is no object below /registry/");
    let (command, others) = hinted(&snapshot);
    assert!(command.ends_with("--etcd-prefix /k8s/prod"), "{snapshot}");
    assert_eq!(others, [r"--etcd-prefix '/k8s/it'\''s dev'"], "those of most keys come first");
    let live = cluster.scan(&cluster.live());
    assert!(live.ends_with(7).stdout.contains("--etcd-prefix /k8s/prod"), "{live}");
    assert!(live.stdout.contains(r"--etcd-prefix '/k8s/it'\''s dev'"), "{live}");
}

#[test]
fn an_etcd_into_which_nobody_has_written_is_no_sign_of_a_wrong_prefix() {
    let cluster = Cluster::new();
    for place in [cluster.snapshot(), cluster.live()] {
        let answer = cluster.scan(&place);
        assert_eq!(first_line(answer.ends_with(0)), "There is no object below /registry/", "{answer}");
    }
}

const KEY: &str = "k1-0123456789abcdef0123456789abcdef";

#[test]
fn the_etcd_of_this_node_is_compacted_only_if_the_snapshot_is_known_to_be_of_it() {
    let mut cluster = Cluster::new();
    cluster.put_plaintext("/registry", 5);
    for number in 0..5 {
        cluster.put_encrypted(&number.to_string(), "claviger", KEY);
    }
    cluster.sandbox.init("state");
    let (url, revision) = (cluster.etcd.endpoints(), cluster.store.revision);
    fs::write(cluster.sandbox.path("c.toml"), format!("etcd-servers = [\"{url}\"]\n")).unwrap();
    let compacts = |flags: &str, url: &str| {
        let answer = cluster.scan(&format!("{} --config [DIR]/c.toml {flags}", cluster.snapshot()));
        let expected = format!(": etcdctl --endpoints {url} compact {revision} && etcdctl --endpoints {url} defrag");
        assert!(answer.ends_with(1).stdout.contains(&expected), "{answer}");
    };
    compacts("", "URL");
    compacts("--keyring [DIR]/state/keyring", &url);
    compacts("--state-dir [DIR]/state", &url);
}

#[test]
fn older_values_that_can_be_read_are_bad_news_about_a_file_and_not_about_a_live_etcd() {
    let mut cluster = Cluster::new();
    cluster.put_plaintext("/registry", 5);
    for number in 0..8 {
        cluster.put_encrypted(&number.to_string(), "claviger", KEY);
    }
    let flags = format!("{} --html [DIR]/page.html --prometheus [DIR]/metrics", cluster.snapshot());
    let answer = cluster.scan(&flags);
    let sentence = "All 8 live Secrets are encrypted; 5 older values can be read in this file";
    assert_eq!(first_line(answer.ends_with(1)), sentence, "{answer}");
    let [hint] = hints(&answer)[..] else { panic!("{answer}") };
    assert!(hint.starts_with("older values: compacting and defragmenting etcd removes them"), "{hint}");
    assert!(
        hint.contains(&format!(
            "etcdctl --endpoints URL compact {} && etcdctl --endpoints URL defrag",
            cluster.store.revision
        )),
        "{hint}"
    );
    let page = fs::read_to_string(cluster.sandbox.path("page.html")).unwrap();
    assert!(page.contains(&format!("<h1 class=\"bad\">{sentence}</h1>")), "{page}");
    let metrics = fs::read_to_string(cluster.sandbox.path("metrics")).unwrap();
    assert!(metrics.contains("claviger_scan_older_readable 5\n"), "{metrics}");
    let report = cluster.scan(&format!("{} --output json", cluster.snapshot())).json();
    // The live objects are as configured.
    assert_eq!((&report["clean"], &report["found"]), (&json!(true), &json!({})));
    assert_eq!(report["outcome"], "older-values", "one field says why the exit code is 1");
    let history = &report["history"];
    assert_eq!((&history["values"], &history["readable"]), (&json!(5), &json!(5)));
    let named = |values: &[serde_json::Value]| -> Vec<(String, u64)> {
        let value = |value: &serde_json::Value| {
            (value["key"].as_str().unwrap().to_owned(), value["mod_revision"].as_u64().unwrap())
        };
        values.iter().map(value).collect()
    };
    let older = named(history["findings"].as_array().unwrap());
    assert_eq!(older.len(), 5);
    assert!(older.iter().all(|(key, _)| page.contains(key)), "{page}");
    let (key, revision) = &older[0];
    let paragraph = format!(
        "older values (5): anyone with this file can read these values, which objects had before\n  {key} at revision {revision}\n"
    );
    assert!(answer.stdout.contains(&paragraph), "{answer}");
    let list = cluster.scan(&format!("{} --list", cluster.snapshot()));
    assert_eq!(list.ends_with(1).stderr, format!("{sentence}\n"));
    let lines: Vec<serde_json::Value> = list.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (of_older, live): (Vec<_>, Vec<_>) = lines.into_iter().partition(|line| line["older"] == true);
    assert_eq!(live.len() as u64, report["all"]["objects"].as_u64().unwrap());
    assert!(of_older.iter().all(|line| line["finding"].is_null() && line["provider"] == "identity"), "{list}");
    let mut of_older = named(&of_older);
    of_older.sort();
    assert_eq!(of_older, older, "the report and the list name the same values");

    let live = cluster.scan(&cluster.live());
    assert_eq!(first_line(live.ends_with(0)), "All 8 Secrets are encrypted in etcd");
    let note = format!(
        "note:  etcd may still have older values, which only a snapshot shows: etcdctl --endpoints {} snapshot save FILE && claviger \
         scan --snapshot FILE\n",
        cluster.etcd.endpoints()
    );
    assert!(live.stdout.contains(&note), "{live}");
    assert_eq!(cluster.scan(&format!("{} --output json", cluster.live())).json()["history"], Value::Null);

    cluster.store.compact(cluster.store.revision);
    let answer = cluster.scan(&cluster.snapshot());
    assert_eq!(first_line(answer.ends_with(0)), "All 8 Secrets are encrypted in etcd", "{answer}");
    assert_eq!(hints(&answer), [""; 0]);
    assert!(
        answer.stdout.contains("note:  free pages of the file may still contain values that etcd has compacted"),
        "{answer}"
    );
}

const CONFIG: &str = "\
apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
- resources: [secrets, configmaps]
  providers:
  - kms: {apiVersion: v2, name: claviger, endpoint: unix:///run/claviger/kms.sock}
  - aescbc: {keys: [{name: k, secret: AAAAAAAAAAAAAAAAAAAAAA==}]}
  - identity: {}
";

#[test]
fn each_kind_of_finding_has_a_sentence_and_a_hint_and_the_worst_comes_first() {
    let mut cluster = Cluster::new();
    cluster.put_plaintext("/registry", 1);
    cluster.store.put("/registry/configmaps/default/a", Stored::json(10));
    let bytes = [b"k8s:enc:aescbc:v1:k:".as_slice(), &[7; 32]].concat();
    let aescbc = Stored { bytes, ..Stored::kms_v2("x", "x", b"x", 1, &mut Chance(1)) };
    cluster.store.put("/registry/secrets/default/first", aescbc);
    cluster.put_encrypted("gone", "gone", KEY);
    cluster.put_encrypted("old", "claviger", KEY);
    fs::write(cluster.sandbox.path("enc.yaml"), CONFIG).unwrap();
    let primary = format!("k2-{}", "9".repeat(32));
    let flags = format!("{} --encryption-config [DIR]/enc.yaml --primary {primary}", cluster.live());
    let answer = cluster.scan(&format!("{flags} --html [DIR]/page.html"));
    assert_eq!(
        first_line(answer.ends_with(1)),
        "The API server cannot read 1 of 4 Secrets. 1 of 4 Secrets is readable in etcd. \
         1 other object is readable, although it should be encrypted. \
         1 object is not under the provider and key that the API server writes with. 1 object is not under the primary key"
    );
    let rewrite = format!("re-encrypt them: claviger reencrypt {flags}");
    assert_eq!(
        hints(&answer),
        [
            format!("plaintext-although-covered: {rewrite}"),
            "no-provider: add the provider gone to the entry of the resource, after the first one, until all objects \
             are re-encrypted"
                .to_owned(),
            format!("not-first-provider: {rewrite}"),
            format!("stale: {rewrite}"),
        ]
    );
    // The page for auditors has the same text.
    let page = fs::read_to_string(cluster.sandbox.path("page.html")).unwrap();
    let text = page.replace("&amp;", "&").replace("&gt;", ">").replace("&lt;", "<");
    let lines = answer.stdout.lines();
    let said: Vec<&str> =
        lines.filter_map(|line| line.strip_prefix("hint:  ").or(line.strip_prefix("note:  "))).collect();
    assert!(said.len() > 4, "{answer}");
    for line in said {
        assert!(text.contains(&cluster.sandbox.unmask(line)), "{line}\n{text}");
    }
    let again = format!(
        "snapshot save FILE && claviger scan --encryption-config [DIR]/enc.yaml --primary {primary} --snapshot FILE"
    );
    assert!(answer.stdout.contains(&again), "{answer}");
    assert!(!page.contains("This report is incomplete"), "{page}");
    assert!(!page.contains("nowrap"), "long names must not make the page wider than a screen");
}

#[test]
fn the_table_has_every_row_with_older_values_that_the_first_sentence_counts() {
    let mut cluster = Cluster::new();
    cluster.put_plaintext("/registry", 0);
    cluster.put_encrypted("a", "claviger", KEY);
    let configmap = "/registry/configmaps/default/a";
    cluster.store.put(configmap, Stored::json(10));
    let mut chance = Chance(7);
    let seed = seed_under(KEY, &mut chance);
    cluster.store.put(configmap, Stored::kms_v2("claviger", KEY, &seed, 20, &mut chance));
    fs::write(cluster.sandbox.path("enc.yaml"), CONFIG).unwrap();
    let answer = cluster.scan(&format!("{} --encryption-config [DIR]/enc.yaml", cluster.snapshot()));
    let sentence = "The only live Secret is encrypted; 1 older value can be read in this file";
    assert_eq!(first_line(answer.ends_with(1)), sentence, "{answer}");
    let row =
        |line: &&str| line.split_whitespace().collect::<Vec<_>>() == ["configmaps", "identity", "-", "0", "1", "-"];
    assert_eq!(answer.stdout.lines().filter(row).count(), 1, "{answer}");
    assert!(answer.stdout.contains("and 1 object of 1 other resource in plaintext: --all\n"), "{answer}");
}

#[test]
fn while_identity_comes_first_no_hint_names_a_command_that_refuses() {
    let mut cluster = Cluster::new();
    cluster.put_encrypted("a", "claviger", KEY);
    let (claviger, identity) = ("  - kms: ", "  - identity: {}\n");
    let config = CONFIG.replace(identity, "").replace(claviger, &format!("{identity}{claviger}"));
    fs::write(cluster.sandbox.path("enc.yaml"), config).unwrap();
    let flags = format!("{} --encryption-config [DIR]/enc.yaml", cluster.live());
    let answer = cluster.scan(&flags);
    let [identity, first] = hints(answer.ends_with(1))[..] else { panic!("{answer}") };
    assert!(identity.starts_with("identity: new Secrets are written in plaintext"), "{identity}");
    let expected =
        "not-first-provider: once a provider that encrypts comes first, re-encrypt them: claviger reencrypt ";
    assert!(first.starts_with(expected), "{first}");
}

/// Returns the keys of the keyring in `state`.
fn keys_of(sandbox: &Sandbox) -> Vec<String> {
    let list = sandbox.run("key list --state-dir [DIR]/state --output json").json();
    list["keys"].as_array().unwrap().iter().map(|key| key["key_id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_scan_on_a_node_uses_the_keyring_of_the_node() {
    let mut cluster = Cluster::new();
    cluster.sandbox.init("state");
    cluster.sandbox.init("other");
    fs::write(cluster.sandbox.path("config.toml"), cluster.sandbox.unmask("state-dir = '[DIR]/state'\n")).unwrap();
    let key = keys_of(&cluster.sandbox).remove(0);
    cluster.put_encrypted("a", "claviger", &key);
    let config = "--config [DIR]/config.toml";
    let live = cluster.live();
    let compared = |keyring: &str| format!("compared with  the keys of {keyring} (no EncryptionConfiguration given)\n");
    for flags in [format!("{live} {config}"), format!("{live} --state-dir [DIR]/state")] {
        let answer = cluster.scan(&flags);
        assert!(answer.ends_with(0).stdout.contains(&compared("[DIR]/state/keyring")), "{answer}");
        let json = cluster.scan(&format!("{flags} --output json")).json();
        assert_eq!(json["given"]["keyring"], "[DIR]/state/keyring");
    }
    // A flag takes precedence over the keyring of the node.
    let other = cluster.scan(&format!("{live} {config} --keyring [DIR]/other/keyring"));
    assert!(other.ends_with(1).stdout.contains(&compared("[DIR]/other/keyring")), "{other}");
    // A plugin may serve a keyring that has the key.
    let sentence = "The keyring has no key for 1 of 1 Secrets. The only Secret is encrypted in etcd";
    assert_eq!(first_line(&other), sentence);
    let primary = cluster.scan(&format!("{live} {config} --primary {key}"));
    assert!(primary.ends_with(0).stdout.contains("compared with  the primary key (no "), "{primary}");

    // A snapshot may be of another cluster.
    let snapshot = cluster.snapshot();
    let answer = cluster.scan(&format!("{snapshot} {config}"));
    assert!(answer.ends_with(0).stdout.contains("compared with  nothing"), "{answer}");
    let note = "note:  the snapshot may be of another cluster, so the keyring of this node was not used; if it is of this one: \
                --keyring [DIR]/state/keyring\n";
    assert!(answer.stdout.contains(note), "{answer}");
    let named = cluster.scan(&format!("{snapshot} --state-dir [DIR]/state"));
    assert!(named.ends_with(0).stdout.contains(&compared("[DIR]/state/keyring")), "{named}");

    // No flag names this keyring, so it does not stop the scan.
    fs::write(cluster.sandbox.path("state/keyring"), "not a keyring").unwrap();
    let broken = cluster.scan(&format!("{live} {config}"));
    assert!(broken.ends_with(0).stdout.contains("note:  the keyring of this node was not used: "), "{broken}");
    cluster.scan(&format!("{live} --state-dir [DIR]/state")).ends_with(7);
    fs::remove_file(cluster.sandbox.path("state/keyring")).unwrap();
    assert!(cluster.scan(&format!("{live} {config}")).ends_with(0).stdout.contains("compared with  nothing"));
    if root_for("a keyring that this user may not read") {
        fs::write(cluster.sandbox.path("config.toml"), cluster.sandbox.unmask("state-dir = '[DIR]/other'\n")).unwrap();
        let answer = cluster.sandbox.call(&format!("scan {live} {config}")).by_nobody().run();
        assert!(answer.ends_with(0).stdout.contains("compared with  nothing"), "{answer}");
        assert!(
            answer.stdout.contains("note:  the keyring of this node was not used: reading [DIR]/other/keyring: "),
            "{answer}"
        );
    }
}

#[test]
fn right_after_a_promotion_the_hint_is_to_wait_for_the_api_servers() {
    let mut cluster = Cluster::new();
    cluster.sandbox.init("state");
    cluster.sandbox.run("key add --state-dir [DIR]/state").ends_with(0);
    cluster.sandbox.run("key promote k2 --without-backup --state-dir [DIR]/state").ends_with(0);
    let keys = keys_of(&cluster.sandbox);
    cluster.put_encrypted("a", "claviger", &keys[0]);
    let answer = cluster.scan(&format!("{} --state-dir [DIR]/state", cluster.live()));
    assert_eq!(
        first_line(answer.ends_with(1)),
        "The only Secret is encrypted in etcd. 1 object is not under the primary key"
    );
    let [hint] = hints(&answer)[..] else { panic!("{answer}") };
    let wait = format!("claviger key promote --state-dir [DIR]/state {} --wait", keys[1]);
    let begin = format!("stale: {} is primary since 20", keys[1]);
    assert!(hint.starts_with(&begin) && hint.contains(&wait), "{hint}");
    assert!(
        hint.contains("`claviger status --state-dir [DIR]/state --socket SOCKET`")
            && hint.contains(&format!("{wait} --socket SOCKET. Then re-encrypt them: ")),
        "{hint}"
    );

    // For a keyring in a state directory, the report names the directory.
    let named = cluster.scan(&format!("{} --keyring [DIR]/state/keyring", cluster.live()));
    let [of_keyring] = hints(&named)[..] else { panic!("{named}") };
    for command in ["claviger status --state-dir [DIR]/state --socket SOCKET", &format!("{wait} --socket SOCKET")] {
        assert!(of_keyring.contains(command), "{of_keyring}");
    }
    assert!(!of_keyring.contains("--keyring [DIR]/state/keyring --state-dir"), "{of_keyring}");

    // The configuration may also name the directory with the keys.
    fs::write(cluster.sandbox.path("config.toml"), cluster.sandbox.unmask("state-dir = '[DIR]/state'\n")).unwrap();
    let configured = cluster.scan(&format!("{} --config [DIR]/config.toml", cluster.live()));
    let [hint] = hints(&configured)[..] else { panic!("{configured}") };
    for command in ["claviger status", "claviger key promote"] {
        assert!(hint.contains(&format!("{command} --config [DIR]/config.toml")), "{hint}");
    }
    let named = cluster.scan(&format!("{} --keyring [DIR]/state/keyring --state-dir [DIR]/state", cluster.live()));
    assert!(hints(&named)[0].contains("`claviger status --state-dir [DIR]/state --socket SOCKET`"), "{named}");

    // A long time after the promotion, all API servers write under the new key.
    let keyring = fs::read_to_string(cluster.sandbox.path("state/keyring")).unwrap();
    let at = keyring.rfind(" promoted=20").unwrap() + " promoted=20".len();
    let old = [&keyring[..at], "20", &keyring[at + 2..]].concat();
    fs::write(cluster.sandbox.path("old-keyring"), old).unwrap();
    let answer = cluster.scan(&format!("{} --keyring [DIR]/old-keyring", cluster.live()));
    let rewrite = format!(
        "stale: re-encrypt them: claviger reencrypt {} --keyring [DIR]/old-keyring --encryption-config FILE",
        cluster.live()
    );
    assert_eq!(hints(answer.ends_with(1)), [rewrite], "{answer}");
}

/// Returns the output of a scan on a terminal with `columns` columns.
fn on_terminal(cluster: &Cluster, columns: usize, flags: &str) -> String {
    let line = cluster.sandbox.unmask(&format!("stty cols {columns}; {CLAVIGER} scan {flags}"));
    let mut script = Command::new("script");
    script.args(["-qec", &line, "/dev/null"]).stdin(Stdio::null());
    let output = script.output().unwrap();
    String::from_utf8(output.stdout).unwrap().replace('\r', "")
}

#[test]
fn a_table_fits_its_terminal_and_is_whole_in_a_file() {
    let mut cluster = Cluster::new();
    cluster.put_plaintext("/registry", 12);
    cluster.put_encrypted("a", "a-provider-with-a-long-name-of-its-own", KEY);
    cluster.store.put("/registry/applications.example.com/somethingwithalongname/default/a", Stored::json(10));
    let place = cluster.snapshot();
    for columns in [60, 80, 100] {
        let text = on_terminal(&cluster, columns, &format!("{place} --all"));
        let rows = text.lines().skip_while(|line| !line.starts_with("RESOURCE")).take_while(|line| !line.is_empty());
        let rows: Vec<&str> = rows.collect();
        assert!(rows.len() >= 5, "{text}");
        for row in &rows {
            assert!(row.chars().count() <= columns, "{columns}: {row}");
        }
        assert!(rows.iter().any(|row| row.contains("k1-012345678…") || row.contains(KEY)), "{text}");
        let is_wide = rows[0].contains("SEEDS");
        assert_eq!(is_wide, columns > 60, "{text}");
        assert_eq!(text.contains("\nwithout SEEDS, which needs 72 columns\n"), !is_wide, "{text}");
    }
    let text = cluster.scan(&format!("{place} --all")).stdout;
    for whole in
        [KEY, "kms:v2:a-provider-with-a-long-name-of-its-own", "somethingwithalongname.applications.example.com"]
    {
        assert!(text.contains(whole), "{text}");
    }
    assert!(!text.contains('…'), "{text}");
}
