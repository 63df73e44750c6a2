//! What a scan is given: where etcd is, what should be encrypted, and which keys there are; from flags, files and the static pod.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use crate::{
    config::{Cluster, Config},
    etcd::Servers,
    keyring::{
        key_id::KeyId,
        record::{self, RECORD_MAX},
        state::State,
    },
    scan::{
        coverage::{CONFIG_MAX, Coverage},
        judge::{Judge, Keys, Standing},
        manifest::{KUBEADM, MANIFEST_MAX, Manifest},
        names::DEFAULT_PREFIX,
    },
};

use super::super::failure::{Exit, Failure};

/// Where to look.
pub(super) enum Place {
    /// In a file.
    Snapshot(PathBuf),
    /// In a live etcd.
    Etcd(Servers),
}

/// All of it.
pub(super) struct Given {
    pub(super) place: Place,
    pub(super) prefix: String,
    pub(super) judge: Judge,
    /// What the operator should know of it.
    pub(super) notes: Vec<String>,
}

impl Given {
    /// Reads the files that are named, or that kubeadm would have written.
    ///
    /// # Errors
    /// When nobody says where etcd is, or a file cannot be read or is not what it should be.
    pub(super) fn read(
        config: &Config,
        snapshot: Option<PathBuf>,
        keyring: Option<&Path>,
        primary: Option<KeyId>,
    ) -> Result<Self, Failure> {
        let cluster = &config.cluster;
        let manifest = manifest(cluster, snapshot.is_some())?;
        let place = match (snapshot, cluster.etcd.urls.is_empty(), &manifest) {
            (Some(file), ..) => Place::Snapshot(file),
            (None, false, _) => Place::Etcd(cluster.etcd.clone()),
            (None, true, Some(manifest)) => Place::Etcd(manifest.servers.clone()),
            (None, true, None) => return Err(nowhere()),
        };
        let prefix = cluster.prefix.clone().or_else(|| manifest.as_ref()?.prefix.clone());
        let encryption_config =
            cluster.encryption_config.clone().or_else(|| manifest.as_ref()?.encryption_config.clone());
        let keys = match (keyring, primary) {
            (Some(file), _) => Some(read_keys(&config.provider_name, file)?),
            (None, Some(key_id)) => Some(Keys::primary(&config.provider_name, key_id.commitment_half())),
            (None, None) => None,
        };
        let judge = Judge { coverage: encryption_config.as_deref().map(read_coverage).transpose()?, keys };
        let notes = manifest.iter().flat_map(|manifest| manifest.overrides.iter().map(|one| elsewhere(one)));
        Ok(Self { place, prefix: prefix.unwrap_or_else(|| DEFAULT_PREFIX.to_owned()), judge, notes: notes.collect() })
    }
}

fn nowhere() -> Failure {
    let hint = "give --snapshot FILE, --etcd-servers URL, or --apiserver-manifest FILE";
    Failure::new(Exit::Usage, &format!("nobody says where etcd is, and there is no {KUBEADM}"), hint.to_owned())
}

fn elsewhere(over: &str) -> String {
    let (resource, servers) = over.split_once('#').unwrap_or((over, "another etcd"));
    let resource = resource.trim_matches('/');
    format!("{resource} is kept in {}, which this scan has not read", servers.replace(';', ", "))
}

fn manifest(cluster: &Cluster, has_snapshot: bool) -> Result<Option<Manifest>, Failure> {
    let path = match &cluster.manifest {
        Some(path) => path.as_path(),
        // A snapshot may be of another cluster than this node's.
        None if has_snapshot || !cluster.etcd.urls.is_empty() => return Ok(None),
        None if !Path::new(KUBEADM).exists() => return Ok(None),
        None => Path::new(KUBEADM),
    };
    let text = read(path, MANIFEST_MAX)?;
    Manifest::parse(&text).map(Some).map_err(|error| wrong(path, &error, None))
}

fn read_coverage(path: &Path) -> Result<Coverage, Failure> {
    let hint = "kube-apiserver would not start with it, or not reload it";
    Coverage::parse(&read(path, CONFIG_MAX)?).map_err(|error| wrong(path, &error, Some(hint)))
}

fn read_keys(provider: &str, path: &Path) -> Result<Keys, Failure> {
    let text = read(path, RECORD_MAX)?;
    let hint = "the file `keyring` of a state directory, or a copy of it";
    let keys = record::outline(text.as_bytes()).map_err(|error| wrong(path, &error, Some(hint)))?;
    let standing = |state| match state {
        Some(State::Primary) => Standing::Primary,
        Some(State::Pending | State::DecryptOnly) => Standing::Usable,
        Some(State::Disabled) => Standing::Disabled,
        None => Standing::Destroyed,
    };
    let standings = keys.into_iter().map(|(key_id, state)| (key_id.commitment_half(), standing(state)));
    Ok(Keys::keyring(provider, standings.collect()))
}

fn wrong(path: &Path, error: &impl std::fmt::Display, hint: Option<&str>) -> Failure {
    Failure::new(Exit::Damaged, &format!("{}: {error}", path.display()), hint.map(ToOwned::to_owned))
}

/// A file's text, which is wiped when it was read: an EncryptionConfiguration may hold keys.
fn read(path: &Path, limit: usize) -> Result<Zeroizing<String>, Failure> {
    let unreadable = |error: io::Error| {
        let exit = match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::IsADirectory => Exit::Usage,
            io::ErrorKind::FileTooLarge | io::ErrorKind::InvalidData => Exit::Damaged,
            io::ErrorKind::PermissionDenied => Exit::Refused,
            _ => Exit::Disk,
        };
        Failure::new(exit, &format!("reading {}: {error}", path.display()), None)
    };
    let mut text = Zeroizing::new(String::new());
    let file = File::open(path).map_err(unreadable)?;
    file.take(limit as u64 + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() > limit { Err(unreadable(io::ErrorKind::FileTooLarge.into())) } else { Ok(text) }
}
