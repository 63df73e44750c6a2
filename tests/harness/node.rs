//! A node: the kubelet and containerd in their own mount, process and cgroup namespaces, with real Pods.
//!
//! In the namespaces, only the directory of the run can be written, and nothing of the machine is configured: no
//! cgroups, no packet filters, no settings of the kernel. Pods are on the machine's network, and name their node
//! themselves. When the first process of the namespaces, `node/init.sh`, ends, everything ends, so nothing is left. It
//! needs root.

use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::binaries::Program;
use super::certificates::ClientCertificate;
use super::commands::{isolated, output};
use super::error::{Context, Error, Result};
use super::images::{Image, READER, reader};
use super::packages::{container_runtime, container_runtime_can_be_had};
use super::ports::free_port;
use super::processes::{Process, Run};

/// The time limit for the kubelet to listen. Alone it needs 2 s, most of them for the import of images.
const UP_WITHIN: Duration = Duration::from_mins(2);

/// The name under which a node registers; API servers look it up to reach its kubelet.
pub(crate) const NAME: &str = "localhost";

/// The flags of `unshare`, which the machine has to allow.
const NAMESPACES: [&str; 6] = ["--mount", "--pid", "--cgroup", "--fork", "--mount-proc", "--kill-child=KILL"];

/// The kubelet and its containers. All are killed when it is dropped.
pub(crate) struct Node {
    run: Run,
    name: String,
    directory: PathBuf,
    port: u16,
    /// The certificate of the API server for calls of the kubelet.
    client: ClientCertificate,
    images: Vec<Image>,
    process: Option<Process>,
}

impl Node {
    /// Returns the reason why this machine cannot have a node. `None` if it can.
    pub(crate) fn impossible() -> Option<String> {
        if !is_root() {
            return Some("it takes root".to_owned());
        }
        if !container_runtime_can_be_had() {
            return Some("containerd, ctr and runc are not installed, and there is no apt-get to get them".to_owned());
        }
        let mut attempt = Command::new("unshare");
        attempt.args(NAMESPACES).args(["mount", "--make-rprivate", "/"]);
        match output(attempt, &[], UP_WITHIN) {
            Ok(output) if output.status.success() => None,
            Ok(output) => Some(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
            Err(error) => Some(error.to_string()),
        }
    }

    /// Chooses a port, and makes the directory and the certificate. Starts nothing.
    ///
    /// [`READER`] is among its images without being named.
    pub(crate) fn plan(run: &Run, images: &[Image]) -> Result<Self> {
        let name = run.unique_name("node");
        let directory = run.path(&name);
        for directory in ["log", "manifests"].map(|part| directory.join(part)) {
            fs::create_dir_all(&directory).during(|| format!("making {}", directory.display()))?;
        }
        Ok(Self {
            client: ClientCertificate::create(&directory, "kube-apiserver")?,
            port: free_port()?,
            images: [&[reader(run)?], images].concat(),
            run: run.clone(),
            name,
            directory,
            process: None,
        })
    }

    /// Returns the flags that let kube-apiserver reach the kubelet, which `kubectl logs` needs.
    pub(crate) fn flags_for_api_server(&self) -> [String; 3] {
        [
            "--kubelet-preferred-address-types=Hostname".to_owned(),
            format!("--kubelet-client-certificate={}", self.client.certificate.display()),
            format!("--kubelet-client-key={}", self.client.key.display()),
        ]
    }

    /// Starts the node, and waits until the kubelet listens. The API server of `kubeconfig` need not run.
    pub(crate) fn start(&mut self, kubeconfig: &Path) -> Result<()> {
        fs::copy(kubeconfig, self.directory.join("kubeconfig")).during(|| "copying the kubeconfig".to_owned())?;
        self.write("kubelet.yaml", include_str!("node/kubelet.yaml"))?;
        self.write("containerd.toml", include_str!("node/containerd.toml"))?;
        let mut process = self.run.start(&self.name, self.command()?)?;
        let port = self.port;
        process.wait_until("up", UP_WITHIN, || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok())?;
        self.process = Some(process);
        Ok(())
    }

    /// Gives the kubelet the manifest of a static Pod by a rename, because the kubelet reads the directory at every
    /// change.
    pub(crate) fn add_static_pod(&self, file_name: &str, manifest: &str) -> Result<()> {
        let (beside, target) = (self.directory.join(file_name), self.directory.join("manifests").join(file_name));
        fs::write(&beside, manifest)
            .and_then(|()| fs::rename(&beside, &target))
            .during(|| format!("writing {}", target.display()))
    }

    /// Returns the process of the node. Fails if the node was not started.
    pub(crate) fn process(&mut self) -> Result<&mut Process> {
        let ended = || Error::new(format!("{} does not run", self.name)).hint("start it first");
        self.process.as_mut().ok_or_else(ended)
    }

    fn command(&self) -> Result<Command> {
        let mut command = isolated(Path::new("unshare"), &self.directory);
        command
            .args(NAMESPACES)
            .arg("bash")
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/harness/node/init.sh"))
            .args([self.run.directory(), &self.directory])
            .arg(container_runtime()?)
            .arg(Program::Kubelet.path()?)
            .arg(NAME);
        for image in &self.images {
            command.arg(&image.reference).arg(&image.archive);
        }
        Ok(command)
    }

    fn write(&self, name: &str, template: &str) -> Result<()> {
        let path = self.directory.join(name);
        let text = template
            .replace("$DIRECTORY", &self.directory.display().to_string())
            .replace("$PORT", &self.port.to_string())
            .replace("$CLIENTS", &self.client.certificate.display().to_string())
            .replace("$SANDBOX", READER);
        fs::write(&path, text).during(|| format!("writing {}", path.display()))
    }
}

/// Whether this user is root with all users of the machine, as containers need it, and not root of a namespace with one
/// user.
fn is_root() -> bool {
    let users = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    rustix::process::geteuid().is_root() && users.split_whitespace().eq(["0", "0", "4294967295"])
}
