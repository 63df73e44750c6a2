//! What went wrong, for whoever typed the command: one line, a hint on its own line, an exit code.
//!
//! The hint is separate data, made here from the error's type; no other module knows hints or exit codes.

use std::{
    fmt::Display,
    io::{self, Write},
    path::Path,
    process::ExitCode,
};

use serde::Serialize;

use crate::{
    config::ConfigError,
    crypto::secret::SecretError,
    daemon::DaemonError,
    durable::DurableError,
    escrow::{BackupError, IdentityError, NotRecipient, RecoveryError, ShareError},
    etcd::{EtcdError, ServersError},
    keeper::{
        BackupFailed, BeginError, CommitError, ForgetError, InitError, KeysError, LedgerRefused, ListError,
        MergeFailed, OpenError, RecoveryChangeError, RekeyError, RestoreFailed, RootKeyError, ServeError, SlotsError,
    },
    keyring::{
        ChangeError, KeyError,
        ledger::LedgerError,
        mark::MarkError,
        merge::MergeError,
        record::RecordError,
        state::{State, Verb},
    },
    root::{RootError, SlotError},
    scan::{live::LiveError, snapshot::SnapshotError},
    store::StoreError,
    text::TextError,
};

use super::{Format, socket};

/// The documented exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exit {
    Done = 0,
    Found = 1,
    Usage = 2,
    Refused = 3,
    WrongKey = 4,
    Disk = 5,
    Unreachable = 6,
    Damaged = 7,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// A failed command.
#[derive(Debug)]
pub(super) struct Failure {
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

const RESTORE: &str = "put it back from your copy of the state directory, or from a backup: claviger backup restore; never \
                       start over with `claviger init`: what is encrypted needs these keys";

const SHARED: &str =
    "this version does not support keyrings that are kept in etcd: use the newer version of claviger that put it there";

const MARK: &str = "move it away and start `claviger serve --expect …` with what `claviger status` last printed here";

impl Failure {
    pub(super) fn new(exit: Exit, error: &impl Display, hint: impl Into<Option<String>>) -> Self {
        Self { message: error.to_string(), hint: hint.into(), exit }
    }

    /// The same with another hint.
    pub(super) fn hint(self, hint: &str) -> Self {
        Self { hint: Some(hint.to_owned()), ..self }
    }

    /// The same behind what is true nevertheless.
    pub(super) fn about(self, what: &str) -> Self {
        Self { message: format!("{what}: {}", self.message), ..self }
    }

    pub(super) fn hardening(error: &io::Error) -> Self {
        Self::new(Exit::Refused, &format!("forbidding core dumps: {error}"), None)
    }

    /// The state directory itself could not be opened.
    pub(super) fn state_dir(error: DurableError, state_dir: &Path) -> Self {
        Self::open(&OpenError::StateDir(error), state_dir)
    }

    pub(super) fn open(error: &OpenError, state_dir: &Path) -> Self {
        Self::change(error, state_dir)
    }

