//! Checks that no hint tells an operator to restart a plugin that may hold the last copy of a key in its memory, and
//! that every command gives the same answer to a damaged mark.

use std::fs;

use super::{
    backup::{OURS, STATE, with_recovery},
    sandbox::{Answer, Sandbox, snapshot},
    status::{STATUS, backed_up, finding, plugin, serve},
};
use crate::harness::wait::wait_until;

/// Checks that no hint tells the operator to restart the plugin.
#[track_caller]
fn forbids(answer: &Answer) {
    finding(answer, "do not stop or restart the plugin before the keyring here has every key");
    let told: String = answer.stdout.lines().chain(answer.stderr.lines()).map(|line| format!("{line}\n")).collect();
    let told = told.replace("do not stop or restart", "");
    for wrong in ["restart", "systemctl", "claviger serve"] {
        assert!(!told.contains(wrong), "{wrong}: {answer}");
    }
}

/// Copies files of the copy `from` into the state directory.
fn put(sandbox: &Sandbox, from: &str, files: &[&str]) {
    for file in files {
        fs::copy(sandbox.path(from).join(file), sandbox.path("state").join(file)).unwrap();
    }
}

#[test]
fn no_restart_is_named_while_only_the_plugin_has_a_key() {
    // The keyring there is newer than the mark, or there is no mark. The next start repairs both.
    for has_mark in [true, false] {
        let (sandbox, _) = backed_up();
        sandbox.copy("state", "marked");
        sandbox.run(&format!("key add {STATE}")).ends_with(0);
        sandbox.copy("state", "older");
        sandbox.run(&format!("key add {STATE}")).ends_with(0);
        let _daemon = serve(&sandbox);
        put(&sandbox, "marked", &["mark", "ledger"]);
        put(&sandbox, "older", &["keyring"]);
        if !has_mark {
            fs::remove_file(sandbox.path("state/mark")).unwrap();
        }
        wait_until("the plugin is degraded", || plugin(&sandbox)["degraded"].is_string());
        let status = sandbox.run(STATUS);
        forbids(status.ends_with(1));
        let later = "do that after the other findings are solved, and not before";
        finding(&status, if has_mark { "the mark is older than the keyring" } else { "this node has no mark" });
        finding(&status, later);
    }
}

#[test]
fn no_restart_is_named_if_the_directory_that_took_the_place_lacks_a_key() {
    for lost in [&[][..], &["mark"]] {
        let (sandbox, _) = backed_up();
        sandbox.copy("state", "older");
        sandbox.run(&format!("key add {STATE}")).ends_with(0);
        let _daemon = serve(&sandbox);
        fs::rename(sandbox.path("state"), sandbox.path("away")).unwrap();
        fs::rename(sandbox.path("older"), sandbox.path("state")).unwrap();
        for file in lost {
            fs::remove_file(sandbox.path("state").join(file)).unwrap();
        }
        wait_until("the plugin is degraded", || plugin(&sandbox)["degraded"].is_string());
        let status = sandbox.run(STATUS);
        forbids(status.ends_with(1));
        // No listed backup has the key.
        finding(&status, "merge a backup that has it (`claviger backup check");
        // The right directory is back, and nothing is wrong with it.
        fs::rename(sandbox.path("state"), sandbox.path("older")).unwrap();
        fs::rename(sandbox.path("away"), sandbox.path("state")).unwrap();
        wait_until("the plugin is not degraded", || plugin(&sandbox)["degraded"].is_null());
        assert!(!sandbox.run(STATUS).stdout.contains("restart"));
    }
}

#[test]
fn a_plugin_of_another_keyring_is_not_restarted_for_the_sake_of_a_mark() {
    let sandbox = Sandbox::initialised();
    let _daemon = serve(&sandbox);
    fs::rename(sandbox.path("state"), sandbox.path("away")).unwrap();
    sandbox.init("other");
    fs::rename(sandbox.path("other"), sandbox.path("state")).unwrap();
    fs::remove_file(sandbox.path("state/mark")).unwrap();
    wait_until("the plugin is degraded", || plugin(&sandbox)["degraded"].is_string());
    let status = sandbox.run(STATUS);
    finding(&status, "do not stop or restart the plugin; move [DIR]/state away");
    finding(&status, "this node has no mark");
    finding(&status, "do that after the other findings are solved, and not before");
    assert!(!status.stdout.contains("claviger serve"), "{status}");
}

