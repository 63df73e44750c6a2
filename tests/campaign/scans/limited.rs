//! Runs a scan with little memory, and counts the bytes that it reads.

use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use crate::harness::{
    commands::{isolated, output},
    processes::Run,
};

const BINARY: &str = env!("CARGO_BIN_EXE_claviger");

/// The time limit of a scan. A scan that takes longer hangs.
const LIMIT: Duration = Duration::from_mins(5);

/// Memory in KiB. The kernel adds what the scan has read to the figures of the shell that waited for it.
const SCRIPT: &str = "ulimit -d 262144; \"$0\" \"$@\"; code=$?; cat /proc/$$/io > io; exit $code";

/// The greatest number of bytes that a scan reads for each byte of a file: it reads branches twice, may need a second
/// pass, and reads the pages beside a wanted page with it.
pub(super) const READ_PER_BYTE: u64 = 5;

/// The bytes that a scan and its shell read besides: programs, libraries, the keyring, and a window of pages.
pub(super) const READ_BESIDE: u64 = 8 << 20;

/// The end of a scan.
#[derive(Debug)]
pub(crate) struct Limited {
    pub(crate) exit: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    /// The number of bytes that the scan read. `None` if the kernel does not tell.
    pub(super) read: Option<u64>,
    pub(super) time: Duration,
}

/// Scans a file.
pub(crate) fn snapshot(run: &Run, file: &Path) -> Limited {
    scan(run, &["--snapshot", file.to_str().unwrap()])
}

/// Scans with these flags.
pub(super) fn scan(run: &Run, flags: &[&str]) -> Limited {
    let mut command: Command = isolated(Path::new("sh"), run.directory());
    command.args(["-c", SCRIPT, BINARY, "scan", "--output", "json"]).args(flags);
    let begin = Instant::now();
    let answer = output(command, &[], LIMIT).unwrap();
    let figures = fs::read_to_string(run.path("io")).unwrap_or_default();
    let read = figures.lines().find_map(|line| line.strip_prefix("rchar: ")?.parse().ok());
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Limited {
        exit: answer.status.code(),
        stdout: text(answer.stdout),
        stderr: text(answer.stderr),
        read,
        time: begin.elapsed(),
    }
}

impl Limited {
    /// Whether the scan has ended in an allowed way. A scan without memory left would be killed by a signal.
    pub(super) fn has_ended_well(&self) -> bool {
        let is_report = self.stdout.starts_with('{') && matches!(self.exit, Some(0 | 1 | 7));
        let is_refused =
            self.stderr.starts_with("{\"format\":\"claviger/error/v1\"") && matches!(self.exit, Some(2..=7));
        (is_report || is_refused) && !self.stderr.contains("panicked")
    }
}
