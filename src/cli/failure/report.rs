//! A failed command: its message, its hint and its exit code, and how they are printed.
//!
//! The hint is separate data. It is made here and in the files beside this one, from the type of the error.

use std::{
    fmt::Display,
    io::{self, Write},
    path::Path,
    process::ExitCode,
};

use clap::builder::styling;
use serde::Serialize;

#[cfg(feature = "shares")]
use super::keyring::share;
use super::{
    super::socket,
    exit::{Exit, Explain},
    files::{RANDOM, durable, export, memory, store},
    keyring::{SHARED, backup, change, look_hint, open, pair, recovery, restart_hint, root, slot},
    operations::commit,
};
use crate::{
    config::ConfigError,
    daemon::DaemonError,
    durable::DurableError,
    escrow::{BackupError, IdentityError, NotRecipient},
    keeper::{CommitError, InitError, OpenError, RestoreError, ServeError},
    keyring::{ChangeError, KeyError},
    memory::{RandomError, SecretError},
    root::SlotError,
};
#[cfg(feature = "scan")]
use crate::{
    etcd::{EtcdError, ServersError},
    scan::{live::LiveError, snapshot::SnapshotError},
};

/// A failed command.
#[derive(Debug)]
pub(in crate::cli) struct Failure {
    message: String,
    hint: Option<String>,
    exit: Exit,
}

#[derive(Serialize)]
struct Report<'a> {
    format: &'static str,
    error: &'a str,
    hint: Option<&'a str>,
    exit: u8,
}

