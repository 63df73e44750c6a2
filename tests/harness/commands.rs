//! Runs programs to their end: kubectl, etcdctl, the command line of claviger.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{ChildStdin, Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use super::error::{Context, Error, Result};
use super::spawn::spawn;

/// The number of lines of a log or of an output that an error shows.
const LAST_LINES: usize = 30;

/// Runs a program to its end. Returns its output, whatever its exit code.
///
/// # Errors
///
/// If it cannot be started, or runs longer than `limit`, in which case it is killed.
pub(crate) fn output(mut command: Command, input: &[u8], limit: Duration) -> Result<Output> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let name = name_of(&command);
    let mut child = spawn(command)?;
    feed(child.stdin.take(), input.to_vec());
    let stdout = collect(child.stdout.take());
    let stderr = collect(child.stderr.take());
    let deadline = Instant::now() + limit;
    let mut receive = |from: mpsc::Receiver<Vec<u8>>| {
        from.recv_timeout(deadline.saturating_duration_since(Instant::now())).or_else(|_| {
            child.kill().during(|| format!("killing {name}"))?;
            Err(Error::new(format!("{name} had not ended after {} s", limit.as_secs())))
        })
    };
    let (stdout, stderr) = (receive(stdout), receive(stderr));
    let status = child.wait().during(|| format!("waiting for {name}"))?;
    Ok(Output { status, stdout: stdout?, stderr: stderr? })
}

/// Runs a program to its end, and returns its standard output. If it does not succeed, returns an error with its
/// messages.
pub(crate) fn output_of_success(command: Command, input: &[u8], limit: Duration) -> Result<Vec<u8>> {
    let line = line_of(&command);
    let output = output(command, input, limit)?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let messages = String::from_utf8_lossy(&output.stderr);
    Err(Error::new(format!("`{line}` ended with {}: {}", output.status, tail(messages.trim()))))
}

/// Returns a command that inherits only the search path, because options in the environment would change the test.
pub(crate) fn isolated(program: &Path, home: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("HOME", home).current_dir(home);
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    command
}

/// Returns the last lines of a text.
pub(crate) fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
}

/// Returns the command as a person would type it, for errors.
pub(crate) fn line_of(command: &Command) -> String {
    let arguments = command.get_args().map(OsStr::to_string_lossy);
    arguments.fold(name_of(command), |line, argument| format!("{line} {argument}"))
}

fn name_of(command: &Command) -> String {
    Path::new(command.get_program()).file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

/// Writes to a child in a thread. A child that is writing itself would otherwise block both.
fn feed(pipe: Option<ChildStdin>, input: Vec<u8>) {
    thread::spawn(move || {
        // A child may end without having read everything. Its exit code shows whether that was right.
        pipe.map(|mut pipe| pipe.write_all(&input))
    });
}

/// Reads an output of a child to its end, in a thread.
fn collect(pipe: Option<impl Read + Send + 'static>) -> mpsc::Receiver<Vec<u8>> {
    let (whole, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // The output before an error is kept. The exit code shows the error.
        let _ = pipe.map(|mut pipe| pipe.read_to_end(&mut bytes));
        whole.send(bytes)
    });
    receiver
}
