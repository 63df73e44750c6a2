//! Makes the mistakes of a newcomer, and checks the sentence that explains each: the wrong socket, the wrong owner, the
//! wrong file, the same command twice.

use std::{fs, os::unix::fs::chown, path::Path, process::Command};

use rustix::process::Signal;

use super::{
    backup::{OURS, STATE, names, with_recovery},
    sandbox::{Answer, NOBODY, Sandbox, root_for, snapshot},
    status::{SOCKET, backed_up, serve},
};

fn has(answer: &Answer, text: &str) {
    assert!(answer.stdout.contains(text) || answer.stderr.contains(text), "{text}: {answer}");
}

#[test]
fn a_file_that_cannot_be_used_has_the_same_exit_code_in_every_command() {
    let sandbox = super::backup::with_recovery();
    sandbox.make_dir("directory", 0o700);
    fs::write(sandbox.path("text"), "not what it should be\n").unwrap();
    fs::write(sandbox.path("large"), vec![b' '; 5 << 20]).unwrap();
    let (state, etcd) = ("--state-dir [DIR]/state", "--etcd-servers https://127.0.0.1:1");
    // What a command examines, and what says what to do.
    let (examined, settings) = (7, 2);
    for (line, wrong) in [
        ("scan --snapshot FILE".to_owned(), examined),
        ("scan --snapshot [DIR]/text --encryption-config FILE".to_owned(), examined),
        ("scan --snapshot [DIR]/text --keyring FILE".to_owned(), examined),
        ("scan --apiserver-manifest FILE".to_owned(), examined),
        (format!("backup check FILE --recovery-identity [DIR]/ours.txt {state}"), examined),
        (format!("backup check [DIR]/state/keyring --recovery-identity FILE {state}"), settings),
        (format!("recovery test --recovery-identity FILE {state}"), settings),
        (format!("scan {etcd} --etcd-cafile FILE"), settings),
        ("status --config FILE".to_owned(), settings),
    ] {
        for (name, exit) in [("absent", 2), ("directory", 2), ("text", wrong), ("large", wrong)] {
            let answer = sandbox.run(&line.replace("FILE", &format!("[DIR]/{name}")));
            assert_eq!(answer.code, exit, "{answer}");
        }
    }
}

#[test]
fn a_key_that_no_plugin_takes_up_is_said_to_be_so() {
    let (sandbox, _) = backed_up();
    let nobody = sandbox.run(&format!("key add {STATE} --socket [DIR]/run/kmz.sock"));
    let daemon = serve(&sandbox);
    let wrong_socket = sandbox.run(&format!("key add {STATE} --socket [DIR]/run/kmz.sock"));
    let right = sandbox.run(&format!("key add {STATE} {SOCKET}"));
    assert_eq!(right.ends_with(0).stderr, "");
    daemon.send(Signal::STOP);
    let busy = sandbox.run(&format!("key add {STATE} {SOCKET}"));
    daemon.send(Signal::CONT);
    has(
        busy.ends_with(0),
        "the one at unix://[DIR]/run/kms.sock does not answer: no answer within 3s\nhint:  see how it is: ",
    );
    drop(daemon);
    sandbox.init("other");
    let _daemon = sandbox.serve(&format!("--state-dir [DIR]/other {SOCKET}"));
    let wrong_directory = sandbox.run(&format!("key add {STATE} {SOCKET}"));
    let none = "warning: no plugin is known to take the new key up: none answers at unix://[DIR]/run/kmz.sock: no such socket\n";
    for answer in [&nobody, &wrong_socket] {
        has(answer.ends_with(0), none);
    }
    has(&nobody, "if none runs, start it: claviger serve");
    has(&wrong_socket, "a plugin serves from this state directory at another socket: give its socket");
    has(wrong_directory.ends_with(0), "serves from [DIR]/other, and not from [DIR]/state\n");
    has(&wrong_directory, "hint:  if you meant the keyring that it serves: --state-dir [DIR]/other\n");
    snapshot("key/not-taken-up", &[&nobody, &wrong_socket, &wrong_directory]);
}

