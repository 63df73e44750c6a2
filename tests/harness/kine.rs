//! Runs kine, which serves etcd's API from an SQL database, at a Unix socket or on loopback.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use super::binaries::{EtcdVersion, Program};
use super::certificates::{Certificates, ClientCertificate};
use super::commands::{isolated, output_of_success};
use super::error::{Context, Result};
use super::postgres::Postgres;
use super::processes::{Process, Run};

/// The time limit for kine to listen. It listens when its database has its tables.
const UP_WITHIN: Duration = Duration::from_mins(1);

/// The time limit for one call of etcdctl.
const CALL_LIMIT: Duration = Duration::from_secs(30);

/// A running kine. It is killed when dropped.
pub(crate) struct Kine {
    run: Run,
    directory: PathBuf,
    address: Address,
    process: Process,
}

/// The address that a kine listens on.
enum Address {
    Socket(PathBuf),
    Loopback(SocketAddr),
}

impl Kine {
    /// Starts a kine over SQLite, its default database.
    pub(crate) fn over_sqlite(run: &Run) -> Result<Self> {
        Self::start(run, "kine.sock", &[])
    }

    /// Starts a kine over PostgreSQL.
    pub(crate) fn over_postgres(run: &Run, postgres: &Postgres) -> Result<Self> {
        Self::start(run, "kine.sock", &[format!("--endpoint={}", postgres.url())])
    }

    /// Starts a kine on a socket with this file name. It serves by TLS, and only the client with this certificate.
    pub(crate) fn secure(
        run: &Run,
        socket: &str,
        certificates: &Certificates,
        client: &ClientCertificate,
    ) -> Result<Self> {
        Self::start(run, socket, &flags(certificates, client))
    }

    /// Starts such a kine on a port of `::1`. Returns `None` if this machine has no such address.
    pub(crate) fn secure_on_ipv6(
        run: &Run,
        certificates: &Certificates,
        client: &ClientCertificate,
    ) -> Result<Option<Self>> {
        let Ok(address) = free_address((Ipv6Addr::LOCALHOST, 0).into()) else { return Ok(None) };
        let directory = directory(run)?;
        Self::start_at(run, directory, Address::Loopback(address), &flags(certificates, client)).map(Some)
    }

    /// Starts a kine over SQLite on a port of 127.0.0.1, so that a proxy can be put before it.
    pub(crate) fn on_loopback(run: &Run) -> Result<Self> {
        let address = free_address((Ipv4Addr::LOCALHOST, 0).into()).during(|| "looking for a free port".to_owned())?;
        Self::start_at(run, directory(run)?, Address::Loopback(address), &[])
    }

    fn start(run: &Run, socket: &str, flags: &[String]) -> Result<Self> {
        let directory = directory(run)?;
        let socket = directory.join(socket);
        Self::start_at(run, directory, Address::Socket(socket), flags)
    }

    fn start_at(run: &Run, directory: PathBuf, address: Address, flags: &[String]) -> Result<Self> {
        let mut command = isolated(&Program::Kine.path()?, &directory);
        let listen = match &address {
            Address::Socket(path) => format!("unix://{}", path.display()),
            Address::Loopback(address) => address.to_string(),
        };
        command
            .arg(format!("--listen-address={listen}"))
            .arg("--metrics-bind-address=0")
            // Without this flag, the last thousand revisions are never compacted.
            .arg("--compact-min-retain=0")
            .args(flags);
        let name = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut process = run.start(&name, command)?;
        process.wait_until("up", UP_WITHIN, || match &address {
            Address::Socket(path) => UnixStream::connect(path).is_ok(),
            Address::Loopback(address) => TcpStream::connect(address).is_ok(),
        })?;
        Ok(Self { run: run.clone(), directory, address, process })
    }

    /// Returns the address of the kine as `--etcd-servers` takes it, without TLS.
    pub(crate) fn url(&self) -> String {
        match &self.address {
            Address::Socket(path) => format!("unix://{}", path.display()),
            Address::Loopback(address) => format!("http://{address}"),
        }
    }

    /// Returns the address of the kine as `--etcd-servers` takes it, with TLS.
    pub(crate) fn secure_url(&self) -> String {
        self.url().replacen("unix:", "unixs:", 1).replacen("http:", "https:", 1)
    }

    /// Returns the directory with the socket and the database.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Returns the path of the socket. `None` if the kine listens on a port.
    pub(crate) fn socket(&self) -> Option<&Path> {
        match &self.address {
            Address::Socket(path) => Some(path),
            Address::Loopback(_) => None,
        }
    }

    /// Runs etcdctl against the kine, and returns its standard output.
    pub(crate) fn run_etcdctl(&self, arguments: &[&str]) -> Result<String> {
        let mut command = isolated(&Program::Etcdctl(EtcdVersion::V3_7).path()?, self.run.directory());
        command.arg(format!("--endpoints={}", self.url())).args(arguments);
        let output = output_of_success(command, &[], CALL_LIMIT)?;
        Ok(String::from_utf8_lossy(&output).into_owned())
    }

    /// Returns the process, to read its log.
    pub(crate) fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

/// Returns an address with a port that nobody listens on.
fn free_address(any_port: SocketAddr) -> io::Result<SocketAddr> {
    TcpListener::bind(any_port)?.local_addr()
}

fn flags(certificates: &Certificates, client: &ClientCertificate) -> [String; 3] {
    [
        format!("--server-cert-file={}", certificates.serving_certificate.display()),
        format!("--server-key-file={}", certificates.serving_key.display()),
        format!("--trusted-ca-file={}", client.certificate.display()),
    ]
}

fn directory(run: &Run) -> Result<PathBuf> {
    let directory = run.path(run.unique_name("kine"));
    fs::create_dir(&directory).during(|| format!("making {}", directory.display()))?;
    Ok(directory)
}
