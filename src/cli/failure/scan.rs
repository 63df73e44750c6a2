//! Hints for an etcd or a snapshot that cannot be scanned.

#[cfg(feature = "reencrypt")]
use std::io;
use std::path::Path;

use tonic::Code;

#[cfg(feature = "reencrypt")]
use super::serving::untrusted;
use super::{
    super::given::quoted,
    exit::{Exit, Explain, Explanation, refused, with},
    files::{LIMITS, reading, reading_settings, unreadable},
    silence::silent_etcd,
};
#[cfg(feature = "reencrypt")]
use crate::apiclient::{AccessError, CredentialsError, KubeconfigFault};
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
        const NEW_REPORT: &str = "it proves nothing; make another one: claviger verify --to FILE";
        match self {
            Self::Text(TextError::TooNew { .. }) => refused("upgrade claviger on this node"),
            Self::Text(TextError::Foreign(_)) => with(Exit::Damaged, NO_REPORT),
            Self::OtherKeyring { .. } => {
                with(Exit::WrongKey, "check it with the keyring that made it: --state-dir DIR")
            }
            Self::Text(_) | Self::EarlierRootKey | Self::OtherRootKey | Self::NotCanonical => {
                with(Exit::WrongKey, NEW_REPORT)
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
            Self::Kubeconfig { path, reason } => kubeconfig(path, reason),
            Self::Token { .. } => {
                with(Exit::Usage, "write the token without line breaks, or take another kubeconfig: --kubeconfig FILE")
            }
            Self::Untrusted { path, reason } => with(Exit::Usage, &untrusted(path, reason)),
            Self::ServiceAccount(_) => with(Exit::Usage, "give a kubeconfig: --kubeconfig FILE"),
            Self::Credentials(error) => with(Exit::Usage, credentials(error)),
        }
    }
}

/// Explains what is wrong with a kubeconfig. `path` is its path, or the value of `$KUBECONFIG`.
#[cfg(feature = "reencrypt")]
fn kubeconfig(path: &str, fault: &KubeconfigFault) -> Explanation {
    const ANOTHER: &str = "take another kubeconfig: --kubeconfig FILE";
    match fault {
        KubeconfigFault::Unread { kind, .. } => {
            let error = io::Error::from(*kind);
            let hint = unreadable(Path::new(path), &error);
            let hint = hint.map_or_else(|| ANOTHER.to_owned(), |hint| format!("{hint}; or {ANOTHER}"));
            with(reading_settings(&error), &hint)
        }
        KubeconfigFault::NotYaml(place) if place.is_empty() => with(Exit::Usage, ANOTHER),
        KubeconfigFault::NotYaml(_) => with(Exit::Usage, &format!("correct this line; or {ANOTHER}")),
        KubeconfigFault::NoCurrentContext { contexts } | KubeconfigFault::NoContext { contexts, .. } => {
            with(Exit::Usage, &of_contexts(contexts))
        }
        KubeconfigFault::NoCluster(_) | KubeconfigFault::NoServer => {
            with(Exit::Usage, &format!("name a context whose cluster is in the file: --context NAME; or {ANOTHER}"))
        }
        KubeconfigFault::Other(_) => {
            with(Exit::Usage, "give a file and a context that kubectl takes: --kubeconfig FILE --context NAME")
        }
    }
}

/// The greatest number of contexts that a hint names.
#[cfg(feature = "reencrypt")]
const CONTEXTS: usize = 5;

/// Returns the hint that names the contexts of a kubeconfig.
#[cfg(feature = "reencrypt")]
fn of_contexts(contexts: &[String]) -> String {
    let Some(first) = contexts.first() else {
        return "it has no contexts at all: take another kubeconfig: --kubeconfig FILE".to_owned();
    };
    let names: Vec<&str> = contexts.iter().take(CONTEXTS).map(String::as_str).collect();
    let more = if contexts.len() > CONTEXTS { ", and others" } else { "" };
    format!("the contexts that it has: {}{more}; name one: --context {}", names.join(", "), quoted(first))
}