    /// The daemon did not start, or ended.
    pub(super) fn daemon(error: &DaemonError, state_dir: &Path) -> Self {
        match error {
            DaemonError::Keyring(error) => Self::serve(error, state_dir),
            DaemonError::Socket(error) => Self::new(Exit::Refused, error, socket::hint(error)),
            DaemonError::Occupied(_) => Self::new(Exit::Refused, error, occupied_hint(state_dir)),
            error => Self::new(Exit::Refused, error, None),
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

    pub(super) fn init(error: &InitError, state_dir: &Path) -> Self {
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
            InitError::Keyring(KeyError::Random(_)) | InitError::Random(_) => (Exit::Refused, None),
        };
        Self::new(exit, error, hint)
    }

    /// What went wrong, without the hint.
    pub(super) fn message(&self) -> &str {
        &self.message
    }

    /// Nothing was restored.
    pub(super) fn restore(error: &RestoreFailed, state_dir: &Path) -> Self {
        const PROOF: &str = "give --expect with what `backup create` or `status` printed where the keyring was; or show which \
                             keys are needed: --snapshot FILE of etcd, or --etcd-servers URL";
        let (exit, hint) = match error {
            RestoreFailed::SetUp(InitError::BrokenOff(cause)) => {
                (commit(cause).0, Some("fix that, then run the same command again; nothing was lost".to_owned()))
            }
            RestoreFailed::SetUp(InitError::Exists(_)) => (
                Exit::Refused,
                Some(
                    "to merge into the keyring that is there, leave --slot-file away; to restore beside it, give another \
                     --state-dir"
                        .to_owned(),
                ),
            ),
            RestoreFailed::Unproven => (Exit::Refused, Some(PROOF.to_owned())),
            RestoreFailed::NothingNeeded => (
                Exit::Refused,
                Some("give --expect with what `backup create` or `status` printed where the keyring was".to_owned()),
            ),
            RestoreFailed::Lacks(_) => (
                Exit::Refused,
                Some(
                    "use a newer backup. To use several: first restore this one with --expect and without --snapshot and \
                     --etcd-servers; then run `claviger backup restore FILE …` with the others, which merges them"
                        .to_owned(),
                ),
            ),
            RestoreFailed::Expect(_) => {
                (Exit::Refused, Some("restore the backup that this line `expect` was printed for".to_owned()))
            }
            RestoreFailed::HomeInEtcd(_) => (Exit::Refused, Some(SHARED.to_owned())),
            RestoreFailed::Keyring(ChangeError::UnknownKey(_)) => {
                (Exit::Refused, Some("name a key of the backup: claviger backup check FILE".to_owned()))
            }
            RestoreFailed::Keyring(error) => change(error),
            RestoreFailed::Backup(error) => backup(error),
            RestoreFailed::NoRecipient => {
                (Exit::Refused, Some("give the identity of a recipient: --recovery-identity FILE".to_owned()))
            }
            RestoreFailed::SetUp(InitError::NotBegun(CommitError::Record(_))) | RestoreFailed::Ledger(_) => {
                (Exit::Damaged, Some("use another backup".to_owned()))
            }
            RestoreFailed::SetUp(error) => return Self::init(error, state_dir),
        };
        Self::new(exit, error, hint)
    }

    /// An operation that changes the keyring, or makes a backup of it, failed.
    pub(super) fn change(error: &(impl Explain + Display), state_dir: &Path) -> Self {
        let (exit, hint) = error.explain(state_dir);
        Self::new(exit, error, hint)
    }

    /// A text that is not a recipient.
    pub(super) fn recipient(error: NotRecipient) -> Self {
        let (exit, hint) = pair();
        Self::new(exit, &error, hint)
    }

    /// A text that contains no identity.
    pub(super) fn identity(error: &IdentityError) -> Self {
        let (exit, hint) = match error {
            IdentityError::Share(error) => share(error),
            _ => pair(),
        };
        Self::new(exit, error, hint)
    }

    /// A backup that does not open.
    pub(super) fn backup(error: &BackupError, file: &Path) -> Self {
        let (exit, hint) = backup(error);
        Self::new(exit, &format!("backup {}: {error}", file.display()), hint)
    }

    /// A file for somebody else.
    pub(super) fn export(error: &DurableError) -> Self {
        let (exit, hint) = export(error);
        Self::new(exit, error, hint)
    }

    /// A snapshot that cannot be scanned.
    pub(super) fn snapshot(error: &SnapshotError, file: &Path) -> Self {
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
    pub(super) fn live(error: &LiveError) -> Self {
        let (exit, hint) = match error {
            LiveError::Etcd(EtcdError::Unreachable { .. }) => (
                Exit::Unreachable,
                Some("are address and certificates those of the API server? --apiserver-manifest FILE takes them"),
            ),
            LiveError::Servers(ServersError::NoAuthority { .. }) => (Exit::Usage, Some("give it: --etcd-cafile FILE")),
            LiveError::Servers(ServersError::Certificates { .. }) => (Exit::Usage, Some("are they PEM?")),
            LiveError::Servers(ServersError::File { .. }) => (Exit::Disk, None),
            LiveError::Servers(_) => (Exit::Usage, None),
            _ => (Exit::Refused, None),
        };
        Self::new(exit, error, hint.map(ToOwned::to_owned))
    }

    /// A slot's secret, before anything was begun.
    pub(super) fn slot(error: &SlotError) -> Self {
        let (exit, hint) = slot(error);
        Self::new(exit, error, hint)
    }

    /// No memory for a secret.
    pub(super) fn memory(error: &SecretError) -> Self {
        let (exit, hint) = memory(error);
        Self::new(exit, error, hint)
    }

    /// Prints it to standard error.
    pub(super) fn report(&self, format: Format) -> ExitCode {
        // Nobody is left to tell when standard error is closed.
        let _ = match format {
            Format::Text => self.print_text(),
            Format::Json => self.print_json(),
        };
        self.exit.into()
    }

    fn print_text(&self) -> io::Result<()> {
        let red = anstyle::AnsiColor::Red.on_default().bold();
        let bold = anstyle::Style::new().bold();
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
            ConfigError::Read { .. }
            | ConfigError::Syntax { .. }
            | ConfigError::StateDir
            | ConfigError::ProviderName(_) => None,
        };
        Self::new(Exit::Usage, &error, hint)
    }
}

/// An exit code, and a hint if there is one.
pub(super) type Explanation = (Exit, Option<String>);

fn look_hint(state_dir: &Path) -> String {
    format!("look at it: claviger status --state-dir {}", state_dir.display())
}

fn init_hint(state_dir: &Path) -> String {
    format!(
        "where keys have been, put them back into {}: what is encrypted needs them; on a new node see `claviger init \
         --help`",
        state_dir.display()
    )
}

fn restart_hint(state_dir: &Path) -> String {
    format!(
        "nothing depends on it yet; if `claviger init` made it, run that again with --restart; if `claviger backup restore` did, \
         run that again; both with --state-dir {}",
        state_dir.display()
    )
}

fn occupied_hint(state_dir: &Path) -> String {
    format!(
        "replace it on its own socket: claviger serve --take-over; or stop it first; `fuser {}/serving` finds it, and \
         `claviger status` shows how it is",
        state_dir.display()
    )
}

/// Never a command that changes a directory: it may be anybody's.
fn durable(error: &DurableError) -> Explanation {
    let refused = |hint: String| (Exit::Refused, Some(hint));
    match error {
        DurableError::Missing(_) | DurableError::TooLong { .. } => (Exit::Damaged, None),
        DurableError::Kind { path, found: "a symbolic link", .. } => {
            refused(format!("links are not followed; see where it leads: readlink -f {}", path.display()))
        }
        DurableError::Exists(_) | DurableError::Kind { .. } => (Exit::Refused, None),
        DurableError::Mode { path, expected, .. } => refused(format!("chmod {expected:04o} {}", path.display())),
        DurableError::Owner { path, expected, .. } => refused(format!("chown {expected} {}", path.display())),
        DurableError::DirectoryMode { expected, .. } => {
            refused(format!("give claviger a directory of its own; if this one is, its mode should be {expected:04o}"))
        }
        DurableError::DirectoryOwner { found, expected, .. } => {
            refused(format!("use a directory of uid {expected}'s, or run it as uid {found}"))
        }
        DurableError::Ancestor { .. } | DurableError::AncestorOwner { .. } => {
            refused("use a directory that nobody but root and its owner can replace, as in /var/lib".to_owned())
        }
        DurableError::Locked(_) => refused("another command or the daemon is at work here; run it again".to_owned()),
        DurableError::SharedDisk { .. } => refused("keep backups on another disk".to_owned()),
        DurableError::ReadBack(_) => (Exit::Disk, Some("check the disk; the old state is whole".to_owned())),
        DurableError::Io { source, .. } => io_hint(source),
    }
}

fn io_hint(error: &io::Error) -> Explanation {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            (Exit::Refused, Some("run it as root, or as the owner of the state directory".to_owned()))
        }
        io::ErrorKind::NotADirectory | io::ErrorKind::InvalidFilename => (Exit::Refused, None),
        io::ErrorKind::ReadOnlyFilesystem => (Exit::Disk, Some("mount it writable; nothing was changed".to_owned())),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            (Exit::Disk, Some("free some space and run it again; nothing was lost".to_owned()))
        }
        _ => (Exit::Disk, None),
    }
}

