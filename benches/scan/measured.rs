//! Runs one program to its end, and measures the time and memory that it takes.
//!
//! This program starts itself again, only to run the measured program. The kernel charges a process with the memory of
//! its parent, so the parent has to be small. Its only child is the measured program.

#![allow(unsafe_code, reason = "nothing safe tells what one child has used")]

use std::{
    env,
    ffi::OsString,
    fs::{self, File},
    io,
    mem::MaybeUninit,
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use crate::harness::{
    commands::isolated,
    error::{Context, Error, Result},
    processes::Run,
};

/// The file for output that nobody checks.
pub(crate) const NOWHERE: &str = "/dev/null";

/// A time limit longer than any contender takes.
const LIMIT: Duration = Duration::from_mins(20);

/// The time between two looks at the memory.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// The resources that a program used from its start to its end.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Sample {
    /// The exit code. `None` if a signal ended the program.
    pub(crate) exit: Option<i32>,
    pub(crate) seconds: f64,
    /// The processor time of all threads, in user and in system mode.
    pub(crate) cpu_seconds: f64,
    /// The greatest resident memory, with the pages of mapped files.
    pub(crate) resident_kib: u32,
    /// The greatest resident memory without the pages of mapped files. `None` if the memory was not watched.
    pub(crate) anonymous_kib: Option<u32>,
    /// The processor time of the etcd that was asked. `None` without an etcd.
    pub(crate) server_seconds: Option<f64>,
}

/// Starts a program through [`be_parent`] and waits for its end, whatever its exit code.
pub(crate) fn measure(run: &Run, name: &str, line: &[OsString], stdout: &Path, watch: bool) -> Result<Sample> {
    let sample = run.path("sample.json");
    let program = env::current_exe().during(|| "finding this program".to_owned())?;
    let mut command = isolated(&program, run.directory());
    command.arg("--sample-to").arg(&sample).arg("--stdout").arg(stdout);
    if watch {
        command.arg("--watch");
    }
    command.arg("--").args(line);
    let mut parent = run.start(name, command)?;
    let status = parent.wait_for_end("its start", LIMIT)?;
    if !status.success() {
        return Err(parent.failure(&format!("could not be measured, {status}")));
    }
    let written = fs::read(&sample).during(|| format!("reading {}", sample.display()))?;
    let sample: Sample = serde_json::from_slice(&written).during(|| format!("reading {}", sample.display()))?;
    // claviger exits with 1 if it found something. Its report says what it found.
    match sample.exit {
        Some(0 | 1) => Ok(sample),
        Some(exit) => Err(parent.failure(&format!("ended with {exit}"))),
        None => Err(parent.failure("was ended by a signal")),
    }
}

/// Starts a program, waits for its end, and writes the [`Sample`].
pub(crate) fn be_parent(line: &[OsString], stdout: &Path, sample: &Path, watch: bool) -> Result<()> {
    let (program, arguments) = line.split_first().ok_or_else(|| Error::new("no program to measure"))?;
    let stdout = File::create(stdout).during(|| format!("opening {}", stdout.display()))?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(stdout);
    let measured = run_to_end(command, watch).during(|| format!("measuring {}", program.display()))?;
    let json = serde_json::to_vec(&measured).during(|| "writing a sample".to_owned())?;
    fs::write(sample, json).during(|| format!("writing {}", sample.display()))
}

fn run_to_end(mut command: Command, watch: bool) -> io::Result<Sample> {
    let begin = Instant::now();
    let id = command.spawn()?.id();
    let watcher = watch.then(|| thread::spawn(move || peak_of_anonymous(id)));
    let (status, usage) = wait(id)?;
    let seconds = begin.elapsed().as_secs_f64();
    Ok(Sample {
        exit: status.code(),
        seconds,
        cpu_seconds: seconds_of(usage.ru_utime) + seconds_of(usage.ru_stime),
        resident_kib: u32::try_from(usage.ru_maxrss).unwrap_or(u32::MAX),
        anonymous_kib: watcher.and_then(|watcher| watcher.join().ok()),
        server_seconds: None,
    })
}

/// Waits as [`std::process::Child::wait`] does, and also returns the resources that the child has used. They cannot be
/// read later.
fn wait(child: u32) -> io::Result<(ExitStatus, libc::rusage)> {
    let id = libc::pid_t::try_from(child).map_err(io::Error::other)?;
    let (mut status, mut usage) = (0, MaybeUninit::<libc::rusage>::zeroed());
    loop {
        // SAFETY: both pointers are to values of these types that live until the call returns.
        let ended = unsafe { libc::wait4(id, &raw mut status, 0, usage.as_mut_ptr()) };
        if ended == id {
            // SAFETY: a value of zeroes is valid, and the call has succeeded.
            return Ok((ExitStatus::from_raw(status), unsafe { usage.assume_init() }));
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

fn seconds_of(time: libc::timeval) -> f64 {
    let (whole, micros) = (u64::try_from(time.tv_sec), u64::try_from(time.tv_usec));
    (Duration::from_secs(whole.unwrap_or(0)) + Duration::from_micros(micros.unwrap_or(0))).as_secs_f64()
}

/// Looks at the memory of a process until there is nothing to see. A process that has ended has no memory.
fn peak_of_anonymous(id: u32) -> u32 {
    let path = format!("/proc/{id}/status");
    let mut peak = 0;
    while let Some(now) = fs::read_to_string(&path).ok().as_deref().and_then(anonymous) {
        peak = peak.max(now);
        thread::sleep(LOOK_EVERY);
    }
    peak
}

fn anonymous(status: &str) -> Option<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

/// Returns the seconds that the threads of a process have run, in user and in system mode.
pub(crate) fn seconds_of_process(id: u32) -> f64 {
    let tasks = fs::read_dir(format!("/proc/{id}/task")).into_iter().flatten().flatten();
    let on_cpu = tasks.filter_map(|task| {
        let schedstat = fs::read_to_string(task.path().join("schedstat")).ok()?;
        schedstat.split(' ').next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(on_cpu.sum()).as_secs_f64()
}
