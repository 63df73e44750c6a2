//! Plays the story that once lost Secrets, and its variants, with a real kube-apiserver: a backup is made while the new
//! key is pending, the key is promoted and used, and the disk is lost. After any restore, no key that a Secret needs
//! can be given up, and all Secrets can be read.

use std::{fs, path::Path, time::Duration};

use crate::{
    cli::{
        identity,
        sandbox::{Answer, CLAVIGER, Daemon, Sandbox},
    },
    harness::{api_server::ApiServer, etcd::Etcd, processes::Run},
};

pub(crate) const STATE: &str = "--state-dir [DIR]/state";
const SOCKET: &str = "--socket [DIR]/run/kms.sock";
pub(crate) const OURS: &str = "--recovery-identity [DIR]/ours.txt";

/// A node with one API server.
pub(crate) struct Node {
    run: Run,
    pub(crate) sandbox: Sandbox,
    pub(crate) etcd: Etcd,
    pub(crate) api: Option<ApiServer>,
    daemon: Option<Daemon>,
    secrets: Vec<&'static str>,
}

impl Node {
    /// Makes the keyring: k1 is primary. k2 was pending when `pending.age` was made, and is primary in `promoted.age`.
    /// A Secret is under each key.
    pub(crate) fn new() -> Self {
        let run = Run::new().unwrap();
        let etcd = Etcd::start(&run, 1).unwrap();
        let sandbox = Sandbox::inside(run.directory());
        let mut node = Self { run, sandbox, etcd, api: None, daemon: None, secrets: Vec::new() };
        let ours = identity(&node.sandbox, "ours.txt");
        node.done(&format!("init {STATE} --recovery-recipient {ours} {OURS}"));
        node.serve();
        node.start_api();
        node.create("under-k1");
        node.sandbox.copy("state", "older");
        node.done(&format!("key add {STATE}"));
        node.done(&format!("backup create [DIR]/pending.age {STATE}"));
        node.done(&format!("backup check [DIR]/pending.age {OURS} {STATE}"));
        node.done(&format!("key promote k2 {STATE}"));
        node.restart();
        node.create("under-k2");
        node.done(&format!("backup create [DIR]/promoted.age {STATE}"));
        assert!(node.stored("under-k1").contains("k1-") && node.stored("under-k2").contains("k2-"));
        node
    }

    pub(crate) fn done(&self, line: &str) -> Answer {
        let answer = self.sandbox.run(line);
        assert_eq!(answer.code, 0, "{answer}");
        answer
    }

    fn serve(&mut self) {
        self.daemon = Some(self.sandbox.serve(&format!("{STATE} {SOCKET}")));
    }

