//! Tests `docs/migrating.md`: runs its configurations and commands, section by section, in a real control plane.
//!
//! After each step, an API server that has just started reads all Secrets that were written in the steps before, and
//! writes another one. At the end of each section, etcd shows that all of them are under the provider to which they
//! were moved.

#![allow(clippy::print_stdout, reason = "how long each section takes is worth seeing")]

use std::{fs, path::Path, process::Command, sync::LazyLock, time::Instant};

use crate::{
    harness::{
        api_server::ApiServer,
        binaries::Program,
        etcd::Etcd,
        machine::Machine,
        processes::{Process, Run},
    },
    troubleshooting::matches,
};

const BINARY: &str = env!("CARGO_BIN_EXE_claviger");

static PAGE: LazyLock<String> =
    LazyLock::new(|| fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/migrating.md")).unwrap());

/// The EncryptionConfiguration, below the root of the machine.
const CONFIGURATION: &str = "etc/kubernetes/claviger/encryption-configuration.yaml";

/// The lines of a configuration before the list of providers.
const HEAD: &str =
    "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: [secrets]\n";

/// 32 bytes in base64, made for this test.
const SECRET: &str = "bWlncmF0aW5nOiAzMiBieXRlcyBvZiBhIHRlc3QhISE=";

const TAKEN_UP: &str = "Whether an API server uses the file";
const FROM_LOCAL: &str = "From aescbc, secretbox or aesgcm to claviger";
const TO_LOCAL: &str = "From claviger to aescbc, secretbox or aesgcm";
const FROM_OTHER: &str = "From another KMS v2 plugin to claviger";
const TO_PLAINTEXT: &str = "From claviger to plaintext";
const GOING_BACK: &str = "Going back";

const OURS: &str = "k8s:enc:kms:v2:claviger:";

/// The sections, in an order in which each begins in the state after the one before: the word for `aescbc`, and the
/// prefix of values at the end.
const MIGRATIONS: [(&str, &str, &str); 11] = [
    ("From plaintext to claviger", "", OURS),
    (TO_LOCAL, "aescbc", "k8s:enc:aescbc:v1:key1:"),
    (GOING_BACK, "aescbc", "k8s:enc:aescbc:v1:key1:"),
    (FROM_LOCAL, "aescbc", OURS),
    (TO_LOCAL, "secretbox", "k8s:enc:secretbox:v1:key1:"),
    (FROM_LOCAL, "secretbox", OURS),
    (TO_LOCAL, "aesgcm", "k8s:enc:aesgcm:v1:key1:"),
    (FROM_LOCAL, "aesgcm", OURS),
    ("From claviger to another KMS v2 plugin", "", "k8s:enc:kms:v2:other:"),
    (FROM_OTHER, "", OURS),
    (TO_PLAINTEXT, "", "k8s\0"),
];

/// A block of the page: `yaml`, `sh` or `text`.
#[derive(Clone, Copy)]
struct Block {
    kind: &'static str,
    text: &'static str,
}

/// Returns the headings of the page, each with its blocks.
fn sections() -> Vec<(&'static str, Vec<Block>)> {
    let block = |text: &'static str| {
        let (kind, text) = text.split_once('\n').unwrap();
        Block { kind, text: text.strip_suffix('\n').unwrap() }
    };
    let section = |text: &'static str| {
        let (heading, rest) = text.split_once('\n').unwrap();
        (heading, rest.split("```").skip(1).step_by(2).map(block).collect())
    };
    PAGE.split("\n## ").skip(1).map(section).collect()
}

fn blocks(heading: &str) -> Vec<Block> {
    sections().into_iter().find(|(found, _)| *found == heading).unwrap_or_else(|| panic!("{heading}")).1
}

/// Returns a machine with a plugin.
fn machine() -> Machine {
    let paths = ["/var/lib/claviger", "/etc/kubernetes/claviger"];
    let machine = Machine::new(&Run::new().unwrap(), "machine", Path::new(BINARY), &paths).unwrap();
    machine.bash("claviger init --without-recovery; systemctl start claviger", None).unwrap();
    machine
}

