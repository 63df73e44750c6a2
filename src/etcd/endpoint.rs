//! Parses the address of an endpoint, reads the certificates for TLS, and connects.

use std::{
    error::Error,
    fmt, io,
    path::{Path, PathBuf},
    slice,
    time::Duration,
};

use tonic::transport::{self, Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use zeroize::Zeroizing;

use super::{Servers, socket::SocketConnector};
use crate::{durable::read_input, telemetry::causes};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The greatest length of a certificate or key file in bytes.
const PEM_MAX: usize = 1 << 20;

/// The flow-control window in bytes: pages are large, and etcd sends one page while the one before is still being read.
const WINDOW: u32 = 4 << 20;

/// The first line of a certificate and of a private key in PEM. A key with a passphrase has another first line.
const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----";
const PRIVATE_KEYS: [&str; 3] =
    ["-----BEGIN PRIVATE KEY-----", "-----BEGIN RSA PRIVATE KEY-----", "-----BEGIN EC PRIVATE KEY-----"];

/// The prefixes of an address of a Unix socket, and whether each means TLS. k0s leaves out the slashes.
const UNIX: [(&str, bool); 4] = [("unixs://", true), ("unixs:", true), ("unix://", false), ("unix:", false)];

/// Why a client of these servers cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServersError {
    /// There is no endpoint, or its address has another scheme.
    #[error("etcd endpoint {url:?}: expected http://host:port, https://host:port, unix:///path or unixs:///path")]
    Endpoint {
        /// The address, as it was given.
        url: String,
    },
    /// The endpoint has the right scheme, and is not a URL.
    #[error("etcd endpoint {url:?}: {}", causes(source))]
    Url {
        /// The address, as it was given.
        url: String,
        /// The reason of the URL parser.
        source: transport::Error,
    },
    /// The address asks for TLS, and no certificate authority is given.
    #[error("etcd endpoint {url:?}: TLS needs the certificate authority that signs etcd's certificate")]
    NoAuthority {
        /// The address of the endpoint.
        url: String,
    },
    /// No certificate can be valid for the name of this Unix socket.
    #[error("etcd endpoint {url:?}: no certificate can be for the socket's name: {}", reason(source))]
    SocketName {
        /// The address of the endpoint.
        url: String,
        /// The reason why the name is not that of a server.
        source: transport::Error,
    },
    /// The file of a certificate or of a key is empty.
    #[error("{} is empty, expected {expected}", path.display())]
    Empty {
        /// The path of the file.
        path: PathBuf,
        /// The kind of PEM that was expected.
        expected: Pem,
    },
    /// A file contains no certificate or no key in PEM.
    #[error("{} contains something else, expected {expected}", path.display())]
    NotPem {
        /// The path of the file.
        path: PathBuf,
        /// The kind of PEM that was expected.
        expected: Pem,
    },
    /// The key does not belong to the certificate, or one of the two is damaged.
    #[error("{} and {} cannot be used together: {}", certificate.display(), key.display(), reason(source))]
    Identity {
        /// The path of the certificate's file.
        certificate: PathBuf,
        /// The path of the key's file.
        key: PathBuf,
        /// The reason of the TLS library.
        source: transport::Error,
    },
    /// A certificate or a key cannot be read.
    #[error("{}: {source}", path.display())]
    File {
        /// The path of the file.
        path: PathBuf,
        /// The reason that the system gives.
        source: io::Error,
    },
    /// Only one of client certificate and key was given.
    #[error("a client certificate without its key, or a key without its certificate")]
    HalfIdentity,
}

/// Returns why certificates cannot be used. The text of the library itself says only that the transport failed.
fn reason(error: &transport::Error) -> String {
    error.source().map_or_else(|| error.to_string(), causes)
}

/// The kind of object that a PEM file contains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pem {
    /// An X.509 certificate.
    Certificate,
    /// A private key without a passphrase.
    PrivateKey,
}

