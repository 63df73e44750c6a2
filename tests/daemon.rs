//! Tests the daemon as a process: its behaviour before it is unsealed, how a signal ends it, and what the kernel shows
//! of it.

use std::{
    fs,
    os::{fd::OwnedFd, unix::net::UnixListener},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    fs::{FlockOperation, flock},
    process::{Pid, Signal, kill_process},
};

use crate::harness::wait::wait_until;
use crate::harness::{commands::output, plugin::Plugin, processes::Run};

const BINARY: &str = env!("CARGO_BIN_EXE_claviger");
const LIMIT: Duration = Duration::from_secs(20);

fn plugin(run: &Run) -> (Plugin, String) {
    let plugin = Plugin::init(run, BINARY, "claviger").unwrap();
    (plugin, run.socket("kms.sock").unwrap().display().to_string())
}

/// Returns the exit code and the text of `claviger status`.
fn status(plugin: &Plugin, socket: &str) -> (i32, String) {
    let mut command = plugin.command(&["status", "--backups", "none"]);
    command.args(["--socket", socket]);
    let answer = output(command, &[], LIMIT).unwrap();
    (answer.status.code().unwrap(), String::from_utf8(answer.stdout).unwrap())
}

#[test]
fn it_listens_before_it_unseals_and_answers_unavailable_until_then() {
    let run = Run::new().unwrap();
    let (plugin, socket) = plugin(&run);
    // Without a mark, unsealing has to write one, and waits for the lock. So the test decides how long it takes.
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
    assert!(daemon.log().contains("no mark yet, trusting the keyring that was found"));
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
    // Four pages are locked: for the KEK, the two keys derived from it, and the root key. All other secrets were wiped.
    assert_eq!(locked, "16 kB");
}

/// Returns a daemon with the standard error `stderr` that logs every call.
fn logging_to(plugin: &Plugin, socket: &str, stderr: Stdio) -> Child {
    let mut command = plugin.command(&["serve", "--log-level", "debug"]);
    command.args(["--socket", socket]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
    let child = command.spawn().unwrap();
    wait_until("the plugin is well", || status(plugin, socket).0 == 0);
    child
}

/// Sends SIGTERM and returns the exit code. A daemon that does not end is killed, and fails the test.
fn terminate(mut child: Child) -> Option<i32> {
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let start = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if start.elapsed() > LIMIT {
            child.kill().unwrap();
        }
        thread::sleep(Duration::from_millis(20));
    }
    child.wait().unwrap().code()
}

#[test]
fn a_log_that_cannot_be_written_ends_nothing() {
    let run = Run::new().unwrap();
    let (plugin, socket) = plugin(&run);
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let child = logging_to(&plugin, &socket, full.into());
    assert_eq!(status(&plugin, &socket).0, 0);
    assert_eq!(terminate(child), Some(0));

    let mut child = logging_to(&plugin, &socket, Stdio::piped());
    drop(child.stderr.take());
    for _ in 0..10 {
        assert_eq!(status(&plugin, &socket).0, 0);
    }
    assert_eq!(terminate(child), Some(0));
}

#[test]
fn a_log_that_nobody_reads_makes_no_call_wait() {
    let run = Run::new().unwrap();
    let (plugin, socket) = plugin(&run);
    let child = logging_to(&plugin, &socket, Stdio::piped());
    // A pipe holds 64 KiB, and each call logs a few lines.
    for _ in 0..400 {
        assert_eq!(status(&plugin, &socket).0, 0);
    }
    assert_eq!(terminate(child), Some(0));
}

#[test]
fn signals_that_mean_something_to_other_daemons_do_not_end_it() {
    let run = Run::new().unwrap();
    let (mut plugin, socket) = plugin(&run);
    plugin.serve(&socket[..]).unwrap();
    let pid = Pid::from_raw(plugin.process().unwrap().id().cast_signed()).unwrap();
    for signal in [Signal::USR1, Signal::USR2, Signal::PIPE] {
        kill_process(pid, signal).unwrap();
        assert_eq!(status(&plugin, &socket).0, 0, "{signal:?}");
    }
    plugin.terminate().unwrap();
}

