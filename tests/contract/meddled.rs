//! One API server with a provider entry for each fault, so that the waits of all faults run at the same time.
//!
//! Every entry has its own meddler and its own kind of object. [`ENTRIES`] has the faults from the start.
//! [`Meddled::turn`] has the faults that begin later; the API server sees them up to 20 s later, because it keeps a
//! good answer for that time.

use std::{collections::BTreeMap, sync::LazyLock};

use super::{
    BINARY,
    config::{self, Kind, Provider},
    front::Front,
    http::Answer,
    meddler::{Faults, Meddler, Method},
    seal::Seed,
};
use crate::harness::{api_server::ApiServer, etcd::Etcd, plugin::Plugin, processes::Run};

/// The only text of an unhealthy plugin. Everyone who may read the health check sees it.
pub(super) const UNWELL: &str = "the self-test of wrapping and unwrapping failed";

/// The greatest number of bytes of all names and values of annotations.
pub(super) const ANNOTATIONS: usize = 32 * 1024;

/// A provider of the configuration.
struct Entry(&'static str, Kind, Faults);

const ENTRIES: &[Entry] = &[
    Entry("healthz-unwell", config::NETWORK_POLICIES, with_status(|answer| answer.healthz = UNWELL.into())),
    Entry("version-unknown", config::REVISIONS, with_status(|answer| answer.version = "v3".into())),
    Entry("key-id-empty", config::ENDPOINT_SLICES, with_status(|answer| answer.key_id.clear())),
    Entry("key-id-long", config::STORAGE_CAPACITIES, with_status(|answer| answer.key_id = "k".repeat(1025))),
    Entry("key-id-other", config::POD_TEMPLATES, with_encrypt(|answer| answer.key_id = "k9-other".into())),
    Entry("ciphertext-empty", config::RESOURCE_QUOTAS, with_encrypt(|answer| answer.ciphertext.clear())),
    Entry("ciphertext-long", config::SERVICE_ACCOUNTS, with_encrypt(|answer| answer.ciphertext.resize(1025, 0))),
    Entry(
        "annotations-big",
        config::DAEMON_SETS,
        with_encrypt(|answer| annotate(answer, "a.example.com", ANNOTATIONS + 1)),
    ),
    Entry("annotations-name", config::REPLICA_SETS, with_encrypt(|answer| annotate(answer, "plain", 9))),
    Entry(
        "all-at-the-limit",
        config::INGRESSES,
        Faults {
            status: |answer| answer.key_id = "k".repeat(1024),
            encrypt: |answer| {
                answer.key_id = "k".repeat(1024);
                answer.ciphertext.resize(1024, 0);
                annotate(answer, "a.example.com", ANNOTATIONS);
            },
            ..Faults::NONE
        },
    ),
    Entry("refused", config::DISRUPTION_BUDGETS, Faults { refused: &[Method::Status], ..Faults::NONE }),
    Entry("encrypt-refused", config::LIMIT_RANGES, Faults { refused: &[Method::Encrypt], ..Faults::NONE }),
    Entry("decrypt-late", config::JOBS, Faults { delayed: &[Method::Decrypt], ..Faults::NONE }),
    Entry("decrypt-late-patient", config::CRON_JOBS, Faults { delayed: &[Method::Decrypt], ..Faults::NONE }),
    Entry(
        "seed-short",
        config::CONFIG_MAPS,
        Faults { decrypt: |answer| answer.plaintext.truncate(31), ..Faults::NONE },
    ),
    Entry("seed-wrong", config::DEPLOYMENTS, Faults { decrypt: |answer| answer.plaintext[0] ^= 1, ..Faults::NONE }),
    Entry("key-unknown", config::STATEFUL_SETS, Faults::NONE),
    Entry("list-broken", config::CLAIM_TEMPLATES, Faults::NONE),
    Entry("later-unwell", config::AUTOSCALERS, Faults::NONE),
    Entry("later-refused", config::VOLUME_CLAIMS, Faults::NONE),
    Entry("later-version", config::ENDPOINTS, Faults::NONE),
    Entry("later-promoted", config::SECRETS, Faults::NONE),
];

const fn with_status(status: fn(&mut super::kms::StatusResponse)) -> Faults {
    Faults { status, ..Faults::NONE }
}

const fn with_encrypt(encrypt: fn(&mut super::kms::EncryptResponse)) -> Faults {
    Faults { encrypt, ..Faults::NONE }
}

/// Adds an annotation whose name and value have `size` bytes together.
fn annotate(answer: &mut super::kms::EncryptResponse, name: &str, size: usize) {
    answer.annotations.insert(name.to_owned(), vec![1; size - name.len()]);
}

/// The rig that the tests of faults share.
pub(super) static MEDDLED: LazyLock<Meddled> = LazyLock::new(|| {
    let meddled = Meddled::start();
    meddled.turn();
    meddled
});

pub(super) struct Meddled {
    meddlers: BTreeMap<&'static str, Meddler>,
    pub(super) front: Front,
    pub(super) api: ApiServer,
    pub(super) etcd: Etcd,
    /// The plugins of two installations, because each of them has only one key yet.
    _plugins: [Plugin; 2],
    pub(super) run: Run,
}

/// The name of an object under each provider that is well at first.
pub(super) const EARLY: &str = "early";

impl Meddled {
    fn start() -> Self {
        let run = Run::new().unwrap();
        let etcd = Etcd::start(&run, 1).unwrap();
        let plugins = ["one", "two"].map(|name| serving(&run, name));
        let sockets = ["one", "two"].map(|name| run.path(format!("{name}.sock")));
        let meddlers: BTreeMap<_, _> = (0_usize..)
            .zip(ENTRIES)
            .map(|(number, Entry(name, _, faults))| {
                // The backends alternate, because a plugin has 16 places for connections.
                let (first, second) = (&sockets[number % 2], &sockets[1 - number % 2]);
                let socket = run.socket(&format!("m{number}.sock")).unwrap();
                (*name, Meddler::start(&socket, &[first, second], *faults))
            })
            .collect();
        let api = ApiServer::on(&run, &etcd).encryption_config(configuration(&run, &meddlers)).launch().unwrap();
        let front = Front::of(&run, &api);
        front.wait_until_alive();
        Self { meddlers, front, api, etcd, _plugins: plugins, run }
    }

    /// Begins the faults of the providers that were well, after an object was written under each of them.
    fn turn(&self) {
        for name in ["later-unwell", "later-refused", "later-version"] {
            self.create(name, EARLY).expect(201);
        }
        for name in STALE {
            let kind = kind("later-promoted");
            self.front.post(&kind.collection(), &immutable_if(name == "by-metadata", &kind.object(name))).expect(201);
        }
        self.meddler("later-unwell").meddle(with_status(|answer| answer.healthz = UNWELL.into()));
        self.meddler("later-version").meddle(with_status(|answer| answer.version = "v2beta1".into()));
        self.meddler("later-refused").meddle(Faults { refused: &[Method::Status], ..Faults::NONE });
        self.meddler("later-promoted").meddle(Faults { backend: 1, ..Faults::NONE });
    }

    pub(super) fn meddler(&self, name: &str) -> &Meddler {
        &self.meddlers[name]
    }

    /// Creates an object of the kind that is under the provider `name`.
    pub(super) fn create(&self, name: &str, object: &str) -> Answer {
        let kind = kind(name);
        self.front.post(&kind.collection(), &kind.object(object))
    }

    pub(super) fn read(&self, name: &str, object: &str) -> Answer {
        self.front.get(&kind(name).path(object))
    }

    /// Puts an object into etcd as if it had been written under the provider `name`, with a seed of its own.
    pub(super) fn put_sealed(&self, name: &str, object: &str, seed: &Seed) {
        let (kind, etcd_key) = (kind(name), kind(name).etcd_key(object));
        let value = seed.seal(name, &etcd_key, kind.object(object).as_bytes());
        self.etcd.put(&etcd_key, &value).unwrap();
    }

    /// Returns a seed that the plugin of the provider `name` has wrapped.
    pub(super) fn seed(&self, name: &str) -> Seed {
        Seed::one_wrapped_by(self.meddler(name).backend())
    }

    /// Returns the text of the health check about the provider `name`. It is empty if the provider is healthy.
    pub(super) fn health(&self, name: &str) -> String {
        let said = self.front.providers().body;
        let number = ENTRIES.iter().position(|entry| entry.0 == name).unwrap();
        let ours = said.split_once(&format!("kms-provider-{number}: ")).map_or("", |(_, rest)| rest);
        ours.split_once(", kms-provider-").map_or(ours, |(ours, _)| ours).to_owned()
    }
}

/// The objects that are under the first key when the second one is promoted.
pub(super) const STALE: [&str; 7] =
    ["by-put", "by-merge", "by-strategic", "by-json", "by-apply", "by-metadata", "untouched"];

pub(super) fn kind(name: &str) -> Kind {
    ENTRIES.iter().find(|entry| entry.0 == name).unwrap().1
}

fn immutable_if(immutable: bool, object: &str) -> String {
    if immutable { object.replacen('{', r#"{"immutable":true,"#, 1) } else { object.to_owned() }
}

/// Returns a claviger that serves on `NAME.sock`.
pub(super) fn serving(run: &Run, name: &str) -> Plugin {
    let mut plugin = Plugin::init(run, BINARY, name).unwrap();
    plugin.serve(run.socket(&format!("{name}.sock")).unwrap().display().to_string()).unwrap();
    plugin
}

fn configuration(run: &Run, meddlers: &BTreeMap<&str, Meddler>) -> std::path::PathBuf {
    let resources: Vec<[&str; 1]> = ENTRIES.iter().map(|entry| [entry.1.resource]).collect();
    let providers = ENTRIES.iter().zip(&resources).map(|(Entry(name, ..), resources)| {
        let timeout = (*name == "decrypt-late-patient").then_some("20s");
        Provider { name, resources, socket: meddlers[name].socket(), timeout }
    });
    config::write(run, "meddled.yaml", &providers.collect::<Vec<_>>())
}
