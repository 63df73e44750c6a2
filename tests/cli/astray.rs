//! Tests what commands say if they get the wrong socket, directory or key, or if the keyring is gone.

use std::{fs, os::unix::net::UnixListener};

use super::{
    backup::{OURS, STATE},
    sandbox::Sandbox,
    status::{SOCKET, STATUS, backed_up, finding, serve},
};

#[test]
fn a_wrong_socket_is_in_no_command_that_status_suggests() {
    let (sandbox, expect) = backed_up();
    let restore = format!("backup restore [DIR]/backup.age {OURS} --expect {expect} --state-dir [DIR]/new {SOCKET}");
    sandbox.run(&restore).ends_with(0);
    let _daemon = sandbox.serve(&format!("--state-dir [DIR]/new {SOCKET}"));
    let status = sandbox.run("status --state-dir [DIR]/new --socket [DIR]/run/wrong.sock");
    finding(&status, "a plugin serves from this state directory, and not at [DIR]/run/wrong.sock: give its socket");
    finding(&status, "rotate to a new key: `claviger rotate --state-dir [DIR]/new --socket SOCKET --etcd-servers URL ");
    assert!(!status.stdout.contains("--socket [DIR]"), "{status}");
    // Another program listens at the socket, and gives no answer.
    let _silent = UnixListener::bind(sandbox.path("run/silent.sock")).unwrap();
    let status = sandbox.run("status --state-dir [DIR]/new --socket [DIR]/run/silent.sock");
    finding(
        &status,
        "a plugin serves from this state directory: if another program listens at [DIR]/run/silent.sock (to see which: ss -xlp), give \
         the plugin's own socket, which its log line `listening` names: --socket SOCKET",
    );
    assert!(!sandbox.run(STATUS).stdout.contains("ss -xlp"), "nothing serves from that directory");
}

#[test]
fn serve_leaves_the_socket_of_another_program_alone() {
    let sandbox = Sandbox::initialised();
    let _theirs = UnixListener::bind(sandbox.path("run/kms.sock")).unwrap();
    for more in ["", " --take-over"] {
        let refused = sandbox.refused(3, &format!("serve {STATE} {SOCKET}{more}"));
        let expected = "refusing to listen: another program listens at [DIR]/run/kms.sock, and it does not hold the lock of a plugin\n\
                        hint:  to see which program it is: ss -xlp src [DIR]/run/kms.sock; end it, or give another --socket\n";
        assert!(refused.stderr.ends_with(expected), "{refused}");
    }
}

#[test]
fn a_key_that_cannot_be_promoted_is_refused_whether_or_not_a_plugin_runs() {
    let sandbox = Sandbox::initialised();
    sandbox.run(&format!("key add {STATE}")).ends_with(0);
    sandbox.run(&format!("key promote k2 --without-backup {STATE}")).ends_with(0);
    let refused = sandbox.refused(3, &format!("key promote k1 --wait {STATE} {SOCKET}"));
    assert!(
        refused.complaint().contains("is decrypt-only and cannot be promoted\nhint:  only a pending key"),
        "{refused}"
    );
}

/// The plugin knows the newer generation. Without a mark, a plugin that starts would trust the older one.
#[test]
fn an_older_keyring_without_a_mark_is_not_taken_up_on_the_advice_of_status() {
    let (sandbox, _) = backed_up();
    sandbox.copy("state", "older");
    sandbox.run(&format!("key promote k2 --without-backup {STATE}")).ends_with(0);
    let _daemon = serve(&sandbox);
    fs::copy(sandbox.path("older/keyring"), sandbox.path("state/keyring")).unwrap();
    fs::remove_file(sandbox.path("state/mark")).unwrap();
    // The plugin has not looked at the disk yet.
    let status = sandbox.run(STATUS);
    finding(
        &status,
        "this node has no mark, and the plugin serves generation 4 of this keyring, which is newer than generation 3 here; a plugin makes \
         the mark when it starts, and would trust the older keyring then: do that after the other findings are solved, and not before",
    );
    finding(&status, "the plugin is degraded: it serves generation 4 from memory");
    assert!(!status.stdout.contains("trusts the keyring as it is then"), "{status}");
}