#[test]
fn what_is_expected_is_what_is_served() {
    let run = Run::new().unwrap();
    let ours = Plugin::init(&run, BINARY, "ours").unwrap();
    let theirs = Plugin::init(&run, BINARY, "theirs").unwrap();
    let socket = run.socket("kms.sock").unwrap().display().to_string();
    let report: serde_json::Value = {
        let mut command = ours.command(&["status", "--output", "json"]);
        command.args(["--socket", &socket]);
        serde_json::from_slice(&output(command, &[], LIMIT).unwrap().stdout).unwrap()
    };
    // The plugin has checked the keyring once and waits for the lock to write its mark. Meanwhile another keyring is
    // put there.
    fs::remove_file(ours.state_dir().join("mark")).unwrap();
    let lock = fs::File::open(ours.state_dir().join("lock")).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    let mut command = ours.command(&["serve", "--expect", report["keyring"]["expect"].as_str().unwrap()]);
    command.args(["--socket", &socket]).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    wait_until("it is sealed", || status(&ours, &socket).1.contains("sealed"));
    for name in ["root", "slot-file.key", "keyring"] {
        fs::copy(theirs.state_dir().join(name), ours.state_dir().join(name)).unwrap();
    }
    drop(lock);
    let answer = child.wait_with_output().unwrap();
    assert_eq!(answer.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&answer.stderr).contains("error: the keyring is "));
    assert!(!ours.state_dir().join("mark").exists());
}

/// API servers could read no Secret that is encrypted under the keyring of the first plugin.
#[test]
fn a_plugin_is_not_replaced_by_one_of_another_keyring() {
    let run = Run::new().unwrap();
    let (mut ours, socket) = plugin(&run);
    let theirs = Plugin::init(&run, BINARY, "theirs").unwrap();
    ours.serve(socket.clone()).unwrap();
    let serve = |flags: &[&str]| {
        let mut command = theirs.command(&["serve"]);
        command.args(["--socket", &socket]).args(flags);
        let answer = output(command, &[], LIMIT).unwrap();
        (answer.status.code(), String::from_utf8(answer.stderr).unwrap())
    };
    let (code, held) = serve(&[]);
    assert!(code == Some(3) && held.contains("hint:  it serves another keyring: let it run"), "{held}");
    assert!(!held.contains("--take-over"), "{held}");
    let (code, refused) = serve(&["--take-over"]);
    assert_eq!(code, Some(3), "{refused}");
    assert!(refused.starts_with(&format!("error: the plugin at unix://{socket} serves keyring ")), "{refused}");
    let (message, hint) = refused.split_once(" hint:  ").or_else(|| refused.split_once("\nhint:  ")).unwrap();
    assert!(message.ends_with(", which does not open what is encrypted with that one"), "{refused}");
    assert!(hint.starts_with("serve from the directory of its keyring, which `claviger status"), "{refused}");
    assert_eq!(status(&ours, &socket).0, 0);
}

#[test]
fn whoever_asks_at_another_socket_is_told_that_a_plugin_serves() {
    let run = Run::new().unwrap();
    let (mut plugin, socket) = plugin(&run);
    plugin.serve(socket).unwrap();
    let other = run.socket("other.sock").unwrap().display().to_string();
    let (code, text) = status(&plugin, &other);
    let expected = format!(
        "! a plugin serves from this state directory, and not at {other}: give its socket, which its log line `listening` \
         names: --socket SOCKET\n"
    );
    assert!(code == 1 && text.contains(&expected), "{text}");
}

#[test]
fn a_socket_that_systemd_holds_outlives_the_plugin() {
    let run = Run::new().unwrap();
    let (plugin, socket) = plugin(&run);
    let held = UnixListener::bind(&socket).unwrap();
    for _ in 0..3 {
        // The shell passes the socket on as systemd does: as descriptor 3, with the environment that names the
        // receiver.
        let mut command = Command::new("sh");
        let script = "export LISTEN_PID=$$ LISTEN_FDS=1; exec \"$0\" serve --state-dir \"$1\" --socket-group 0 --output json \
                      3<&0 0</dev/null";
        command.args(["-c", script, BINARY]).arg(plugin.state_dir());
        let log = fs::File::create(run.path("log")).unwrap();
        command.stdin(OwnedFd::from(held.try_clone().unwrap())).stderr(log);
        let child = command.spawn().unwrap();
        wait_until("the plugin is well", || status(&plugin, &socket).0 == 0);
        assert_eq!(terminate(child), Some(0));
        assert!(fs::symlink_metadata(&socket).is_ok(), "the socket is systemd's to remove");
        let log = fs::read_to_string(run.path("log")).unwrap();
        let warning = "the socket is from systemd, so socket-group has no effect";
        assert!(messages(&log).contains(&warning.to_owned()), "{log}");
    }
}

/// Returns the events of the log, each with its message.
fn messages(log: &str) -> Vec<String> {
    log.lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter_map(|event| event["message"].as_str().map(str::to_owned))
        .collect()
}

