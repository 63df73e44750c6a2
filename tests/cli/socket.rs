//! Tests the addresses at which `serve` does not listen: it says so, exits with 3 (2 for an invalid address), and
//! changes nothing.

use std::{
    fs,
    io::Read,
    os::{
        linux::net::SocketAddrExt,
        unix::{
            fs::{MetadataExt, chown, symlink},
            net::{SocketAddr, UnixListener},
        },
    },
    sync::atomic::{AtomicU32, Ordering},
    thread,
};

use rustix::thread::{Uid, set_thread_uid};

use super::sandbox::{Answer, NOBODY, Sandbox, root_for, snapshot};

/// Returns the line that runs `serve` with a keyring.
fn serve(socket: &str) -> String {
    format!("serve --state-dir [DIR]/state --socket {socket}")
}

#[test]
fn what_is_no_address() {
    let sandbox = Sandbox::initialised();
    let long = format!("/run/{}", "a".repeat(103));
    let long_name = format!("@{}", "a".repeat(108));
    for (name, sockets) in [
        ("relative", &["kms", "unix:kms.sock", "unix://kms.sock"][..]),
        ("too-long", &[&long, &long_name]),
        ("no-name", &["/", "/run/claviger/", "/run/..", "@", "unix:///", "unix://"]),
        ("other-characters", &["/run/kms%20.sock", "/run/k?.sock", "@kms/sock", "tcp://127.0.0.1:1"]),
    ] {
        let answers: Vec<Answer> = sockets.iter().map(|socket| sandbox.refused(2, &serve(socket))).collect();
        snapshot(&format!("socket/{name}"), &answers.iter().collect::<Vec<_>>());
    }
}

#[test]
fn a_directory_that_is_missing_or_none() {
    let sandbox = Sandbox::initialised();
    fs::write(sandbox.path("file"), "").unwrap();
    let answers =
        ["nowhere", "file", "file/below"].map(|name| sandbox.refused(3, &serve(&format!("[DIR]/{name}/kms.sock"))));
    snapshot("socket/directory-missing-or-none", &answers.each_ref());
}

#[test]
fn a_directory_that_others_write_to() {
    let sandbox = Sandbox::initialised();
    let answers = [0o770, 0o757, 0o1777].map(|mode| {
        sandbox.chmod("run", mode);
        sandbox.refused(3, &serve("[DIR]/run/kms.sock"))
    });
    sandbox.make_dir("above", 0o700);
    sandbox.make_dir("above/run", 0o750);
    sandbox.chmod("above", 0o777);
    let above = sandbox.refused(3, &serve("[DIR]/above/run/kms.sock"));
    snapshot("socket/directory-writable", &[&answers[0], &answers[1], &answers[2], &above]);
}

#[test]
fn a_directory_of_another_user() {
    if !root_for("a directory of another user's") {
        return;
    }
    let sandbox = Sandbox::initialised();
    chown(sandbox.path("run"), Some(NOBODY), None).unwrap();
    let owned = sandbox.refused(3, &serve("[DIR]/run/kms.sock"));
    chown(sandbox.path("state"), Some(NOBODY), None).unwrap();
    chown(sandbox.path("run"), Some(0), None).unwrap();
    sandbox.chmod("run", 0o755);
    let unwritable = sandbox.call(&serve("[DIR]/run/kms.sock")).by_nobody().refused(3);
    snapshot("socket/directory-of-another-user", &[&owned, &unwritable]);
}

#[test]
fn something_else_in_its_place() {
    let sandbox = Sandbox::initialised();
    fs::write(sandbox.path("run/file"), "precious").unwrap();
    fs::create_dir(sandbox.path("run/directory")).unwrap();
    symlink(sandbox.path("run/file"), sandbox.path("run/link")).unwrap();
    let answers = ["file", "directory", "link"].map(|name| sandbox.refused(3, &serve(&format!("[DIR]/run/{name}"))));
    snapshot("socket/occupied", &answers.each_ref());
}

/// Returns an abstract name that no other test uses.
fn abstract_name() -> String {
    static NAMES: AtomicU32 = AtomicU32::new(0);
    format!("@claviger-test-{}-{}", std::process::id(), NAMES.fetch_add(1, Ordering::Relaxed))
}

#[test]
fn whoever_took_an_abstract_name_is_not_asked_how_the_plugin_is() {
    if !root_for("a socket of another user's") {
        return;
    }
    let sandbox = Sandbox::initialised();
    let name = abstract_name();
    let address = SocketAddr::from_abstract_name(&name[1..]).unwrap();
    let bind = move || {
        set_thread_uid(Uid::from_raw(NOBODY)).unwrap();
        UnixListener::bind_addr(&address).unwrap()
    };
    let listener = thread::spawn(bind).join().unwrap();
    let status = sandbox.run(&format!("status --state-dir [DIR]/state --socket {name}"));
    let text = format!("user {NOBODY} listens there, and not root, this user, or the owner of the state directory");
    assert!(status.stdout.contains(&text), "{status:?}");
    status.ends_with(1);
    sandbox
        .refused(3, &format!("init --state-dir [DIR]/new --without-recovery --socket {name}"))
        .matches("socket/impostor");
    let mut sent = Vec::new();
    listener.accept().unwrap().0.read_to_end(&mut sent).unwrap();
    assert_eq!(sent, b"", "what was sent to it");
}

#[test]
fn a_live_plugin_keeps_its_socket() {
    let sandbox = Sandbox::initialised();
    let name = abstract_name();
    let answers = ["[DIR]/run/kms.sock", &name].map(|socket| {
        let _live = sandbox.serve(&format!("--state-dir [DIR]/state --socket {socket}"));
        let refused = sandbox.refused(3, &serve(socket));
        sandbox.run(&format!("status --state-dir [DIR]/state --socket {socket} --backups none")).ends_with(0);
        refused
    });
    snapshot("socket/held", &answers.each_ref());
}

#[test]
fn a_socket_that_a_killed_plugin_left_does_not_stop_the_next() {
    let sandbox = Sandbox::initialised();
    let path = sandbox.path("run/kms.sock");
    let mut inodes = Vec::new();
    for _ in 0..3 {
        let mut daemon = sandbox.serve("--state-dir [DIR]/state --socket [DIR]/run/kms.sock");
        sandbox.run("status --state-dir [DIR]/state --socket [DIR]/run/kms.sock --backups none").ends_with(0);
        let found = path.symlink_metadata().unwrap();
        assert_eq!(found.mode() & 0o777, 0o600);
        inodes.push(found.ino());
        daemon.kill();
        assert!(path.exists(), "SIGKILL leaves it behind");
    }
    let mut daemon = sandbox.serve("--state-dir [DIR]/state --socket [DIR]/run/kms.sock");
    daemon.terminate();
    assert!(!path.exists(), "SIGTERM does not");
    inodes.dedup();
    assert_eq!(inodes.len(), 3, "each made one of its own");
}

#[test]
fn a_stale_socket_is_taken_away_also_when_the_keyring_does_not_open() {
    let sandbox = Sandbox::initialised();
    sandbox.serve("--state-dir [DIR]/state --socket [DIR]/run/kms.sock").kill();
    fs::remove_file(sandbox.path("state/keyring")).unwrap();
    let answer = sandbox.run(&serve("[DIR]/run/kms.sock"));
    answer.ends_with(7);
    assert!(!sandbox.path("run/kms.sock").exists(), "it was taken over, and taken away at the end");
}
