//! Hints for an etcd or a snapshot that cannot be scanned.

use std::{io, path::Path};

use super::{
    super::given::quoted,
    exit::{Exit, Explain, Explanation, with},
    serving::LIMITS,
};
use crate::{
    etcd::{EtcdError, ServersError},
    scan::{live::LiveError, needs::NeedsError, snapshot::SnapshotError},
};

impl Explain for NeedsError {
    fn explain(&self) -> Explanation {
        match self {
            Self::Snapshot { file, source } => snapshot(source, file),
            Self::Live(error) => error.explain(),
            Self::Random(error) => error.explain(),
        }
    }
}

/// The hint for the snapshot `file`.
pub(super) fn snapshot(error: &SnapshotError, file: &Path) -> Explanation {
    match error {
        SnapshotError::Running => {
            with(Exit::Refused, "etcdctl snapshot save FILE, and scan that; or scan it live: --etcd-servers")
        }
        SnapshotError::Kind if file.is_dir() => with(Exit::Usage, "name the file in it: member/snap/db"),
        SnapshotError::Packed(packing) => {
            (Exit::Usage, Some(format!("unpack it first: {} {}", packing.unpack(), quoted(file))))
        }
        SnapshotError::Kind => with(Exit::Usage, "give a file that `etcdctl snapshot save` wrote"),
        SnapshotError::Open(error) if error.kind() == io::ErrorKind::NotFound => with(Exit::Usage, "check the path"),
        SnapshotError::Open(_) => with(Exit::Disk, "check whether this user may read it"),
        SnapshotError::Bolt(_) => {
            with(Exit::Damaged, "is it etcd's? take another snapshot: etcdctl snapshot save FILE")
        }
    }
}

impl Explain for LiveError {
    fn explain(&self) -> Explanation {
        match self {
            Self::Etcd(EtcdError::Unreachable { .. }) => with(
                Exit::Unreachable,
                "are address and certificates those of the API server? --apiserver-manifest FILE takes them",
            ),
            Self::Servers(ServersError::NoAuthority { .. }) => with(Exit::Usage, "give it: --etcd-cafile FILE"),
            Self::Servers(ServersError::Certificates { .. }) => with(Exit::Usage, "are they PEM?"),
            Self::Servers(ServersError::File { .. }) => {
                with(Exit::Disk, "check the path, and whether this user may read it")
            }
            Self::Servers(ServersError::Endpoint { url }) => (Exit::Usage, Some(address(url))),
            Self::Servers(ServersError::HalfIdentity) => {
                with(Exit::Usage, "give both: --etcd-certfile FILE --etcd-keyfile FILE")
            }
            Self::Etcd(EtcdError::Refused { .. }) => {
                with(Exit::Refused, "is the client certificate the API server's? --apiserver-manifest FILE takes it")
            }
            Self::Etcd(EtcdError::OtherCluster { .. }) => {
                with(Exit::Refused, "name the endpoints of one cluster only: --etcd-servers")
            }
            Self::Etcd(EtcdError::Compacted(_)) => {
                with(Exit::Refused, "run it again: etcd was compacted during the scan")
            }
            Self::Etcd(EtcdError::TooLarge { url }) => (
                Exit::Refused,
                Some(format!("scan a snapshot instead: etcdctl --endpoints {} snapshot save FILE", quoted(url))),
            ),
            Self::Etcd(EtcdError::CutShort { .. }) => {
                with(Exit::Unreachable, "run it again; if it is kine, does it lose the connection to its database?")
            }
            Self::Order { .. }
            | Self::Etcd(EtcdError::Stuck { .. } | EtcdError::Endless { .. } | EtcdError::Crowded { .. }) => with(
                Exit::Damaged,
                "is this etcd, and is there a proxy before it? name the members themselves: --etcd-servers",
            ),
            Self::Runtime(_) => with(Exit::Refused, LIMITS),
        }
    }
}

/// How the address of an etcd is written. If only the scheme is missing, it is the same address with one.
fn address(url: &str) -> String {
    if url.is_empty() || url.contains("://") || url.starts_with(['/', '-', ':']) {
        return "give its address: --etcd-servers https://127.0.0.1:2379".to_owned();
    }
    let address = |scheme: &str| quoted(format!("{scheme}://{url}"));
    format!("say how it is reached: --etcd-servers {}, or {} if it has no TLS", address("https"), address("http"))
}
