//! Runs etcd, as one member or a cluster on loopback, and reads its keys and files.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use base64ct::{Base64, Encoding};
use serde_json::Value;

use super::binaries::{EtcdVersion, Program};
use super::certificates::{Certificates, ClientCertificate};
use super::commands::{isolated, output_of_success};
use super::error::{Context, Error, Result};
use super::ports::{free_port, with_free_ports};
use super::processes::{Process, Run};

/// The time limit for a member to be healthy. A cluster under load on few cores needs some elections.
const HEALTHY_WITHIN: Duration = Duration::from_mins(1);

/// The time limit for one call of etcdctl, which gives up by itself after 5 s.
const CALL_LIMIT: Duration = Duration::from_secs(30);

/// The time limit for a restore. A million Secrets have more than a gigabyte.
const RESTORED_WITHIN: Duration = Duration::from_mins(2);

/// A snapshot ends with a digest if its length is a multiple of this and the length of a digest. etcdutl decides in the
/// same way.
const SECTOR: u64 = 512;

/// The length in bytes of the SHA-256 at the end of a snapshot.
const DIGEST: u64 = 32;

/// A cluster. All of its members are killed when it is dropped.
pub(crate) struct Etcd {
    run: Run,
    etcdctl: PathBuf,
    members: Vec<Member>,
}

struct Member {
    version: EtcdVersion,
    name: String,
    client_port: u16,
    peer_port: u16,
    data: PathBuf,
    /// The port of the second address for clients, and the flags that authenticate them there.
    secure: Option<(u16, Vec<String>)>,
    /// Further flags. The last flag of a name counts.
    flags: Vec<String>,
    process: Option<Process>,
}

impl Etcd {
    /// Starts a new cluster of the newest version and waits until all members are healthy.
    pub(crate) fn start(run: &Run, members: usize) -> Result<Self> {
        Self::start_version(run, EtcdVersion::V3_7, members)
    }

    /// Starts a new cluster of a version and waits until all members are healthy.
    pub(crate) fn start_version(run: &Run, version: EtcdVersion, members: usize) -> Result<Self> {
        with_free_ports(|| {
            let mut etcd = Self::plan(run, version, members)?;
            etcd.start_all()?;
            Ok(etcd)
        })
    }

    /// Starts a single member with a second address. There it has these certificates, and serves only the client that
    /// shows `client`.
    pub(crate) fn start_secure(run: &Run, certificates: &Certificates, client: &ClientCertificate) -> Result<Self> {
        with_free_ports(|| {
            let mut etcd = Self::plan(run, EtcdVersion::V3_7, 1)?;
            let flags = [
                format!("--cert-file={}", certificates.serving_certificate.display()),
                format!("--key-file={}", certificates.serving_key.display()),
                format!("--trusted-ca-file={}", client.certificate.display()),
                "--client-cert-auth".to_owned(),
            ];
            etcd.members[0].secure = Some((free_port()?, flags.to_vec()));
            etcd.start_all()?;
            Ok(etcd)
        })
    }

    /// Starts a single member of the newest version with further flags.
    pub(crate) fn start_with(run: &Run, flags: &[&str]) -> Result<Self> {
        with_free_ports(|| {
            let mut etcd = Self::plan(run, EtcdVersion::V3_7, 1)?;
            etcd.members[0].flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
            etcd.start_all()?;
            Ok(etcd)
        })
    }

    /// Starts a single member of the newest version on a directory that `etcdutl snapshot restore` made.
    pub(crate) fn start_on(run: &Run, data: &Path) -> Result<Self> {
        with_free_ports(|| {
            let mut etcd = Self::plan(run, EtcdVersion::V3_7, 1)?;
            data.clone_into(&mut etcd.members[0].data);
            etcd.start_all()?;
            Ok(etcd)
        })
    }

    /// Starts a single member of the newest version on a snapshot that [`Etcd::snapshot`] saved.
    pub(crate) fn start_from_snapshot(run: &Run, snapshot: &Path) -> Result<Self> {
        Self::start_version_from_snapshot(run, EtcdVersion::V3_7, snapshot)
    }

