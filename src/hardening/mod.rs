//! What the process gives up for itself: core dumps, files, system calls.
//!
//! Layers over what a service manager or a container imposes, and in force without either. What a kernel lacks is
//! reported and not missed: a plugin that does not start costs more than one with a layer less. Invariant: a layer that
//! is reported as on holds for every thread.

mod calls;
mod files;

use std::{collections::BTreeMap, env::consts::ARCH, fmt, io};

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};
use serde::Deserialize;

use self::calls::{Call, Condition, Narrowed};
pub use self::files::{FilesError, Needs, Restricted, restrict};

/// A layer that an operator can do without.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Layer {
    /// Keys in memory that nobody else can look into; without it they are locked into RAM.
    MemfdSecret,
    /// No files and ports but those that are needed.
    Landlock,
    /// No system calls but those that are needed.
    Seccomp,
}

/// What is in force, as it is logged and told to `claviger status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layers {
    /// How keys are kept in memory: the name of a system call.
    pub memory: &'static str,
    /// Files and ports.
    pub landlock: State,
    /// System calls.
    pub seccomp: State,
}

impl Layers {
    /// Each layer by its name, with how far it is in force.
    pub fn by_name(&self) -> BTreeMap<String, String> {
        let Self { memory, landlock, seccomp } = self;
        let layers =
            [("memory", (*memory).to_owned()), ("landlock", landlock.to_string()), ("seccomp", seccomp.to_string())];
        layers.map(|(layer, state)| (layer.to_owned(), state)).into()
    }
}

/// How far a layer is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// All of it.
    On,
    /// As far as this kernel knows it.
    Partial,
    /// Switched off by an operator.
    Off,
    /// This kernel does not have it.
    Unsupported,
    /// This kernel has it and refused it.
    Failed,
}

impl State {
    /// A word for people and machines.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Partial => "partial",
            Self::Off => "off",
            Self::Unsupported => "unsupported",
            Self::Failed => "failed",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// No core dump, and no attaching by other processes of the same user. Source: prctl(2), `PR_SET_DUMPABLE`.
///
/// # Errors
/// When the kernel refuses; nothing secret may then be read.
pub fn forbid_dumps() -> io::Result<()> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    Ok(())
}

/// Gives up every system call that a daemon does not make, in all threads; the others fail with EPERM. None can be
/// started any more. Source: seccomp(2), `SECCOMP_FILTER_FLAG_TSYNC`.
///
/// # Errors
/// When the kernel refuses.
pub fn restrict_calls() -> Result<State, seccompiler::Error> {
    match seccompiler::apply_filter_all_threads(&filter()?) {
        Ok(()) => Ok(State::On),
        // seccomp(2): a kernel without filters, or one that does not know the flag.
        Err(seccompiler::Error::Seccomp(error)) if is_unknown(&error) => Ok(State::Unsupported),
        Err(error) => Err(error),
    }
}

fn is_unknown(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS))
}

fn filter() -> Result<BpfProgram, seccompiler::BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    let whatever = [calls::USUAL, calls::OLDER, calls::RARE].into_iter().flatten();
    rules.extend(whatever.map(|(_, number): &Call| (*number, Vec::new())));
    for Narrowed { call: (_, number), conditions } in calls::narrowed(std::process::id()) {
        let conditions = conditions.iter().map(condition).collect::<Result<_, _>>()?;
        rules.entry(number).or_default().push(SeccompRule::new(conditions)?);
    }
    let refused = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    SeccompFilter::new(rules, refused, SeccompAction::Allow, ARCH.try_into()?)?.try_into()
}

fn condition(condition: &Condition) -> Result<SeccompCondition, seccompiler::BackendError> {
    let Condition { argument, mask, value } = condition;
    SeccompCondition::new(*argument, SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(*mask), *value)
}

#[cfg(test)]
mod tests {
    use std::{
        env, fs,
        io::ErrorKind,
        net::{TcpListener, TcpStream},
        os::unix::{
            net::{UnixListener, UnixStream},
            process::CommandExt,
        },
        path::{Path, PathBuf},
        process::{Command, id},
        thread,
    };

    use super::*;

    /// In the environment of a test that runs again as a process of its own, as there is no way back.
    const INSIDE: &str = "CLAVIGER_TEST_INSIDE";