/// Returns a configuration with the providers of a block of the page.
fn configuration(machine: &Machine, providers: &str, scheme: &str) -> String {
    let socket = |name: &str| format!("unix://{}", machine.root().join("run").join(name).display());
    let here = providers
        .replace("unix:///run/claviger/kms.sock", &socket("kms.sock"))
        .replace("unix:///run/other/kms.sock", &socket("other.sock"))
        .replace("aescbc", scheme)
        .replace("BASE64", SECRET);
    format!("{HEAD}{here}\n")
}

/// A control-plane node, with a second plugin that is not claviger.
struct Cluster {
    machine: Machine,
    etcd: Etcd,
    api: ApiServer,
    other: Option<Process>,
    written: Vec<String>,
    /// The output of all commands of this section.
    seen: String,
}

impl Cluster {
    /// Starts a control plane that stores everything in plaintext.
    fn new() -> Self {
        let machine = machine();
        let run = machine.run().clone();
        let etcd = Etcd::start(&run, 1).unwrap();
        let servers = etcd.endpoints();
        let config = machine.root().join(CONFIGURATION);
        let settings = format!("etcd-servers = [\"{servers}\"]\nencryption-config = \"{}\"\n", config.display());
        machine.configure(&settings).unwrap();
        let mut command = Command::new(Program::GoPlugin.path().unwrap());
        command.arg(machine.root().join("run/other.sock"));
        let other = run.start("other", command).unwrap();
        let api = ApiServer::on(&run, &etcd).start().unwrap();
        let mut cluster = Self { machine, etcd, api, other: Some(other), written: Vec::new(), seen: String::new() };
        cluster.write_and_read();
        cluster
    }

    /// Runs a section of the page.
    fn migrate(&mut self, heading: &str, scheme: &str) {
        self.seen.clear();
        let blocks = blocks(heading);
        let last = blocks.iter().rposition(|block| block.kind == "yaml");
        for (index, block) in blocks.iter().enumerate() {
            match block.kind {
                "yaml" => {
                    let config = configuration(&self.machine, block.text, scheme);
                    if Some(index) == last {
                        self.remove_the_old(heading);
                    }
                    fs::write(self.machine.root().join(CONFIGURATION), config).unwrap();
                    self.take_up();
                }
                "sh" => self.run(heading, scheme, block.text),
                "text" => self.has_printed(heading, &block.text.replace("aescbc", scheme)),
                kind => panic!("{heading}: {kind}"),
            }
        }
        if heading.starts_with("From claviger ") {
            self.machine.bash("systemctl restart claviger", None).unwrap();
        }
    }

    /// Ends the plugin of a provider that the next configuration lacks. No value may need it any more.
    fn remove_the_old(&mut self, heading: &str) {
        if heading == FROM_OTHER {
            self.other = None;
        } else if heading.starts_with("From claviger ") {
            self.machine.bash("systemctl stop claviger", None).unwrap();
        }
    }

    fn run(&mut self, heading: &str, scheme: &str, commands: &str) {
        if heading == FROM_LOCAL && commands.contains("reencrypt") {
            self.remove_too_early(scheme);
        }
        let read = |machine: &Machine| fs::read(machine.root().join(CONFIGURATION)).ok();
        let before = read(&self.machine);
        let kubeconfig = self.api.kubeconfig();
        self.seen += &self.machine.bash(commands, Some(&kubeconfig)).unwrap();
        if read(&self.machine) != before {
            self.take_up();
        }
    }

