//! Tests that `init` overwrites no keyring, no files of an earlier init and no key file of a slot, and that it accepts
//! no recovery recipient whose identity was not tried.

use std::fs;

use super::{
    output::identity,
    sandbox::{Sandbox, snapshot},
    terminal::type_into,
    tree::Tree,
};

const INIT: &str = "init --state-dir [DIR]/state --without-recovery";

#[test]
fn a_second_init_is_refused() {
    let sandbox = Sandbox::initialised();
    let answers = [INIT, &format!("{INIT} --restart"), &format!("{INIT} --output json --quiet")].map(|line| {
        let (before, answer) = (sandbox.tree(), sandbox.run(line));
        assert_eq!(before.changes(&sandbox.tree()), Vec::<String>::new());
        assert_eq!(answer.ends_with(3).stdout, "");
        answer
    });
    snapshot("init/second", &answers.each_ref());
    let error: serde_json::Value = serde_json::from_str(&answers[2].stderr).unwrap();
    assert_eq!((&error["format"], &error["exit"]), (&"claviger/error/v1".into(), &3.into()));
}

#[test]
fn what_remains_of_a_keyring_is_not_begun_again() {
    for remains in ["keyring", "keyring.prev", "mark"] {
        let sandbox = Sandbox::initialised();
        fs::copy(sandbox.path("state/keyring"), sandbox.path("state/keyring.prev")).unwrap();
        for name in ["keyring", "keyring.prev", "mark", "root", "slot-file.key"] {
            if name != remains {
                fs::remove_file(sandbox.path("state").join(name)).unwrap();
            }
        }
        sandbox.refused(3, INIT);
        sandbox.refused(3, &format!("{INIT} --restart"));
    }
}

/// The files that an unfinished init leaves, by the step after which it was ended.
const CRASHES: [(&str, &[&str]); 2] =
    [("after-slot-file", &["slot-file.key"]), ("after-root-file", &["root", "slot-file.key"])];

/// Makes `state` the directory of an init that was ended when it had written `files`.
fn crash(sandbox: &Sandbox, files: &[&str]) {
    sandbox.init("finished");
    fs::create_dir_all(sandbox.path("state")).unwrap();
    sandbox.chmod("state", 0o700);
    for name in files {
        fs::copy(sandbox.path("finished").join(name), sandbox.path("state").join(name)).unwrap();
    }
    fs::remove_dir_all(sandbox.path("finished")).unwrap();
}

#[test]
fn an_unfinished_init_is_moved_aside_whole_and_only_when_asked() {
    for (name, files) in CRASHES {
        let sandbox = Sandbox::new();
        crash(&sandbox, files);
        let refused = sandbox.refused(3, INIT);
        let leftovers = Tree::below(&sandbox.path("state"));
        let restarted = sandbox.run(&format!("{INIT} --restart"));
        restarted.ends_with(0);
        assert_eq!(Tree::below(&sandbox.path("state/unfinished-1")), leftovers, "{name}");
        snapshot(&format!("init/unfinished-{name}"), &[&refused, &restarted]);
        sandbox.run("key list --state-dir [DIR]/state").ends_with(0);
    }
}

#[test]
fn a_restart_that_does_not_finish_either_is_moved_aside_beside_the_first() {
    let sandbox = Sandbox::new();
    for (n, (_, files)) in CRASHES.iter().enumerate() {
        crash(&sandbox, files);
        let leftovers = Tree::below(&sandbox.path("state")).only(files);
        let answer = sandbox.run(&format!("{INIT} --restart --output json"));
        assert_eq!(answer.ends_with(0).json()["moved_aside"], format!("[DIR]/state/unfinished-{}", n + 1));
        assert_eq!(Tree::below(&sandbox.path("state").join(format!("unfinished-{}", n + 1))), leftovers);
        for name in ["keyring", "mark", "root", "slot-file.key"] {
            fs::remove_file(sandbox.path("state").join(name)).unwrap();
        }
    }
    assert_eq!(Tree::names(&sandbox.path("state")), ["audit.jsonl", "lock", "unfinished-1/", "unfinished-2/"]);
}