    /// Starts a single member of a version on a snapshot, or on a copy of a database file of that version or an older
    /// one.
    pub(crate) fn start_version_from_snapshot(run: &Run, version: EtcdVersion, snapshot: &Path) -> Result<Self> {
        Self::start_restored(run, version, snapshot, &[])
    }

    /// Starts in the same way, with the revision raised by `by`, for clients that remember revisions from after the
    /// snapshot.
    pub(crate) fn start_raised(run: &Run, version: EtcdVersion, snapshot: &Path, by: u64) -> Result<Self> {
        Self::start_restored(run, version, snapshot, &[&format!("--bump-revision={by}"), "--mark-compacted"])
    }

    fn start_restored(run: &Run, version: EtcdVersion, snapshot: &Path, flags: &[&str]) -> Result<Self> {
        with_free_ports(|| {
            let mut etcd = Self::plan(run, version, 1)?;
            etcd.members[0].restore(run, snapshot, flags)?;
            etcd.start_all()?;
            Ok(etcd)
        })
    }

    pub(crate) fn client_urls(&self) -> Vec<String> {
        self.members.iter().map(Member::client_url).collect()
    }

    /// Returns all client URLs in the form that `--etcd-servers` and `--endpoints` take.
    pub(crate) fn endpoints(&self) -> String {
        self.client_urls().join(",")
    }

    /// Returns the address at which the member of [`Etcd::start_secure`] wants certificates.
    pub(crate) fn secure_url(&self) -> Option<String> {
        self.members[0].secure_url()
    }

    /// Ends a member by SIGKILL. Its data stay.
    pub(crate) fn kill(&mut self, member: usize) -> Result<()> {
        let process = self.members[member].process.take();
        process.map_or(Ok(()), |mut process| process.kill().map(drop))
    }

    /// Ends a member by SIGTERM, as an operator does. Its data stay.
    pub(crate) fn stop(&mut self, member: usize) -> Result<()> {
        let process = self.members[member].process.take();
        process.map_or(Ok(()), |mut process| process.terminate(HEALTHY_WITHIN).map(drop))
    }

    /// Starts an ended member on the same ports and data. Does not wait, because alone it may have no quorum.
    pub(crate) fn launch(&mut self, member: usize) -> Result<()> {
        let cluster = self.initial_cluster();
        self.members[member].launch(&self.run, &cluster)
    }

    /// Waits until a member is healthy, which takes a quorum.
    pub(crate) fn wait_until_healthy(&mut self, member: usize) -> Result<()> {
        self.members[member].wait_until_healthy()
    }

    /// Kills a member and starts it with these further flags.
    pub(crate) fn restart_with(&mut self, member: usize, flags: &[&str]) -> Result<()> {
        self.members[member].flags.extend(flags.iter().map(|flag| (*flag).to_owned()));
        self.restart(member)
    }

    /// Kills a member and starts it with these further flags. Does not wait, because a full member is not healthy.
    pub(crate) fn launch_with(&mut self, member: usize, flags: &[&str]) -> Result<()> {
        self.members[member].flags.extend(flags.iter().map(|flag| (*flag).to_owned()));
        self.kill(member)?;
        self.launch(member)
    }

    /// Kills a member if it runs, starts it on the same ports and data, and waits until it is healthy.
    pub(crate) fn restart(&mut self, member: usize) -> Result<()> {
        self.kill(member)?;
        self.launch(member)?;
        self.wait_until_healthy(member)
    }

    /// Ends the only member, and starts it on a snapshot that [`Etcd::snapshot`] saved, with the same name and ports.
    /// So it is the same cluster, at an older revision.
    pub(crate) fn restore_in_place(&mut self, snapshot: &Path) -> Result<()> {
        self.kill(0)?;
        let data = &self.members[0].data;
        fs::remove_dir_all(data).during(|| format!("removing {}", data.display()))?;
        self.members[0].restore(&self.run, snapshot, &[])?;
        self.launch(0)?;
        self.wait_until_healthy(0)
    }