    /// Shows what a rotation and a scan report about a list that lacks a provider that is still needed. No API server
    /// uses the list.
    fn remove_too_early(&mut self, scheme: &str) {
        let removed = blocks(FROM_LOCAL).into_iter().rfind(|block| block.kind == "yaml").unwrap();
        let early = self.machine.root().join("early.yaml");
        fs::write(&early, configuration(&self.machine, removed.text, scheme)).unwrap();
        let (early, kubeconfig) = (early.display(), self.api.kubeconfig());
        for verb in ["rotate --dry-run", "scan"] {
            let commands = format!("claviger {verb} --encryption-config {early} || [ $? -eq 1 ]");
            self.seen += &self.machine.bash(&commands, Some(&kubeconfig)).unwrap();
        }
        assert!(self.seen.contains("no-provider"), "{}", self.seen);
    }

    fn has_printed(&self, heading: &str, lines: &str) {
        for line in lines.lines() {
            assert!(self.seen.lines().any(|seen| matches(seen, line)), "{heading}: {line}\n{}", self.seen);
        }
    }

    /// Has the API server use the configuration, and waits for that as the page says.
    fn take_up(&mut self) {
        if self.written.len() == 1 {
            // The first API server had no configuration.
            self.api.kill().unwrap();
            let config = self.machine.root().join(CONFIGURATION);
            self.api = ApiServer::on(self.machine.run(), &self.etcd).encryption_config(config).start().unwrap();
        } else {
            self.api.restart().unwrap();
        }
        let kubeconfig = self.api.kubeconfig();
        for block in blocks(TAKEN_UP) {
            self.machine.bash(block.text, Some(&kubeconfig)).unwrap();
        }
        self.write_and_read();
    }

    /// Writes a Secret, and reads all of them.
    fn write_and_read(&mut self) {
        let name = format!("step-{:02}", self.written.len());
        write(&self.api, &name);
        self.written.push(name);
        self.reads_all();
    }

    fn reads_all(&self) {
        let template = "go-template={{range .items}}{{.metadata.name}}={{.data.value | base64decode}} {{end}}";
        let read = self.api.kubectl(&["get", "secrets", "--output", template]).unwrap();
        let expected: String = self.written.iter().map(|name| format!("{name}=s-{name} ")).collect();
        assert_eq!(read, expected);
    }

    /// Checks that all Secrets in etcd are under one provider.
    fn are_all_under(&self, prefix: &str) {
        let keys = self.etcd.keys("/registry/secrets/").unwrap();
        assert_eq!(keys.len(), self.written.len());
        for key in keys {
            let value = self.etcd.get(&key).unwrap().unwrap();
            let begin = String::from_utf8_lossy(&value[..value.len().min(40)]).into_owned();
            assert!(value.starts_with(prefix.as_bytes()), "{key} is not under {prefix}: {begin}");
        }
    }
}

impl Cluster {
    /// Plaintext is as configured only if the configuration has an entry for Secrets that says so.
    fn calls_uncovered_secrets_left_over(&self) {
        let others = configuration(&self.machine, PLAINTEXT, "aescbc").replace("[secrets]", "[configmaps]");
        let config = self.machine.root().join("others.yaml");
        fs::write(&config, others).unwrap();
        let line = format!("reencrypt --risk-plaintext --encryption-config {}", config.display());
        let commands = format!("claviger {line} && exit 9 || [ $? -eq 1 ]");
        let printed = self.machine.bash(&commands, Some(&self.api.kubeconfig())).unwrap();
        assert!(printed.contains("something else is left over"), "{printed}");
    }
}

fn write(api: &ApiServer, name: &str) {
    api.kubectl(&["create", "secret", "generic", name, &format!("--from-literal=value=s-{name}")]).unwrap();
}

fn read(api: &ApiServer, name: &str) -> Result<String, String> {
    let read = api.kubectl(&["get", "secret", name, "-o", "go-template={{.data.value | base64decode}}"]);
    read.map_err(|error| error.to_string())
}

