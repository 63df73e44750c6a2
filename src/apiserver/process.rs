//! Reads kube-apiserver's flags from the command line of a running process.
//!
//! The process may be in a container: then its files are below `/proc/PID/root`.
//!
//! Source: proc(5), `/proc/PID/cmdline`, `root`, `cwd` and `ns/mnt`. `owner` says whose process counts.

use std::{collections::BTreeSet, fs, io, path::Path};

use super::{
    error::FlagsError,
    flags::{CommandLine, ReadFlags},
    owner::{ProcessOwner, of},
    program::is_program,
};

/// The greatest length of a command line that is read, in bytes. Linux allows a quarter of the stack's size, usually 2
/// MiB.
const COMMAND_MAX: u64 = 2 * 1024 * 1024;

/// Finds the only process that is kube-apiserver. If root or this user runs one, those of other users do not count.
///
/// # Errors
/// When there is none or several, or the processes cannot be listed.
pub fn find_process() -> Result<u32, FlagsError> {
    find_below(Path::new("/proc"))
}

fn find_below(proc: &Path) -> Result<u32, FlagsError> {
    let entries = fs::read_dir(proc).map_err(|error| FlagsError::Processes(error.to_string()))?;
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut found: Vec<u32> = pids.filter(|pid| words(*pid).is_ok_and(|words| is_api_server(&words))).collect();
    found.sort_unstable();
    let (foreign, trusted): (Vec<u32>, Vec<u32>) = found.into_iter().partition(|pid| is_foreign(*pid));
    only(trusted, &foreign)
}

/// Whether another user runs the process. Returns false if the owner cannot be read: reading the process then reports
/// the reason.
fn is_foreign(pid: u32) -> bool {
    ProcessOwner::of(pid).is_ok_and(|owner| owner.check(pid).is_err())
}

/// Chooses the one process. If all belong to other users, returns the first, so that reading it reports its owner.
fn only(trusted: Vec<u32>, foreign: &[u32]) -> Result<u32, FlagsError> {
    match (&trusted[..], foreign) {
        ([], []) => Err(FlagsError::NoProcess),
        ([one], _) | ([], [one, ..]) => Ok(*one),
        _ => Err(FlagsError::SeveralProcesses(trusted)),
    }
}

/// Reads the command line of a process that root or this user runs.
///
/// # Errors
/// When the process is not kube-apiserver, is of another user or cannot be looked at, or its flags cannot be used.
pub(super) fn read(pid: u32) -> Result<ReadFlags, FlagsError> {
    let failed = |error: io::Error| FlagsError::Process { pid, reason: error.to_string() };
    let before = ProcessOwner::of(pid).map_err(failed)?;
    before.check(pid)?;
    let found = read_flags(pid)?;
    before.check_same(&ProcessOwner::of(pid).map_err(failed)?, pid)?;
    Ok(found)
}

fn read_flags(pid: u32) -> Result<ReadFlags, FlagsError> {
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
        path::Path,
        process::{Child, Command, Stdio},
    };

    use super::*;

    /// Starts a shell whose name is kube-apiserver, and which waits for the end of its input.
    fn start(name: &str, directory: &Path) -> Child {
        start_as(None, name, directory)
    }

    fn start_as(user: Option<u32>, name: &str, directory: &Path) -> Child {
        let mut command = Command::new("sh");
        command.arg0(name).args(["-c", "read x", "sh", "--etcd-servers=unix://kine.sock", "--etcd-cafile", "/ca"]);
        if let Some(user) = user {
            command.uid(user).gid(user);
        }
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
        let ReadFlags { flags, doubts } = read(child.id()).unwrap();
        let socket = directory.path().canonicalize().unwrap().join("kine.sock");
        assert_eq!(flags.servers.urls, [format!("unix://{}", socket.display())]);
        assert_eq!((flags.servers.cafile, doubts), (Some("/ca".into()), vec![]));
        // Tests in other processes may run further processes with this name.
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
        let only =
            |trusted: &[u32], foreign: &[u32]| only(trusted.to_vec(), foreign).map_err(|error| error.to_string());
        assert_eq!((only(&[7], &[]), only(&[7], &[5, 6]), only(&[], &[5, 6])), (Ok(7), Ok(7), Ok(5)));
        assert_eq!(only(&[], &[]), Err("no process on this machine is kube-apiserver".to_owned()));
        assert_eq!(only(&[7, 9], &[5]), Err("several processes are kube-apiserver: 7, 9".to_owned()));
        let unlisted = find_below(Path::new("/nowhere")).unwrap_err().to_string();
        assert_eq!(unlisted, "listing the processes of this machine: No such file or directory (os error 2)");
    }

    #[test]
    fn a_process_of_another_user_is_refused_with_its_number_and_its_user() {
        if !rustix::process::geteuid().is_root() {
            return println!("skipped: it takes root");
        }
        let child = start_as(Some(65_534), "kube-apiserver", Path::new("/"));
        let pid = child.id();
        let error = read(pid).unwrap_err().to_string();
        assert_eq!(error, format!("process {pid} is of user 65534, expected root or this user"));
        assert_ne!(find_process(), Err(FlagsError::NoProcess));
        stop(child);
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