fn text(error: &TextError) -> Explanation {
    match error {
        TextError::TooNew { .. } => (Exit::Refused, Some("upgrade claviger on this node".to_owned())),
        TextError::NotAuthentic => (Exit::WrongKey, Some(RESTORE.to_owned())),
        TextError::TooLong { .. } | TextError::Foreign(_) | TextError::Line { .. } | TextError::Incomplete => {
            (Exit::Damaged, Some(RESTORE.to_owned()))
        }
    }
}

fn open(error: &OpenError) -> Explanation {
    match error {
        OpenError::NotInitialised(_) => (Exit::Refused, None),
        OpenError::Unfinished(_) => (Exit::Damaged, None),
        OpenError::Missing(_)
        | OpenError::File(DurableError::TooLong { .. })
        | OpenError::Store(StoreError::File(DurableError::TooLong { .. })) => (Exit::Damaged, Some(RESTORE.to_owned())),
        OpenError::File(error) | OpenError::StateDir(error) => durable(error),
        OpenError::Store(error) => store(error),
        OpenError::Root { source, .. } => root(source),
        OpenError::Record { source, .. } => record(source),
        OpenError::Mark { source, .. } => mark(source),
        OpenError::Memory(error) => memory(error),
    }
}

fn root(error: &RootError) -> Explanation {
    match error {
        RootError::File(error) => durable(error),
        RootError::Text(error) => text(error),
        RootError::NoSlotOpens(failures) => failures.first().map_or((Exit::Damaged, None), |(_, error)| slot(error)),
        RootError::OtherRootKey(_) => (Exit::WrongKey, Some(RESTORE.to_owned())),
        RootError::Reseal(_, error) => {
            (slot(error).0, Some("make its secret available, or remove the slot; nothing was changed".to_owned()))
        }
        RootError::SlotExists(_) => {
            (Exit::Refused, Some("give it another --name, or remove that one first: claviger slot remove".to_owned()))
        }
        RootError::NoSuchSlot(_) => (Exit::Refused, Some("name one that `claviger slot list` shows".to_owned())),
        RootError::LastSlot(_) => (Exit::Refused, Some("add another one first: claviger slot add --help".to_owned())),
        RootError::NoSuccessor => (Exit::WrongKey, Some("put the right files back".to_owned())),
        RootError::NotCanonical | RootError::OldRootKey => (Exit::Damaged, Some(RESTORE.to_owned())),
        RootError::Memory(error) => memory(error),
        RootError::Random(_) => (Exit::Refused, None),
    }
}