#[test]
fn a_removed_socket_is_made_again() {
    let run = Run::new().unwrap();
    let (mut plugin, socket) = plugin(&run);
    plugin.serve(&socket[..]).unwrap();
    fs::remove_file(&socket).unwrap();
    wait_until("the plugin is well", || status(&plugin, &socket).0 == 0);
    let log = plugin.process().unwrap().log();
    assert!(messages(&log).contains(&"socket was removed, made again".to_owned()), "{log}");
    plugin.terminate().unwrap();
    assert!(fs::symlink_metadata(&socket).is_err());
}

#[test]
fn the_next_plugin_takes_over_and_the_first_one_ends_in_peace() {
    let run = Run::new().unwrap();
    let (mut plugin, socket) = plugin(&run);
    plugin.serve(&socket[..]).unwrap();
    for _ in 0..3 {
        plugin.take_over().unwrap();
        // The daemon has to notice that the other one has ended.
        wait_until("the plugin is well", || status(&plugin, &socket).0 == 0);
    }
    // The lock went over with the socket, so a daemon that does not take over is refused.
    wait_until("a second one is refused", || {
        let mut command = plugin.command(&["serve"]);
        command.args(["--socket", &socket]);
        let refused = output(command, &[], LIMIT).unwrap();
        refused.status.code() == Some(3)
            && String::from_utf8_lossy(&refused.stderr).contains("is held by a live plugin")
    });
}

/// Checks that a second daemon on its own socket is refused.
fn assert_another_is_refused(run: &Run, plugin: &Plugin) {
    let mut command = plugin.command(&["serve", "--log-level", "error"]);
    command.arg("--socket").arg(run.socket("another.sock").unwrap());
    let refused = output(command, &[], LIMIT).unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(3), "{said}");
    let error = format!("refusing to serve: another plugin serves from {}", plugin.state_dir().display());
    assert!(said.contains(&error), "{said}");
}

#[test]
fn a_successor_serves_at_once_and_says_that_it_is_not_alone_until_the_first_one_has_ended() {
    let run = Run::new().unwrap();
    let (mut plugin, socket) = plugin(&run);
    plugin.serve(&socket[..]).unwrap();
    let first = Pid::from_raw(plugin.process().unwrap().id().cast_signed()).unwrap();
    // A stopped daemon does not end.
    kill_process(first, Signal::STOP).unwrap();
    let mut command = plugin.command(&["serve", "--take-over"]);
    command.args(["--socket", &socket]);
    let second = run.start("second", command).unwrap();
    let alone = || {
        let mut command = plugin.command(&["status", "--output", "json"]);
        command.args(["--socket", &socket]);
        let answer = output(command, &[], LIMIT).unwrap();
        serde_json::from_slice::<serde_json::Value>(&answer.stdout).unwrap_or_default()["plugin"]["alone"].clone()
    };
    wait_until("there are two plugins", || alone() == false);
    // The state stays the same, and calls are answered.
    thread::sleep(Duration::from_secs(1));
    let (code, text) = status(&plugin, &socket);
    let finding = "! two plugins serve from this state directory: the replaced one should end";
    assert!(code == 1 && text.contains(finding) && text.contains(": ok, announces k1-"), "{text}");
    assert!(
        text.contains(&format!(
            "fuser -v {}/serving shows both; kill PID ends the older",
            plugin.state_dir().display()
        )),
        "{text}"
    );

    // The successor gets the lock, and not a daemon that waits beside it.
    thread::scope(|scope| {
        scope.spawn(|| assert_another_is_refused(&run, &plugin));
        thread::sleep(Duration::from_secs(2));
        kill_process(first, Signal::CONT).unwrap();
        wait_until("there is one plugin", || alone() == true);
    });
    assert_eq!(status(&plugin, &socket).0, 0);
    wait_until("the lock is taken over", || {
        messages(&second.log()).ends_with(&[
            "another plugin serves from this state directory, waiting until it ends".to_owned(),
            "state directory locked".to_owned(),
        ])
    });
    assert!(plugin.process().unwrap().ended().unwrap().is_some_and(|ended| ended.success()));
    assert_another_is_refused(&run, &plugin);
}

#[test]
fn the_lock_goes_from_one_successor_to_the_next() {
    let run = Run::new().unwrap();
    let (mut plugin, socket) = plugin(&run);
    plugin.serve(&socket[..]).unwrap();
    for _ in 0..2 {
        plugin.take_over().unwrap();
    }
    wait_until("the plugin is well", || status(&plugin, &socket).0 == 0);
    assert_another_is_refused(&run, &plugin);
    plugin.terminate().unwrap();
    // The lock is free again when the last daemon ends.
    plugin.serve(run.socket("another.sock").unwrap().display().to_string()).unwrap();
}