#[test]
fn a_file_that_was_half_written_is_in_nobodys_way() {
    let sandbox = Sandbox::new();
    sandbox.make_dir("state", 0o700);
    fs::write(sandbox.path("state/slot-file.key.0123456789abcdef.new"), "half a key").unwrap();
    sandbox.run(INIT).ends_with(0);
    assert_eq!(
        Tree::names(&sandbox.path("state")),
        ["audit.jsonl", "keyring", "lock", "mark", "root", "slot-file.key"]
    );
}

/// The state directory needs these names, or may need them. A key file with such a name would be overwritten, or
/// removed.
#[test]
fn a_key_file_in_the_state_directory_is_refused() {
    for name in ["mark", "keyring", "keyring.prev", "root", "root.new", "lock", "slot-file.key", "other"] {
        let sandbox = Sandbox::new();
        sandbox.make_dir("state", 0o700);
        sandbox.run(&format!("{INIT} --slot-file [DIR]/state/{name}")).ends_with(3);
        assert!(Tree::names(&sandbox.path("state")).iter().all(|name| name == "lock"), "{name}");
    }
}

#[test]
fn two_key_files_beside_each_other_do_not_touch_each_other() {
    let sandbox = Sandbox::new();
    sandbox.make_dir("keys", 0o700);
    for (state, key) in [("a", "slot.new"), ("b", "slot"), ("c", "slot.new.new")] {
        sandbox
            .run(&format!("init --state-dir [DIR]/{state} --without-recovery --slot-file [DIR]/keys/{key}"))
            .ends_with(0);
    }
    for state in ["a", "b", "c"] {
        sandbox.run(&format!("key list --state-dir [DIR]/{state}")).ends_with(0);
    }
}

#[test]
fn what_an_unfinished_init_left_opens_for_nobody() {
    let sandbox = Sandbox::new();
    crash(&sandbox, &["root", "slot-file.key"]);
    sandbox.unopened(7, "state").matches("init/unfinished-opened");
}

#[test]
fn a_restart_without_anything_unfinished_is_an_init() {
    let sandbox = Sandbox::new();
    sandbox.run(&format!("{INIT} --restart")).ends_with(0);
    assert_eq!(
        Tree::names(&sandbox.path("state")),
        ["audit.jsonl", "keyring", "lock", "mark", "root", "slot-file.key"]
    );
}

#[test]
fn what_is_not_inits_stays_where_it_is() {
    let sandbox = Sandbox::new();
    crash(&sandbox, &["root", "slot-file.key"]);
    fs::write(sandbox.path("state/notes"), "mine").unwrap();
    sandbox.run(&format!("{INIT} --restart")).ends_with(0);
    assert_eq!(fs::read(sandbox.path("state/notes")).unwrap(), b"mine");
}

#[test]
fn a_key_file_that_is_there_is_not_overwritten() {
    let sandbox = Sandbox::new();
    fs::write(sandbox.path("slot.key"), [7; 32]).unwrap();
    sandbox.chmod("slot.key", 0o600);
    sandbox.make_dir("state", 0o700);
    let slot_file = |file: &str| format!("{INIT} --slot-file [DIR]/{file}");
    sandbox.refused(3, &slot_file("slot.key")).matches("init/slot-file-exists");
    sandbox.refused(3, &slot_file("nowhere/slot.key")).matches("init/slot-file-nowhere");
    sandbox.make_dir("public", 0o777);
    sandbox.refused(3, &slot_file("public/slot.key")).matches("init/slot-file-public");
}

#[test]
fn a_restart_that_a_key_file_stops_moves_nothing() {
    let sandbox = Sandbox::new();
    crash(&sandbox, &["root"]);
    fs::write(sandbox.path("slot.key"), [7; 32]).unwrap();
    sandbox.chmod("slot.key", 0o600);
    sandbox.refused(3, &format!("{INIT} --restart --slot-file [DIR]/slot.key"));
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let sandbox = Sandbox::new();
    fs::write(sandbox.path("file"), "").unwrap();
    let init = |directory: &str| sandbox.refused(3, &format!("init --without-recovery --state-dir [DIR]/{directory}"));
    snapshot("init/directory", &[&init("no/state"), &init("file/state"), &init("file")]);
}

