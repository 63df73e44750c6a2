//! Runs kube-apiserver with everything that it needs, and kubectl against it.

use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};

use super::binaries::{Program, Version};
use super::certificates::Certificates;
use super::commands::{isolated, output_of_success};
use super::error::{Context, Error, Result};
use super::etcd::Etcd;
use super::ports::{free_port, with_free_ports};
use super::processes::{Process, Run};
use super::spawn::set_host_name;

/// The time limit for an API server to be ready. It needs 1 to 4 s alone, and far more with many tests on few cores.
const READY_WITHIN: Duration = Duration::from_mins(2);

/// The time limit for one call of kubectl, also of `kubectl wait`.
const CALL_LIMIT: Duration = Duration::from_mins(5);

/// The time between two attempts to get an answer. Each attempt starts kubectl.
const ASK_EVERY: Duration = Duration::from_millis(200);

/// The options of an API server. [`ApiServer::on`] makes them.
#[derive(Clone)]
pub(crate) struct Options {
    run: Run,
    etcd_servers: String,
    version: Version,
    encryption_config: Option<PathBuf>,
    host_name: Option<String>,
    arguments: Vec<String>,
}

/// A running API server. It is killed when dropped.
pub(crate) struct ApiServer {
    name: String,
    options: Options,
    port: u16,
    directory: PathBuf,
    certificates: Certificates,
    kubectl: PathBuf,
    process: Option<Process>,
}

impl Options {
    /// Chooses the version. The newest one is the default.
    pub(crate) fn version(mut self, version: Version) -> Self {
        self.version = version;
        self
    }

    /// Uses this file as the EncryptionConfiguration. The server follows its changes.
    pub(crate) fn encryption_config(mut self, path: impl Into<PathBuf>) -> Self {
        self.encryption_config = Some(path.into());
        self
    }

    /// Sets the host name. The identity Lease in kube-system is named after the host, so two servers with one host name
    /// share a Lease.
    pub(crate) fn host_name(mut self, name: impl Into<String>) -> Self {
        self.host_name = Some(name.into());
        self
    }

    /// Adds a flag of kube-apiserver. It overrides a flag of the same name that this code sets.
    pub(crate) fn argument(mut self, argument: impl Into<String>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Starts the API server and waits until it is ready.
    pub(crate) fn start(self) -> Result<ApiServer> {
        with_free_ports(|| {
            let mut server = self.clone().launch()?;
            server.wait_until_ready()?;
            Ok(server)
        })
    }

    /// Starts the API server without waiting. Used if it is not expected to become ready.
    pub(crate) fn launch(self) -> Result<ApiServer> {
        let mut server = ApiServer::plan(self)?;
        server.launch()?;
        Ok(server)
    }
}

impl ApiServer {
    /// Returns the options of a server on this etcd. Several servers may share an etcd.
    pub(crate) fn on(run: &Run, etcd: &Etcd) -> Options {
        Options {
            run: run.clone(),
            etcd_servers: etcd.endpoints(),
            version: Version::V1_37,
            encryption_config: None,
            host_name: None,
            arguments: Vec::new(),
        }
    }

    /// Returns a kubeconfig for kubectl and for every other client. It verifies the certificate of the server, and
    /// belongs to a cluster administrator.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.directory.join("kubeconfig")
    }

