//! Collects what a scan needs, from flags, files and the API server's manifest: where etcd is, what should be
//! encrypted, and which keys exist.

use std::path::{Path, PathBuf};

use crate::{
    config::Config,
    keyring::{
        key_id::KeyId,
        record::{self, RECORD_MAX},
        state::State,
    },
    scan::{
        coverage::{CONFIG_MAX, Coverage},
        judge::{Judge, KeyUse, KnownKeys},
        manifest::{KUBEADM, Override},
        needs::ScanPlace,
    },
};

use super::super::{
    etcd::Declared,
    failure::{Exit, Failure},
    files::{read_text, wrong},
};

/// What a scan needs.
pub(super) struct ScanInput {
    pub(super) place: ScanPlace,
    pub(super) prefix: String,
    pub(super) judge: Judge,
    /// What the operator should know about the input.
    pub(super) notes: Vec<String>,
}

impl ScanInput {
    /// Reads the files that are named, or that kubeadm writes.
    ///
    /// # Errors
    /// When nothing says where etcd is, or a file cannot be read or has wrong contents.
    pub(super) fn read(
        config: &Config,
        snapshot: Option<PathBuf>,
        keyring: Option<&Path>,
        primary: Option<KeyId>,
    ) -> Result<Self, Failure> {
        // A snapshot may belong to another cluster than this node, so its manifest is not read by default.
        let declared = Declared::read(&config.cluster, snapshot.is_some())?;
        let place = match snapshot {
            Some(file) => ScanPlace::Snapshot(file),
            None => ScanPlace::Etcd(declared.servers.ok_or_else(nowhere)?),
        };
        let keys = match (keyring, primary) {
            (Some(file), _) => Some(read_keys(&config.provider_name, file)?),
            (None, Some(key_id)) => Some(KnownKeys::primary(&config.provider_name, key_id.commitment_half())),
            (None, None) => None,
        };
        let coverage = declared.encryption_config.as_deref().map(read_coverage).transpose()?;
        let notes = declared.overrides.iter().map(elsewhere).collect();
        Ok(Self { place, prefix: declared.prefix, judge: Judge { coverage, keys }, notes })
    }
}

fn nowhere() -> Failure {
    let hint = "give --snapshot FILE, --etcd-servers URL, or --apiserver-manifest FILE";
    Failure::new(Exit::Usage, &format!("no option says where etcd is, and there is no {KUBEADM}"), hint.to_owned())
}

fn elsewhere(other: &Override) -> String {
    format!("{} is stored in another etcd, {}, which this scan did not read", other.resource, other.urls.join(", "))
}

fn read_coverage(path: &Path) -> Result<Coverage, Failure> {
    let hint = "kube-apiserver would refuse to start with it or to reload it";
    Coverage::parse(&read_text(path, CONFIG_MAX)?).map_err(|error| wrong(path, &error, Some(hint)))
}

fn read_keys(provider: &str, path: &Path) -> Result<KnownKeys, Failure> {
    let text = read_text(path, RECORD_MAX)?;
    let hint = "give the file `keyring` of a state directory, or a copy of it";
    let keys = record::outline(text.as_bytes()).map_err(|error| wrong(path, &error, Some(hint)))?;
    let key_use = |state| match state {
        Some(State::Primary) => KeyUse::Primary,
        Some(State::Pending | State::DecryptOnly) => KeyUse::Unwraps,
        Some(State::Disabled) => KeyUse::Disabled,
        None => KeyUse::Destroyed,
    };
    let uses = keys.into_iter().map(|(key_id, state)| (key_id.commitment_half(), key_use(state)));
    Ok(KnownKeys::keyring(provider, uses.collect()))
}