fn slot(error: &SlotError) -> Explanation {
    match error {
        SlotError::File(DurableError::Missing(_) | DurableError::TooLong { .. })
        | SlotError::SecretLength { .. }
        | SlotError::Malformed(_) => (Exit::Damaged, Some(RESTORE.to_owned())),
        SlotError::File(error) => durable(error),
        SlotError::WrongKey => {
            (Exit::WrongKey, Some("the slot's secret belongs to another root file; put the right one back".to_owned()))
        }
        SlotError::NoPassphrase => {
            (Exit::Refused, Some("give --passphrase-file FILE, or run it on a terminal".to_owned()))
        }
        SlotError::WrongPassphrase => (Exit::WrongKey, None),
        SlotError::NoCredentials(_) => (
            Exit::Refused,
            Some("systemd gives it to the unit: see what `claviger generate systemd-credential` prints".to_owned()),
        ),
        SlotError::Credential { source, .. } if source.kind() == io::ErrorKind::NotFound => {
            (Exit::Refused, Some("see what `claviger generate systemd-credential` prints".to_owned()))
        }
        SlotError::Credential { source, .. } => io_hint(source),
        SlotError::CredentialLength { .. } => {
            (Exit::Refused, Some("a credential is a key: head -c 32 /dev/urandom makes one".to_owned()))
        }
        SlotError::Stretch(_) => (Exit::Refused, Some("free some memory, or use another slot".to_owned())),
        SlotError::Unsupported(_) => (Exit::Refused, Some("use a build that has this kind of slot".to_owned())),
        SlotError::Memory(error) => memory(error),
        SlotError::Passphrase(_) | SlotError::Random(_) => (Exit::Refused, None),
    }
}