impl Pem {
    fn is_in(self, bytes: &[u8]) -> bool {
        let begins = match self {
            Self::Certificate => slice::from_ref(&CERTIFICATE),
            Self::PrivateKey => &PRIVATE_KEYS[..],
        };
        begins.iter().any(|begin| bytes.windows(begin.len()).any(|part| part == begin.as_bytes()))
    }
}

impl fmt::Display for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Certificate => "a certificate in PEM",
            Self::PrivateKey => "a private key in PEM without a passphrase",
        })
    }
}

/// An endpoint, and its Unix socket, if it has one.
#[derive(Debug)]
pub(super) struct EtcdTarget {
    endpoint: Endpoint,
    socket: Option<PathBuf>,
}

impl EtcdTarget {
    /// Parses an address. As in etcd's own client, `http` never uses TLS, `https` and `unixs` always do, and `unix`
    /// does if there is a certificate authority.
    ///
    /// # Errors
    /// When it is no address, or when TLS needs files that are missing or cannot be used.
    pub(super) fn new(url: &str, tls: Option<&ClientTlsConfig>) -> Result<Self, ServersError> {
        let malformed = || ServersError::Endpoint { url: url.to_owned() };
        let socket = UNIX.iter().find_map(|(scheme, is_tls)| Some((url.strip_prefix(scheme)?, *is_tls)));
        let (endpoint, tls, path) = match socket {
            Some((path, _)) if path.is_empty() || path.ends_with('/') => return Err(malformed()),
            Some((path, is_tls)) => {
                let tls = tls.map(|tls| tls.clone().domain_name(name_of(path)));
                // The URI says whether to use TLS. The server sees `localhost` as authority.
                let uri = if is_tls || tls.is_some() { "https://localhost" } else { "http://localhost" };
                (Endpoint::from_static(uri), tls, Some(PathBuf::from(path)))
            }
            None if !url.starts_with("https://") && !url.starts_with("http://") => return Err(malformed()),
            None => {
                let no_url = |source| ServersError::Url { url: url.to_owned(), source };
                (Endpoint::from_shared(url.to_owned()).map_err(no_url)?, tls.cloned(), None)
            }
        };
        let is_tls = endpoint.uri().scheme_str() == Some("https");
        let endpoint = match (is_tls, tls) {
            (false, _) => endpoint,
            (true, None) => return Err(ServersError::NoAuthority { url: url.to_owned() }),
            (true, Some(tls)) => {
                // `tls` has tried the certificates and the key already, so only the name can be wrong.
                let no_name = |source| ServersError::SocketName { url: url.to_owned(), source };
                endpoint.tls_config(tls).map_err(no_name)?
            }
        };
        Ok(Self { endpoint: tuned(endpoint), socket: path })
    }

    /// Connects to the endpoint.
    ///
    /// # Errors
    /// When nobody listens there, or no secure connection comes about.
    pub(super) async fn connect(&self) -> Result<Channel, transport::Error> {
        match &self.socket {
            Some(path) => self.endpoint.connect_with_connector(SocketConnector::new(path.clone())).await,
            None => self.endpoint.connect().await,
        }
    }
}

/// Reads the certificates, and parses the addresses of all endpoints. Returns each with its address as it was given.
///
/// # Errors
/// When there is no endpoint, one of them is no address, or a certificate or key cannot be used.
pub(super) fn targets(servers: &Servers) -> Result<Vec<(String, EtcdTarget)>, ServersError> {
    let tls = tls(servers)?;
    let targets = servers.urls.iter().map(|url| Ok((url.clone(), EtcdTarget::new(url, tls.as_ref())?)));
    let targets: Vec<_> = targets.collect::<Result<_, ServersError>>()?;
    if targets.is_empty() { Err(ServersError::Endpoint { url: String::new() }) } else { Ok(targets) }
}

fn tuned(endpoint: Endpoint) -> Endpoint {
    endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .tcp_nodelay(true)
}

/// Returns the name that the certificate of a server at this socket must have: the name of the file without a port, as
/// in etcd's own client. The certificate of k3s is for `kine.sock`.
fn name_of(path: &str) -> &str {
    let file = Path::new(path).file_name().and_then(|file| file.to_str()).unwrap_or(path);
    match file.rsplit_once(':') {
        Some((name, _)) if !name.is_empty() && !name.contains(':') => name,
        _ => file,
    }
}