#[test]
fn a_locked_directory_is_waited_for_and_then_refused() {
    let sandbox = Sandbox::new();
    sandbox.make_dir("state", 0o700);
    let lock = fs::File::create(sandbox.path("state/lock")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive).unwrap();
    sandbox.refused(3, INIT).matches("init/locked");
    drop(lock);
    sandbox.run(INIT).ends_with(0);
}

#[test]
fn a_recovery_that_does_not_work_is_refused() {
    let sandbox = Sandbox::new();
    sandbox.make_dir("state", 0o700);
    let (ours, other) = (identity(&sandbox, "identity.txt"), identity(&sandbox, "other.txt"));
    fs::write(sandbox.path("empty.txt"), "").unwrap();
    fs::write(sandbox.path("comment.txt"), "# my identity\n\n").unwrap();
    fs::write(sandbox.path("recipient.txt"), &ours).unwrap();
    fs::write(sandbox.path("binary.txt"), [0xff; 40]).unwrap();
    let to = |recipient: &str, identity: &str| {
        format!("init --state-dir [DIR]/state --recovery-recipient {recipient} --recovery-identity {identity}")
    };
    let broken = format!("age1{}", "q".repeat(57));
    for (name, exit, lines) in [
        ("recipient-is-none", 2, ["ssh-ed25519", &broken, "age1"].map(|it| to(it, "[DIR]/identity.txt")).to_vec()),
        ("identity-missing", 2, vec![to(&ours, "[DIR]/nowhere.txt"), to(&ours, "[DIR]/state")]),
        (
            "identity-is-none",
            2,
            ["empty", "comment", "recipient", "binary"].map(|it| to(&ours, &format!("[DIR]/{it}.txt"))).to_vec(),
        ),
        ("identity-not-given", 2, vec![format!("init --state-dir [DIR]/state --recovery-recipient {ours}")]),
        ("identity-of-another", 4, vec![to(&ours, "[DIR]/other.txt"), to(&other, "[DIR]/identity.txt")]),
        (
            "identity-of-one-of-two",
            4,
            vec![to(&ours, "[DIR]/identity.txt") + &format!(" --recovery-recipient {other}")],
        ),
    ] {
        let answers: Vec<_> = lines.iter().map(|line| sandbox.refused(exit, line)).collect();
        snapshot(&format!("init/{name}"), &answers.iter().collect::<Vec<_>>());
    }
    let empty = sandbox.call(&to(&ours, "-")).refused(2);
    empty.matches("init/identity-on-standard-input-is-none");
}

#[test]
fn an_identity_is_asked_for_on_a_terminal_and_not_shown() {
    let sandbox = Sandbox::new();
    let ours = identity(&sandbox, "identity.txt");
    let text = fs::read_to_string(sandbox.path("identity.txt")).unwrap();
    let line = format!("init --state-dir [DIR]/state --recovery-recipient {ours}");
    let (said, succeeded) = type_into(&sandbox, &line, &[text.lines().last().unwrap()]);
    assert!(succeeded, "{said}");
    assert!(
        said.starts_with(
            "recovery identity, its line AGE-SECRET-KEY-1… (for a file or shares, use --recovery-identity FILE): "
        ) && said.contains("primary"),
        "{said}"
    );
}

#[test]
fn an_identity_on_the_command_line_is_not_repeated() {
    let sandbox = Sandbox::new();
    let ours = identity(&sandbox, "identity.txt");
    let text = fs::read_to_string(sandbox.path("identity.txt")).unwrap();
    let secret = text.lines().last().unwrap();
    // Every command is checked for secrets in its answer.
    let recipient = sandbox.refused(2, &format!("init --recovery-recipient {secret} --recovery-identity identity.txt"));
    let file = sandbox.refused(2, &format!("init --recovery-recipient {ours} --recovery-identity {secret}"));
    snapshot("init/identity-on-the-command-line", &[&recipient, &file]);
}

#[test]
fn a_recovery_that_does_not_work_leaves_an_unfinished_init_in_its_place() {
    let sandbox = Sandbox::new();
    crash(&sandbox, &["root", "slot-file.key"]);
    let (ours, _) = (identity(&sandbox, "identity.txt"), identity(&sandbox, "other.txt"));
    sandbox.refused(
        4,
        &format!(
            "init --state-dir [DIR]/state --restart --recovery-recipient {ours} --recovery-identity [DIR]/other.txt"
        ),
    );
}

