//! Tests that only one daemon serves from a state directory: a second one is refused in one line, and the first one
//! continues to answer.

use std::{
    fs,
    os::unix::fs::{MetadataExt, chown, symlink},
    path::Path,
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

use super::{
    disk::Disk,
    kms::Kms,
    sandbox::{Answer, NOBODY, Sandbox, root_for, snapshot},
};
use crate::harness::wait::wait_until;

const FIRST: &str = "--state-dir [DIR]/state --socket [DIR]/run/kms.sock";
const SECOND: &str = "serve --state-dir [DIR]/state --socket [DIR]/run/other.sock --log-level error";

/// Returns a name for an abstract socket that no other test has.
fn abstract_name() -> String {
    static NAMES: AtomicU32 = AtomicU32::new(0);
    format!("@claviger-test-{}-{}", std::process::id(), 1000 + NAMES.fetch_add(1, Ordering::Relaxed))
}

#[test]
fn a_second_daemon_on_another_socket_is_refused_and_the_first_goes_on() {
    let sandbox = Sandbox::initialised();
    let mut first = sandbox.serve(FIRST);
    let plain = sandbox.refused(3, SECOND);
    // It replaces no plugin, because none serves at that socket.
    let take_over = sandbox.run(&format!("{SECOND} --take-over"));
    assert_eq!((take_over.ends_with(3).complaint(), &*take_over.stdout), (plain.complaint(), ""));
    assert!(!sandbox.path("run/other.sock").exists());
    sandbox.run(&format!("status {FIRST} --backups none")).ends_with(0);
    let report = sandbox.run(&format!("status {FIRST} --output json")).json();
    assert_eq!(report["plugin"]["alone"], true);
    first.terminate();
    plain.matches("serving/second");
    sandbox.serve("--state-dir [DIR]/state --socket [DIR]/run/other.sock").terminate();
}

#[test]
fn a_peer_in_another_pid_namespace_has_no_process() {
    if !root_for("a PID namespace") {
        return;
    }
    let sandbox = Sandbox::initialised();
    let namespace = ["unshare", "--pid", "--fork", "--kill-child"];
    let mut daemon = sandbox.call(&format!("serve {FIRST}")).under(namespace, "").serve();
    let peers = [(); 2].map(|()| Kms::connect(&sandbox.path("run/kms.sock")));
    for peer in &peers {
        peer.status();
    }
    let report = sandbox.run(&format!("status {FIRST} --output json")).json();
    let connections = report["plugin"]["connections"].as_array().unwrap();
    let processes: Vec<_> =
        connections.iter().filter(|one| !one["status_s"].is_null()).map(|one| &one["pid"]).collect();
    assert_eq!(processes, [&serde_json::Value::Null; 2], "{report}");
    daemon.kill();
}

#[test]
fn a_plugin_of_a_copied_directory_is_not_replaced_by_a_second_one_of_the_first() {
    let sandbox = Sandbox::initialised();
    let copied =
        std::process::Command::new("cp").arg("-a").args(["state", "copy"].map(|name| sandbox.path(name))).status();
    assert!(copied.unwrap().success());
    let mut first = sandbox.serve(FIRST);
    let mut other = sandbox.serve("--state-dir [DIR]/copy --socket [DIR]/run/other.sock");
    let refused = sandbox.refused(3, &format!("{SECOND} --take-over"));
    assert!(refused.stderr.contains(", and another plugin serves from [DIR]/state"), "{refused}");
    assert!(refused.stderr.contains("hint:  to restart the plugin of this directory, give its socket"), "{refused}");
    sandbox.run("status --state-dir [DIR]/copy --socket [DIR]/run/other.sock --backups none").ends_with(0);
    other.terminate();
    first.terminate();
}

#[test]
fn a_daemon_that_is_about_to_end_is_waited_for() {
    let sandbox = Sandbox::initialised();
    let mut first = sandbox.serve(FIRST);
    std::thread::scope(|scope| {
        let second = scope.spawn(|| sandbox.serve("--state-dir [DIR]/state --socket [DIR]/run/other.sock"));
        std::thread::sleep(std::time::Duration::from_millis(500));
        first.terminate();
        let log = second.join().unwrap().log();
        let [waiting, ended] =
            ["another plugin serves from this state directory, waiting until it ends", "state directory locked"]
                .map(|message| log.find(message));
        assert!(waiting.is_some() && waiting < ended && ended < log.find("unsealed"), "{log}");
    });
}

#[test]
fn a_state_directory_that_is_none_stays_as_it_is() {
    let sandbox = Sandbox::new();
    sandbox.make_dir("state", 0o700);
    sandbox.refused(3, SECOND);
    assert_eq!(fs::read_dir(sandbox.path("state")).unwrap().count(), 0);
    sandbox.run("init --state-dir [DIR]/state --without-recovery").ends_with(0);
}

#[test]
fn a_file_to_lock_that_is_none_of_ours_is_refused() {
    let sandbox = Sandbox::initialised();
    let serving = sandbox.path("state/serving");
    fs::write(sandbox.path("precious"), "").unwrap();
    symlink(sandbox.path("precious"), &serving).unwrap();
    let link = sandbox.refused(3, SECOND);
    fs::remove_file(&serving).unwrap();
    fs::create_dir(&serving).unwrap();
    let directory = sandbox.refused(3, SECOND);
    fs::remove_dir(&serving).unwrap();
    fs::write(&serving, "").unwrap();
    sandbox.chmod("state/serving", 0o644);
    let readable = sandbox.refused(3, SECOND);
    snapshot("serving/no-file-of-ours", &[&link, &directory, &readable]);
    // A plugin that takes over is refused, too, before it disturbs anybody.
    assert_eq!(sandbox.refused(3, &format!("{SECOND} --take-over")).complaint(), readable.complaint());
}

#[test]
fn root_leaves_the_file_to_the_directorys_owner() {
    if !root_for("a directory of another user's") {
        return;
    }
    // The sandbox is not below /tmp, because there anybody could have made a directory that root finds.
    let sandbox = Sandbox::inside(Path::new("/run"));
    sandbox.make_dir("state", 0o700);
    chown(sandbox.path("state"), Some(NOBODY), Some(NOBODY)).unwrap();
    sandbox.init("state");
    let serve = || format!("--state-dir [DIR]/state --socket {}", abstract_name());
    let mut daemon = sandbox.serve(&serve());
    let found = sandbox.path("state/serving").metadata().unwrap();
    assert_eq!((found.uid(), found.gid(), found.mode() & 0o7777), (NOBODY, NOBODY, 0o600));
    let line = format!("serve {} --log-level error", serve());
    let refused = sandbox.call(&line).by_nobody().refused(3);
    assert!(refused.stderr.contains("another plugin serves from [DIR]/state"), "{refused}");
    daemon.kill();
    sandbox.call(&format!("serve {}", serve())).by_nobody().serve().terminate();

    chown(sandbox.path("state/serving"), Some(0), None).unwrap();
    let foreign = sandbox.refused(3, &line);
    assert!(foreign.stderr.contains("[DIR]/state/serving is owned by uid 0, expected uid 65534"), "{foreign}");
}

#[test]
fn a_disk_that_is_read_only_has_one_daemon_too() {
    for with_file in [false, true] {
        let sandbox = Sandbox::new();
        let Some(disk) = Disk::new(&sandbox, 16) else { return };
        let serve =
            |name: &str| format!("serve --state-dir [DIR]/disk/state --socket [DIR]/run/{name} --log-level info");
        disk.call("init --state-dir [DIR]/disk/state --without-recovery").run().ends_with(0);
        if with_file {
            disk.call(&serve("kms.sock")).serve().terminate();
        }
        assert_eq!(disk.path("state/serving").exists(), with_file);
        disk.remount("ro");
        let mut first = disk.call(&serve("kms.sock")).serve();
        let refused = disk.refused(3, &serve("other.sock"));
        assert!(refused.stderr.contains("another plugin serves from [DIR]/disk/state"), "{refused}");
        first.terminate();
    }
}

#[test]
fn a_file_system_without_locks_is_refused_with_its_reason() {
    if Command::new("strace").arg("-V").output().is_err() {
        return crate::harness::progress::skipped("this machine has no strace");
    }
    let sandbox = Sandbox::initialised();
    // An abstract socket has no lock of its own.
    let line = format!("serve --state-dir [DIR]/state --socket {} --log-level error", abstract_name());
    let no_locks = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "inject=flock:error=ENOLCK"];
    sandbox.call(&line).under(no_locks, "# where flock(2) fails").refused(5).matches("serving/no-locks");
}