#[test]
fn a_directory_that_alone_has_the_wrong_owner_is_given_back_by_the_command_that_is_named() {
    if !root_for("a directory of another user's") {
        return;
    }
    // The sandbox is not below /tmp, because there anybody could have made a directory that root finds.
    let sandbox = Sandbox::inside(Path::new("/run"));
    sandbox.make_dir("state", 0o700);
    chown(sandbox.path("state"), Some(NOBODY), Some(NOBODY)).unwrap();
    sandbox.init("state");
    chown(sandbox.path("state"), Some(0), Some(0)).unwrap();
    let refused = sandbox.refused(3, &format!("key list {STATE}"));
    let mend = format!("chown {NOBODY} [DIR]/state;");
    has(&refused, &format!("so probably only the directory has the wrong owner: {mend}"));
    has(&refused, "if uid 0 is to own all of it: chown -R 0 [DIR]/state\n");
    let mend = sandbox.unmask(&mend);
    assert!(Command::new("sh").args(["-c", &mend]).status().unwrap().success());
    sandbox.run(&format!("key list {STATE}")).ends_with(0);
    sandbox.call(&format!("key list {STATE}")).by_nobody().run().ends_with(0);
    // A command that lacks a permission says how to get it back.
    chown(sandbox.path("state"), Some(0), Some(0)).unwrap();
    sandbox.chmod(".", 0o755);
    let denied = sandbox.call(&format!("key list {STATE}")).by_nobody().refused(3);
    has(
        &denied,
        &format!(
            "if uid {NOBODY} is the user of the plugin, give it the directory with all that is in it: chown -R {NOBODY} [DIR]/state\n"
        ),
    );
    chown(sandbox.path("state"), Some(NOBODY), Some(NOBODY)).unwrap();
    // A single file with a wrong owner has another message.
    chown(sandbox.path("state/mark"), Some(0), Some(0)).unwrap();
    let one = sandbox.refused(3, &format!("key list {STATE}"));
    has(&one, &format!("chown {NOBODY} [DIR]/state/mark; if it was root's before: chown root [DIR]/state\n"));
}

#[test]
fn a_second_set_of_shares_says_what_becomes_of_the_first() {
    let sandbox = with_recovery();
    sandbox.make_dir("shares", 0o700);
    let split = || {
        sandbox.run(&format!("recovery split {OURS} --shares 3 --threshold 2 --directory [DIR]/shares --output json"))
    };
    let first = split().ends_with(0).json();
    assert_eq!(first["earlier_sets"], serde_json::json!([]));
    let text = |json: &serde_json::Value| -> Vec<String> {
        let paths = json["shares"].as_array().unwrap().iter();
        paths.map(|path| fs::read_to_string(sandbox.unmask(path.as_str().unwrap())).unwrap()).collect()
    };
    let before = text(&first);
    let second = split().ends_with(0).json();
    assert_eq!(second["earlier_sets"], serde_json::json!([first["set"]]));
    assert_eq!(text(&first), before, "no file is written over");
    let line = format!("recovery split {OURS} --shares 3 --threshold 2 --directory [DIR]/shares");
    let third = sandbox.run(&line);
    has(third.ends_with(0), "! the directory already has shares of the set ");
    has(&third, "which stay as they are and still work: shares of two sets are never combined");
    for json in [&first, &second] {
        let two: Vec<String> = json["shares"].as_array().unwrap()[..2]
            .iter()
            .map(|path| format!("--recovery-identity {}", path.as_str().unwrap()))
            .collect();
        sandbox.run(&format!("recovery test {} {STATE}", two.join(" "))).ends_with(0);
    }
}

#[test]
fn a_restore_and_a_merge_say_with_what_the_backup_was_compared() {
    let (sandbox, expect) = backed_up();
    let restore = format!("backup restore [DIR]/backup.age {OURS}");
    sandbox.run(&format!("key promote k2 --without-backup {STATE}")).ends_with(0);
    fs::remove_file(sandbox.path("state/keyring")).unwrap();
    let merge = sandbox.run(&format!("{restore} {STATE} --expect {expect}"));
    has(
        merge.ends_with(1),
        "with keyring.prev, its mark, its ledger and the line of --expect; with a running plugin, `claviger status",
    );
    fs::remove_file(sandbox.path("state/keyring.prev")).unwrap();
    fs::remove_file(sandbox.path("state/mark")).unwrap();
    let merge = sandbox.run(&format!("{restore} {STATE}"));
    has(merge.ends_with(1), "with its ledger; with a running plugin");
    let restored = sandbox.run(&format!("{restore} --state-dir [DIR]/new --expect {expect}"));
    has(restored.ends_with(0), "with the line of --expect\n");
    // The keyring of a running plugin is compared, too.
    let _daemon = sandbox.serve(&format!("--state-dir [DIR]/new {SOCKET}"));
    let restored = sandbox.run(&format!("{restore} --state-dir [DIR]/newer --expect {expect} {SOCKET}"));
    has(restored.ends_with(0), "with the keys of the plugin at unix://[DIR]/run/kms.sock and the line of --expect\n");
}

#[test]
fn a_backup_is_named_in_what_is_to_be_done_with_it() {
    let (sandbox, _) = backed_up();
    sandbox.copy("state", "twin");
    sandbox.run(&format!("key add {STATE}")).ends_with(0);
    sandbox.run(&format!("backup create [DIR]/a.age {STATE}")).ends_with(0);
    sandbox.run("key add --state-dir [DIR]/twin").ends_with(0);
    let fork = sandbox.run(&format!("backup check [DIR]/a.age {OURS} --state-dir [DIR]/twin"));
    has(
        fork.ends_with(1),
        "bring them together: claviger backup restore --state-dir [DIR]/twin --recovery-identity [DIR]/ours.txt",
    );
    has(&fork, " [DIR]/a.age\n");
    assert!(!fork.stderr.contains("FILE"), "{fork}");
}

