//! An etcd to which real API servers wrote, one after the other. The first provider of each is another one, and the
//! earlier providers come after it, so each API server can read all earlier values.

use std::{
    collections::BTreeMap,
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

use base64ct::{Base64, Encoding};
use serde_json::Value;

use super::{
    objects::{CONFIG_MAPS, ENCRYPTED, Kind, SECRETS, WIDGETS, define_widgets, url_of},
    scanned::Scan,
};
use crate::{
    contract::front::{Front, SOON},
    harness::{
        api_server::ApiServer,
        binaries::Program,
        commands::isolated,
        etcd::Etcd,
        plugin::Plugin,
        processes::{Process, Run},
    },
};

const BINARY: &str = env!("CARGO_BIN_EXE_claviger");

/// The gates of KMS v1 and of CBOR for custom resources, which are off by default.
const GATES: &str = "--feature-gates=KMSv1=true,CBORServingAndStorage=true";

/// The key_id of the other plugin's only key.
pub(super) const OTHER_KEY: &str = "k1-00000000000000000000000000000000";

/// The provider and the key that a value was written under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Under {
    /// The provider, by its stored prefix.
    pub(super) provider: String,
    /// The key_id, for KMS v2.
    pub(super) key_id: Option<String>,
    /// The number of the API server that wrote the value, from 1.
    pub(super) start: usize,
}

/// Whether an API server could read an object, and the finding about it.
pub(super) struct Attempt {
    pub(super) key: String,
    pub(super) status: u16,
    pub(super) found: Value,
}

/// The etcd with its last API server, and their history.
pub(super) struct History {
    pub(super) front: Front,
    pub(super) etcd: Etcd,
    pub(super) plugin: Plugin,
    pub(super) config: PathBuf,
    /// The key_ids of the plugin's two keys.
    pub(super) keys: [String; 2],
    /// Each key of etcd in the namespace `default`, with all its values. `None` means a deletion.
    pub(super) written: BTreeMap<String, Vec<Option<Under>>>,
    /// The attempts to read objects while the configuration lacked providers.
    pub(super) attempts: Vec<Attempt>,
    api: ApiServer,
    starts: usize,
    _others: [Process; 2],
    pub(super) run: Run,
}

/// The provider of each part of the history, in their order; each but the first is a provider of an
/// EncryptionConfiguration.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Identity,
    Cbc,
    CbcTwoKeys,
    Gcm,
    Secretbox,
    KmsV1,
    Other,
    Claviger,
}

use Part::{Cbc, CbcTwoKeys, Claviger, Gcm, Identity, KmsV1, Other, Secretbox};

impl Part {
    const ALL: [Self; 8] = [Identity, Cbc, CbcTwoKeys, Gcm, Secretbox, KmsV1, Other, Claviger];

    /// Returns the prefix of the values that the part stores.
    fn stored(self) -> &'static str {
        match self {
            Identity => "identity",
            Cbc => "aescbc:v1:first",
            CbcTwoKeys => "aescbc:v1:second",
            Gcm => "aesgcm:v1:third",
            Secretbox => "secretbox:v1:fourth",
            KmsV1 => "kms:v1:old",
            Other => "kms:v2:other",
            Claviger => "kms:v2:claviger",
        }
    }

    fn yaml(self, run: &Run) -> String {
        let key = |name: &str| {
            let secret = Base64::encode_string(format!("{name:-<32}").as_bytes());
            format!("{{name: {name}, secret: {secret}}}")
        };
        let kms = |name: &str, fields: &str| {
            let endpoint = run.path(format!("{name}.sock"));
            format!("kms: {{endpoint: \"unix://{}\", {fields}}}", endpoint.display())
        };
        match self {
            Identity => "identity: {}".to_owned(),
            Cbc => format!("aescbc: {{keys: [{}]}}", key("first")),
            CbcTwoKeys => format!("aescbc: {{keys: [{}, {}]}}", key("second"), key("first")),
            Gcm => format!("aesgcm: {{keys: [{}]}}", key("third")),
            Secretbox => format!("secretbox: {{keys: [{}]}}", key("fourth")),
            // The name has a colon, which version 2 forbids. Only the part before the colon is shown.
            KmsV1 => kms("old", "apiVersion: v1, name: \"old:one\", cachesize: 1000, timeout: 3s"),
            Other => kms("other", "apiVersion: v2, name: other"),
            Claviger => kms("claviger", "apiVersion: v2, name: claviger"),
        }
    }

    /// Returns this part and the earlier ones, the latest first.
    fn and_earlier(self) -> Vec<Self> {
        let is_listed = |part: &Self| *part <= self && (*part != Cbc || self < CbcTwoKeys);
        Self::ALL.into_iter().rev().filter(is_listed).collect()
    }
}