/// Returns the message of the failure if a configuration would have the API server write encrypted values in plaintext.
#[cfg(feature = "reencrypt")]
pub(in crate::cli) fn written_in_plaintext(resource: &str) -> String {
    format!(
        "the EncryptionConfiguration puts identity first for {resource}: its encrypted values would be written in plaintext"
    )
}

/// Returns the hint for credentials that cannot be used.
#[cfg(feature = "reencrypt")]
pub(in crate::cli) fn credentials(error: &CredentialsError) -> &'static str {
    match error {
        CredentialsError::NotStarted(_) => {
            "the program is `exec.command` of the user in the kubeconfig: install it, or write its whole path there; or take another \
             kubeconfig: --kubeconfig FILE"
        }
        CredentialsError::Ended(_)
        | CredentialsError::NotCredentials
        | CredentialsError::NoTime
        | CredentialsError::NotJson
        | CredentialsError::NonePrinted => {
            "run the program as the kubeconfig does, and see what it prints: kubectl auth whoami; or take another kubeconfig: --kubeconfig \
             FILE"
        }
        CredentialsError::NoCommand => {
            "name the program in `exec.command` of the user; or take another kubeconfig: --kubeconfig FILE"
        }
        CredentialsError::Unsendable => {
            "write the token without line breaks, or take another kubeconfig: --kubeconfig FILE"
        }
        CredentialsError::TokenFile { .. } => {
            "`tokenFile` of the user in the kubeconfig has to name a file that this user may read; or take another kubeconfig: --kubeconfig \
             FILE"
        }
        CredentialsError::Kind => {
            "use a token, a client certificate or an exec program; or take another kubeconfig: --kubeconfig FILE"
        }
        CredentialsError::UnsendablePassword => {
            "write the user name and the password without line breaks, or take another kubeconfig: --kubeconfig FILE"
        }
        CredentialsError::Unusable(_) => {
            "client-certificate and client-key of the user in the kubeconfig have to be a pair, and the certificate has to be of X.509 version 3; \
             or take another kubeconfig: --kubeconfig FILE"
        }
    }
}

/// Returns the hint for a directory that was given as a snapshot.
fn file_in(directory: &Path) -> String {
    let database = directory.join("member/snap/db");
    if database.exists() {
        format!("if no etcd runs on it, name the file in it: {}", quoted(&database))
    } else {
        "name a file in it that `etcdctl snapshot save` wrote".to_owned()
    }
}

/// Returns the hint for the snapshot `file`, which cannot be scanned.
fn snapshot(error: &SnapshotError, file: &Path) -> Explanation {
    match error {
        SnapshotError::Running => with(
            Exit::Refused,
            "take a snapshot, and scan that: etcdctl snapshot save FILE; or scan it live: --etcd-servers URL",
        ),
        SnapshotError::Kind if file.is_dir() => with(Exit::Usage, &file_in(file)),
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
            Self::Unreachable { url, reason } => with(Exit::Unreachable, &silent_etcd(url, reason)),
            // An HTTP server that is no gRPC server answers like this.
            Self::Refused { reason, .. } if reason.contains("grpc-status header missing") => {
                with(Exit::Refused, NOT_ETCD)
            }
            Self::Refused { code, reason, .. } => with(Exit::Refused, refused_by_etcd(*code, reason)),
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

/// Returns the hint for a call that etcd refused. With authentication switched on, etcd calls a client without a user
/// an invalid argument.
fn refused_by_etcd(code: Code, reason: &str) -> &'static str {
    match code {
        Code::PermissionDenied | Code::Unauthenticated => OF_ETCD_USER,
        Code::InvalidArgument if reason.contains("user name is empty") => OF_ETCD_USER,
        Code::ResourceExhausted => "etcd has reached a limit: see what its log says, then run this again",
        _ => NOT_ETCD,
    }
}

/// The hint for an etcd that does not allow the call to this client.
const OF_ETCD_USER: &str = "use the client certificate of the API server: --apiserver-manifest FILE";

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
