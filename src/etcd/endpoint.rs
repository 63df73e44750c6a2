//! How to connect to an endpoint, and what secures the connection.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use tonic::transport::{self, Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use super::{Servers, socket::SocketConnector};
use crate::{durable::read_input, telemetry::causes};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest certificate or key that is read, in bytes.
const PEM_MAX: usize = 1 << 20;

/// Flow control, in bytes: pages are large, and etcd sends one while the one before is still being read.
const WINDOW: u32 = 4 << 20;

/// What an address of a Unix socket begins with, and whether it means TLS. k0s leaves out the slashes.
const UNIX: [(&str, bool); 4] = [("unixs://", true), ("unixs:", true), ("unix://", false), ("unix:", false)];

/// Why a client of these servers cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServersError {
    /// There is no endpoint, or it is no URL.
    #[error("etcd endpoint {url:?}: expected http://host:port, https://host:port, unix:///path or unixs:///path")]
    Endpoint {
        /// As it was given.
        url: String,
    },
    /// An https or unixs endpoint needs a certificate authority.
    #[error("etcd endpoint {url:?}: TLS needs the certificate authority that signs etcd's certificate")]
    NoAuthority {
        /// The endpoint.
        url: String,
    },
    /// The certificates or the key are no PEM, or do not fit each other.
    #[error("etcd endpoint {url:?}: its certificates or key cannot be used: {reason}")]
    Certificates {
        /// The endpoint.
        url: String,
        /// The failure, with its causes.
        reason: String,
    },
    /// A certificate or a key cannot be read.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Only one of a certificate and its key was given.
    #[error("a client certificate without its key, or a key without its certificate")]
    HalfIdentity,
}

/// An endpoint, and the Unix socket that it is reached by, if any.
#[derive(Debug)]
pub(super) struct EtcdTarget {
    endpoint: Endpoint,
    socket: Option<PathBuf>,
}

impl EtcdTarget {
    /// Understands an address. As in etcd's own client, `http` is never secured, `https` and `unixs` always are, and
    /// `unix` is if there is a certificate authority.
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
            None => (Endpoint::from_shared(url.to_owned()).map_err(|_| malformed())?, tls.cloned(), None),
        };
        let is_tls = endpoint.uri().scheme_str() == Some("https");
        let endpoint = match (is_tls, tls) {
            (false, _) => endpoint,
            (true, None) => return Err(ServersError::NoAuthority { url: url.to_owned() }),
            (true, Some(tls)) => {
                let unusable = |error| ServersError::Certificates { url: url.to_owned(), reason: causes(&error) };
                endpoint.tls_config(tls).map_err(unusable)?
            }
        };
        Ok(Self { endpoint: tuned(endpoint), socket: path })
    }

    /// Connects.
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

fn tuned(endpoint: Endpoint) -> Endpoint {
    endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .tcp_nodelay(true)
}

/// Returns the name that the certificate of a server at this socket must have: as in etcd's own client, the name of the
/// file without a port. The certificate of k3s is for `kine.sock`.
fn name_of(path: &str) -> &str {
    let file = Path::new(path).file_name().and_then(|file| file.to_str()).unwrap_or(path);
    match file.rsplit_once(':') {
        Some((name, _)) if !name.is_empty() && !name.contains(':') => name,
        _ => file,
    }
}

pub(super) fn tls(servers: &Servers) -> Result<Option<ClientTlsConfig>, ServersError> {
    let read =
        |path: &PathBuf| read_input(path, PEM_MAX).map_err(|source| ServersError::File { path: path.clone(), source });
    let Some(cafile) = &servers.cafile else { return Ok(None) };
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(cafile)?));
    match (&servers.certfile, &servers.keyfile) {
        (Some(certificate), Some(key)) => Ok(Some(tls.identity(Identity::from_pem(read(certificate)?, read(key)?)))),
        (None, None) => Ok(Some(tls)),
        _ => Err(ServersError::HalfIdentity),
    }
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
        for url in [
            "",
            "127.0.0.1:2379",
            "/run/kine.sock",
            "http://",
            "unix://",
            "unix:///",
            "unixs:",
            "ftp://a",
            "http://[::1",
        ] {
            let expected = format!(
                "etcd endpoint {url:?}: expected http://host:port, https://host:port, unix:///path or unixs:///path"
            );
            assert_eq!(target(url, true), Err(expected));
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
        assert!(
            unusable.starts_with("etcd endpoint \"unixs:///run/not a name\": its certificates or key"),
            "{unusable}"
        );
    }
}
