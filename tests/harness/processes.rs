//! Processes and their directory. Both are cleaned up, however this process ends.
//!
//! | how it ends | what cleans up |
//! |---|---|
//! | [`Process`] and [`Run`] are dropped, also by a panic | [`Process`] kills and reaps; the watchdog removes the directory |
//! | exit with a `Run` in a static, Ctrl-C, SIGTERM, SIGKILL | the kernel kills the processes; the watchdog does the rest |
//!
//! The kernel's part is asked for in [`super::spawn`].
//!
//! The watchdog is a shell that waits for the end of its standard input, a pipe whose only writer is this process. It
//! removes the directory, after killing what is left of the processes' groups: their grandchildren, for which nobody
//! asked the kernel.
//!
//! All of them are in process groups of their own, so that Ctrl-C reaches this process alone, and it decides.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use super::commands::tail;
use super::error::{Context, Error, Result};
use super::progress::{Progress, human, say};
use super::spawn::spawn;

/// The variable that keeps the directories of all runs, if it is set.
const KEEP: &str = "CLAVIGER_TEST_KEEP";

/// The time between two looks at something that is waited for.
const POLL: Duration = Duration::from_millis(50);

/// The time after which a wait shows its progress. A control plane takes 1 to 4 s.
const PATIENCE: Duration = Duration::from_secs(10);

/// The greatest length of the name in a Unix socket's address, without the closing zero.
const SOCKET_PATH_MAX: usize = 107;

/// Waits for the end of standard input, then removes the directory `$1`, unless `$2` says to keep it.
///
/// A process killed a moment ago may still create a file while `rm` walks, hence the second and later tries.
const WATCHDOG: &str = r#"
trap '' INT TERM HUP
cat >/dev/null
for group in "$1"/groups/*; do
    kill -KILL -- "-${group##*/}" 2>/dev/null
done
[ "$2" = keep ] && exit
for try in 1 2 3 4 5 6 7 8 9 10; do
    rm -rf -- "$1" && exit
    sleep 0.2
done
"#;

/// A temporary directory and the processes that work in it.
///
/// Clones share it; every [`Process`] holds one, so the directory outlives the last of them.
#[derive(Clone)]
pub(crate) struct Run(Arc<Shared>);

struct Shared {
    directory: PathBuf,
    names: AtomicUsize,
    watchdog: Watchdog,
}

impl Run {
    /// Makes a directory below the system's one for temporary files; short, as it has to hold sockets.
    pub(crate) fn new() -> Result<Self> {
        Self::inside(&std::env::temp_dir())
    }

    /// Makes the directory inside `parent`, for files that are renamed to a place beside it.
    pub(crate) fn inside(parent: &Path) -> Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix("claviger-")
            .tempdir_in(parent)
            .during(|| format!("making a directory in {}", parent.display()))?
            .keep();
        fs::create_dir(directory.join("groups")).during(|| "preparing a run".to_owned())?;
        let keep = std::env::var_os(KEEP).is_some();
        if keep {
            say(&format!("{KEEP} is set: {} will stay", directory.display()));
        }
        let watchdog = Watchdog::start(&directory, keep)?;
        Ok(Self(Arc::new(Shared { directory, names: AtomicUsize::new(1), watchdog })))
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.0.directory
    }

    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.directory.join(name)
    }

    /// Returns a path for a Unix socket. Fails if the path is too long, because the error texts of the servers are
    /// obscure.
    pub(crate) fn socket(&self, name: &str) -> Result<PathBuf> {
        let path = self.path(name);
        let length = path.as_os_str().len();
        if length > SOCKET_PATH_MAX {
            let message =
                format!("the socket {} has {length} bytes, at most {SOCKET_PATH_MAX} are possible", path.display());
            return Err(Error::new(message).hint("point TMPDIR at a directory with a short path"));
        }
        Ok(path)
    }

    /// Returns a name that is unique in this run: `etcd` becomes `etcd-1`, the next one `etcd-2`.
    pub(crate) fn unique_name(&self, stem: &str) -> String {
        format!("{stem}-{}", self.0.names.fetch_add(1, Ordering::Relaxed))
    }

    /// Returns the path of the log of a process with this name.
    pub(crate) fn log_of(&self, name: &str) -> PathBuf {
        self.path(format!("{name}.log"))
    }

    /// Starts a process. Its output is appended to `<name>.log` in the directory, so a restart continues the log.
    pub(crate) fn start(&self, name: &str, command: Command) -> Result<Process> {
        self.start_with_input(name, command, Stdio::null())
    }

    /// Starts a process that inherits something as its standard input.
    pub(crate) fn start_with_input(&self, name: &str, mut command: Command, input: Stdio) -> Result<Process> {
        let log = self.log_of(name);
        let output = append_to(&log)?;
        let errors = output.try_clone().during(|| format!("starting {name}"))?;
        command.stdin(input).stdout(output).stderr(errors);
        let child = spawn(command)?;
        let group = self.path("groups").join(child.id().to_string());
        let process = Process { name: name.to_owned(), child, log, group, _run: self.clone() };
        fs::write(&process.group, []).during(|| format!("starting {name}"))?;
        Ok(process)
    }
}