    /// Runs this test again inside of `directory`, and fails if it fails there.
    fn inside(test: &str, directory: &Path) {
        let mut command = Command::new(env::current_exe().unwrap());
        let test = format!("hardening::tests::{test}");
        let output = command.args([&test, "--exact", "--nocapture"]).env(INSIDE, directory).output().unwrap();
        let printed = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&printed));
    }

    fn is_refused<T>(outcome: io::Result<T>) -> bool {
        outcome.is_err_and(|error| error.kind() == ErrorKind::PermissionDenied)
    }

    #[test]
    fn from_inside_no_file_and_no_port_is_reached_but_what_is_needed() {
        if let Some(directory) = env::var_os(INSIDE).map(PathBuf::from) {
            return try_files(&directory);
        }
        let dir = tempfile::tempdir().unwrap();
        for name in ["read", "change", "listen", "other"] {
            fs::create_dir(dir.path().join(name)).unwrap();
            fs::write(dir.path().join(name).join("file"), "bytes").unwrap();
        }
        inside("from_inside_no_file_and_no_port_is_reached_but_what_is_needed", dir.path());
    }

    fn try_files(dir: &Path) {
        let at = |name: &str| dir.join(name);
        let mut needs = Needs::default();
        needs.read.insert(at("read"));
        needs.change.extend([at("change"), at("missing")]);
        needs.socket(&at("listen/socket"));
        let restricted = restrict(&needs).unwrap();
        if restricted.state == State::Unsupported {
            return println!("skipped: this kernel has no Landlock");
        }
        assert_eq!(fs::read(at("read/file")).unwrap(), b"bytes");
        fs::rename(at("change/file"), at("change/renamed")).unwrap();
        fs::write(at("change/file"), "new").unwrap();
        fs::remove_file(at("change/renamed")).unwrap();
        UnixListener::bind(at("listen/socket")).unwrap();
        assert!(fs::read_dir("/proc/self/fd").unwrap().count() > 0);

        assert!(is_refused(fs::read("/etc/passwd")) && is_refused(fs::read(at("other/file"))));
        assert!(is_refused(fs::read_dir("/")) && is_refused(fs::read_dir(dir)));
        assert!(is_refused(fs::read(format!("/proc/{}/mem", rustix::process::getppid().unwrap()))));
        assert!(is_refused(fs::write(at("read/new"), "")) && is_refused(fs::remove_file(at("read/file"))));
        assert!(is_refused(fs::write(at("read/file"), "")) && is_refused(fs::create_dir(at("change/dir"))));
        assert!(is_refused(UnixListener::bind(at("change/socket"))));
        assert!(is_refused(TcpListener::bind("127.0.0.1:0")));
        assert!(is_refused(
            rustix::process::test_kill_process(rustix::process::getppid().unwrap()).map_err(Into::into)
        ));
    }

    #[test]
    fn from_inside_nothing_is_started_connected_to_or_looked_into() {
        if let Some(directory) = env::var_os(INSIDE).map(PathBuf::from) {
            return try_calls(&directory);
        }
        let dir = tempfile::tempdir().unwrap();
        let _listener = UnixListener::bind(dir.path().join("socket")).unwrap();
        inside("from_inside_nothing_is_started_connected_to_or_looked_into", dir.path());
    }

    fn try_calls(dir: &Path) {
        let port = TcpListener::bind("127.0.0.1:0").unwrap();
        let parent = rustix::process::getppid().unwrap();
        let other_thread = thread::spawn({
            let socket = dir.join("socket");
            move || {
                thread::park();
                is_refused(UnixStream::connect(socket))
            }
        });
        // Otherwise what is refused afterwards would prove nothing.
        UnixStream::connect(dir.join("socket")).unwrap();
        if restrict_calls().unwrap() == State::Unsupported {
            return println!("skipped: this kernel has no seccomp filters");
        }
        let connected = TcpStream::connect(port.local_addr().unwrap());
        let started = thread::Builder::new().spawn(|| {});
        let executed = Command::new("/bin/true").exec();
        let attached = nix::sys::ptrace::attach(nix::unistd::Pid::from_raw(parent.as_raw_nonzero().get()));
        other_thread.thread().unpark();
        // One at a time: what panics inside should say which it was.
        assert!(is_refused(UnixStream::connect(dir.join("socket"))), "connecting to a socket");
        assert!(is_refused(connected), "connecting to a port");
        assert!(other_thread.join().unwrap(), "connecting from another thread");
        assert!(is_refused(std::net::UdpSocket::bind("127.0.0.1:0")), "a datagram socket");
        assert!(is_refused(started), "a thread");
        assert!(is_refused(Command::new("/bin/true").status()), "a child");
        assert_eq!(executed.kind(), ErrorKind::PermissionDenied, "another program");
        assert_eq!(attached, Err(nix::errno::Errno::EPERM), "a debugger");
        assert!(is_refused(set_dumpable_behavior(DumpableBehavior::Dumpable).map_err(Into::into)), "dumps");
        assert!(is_refused(forbid_dumps()), "limits");
        assert!(is_refused(rustix::process::test_kill_process(parent).map_err(Into::into)), "a signal");
        // What is needed goes on.
        fs::write(dir.join("file"), id().to_string()).unwrap();
        UnixListener::bind(dir.join("other")).unwrap();
    }
}