/// Writes an EncryptionConfiguration, and the manifest of an API server that uses it with an etcd that does not run.
fn declare(sandbox: &Sandbox) {
    let config =
        sandbox.run("generate encryption-configuration --socket [DIR]/run/kms.sock").ends_with(0).stdout.clone();
    fs::write(sandbox.path("enc.yaml"), sandbox.unmask(&config)).unwrap();
    let manifest = "apiVersion: v1\nkind: Pod\nmetadata: {name: kube-apiserver}\nspec:\n  containers:\n  - name: kube-apiserver\n    \
                    command: [kube-apiserver, --etcd-servers=http://127.0.0.1:1, --encryption-provider-config=[DIR]/enc.yaml]\n";
    fs::write(sandbox.path("manifest.yaml"), sandbox.unmask(manifest)).unwrap();
    fs::write(sandbox.path("config.toml"), sandbox.unmask("socket = \"[DIR]/run/kms.sock\"\n")).unwrap();
    sandbox.chmod("config.toml", 0o600);
}

const MANIFEST: &str = "--apiserver-manifest [DIR]/manifest.yaml";
const SERVERS: &str = "--etcd-servers http://127.0.0.1:1 --encryption-config [DIR]/enc.yaml";

#[test]
fn a_key_that_is_not_primary_is_not_taken_for_the_primary_one() {
    let (sandbox, _) = backed_up();
    declare(&sandbox);
    let (keys, primary) = names(&sandbox, "state");
    let other = keys.iter().find(|key| **key != primary).unwrap();
    for command in ["scan", "reencrypt --dry-run", "reencrypt"] {
        for place in [MANIFEST, SERVERS] {
            let refused = sandbox.refused(3, &format!("{command} {place} {STATE} --primary {other}"));
            has(
                &refused,
                &format!(
                    "error: --primary {other}: this key is not primary in [DIR]/state/keyring: {primary} is\n\
                     hint:  omit --primary, or name the primary key: --primary {primary}\n"
                ),
            );
        }
    }
    // For the primary key and for a key that the keyring does not know, the command asks etcd, which does not answer.
    let unknown = format!("k9-{}", "0".repeat(32));
    for key in [&primary, &unknown] {
        has(&sandbox.refused(6, &format!("scan {SERVERS} {STATE} --primary {key}")), "127.0.0.1:1");
    }
    // At the time of a snapshot, the key may have been primary.
    let snapshot = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/etcd-snapshot.db");
    let old = sandbox.run(&format!("scan --snapshot {snapshot} {STATE} --primary {other}"));
    let note = format!(
        "note:  --primary {other}: in [DIR]/state/keyring, which knows this key, too, another key is primary: {primary}\n"
    );
    has(old.ends_with(1), &note);
    // If the keyring cannot be read, the command says that it was not asked.
    fs::write(sandbox.path("state/keyring"), "torn").unwrap();
    let unchecked = sandbox.run(&format!("scan --snapshot {snapshot} {STATE} --primary {other}"));
    has(&unchecked, &format!("note:  --primary {other} was not compared with the keyring here: [DIR]/state/keyring: "));
}

#[test]
fn nothing_is_re_encrypted_under_a_key_that_the_plugin_does_not_announce() {
    let (sandbox, _) = backed_up();
    declare(&sandbox);
    sandbox.init("served");
    let _daemon = sandbox.serve(&format!("--state-dir [DIR]/served {SOCKET}"));
    let served = names(&sandbox, "served").1;
    let primary = names(&sandbox, "state").1;
    let flags = format!("--config [DIR]/config.toml {STATE}");
    let says = format!(
        "the plugin at unix://[DIR]/run/kms.sock announces {served}, under which API servers write, and {primary} is primary in \
         [DIR]/state/keyring\nhint:  use the directory that it serves from: --state-dir [DIR]/served\n"
    );
    for command in ["reencrypt", "reencrypt --dry-run"] {
        let refused = sandbox.refused(3, &format!("{command} {MANIFEST} {flags}"));
        has(&refused, &format!("error: {says}"));
    }
    // The API server of another etcd may use another plugin.
    let warned = sandbox.refused(6, &format!("reencrypt --dry-run {SERVERS} {flags}"));
    has(&warned, &format!("warning: {says}"));
    // There is no such note for the served directory and for the announced key.
    for right in ["--state-dir [DIR]/served", &format!("--state-dir [DIR]/none --primary {served}")] {
        let right = sandbox.refused(6, &format!("reencrypt --dry-run {MANIFEST} --config [DIR]/config.toml {right}"));
        assert!(!right.stderr.contains("announces"), "{right}");
    }
    let flags = "--config [DIR]/config.toml --state-dir [DIR]/none";
    let refused = sandbox.refused(3, &format!("reencrypt {MANIFEST} {flags} --primary {primary}"));
    has(&refused, &format!("announces {served}, under which API servers write, and --primary names {primary}\n"));
    has(&refused, "hint:  use the keyring that it serves: --keyring [DIR]/served/keyring\n");
}