#[test]
fn a_recipient_given_twice_counts_once() {
    let sandbox = Sandbox::new();
    let ours = identity(&sandbox, "identity.txt");
    let recipients = format!("--recovery-recipient {ours} --recovery-recipient {ours}");
    let answer =
        sandbox.run(&format!("init --state-dir [DIR]/state {recipients} --recovery-identity [DIR]/identity.txt"));
    if answer.code == 0 {
        sandbox.run("key list --state-dir [DIR]/state").ends_with(0);
    } else {
        answer.ends_with(2);
    }
}

#[test]
fn what_only_a_finished_keyring_leaves_behind_means_that_it_was_set_up() {
    let used = Sandbox::initialised();
    for line in ["key add", "key promote k2 --without-backup"] {
        used.run(&format!("{line} --state-dir [DIR]/state")).ends_with(0);
    }
    assert_eq!(used.serve("--state-dir [DIR]/state --socket [DIR]/run/kms.sock").terminate().0, Some(0));
    let traces = ["keyring.prev", "mark", "audit.jsonl", "ledger"];
    fs::write(used.path("state/ledger"), "claviger/ledger/v1\n").unwrap();
    used.chmod("state/ledger", 0o600);
    fs::remove_file(used.path("state/keyring")).unwrap();
    let restart = "init --state-dir [DIR]/state --without-recovery --restart";
    for left in traces {
        let sandbox = used.twin();
        for name in traces.iter().filter(|name| **name != left) {
            fs::remove_file(sandbox.path("state").join(name)).unwrap();
        }
        sandbox.refused(3, restart);
        let opened = sandbox.unopened(7, "state");
        assert!(opened.stderr.contains("claviger backup restore") && !opened.stderr.contains("--restart"), "{opened}");
        if left == "audit.jsonl" {
            opened.matches("init/was-set-up");
        }
    }
    // Without any of these traces, the directory is that of an init that broke off.
    for name in traces {
        fs::remove_file(used.path("state").join(name)).unwrap();
    }
    assert!(used.unopened(7, "state").stderr.contains("--restart"));
}

#[test]
fn a_restore_that_did_not_finish_is_begun_again_by_the_same_command() {
    let sandbox = super::backup::with_recovery();
    sandbox.run("backup create [DIR]/backup.age --state-dir [DIR]/state").ends_with(0);
    let status = sandbox.run("status --state-dir [DIR]/state --output json").json();
    let expect = status["keyring"]["expect"].as_str().unwrap().to_owned();
    let restore = "backup restore [DIR]/backup.age --recovery-identity [DIR]/ours.txt --state-dir [DIR]/new";
    sandbox.run(&format!("{restore} --expect {expect}")).ends_with(0);
    for name in ["keyring", "ledger", "mark"] {
        fs::remove_file(sandbox.path("new").join(name)).unwrap();
    }
    let again = sandbox.run(&format!("{restore} --expect {expect}"));
    again.ends_with(0);
    assert!(again.stdout.starts_with("moved the unfinished restore to "), "{again}");
    sandbox.run("key list --state-dir [DIR]/new").ends_with(0);
}

#[test]
fn a_file_in_the_place_of_a_recipient_is_answered_with_the_command_that_prints_the_recipient() {
    let sandbox = Sandbox::initialised();
    identity(&sandbox, "key.txt");
    for line in [
        "init --state-dir [DIR]/new --recovery-recipient [DIR]/key.txt",
        "recovery add [DIR]/key.txt --state-dir [DIR]/state",
        "backup create [DIR]/b.age --state-dir [DIR]/state --recipient [DIR]/key.txt",
    ] {
        let answer = sandbox.refused(2, line);
        let hint = "hint:  if this is an identity file, this prints its recipient: age-keygen -y [DIR]/key.txt\n";
        assert!(answer.complaint().ends_with(hint), "{answer}");
    }
    let neither = sandbox.refused(2, "recovery add nothing --state-dir [DIR]/state");
    assert!(neither.complaint().contains("`age-keygen` makes"), "{neither}");
}