fn record(error: &RecordError) -> Explanation {
    match error {
        RecordError::Text(error) => text(error),
        RecordError::OtherKeyring { .. } | RecordError::OtherRootKey => (
            Exit::WrongKey,
            Some("root file and keyring are of different installations; put the right pair back".to_owned()),
        ),
        RecordError::Memory(error) => memory(error),
        _ => (Exit::Damaged, Some(RESTORE.to_owned())),
    }
}

fn mark(error: &MarkError) -> Explanation {
    match error {
        MarkError::Text(error @ TextError::TooNew { .. }) => text(error),
        MarkError::Text(error) => (text(error).0, Some(MARK.to_owned())),
        MarkError::TooFarAhead { .. } => (
            Exit::Refused,
            Some(
                "if you trust this keyring, start `claviger serve --expect EXPECT` once; EXPECT is the line `expect` of `claviger \
                 status` where the keyring was changed last"
                    .to_owned(),
            ),
        ),
        MarkError::RolledBack { .. }
        | MarkError::Forked(_)
        | MarkError::NoSuccessor { .. }
        | MarkError::KeyLost { .. } => {
            (Exit::Refused, Some("this is an older copy or a fork of the keyring: put the newest copy of the state directory back, or merge a backup: claviger backup restore FILE".to_owned()))
        }
        MarkError::OtherKeyring { .. } | MarkError::OtherRootKey => {
            (Exit::WrongKey, Some("the mark is another installation's; put the right files back".to_owned()))
        }
        MarkError::NotCanonical => (Exit::Damaged, Some(MARK.to_owned())),
        MarkError::Memory(error) => memory(error),
    }
}

/// Says what an operator can do about the error of an operation.
pub(super) trait Explain {
    /// The exit code and the hint; `state_dir` is the directory of the operation.
    fn explain(&self, state_dir: &Path) -> Explanation;
}

fn refused(hint: &str) -> Explanation {
    (Exit::Refused, Some(hint.to_owned()))
}

impl Explain for OpenError {
    fn explain(&self, state_dir: &Path) -> Explanation {
        match self {
            Self::NotInitialised(_) | Self::StateDir(DurableError::Missing(_)) => {
                (Exit::Refused, Some(init_hint(state_dir)))
            }
            Self::Unfinished(_) => (Exit::Damaged, Some(restart_hint(state_dir))),
            error => open(error),
        }
    }
}

/// Ends a rekey that did not finish.
const FINISH_REKEY: &str = "let it finish: claviger rekey";

impl Explain for BeginError {
    fn explain(&self, state_dir: &Path) -> Explanation {
        match self {
            Self::Open(error) => error.explain(state_dir),
            Self::Lock(error) => durable(error),
            Self::Rekeying => refused(FINISH_REKEY),
        }
    }
}

impl Explain for KeysError {
    fn explain(&self, state_dir: &Path) -> Explanation {
        match self {
            Self::Begin(error) => error.explain(state_dir),
            Self::Refused(error) => change(error),
            Self::Needed { .. } | Self::Forgotten { .. } | Self::Unproven { .. } => refused(not_given_up(self)),
            Self::Unbacked { reason: Some(_), .. } => refused(BEGIN_ANEW),
            Self::Unbacked { reason: None, .. } => refused(
                "write a backup to another disk: claviger backup create FILE; or open an existing one: claviger backup check FILE; \
                 --without-backup skips this check",
            ),
            Self::Commit(error) => commit(error),
        }
    }
}

impl Explain for RecoveryChangeError {
    fn explain(&self, state_dir: &Path) -> Explanation {
        match self {
            Self::Begin(error) => error.explain(state_dir),
            Self::Recovery(error) => recovery(error),
            Self::Refused(error) => change(error),
            Self::LastRecipient(_) => {
                refused("add another one first: claviger recovery add; --risk-no-recovery goes without any")
            }
            Self::Commit(error) => commit(error),
        }
    }
}