#[test]
fn every_migration_of_the_page_keeps_every_secret_readable_and_moves_all_of_them() {
    let configured = sections().into_iter().filter(|(_, blocks)| blocks.iter().any(|block| block.kind == "yaml"));
    for (heading, _) in configured {
        assert!(MIGRATIONS.iter().any(|(migration, ..)| *migration == heading), "no test follows {heading}");
    }
    let mut cluster = Cluster::new();
    for (heading, scheme, prefix) in MIGRATIONS {
        let begun = Instant::now();
        if heading == GOING_BACK {
            // A migration to claviger has begun: new values are written under its key.
            let writer = blocks(FROM_LOCAL)[1];
            let config = configuration(&cluster.machine, writer.text, scheme);
            fs::write(cluster.machine.root().join(CONFIGURATION), config).unwrap();
            cluster.take_up();
        }
        cluster.migrate(heading, scheme);
        cluster.are_all_under(prefix);
        println!("{heading}, {scheme}: {:?}", begun.elapsed());
    }
    cluster.calls_uncovered_secrets_left_over();
    // Without a configuration and without plugins, everything can be read.
    cluster.machine.bash("systemctl stop claviger", None).unwrap();
    cluster.api.kill().unwrap();
    cluster.api = ApiServer::on(cluster.machine.run(), &cluster.etcd).start().unwrap();
    cluster.reads_all();
}

/// Two API servers on one etcd, each with its own configuration.
struct Pair {
    machine: Machine,
    apis: [ApiServer; 2],
    written: Vec<String>,
    _etcd: Etcd,
}

/// Lists of providers.
const PLAINTEXT: &str = "  providers: [identity: {}]";
const CLAVIGER: &str = "kms: {apiVersion: v2, name: claviger, endpoint: unix:///run/claviger/kms.sock}";
const LOCAL: &str = "aescbc: {keys: [{name: key1, secret: BASE64}]}";

fn list(providers: &[&str]) -> String {
    format!("  providers:\n{}", providers.iter().map(|one| format!("  - {one}\n")).collect::<String>())
}

impl Pair {
    fn new() -> Self {
        let machine = machine();
        let etcd = Etcd::start(machine.run(), 1).unwrap();
        let apis = [0, 1].map(|number| {
            let config = config_of(&machine, number);
            fs::write(&config, configuration(&machine, PLAINTEXT, "aescbc")).unwrap();
            ApiServer::on(machine.run(), &etcd).encryption_config(config).start().unwrap()
        });
        Self { machine, apis, written: Vec::new(), _etcd: etcd }
    }

    /// Gives one of the API servers a list of providers.
    fn give(&mut self, number: usize, providers: &[&str]) {
        let config = configuration(&self.machine, &list(providers), "aescbc");
        fs::write(config_of(&self.machine, number), config).unwrap();
        self.apis[number].restart().unwrap();
    }

    /// Has each API server write a Secret, and read all Secrets.
    fn both_write_and_read(&mut self) {
        for api in &self.apis {
            let name = format!("step-{:02}", self.written.len());
            write(api, &name);
            self.written.push(name);
        }
        for api in &self.apis {
            for name in &self.written {
                assert_eq!(read(api, name), Ok(format!("s-{name}")));
            }
        }
    }
}

fn config_of(machine: &Machine, number: usize) -> std::path::PathBuf {
    machine.root().join(format!("encryption-{number}.yaml"))
}

#[test]
fn readers_first_and_writers_after_that_is_safe_with_two_api_servers_and_the_other_order_is_not() {
    const IDENTITY: &str = "identity: {}";
    let mut pair = Pair::new();
    pair.both_write_and_read();
    for providers in [[IDENTITY, CLAVIGER], [CLAVIGER, IDENTITY]] {
        for number in [0, 1] {
            pair.give(number, &providers);
            pair.both_write_and_read();
        }
    }
    // One API server writes with the provider before the other one can read it.
    pair.give(0, &[LOCAL, CLAVIGER, IDENTITY]);
    write(&pair.apis[0], "early");
    let refused = read(&pair.apis[1], "early").unwrap_err();
    assert!(refused.contains("no matching prefix found"), "{refused}");
    pair.give(1, &[CLAVIGER, IDENTITY, LOCAL]);
    assert_eq!(read(&pair.apis[1], "early"), Ok("s-early".to_owned()));
    pair.both_write_and_read();
}