/// Writes an EncryptionConfiguration with these entries.
fn configure(run: &Run, path: &Path, entries: &[(&[Kind], &[Part])]) {
    let mut text = "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n".to_owned();
    for (kinds, parts) in entries {
        let kinds: Vec<_> = kinds.iter().map(|kind| kind.resource).collect();
        let parts: String = parts.iter().map(|part| format!("  - {}\n", part.yaml(run))).collect();
        write!(text, "- resources: [{}]\n  providers:\n{parts}", kinds.join(", ")).unwrap();
    }
    fs::write(path, text).unwrap();
}

/// Starts a plugin that is not claviger. It takes the path of its socket.
fn start(run: &Run, program: Program, name: &str, flags: &[&str]) -> Process {
    let socket = run.socket(&format!("{name}.sock")).unwrap();
    let mut command = isolated(&program.path().unwrap(), run.directory());
    command.args(flags).arg(&socket);
    let mut process = run.start(name, command).unwrap();
    process.wait_until("listening", SOON, || socket.exists()).unwrap();
    process
}

impl History {
    /// Writes the whole history.
    pub(super) fn write() -> Self {
        let run = Run::new().unwrap();
        let others =
            [start(&run, Program::KmsV1Plugin, "old", &["--socket"]), start(&run, Program::GoPlugin, "other", &[])];
        let mut plugin = Plugin::init(&run, BINARY, "claviger").unwrap();
        plugin.serve(run.socket("claviger.sock").unwrap().display().to_string()).unwrap();
        let keys = [key_id(&plugin, 0), String::new()];
        let etcd = Etcd::start(&run, 1).unwrap();
        let config = run.path("encryption.yaml");
        // Without the gate, custom resources are stored as JSON.
        let api = ApiServer::on(&run, &etcd).argument("--etcd-compaction-interval=0").start().unwrap();
        let front = Front::of(&run, &api);
        define_widgets(&front);
        let (written, attempts) = (BTreeMap::new(), Vec::new());
        let mut history =
            Self { front, etcd, plugin, config, keys, written, attempts, api, starts: 1, _others: others, run };
        history.write_objects(Identity, &ENCRYPTED);
        history.begin();
        for part in [CbcTwoKeys, Gcm, Secretbox, KmsV1, Other, Claviger] {
            history.restart(&[(&ENCRYPTED, &part.and_earlier())]);
            history.write_objects(part, &ENCRYPTED);
        }
        history.forget_and_remember();
        history.promote();
        history
    }

    /// Encrypts custom resources later than the others. Until then they are CBOR in plaintext.
    fn begin(&mut self) {
        let api = ApiServer::on(&self.run, &self.etcd).encryption_config(&self.config).argument(GATES);
        configure(&self.run, &self.config, &[(&[SECRETS, CONFIG_MAPS], &Cbc.and_earlier()), (&[WIDGETS], &[Identity])]);
        self.api.kill().unwrap();
        self.api = api.argument("--etcd-compaction-interval=0").start().unwrap();
        self.front = Front::of(&self.run, &self.api);
        self.starts += 1;
        self.write_objects(Cbc, &[SECRETS, CONFIG_MAPS]);
        self.write_objects(Identity, &[WIDGETS]);
    }