impl Explain for RekeyError {
    fn explain(&self, state_dir: &Path) -> Explanation {
        match self {
            Self::Begin(error) => error.explain(state_dir),
            Self::Root(error) => root(error),
            Self::Recovery(error) => recovery(error),
            Self::Refused(error) => change(error),
            Self::Memory(error) => memory(error),
            Self::Commit(error) => commit(error),
            Self::Unfinished(error) => {
                (commit(error).0, Some("mend that, then let it finish: claviger rekey; nothing was lost".to_owned()))
            }
        }
    }
}

impl Explain for SlotsError {
    fn explain(&self, state_dir: &Path) -> Explanation {
        match self {
            Self::Begin(error) => error.explain(state_dir),
            Self::Root(error) => root(error),
            Self::Slot(_, error) => slot(error),
            Self::NoOtherOpens { .. } => refused(
                "make another one open first: claviger slot test says how they are; or add one: claviger slot add",
            ),
            Self::KeyFile(DurableError::Exists(_)) => refused(IN_THE_WAY),
            Self::KeyFile(error) => durable(error),
            Self::Commit(error) => commit(error),
        }
    }
}

/// What to do with a file that is where a new one should be.
const IN_THE_WAY: &str =
    "if a command broke off, nothing needs it: move it away; or give another name: --name, or --slot-file";

impl Explain for RootKeyError {
    fn explain(&self, _: &Path) -> Explanation {
        match self {
            Self::Root(error) => root(error),
            Self::Strange => strange_root_key(),
        }
    }
}

impl Explain for BackupFailed {
    fn explain(&self, state_dir: &Path) -> Explanation {
        match self {
            Self::Open(error) => error.explain(state_dir),
            Self::Rekeying => refused(FINISH_REKEY),
            Self::NoRecipient => refused(NO_RECIPIENT),
            Self::Recovery(error) => recovery(error),
            Self::Root(error) => root(error),
            Self::Memory(error) => memory(error),
            Self::Backup(error) => backup(error),
            Self::NotAudited(error) => durable(error),
        }
    }
}

const NO_RECIPIENT: &str = "name one: --recipient age1…; or keep one in the keyring: claviger recovery add";

impl Explain for ListError {
    fn explain(&self, state_dir: &Path) -> Explanation {
        match self {
            Self::Begin(error) => error.explain(state_dir),
            Self::RootKey(error) => error.explain(state_dir),
            Self::Refused(error) => ledger(error),
            Self::Full(_) => {
                refused("remove one that is not kept any more: claviger backup list, claviger backup forget ID")
            }
            Self::Commit(error) => commit(error),
        }
    }
}

impl Explain for ForgetError {
    fn explain(&self, state_dir: &Path) -> Explanation {
        match self {
            Self::Begin(error) => error.explain(state_dir),
            Self::Refused(error) => ledger(error),
            Self::Unknown { .. } => refused("name one by its ID: claviger backup list"),
            Self::OtherUuid { .. } => refused("give the uuid of the keyring here, if you mean this one"),
            Self::Commit(error) => commit(error),
        }
    }
}

impl Explain for MergeFailed {
    fn explain(&self, state_dir: &Path) -> Explanation {
        match self {
            Self::Open(error) => error.explain(state_dir),
            Self::Root(error) => root(error),
            Self::OtherKeyring(_) => (Exit::WrongKey, Some("use a backup of this keyring".to_owned())),
            Self::NewerRootKey => refused(
                "restore the backup into an empty directory: --state-dir NEW; then merge the keyring here into it: claviger backup \
                 restore FILE --state-dir NEW, where FILE is the file `keyring` of this directory",
            ),
            Self::StrangeRootKey => strange_root_key(),
            Self::Merge(error) => merge(error),
            Self::Recovery(error) => recovery(error),
            Self::NoPlaceForBackup => {
                refused("say where to write the backup of the new key, on another disk: --backup-to FILE")
            }
            Self::NoRecipient => refused(NO_RECIPIENT),
            Self::Backup(error) => backup(error),
            Self::Lock(error) => durable(error),
            Self::Commit(error) => commit(error),
        }
    }
}

