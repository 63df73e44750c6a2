//! Collects what a verification needs: where etcd is, what has to be encrypted, and the keys of the keyring.

use crate::{
    apiserver::{FlagDoubt, Override},
    config::Config,
    etcd::Servers,
    keeper::Opened,
    keyring::{Entry, Keyring},
    plan::Timeouts,
    proof::{KeyringNow, MovedResource, ReadFile, Subject},
    scan::{
        judge::{Judge, KnownKeys},
        place::ScanPlace,
    },
};

use super::super::{
    etcd::Declared,
    failure::Failure,
    scanning::{ReadConfig, key_use, not_understood, nowhere, unconfigured},
};

/// The inputs of a verification.
pub(in crate::cli) struct VerifyInput {
    /// The etcds to scan, the main one first.
    pub(in crate::cli) places: Vec<ScanPlace>,
    /// The main etcd, if it is known.
    pub(in crate::cli) etcd: Option<Servers>,
    pub(in crate::cli) prefix: String,
    /// The place where the flags of kube-apiserver were found.
    pub(in crate::cli) flags: Option<String>,
    pub(in crate::cli) judge: Judge,
    pub(in crate::cli) subject: Subject,
    /// The time limits of the API servers.
    pub(in crate::cli) timeouts: Timeouts,
    /// Notes for the operator about the inputs.
    pub(in crate::cli) notes: Vec<String>,
}

impl VerifyInput {
    /// Reads the files that the flags name. `opened` is the keyring whose primary key all values should be under.
    ///
    /// # Errors
    /// When nothing says where etcd is or what has to be encrypted, or a file has wrong contents.
    pub(in crate::cli) fn read(config: &Config, opened: &Opened) -> Result<Self, Failure> {
        let declared = Declared::read(&config.cluster)?;
        let mut notes: Vec<String> = declared.doubts.iter().map(|doubt| not_understood(&declared, doubt)).collect();
        // A fault of the file is reported even if it is not known where etcd is.
        let read = ReadConfig::read(config, &declared)?;
        let places = declared.places().ok_or_else(|| nowhere(&notes))?;
        let read = read.ok_or_else(unconfigured)?;
        notes.extend(declared.found_in.is_none().then(|| OVERRIDES.to_owned()));
        let provider = &config.provider_name;
        let subject = Subject {
            keyring: keyring_now(opened),
            provider: provider.clone(),
            encryption_config: ReadFile { path: read.path, sha256: read.sha256 },
            is_provider_used: read.coverage.is_written_by(&format!("kms:v2:{provider}")),
            overrides: declared.overrides.iter().map(moved).collect(),
            are_flags_unclear: declared.doubts.iter().any(FlagDoubt::may_hide_values),
        };
        let timeouts = declared.timeouts(Some(&read.coverage));
        let keys = Some(known_keys(provider, &opened.keyring));
        let judge = Judge { coverage: Some(read.coverage), keys };
        Ok(Self {
            places,
            etcd: declared.servers,
            prefix: declared.prefix,
            flags: declared.found_in,
            judge,
            subject,
            timeouts,
            notes,
        })
    }
}

/// The note if the flags of kube-apiserver were not read.
const OVERRIDES: &str = "the flags of kube-apiserver were not read: if its --etcd-servers-overrides keep resources in other \
                         etcds, these were not verified";

fn keyring_now(opened: &Opened) -> KeyringNow {
    let keyring = &opened.keyring;
    let primary = keyring.primary();
    KeyringNow {
        uuid: keyring.uuid(),
        root_id: opened.report_root_id(),
        generation: keyring.generation(),
        record: opened.digest,
        restored: keyring.restored(),
        primary: primary.id(),
        commitment: primary.kek().commitment(),
    }
}

fn moved(Override { resource, urls }: &Override) -> MovedResource {
    MovedResource { resource: resource.clone(), addresses: urls.clone() }
}

fn known_keys(provider: &str, keyring: &Keyring) -> KnownKeys {
    let state = |entry: &Entry| match entry {
        Entry::Key(key) => Some(key.state()),
        Entry::Tomb(_) => None,
    };
    let uses = keyring.entries().iter().map(|entry| (entry.id().commitment_half(), key_use(state(entry))));
    KnownKeys::keyring(provider, uses.collect())
}