    /// Adds a second seed under claviger's first key, and custom resources under a configuration that lacks most
    /// providers.
    fn forget_and_remember(&mut self) {
        self.restart(&[(&[SECRETS, CONFIG_MAPS], &Claviger.and_earlier()), (&[WIDGETS], &[Secretbox, Gcm])]);
        self.write_objects(Claviger, &[SECRETS, CONFIG_MAPS]);
        let list = Scan::live(&self.run, &self.etcd).config(&self.config).with("--feature-gates", "KMSv1=true").list();
        let report =
            Scan::live(&self.run, &self.etcd).config(&self.config).with("--feature-gates", "KMSv1=true").report();
        for (key, line) in list {
            let Some(url) = url_of(&key) else { continue };
            let status = self.front.get(&url).status;
            self.attempts.push(Attempt { key, status, found: found(&report, &line) });
        }
    }

    /// Does the last part: a second key of claviger's, and a configuration with all providers.
    fn promote(&mut self) {
        self.plugin.claviger(&["key", "add"]).unwrap();
        self.plugin.claviger(&["key", "promote", "k2", "--without-backup"]).unwrap();
        self.keys[1] = key_id(&self.plugin, 1);
        // On a busy machine the API server may start before the plugin has followed the promotion.
        self.plugin.restart().unwrap();
        self.restart(&[(&ENCRYPTED, &Claviger.and_earlier())]);
        self.write_objects(Claviger, &ENCRYPTED);
    }

    fn restart(&mut self, entries: &[(&[Kind], &[Part])]) {
        self.api.kill().unwrap();
        configure(&self.run, &self.config, entries);
        self.api.restart().unwrap();
        self.starts += 1;
    }

    /// Writes objects that stay, change, are deleted and are made again, and one object that each API server changes.
    fn write_objects(&mut self, part: Part, kinds: &[Kind]) {
        let (start, key) = (self.starts, usize::from(!self.keys[1].is_empty()));
        let key_id = match part {
            Claviger => Some(self.keys[key].clone()),
            Other => Some(OTHER_KEY.to_owned()),
            _ => None,
        };
        let under = Some(Under { provider: part.stored().to_owned(), key_id, start });
        for kind in kinds {
            let mut write = |name: &str, acts: &[Act]| {
                let writes = self.written.entry(kind.etcd_key(name)).or_default();
                for (number, act) in acts.iter().enumerate() {
                    act.perform(&self.front, kind, name, &format!("{start}-{number}"));
                    writes.push(under.clone().filter(|_| *act != Act::Delete));
                }
            };
            write(&format!("kept-{start}"), &[Act::Create]);
            write(&format!("changed-{start}"), &[Act::Create, Act::Update, Act::Update]);
            write(&format!("deleted-{start}"), &[Act::Create, Act::Update, Act::Delete]);
            write(&format!("again-{start}"), &[Act::Create, Act::Delete, Act::Create]);
            write("moved", &[if start == 1 { Act::Create } else { Act::Update }]);
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Act {
    Create,
    Update,
    Delete,
}

impl Act {
    fn perform(self, front: &Front, kind: &Kind, name: &str, label: &str) {
        match self {
            Self::Create => kind.create(front, name),
            Self::Update => kind.update(front, name, label),
            Self::Delete => kind.delete(front, name),
        }
    }
}

fn key_id(plugin: &Plugin, index: usize) -> String {
    let list = plugin.claviger(&["key", "list", "--output", "json"]).unwrap();
    let list: Value = serde_json::from_str(&list).unwrap();
    list["keys"][index]["key_id"].as_str().unwrap().to_owned()
}

/// Returns the findings of a report about the group of a live object.
pub(super) fn found(report: &Value, line: &Value) -> Value {
    let rows = report["groups"].as_array().unwrap();
    let is_its = |row: &&Value| ["resource", "provider", "key_id"].iter().all(|field| row[*field] == line[*field]);
    rows.iter().find(is_its).unwrap()["found"].clone()
}