/// Reads the certificates and the key, and tries them.
///
/// # Errors
/// When a file cannot be read or used, or only one of a certificate and its key was given.
pub(super) fn tls(servers: &Servers) -> Result<Option<ClientTlsConfig>, ServersError> {
    let Some(cafile) = &servers.cafile else { return Ok(None) };
    let authority = Certificate::from_pem(read_pem(cafile, Pem::Certificate)?);
    let tls = ClientTlsConfig::new().ca_certificate(authority);
    let damaged = |_| ServersError::NotPem { path: cafile.clone(), expected: Pem::Certificate };
    attempt(&tls).map_err(damaged)?;
    match (&servers.certfile, &servers.keyfile) {
        (Some(certificate), Some(key)) => {
            let (chain, secret) = (read_pem(certificate, Pem::Certificate)?, read_pem(key, Pem::PrivateKey)?);
            let tls = tls.identity(Identity::from_pem(chain, secret));
            let (certificate, key) = (certificate.clone(), key.clone());
            attempt(&tls).map_err(|source| ServersError::Identity { certificate, key, source })?;
            Ok(Some(tls))
        }
        (None, None) => Ok(Some(tls)),
        _ => Err(ServersError::HalfIdentity),
    }
}

fn read_pem(path: &Path, expected: Pem) -> Result<Zeroizing<Vec<u8>>, ServersError> {
    let bytes = read_input(path, PEM_MAX).map_err(|source| ServersError::File { path: path.to_owned(), source })?;
    let path = || path.to_owned();
    match bytes {
        bytes if bytes.trim_ascii().is_empty() => Err(ServersError::Empty { path: path(), expected }),
        bytes if !expected.is_in(&bytes) => Err(ServersError::NotPem { path: path(), expected }),
        bytes => Ok(bytes),
    }
}

