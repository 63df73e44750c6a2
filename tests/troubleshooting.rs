//! Tests `docs/troubleshooting.md`: causes each symptom with a real kube-apiserver and a real etcd, compares their
//! texts with those on the page, and repairs it with the commands on the page.
//!
//! A section of the page begins with a block of `text`, whose lines an operator sees; `…` stands for any words.

#![allow(clippy::print_stdout, reason = "how long each symptom takes is worth seeing")]

use std::{
    fs,
    path::PathBuf,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use age::secrecy::ExposeSecret;

use crate::harness::{api_server::ApiServer, binaries::Version, etcd::Etcd, plugin::Plugin, processes::Run};

const BINARY: &str = env!("CARGO_BIN_EXE_claviger");
const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/troubleshooting.md");
const SOON: Duration = Duration::from_mins(2);

/// A control plane that is well when a symptom begins, and well again when it has ended.
struct Scene {
    api: ApiServer,
    plugin: Plugin,
    etcd: Etcd,
    run: Run,
    config: PathBuf,
    secrets: usize,
}

/// Causes a symptom, repairs it, and returns everything that an operator saw.
type Symptom = fn(&mut Scene) -> String;

/// The section whose symptom takes a minute of waiting.
const SLOW: &str = "The API server does not take up a changed configuration";

const SYMPTOMS: [(&str, Symptom); 10] = [
    ("The plugin was not there when the API server started", not_there),
    ("The plugin has ended", ended),
    ("The plugin does not start", does_not_start),
    ("The plugin is sealed", sealed),
    ("The keyring lacks a key", lacks_key),
    ("The key is disabled", disabled),
    ("The provider has another name", renamed),
    (SLOW, not_reloaded),
    ("etcd has no space", no_space),
    ("The API server is 1.31 or older", old_api_server),
];

#[test]
fn every_symptom_on_the_page_comes_about_in_these_words_and_is_mended() {
    let page = fs::read_to_string(PAGE).unwrap();
    let sections = sections(&page);
    let headings: Vec<&str> = sections.iter().map(|(heading, _)| *heading).collect();
    assert_eq!(headings, SYMPTOMS.map(|(heading, _)| heading), "the page and the test have the same symptoms");
    // An API server reads its configuration once a minute. The other symptoms run meanwhile, in another control plane.
    let is_slow = |(heading, _): &(&str, Vec<&str>)| *heading == SLOW;
    let (slow, others): (Vec<_>, Vec<_>) = sections.into_iter().partition(is_slow);
    assert_eq!(slow.len(), 1);
    let wrong = thread::scope(|scope| {
        let slow = scope.spawn(|| wrong(slow));
        [wrong(others), slow.join().unwrap()].concat()
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// Causes the symptoms of these sections, one after the other. Returns the lines of the page that nobody printed.
fn wrong(sections: Vec<(&str, Vec<&str>)>) -> Vec<String> {
    let (mut scene, mut wrong) = (Scene::new(), Vec::new());
    for (heading, words) in sections {
        assert!(!words.is_empty(), "{heading}");
        let (start, (_, symptom)) = (Instant::now(), SYMPTOMS.iter().find(|(name, _)| *name == heading).unwrap());
        let seen = symptom(&mut scene);
        let unseen = words.into_iter().filter(|line| !seen.lines().any(|seen| matches(seen, line)));
        wrong.extend(unseen.map(|line| format!("{heading}: nobody printed {line:?}:\n{seen}")));
        println!("{heading}: {:?}", start.elapsed());
    }
    wrong
}

/// Returns the headings of the page, each with the lines of its first block of `text`.
fn sections(page: &str) -> Vec<(&str, Vec<&str>)> {
    page.split("\n## ").skip(1).map(section).collect()
}

fn section(text: &str) -> (&str, Vec<&str>) {
    let (heading, rest) = text.split_once('\n').unwrap();
    let words = rest.split("```text\n").nth(1).and_then(|block| block.split("\n```").next());
    (heading, words.into_iter().flat_map(str::lines).collect())
}

/// Whether `seen` contains the parts of `line` in their order.
pub(crate) fn matches(seen: &str, line: &str) -> bool {
    let mut rest = seen;
    line.split('…').map(str::trim).all(|part| match rest.find(part) {
        Some(at) => {
            rest = &rest[at + part.len()..];
            true
        }
        None => false,
    })
}

impl Scene {
    fn new() -> Self {
        let run = Run::new().unwrap();
        let etcd = Etcd::start(&run, 1).unwrap();
        let mut plugin = Plugin::init(&run, BINARY, "plugin").unwrap();
        plugin.serve(run.socket("kms.sock").unwrap().display().to_string()).unwrap();
        let config = plugin.encryption_config(&["secrets"], true).unwrap();
        let api = ApiServer::on(&run, &etcd).encryption_config(&config).start().unwrap();
        Self { api, plugin, etcd, run, config, secrets: 0 }
    }

    /// Returns a new name for a Secret.
    fn name(&mut self) -> String {
        self.secrets += 1;
        format!("secret-{}", self.secrets)
    }

    /// Creates a Secret, which has to succeed.
    fn create(&mut self) -> String {
        let name = self.name();
        self.api.kubectl(&["create", "secret", "generic", &name, "--from-literal=a=b"]).unwrap();
        name
    }

    /// Tries to create a Secret, which has to fail. Returns the error text of kubectl.
    fn create_fails(&mut self) -> String {
        let name = self.name();
        self.fails(&["create", "secret", "generic", &name, "--from-literal=a=b"])
    }

    fn fails(&self, arguments: &[&str]) -> String {
        self.api.kubectl(arguments).unwrap_err().to_string()
    }

    /// Waits until the API server's check of its plugin contains `words`, and returns its text.
    fn check_says(&self, words: &str) -> String {
        let start = Instant::now();
        loop {
            let answer = self.api.kubectl(&["get", "--raw", "/readyz/kms-providers"]);
            let answer = answer.unwrap_or_else(|error| error.to_string());
            if answer.contains(words) {
                return answer;
            }
            assert!(start.elapsed() < SOON, "the check never said {words:?}: {answer}");
            thread::sleep(Duration::from_millis(500));
        }
    }

    /// Waits until a Secret can be created again.
    fn recovers(&mut self) {
        self.api.wait_until_ready().unwrap();
        self.check_says("ok");
        self.create();
    }

    fn log(&mut self) -> String {
        self.api.log().unwrap()
    }

    /// Adds a key and promotes it. Starts the API server again, which then writes under the key.
    fn rotate(&mut self) -> String {
        let added = self.plugin.claviger(&["key", "add"]).unwrap();
        let key_id = added.split_whitespace().next().unwrap().to_owned();
        self.plugin.claviger(&["key", "promote", &key_id, "--without-backup"]).unwrap();
        // Waits until the plugin announces the new key.
        self.plugin.wait_until_serving().unwrap();
        self.api.restart().unwrap();
        key_id
    }
}

fn not_there(scene: &mut Scene) -> String {
    scene.plugin.kill().unwrap();
    fs::remove_file(scene.run.path("kms.sock")).unwrap();
    scene.api.kill().unwrap();
    scene.api.launch().unwrap();
    let check = scene.check_says("no such file");
    let readyz = scene.fails(&["get", "--raw", "/readyz?verbose"]);
    let seen = [scene.create_fails(), check, readyz, scene.log()].join("\n");
    scene.plugin.restart().unwrap();
    scene.recovers();
    seen
}

fn ended(scene: &mut Scene) -> String {
    let name = scene.create();
    scene.plugin.kill().unwrap();
    let check = scene.check_says("connection refused");
    // The API server reads the Secrets whose seed it has unwrapped before, and writes under its seed.
    scene.api.kubectl(&["get", "secret", &name]).unwrap();
    scene.create();
    scene.plugin.restart().unwrap();
    scene.recovers();
    check
}

fn does_not_start(scene: &mut Scene) -> String {
    let key_file = scene.plugin.state_dir().join("slot-file.key");
    let away = scene.run.path("away.key");
    scene.plugin.kill().unwrap();
    fs::rename(&key_file, &away).unwrap();
    scene.plugin.launch().unwrap();
    let start = Instant::now();
    while scene.plugin.process().unwrap().ended().unwrap().is_none() {
        assert!(start.elapsed() < SOON);
        thread::sleep(Duration::from_millis(50));
    }
    let seen = scene.plugin.process().unwrap().log();
    fs::rename(&away, &key_file).unwrap();
    scene.plugin.restart().unwrap();
    scene.recovers();
    seen
}

/// Starts a plugin that reads its key file from a slow disk.
fn sealed(scene: &mut Scene) -> String {
    scene.plugin.kill().unwrap();
    scene.api.kill().unwrap();
    scene.api.launch().unwrap();
    scene.check_says("refused");
    let mut command = Command::new("strace");
    command.args(["-f", "-q", "-o", "/dev/null", "-e", "trace=read", "-e", "inject=read:delay_enter=7000000", "-P"]);
    command.arg(scene.plugin.state_dir().join("slot-file.key"));
    command.args([BINARY, "serve", "--state-dir"]).arg(scene.plugin.state_dir());
    command.arg("--socket").arg(scene.run.path("kms.sock"));
    let mut slow = scene.run.start("slow-plugin", command).unwrap();
    let seen = scene.check_says("sealed");
    scene.check_says("ok");
    // The next plugin takes over, so that the slow plugin ends by itself.
    scene.plugin.flag("--take-over");
    scene.plugin.restart().unwrap();
    slow.wait_for_end("another took over", SOON).unwrap();
    scene.recovers();
    seen
}

fn lacks_key(scene: &mut Scene) -> String {
    let (state, last_week) = (scene.plugin.state_dir().to_owned(), scene.run.path("last-week"));
    copy(&state, &last_week);
    scene.rotate();
    let name = scene.create();
    let newer = newer_backup(scene);
    scene.plugin.kill().unwrap();
    copy(&last_week, &state);
    scene.plugin.restart().unwrap();
    scene.api.kill().unwrap();
    scene.api.launch().unwrap();
    scene.check_says("ok");
    let read = scene.fails(&["get", "secret", &name]);
    let list = scene.fails(&["get", "secrets"]);
    let readyz = scene.fails(&["get", "--raw", "/readyz?verbose"]);
    let seen = [read, list, readyz, scene.log(), scene.plugin.process().unwrap().log()].join("\n");
    let [file, identity] = newer.each_ref().map(String::as_str);
    let restore = ["backup", "restore", file, "--recovery-identity", identity, "--accept"];
    scene.plugin.claviger(&restore).unwrap();
    scene.recovers();
    scene.api.kubectl(&["get", "secret", &name]).unwrap();
    seen
}

/// Makes a backup of the present keyring. Returns its path, and that of the identity that opens it.
fn newer_backup(scene: &Scene) -> [String; 2] {
    let identity = age::x25519::Identity::generate();
    let files = ["newer.age", "identity.txt"].map(|name| scene.run.path(name).display().to_string());
    fs::write(&files[1], identity.to_string().expose_secret()).unwrap();
    let recipient = identity.to_public().to_string();
    scene.plugin.claviger(&["backup", "create", &files[0], "--recipient", &recipient]).unwrap();
    files
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    _ = fs::remove_dir_all(to);
    assert!(Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
}

fn disabled(scene: &mut Scene) -> String {
    // After the restart, the API server writes under the primary key.
    scene.api.restart().unwrap();
    let name = scene.create();
    let list = scene.plugin.claviger(&["key", "list"]).unwrap();
    let old = list.lines().find(|line| line.contains("primary")).unwrap().split_whitespace().next().unwrap().to_owned();
    scene.rotate();
    scene.plugin.claviger(&["key", "disable", &old, "--risk-unreadable-secrets"]).unwrap();
    scene.api.kill().unwrap();
    scene.api.launch().unwrap();
    scene.check_says("ok");
    let seen = [scene.fails(&["get", "secret", &name]), scene.plugin.process().unwrap().log()].join("\n");
    scene.plugin.claviger(&["key", "enable", &old]).unwrap();
    scene.recovers();
    scene.api.kubectl(&["get", "secret", &name]).unwrap();
    seen
}

fn renamed(scene: &mut Scene) -> String {
    let name = scene.create();
    let right = fs::read_to_string(&scene.config).unwrap();
    fs::write(&scene.config, right.replace("name: claviger", "name: another")).unwrap();
    scene.api.kill().unwrap();
    scene.api.launch().unwrap();
    scene.check_says("ok");
    let seen = scene.fails(&["get", "secret", &name]);
    fs::write(&scene.config, right).unwrap();
    scene.api.restart().unwrap();
    scene.recovers();
    scene.api.kubectl(&["get", "secret", &name]).unwrap();
    seen
}

fn not_reloaded(scene: &mut Scene) -> String {
    let right = fs::read_to_string(&scene.config).unwrap();
    let before = scene.log().len();
    fs::write(&scene.config, right.replace("- kms:", "- kmz:")).unwrap();
    let start = Instant::now();
    while !scene.log()[before..].contains("ncryption") {
        assert!(start.elapsed() < SOON, "the API server did not notice");
        thread::sleep(Duration::from_millis(500));
    }
    thread::sleep(Duration::from_secs(1));
    let readyz = scene.api.readyz().unwrap();
    let seen = [scene.log()[before..].to_owned(), readyz].join("\n");
    fs::write(&scene.config, right).unwrap();
    scene.recovers();
    seen
}

fn no_space(_: &mut Scene) -> String {
    let run = Run::new().unwrap();
    let etcd = Etcd::start_with(&run, &["--quota-backend-bytes=16777216"]).unwrap();
    let api = ApiServer::on(&run, &etcd).start().unwrap();
    let ballast = run.path("ballast");
    fs::write(&ballast, vec![b'x'; 900_000]).unwrap();
    let file = format!("--from-file={}", ballast.display());
    let seen = (0..30)
        .find_map(|number| {
            let name = format!("ballast-{number}");
            api.kubectl(&["create", "configmap", &name, &file]).err().map(|error| error.to_string())
        })
        .expect("the quota was not reached");
    let alarms = etcd.run_etcdctl(&["alarm", "list"]).unwrap();
    // The commands are those of the page: delete a key, compact and defragment, and disarm the alarm.
    etcd.run_etcdctl(&["del", "/registry/configmaps/default/ballast-0"]).unwrap();
    let revision = etcd.revision().unwrap().to_string();
    etcd.run_etcdctl(&["compact", &revision]).unwrap();
    etcd.run_etcdctl(&["defrag"]).unwrap();
    etcd.run_etcdctl(&["alarm", "disarm"]).unwrap();
    api.kubectl(&["create", "secret", "generic", "again", "--from-literal=a=b"]).unwrap();
    [seen, alarms].join("\n")
}

fn old_api_server(scene: &mut Scene) -> String {
    let api = ApiServer::on(&scene.run, &scene.etcd).version(Version::V1_31).encryption_config(&scene.config);
    let mut api = api.launch().unwrap();
    std::mem::swap(&mut api, &mut scene.api);
    let seen = scene.check_says("PROTOCOL_ERROR");
    std::mem::swap(&mut api, &mut scene.api);
    seen
}
