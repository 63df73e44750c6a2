//! How to connect to an endpoint, and what secures the connection.

use std::{io, path::PathBuf, time::Duration};

use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

use super::{Servers, error::chain};
use crate::durable::read_input;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest certificate or key that is read, in bytes.
const PEM_MAX: usize = 1 << 20;

/// Flow control, in bytes: pages are large, and etcd sends one while the one before is still being read.
const WINDOW: u32 = 4 << 20;

/// Why a client of these servers cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServersError {
    /// There is no endpoint, or it is no URL.
    #[error("etcd endpoint {url:?}: expected http://host:port or https://host:port")]
    Endpoint {
        /// As it was given.
        url: String,
    },
    /// An https endpoint needs a certificate authority.
    #[error("etcd endpoint {url:?}: https needs the certificate authority that signs etcd's certificate")]
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

pub(super) fn endpoint(url: &str, tls: Option<&ClientTlsConfig>) -> Result<Endpoint, ServersError> {
    let malformed = || ServersError::Endpoint { url: url.to_owned() };
    let is_tls = url.starts_with("https://");
    if !is_tls && !url.starts_with("http://") {
        return Err(malformed());
    }
    let endpoint = Endpoint::from_shared(url.to_owned()).map_err(|_| malformed())?;
    let endpoint = endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .tcp_nodelay(true);
    match (is_tls, tls) {
        (false, _) => Ok(endpoint),
        (true, None) => Err(ServersError::NoAuthority { url: url.to_owned() }),
        (true, Some(tls)) => {
            let unusable = |error| ServersError::Certificates { url: url.to_owned(), reason: chain(&error) };
            endpoint.tls_config(tls.clone()).map_err(unusable)
        }
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