    pub(crate) fn stop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            daemon.kill();
        }
    }

    fn start_api(&mut self) {
        let generate = "generate encryption-configuration --resource secrets --socket [DIR]/run/kms.sock";
        let config = self.sandbox.path("encryption.yaml");
        fs::write(&config, self.done(generate).stdout.replace("[DIR]", &self.sandbox.root().to_string_lossy()))
            .unwrap();
        self.api = Some(ApiServer::on(&self.run, &self.etcd).encryption_config(config).start().unwrap());
    }

    /// Restarts the API server, which then knows no seed, and makes a new one under the primary key. The plugin is
    /// started before, because a running plugin may follow a promotion a moment later.
    fn restart(&mut self) {
        self.stop();
        self.serve();
        self.api.as_mut().unwrap().restart().unwrap();
    }

    pub(crate) fn create(&mut self, name: &'static str) {
        let literal = format!("--from-literal=value=s-{name}");
        self.api.as_ref().unwrap().kubectl(&["create", "secret", "generic", name, &literal]).unwrap();
        self.secrets.push(name);
    }

    /// Returns the text in the stored value of a Secret.
    fn stored(&self, name: &str) -> String {
        let value = self.etcd.get(&format!("/registry/secrets/default/{name}")).unwrap().unwrap();
        String::from_utf8_lossy(&value).into_owned()
    }

    fn reads_all(&self) {
        for name in &self.secrets {
            let value = ["get", "secret", name, "-o", "go-template={{.data.value | base64decode}}"];
            assert_eq!(self.api.as_ref().unwrap().kubectl(&value).unwrap(), format!("s-{name}"));
        }
    }

    /// Puts the directory `name` in the place of the served one.
    fn put(&mut self, name: &str) {
        self.stop();
        _ = fs::remove_dir_all(self.sandbox.path("state"));
        if self.sandbox.path(name).exists() {
            self.sandbox.copy(name, "state");
        }
    }

    pub(crate) fn etcd_flags(&self) -> String {
        format!("--etcd-servers {}", self.etcd.endpoints())
    }

    pub(crate) fn key(&self, number: &str) -> (String, String) {
        let listed = self.done(&format!("key list {STATE} --output json")).json();
        let text = |row: &serde_json::Value, name: &str| row[name].as_str().unwrap().to_owned();
        let mut rows = listed["keys"].as_array().unwrap().iter();
        let row = rows.find(|row| text(row, "key_id").starts_with(&format!("{number}-"))).unwrap();
        (text(row, "key_id"), text(row, "state"))
    }

    /// Checks that no key that a Secret needs can be given up, and that an API server that remembers nothing reads
    /// every Secret.
    fn loses_nothing(&mut self) {
        for (number, example) in [("k1", "under-k1"), ("k2", "under-k2")] {
            let (key_id, state) = self.key(number);
            let disable = self.sandbox.run(&format!("key disable {key_id} {STATE} {}", self.etcd_flags()));
            assert_eq!(disable.code, 3, "{disable}");
            let reason = match state.as_str() {
                "primary" => "is primary and cannot be disabled".to_owned(),
                _ => format!("1 object needs it, for example /registry/secrets/default/{example}"),
            };
            assert!(disable.stderr.contains(&reason), "{disable}");
        }
        // The primary key cannot be given up, and not at once after it was replaced.
        let old = self.key("k2");
        let added = self.done(&format!("key add {STATE} --output json")).json();
        let added = added["key"]["key_id"].as_str().unwrap().to_owned();
        self.done(&format!("key promote {added} --without-backup {STATE}"));
        let disable = self.sandbox.run(&format!("key disable {} {STATE} {}", old.0, self.etcd_flags()));
        assert!(disable.code == 3 && disable.stderr.contains("/registry/secrets/default/under-k2"), "{disable}");
        self.restart();
        self.reads_all();
        self.stop();
    }
}

#[test]
fn whatever_is_restored_no_key_that_a_secret_needs_can_be_given_up() {
    let mut node = Node::new();
    node.sandbox.copy("state", "served");
    for backup in ["pending", "promoted"] {
        // The disk is lost.
        node.put("nothing");
        node.done(&format!("backup restore [DIR]/{backup}.age {OURS} {STATE} {}", node.etcd_flags()));
        assert_eq!(node.key("k2").1, "primary", "{backup}");
        node.loses_nothing();
        // An older image of the disk was put back. Its mark does not know k2.
        node.put("older");
        node.done(&format!("backup restore [DIR]/{backup}.age {OURS} {STATE} --accept"));
        node.loses_nothing();
    }
    // A clone made other changes, and an API server wrote under its key.
    node.put("served");
    node.sandbox.copy("state", "clone");
    node.done(&format!("key add {STATE}"));
    node.done(&format!("key promote k3 --without-backup {STATE}"));
    node.restart();
    node.create("under-the-clones-k3");
    node.done(&format!("backup create [DIR]/clone.age {STATE}"));
    node.put("clone");
    node.done(&format!("backup restore [DIR]/clone.age {OURS} {STATE} --accept"));
    node.loses_nothing();
}

