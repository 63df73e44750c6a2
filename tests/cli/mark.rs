//! Tests the mark: a node continues from the record that it has seen last, and refuses a keyring that went backwards.

use std::fs;

use super::{
    backup::{OURS, with_recovery},
    forge::Forge,
    sandbox::{Answer, Sandbox, snapshot},
};

const STATUS: &str = "status --state-dir [DIR]/state --socket [DIR]/run/kms.sock --backups none";
const SERVE: &str = "serve --state-dir [DIR]/state --socket [DIR]/run/kms.sock";

/// Returns the line `expect` of `status`.
fn expect(sandbox: &Sandbox, state_dir: &str) -> String {
    let status = sandbox.run(&format!("status --state-dir [DIR]/{state_dir} --socket @none --output json"));
    status.json()["keyring"]["expect"].as_str().unwrap().to_owned()
}

/// Returns a sandbox whose files `rewrite` has changed and signed under the root key.
fn forged(rewrite: impl FnOnce(&Forge)) -> Sandbox {
    let sandbox = Sandbox::initialised();
    rewrite(&Forge::of(&sandbox.path("state")));
    sandbox
}

#[test]
fn without_a_mark_the_daemon_trusts_what_it_sees_first_and_warns() {
    let sandbox = Sandbox::initialised();
    let (path, mark) = (sandbox.path("state/mark"), fs::read(sandbox.path("state/mark")).unwrap());
    fs::remove_file(&path).unwrap();
    let before = sandbox.tree();
    let status = sandbox.run(STATUS);
    status.ends_with(1).matches("mark/missing");
    assert_eq!(before.changes(&sandbox.tree()), Vec::<String>::new(), "status writes nothing");

    let expect = expect(&sandbox, "state");
    let mut daemon = sandbox.serve(SERVE.trim_start_matches("serve "));
    assert_eq!(sandbox.run(STATUS).code, 0);
    let (exit, log) = daemon.terminate();
    assert_eq!(exit, Some(0));
    let warning = log.lines().find(|line| line.contains("\"WARN\"")).expect("a warning");
    assert!(warning.contains("no mark yet, trusting the keyring that was found") && warning.contains(&expect), "{log}");
    assert_eq!(fs::read(&path).unwrap(), mark);
}

#[test]
fn status_asks_for_a_rotation_after_a_restore_until_there_was_one_whoever_made_the_mark_anew() {
    let sandbox = with_recovery();
    sandbox.run("backup create [DIR]/backup.age --state-dir [DIR]/state").ends_with(0);
    fs::remove_file(sandbox.path("state/keyring")).unwrap();
    sandbox.run(&format!("backup restore [DIR]/backup.age {OURS} --state-dir [DIR]/state --accept")).ends_with(0);
    let asks = || sandbox.run(STATUS).stdout.contains("! the keyring was restored or merged: rotate");
    assert!(asks());
    fs::remove_file(sandbox.path("state/mark")).unwrap();
    assert!(asks());
    let _daemon = sandbox.serve(SERVE.trim_start_matches("serve "));
    assert!(sandbox.path("state/mark").exists() && asks());
    sandbox.run("key add --state-dir [DIR]/state").ends_with(0);
    assert!(asks());
    sandbox.run("key promote k3 --without-backup --state-dir [DIR]/state").ends_with(0);
    assert!(!asks());
}

#[test]
fn without_a_mark_the_expected_keyring_is_trusted_without_a_warning() {
    let sandbox = Sandbox::initialised();
    fs::remove_file(sandbox.path("state/mark")).unwrap();
    let expect = expect(&sandbox, "state");
    let mut daemon = sandbox.serve(&format!("{} --expect {expect}", SERVE.trim_start_matches("serve ")));
    let (exit, log) = daemon.terminate();
    assert_eq!(exit, Some(0));
    assert!(log.contains("\"mark advanced\"") && !log.contains("\"WARN\""), "{log}");
    assert!(sandbox.path("state/mark").exists());
}

#[test]
fn another_keyring_than_the_expected_one_is_refused() {
    for marked in [true, false] {
        let sandbox = Sandbox::initialised();
        sandbox.init("other");
        let ours = expect(&sandbox, "state");
        if !marked {
            fs::remove_file(sandbox.path("state/mark")).unwrap();
        }
        let (uuid, record) = (&ours[..32], &ours[35..]);
        let answers = [expect(&sandbox, "other"), format!("{uuid}:2:{record}"), format!("{uuid}:1:{}", "0".repeat(64))]
            .map(|expect| sandbox.refused(3, &format!("{SERVE} --expect {expect} --log-level error")));
        snapshot("mark/expect", &answers.each_ref());
        let mut daemon = sandbox.serve(&format!("{} --expect {uuid}:1:{record}", SERVE.trim_start_matches("serve ")));
        assert_eq!(daemon.terminate().0, Some(0), "exactly this one");
    }
}

#[test]
fn a_successor_of_the_expected_keyring_is_trusted_only_beside_a_mark() {
    let sandbox = Sandbox::initialised();
    let ours = expect(&sandbox, "state");
    sandbox.run("key add --state-dir [DIR]/state").ends_with(0);
    let line = format!("{SERVE} --expect {ours}");
    let mut daemon = sandbox.serve(line.trim_start_matches("serve "));
    assert_eq!(daemon.terminate().0, Some(0));
    fs::remove_file(sandbox.path("state/mark")).unwrap();
    let refused = sandbox.refused(3, &format!("{line} --log-level error"));
    snapshot("mark/expect-exactly", &[&refused]);
}

#[test]
fn a_keyring_that_was_rolled_back_or_forked_is_refused() {
    let refused = |sandbox: &Sandbox| -> Answer { sandbox.unopened(3, "state") };
    let rolled_back = forged(|forge| forge.rewrite_mark("\ngeneration 1\n", "\ngeneration 2\n"));
    let forked = forged(|forge| forge.rewrite_record(" created=2", " created=1"));
    // The record is that of a twin with another change.
    let no_successor = forged(|forge| forge.rewrite_as_second(&[7; 32]));
    let key_lost = forged(|forge| {
        forge.rewrite_as_second(&forge.record());
        forge.rewrite_mark("\n---", &format!("\n-> has k2-{}\n---", "0".repeat(32)));
    });
    let answers = [refused(&rolled_back), refused(&forked), refused(&no_successor), refused(&key_lost)];
    snapshot("mark/rolled-back-or-forked", &answers.each_ref());
}

#[test]
fn a_keyring_ahead_of_the_mark_is_served_and_marked() {
    let sandbox = forged(|forge| forge.rewrite_as_second(&forge.record()));
    let status = sandbox.run(STATUS);
    status.ends_with(1).matches("mark/behind");
    let mut daemon = sandbox.serve(SERVE.trim_start_matches("serve "));
    let (exit, log) = daemon.terminate();
    assert!(exit == Some(0) && log.contains("\"mark advanced\""), "{log}");
    assert!(fs::read_to_string(sandbox.path("state/mark")).unwrap().contains("\ngeneration 2\n"));
}
