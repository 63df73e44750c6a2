//! Reads kube-apiserver's flags from the command line of a running process.
//!
//! The process may be in a container: then its files are below `/proc/PID/root`.
//!
//! Source: proc(5), `/proc/PID/cmdline`, `root`, `cwd` and `ns/mnt`.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use super::{
    error::{Doubt, FlagsError},
    flags::{ApiServerFlags, CommandLine},
    program::is_program,
};

/// The longest command line that is read, in bytes. Linux allows a quarter of the stack's size, usually 2 MiB.
const COMMAND_MAX: u64 = 2 * 1024 * 1024;

/// Finds the only process that is kube-apiserver.
///
/// # Errors
/// When there is none, or several.
pub fn find_process() -> Result<u32, FlagsError> {
    let entries = fs::read_dir("/proc").map_err(|_| FlagsError::NoProcess)?;
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut found: Vec<u32> = pids.filter(|pid| words(*pid).is_ok_and(|words| is_api_server(&words))).collect();
    found.sort_unstable();
    only(found)
}

fn only(found: Vec<u32>) -> Result<u32, FlagsError> {
    match found[..] {
        [] => Err(FlagsError::NoProcess),
        [one] => Ok(one),
        _ => Err(FlagsError::SeveralProcesses(found)),
    }
}

/// Reads the command line of a process.
///
/// # Errors
/// When the process is not kube-apiserver or cannot be looked at, or its flags cannot be used.
pub(super) fn read(pid: u32) -> Result<(ApiServerFlags, Vec<Doubt>), FlagsError> {
    let failed = |error: io::Error| FlagsError::Process { pid, reason: error.to_string() };
    let words = words(pid).map_err(failed)?;
    if !is_api_server(&words) {
        return Err(FlagsError::OtherProgram(pid));
    }
    let is_in_container =
        fs::read_link(of(pid, "ns/mnt")).map_err(failed)? != fs::read_link("/proc/self/ns/mnt").map_err(failed)?;
    let directory = fs::read_link(of(pid, "cwd")).map_err(failed)?;
    let locate = |path: &str| {
        let path = directory.join(path);
        Some(if is_in_container { of(pid, "root").join(path.strip_prefix("/").ok()?) } else { path })
    };
    CommandLine { words: &words[1..], unknown: BTreeSet::new(), locate: &locate }.read()
}

fn of(pid: u32, name: &str) -> PathBuf {
    Path::new("/proc").join(pid.to_string()).join(name)
}

fn words(pid: u32) -> io::Result<Vec<String>> {
    use io::Read as _;
    let mut bytes = Vec::new();
    fs::File::open(of(pid, "cmdline"))?.take(COMMAND_MAX).read_to_end(&mut bytes)?;
    let words = bytes.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned());
    let mut words: Vec<String> = words.collect();
    words.pop();
    Ok(words)
}

fn is_api_server(words: &[String]) -> bool {
    words.first().is_some_and(|word| is_program(word))
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::process::CommandExt,
        process::{Child, Command, Stdio},
    };

    use super::*;

    /// A shell that is called kube-apiserver and waits for its input to end.
    fn start(name: &str, directory: &Path) -> Child {
        let mut command = Command::new("sh");
        command.arg0(name).args(["-c", "read x", "sh", "--etcd-servers=unix://kine.sock", "--etcd-cafile", "/ca"]);
        let child = command.current_dir(directory).stdin(Stdio::piped()).spawn().unwrap();
        // The kernel shows the new command line a moment after the program has started.
        while words(child.id()).unwrap().is_empty() {
            std::thread::yield_now();
        }
        child
    }

    fn stop(mut child: Child) {
        drop(child.stdin.take());
        child.wait().unwrap();
    }

    #[test]
    fn the_flags_of_a_process_are_read_and_paths_start_at_its_directory() {
        let directory = tempfile::tempdir().unwrap();
        let child = start("/x/kube-apiserver", directory.path());
        let (flags, doubts) = read(child.id()).unwrap();
        let socket = directory.path().canonicalize().unwrap().join("kine.sock");
        assert_eq!(flags.servers.urls, [format!("unix://{}", socket.display())]);
        assert_eq!((flags.servers.cafile, doubts), (Some("/ca".into()), vec![]));
        // Tests of other processes may run other ones.
        let found = find_process();
        let is_found = |found: Result<u32, FlagsError>| match found {
            Ok(pid) => pid == child.id(),
            Err(FlagsError::SeveralProcesses(pids)) => pids.contains(&child.id()),
            Err(_) => false,
        };
        assert!(is_found(found));
        stop(child);
    }

    #[test]
    fn exactly_one_process_is_expected() {
        let error = |pids: &[u32]| only(pids.to_vec()).unwrap_err().to_string();
        assert_eq!(only(vec![7]), Ok(7));
        assert_eq!(error(&[]), "no process on this machine is kube-apiserver");
        assert_eq!(error(&[7, 9]), "several processes are kube-apiserver: 7, 9");
    }

    #[test]
    fn another_program_and_a_process_that_ended_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let child = start("kube-scheduler", directory.path());
        let pid = child.id();
        assert_eq!(read(pid).unwrap_err().to_string(), format!("process {pid} is not kube-apiserver"));
        stop(child);
        let error = read(pid).unwrap_err().to_string();
        assert_eq!(error, format!("process {pid}: No such file or directory (os error 2)"));
    }
}