/// Returns the commands of claviger in the runbook's chapter about a deleted directory without a backup, in their
/// order, for a sandbox.
fn without_backup(recipient: &str) -> Vec<String> {
    let chapter = include_str!("../docs/runbook.md").split("### There is no backup at all").nth(1).unwrap();
    let chapter = chapter.split("\n## ").next().unwrap().replace("\\\n", " ");
    let commands = chapter.split("```bash\n").skip(1).flat_map(|block| block.split("\n```").next().unwrap().lines());
    let here = |line: &str| {
        [
            ("/var/lib/claviger-2", "[DIR]/second"),
            ("/run/claviger/", "[DIR]/run/"),
            ("/media/usb/", "[DIR]/"),
            ("/media/safe/identity.txt", "[DIR]/ours.txt"),
            ("\"$recipient\"", recipient),
        ]
        .into_iter()
        .fold(line.to_owned(), |line, (there, here)| line.replace(there, here))
    };
    let of_claviger = |line: &str| Some(line.split_once("sudo claviger ")?.1.to_owned());
    let served = |line: &str| Some(line.split_once("/usr/local/bin/claviger serve ")?.1.to_owned());
    commands.filter_map(|line| served(line).or_else(|| of_claviger(line))).map(|line| here(&line)).collect()
}

/// The state directory is deleted and there is no backup. The plugin still runs.
#[test]
fn without_a_backup_a_second_plugin_takes_over_what_the_first_one_has_in_memory() {
    let mut node = Node::new();
    let recipient = fs::read_to_string(node.sandbox.path("ours.txt")).unwrap();
    let recipient = recipient.split("public key: ").nth(1).unwrap().lines().next().unwrap().to_owned();
    let commands = without_backup(&recipient);
    let [init, serve, generate, reencrypt, create, scan] = commands.as_slice() else { panic!("{commands:?}") };
    fs::remove_dir_all(node.sandbox.path("state")).unwrap();
    node.reads_all();
    node.done(&format!("{init} --socket [DIR]/run/kms.sock"));
    let _second = node.sandbox.serve(serve);
    let second = node.done(generate).stdout;
    let alone = second.replace("[DIR]", &node.sandbox.root().to_string_lossy());
    // The second plugin wraps from now on, and the first one still unwraps.
    let present = fs::read_to_string(node.sandbox.path("encryption.yaml")).unwrap();
    let provider = |config: &str| -> String {
        config.split_once("- kms:").unwrap().1.split_once("- identity").unwrap().0.to_owned()
    };
    let both = alone.replace("- identity", &format!("- kms:{}- identity", provider(&present)));
    fs::write(node.sandbox.path("encryption.yaml"), &both).unwrap();
    let scan = format!("{scan} {} --encryption-config [DIR]/encryption.yaml", node.etcd_flags());
    let api = node.api.as_mut().unwrap();
    api.restart().unwrap();
    assert!(
        node.sandbox.run(&scan).ends_with(1).stdout.contains("kms:v2:claviger "),
        "what is under the first provider"
    );
    let kubeconfig = node.api.as_ref().unwrap().kubeconfig();
    let places = format!("{} --encryption-config [DIR]/encryption.yaml", node.etcd_flags());
    node.done(&format!("{reencrypt} {places} --kubeconfig {}", kubeconfig.display()));
    assert!(node.secrets.iter().all(|name| node.stored(name).starts_with("k8s:enc:kms:v2:claviger-2:")));
    node.done(create);
    let scanned = node.done(&scan);
    assert!(!scanned.stdout.contains("kms:v2:claviger "), "{scanned}");
    // No value needs the first plugin any more.
    node.stop();
    fs::write(node.sandbox.path("encryption.yaml"), &alone).unwrap();
    node.api.as_mut().unwrap().restart().unwrap();
    node.reads_all();
}

