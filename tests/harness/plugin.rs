//! Runs claviger as its users do: the binary with its verbs and exit codes.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::commands::{output, output_of_success};
use super::error::{Context, Error, Result};
use super::processes::{Process, Run};

/// The time limit for the daemon to answer, and for one call of the command line.
const LIMIT: Duration = Duration::from_secs(10);

/// Passes its standard input on as systemd passes a socket: as descriptor 3, with an environment that names the
/// receiver.
const HAND_OVER: &str = r#"export LISTEN_PID=$$ LISTEN_FDS=1; exec "$@" 3<&0 0</dev/null"#;

/// A state directory, and its daemon while one serves. The daemon is killed when this is dropped.
pub(crate) struct Plugin {
    run: Run,
    name: String,
    binary: PathBuf,
    state_dir: PathBuf,
    socket: Option<String>,
    /// The socket that this process holds, as systemd would, while the daemon ends and starts.
    held: Option<UnixListener>,
    flags: Vec<String>,
    process: Option<Process>,
}

impl Plugin {
    /// Runs `claviger init` on the directory `name` of the run, without a recovery identity.
    ///
    /// `binary` is `env!("CARGO_BIN_EXE_claviger")` in the tests; Cargo sets that for nothing else.
    pub(crate) fn init(run: &Run, binary: impl Into<PathBuf>, name: &str) -> Result<Self> {
        let plugin = Self {
            run: run.clone(),
            name: name.to_owned(),
            binary: binary.into(),
            state_dir: run.path(name),
            socket: None,
            held: None,
            flags: Vec::new(),
            process: None,
        };
        plugin.claviger(&["init", "--without-recovery"])?;
        Ok(plugin)
    }

    pub(crate) fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    /// Adds a flag to `serve`, for all later starts.
    pub(crate) fn flag(&mut self, flag: impl Into<String>) {
        self.flags.push(flag.into());
    }

    /// Starts the daemon on `socket`, a path (see [`Run::socket`]) or `@name`, and waits until it answers.
    pub(crate) fn serve(&mut self, socket: impl Into<String>) -> Result<()> {
        self.kill()?;
        self.held = None;
        self.socket = Some(socket.into());
        self.restart()
    }

    /// Starts the daemon on a socket that outlives it: this process holds the socket, as systemd does with its socket
    /// units.
    pub(crate) fn serve_activated(&mut self, socket: &Path) -> Result<()> {
        self.kill()?;
        let listen = fs::remove_file(socket).or_else(|error| match error.kind() {
            io::ErrorKind::NotFound => Ok(()),
            _ => Err(error),
        });
        let held = listen.and_then(|()| UnixListener::bind(socket));
        self.held = Some(held.during(|| format!("listening on {}", socket.display()))?);
        self.socket = Some(socket.display().to_string());
        self.restart()
    }

    /// Kills the daemon if it runs, starts it on the same state and socket, and waits until it answers.
    pub(crate) fn restart(&mut self) -> Result<()> {
        self.kill()?;
        self.launch()?;
        self.wait_until_serving()
    }

    /// Starts the daemon on its socket without waiting.
    pub(crate) fn launch(&mut self) -> Result<()> {
        let mut command = self.command(&["serve"]);
        command.args(["--socket", self.socket()?]).args(&self.flags);
        self.process = Some(match &self.held {
            Some(held) => {
                let held = held.try_clone().during(|| "handing the socket over".to_owned())?;
                self.run.start_with_input(&self.name, handed_over(&command), Stdio::from(OwnedFd::from(held)))?
            }
            None => self.run.start(&self.name, command)?,
        });
        Ok(())
    }

    /// Waits until `claviger status` succeeds.
    pub(crate) fn wait_until_serving(&mut self) -> Result<()> {
        // The process is taken out, because the check needs the rest of this plugin.
        let Some(mut process) = self.process.take() else {
            return Err(self.ended());
        };
        let outcome = process.wait_until("serving", LIMIT, || self.is_serving());
        self.process = Some(process);
        outcome
    }

