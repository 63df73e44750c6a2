//! The contenders of the benchmark. Each runs in its own process.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use crate::{
    harness::{
        binaries::Program,
        error::Result,
        plugin::Plugin,
        processes::{Process, Run},
    },
    load,
};

const LIMIT: Duration = Duration::from_mins(1);

/// The flags that switch off layers of protection. valgrind runs inside of the process, and does not work with them.
const NOT_UNDER_VALGRIND: [&str; 3] = ["--without=seccomp", "--without=landlock", "--without=memfd-secret"];

/// A contender of the benchmark, in the order of the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Contender {
    Claviger,
    Empty,
    Go,
}

/// The number of executed instructions and of allocations.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counted {
    pub(crate) instructions: u64,
    pub(crate) allocations: u64,
}

impl Contender {
    pub(crate) const ALL: [Self; 3] = [Self::Claviger, Self::Empty, Self::Go];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Claviger => "claviger",
            Self::Empty => "empty tonic service",
            Self::Go => "least Go plugin",
        }
    }
}

/// A contender that can be started again and again.
pub(crate) struct Stable {
    run: Run,
    plugin: Plugin,
}

/// A running contender that answers calls.
pub(crate) struct Server {
    process: Process,
    pub(crate) socket: PathBuf,
}

impl Stable {
    pub(crate) fn new() -> Result<Self> {
        let run = Run::new()?;
        let plugin = Plugin::init(&run, env!("CARGO_BIN_EXE_claviger"), "claviger")?;
        Ok(Self { run, plugin })
    }

    pub(crate) fn start(&self, contender: Contender) -> Result<Server> {
        let socket = self.socket(contender)?;
        let command = self.command(contender, &socket)?;
        let process = self.run.start(contender.name(), command)?;
        let mut server = Server { process, socket: socket.clone() };
        server.process.wait_until("answering", LIMIT, || load::is_answered(&socket))?;
        Ok(server)
    }

    /// Starts the contender and returns without waiting, so that the start itself can be measured.
    pub(crate) fn launch(&self, contender: Contender) -> Result<Server> {
        let socket = self.socket(contender)?;
        let process = self.run.start(contender.name(), self.command(contender, &socket)?)?;
        Ok(Server { process, socket })
    }

    fn socket(&self, contender: Contender) -> Result<PathBuf> {
        let socket = self.run.socket(&format!("{contender:?}.sock"))?;
        // Removes the socket that the last contender left.
        let _ = fs::remove_file(&socket);
        Ok(socket)
    }

    fn command(&self, contender: Contender, socket: &Path) -> Result<Command> {
        Ok(match contender {
            Contender::Claviger => {
                let mut command = self.plugin.command(&["serve"]);
                command.arg("--socket").arg(socket);
                command
            }
            Contender::Empty => {
                let mut command = Command::new(env::current_exe().unwrap_or_default());
                command.arg("--serve-empty").arg(socket);
                command
            }
            Contender::Go => {
                let mut command = Command::new(Program::GoPlugin.path()?);
                command.arg(socket);
                command
            }
        })
    }

    /// Returns the cost of `calls` calls, counted by valgrind.
    pub(crate) fn count(&self, contender: Contender, method: &'static str, calls: u64) -> Result<Counted> {
        let socket = self.socket(contender)?;
        let inner = self.command(contender, &socket)?;
        let out = self.run.path("callgrind.out");
        let mut command = Command::new("valgrind");
        command.args(["--quiet", "--tool=callgrind"]).arg(format!("--callgrind-out-file={}", out.display()));
        command.arg(inner.get_program()).args(inner.get_args());
        if contender == Contender::Claviger {
            command.args(NOT_UNDER_VALGRIND);
        }
        let mut process = self.run.start("valgrind", command)?;
        process.wait_until("answering", LIMIT, || load::is_answered(&socket))?;
        load::from_rust(&socket, method, 1, &load::End::Calls(calls))?;
        process.terminate(LIMIT)?;
        Ok(read_callgrind(&fs::read_to_string(&out).unwrap_or_default()))
    }
}

/// Returns the sums of a file in callgrind's format. The format gives a name once, and then its number.
fn read_callgrind(text: &str) -> Counted {
    let (mut instructions, mut allocations) = (0, 0);
    let (mut allocators, mut allocates) = (Vec::new(), false);
    for line in text.lines() {
        if let Some(sum) = line.strip_prefix("summary: ").or_else(|| line.strip_prefix("totals: ")) {
            instructions = sum.trim().parse().unwrap_or(instructions);
        } else if let Some(callee) = line.strip_prefix("cfn=") {
            allocates = is_allocator(callee, &mut allocators);
        } else if let Some(callee) = line.strip_prefix("fn=") {
            is_allocator(callee, &mut allocators);
        } else if let Some(calls) = line.strip_prefix("calls=").filter(|_| allocates) {
            allocations += calls.split(' ').next().and_then(|calls| calls.parse::<u64>().ok()).unwrap_or(0);
        }
    }
    Counted { instructions, allocations }
}

fn is_allocator(callee: &str, known: &mut Vec<String>) -> bool {
    let (number, name) = callee.split_once(' ').unwrap_or((callee, ""));
    let plain = name.split(['@', '\'']).next().unwrap_or(name);
    if ["malloc", "calloc", "realloc", "posix_memalign", "aligned_alloc"].contains(&plain) {
        known.push(number.to_owned());
    }
    known.iter().any(|known| known == number)
}

impl Server {
    /// Returns the time that the threads of the contender have run, in user and in system mode.
    pub(crate) fn cpu_time(&self) -> Duration {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.process.id())).into_iter().flatten().flatten();
        let on_cpu = tasks.filter_map(|task| {
            let schedstat = fs::read_to_string(task.path().join("schedstat")).ok()?;
            schedstat.split(' ').next()?.parse::<u64>().ok()
        });
        Duration::from_nanos(on_cpu.sum())
    }

    /// Returns the resident memory in KiB.
    pub(crate) fn resident(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
        line.trim().trim_end_matches(" kB").parse().unwrap_or(0)
    }

    pub(crate) fn end(mut self) -> Result<()> {
        self.process.kill().map(drop)
    }
}