/// The shell that outlives this process by a moment, to remove the directory.
struct Watchdog {
    shell: Child,
    /// The pipe that is open as long as this process lives. Its end is the signal to the shell.
    lifeline: Option<ChildStdin>,
}

impl Watchdog {
    fn start(directory: &Path, keep: bool) -> Result<Self> {
        let mut shell = Command::new("sh")
            .args(["-c", WATCHDOG, "watchdog"])
            .arg(directory)
            .arg(if keep { "keep" } else { "remove" })
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .during(|| "starting the shell that cleans up".to_owned())?;
        let lifeline = shell.stdin.take();
        Ok(Self { shell, lifeline })
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        drop(self.lifeline.take());
        // The shell is waited for, so that nothing is left when a test has ended. A failure cannot be reported to
        // anybody.
        let _ = self.shell.wait();
    }
}

/// A running program. It is killed when dropped.
pub(crate) struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    group: PathBuf,
    _run: Run,
}

impl Process {
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns the name of the process in this run.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Returns the exit status, or `None` while the process runs.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().during(|| format!("looking after {}", self.name))
    }

    /// Ends the process by SIGKILL. Does nothing if it has ended.
    pub(crate) fn kill(&mut self) -> Result<ExitStatus> {
        self.signal(Signal::KILL)?;
        self.child.wait().during(|| format!("waiting for the end of {}", self.name))
    }

    /// Sends SIGTERM to the process, and waits for its end.
    pub(crate) fn terminate(&mut self, limit: Duration) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        self.wait_for_end("SIGTERM", limit)
    }

    /// Waits for the end of the process, after an event that should cause it.
    pub(crate) fn wait_for_end(&mut self, cause: &str, limit: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            thread::sleep(POLL);
        }
        Err(self.failure(&format!("still runs {} s after {cause}", limit.as_secs())))
    }

    /// Stops the process by SIGSTOP, as if it hung or the machine was paused.
    pub(crate) fn pause(&mut self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// Lets a paused process continue.
    pub(crate) fn resume(&mut self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    /// Returns everything that the process wrote, over all its restarts in this run.
    pub(crate) fn log(&self) -> String {
        read_lossy(&self.log)
    }

    /// Waits until `ready` returns true. If the process ends or the limit passes before, returns an error with the last
    /// lines of the log.
    pub(crate) fn wait_until(&mut self, what: &str, limit: Duration, mut ready: impl FnMut() -> bool) -> Result<()> {
        let started = Instant::now();
        let mut progress = None;
        let outcome = loop {
            if let Some(status) = self.ended()? {
                break Err(self.failure(&format!("ended with {status} instead of being {what}")));
            }
            if ready() {
                break Ok(());
            }
            if started.elapsed() > limit {
                break Err(self.failure(&format!("not {what} after {} s", limit.as_secs())));
            }
            if started.elapsed() > PATIENCE {
                progress.get_or_insert_with(|| slow(&self.name, what, limit, started)).tick();
            }
            thread::sleep(POLL);
        };
        if let Some(progress) = progress {
            progress.finish(if outcome.is_ok() { what } else { "given up" });
        }
        outcome.map_err(|error: Error| error.hint(format!("run it again with {KEEP}=1 to keep all logs")))
    }

    /// Returns an error about this process, with the last lines of its log.
    pub(crate) fn failure(&self, what: &str) -> Error {
        let log = self.log();
        let message = format!("{} {what}; its last lines:\n{}", self.name, tail(&log));
        Error::new(message)
    }

    /// Sends a signal to the whole process group. As long as the leader is not reaped, no other group can have its
    /// number.
    fn signal(&mut self, signal: Signal) -> Result<()> {
        if self.ended()?.is_some() {
            return Ok(());
        }
        kill_process_group(Pid::from_child(&self.child), signal)
            .during(|| format!("sending {signal:?} to {}", self.name))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A failure cannot be reported to anybody, and the watchdog tries again.
        let _ = self.kill();
        let _ = fs::remove_file(&self.group);
    }
}

fn append_to(log: &Path) -> Result<File> {
    File::options().create(true).append(true).open(log).during(|| format!("opening {}", log.display()))
}

fn read_lossy(path: &Path) -> String {
    fs::read(path).map_or_else(
        |error| format!("({}: {error})", path.display()),
        |bytes| String::from_utf8_lossy(&bytes).into_owned(),
    )
}

fn slow(name: &str, what: &str, limit: Duration, started: Instant) -> Progress {
    let what = format!("waiting for {name} to be {what}");
    let limit = format!("at most {}", human(limit));
    Progress::start(&what, "it usually takes seconds", &limit, started)
}