    /// Ends the daemon by SIGKILL. The state directory stays.
    pub(crate) fn kill(&mut self) -> Result<()> {
        let process = self.process.take();
        process.map_or(Ok(()), |mut process| process.kill().map(drop))
    }

    /// Ends the daemon by SIGTERM, as systemd does. If its exit code is not 0, returns an error with the end of its
    /// log.
    pub(crate) fn terminate(&mut self) -> Result<()> {
        let mut process = self.process.take().ok_or_else(|| self.ended())?;
        match process.terminate(LIMIT)? {
            status if status.success() => Ok(()),
            status => Err(process.failure(&format!("ended with {status} after SIGTERM"))),
        }
    }

    /// Returns the process of the daemon, to pause it or to read its log. Fails if the daemon was ended.
    pub(crate) fn process(&mut self) -> Result<&mut Process> {
        let ended = self.ended();
        self.process.as_mut().ok_or(ended)
    }

    /// Starts a second daemon that takes over from the first. Waits until the first one ends with the exit code 0.
    pub(crate) fn take_over(&mut self) -> Result<()> {
        let mut first = self.process.take().ok_or_else(|| self.ended())?;
        let mut command = self.command(&["serve", "--take-over"]);
        command.args(["--socket", self.socket()?]);
        self.process = Some(self.run.start(&self.name, command)?);
        match first.wait_for_end("another was to take over", LIMIT)? {
            status if status.success() => Ok(()),
            status => Err(first.failure(&format!("ended with {status} when another took over"))),
        }
    }

    /// Runs a verb of the command line on this state and returns its standard output.
    pub(crate) fn claviger(&self, arguments: &[&str]) -> Result<String> {
        let output = output_of_success(self.command(arguments), &[], LIMIT)?;
        Ok(String::from_utf8_lossy(&output).into_owned())
    }

    /// Writes the `EncryptionConfiguration` that the command line proposes for this socket, and returns its path.
    ///
    /// With `identity_last` API servers also read what was stored in the clear before; without, they refuse it.
    pub(crate) fn encryption_config(&self, resources: &[&str], identity_last: bool) -> Result<PathBuf> {
        let mut command = Command::new(&self.binary);
        command.args(["generate", "encryption-configuration", "--socket", self.socket()?]);
        command.args(resources.iter().map(|resource| format!("--resource={resource}")));
        let proposed = output_of_success(command, &[], LIMIT)?;
        let proposed = String::from_utf8_lossy(&proposed).into_owned();
        let config = if identity_last { proposed } else { without_identity(&proposed) };
        let path = self.run.path(format!("{}-encryption.yaml", self.name));
        fs::write(&path, config).during(|| format!("writing {}", path.display()))?;
        Ok(path)
    }

    /// Returns a command of claviger on this state, which the caller can add to and run.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(arguments).arg("--state-dir").arg(&self.state_dir);
        command
    }

    fn is_serving(&self) -> bool {
        let Ok(socket) = self.socket() else {
            return false;
        };
        // No test makes a backup of this keyring before it serves.
        let mut command = self.command(&["status", "--backups", "none"]);
        // Status opens the keyring, too, and needs the passphrase.
        command.args(self.flags.iter().filter(|flag| flag.starts_with("--passphrase-file")));
        command.args(["--socket", socket]);
        output(command, &[], LIMIT).is_ok_and(|output| output.status.success())
    }

    fn socket(&self) -> Result<&str> {
        let none = || Error::new(format!("{} has no socket", self.name)).hint("call serve first");
        self.socket.as_deref().ok_or_else(none)
    }

    fn ended(&self) -> Error {
        Error::new(format!("{} does not run", self.name)).hint("call serve first")
    }
}

fn handed_over(daemon: &Command) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", HAND_OVER, "sh"]).arg(daemon.get_program()).args(daemon.get_args());
    shell
}

/// Removes the provider line by line, because the test is about the text that users get, with its comments.
fn without_identity(config: &str) -> String {
    let lines: Vec<&str> = config.lines().filter(|line| line.trim() != "- identity: {}").collect();
    lines.join("\n") + "\n"
}
