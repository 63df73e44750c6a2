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

#[test]
fn a_restore_beside_an_etcd_that_has_stopped_names_the_ways_without_etcd() {
    let (sandbox, _) = backed_up();
    let line = format!("backup restore [DIR]/backup.age {OURS} --state-dir [DIR]/new {SOCKET}");
    let refused = sandbox.refused(6, &format!("{line} --etcd-servers http://127.0.0.1:1"));
    let expected = "; to restore without etcd, show in another way that this is the right backup: --expect EXPECT, with the line that \
                    `backup create` or `status` printed, or --snapshot FILE\n";
    assert!(refused.stderr.ends_with(expected), "{refused}");
}

#[test]
fn a_rekey_of_a_copy_says_that_the_plugin_does_not_take_it_up() {
    let (sandbox, _) = backed_up();
    sandbox.copy("state", "copy");
    let _daemon = serve(&sandbox);
    fs::write(sandbox.path("config.toml"), sandbox.unmask("socket = '[DIR]/run/kms.sock'\n")).unwrap();
    let rekey = |name: &str| sandbox.run(&format!("rekey --config [DIR]/config.toml --state-dir [DIR]/{name}"));
    let copy = rekey("copy");
    let expected = "warning: no plugin is known to take the new root key up: the one at unix://[DIR]/run/kms.sock serves this keyring from \
                    [DIR]/state, and not from [DIR]/copy\nhint:  if you meant the keyring that it serves: claviger rekey --config \
                    [DIR]/config.toml --state-dir [DIR]/state\n";
    assert!(copy.ends_with(0).stderr.contains(expected), "{copy}");
    assert_eq!(rekey("state").ends_with(0).stderr, "");
}

#[test]
fn a_merge_that_changes_the_primary_key_says_so_in_a_line() {
    let (sandbox, _) = backed_up();
    sandbox.copy("state", "twin");
    sandbox.run(&format!("key promote k2 --without-backup {STATE}")).ends_with(0);
    for line in ["key add", "key promote k3 --without-backup", "backup create [DIR]/twin.age"] {
        sandbox.run(&format!("{line} --state-dir [DIR]/twin")).ends_with(0);
    }
    for accept in ["", " --accept"] {
        let merge = sandbox.run(&format!("backup restore [DIR]/twin.age {OURS} {STATE}{accept}"));
        let line = merge.stdout.lines().find(|line| line.starts_with("! the primary key changes from k2-"));
        let line = line.unwrap_or_else(|| panic!("{merge}"));
        assert!(line.contains(" to k3-") && line.ends_with("as soon as a plugin serves the merged keyring"), "{merge}");
    }
}

#[test]
fn a_configured_keyring_that_is_gone_is_restored_before_anything_is_rewritten() {
    let sandbox = Sandbox::new();
    fs::write(sandbox.path("enc.yaml"), sandbox.run("generate encryption-configuration").stdout).unwrap();
    let config =
        "state-dir = '[DIR]/gone'\netcd-servers = ['http://127.0.0.1:1']\nencryption-config = '[DIR]/enc.yaml'\n";
    fs::write(sandbox.path("config.toml"), sandbox.unmask(config)).unwrap();
    let refused = sandbox.refused(2, "reencrypt --config [DIR]/config.toml");
    let expected = "hint:  if the keyring of this node is lost, restore it first: claviger backup restore --config [DIR]/config.toml \
                    FILE; where the keyring is, give --state-dir DIR";
    assert!(refused.stderr.contains(expected), "{refused}");
}