fn strange_root_key() -> Explanation {
    let hint = "if you are sure that it is a backup of this keyring, add --expect with the line that `backup create` printed for it";
    (Exit::WrongKey, Some(hint.to_owned()))
}

fn merge(error: &MergeError) -> Explanation {
    const SHOWS: &str = "run the same command without --lost, --keep-destroyed and --compromised: it shows the key_ids";
    match error {
        MergeError::Change(ChangeError::UnknownKey(_)) => refused(SHOWS),
        MergeError::Change(error) => change(error),
        MergeError::Missing(_) => refused(
            "also give a backup that has these keys; if there is none: --lost KEY_ID for each, and what is under them stays \
             unreadable",
        ),
        MergeError::Beyond { .. } => {
            (Exit::WrongKey, Some("no honest keyring is that far ahead: use another backup".to_owned()))
        }
        _ => refused(SHOWS),
    }
}

/// What an operator does whose ledger is not believed.
const BEGIN_ANEW: &str = "put the newest copy of the file `ledger` back; if there is none, begin an empty list: claviger backup \
                          forget --all UUID (`claviger status` shows the keyring's uuid)";

fn ledger(error: &LedgerRefused) -> Explanation {
    match error {
        LedgerRefused::Ledger(LedgerError::Text(error @ TextError::TooNew { .. })) => text(error),
        LedgerRefused::File(DurableError::TooLong { .. }) => (Exit::Damaged, Some(BEGIN_ANEW.to_owned())),
        LedgerRefused::File(error) => durable(error),
        LedgerRefused::Ledger(_) => refused(BEGIN_ANEW),
    }
}

/// The hint for a key that is not disabled or destroyed, because something needs it or may need it.
fn not_given_up(error: &KeysError) -> &'static str {
    match error {
        KeysError::Needed { .. } => {
            "write these objects again, which puts them under the primary key: kubectl get … -o json | kubectl replace -f -, as in \
             the README"
        }
        KeysError::Forgotten { .. } => {
            "if no backup and no snapshot that the lost ledger listed is needed any more: --risk-losing-secrets; otherwise keep the \
             key disabled"
        }
        KeysError::Unproven { verb: Verb::Destroy, .. } => {
            "let it read all of etcd: --etcd-servers URL, or --apiserver-manifest FILE, and see `claviger scan` and `claviger \
             status`; --risk-losing-secrets skips this check, and what is under the key is then lost for ever"
        }
        _ => {
            "let it read all of etcd: --etcd-servers URL, or --apiserver-manifest FILE, and see `claviger scan` and `claviger \
             status`; --risk-unreadable-secrets skips this check, and `claviger key enable` takes it back"
        }
    }
}

fn commit(error: &CommitError) -> Explanation {
    let mended = || Some("when that is mended, `claviger serve` marks it; nothing was lost".to_owned());
    match error {
        CommitError::NoMark => {
            refused("`claviger serve --expect …` makes it, with what `claviger status` last printed here")
        }
        CommitError::HomeInEtcd(_) => refused(SHARED),
        CommitError::Full => refused(
            "make room: `claviger scan --keyring FILE` shows which keys are in use; disable and destroy others: claviger key \
             disable, claviger key destroy",
        ),
        CommitError::Record(_) | CommitError::LedgerSpent => (Exit::Refused, None),
        CommitError::Memory(error) => memory(error),
        CommitError::Overtaken(_) => refused("another command or the daemon is at work here; run it again"),
        CommitError::Unread(error) => open(error),
        CommitError::NotExported(error) => export(error),
        CommitError::NotWritten(DurableError::Exists(_)) => refused(IN_THE_WAY),
        CommitError::NotAudited(error) | CommitError::NotWritten(error) => durable(error),
        CommitError::NotSwapped(error) => store(error),
        CommitError::InDoubt { failed, .. } => (store(failed).0, Some("look at it: claviger status".to_owned())),
        CommitError::NotConfirmed(error) => (store(error).0, mended()),
        CommitError::RootNotConfirmed(error) => {
            (durable(error).0, Some("look at it: claviger slot test; nothing was lost".to_owned()))
        }
        CommitError::NotMarked(error) | CommitError::LedgerNotMarked(error) => (durable(error).0, mended()),
        CommitError::Unchecked(error) => (open(error).0, Some("look at it: claviger status".to_owned())),
    }
}