/// Checks whether certificates and a key can be used, independently of an endpoint.
fn attempt(tls: &ClientTlsConfig) -> Result<(), transport::Error> {
    Endpoint::from_static("https://localhost").tls_config(tls.clone()).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(url: &str, has_tls: bool) -> Result<(String, Option<String>), String> {
        let tls = has_tls.then(ClientTlsConfig::new);
        let target = EtcdTarget::new(url, tls.as_ref()).map_err(|error| error.to_string())?;
        let path = target.socket.map(|path| path.display().to_string());
        Ok((target.endpoint.uri().to_string(), path))
    }

    #[test]
    fn an_address_is_of_a_host_or_of_a_socket_and_says_whether_tls_is_used() {
        for (url, has_tls, uri, path) in [
            ("http://127.0.0.1:2379", true, "http://127.0.0.1:2379/", None),
            ("https://[::1]:2379", true, "https://[::1]:2379/", None),
            ("http://[::1]:2379", false, "http://[::1]:2379/", None),
            ("unix:///run/kine.sock", false, "http://localhost/", Some("/run/kine.sock")),
            ("unix:///run/kine.sock", true, "https://localhost/", Some("/run/kine.sock")),
            ("unixs:///run/kine.sock", true, "https://localhost/", Some("/run/kine.sock")),
            ("unix:///run/kine.sock:12379", false, "http://localhost/", Some("/run/kine.sock:12379")),
            ("unix://kine.sock", false, "http://localhost/", Some("kine.sock")),
            ("unixs://a/kine.sock", true, "https://localhost/", Some("a/kine.sock")),
            ("unix:/run/k0s/kine.sock:2379", false, "http://localhost/", Some("/run/k0s/kine.sock:2379")),
            ("unixs:kine.sock", true, "https://localhost/", Some("kine.sock")),
        ] {
            let expected = (uri.to_owned(), path.map(ToOwned::to_owned));
            assert_eq!(target(url, has_tls), Ok(expected), "{url}");
        }
    }

    #[test]
    fn what_is_no_address_and_tls_without_an_authority_are_refused() {
        for url in ["", "127.0.0.1:2379", "/run/kine.sock", "unix://", "unix:///", "unixs:", "ftp://a"] {
            let expected = format!(
                "etcd endpoint {url:?}: expected http://host:port, https://host:port, unix:///path or unixs:///path"
            );
            assert_eq!(target(url, true), Err(expected));
        }
        for (url, reason) in [
            ("http://", "invalid URI: empty string"),
            ("http://[::1", "invalid URI: invalid authority"),
            ("http://a b", "invalid URI: invalid uri character"),
        ] {
            assert_eq!(target(url, true), Err(format!("etcd endpoint {url:?}: {reason}")));
        }
        for url in ["https://[::1]:2379", "unixs:///run/kine.sock"] {
            let expected =
                format!("etcd endpoint {url:?}: TLS needs the certificate authority that signs etcd's certificate");
            assert_eq!(target(url, false), Err(expected));
        }
    }

    #[test]
    fn a_certificate_is_for_the_file_name_of_the_socket() {
        for (path, name) in [
            ("/run/kine.sock", "kine.sock"),
            ("kine.sock", "kine.sock"),
            ("/run/kine.sock:12379", "kine.sock"),
            ("/run/localhost:2379", "localhost"),
            ("/run/:1", ":1"),
            ("/run/a:b:1", "a:b:1"),
        ] {
            assert_eq!(name_of(path), name);
        }
        let unusable = target("unixs:///run/not a name", true).unwrap_err();
        let expected =
            "etcd endpoint \"unixs:///run/not a name\": no certificate can be for the socket's name: invalid dns name";
        assert_eq!(unusable, expected);
    }

    #[test]
    fn a_file_that_is_no_certificate_or_key_is_named_with_what_is_wrong() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let damaged = format!("{CERTIFICATE}\n!\n-----END CERTIFICATE-----\n");
        let sealed = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
        for (name, text) in [("empty", "\n"), ("der", "\u{30}\u{82}"), ("damaged", &damaged), ("sealed", sealed)] {
            std::fs::write(at(name), text).unwrap();
        }
        let [ours, other] = [(); 2].map(|()| rcgen::generate_simple_self_signed(vec!["a".to_owned()]).unwrap());
        std::fs::write(at("ca"), ours.cert.pem()).unwrap();
        std::fs::write(at("key"), ours.signing_key.serialize_pem()).unwrap();
        std::fs::write(at("other"), other.signing_key.serialize_pem()).unwrap();
        let said = |ca: &str, identity: Option<(&str, &str)>| {
            let (certfile, keyfile) = identity.map(|(certificate, key)| (at(certificate), at(key))).unzip();
            let servers = Servers { urls: vec![], cafile: Some(at(ca)), certfile, keyfile };
            let error = tls(&servers).err().map(|error| error.to_string());
            error.map(|error| error.replace(&format!("{}/", directory.path().display()), ""))
        };
        assert_eq!([said("ca", None), said("ca", Some(("ca", "key")))], [None, None]);
        for (ca, identity, expected) in [
            ("empty", None, "empty is empty, expected a certificate in PEM"),
            ("der", None, "der contains something else, expected a certificate in PEM"),
            ("damaged", None, "damaged contains something else, expected a certificate in PEM"),
            ("ca", Some(("key", "key")), "key contains something else, expected a certificate in PEM"),
            ("ca", Some(("ca", "empty")), "empty is empty, expected a private key in PEM without a passphrase"),
            (
                "ca",
                Some(("ca", "sealed")),
                "sealed contains something else, expected a private key in PEM without a passphrase",
            ),
            (
                "ca",
                Some(("ca", "other")),
                "ca and other cannot be used together: keys may not be consistent: KeyMismatch",
            ),
            ("ca", Some(("damaged", "key")), "damaged and key cannot be used together: Error parsing TLS certificate."),
        ] {
            assert_eq!(said(ca, identity).as_deref(), Some(expected));
        }
    }
}