impl Failure {
    pub(in crate::cli) fn new(exit: Exit, error: &impl Display, hint: impl Into<Option<String>>) -> Self {
        Self { message: error.to_string(), hint: hint.into(), exit }
    }
    /// The same with another hint.
    pub(in crate::cli) fn hint(self, hint: &str) -> Self {
        Self { hint: Some(hint.to_owned()), ..self }
    }
    /// Puts `what` before the message: what was done in spite of the failure, or what it is about.
    pub(in crate::cli) fn about(self, what: &str) -> Self {
        Self { message: format!("{what}: {}", self.message), ..self }
    }
    pub(in crate::cli) fn hardening(error: &io::Error) -> Self {
        Self::new(Exit::Refused, &format!("forbidding core dumps: {error}"), None)
    }
    /// The state directory itself could not be opened.
    pub(in crate::cli) fn state_dir(error: DurableError, state_dir: &Path) -> Self {
        Self::open(&OpenError::StateDir(error), state_dir)
    }
    pub(in crate::cli) fn open(error: &OpenError, state_dir: &Path) -> Self {
        Self::change(error, state_dir)
    }
    /// The daemon did not start, or ended.
    pub(in crate::cli) fn daemon(error: &DaemonError, state_dir: &Path) -> Self {
        match error {
            DaemonError::Keyring(error) => Self::serve(error, state_dir),
            DaemonError::Socket(error) => Self::new(Exit::Refused, error, socket::hint(error)),
            DaemonError::Occupied(_) => Self::new(Exit::Refused, error, occupied_hint(state_dir)),
            DaemonError::Signals(_) | DaemonError::Register(_) => Self::new(Exit::Refused, error, LIMITS.to_owned()),
            DaemonError::Notify(_) => Self::new(
                Exit::Refused,
                error,
                "NOTIFY_SOCKET names it: start the plugin as a systemd service, or unset the variable".to_owned(),
            ),
            DaemonError::Inherited(_) => Self::new(
                Exit::Refused,
                error,
                "let the unit pass one Unix socket that listens: deploy/claviger.socket".to_owned(),
            ),
        }
    }
    /// The keyring is not served.
    fn serve(error: &ServeError, state_dir: &Path) -> Self {
        let (exit, hint) = match error {
            ServeError::Open(error) => return Self::open(error, state_dir),
            ServeError::Expect(_) => {
                (Exit::Refused, Some("compare it with `claviger status` on a node that you trust".to_owned()))
            }
            ServeError::HomeInEtcd(_) => (Exit::Refused, Some(SHARED.to_owned())),
            ServeError::Lock(error) => durable(error),
            ServeError::NotMarked(error) => commit(error),
        };
        Self::new(exit, error, hint)
    }
    pub(in crate::cli) fn init(error: &InitError, state_dir: &Path) -> Self {
        let (exit, hint) = match error {
            InitError::Exists(_) => (Exit::Refused, Some(look_hint(state_dir))),
            InitError::Unfinished(_) => (Exit::Refused, Some(restart_hint(state_dir))),
            InitError::File(DurableError::Exists(_)) => (
                Exit::Refused,
                Some("it may be another keyring's: move it away, or give another --slot-file".to_owned()),
            ),
            InitError::NotBegun(CommitError::Record(_)) => {
                (Exit::Refused, Some("give fewer recovery recipients".to_owned()))
            }
            InitError::NotBegun(error) => commit(error),
            InitError::BrokenOff(error) => (
                commit(error).0,
                Some("fix that, then run `claviger init` again with --restart; nothing was lost".to_owned()),
            ),
            InitError::NotConfirmed(error) => (store(error).0, Some(look_hint(state_dir))),
            InitError::NotMarked(error) => (durable(error).0, Some(look_hint(state_dir))),
            InitError::Unchecked(error) => (open(error).0, Some(look_hint(state_dir))),
            // Nothing can be damaged yet: what is missing is a directory.
            InitError::File(DurableError::Missing(path)) => {
                (Exit::Refused, Some(format!("mkdir -p -m 0700 {}", path.display())))
            }
            InitError::File(error) => durable(error),
            InitError::Recovery(error) => recovery(error),
            InitError::Slot(error) => slot(error),
            InitError::Root(error) => root(error),
            InitError::Keyring(KeyError::Secret(error)) | InitError::Memory(error) => memory(error),
            InitError::Keyring(KeyError::Random(_)) | InitError::Random(_) => (Exit::Refused, Some(RANDOM.to_owned())),
        };
        Self::new(exit, error, hint)
    }
    /// What went wrong, without the hint.
    pub(in crate::cli) fn message(&self) -> &str {
        &self.message
    }
    /// Nothing was restored.
    pub(in crate::cli) fn restore(error: &RestoreError, state_dir: &Path) -> Self {
        #[cfg(feature = "scan")]
        const PROOF: &str = "give --expect with what `backup create` or `status` printed where the keyring was; or show which \
                             keys are needed: --snapshot FILE of etcd, or --etcd-servers URL";
        #[cfg(not(feature = "scan"))]
        const PROOF: &str = "give --expect with what `backup create` or `status` printed where the keyring was";
        let (exit, hint) = match error {
            RestoreError::SetUp(InitError::BrokenOff(cause)) => {
                (commit(cause).0, Some("fix that, then run the same command again; nothing was lost".to_owned()))
            }
            RestoreError::SetUp(InitError::Exists(_)) => (
                Exit::Refused,
                Some(
                    "to merge into the keyring that is there, leave --slot-file away; to restore beside it, give another \
                     --state-dir"
                        .to_owned(),
                ),
            ),
            RestoreError::Unproven => (Exit::Refused, Some(PROOF.to_owned())),
            RestoreError::NothingNeeded => (
                Exit::Refused,
                Some("give --expect with what `backup create` or `status` printed where the keyring was".to_owned()),
            ),
            RestoreError::Lacks(_) => (
                Exit::Refused,
                Some(
                    "use a newer backup. To use several: first restore this one with --expect and without --snapshot and \
                     --etcd-servers; then run `claviger backup restore FILE …` with the others, which merges them"
                        .to_owned(),
                ),
            ),
            RestoreError::Expect(_) => {
                (Exit::Refused, Some("restore the backup that this line `expect` was printed for".to_owned()))
            }
            RestoreError::HomeInEtcd(_) => (Exit::Refused, Some(SHARED.to_owned())),
            RestoreError::Keyring(ChangeError::UnknownKey(_)) => {
                (Exit::Refused, Some("name a key of the backup: claviger backup check FILE".to_owned()))
            }
            RestoreError::Keyring(error) => change(error),
            RestoreError::Backup(error) => backup(error),
            RestoreError::NoRecipient => {
                (Exit::Refused, Some("give the identity of a recipient: --recovery-identity FILE".to_owned()))
            }
            RestoreError::SetUp(InitError::NotBegun(CommitError::Record(_))) | RestoreError::Ledger(_) => {
                (Exit::Damaged, Some("use another backup".to_owned()))
            }
            RestoreError::SetUp(error) => return Self::init(error, state_dir),
        };
        Self::new(exit, error, hint)
    }
    /// An operation that changes the keyring, or makes a backup of it, failed.
    pub(in crate::cli) fn change(error: &(impl Explain + Display), state_dir: &Path) -> Self {
        let (exit, hint) = error.explain(state_dir);
        Self::new(exit, error, hint)
    }
    /// A text that is not a recipient.
    pub(in crate::cli) fn recipient(error: NotRecipient) -> Self {
        let (exit, hint) = pair();
        Self::new(exit, &error, hint)
    }
    /// A text that contains no identity.
    pub(in crate::cli) fn identity(error: &IdentityError) -> Self {
        let (exit, hint) = match error {
            #[cfg(feature = "shares")]
            IdentityError::Share(error) => share(error),
            #[cfg(not(feature = "shares"))]
            IdentityError::NoShares => (Exit::Usage, Some("build claviger with its feature `shares`".to_owned())),
            _ => pair(),
        };
        Self::new(exit, error, hint)
    }
    /// A backup that does not open.
    pub(in crate::cli) fn backup(error: &BackupError, file: &Path) -> Self {
        let (exit, hint) = backup(error);
        Self::new(exit, &format!("backup {}: {error}", file.display()), hint)
    }
    /// A file for somebody else.
    pub(in crate::cli) fn export(error: &DurableError) -> Self {
        let (exit, hint) = export(error);
        Self::new(exit, error, hint)
    }
    /// A snapshot that cannot be scanned.
    #[cfg(feature = "scan")]
    pub(in crate::cli) fn snapshot(error: &SnapshotError, file: &Path) -> Self {
        let (exit, hint) = match error {
            SnapshotError::Running => {
                (Exit::Refused, Some("etcdctl snapshot save FILE, and scan that; or scan it live: --etcd-servers"))
            }
            SnapshotError::Kind if file.is_dir() => (Exit::Usage, Some("name the file in it: member/snap/db")),
            SnapshotError::Kind => (Exit::Usage, None),
            SnapshotError::Open(error) if error.kind() == io::ErrorKind::NotFound => (Exit::Usage, None),
            SnapshotError::Open(_) => (Exit::Disk, None),
            SnapshotError::Bolt(_) => {
                (Exit::Damaged, Some("is it etcd's? take another snapshot: etcdctl snapshot save FILE"))
            }
        };
        Self::new(exit, &format!("{}: {error}", file.display()), hint.map(ToOwned::to_owned))
    }
    /// A live etcd that cannot be scanned.
    #[cfg(feature = "scan")]
    pub(in crate::cli) fn live(error: &LiveError) -> Self {
        let (exit, hint) = match error {
            LiveError::Etcd(EtcdError::Unreachable { .. }) => (
                Exit::Unreachable,
                Some("are address and certificates those of the API server? --apiserver-manifest FILE takes them"),
            ),
            LiveError::Servers(ServersError::NoAuthority { .. }) => (Exit::Usage, Some("give it: --etcd-cafile FILE")),
            LiveError::Servers(ServersError::Certificates { .. }) => (Exit::Usage, Some("are they PEM?")),
            LiveError::Servers(ServersError::File { .. }) => {
                (Exit::Disk, Some("check the path, and whether this user may read it"))
            }
            LiveError::Servers(ServersError::Endpoint { .. }) => {
                (Exit::Usage, Some("give its address: --etcd-servers https://127.0.0.1:2379"))
            }
            LiveError::Servers(ServersError::HalfIdentity) => {
                (Exit::Usage, Some("give both: --etcd-certfile FILE --etcd-keyfile FILE"))
            }
            LiveError::Etcd(EtcdError::Refused { .. }) => {
                (Exit::Refused, Some("is the client certificate the API server's? --apiserver-manifest FILE takes it"))
            }
            LiveError::Etcd(EtcdError::OtherCluster { .. }) => {
                (Exit::Refused, Some("name the endpoints of one cluster only: --etcd-servers"))
            }
            LiveError::Etcd(EtcdError::Compacted(_)) => {
                (Exit::Refused, Some("run it again: etcd was compacted during the scan"))
            }
            LiveError::Etcd(EtcdError::TooLarge { .. }) => {
                (Exit::Refused, Some("scan a snapshot instead: etcdctl snapshot save FILE"))
            }
            LiveError::Runtime(_) => (Exit::Refused, Some(LIMITS)),
        };
        Self::new(exit, error, hint.map(ToOwned::to_owned))
    }
    /// A slot's secret, before anything was begun.
    pub(in crate::cli) fn slot(error: &SlotError) -> Self {
        let (exit, hint) = slot(error);
        Self::new(exit, error, hint)
    }
    /// No memory for a secret.
    pub(in crate::cli) fn memory(error: &SecretError) -> Self {
        let (exit, hint) = memory(error);
        Self::new(exit, error, hint)
    }
    /// There are no random bytes.
    pub(in crate::cli) fn random(error: RandomError) -> Self {
        Self::new(Exit::Refused, &error, RANDOM.to_owned())
    }
    /// Prints the failure to standard error, for people or as JSON.
    pub(in crate::cli) fn report(&self, is_json: bool) -> ExitCode {
        // If standard error is closed, nobody reads it.
        let _ = if is_json { self.print_json() } else { self.print_text() };
        self.exit.into()
    }
    fn print_text(&self) -> io::Result<()> {
        let red = styling::AnsiColor::Red.on_default().bold();
        let bold = styling::Style::new().bold();
        let mut err = anstream::stderr().lock();
        writeln!(err, "{red}error{red:#}: {}", self.message)?;
        match &self.hint {
            Some(hint) => writeln!(err, "{bold}hint{bold:#}:  {hint}"),
            None => Ok(()),
        }
    }
    fn print_json(&self) -> io::Result<()> {
        let report = Report {
            format: "claviger/error/v1",
            error: &self.message,
            hint: self.hint.as_deref(),
            exit: self.exit as u8,
        };
        writeln!(io::stderr(), "{}", serde_json::to_string(&report)?)
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        let hint = match &error {
            ConfigError::Socket(_) => Some(socket::ADDRESS.to_owned()),
            ConfigError::MetricsAddress { .. } | ConfigError::MetricsSocket(_) => {
                Some("--metrics-listen 127.0.0.1:9808, or --metrics-listen /run/claviger/metrics.sock".to_owned())
            }
            ConfigError::NotLoopback(address) => {
                Some(format!("listen on 127.0.0.1:{}, and put a proxy that authenticates in front", address.port()))
            }
            ConfigError::MetricsOnSocket(_) => Some("give them a socket of their own beside it".to_owned()),
            #[cfg(not(feature = "metrics"))]
            ConfigError::NoMetrics(_) => {
                Some("remove `metrics-listen`, or build claviger with its feature `metrics`".to_owned())
            }
            ConfigError::Read { .. }
            | ConfigError::Syntax { .. }
            | ConfigError::StateDir
            | ConfigError::ProviderName(_) => None,
        };
        Self::new(Exit::Usage, &error, hint)
    }
}

/// The hint for a step that the kernel refuses only if a limit is reached.
const LIMITS: &str = "look for a limit that is reached: `ulimit -n` shows how many files a process may open";

fn occupied_hint(state_dir: &Path) -> String {
    format!(
        "replace it on its own socket: claviger serve --take-over; or stop it first; `fuser {}/serving` finds it, and \
         `claviger status` shows how it is",
        state_dir.display()
    )
}