#[test]
fn etcd_that_is_restored_in_place_needs_its_keys_again() {
    let mut node = Node::new();
    let snapshot = node.sandbox.path("etcd.db");
    node.etcd.snapshot(&snapshot).unwrap();
    // Everything is rewritten, and nothing needs the old key.
    let api = node.api.as_ref().unwrap();
    let secrets = api.kubectl(&["get", "secrets", "-o", "json"]).unwrap();
    api.kubectl_stdin(&["replace", "-f", "-"], &secrets).unwrap();
    let (old, _) = node.key("k1");
    drop(node.api.take());
    let disable = format!("key disable {old} {STATE} {SOCKET} {}", node.etcd_flags());
    // If an API server is not connected, or if no plugin runs, nobody can tell which key it writes under.
    let waits = node.sandbox.refused(3, &disable);
    assert!(waits.stderr.contains("may still be in use: "), "{waits}");
    node.stop();
    let silent = node.sandbox.refused(3, &disable);
    assert!(silent.stderr.contains("the plugin on this node does not serve the keyring as it is now"), "{silent}");
    let unserved = silent.stderr.split("if no API server runs: claviger ").nth(1).unwrap().split(';').next().unwrap();
    // Counting the API servers takes 30 s if one has ended.
    node.sandbox.call(unserved).by(Path::new(CLAVIGER), Duration::from_mins(2)).run().ends_with(0);
    node.serve();
    // Then etcd is restored from the snapshot.
    node.etcd = Etcd::start_from_snapshot(&node.run, &snapshot).unwrap();
    let destroy = node.sandbox.run(&format!("key destroy {old} {STATE} {SOCKET} {}", node.etcd_flags()));
    assert!(destroy.code == 3 && destroy.stderr.contains("/registry/secrets/default/under-k1"), "{destroy}");
    node.done(&format!("key enable {old} {STATE}"));
    node.start_api();
    node.reads_all();
    // The snapshot shows the same needs. A backup without the key is not the right one.
    let lacks = node
        .sandbox
        .run(&format!("backup restore [DIR]/older/keyring {OURS} --state-dir [DIR]/new --snapshot [DIR]/etcd.db"));
    assert!(lacks.code == 3 && lacks.stderr.contains("the backup lacks keys that values in etcd need: k2-"), "{lacks}");
    // The backup of another cluster has none of the keys. A newer backup of that cluster would not help.
    node.done("init --state-dir [DIR]/theirs --without-recovery");
    let theirs = fs::read_to_string(node.sandbox.path("ours.txt")).unwrap();
    let recipient = theirs.split("public key: ").nth(1).unwrap().lines().next().unwrap();
    node.done(&format!("backup create [DIR]/theirs.age --recipient {recipient} --state-dir [DIR]/theirs"));
    let other = "--state-dir [DIR]/new --snapshot [DIR]/etcd.db";
    let theirs = node.sandbox.refused(3, &format!("backup restore [DIR]/theirs.age {OURS} {other}"));
    assert!(theirs.stderr.contains("the backup has none of the keys that values in etcd need: k"), "{theirs}");
    assert!(
        theirs.stderr.contains("hint:  this is a backup of another keyring, or it was made before these keys"),
        "{theirs}"
    );
    assert!(!theirs.stderr.contains("newer backup"), "{theirs}");
    let line = format!("backup restore [DIR]/promoted.age {OURS} --state-dir [DIR]/new --snapshot [DIR]/etcd.db");
    node.done(&line);
    // The ledger of the restored keyring lists the snapshot, so that nobody destroys the keys that it needs.
    let listed = node.done("backup list --state-dir [DIR]/new --output json").json();
    let entry = &listed["snapshots"][0];
    assert_eq!((&entry["file"], entry["keys"].as_array().unwrap().len()), (&"[DIR]/etcd.db".into(), 2), "{listed}");
    node.done(&format!("key disable {} --state-dir [DIR]/new --risk-unreadable-secrets", node.key("k1").0));
    node.etcd.run_etcdctl(&["del", "--prefix", "/registry/secrets/"]).unwrap();
    let destroy =
        node.sandbox.run(&format!("key destroy {} --state-dir [DIR]/new {}", node.key("k1").0, node.etcd_flags()));
    assert!(destroy.code == 3 && destroy.stderr.contains("a listed snapshot needs it: [DIR]/etcd.db"), "{destroy}");
}