#[test]
fn a_directory_that_was_taken_from_the_plugins_user_is_given_back_by_the_command_that_is_named() {
    if !root_for("a directory of another user's") {
        return;
    }
    // The sandbox is not below /tmp, because there anybody could have made a directory that root finds.
    let sandbox = Sandbox::inside(Path::new("/run"));
    sandbox.make_dir("state", 0o700);
    for name in ["state", "run"] {
        chown(sandbox.path(name), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    sandbox.init("state");
    let _daemon = sandbox.call(&format!("serve {FIRST}")).by_nobody().serve();
    let state = sandbox.path("state");
    let paste = |command: &str| {
        let words = ["-c", command, "sh"];
        assert!(Command::new("sh").args(words).status().unwrap().success(), "{command}");
    };
    paste(&format!("chown -R root {}", state.display()));
    let given_back = format!("chown -R {NOBODY} [DIR]/state; it takes the keyring up by itself then");
    let says = |answer: &Answer, text: &str| assert!(answer.stdout.contains(text), "{text}: {answer}");
    let status = || sandbox.run(&format!("status {FIRST}"));
    wait_until("the plugin is degraded", || status().stdout.contains("the plugin is degraded"));
    let taken = status();
    taken.ends_with(1);
    says(
        &taken,
        &format!(
            "[DIR]/state belongs to uid 0, and the plugin runs as uid {NOBODY}: if that is claviger's user, give the directory back"
        ),
    );
    says(&taken, &given_back);
    assert!(!taken.stdout.contains("do not restart"), "systemd gives the directory back: {taken}");
    paste(&format!("chown -R {NOBODY} {}", state.display()));
    wait_until("the plugin is not degraded", || !status().stdout.contains("the plugin is degraded"));
}
