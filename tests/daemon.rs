//! The daemon as a process: what it does before it is unsealed, when it is told to end, and what the kernel knows of it.

use std::{fs, time::Duration};

use rustix::fs::{FlockOperation, flock};

use crate::harness::{commands::output, plugin::Plugin, processes::Run};

const BINARY: &str = env!("CARGO_BIN_EXE_claviger");
const LIMIT: Duration = Duration::from_secs(20);

fn plugin(run: &Run) -> (Plugin, String) {
    let plugin = Plugin::init(run, BINARY, "claviger").unwrap();
    (plugin, run.socket("kms.sock").unwrap().display().to_string())
}

/// The exit code and the text of `claviger status`.
fn status(plugin: &Plugin, socket: &str) -> (i32, String) {
    let mut command = plugin.command(&["status"]);
    command.args(["--socket", socket]);
    let answer = output(command, &[], LIMIT).unwrap();
    (answer.status.code().unwrap(), String::from_utf8(answer.stdout).unwrap())
}

#[test]
fn it_listens_before_it_unseals_and_answers_unavailable_until_then() {
    let run = Run::new().unwrap();
    let (plugin, socket) = plugin(&run);
    // Without a mark, opening has one to write, and waits for the lock: unsealing takes as long as we hold it.
    fs::remove_file(plugin.state_dir().join("mark")).unwrap();
    let lock = fs::File::open(plugin.state_dir().join("lock")).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    let mut command = plugin.command(&["serve"]);
    command.args(["--socket", &socket]);
    let mut daemon = run.start("sealed", command).unwrap();
    let sealed = "the plugin answered Unavailable: sealed: the keyring is not open yet";
    daemon.wait_until("sealed", LIMIT, || status(&plugin, &socket).1.contains(sealed)).unwrap();
    assert_eq!(status(&plugin, &socket).0, 1);

    drop(lock);
    daemon.wait_until("serving", LIMIT, || status(&plugin, &socket).0 == 0).unwrap();
    assert!(daemon.log().contains("no mark: trusting the keyring as it is seen first"));
}

#[test]
fn sigterm_ends_it_with_success_and_removes_the_socket() {
    let run = Run::new().unwrap();
    let (mut plugin, socket) = plugin(&run);
    plugin.serve(&socket[..]).unwrap();
    assert!(fs::symlink_metadata(&socket).is_ok());
    plugin.terminate().unwrap();
    assert!(fs::symlink_metadata(&socket).is_err());
}

#[test]
fn a_socket_that_sigkill_left_behind_does_not_stop_the_next_start() {
    let run = Run::new().unwrap();
    let (mut plugin, socket) = plugin(&run);
    for _ in 0..5 {
        plugin.serve(&socket[..]).unwrap();
        plugin.kill().unwrap();
        assert!(fs::symlink_metadata(&socket).is_ok(), "SIGKILL leaves the socket's file");
        assert!(status(&plugin, &socket).1.contains("connection refused: nothing listens there"));
    }
}

#[test]
fn the_kernel_keeps_its_keys_in_memory_and_out_of_dumps() {
    let run = Run::new().unwrap();
    let (mut plugin, socket) = plugin(&run);
    plugin.serve(socket).unwrap();
    let proc = format!("/proc/{}", plugin.process().unwrap().id());
    let limits = fs::read_to_string(format!("{proc}/limits")).unwrap();
    let core: Vec<&str> =
        limits.lines().find_map(|line| line.strip_prefix("Max core file size")).unwrap().split_whitespace().collect();
    assert_eq!(core, ["0", "0", "bytes"]);
    let status = fs::read_to_string(format!("{proc}/status")).unwrap();
    let locked = status.lines().find_map(|line| line.strip_prefix("VmLck:")).unwrap().trim();
    // A KEK and the two keys derived from it, a page each; the root key was wiped when the keyring was open.
    assert_eq!(locked, "12 kB");
}