#[test]
fn sigkill_leaves_no_lock_behind() {
    let run = Run::new().unwrap();
    let (mut plugin, _) = plugin(&run);
    let mut killed = Vec::new();
    for n in 0..5 {
        let socket = run.socket(&format!("{n}.sock")).unwrap().display().to_string();
        let mut command = plugin.command(&["serve"]);
        command.args(["--socket", &socket]);
        // The daemon before may still run, because nobody has waited for its end.
        let process = run.start(&format!("daemon-{n}"), command).unwrap();
        wait_until("the plugin is well", || status(&plugin, &socket).0 == 0);
        kill_process(Pid::from_raw(process.id().cast_signed()).unwrap(), Signal::KILL).unwrap();
        killed.push(process);
    }
    plugin.serve(run.socket("kms.sock").unwrap().display().to_string()).unwrap();
}

#[test]
fn a_successor_that_cannot_open_the_keyring_disturbs_nobody() {
    let run = Run::new().unwrap();
    let (mut plugin, socket) = plugin(&run);
    plugin.serve(&socket[..]).unwrap();
    let keyring = plugin.state_dir().join("keyring");
    let record = fs::read(&keyring).unwrap();
    fs::write(&keyring, &record[1..]).unwrap();
    let mut command = plugin.command(&["serve", "--take-over"]);
    command.args(["--socket", &socket]);
    assert_eq!(output(command, &[], LIMIT).unwrap().status.code(), Some(7));
    fs::write(&keyring, &record).unwrap();
    assert_eq!(status(&plugin, &socket).0, 0);
    let log = plugin.process().unwrap().log();
    assert_eq!(messages(&log), ["listening", "protected", "unsealed"]);
}

#[test]
fn sighup_looks_at_the_keyring_again_and_takes_no_worse_one() {
    let run = Run::new().unwrap();
    let (mut plugin, socket) = plugin(&run);
    plugin.serve(&socket[..]).unwrap();
    let pid = Pid::from_raw(plugin.process().unwrap().id().cast_signed()).unwrap();
    let log = run.log_of("claviger");
    let log_says = |text: &str| wait_until(text, || fs::read_to_string(&log).unwrap().contains(text));
    let hangup = || kill_process(pid, Signal::HUP).unwrap();

    hangup();
    log_says("the keyring is unchanged");
    let keyring = plugin.state_dir().join("keyring");
    let record = fs::read(&keyring).unwrap();
    fs::write(&keyring, &record[1..]).unwrap();
    hangup();
    log_says("refused the changed keyring, still serving the one before");
    let state_dir = plugin.state_dir().display();
    log_says(&format!(
        "run `claviger status --state-dir {state_dir} --socket {socket}`, and do what it says; do not restart the plugin"
    ));
    fs::write(&keyring, &record).unwrap();
    // The plugin is degraded until it has looked again.
    wait_until("the plugin is well", || status(&plugin, &socket).0 == 0);

    let other = Plugin::init(&run, BINARY, "other").unwrap();
    for name in ["root", "slot-file.key", "keyring", "mark"] {
        fs::copy(other.state_dir().join(name), plugin.state_dir().join(name)).unwrap();
    }
    hangup();
    log_says(": belongs to keyring ");
    let text = status(&plugin, &socket).1;
    assert!(text.contains("holds another keyring") && text.contains("do not stop or restart the plugin"), "{text}");
}

#[test]
fn each_unsealing_is_on_the_audit_record_and_a_record_that_is_full_stops_nothing() {
    let run = Run::new().unwrap();
    let (mut plugin, socket) = plugin(&run);
    for _ in 0..3 {
        plugin.serve(&socket[..]).unwrap();
    }
    let path = plugin.state_dir().join("audit.jsonl");
    let lines: Vec<serde_json::Value> =
        fs::read_to_string(&path).unwrap().lines().skip(1).map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 3);
    assert!(lines.iter().all(|line| line["event"] == "unseal" && line["generation"] == 1), "{lines:?}");
    assert_eq!(lines[2]["pid"], plugin.process().unwrap().id());

    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    plugin.serve(&socket[..]).unwrap();
    let process = plugin.process().unwrap();
    wait_until("it is unsealed", || {
        messages(&process.log()).contains(&"unsealed without a line in the audit log".to_owned())
    });
}
