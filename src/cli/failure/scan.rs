//! Hints for an etcd or a snapshot that cannot be scanned.

use std::path::Path;

#[cfg(feature = "reencrypt")]
use super::serving::untrusted;
use super::{
    super::given::quoted,
    exit::{Exit, Explain, Explanation, refused, with},
    files::{LIMITS, reading, reading_settings, unreadable},
};
#[cfg(feature = "reencrypt")]
use crate::apiclient::AccessError;
use crate::{
    etcd::{EtcdError, Pem, ServersError},
    proof::{ReadReportError, WriteReportError},
    scan::{live::LiveError, needs::NeedsError, place::ScanPlaceError, snapshot::SnapshotError},
    text::TextError,
};

impl Explain for NeedsError {
    fn explain(&self) -> Explanation {
        match self {
            Self::Scan(error) => error.explain(),
            Self::Random(error) => error.explain(),
        }
    }
}

impl Explain for ScanPlaceError {
    fn explain(&self) -> Explanation {
        match self {
            Self::Snapshot { file, source } => snapshot(source, file),
            Self::Live(error) => error.explain(),
        }
    }
}

impl Explain for WriteReportError {
    fn explain(&self) -> Explanation {
        match self {
            Self::TooLong { .. } => with(
                Exit::Damaged,
                "etcd contains names that no API server makes; to list the objects that have them: claviger scan --list",
            ),
            Self::Memory(error) => error.explain(),
        }
    }
}

/// The hint for a file that is not a report.
pub(in crate::cli) const NO_REPORT: &str = "give a file that an earlier verification wrote, by --to or --html";

impl Explain for ReadReportError {
    fn explain(&self) -> Explanation {
        const AGAIN: &str = "it proves nothing; make another one: claviger verify --to FILE";
        match self {
            Self::Text(TextError::TooNew { .. }) => refused("upgrade claviger on this node"),
            Self::Text(TextError::Foreign(_)) => with(Exit::Damaged, NO_REPORT),
            Self::OtherKeyring { .. } => {
                with(Exit::WrongKey, "check it with the keyring that made it: --state-dir DIR")
            }
            Self::Text(_) | Self::EarlierRootKey | Self::OtherRootKey | Self::NotCanonical => {
                with(Exit::WrongKey, AGAIN)
            }
            Self::Memory(error) => error.explain(),
        }
    }
}

#[cfg(feature = "reencrypt")]
impl Explain for AccessError {
    fn explain(&self) -> Explanation {
        match self {
            Self::NoKubeconfig => with(Exit::Usage, "give one: --kubeconfig FILE"),
            Self::Kubeconfig { .. } | Self::Token { .. } => {
                with(Exit::Usage, "give a file and a context that kubectl takes: --kubeconfig FILE --context NAME")
            }
            Self::Untrusted { path, reason } => with(Exit::Usage, &untrusted(path, reason)),
            Self::ServiceAccount(_) => with(Exit::Usage, "give a kubeconfig: --kubeconfig FILE"),
            Self::Credentials(_) => with(Exit::Usage, "try them with kubectl: kubectl auth whoami"),
        }
    }
}

/// Returns the hint for the snapshot `file`, which cannot be scanned.
fn snapshot(error: &SnapshotError, file: &Path) -> Explanation {
    match error {
        SnapshotError::Running => with(
            Exit::Refused,
            "take a snapshot, and scan that: etcdctl snapshot save FILE; or scan it live: --etcd-servers URL",
        ),
        SnapshotError::Kind if file.is_dir() => with(Exit::Usage, "name the file in it: member/snap/db"),
        SnapshotError::Packed(packing) => {
            with(Exit::Usage, &format!("unpack it first: {} {}", packing.unpack(), quoted(file)))
        }
        SnapshotError::Kind => with(Exit::Usage, "give a file that `etcdctl snapshot save` wrote"),
        SnapshotError::Open(error) => Explanation { exit: reading(error), hint: unreadable(file, error) },
        SnapshotError::Bolt(_) => with(
            Exit::Damaged,
            "if this is a file of etcd, it is damaged; take another snapshot: etcdctl snapshot save FILE",
        ),
    }
}