    /// Returns the process of a member, to pause it or to read its log. Fails if the member was ended.
    pub(crate) fn process(&mut self, member: usize) -> Result<&mut Process> {
        let member = &mut self.members[member];
        let ended = || Error::new(format!("{} was ended", member.name)).hint("launch it first");
        member.process.as_mut().ok_or_else(ended)
    }

    /// Returns the path of a member's database file. It is bbolt's, and etcd holds a lock on it while it runs.
    pub(crate) fn database(&self, member: usize) -> PathBuf {
        self.members[member].data.join("member/snap/db")
    }

    /// Returns the raw value at a key, read linearizably.
    pub(crate) fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        let answer = self.json(&["get", key])?;
        let entry = answer["kvs"].get(0);
        // In the JSON, an empty value is missing.
        entry.map(|entry| decode(entry.get("value"))).transpose()
    }

    /// Returns all keys with a prefix, sorted.
    pub(crate) fn keys(&self, prefix: &str) -> Result<Vec<String>> {
        let answer = self.json(&["get", "--prefix", "--keys-only", prefix])?;
        let entries = answer["kvs"].as_array().map_or(&[][..], Vec::as_slice);
        entries.iter().map(|entry| text(entry.get("key"))).collect()
    }

    /// Returns the revision that etcd is at.
    pub(crate) fn revision(&self) -> Result<u64> {
        let answer = self.json(&["get", "revision"])?;
        answer["header"]["revision"].as_u64().ok_or_else(|| Error::new(format!("etcdctl named no revision: {answer}")))
    }

    /// Sets the raw value at a key.
    pub(crate) fn put(&self, key: &str, value: &[u8]) -> Result<()> {
        let mut command = self.etcdctl(&self.endpoints());
        command.args(["put", key]);
        if value.is_empty() {
            // etcdctl does not accept an empty value from standard input.
            command.arg("");
        }
        output_of_success(command, value, CALL_LIMIT).map(drop)
    }

    /// Saves a snapshot of the first member.
    pub(crate) fn snapshot(&self, path: &Path) -> Result<()> {
        let mut command = self.etcdctl(&self.members[0].client_url());
        command.args(["snapshot", "save"]).arg(path);
        output_of_success(command, &[], CALL_LIMIT).map(drop)
    }

    /// Runs etcdctl against all members and returns its standard output.
    pub(crate) fn run_etcdctl(&self, arguments: &[&str]) -> Result<String> {
        let mut command = self.etcdctl(&self.endpoints());
        command.args(arguments);
        let output = output_of_success(command, &[], CALL_LIMIT)?;
        Ok(String::from_utf8_lossy(&output).into_owned())
    }

    /// Chooses names and ports. Starts nothing.
    fn plan(run: &Run, version: EtcdVersion, members: usize) -> Result<Self> {
        Ok(Self {
            run: run.clone(),
            etcdctl: Program::Etcdctl(version).path()?,
            members: (0..members).map(|_| Member::plan(run, version)).collect::<Result<_>>()?,
        })
    }

    /// Starts all members before waiting for one, because none is healthy without the others.
    fn start_all(&mut self) -> Result<()> {
        for member in 0..self.members.len() {
            self.launch(member)?;
        }
        self.members.iter_mut().try_for_each(Member::wait_until_healthy)
    }

    fn initial_cluster(&self) -> String {
        let peers: Vec<String> = self.members.iter().map(Member::as_peer).collect();
        peers.join(",")
    }

    fn etcdctl(&self, endpoints: &str) -> Command {
        let mut command = isolated(&self.etcdctl, self.run.directory());
        command.arg(format!("--endpoints={endpoints}"));
        command
    }

    fn json(&self, arguments: &[&str]) -> Result<Value> {
        let answer = self.run_etcdctl(&[&["--write-out=json"], arguments].concat())?;
        serde_json::from_str(&answer).during(|| "reading what etcdctl wrote".to_owned())
    }
}