fn store(error: &StoreError) -> Explanation {
    match error {
        StoreError::File(error) => durable(error),
    }
}

fn export(error: &DurableError) -> Explanation {
    match error {
        DurableError::Missing(path) => (Exit::Refused, Some(format!("mkdir -p {}", path.display()))),
        error => durable(error),
    }
}

fn change(error: &ChangeError) -> Explanation {
    let hint = match error {
        ChangeError::UnknownKey(_) | ChangeError::Destroyed(_) => "name one that `claviger key list` shows",
        ChangeError::UnknownRecipient(_) => "name one that `claviger recovery list` shows",
        ChangeError::State { state: State::Primary, verb: Verb::Disable | Verb::Destroy, .. } => {
            "promote another key first: claviger key add, then claviger key promote"
        }
        ChangeError::State { verb: Verb::Promote, .. } => {
            "only a pending key is promoted; to go back, add a key and promote that one: claviger key add"
        }
        ChangeError::Compromised(_) => "add another key, and promote that one: claviger key add",
        ChangeError::State { verb: Verb::Destroy, .. } => "disable it first, and see that nothing misses it",
        ChangeError::Key(KeyError::Secret(error)) => return memory(error),
        _ => return (Exit::Refused, None),
    };
    (Exit::Refused, Some(hint.to_owned()))
}

fn recovery(error: &RecoveryError) -> Explanation {
    match error {
        RecoveryError::Recipient(_) => pair(),
        RecoveryError::NoIdentity(_) => (
            Exit::WrongKey,
            Some(
                "give the identity of every recipient with --recovery-identity; it is read once and never stored"
                    .to_owned(),
            ),
        ),
        RecoveryError::Seal(_) | RecoveryError::Contents(_) => (Exit::Damaged, None),
        RecoveryError::Memory(error) => memory(error),
    }
}

/// What is no recipient and no identity.
fn pair() -> Explanation {
    (Exit::Usage, Some("make a pair with `age-keygen`; keep the identity offline".to_owned()))
}

fn share(error: &ShareError) -> Explanation {
    let (exit, hint) = match error {
        ShareError::Damaged(_) => {
            (Exit::Damaged, "compare it with the paper, character by character; or use another share")
        }
        ShareError::TooFew { .. } => (Exit::Usage, "give more: --recovery-identity FILE for each, or all in one file"),
        ShareError::Mixed(_) => (Exit::Usage, "give shares of one set: its name is in the comment above each"),
        ShareError::Twice(_) => (Exit::Usage, "give another one in its place"),
        ShareError::Other(_) => (Exit::WrongKey, "one of them is not genuine: try others"),
        ShareError::Counts { .. } | ShareError::Identity | ShareError::Random => return (Exit::Usage, None),
    };
    (exit, Some(hint.to_owned()))
}

fn backup(error: &BackupError) -> Explanation {
    match error {
        BackupError::Foreign => (Exit::Usage, None),
        BackupError::NoIdentity => (Exit::WrongKey, Some("give the identity of one of its recipients".to_owned())),
        BackupError::NoRecovery => {
            (Exit::WrongKey, Some("use a backup, or the identity of one of its recipients".to_owned()))
        }
        BackupError::Damaged | BackupError::Contents(_) => (Exit::Damaged, Some("use another backup".to_owned())),
        BackupError::Record(error) => (record(error).0, Some("use another backup".to_owned())),
        BackupError::Recovery(error) => recovery(error),
        BackupError::Memory(error) => memory(error),
    }
}

fn memory(error: &SecretError) -> Explanation {
    let hint = matches!(error, SecretError::Lock(_))
        .then(|| "raise the limit of locked memory: LimitMEMLOCK=8M in the unit, or `ulimit -l 8192`".to_owned());
    (Exit::Refused, hint)
}