#[test]
fn it_is_said_if_nobody_can_tell_whether_a_plugin_serves() {
    let sandbox = with_recovery();
    fs::remove_file(sandbox.path("state/serving")).unwrap_or_default();
    fs::create_dir(sandbox.path("state/serving")).unwrap();
    let status = sandbox.run(STATUS);
    finding(&status, "the plugin does not answer: ");
    finding(&status, "whether one serves at another socket is not known: [DIR]/state/serving is a directory");
    assert!(!status.stdout.contains("to start it"), "{status}");
    let add = sandbox.run(&format!("key add {STATE} --socket [DIR]/run/kms.sock"));
    let unknown = "whether one serves at another socket is not known: ";
    assert!(add.ends_with(0).stderr.contains(unknown), "{add}");
}

#[test]
fn a_damaged_mark_has_one_answer_in_every_command_and_that_works() {
    let sandbox = with_recovery();
    let mut daemon = serve(&sandbox);
    fs::write(sandbox.path("state/mark"), "damaged").unwrap();
    let mend = "put your copy of it back; if there is none, move it away: mv [DIR]/state/mark [DIR]/state/mark.damaged; without a mark";
    let status = sandbox.run(STATUS);
    finding(status.ends_with(7), "do not stop or restart it");
    finding(&status, mend);
    for line in ["key list", "key add", "backup create [DIR]/backup.age", "rekey"] {
        let refused = sandbox.refused(7, &format!("{line} {STATE}"));
        assert!(refused.stderr.contains(&format!("hint:  {mend}")), "{refused}");
    }
    fs::rename(sandbox.path("state/mark"), sandbox.path("state/mark.damaged")).unwrap();
    // The plugin shows what this node has seen.
    wait_until("the plugin is not degraded", || plugin(&sandbox)["degraded"].is_null());
    let witnessed = sandbox.run(STATUS);
    finding(&witnessed, "its plugin serves this very keyring, so nothing newer is known here");
    let add = sandbox.refused(3, &format!("key add {STATE}"));
    daemon.terminate();
    // Without a plugin, nothing here says whether the keyring is the newest.
    let alone = sandbox.run(STATUS);
    assert!(alone.stdout.contains("    (no mark says that this keyring is the newest)\n"), "{alone}");
    finding(&alone, "compare the line `expect` with the last one that you wrote down; a plugin makes the mark");
    snapshot("mark/damaged", &[&status, &witnessed, &add, &alone]);
    let _daemon = serve(&sandbox);
    let after = sandbox.run(STATUS);
    assert!(!after.stdout.contains("mark says") && after.stdout.contains(", mark current"), "{after}");
}

#[test]
fn the_listed_backup_with_the_key_that_only_the_plugin_has_is_named() {
    let (sandbox, _) = backed_up();
    sandbox.copy("state", "older");
    sandbox.run(&format!("key add {STATE}")).ends_with(0);
    sandbox.run(&format!("backup create [DIR]/newer.age {STATE}")).ends_with(0);
    // The older copy lists a backup with a key that it lacks.
    sandbox.run(&format!("backup check [DIR]/newer.age {OURS} --state-dir [DIR]/older"));
    let _daemon = serve(&sandbox);
    fs::rename(sandbox.path("state"), sandbox.path("away")).unwrap();
    fs::rename(sandbox.path("older"), sandbox.path("state")).unwrap();
    wait_until("the plugin is degraded", || plugin(&sandbox)["degraded"].is_string());
    let status = sandbox.run(STATUS);
    forbids(status.ends_with(1));
    finding(&status, "merge the listed backup that has it: claviger backup restore ");
    finding(&status, " [DIR]/newer.age");
    sandbox.run(&format!("backup restore [DIR]/newer.age {OURS} {STATE} --accept")).ends_with(0);
    finding(&sandbox.run(STATUS), "the keyring here has every key that it serves: a restart takes it up");
}