    pub(crate) fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// Runs kubectl and returns its standard output.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.kubectl_stdin(arguments, "")
    }

    /// Runs kubectl with something on its standard input, for `-f -`.
    pub(crate) fn kubectl_stdin(&self, arguments: &[&str], input: &str) -> Result<String> {
        let mut command = isolated(&self.kubectl, &self.directory);
        command.arg(format!("--kubeconfig={}", self.kubeconfig().display())).args(arguments);
        let output = output_of_success(command, input.as_bytes(), CALL_LIMIT)?;
        Ok(String::from_utf8_lossy(&output).into_owned())
    }

    /// Returns the answer of `/readyz?verbose`: every check if the server is ready. Otherwise returns an error that
    /// names the failed checks.
    pub(crate) fn readyz(&self) -> Result<String> {
        self.kubectl(&["get", "--raw", "/readyz?verbose"])
    }

    pub(crate) fn wait_until_ready(&mut self) -> Result<()> {
        // The process is taken out, because the check needs the rest of this server.
        let Some(mut process) = self.process.take() else {
            return Err(Error::new(format!("{} was ended", self.name)).hint("launch it first"));
        };
        let outcome = process.wait_until("ready", READY_WITHIN, || self.is_ready());
        self.process = Some(process);
        outcome
    }

    /// Kills the API server. A graceful end can take a minute.
    pub(crate) fn kill(&mut self) -> Result<()> {
        let process = self.process.take();
        process.map_or(Ok(()), |mut process| process.kill().map(drop))
    }

    /// Starts the API server after [`ApiServer::kill`], on the same port, without waiting.
    pub(crate) fn launch(&mut self) -> Result<()> {
        let start = self.options.run.start(&self.name, self.command()?);
        self.process = Some(match &self.options.host_name {
            Some(_) => {
                start.map_err(|error| error.hint("another host name takes root, or user namespaces for everyone"))?
            }
            None => start?,
        });
        Ok(())
    }

    /// Kills the API server, starts it on the same port with the same etcd, and waits until it is ready.
    pub(crate) fn restart(&mut self) -> Result<()> {
        self.kill()?;
        self.launch()?;
        self.wait_until_ready()
    }

    /// Returns the process, so that a test can pause it. Fails if the API server was ended.
    pub(crate) fn process(&mut self) -> Result<&mut Process> {
        let ended = || Error::new(format!("{} was ended", self.name)).hint("launch it first");
        self.process.as_mut().ok_or_else(ended)
    }

    /// Returns the whole log, over all restarts.
    pub(crate) fn log(&self) -> Result<String> {
        let path = self.options.run.log_of(&self.name);
        fs::read_to_string(&path).during(|| format!("reading {}", path.display()))
    }

    /// Makes the directory with certificates, tokens and the kubeconfig. Starts nothing.
    fn plan(options: Options) -> Result<Self> {
        let name = options.run.unique_name("kube-apiserver");
        let directory = options.run.path(&name);
        fs::create_dir(&directory).during(|| format!("making {}", directory.display()))?;
        let server = Self {
            certificates: Certificates::create(&directory)?,
            kubectl: Program::Kubectl(options.version).path()?,
            port: free_port()?,
            name,
            options,
            directory,
            process: None,
        };
        server.write_credentials()?;
        Ok(server)
    }

    /// Writes an administrator's token to the file of the server and to the kubeconfig.
    fn write_credentials(&self) -> Result<()> {
        let token = random_token()?;
        let users = format!("{token},admin,admin,system:masters\n");
        self.write("tokens.csv", &users)?;
        let authority =
            fs::read(&self.certificates.authority).during(|| "reading the certificate of the authority".to_owned())?;
        self.write("kubeconfig", &kubeconfig(&self.url(), &authority, &token))
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.directory.join(name);
        fs::write(&path, text).during(|| format!("writing {}", path.display()))
    }

    /// Whether the API server is ready. Looks at the port first, because kubectl takes far more of the processor than a
    /// refused connection.
    ///
    /// A new cluster says that it is ready a moment before it makes the default namespace.
    fn is_ready(&self) -> bool {
        let listens = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_ok();
        let get = |path| self.kubectl(&["get", "--request-timeout=10s", "--raw", path]);
        let ready =
            listens && get("/readyz").is_ok_and(|answer| answer == "ok") && get("/api/v1/namespaces/default").is_ok();
        if !ready {
            thread::sleep(ASK_EVERY);
        }
        ready
    }

    fn command(&self) -> Result<Command> {
        let program = Program::KubeApiserver(self.options.version).path()?;
        let mut command = isolated(&program, &self.directory);
        command.args(self.flags());
        if let Some(config) = &self.options.encryption_config {
            command
                .arg(flag("encryption-provider-config", config))
                .arg("--encryption-provider-config-automatic-reload=true");
        }
        if let Some(name) = &self.options.host_name {
            set_host_name(&mut command, name);
        }
        command.args(&self.options.arguments);
        Ok(command)
    }

    fn flags(&self) -> Vec<String> {
        let certificates = &self.certificates;
        vec![
            format!("--etcd-servers={}", self.options.etcd_servers),
            format!("--secure-port={}", self.port),
            "--bind-address=127.0.0.1".to_owned(),
            // Without this flag, it looks for a network card with a default route, which a machine may lack.
            "--advertise-address=127.0.0.1".to_owned(),
            flag("cert-dir", &self.directory),
            flag("tls-cert-file", &certificates.serving_certificate),
            flag("tls-private-key-file", &certificates.serving_key),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            flag("service-account-signing-key-file", &certificates.account_key),
            flag("service-account-key-file", &certificates.account_public_key),
            flag("token-auth-file", &self.directory.join("tokens.csv")),
            "--authorization-mode=RBAC".to_owned(),
            "--service-cluster-ip-range=10.0.0.0/24".to_owned(),
            // This admission plugin demands service accounts, which nobody creates here.
            "--disable-admission-plugins=ServiceAccount".to_owned(),
            // Without this flag, the API server publishes its address, and refuses to publish a loopback address.
            "--endpoint-reconciler-type=none".to_owned(),
            "--shutdown-delay-duration=0s".to_owned(),
        ]
    }
}

fn flag(name: &str, path: &Path) -> String {
    format!("--{name}={}", path.display())
}

fn kubeconfig(url: &str, authority: &[u8], token: &str) -> String {
    use base64ct::{Base64, Encoding};
    let authority = Base64::encode_string(authority);
    format!(
        "\
apiVersion: v1
kind: Config
clusters:
- name: test
  cluster:
    server: {url}
    certificate-authority-data: {authority}
users:
- name: admin
  user:
    token: {token}
contexts:
- name: test
  context:
    cluster: test
    user: admin
current-context: test
"
    )
}

/// Returns a random token, because every user of this machine can reach the port.
fn random_token() -> Result<String> {
    let mut bytes = [0; 16];
    SystemRandom::new().fill(&mut bytes).during(|| "making a token".to_owned())?;
    Ok(base16ct::lower::encode_string(&bytes))
}