impl Explain for LiveError {
    fn explain(&self) -> Explanation {
        match self {
            Self::Etcd(error) => error.explain(),
            Self::Servers(error) => error.explain(),
            Self::Order { .. } => with(Exit::Damaged, NOT_ETCD),
            Self::Runtime(_) => with(Exit::Refused, LIMITS),
        }
    }
}

/// The hint for answers that cannot come from etcd.
const NOT_ETCD: &str = "connect to etcd itself, not through a proxy: --etcd-servers URL";

impl Explain for ServersError {
    fn explain(&self) -> Explanation {
        match self {
            Self::NoAuthority { .. } => with(Exit::Usage, "give it: --etcd-cafile FILE"),
            Self::Empty { .. } => with(Exit::Usage, "use the files of the API server: --apiserver-manifest FILE"),
            Self::NotPem { path, expected } => with(Exit::Usage, &to_pem(path, *expected)),
            Self::Identity { certificate, key, .. } => with(Exit::Usage, &compared(certificate, key)),
            Self::SocketName { .. } => with(
                Exit::Usage,
                "give the socket a name that its certificate can be for: --etcd-servers unixs:///run/kine.sock",
            ),
            Self::File { path, source } => {
                Explanation { exit: reading_settings(source), hint: unreadable(path, source) }
            }
            Self::Endpoint { url } | Self::Url { url, .. } => with(Exit::Usage, &address(url)),
            Self::HalfIdentity => with(Exit::Usage, "give both: --etcd-certfile FILE --etcd-keyfile FILE"),
        }
    }
}

impl Explain for EtcdError {
    fn explain(&self) -> Explanation {
        match self {
            Self::Unreachable { .. } => with(
                Exit::Unreachable,
                "use the address and the certificates of the API server: --apiserver-manifest FILE",
            ),
            Self::Refused { .. } => {
                with(Exit::Refused, "use the client certificate of the API server: --apiserver-manifest FILE")
            }
            Self::OtherCluster { .. } => with(Exit::Refused, "name the endpoints of one cluster only: --etcd-servers"),
            Self::Compacted(_) => with(Exit::Refused, "run it again: etcd was compacted during the scan"),
            Self::TooLarge { url } => with(Exit::Refused, &snapshot_of(url)),
            Self::Slow { url, .. } => with(Exit::Unreachable, &snapshot_of(url)),
            Self::CutShort { .. } | Self::NotWritten { .. } => {
                with(Exit::Unreachable, "run it again; if it is kine, check its connection to the database")
            }
            Self::Stuck { .. }
            | Self::Endless { .. }
            | Self::Incredible { .. }
            | Self::Crowded { .. }
            | Self::NotTheKey { .. } => with(Exit::Damaged, NOT_ETCD),
        }
    }
}

fn to_pem(path: &Path, expected: Pem) -> String {
    let path = quoted(path);
    match expected {
        Pem::Certificate => format!("convert it to PEM: openssl x509 -in {path} -outform pem"),
        Pem::PrivateKey => format!("write it in PEM without a passphrase: openssl pkey -in {path} -out FILE"),
    }
}

/// Returns the commands that show whether a key belongs to a certificate.
fn compared(certificate: &Path, key: &Path) -> String {
    let (certificate, key) = (quoted(certificate), quoted(key));
    format!(
        "give the key that belongs to the certificate; these print the same if it does: openssl x509 -in {certificate} -noout \
         -pubkey; openssl pkey -in {key} -pubout"
    )
}

fn snapshot_of(url: &str) -> String {
    format!("scan a snapshot instead: etcdctl --endpoints {} snapshot save FILE", quoted(url))
}

/// Returns the hint for the address of an etcd. If only the scheme is missing, it contains the same address with a
/// scheme.
fn address(url: &str) -> String {
    if url.is_empty() || url.contains("://") || url.starts_with(['/', '-', ':']) {
        return "give its address: --etcd-servers https://127.0.0.1:2379".to_owned();
    }
    let address = |scheme: &str| quoted(format!("{scheme}://{url}"));
    format!("say how it is reached: --etcd-servers {}, or {} if it has no TLS", address("https"), address("http"))
}
