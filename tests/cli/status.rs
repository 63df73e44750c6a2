//! Tests `claviger status` when it matters: the disk is lost while the plugin serves, the directory is another one, a
//! key is missing, no backup counts. Also tests the commands that set a keyring up beside a running plugin.

use std::{
    fs,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use rustix::process::Signal;

use super::{
    backup::{OURS, STATE, names, with_recovery},
    kms::Kms,
    output::identity,
    sandbox::{Answer, CLAVIGER, Daemon, Sandbox, snapshot},
};
use crate::harness::wait::wait_until;

pub(super) const SOCKET: &str = "--socket [DIR]/run/kms.sock";
pub(super) const STATUS: &str = "status --state-dir [DIR]/state --socket [DIR]/run/kms.sock";

/// Returns a keyring with two keys, and the line `expect` of its listed backup `backup.age`. The first key is primary
/// and in the backup.
pub(super) fn backed_up() -> (Sandbox, String) {
    let sandbox = with_recovery();
    let created = sandbox.run(&format!("backup create [DIR]/backup.age {STATE} --output json")).json();
    sandbox.run(&format!("backup check [DIR]/backup.age {OURS} {STATE}")).ends_with(0);
    (sandbox, created["expect"].as_str().unwrap().to_owned())
}

pub(super) fn serve(sandbox: &Sandbox) -> Daemon {
    sandbox.serve(&format!("{STATE} {SOCKET}"))
}

fn restore(sandbox: &Sandbox, expect: &str, rest: &str) -> Answer {
    sandbox.run(&format!("backup restore [DIR]/backup.age {OURS} --expect {expect} {SOCKET} {rest}"))
}

/// Returns the report of the plugin about itself.
pub(super) fn plugin(sandbox: &Sandbox) -> serde_json::Value {
    sandbox.run(&format!("{STATUS} --output json")).json()["plugin"].clone()
}

/// Checks that a finding contains `text`.
#[track_caller]
pub(super) fn finding(answer: &Answer, text: &str) {
    let is_it = |line: &str| line.starts_with("! ") && line.contains(text);
    assert!(answer.stdout.lines().any(is_it), "no finding {text:?} in {answer}");
}

#[test]
fn a_plugin_whose_directory_was_deleted_is_kept_and_a_backup_takes_its_place() {
    let (sandbox, expect) = backed_up();
    let mut daemon = serve(&sandbox);
    let (key_id, wrapped) = Kms::connect(&sandbox.path("run/kms.sock")).encrypt(&[7; 32]);
    fs::remove_dir_all(sandbox.path("state")).unwrap();
    wait_until("the plugin is degraded", || plugin(&sandbox)["degraded"].is_string());
    let lost = sandbox.run(STATUS);
    let json = sandbox.run(&format!("{STATUS} --output json"));
    assert_eq!((lost.code, json.code), (3, 3));
    finding(&lost, "do not stop or restart it");
    let page = json.json();
    assert_eq!((&page["format"], page["keyring"].is_null()), (&"claviger/status/v1".into(), true));
    assert_eq!(page["disk_error"], "[DIR]/state does not exist");
    assert_eq!(page["plugin"]["degraded"], "the state directory [DIR]/state is gone");
    let init = sandbox.refused(3, &format!("init {STATE} --without-recovery {SOCKET}"));
    let restored = restore(&sandbox, &expect, STATE);
    let ready = sandbox.run(STATUS);
    assert_eq!((restored.code, ready.code), (0, 1));
    finding(
        &ready,
        "the keyring here has every key that it serves: a restart takes it up: claviger serve --state-dir [DIR]/state --socket [DIR]/run/kms.sock --take-over",
    );
    snapshot("status/deleted", &[&lost, &json, &init, &restored, &ready]);

    daemon.terminate();
    let _daemon = serve(&sandbox);
    let kms = Kms::connect(&sandbox.path("run/kms.sock"));
    assert_eq!(kms.decrypt(&key_id, &wrapped).unwrap(), [7; 32]);
    let after = sandbox.run(STATUS);
    assert!(!after.stdout.contains("! the plugin"), "{after}");
}

#[test]
fn damaged_files_under_a_plugin_are_told_apart_from_the_plugin() {
    let (sandbox, expect) = backed_up();
    let _daemon = serve(&sandbox);
    let keyring = fs::read(sandbox.path("state/keyring")).unwrap();
    fs::write(sandbox.path("state/keyring"), &keyring[..100]).unwrap();
    let damaged = sandbox.run(STATUS);
    assert_eq!(damaged.code, 7);
    let restored = restore(&sandbox, &expect, "--state-dir [DIR]/state.restored");
    let compared = sandbox.run(&format!("status --state-dir [DIR]/state.restored {SOCKET}"));
    assert_eq!((restored.code, compared.code), (0, 1));
    finding(&compared, "the keyring here has every key that it serves");
    // The plugin follows a keyring that was merged into its directory.
    let merge = || sandbox.run(&format!("backup restore [DIR]/backup.age {OURS} {STATE} --accept"));
    merge().ends_with(0);
    wait_until("the plugin is not degraded", || plugin(&sandbox)["degraded"].is_null());
    snapshot("status/damaged", &[&damaged, &restored, &compared]);
    // One slot does not open, and one only needs a passphrase.
    fs::write(sandbox.path("phrase"), "correct horse").unwrap();
    sandbox.chmod("phrase", 0o600);
    let add = "slot add passphrase --new-passphrase-file [DIR]/phrase --lanes 1 --memory 64 --passes 1";
    sandbox.run(&format!("{add} {STATE}")).ends_with(0);
    fs::remove_file(sandbox.path("state/slot-file.key")).unwrap();
    let closed = sandbox.run(STATUS);
    assert_ne!(closed.code, 0);
    finding(&closed, "do not stop or restart it before the keyring opens here");
    assert!(closed.stderr.contains("--passphrase-file FILE"), "{closed}");
    let opened = || sandbox.run(&format!("{STATUS} --passphrase-file [DIR]/phrase"));
    let is_content = |answer: &Answer| answer.code == 1 && !answer.stdout.contains("! the plugin");
    wait_until("the status is content", || is_content(&opened()));
    assert!(opened().stdout.contains("passphrase (passphrase, opens)"), "{}", opened());
}

/// The files in the directory are lost, and the newest backup is older than the served keyring. The plugin never
/// follows a keyring that was restored from it. A restart does no harm if no key is missing.
#[test]
fn an_older_backup_that_is_restored_in_place_is_taken_up_by_a_restart_if_it_has_every_key() {
    for (name, lost, restore) in [
        ("merged", &["keyring", "keyring.prev", "mark"][..], "--accept"),
        (
            "restored",
            &["keyring", "keyring.prev", "mark", "ledger", "audit.jsonl", "root", "slot-file.key"],
            "--expect",
        ),
    ] {
        let (sandbox, expect) = backed_up();
        let of_new = identity(&sandbox, "new.txt");
        let add = format!("recovery add {of_new} --recovery-identity [DIR]/new.txt {STATE}");
        for line in [&add, &format!("recovery remove {of_new} {STATE}")] {
            sandbox.run(line).ends_with(0);
        }
        let mut daemon = serve(&sandbox);
        let (key_id, wrapped) = Kms::connect(&sandbox.path("run/kms.sock")).encrypt(&[7; 32]);
        for file in lost {
            _ = fs::remove_file(sandbox.path("state").join(file));
        }
        wait_until("the plugin is degraded", || plugin(&sandbox)["degraded"].is_string());
        let before = sandbox.run(STATUS);
        finding(
            &before,
            "do not restart it before that is solved; then see whether it took the keyring here up by itself",
        );
        let restore = if restore == "--expect" { format!("--expect {expect}") } else { restore.to_owned() };
        sandbox.run(&format!("backup restore [DIR]/backup.age {OURS} {STATE} {SOCKET} {restore}")).ends_with(0);
        let generation = |sandbox: &Sandbox| plugin(sandbox)["generation"].as_u64();
        let degraded = || plugin(&sandbox)["degraded"].as_str().unwrap_or_default().to_owned();
        wait_until("the plugin says why", || {
            degraded().contains("the keyring was rolled back: it has generation 4, this node has seen 5")
        });
        let status = sandbox.run(STATUS);
        finding(
            &status,
            "the keyring here has every key that it serves: a restart takes it up: claviger serve --state-dir [DIR]/state --socket [DIR]/run/kms.sock --take-over",
        );
        for wrong in ["do not restart", "do not stop", "would not start again", "by itself"] {
            assert!(!status.stdout.contains(wrong), "{wrong}: {status}");
        }
        status.ends_with(1).matches(&format!("status/older-{name}"));
        // The hint is right.
        assert_eq!(generation(&sandbox), Some(5));
        daemon.terminate();
        let _daemon = serve(&sandbox);
        let after = sandbox.run(STATUS);
        assert!(!after.stdout.contains("! the plugin") && generation(&sandbox) == Some(4), "{after}");
        let kms = Kms::connect(&sandbox.path("run/kms.sock"));
        assert_eq!(kms.decrypt(&key_id, &wrapped).unwrap(), [7; 32]);
    }
}

#[test]
fn an_older_backup_without_a_key_that_is_served_forbids_a_restart() {
    let (sandbox, _) = backed_up();
    sandbox.run(&format!("key add {STATE}")).ends_with(0);
    sandbox.run(&format!("backup create [DIR]/newer.age {STATE}")).ends_with(0);
    let _daemon = serve(&sandbox);
    for file in ["keyring", "keyring.prev", "mark"] {
        fs::remove_file(sandbox.path("state").join(file)).unwrap();
    }
    sandbox.run(&format!("backup restore [DIR]/backup.age {OURS} {STATE} --accept")).ends_with(0);
    let is_refused = || plugin(&sandbox)["degraded"].as_str().is_some_and(|reason| reason.contains("the keyring"));
    wait_until("it is refused", is_refused);
    let status = sandbox.run(STATUS);
    finding(&status, "the keyring here does not follow from that one");
    finding(
        &status,
        "do not stop or restart the plugin before the keyring here has every key; merge a backup that has it",
    );
    assert!(!status.stdout.contains("a restart takes it up"), "{status}");
    sandbox.run(&format!("backup restore [DIR]/newer.age {OURS} {STATE} --accept")).ends_with(0);
    // The plugin follows the merged keyring, or says that a restart makes it do so.
    let is_well = || plugin(&sandbox)["degraded"].is_null();
    let says =
        || sandbox.run(STATUS).stdout.contains("the keyring here has every key that it serves: a restart takes it up");
    wait_until("the plugin says so", || is_well() || says());
}

/// An older copy of all files was put back. Nothing was restored or merged.
#[test]
fn an_older_copy_in_the_same_directory_is_answered_with_the_newest_copy() {
    let (sandbox, _) = backed_up();
    sandbox.copy("state", "older");
    sandbox.run(&format!("key promote k2 --without-backup {STATE}")).ends_with(0);
    sandbox.copy("state", "newest");
    let mut daemon = serve(&sandbox);
    let put = |name: &str| {
        for file in ["keyring", "mark", "ledger"] {
            fs::copy(sandbox.path(name).join(file), sandbox.path("state").join(file)).unwrap();
        }
    };
    put("older");
    wait_until("the plugin is degraded", || plugin(&sandbox)["degraded"].is_string());
    let status = sandbox.run(STATUS);
    finding(&status, "put the newest copies of the files back into [DIR]/state, which the plugin takes up by itself");
    finding(&status, "if there are none, a restart takes it up: claviger serve --state-dir [DIR]/state");
    // Both hints are right.
    put("newest");
    wait_until("the plugin is not degraded", || plugin(&sandbox)["degraded"].is_null());
    put("older");
    wait_until("the plugin is degraded", || plugin(&sandbox)["degraded"].is_string());
    daemon.terminate();
    let _daemon = serve(&sandbox);
    assert!(!sandbox.run(STATUS).stdout.contains("! the plugin"));
}

/// The root file is lost while the plugin serves. Without it a merge is refused, so no hint recommends a merge.
#[test]
fn a_lost_root_file_is_answered_with_a_restore_beside_it_and_that_works() {
    for lost in [&["root"][..], &["root", "slot-file.key"]] {
        let (sandbox, expect) = backed_up();
        let mut daemon = serve(&sandbox);
        let (key_id, wrapped) = Kms::connect(&sandbox.path("run/kms.sock")).encrypt(&[7; 32]);
        for file in lost {
            fs::remove_file(sandbox.path("state").join(file)).unwrap();
        }
        let status = sandbox.run(STATUS);
        assert_eq!(status.code, 7, "{status}");
        finding(&status, "move the contents of [DIR]/state aside and restore a backup");
        assert!(!status.stdout.contains("merge a backup into what is left"), "{status}");
        // A merge is refused, and the advice works.
        sandbox.refused(7, &format!("backup restore [DIR]/backup.age {OURS} {STATE} {SOCKET}"));
        sandbox.make_dir("aside", 0o700);
        for entry in fs::read_dir(sandbox.path("state")).unwrap() {
            let entry = entry.unwrap();
            fs::rename(entry.path(), sandbox.path("aside").join(entry.file_name())).unwrap();
        }
        restore(&sandbox, &expect, STATE).ends_with(0);
        sandbox.run(&format!("backup restore [DIR]/aside/keyring {OURS} {STATE} --accept"));
        let ready = "the keyring here has every key that it serves: a restart takes it up";
        wait_until("the plugin is not degraded", || {
            plugin(&sandbox)["degraded"].is_null() || sandbox.run(STATUS).stdout.contains(ready)
        });
        daemon.terminate();
        let _daemon = serve(&sandbox);
        let kms = Kms::connect(&sandbox.path("run/kms.sock"));
        assert_eq!(kms.decrypt(&key_id, &wrapped).unwrap(), [7; 32]);
        assert!(!sandbox.run(STATUS).stdout.contains("! the plugin"));
    }
}

#[test]
fn a_root_file_that_was_put_back_is_whole_again_at_once() {
    let (sandbox, _) = backed_up();
    let _daemon = serve(&sandbox);
    let (root, aside) = (sandbox.path("state/root"), sandbox.path("state/aside"));
    fs::rename(&root, &aside).unwrap();
    // The plugin opens the keyring again, because the file was written again.
    let keyring = fs::read(sandbox.path("state/keyring")).unwrap();
    fs::write(sandbox.path("state/keyring"), keyring).unwrap();
    wait_until("the plugin is degraded", || plugin(&sandbox)["degraded"].is_string());
    fs::rename(&aside, &root).unwrap();
    let status = sandbox.run(STATUS);
    assert!(!status.stdout.contains("! the plugin"), "{status}");
}

/// Only the root file and the key file of the slot are left, so the set-up seems unfinished. The keyring is restored,
/// and not merged.
#[test]
fn a_directory_with_nothing_but_a_root_file_is_answered_with_a_restore() {
    let (sandbox, expect) = backed_up();
    let _daemon = serve(&sandbox);
    for file in ["keyring", "keyring.prev", "mark", "ledger", "audit.jsonl"] {
        _ = fs::remove_file(sandbox.path("state").join(file));
    }
    let status = sandbox.run(STATUS);
    finding(
        &status,
        "let the plugin run, and restore a backup: claviger backup restore --socket [DIR]/run/kms.sock FILE",
    );
    assert!(!status.stdout.contains("--accept"), "{status}");
    restore(&sandbox, &expect, STATE).ends_with(0);
}

#[test]
fn the_log_says_when_a_keyring_that_was_refused_is_good_again() {
    let (sandbox, _) = backed_up();
    let mut daemon = serve(&sandbox);
    let keyring = fs::read(sandbox.path("state/keyring")).unwrap();
    fs::write(sandbox.path("state/keyring"), "damaged").unwrap();
    daemon.wait_for("refused the changed keyring, still serving the one before");
    fs::write(sandbox.path("state/keyring"), keyring).unwrap();
    daemon.wait_for("keyring opens again");
    let (_, log) = daemon.terminate();
    assert!(!log.contains("the keyring is unchanged") && !log.contains("keyring changed\""), "{log}");
}

#[test]
fn a_directory_that_was_replaced_is_taken_up_by_a_restart() {
    let (sandbox, _) = backed_up();
    let mut daemon = serve(&sandbox);
    fs::rename(sandbox.path("state"), sandbox.path("before")).unwrap();
    sandbox.copy("before", "state");
    let replaced = "another directory took the place of the state directory [DIR]/state";
    wait_until("the plugin says why", || plugin(&sandbox)["degraded"] == replaced);
    let status = sandbox.run(STATUS);
    status.ends_with(1).matches("status/replaced");
    assert!(!status.stdout.contains("Permission denied"), "{status}");
    // The plugin does not follow a directory that was replaced, even if the kernel would allow it.
    sandbox.run(&format!("key add {STATE}")).ends_with(0);
    thread::sleep(Duration::from_secs(1));
    assert_eq!(plugin(&sandbox)["degraded"], replaced);
    daemon.terminate();
    let _daemon = serve(&sandbox);
    sandbox.run(STATUS).ends_with(0);
}

#[test]
fn keys_that_only_the_plugin_has_forbid_a_restart() {
    let (sandbox, expect) = backed_up();
    sandbox.run(&format!("key add {STATE}")).ends_with(0);
    sandbox.run(&format!("key promote k3 --without-backup {STATE}")).ends_with(0);
    sandbox.run(&format!("backup create [DIR]/newer.age {STATE}")).ends_with(0);
    let _daemon = serve(&sandbox);
    fs::remove_dir_all(sandbox.path("state")).unwrap();
    let restored = restore(&sandbox, &expect, STATE);
    let status = sandbox.run(STATUS);
    assert_eq!((restored.code, status.code), (0, 1));
    snapshot("status/only-in-memory", &[&restored, &status]);
    finding(&status, "do not stop or restart the plugin before the keyring here has every key");
    finding(&status, "and a key is missing: add no key yet");
    assert!(!restored.stdout.contains("key add"), "{restored}");
    assert_eq!(plugin(&sandbox)["only_in_memory"].as_array().unwrap().len(), 1);
    sandbox.run(&format!("backup restore [DIR]/newer.age {OURS} {STATE} --accept")).ends_with(0);
    let merged = sandbox.run(STATUS);
    finding(&merged, "the keyring here has every key that it serves: a restart takes it up");
    assert_eq!(plugin(&sandbox)["only_in_memory"], serde_json::json!([]));
}

#[test]
fn another_keyring_is_not_put_in_the_place_of_the_one_that_is_served() {
    let (sandbox, expect) = backed_up();
    sandbox.init("other");
    let _daemon = sandbox.serve(&format!("--state-dir [DIR]/other {SOCKET}"));
    // Beside that directory, a new keyring may be made.
    let beside = sandbox.run(&format!("init --state-dir [DIR]/third --without-recovery {SOCKET}"));
    let restored = restore(&sandbox, &expect, "--state-dir [DIR]/fourth");
    assert_eq!((beside.code, restored.code), (0, 0));
    for (made, dir) in [(&beside, "third"), (&restored, "fourth")] {
        let next = format!(
            "claviger serve --state-dir [DIR]/{dir} --socket SOCKET    # not at unix://[DIR]/run/kms.sock, where a plugin serves \
             another keyring"
        );
        assert!(made.stdout.contains(&next) && !made.stdout.contains("in the place of"), "{made}");
        // The socket of the other plugin is held, so `serve` is refused. No hint offers to take that plugin's place.
        let held = sandbox.refused(3, &format!("serve --state-dir [DIR]/{dir} {SOCKET}"));
        assert!(!held.stderr.contains("--take-over"), "{held}");
        assert!(
            held.stderr.contains("hint:  it serves another keyring: let it run, and give this one another --socket"),
            "{held}"
        );
        let own = sandbox.serve(&format!("--state-dir [DIR]/{dir} --socket [DIR]/run/{dir}.sock"));
        drop(own);
    }
    // A command that refuses does not warn of a directory that it would have made.
    let unmade = format!(
        "init --state-dir [DIR]/fifth --recovery-recipient age1none --recovery-identity [DIR]/ours.txt {SOCKET}"
    );
    let unmade = sandbox.refused(2, &unmade);
    assert!(beside.stderr.starts_with("warning: the plugin at ") && !unmade.stderr.contains("warning: "), "{unmade}");
    fs::remove_dir_all(sandbox.path("other")).unwrap();
    let refused = sandbox.refused(
        3,
        &format!("backup restore [DIR]/backup.age {OURS} --expect {expect} {SOCKET} --state-dir [DIR]/other"),
    );
    let init = format!("init --state-dir [DIR]/other --without-recovery {SOCKET}");
    sandbox.refused(3, &init);
    sandbox.run(&format!("{init} --risk-unreadable-secrets")).ends_with(0);
    let status = sandbox.run(&format!("status --state-dir [DIR]/other {SOCKET} --backups none"));
    status.ends_with(1);
    finding(&status, "do not stop or restart the plugin; move [DIR]/other away");
    snapshot("status/another", &[&beside, &restored, &refused, &status]);
}

#[test]
fn a_key_that_stored_values_need_and_the_keyring_lacks_is_named() {
    let (sandbox, expect) = backed_up();
    sandbox.run(&format!("key add {STATE}")).ends_with(0);
    sandbox.run(&format!("key promote k3 --without-backup {STATE}")).ends_with(0);
    sandbox.run(&format!("backup create [DIR]/newer.age {STATE}")).ends_with(0);
    let mut daemon = serve(&sandbox);
    let (key_id, wrapped) = Kms::connect(&sandbox.path("run/kms.sock")).encrypt(&[7; 32]);
    daemon.terminate();
    fs::remove_dir_all(sandbox.path("state")).unwrap();
    restore(&sandbox, &expect, STATE).ends_with(0);

    let mut daemon = serve(&sandbox);
    let kms = Kms::connect(&sandbox.path("run/kms.sock"));
    let clean = sandbox.run(STATUS);
    assert!(!clean.stdout.contains("stored values need"), "{clean}");
    for _ in 0..3 {
        assert!(kms.decrypt(&key_id, &wrapped).unwrap_err().contains("unknown key_id"));
    }
    kms.decrypt("of-another-plugin", &[7; 108]).unwrap_err();
    let status = sandbox.run(STATUS);
    let json = sandbox.run(&format!("{STATUS} --output json")).json();
    let missing = &json["plugin"]["missing"][0];
    assert_eq!((&missing["key_id"], &missing["calls"]), (&key_id.clone().into(), &3.into()));
    assert_eq!(json["plugin"]["missing_others"], 1);
    status.ends_with(1).matches("status/missing-key");
    finding(
        &status,
        "and a key is missing: add no key yet; first find the backup that holds the missing key: claviger backup check --state-dir",
    );
    assert!(!status.stdout.contains("restored or merged: rotate"), "{status}");

    // The backup with the key brings it back, and the finding is gone.
    sandbox.run(&format!("backup restore [DIR]/newer.age {OURS} {STATE} --accept")).ends_with(0);
    wait_until("it decrypts", || kms.decrypt(&key_id, &wrapped).is_ok());
    let after = sandbox.run(&format!("{STATUS} --output json")).json();
    assert_eq!(after["plugin"]["missing"], serde_json::json!([]));
    finding(&sandbox.run(STATUS), "restored or merged: rotate to a new key: `claviger rotate");
    let (_, log) = daemon.terminate();
    let lines = log.lines().filter(|line| line.contains("a stored value needs a key that this keyring does not hold"));
    let lines: Vec<&str> = lines.collect();
    assert!(lines.len() == 1 && lines[0].contains(&key_id) && lines[0].contains("\"level\":\"ERROR\""), "{log}");
    let merge = format!("merge a backup that has the key: claviger backup restore {STATE} {SOCKET} FILE");
    assert!(lines[0].contains(&sandbox.unmask(&merge)), "{log}");
    assert_eq!(log.matches("\"call failed\"").count(), 1, "one line a minute: {log}");
}

#[test]
fn a_listed_backup_with_the_missing_key_is_named() {
    let (sandbox, _) = backed_up();
    sandbox.copy("state", "old");
    sandbox.run(&format!("key add {STATE}")).ends_with(0);
    sandbox.run(&format!("backup create [DIR]/newer.age {STATE}")).ends_with(0);
    let newest = names(&sandbox, "state").0[2].clone();
    // Lists the newer backup in the older keyring, which lacks the key.
    sandbox.run(&format!("backup check [DIR]/newer.age {OURS} --state-dir [DIR]/old"));
    let _daemon = sandbox.serve(&format!("--state-dir [DIR]/old {SOCKET}"));
    Kms::connect(&sandbox.path("run/kms.sock")).decrypt(&newest, &[7; 108]).unwrap_err();
    let status = sandbox.run(&format!("status --state-dir [DIR]/old {SOCKET}"));
    finding(
        &status,
        "holds it: merge it: claviger backup restore --state-dir [DIR]/old --socket [DIR]/run/kms.sock [DIR]/newer.age",
    );
}

#[test]
fn a_primary_key_without_a_backup_is_a_finding_unless_there_shall_be_none() {
    let sandbox = Sandbox::initialised();
    let _daemon = serve(&sandbox);
    sandbox.run(STATUS).ends_with(1).matches("status/unbacked");
    sandbox.run(&format!("{STATUS} --backups none")).ends_with(0);
    // The configuration file can say it once.
    fs::write(sandbox.path("config.toml"), "backups = \"none\"\n").unwrap();
    sandbox.run(&format!("{STATUS} --config [DIR]/config.toml")).ends_with(0);
    sandbox.run(&format!("{STATUS} --config [DIR]/config.toml --backups listed")).ends_with(1);
    // A pending key wraps nothing yet.
    let (sandbox, _) = backed_up();
    let _daemon = serve(&sandbox);
    sandbox.run(&format!("key add {STATE}")).ends_with(0);
    wait_until("the generation is served", || plugin(&sandbox)["generation"] == 4);
    let pending = sandbox.run(STATUS);
    assert!(pending.code == 0 && pending.stdout.contains("; not backed up: k3-"), "{pending}");
    sandbox.run(&format!("key promote k3 --without-backup {STATE}")).ends_with(0);
    let promoted = sandbox.run(STATUS);
    assert!(promoted.code == 1 && promoted.stdout.contains("! no listed backup holds k3-"), "{promoted}");
}

#[test]
fn a_command_that_sets_a_keyring_up_says_where_it_looked_for_a_plugin() {
    let (sandbox, expect) = backed_up();
    let _daemon = serve(&sandbox);
    fs::remove_dir_all(sandbox.path("state")).unwrap();
    let elsewhere = "--socket [DIR]/run/other.sock";
    let says = |answer: &Answer| {
        let line = "plugin      none answers at unix://[DIR]/run/other.sock: no such socket; this command asks only that socket: to \
                    ask another one: --socket SOCKET";
        let flat = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(answer.code == 0 && answer.stdout.lines().any(|it| flat(it) == flat(line)), "{answer}");
    };
    let init = sandbox.run(&format!("init {STATE} --without-recovery {elsewhere}"));
    says(&init);
    // If no plugin answers, the hint starts the new one.
    let start = "\n       claviger serve --socket [DIR]/run/other.sock --state-dir [DIR]/state\n";
    assert!(init.stdout.contains(start), "{init}");
    let restore = "backup restore [DIR]/backup.age --state-dir [DIR]/third";
    says(&sandbox.run(&format!("{restore} {OURS} --expect {expect} {elsewhere}")));
    let json =
        sandbox.run(&format!("init --state-dir [DIR]/fourth --without-recovery {elsewhere} --output json")).json();
    assert_eq!((&json["plugin_socket"], &json["plugin_found"]), (&"unix://[DIR]/run/other.sock".into(), &false.into()));
    // A stopped plugin listens and does not answer.
    let mute = std::os::unix::net::UnixListener::bind(sandbox.path("run/mute.sock")).unwrap();
    let init = "init --state-dir [DIR]/fifth --without-recovery --socket [DIR]/run/mute.sock";
    sandbox.refused(3, init);
    let init = sandbox.run(&format!("{init} --risk-unreadable-secrets"));
    assert!(
        init.stdout.contains("it is not known which keyring the one at unix://[DIR]/run/mute.sock serves: no answer"),
        "{init}"
    );
    drop(mute);
}

#[test]
fn a_backup_of_the_served_keyring_is_not_taken_for_a_wrong_one() {
    let (sandbox, _) = backed_up();
    let _daemon = serve(&sandbox);
    fs::remove_dir_all(sandbox.path("state")).unwrap();
    sandbox.run(&format!("init {STATE} --without-recovery --risk-unreadable-secrets {SOCKET}")).ends_with(0);
    let check = sandbox.refused(4, &format!("backup check [DIR]/backup.age {OURS} {STATE} {SOCKET}"));
    let merge = sandbox.refused(4, &format!("backup restore [DIR]/backup.age {OURS} {STATE} {SOCKET}"));
    for answer in [&check, &merge] {
        let hint = "hint:  the plugin at unix://[DIR]/run/kms.sock serves the keyring of this backup: do not stop or restart it; move \
                    [DIR]/state away, and restore the backup in its place: claviger backup restore";
        assert!(answer.stderr.contains(hint), "{answer}");
    }
    sandbox.init("wrong");
    let check = sandbox.refused(4, &format!("backup check [DIR]/backup.age {OURS} --state-dir [DIR]/wrong {SOCKET}"));
    assert!(check.stderr.contains("use the directory that it serves from: --state-dir [DIR]/state"), "{check}");
    // If no plugin runs, the hint says that the backup is the wrong one.
    let nobody =
        sandbox.refused(4, &format!("backup check [DIR]/backup.age {OURS} {STATE} --socket [DIR]/run/none.sock"));
    assert!(nobody.stderr.contains("hint:  use a backup of the keyring here"), "{nobody}");
}

/// Returns the output of a command on a terminal with `columns` columns.
fn on_terminal(sandbox: &Sandbox, columns: usize, command: &str) -> String {
    let line = format!("stty cols {columns}; exec {CLAVIGER} {command}");
    let mut script = Command::new("script");
    script.args(["-qec", &sandbox.unmask(&line), "/dev/null"]).stdin(Stdio::null()).env_remove("COLUMNS");
    String::from_utf8(script.output().unwrap().stdout).unwrap().replace('\r', "")
}

#[test]
fn the_tables_fit_the_terminal_and_are_whole_in_a_file() {
    let (sandbox, _) = backed_up();
    let _daemon = serve(&sandbox);
    let check = format!("backup check [DIR]/backup.age {OURS} {STATE}");
    let list = format!("key list {STATE}");
    let commands = [STATUS, &list, &check];
    let (keys, _) = names(&sandbox, "state");
    for (columns, command) in
        [40, 60, 80, 100].into_iter().flat_map(|columns| commands.map(|command| (columns, command)))
    {
        let page = on_terminal(&sandbox, columns, command);
        // On a narrow terminal, the rest of a row is printed below the key_id.
        let is_table = |line: &&str| line.starts_with("KEY ") || **line == keys[0];
        let table: Vec<&str> = page.lines().skip_while(|line| !is_table(line)).collect();
        assert!(table.len() >= 3, "{page}");
        let rows: Vec<&str> = table.into_iter().take_while(|line| !line.is_empty()).collect();
        assert!(rows.iter().all(|line| line.chars().count() <= columns), "{columns}: {page}");
        let second = rows.iter().position(|line| line.starts_with(keys[1].as_str())).expect("no key_id is cut");
        assert!(rows[second].contains("pending") || rows[second + 1] == "  pending", "{page}");
    }
    let piped = sandbox.run(STATUS).stdout;
    assert!(keys.iter().all(|key_id| piped.contains(key_id.as_str())) && piped.contains("Z   "), "{piped}");
}

#[test]
fn a_plugin_that_does_not_answer_is_not_taken_for_none() {
    let (sandbox, expect) = backed_up();
    let daemon = serve(&sandbox);
    fs::rename(sandbox.path("state"), sandbox.path("lost")).unwrap();
    let init = format!("init {STATE} {SOCKET} --without-recovery");
    let restored = format!("backup restore [DIR]/backup.age {OURS} --expect {expect} {SOCKET} {STATE}");
    let refused = || [&init, &restored].map(|line| sandbox.refused(3, line));

    let others: Vec<Kms> = (0..16).map(|_| Kms::connect(&sandbox.path("run/kms.sock"))).collect();
    for kms in &others {
        kms.status();
    }
    let busy = refused();
    assert!(busy[0].stderr.contains("the connection was closed before an answer came"), "{}", busy[0]);
    drop(others);

    daemon.send(Signal::STOP);
    let stopped = refused();
    daemon.send(Signal::CONT);
    assert!(stopped[1].stderr.contains("no answer within 3s"), "{}", stopped[1]);
    snapshot("status/unanswered", &[&stopped[0], &stopped[1]]);
    // An operator can give the flag, or stop the process.
    daemon.send(Signal::STOP);
    sandbox.run(&format!("{init} --risk-unreadable-secrets")).ends_with(0);
}