impl Member {
    fn plan(run: &Run, version: EtcdVersion) -> Result<Self> {
        let name = run.unique_name("etcd");
        let data = run.path(&name);
        Ok(Self {
            version,
            name,
            client_port: free_port()?,
            peer_port: free_port()?,
            data,
            secure: None,
            flags: Vec::new(),
            process: None,
        })
    }

    fn client_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.client_port)
    }

    fn secure_url(&self) -> Option<String> {
        self.secure.as_ref().map(|(port, _)| format!("https://127.0.0.1:{port}"))
    }

    fn peer_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.peer_port)
    }

    fn as_peer(&self) -> String {
        format!("{}={}", self.name, self.peer_url())
    }

    /// Starts the member. A member that has data ignores `cluster`.
    fn launch(&mut self, run: &Run, cluster: &str) -> Result<()> {
        let mut command = isolated(&Program::Etcd(self.version).path()?, run.directory());
        let listen = [Some(self.client_url()), self.secure_url()].into_iter().flatten().collect::<Vec<_>>().join(",");
        command
            .arg(format!("--name={}", self.name))
            .arg(format!("--data-dir={}", self.data.display()))
            .arg(format!("--listen-client-urls={listen}"))
            .arg(format!("--advertise-client-urls={}", self.client_url()))
            .arg(format!("--listen-peer-urls={}", self.peer_url()))
            .arg(format!("--initial-advertise-peer-urls={}", self.peer_url()))
            .arg(format!("--initial-cluster={cluster}"))
            // Tests kill processes, and never the machine. What a process has written survives its end without a sync.
            .arg("--unsafe-no-fsync")
            .args(self.secure.iter().flat_map(|(_, flags)| flags))
            .args(&self.flags);
        self.process = Some(run.start(&self.name, command)?);
        Ok(())
    }

    fn wait_until_healthy(&mut self) -> Result<()> {
        let port = self.client_port;
        let Some(process) = &mut self.process else {
            return Err(Error::new(format!("{} was ended", self.name)).hint("launch it first"));
        };
        process.wait_until("healthy", HEALTHY_WITHIN, || is_healthy(port))
    }

    fn restore(&self, run: &Run, snapshot: &Path, flags: &[&str]) -> Result<()> {
        let mut command = isolated(&Program::Etcdutl(self.version).path()?, run.directory());
        command
            .args(["snapshot", "restore"])
            .arg(snapshot)
            .args(flags)
            .arg(format!("--data-dir={}", self.data.display()))
            .arg(format!("--name={}", self.name))
            .arg(format!("--initial-cluster={}", self.as_peer()))
            .arg(format!("--initial-advertise-peer-urls={}", self.peer_url()));
        if !has_digest(snapshot)? {
            command.arg("--skip-hash-check");
        }
        output_of_success(command, &[], RESTORED_WITHIN).map(drop)
    }
}

/// Whether a file is a snapshot. If not, it is a copy of a member's file, which etcdutl accepts only without a check.
fn has_digest(snapshot: &Path) -> Result<bool> {
    let file = fs::metadata(snapshot).during(|| format!("looking at {}", snapshot.display()))?;
    Ok(file.len() % SECTOR == DIGEST)
}

/// Asks a member directly. A process for each attempt would take the processor from the start that the test waits for.
fn is_healthy(port: u16) -> bool {
    get_health(port).is_ok_and(|answer| answer.contains(r#""health":"true""#))
}

fn get_health(port: u16) -> std::io::Result<String> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let limit = Duration::from_secs(5);
    let mut stream = TcpStream::connect_timeout(&address, limit)?;
    stream.set_read_timeout(Some(limit))?;
    stream.write_all(b"GET /health HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn text(field: Option<&Value>) -> Result<String> {
    String::from_utf8(decode(field)?).during(|| "reading a key of etcd".to_owned())
}

fn decode(field: Option<&Value>) -> Result<Vec<u8>> {
    let encoded = field.and_then(Value::as_str).unwrap_or_default();
    Base64::decode_vec(encoded).during(|| "reading what etcdctl wrote".to_owned())
}
