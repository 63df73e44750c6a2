//! Tests commands when the machine refuses something: a full disk, a read-only disk, memory that cannot be locked, an
//! output that accepts nothing.

use std::{fs, os::unix::fs::chown};

use super::{
    disk::Disk,
    output::identity,
    sandbox::{NOBODY, Sandbox, root_for, snapshot},
    tree::Tree,
};

const INIT: &str = "init --state-dir [DIR]/disk/state --without-recovery";
const LIST: &str = "key list --state-dir [DIR]/disk/state";
const SERVE: &str = "serve --state-dir [DIR]/disk/state --socket [DIR]/run/kms.sock";

/// Returns a full disk on which `pages` writes of a file succeed.
fn full_disk(sandbox: &Sandbox, pages: usize) -> Option<Disk<'_>> {
    const SIZE: usize = 8;
    let disk = Disk::new(sandbox, SIZE as u64)?;
    fs::write(disk.path("ballast"), vec![b'x'; (SIZE - pages) * 4096]).unwrap();
    Some(disk)
}

#[test]
fn a_disk_that_fills_up_during_init_loses_nothing() {
    for (pages, (name, written)) in [
        ("audit", &["audit.jsonl", "lock"][..]),
        ("slot-file", &["audit.jsonl", "lock"]),
        ("root-file", &["audit.jsonl", "lock", "slot-file.key"]),
        ("keyring", &["audit.jsonl", "lock", "root", "slot-file.key"]),
    ]
    .into_iter()
    .enumerate()
    {
        let sandbox = Sandbox::new();
        let Some(disk) = full_disk(&sandbox, pages) else { return };
        let failed = disk.call(INIT).run();
        failed.ends_with(5);
        assert_eq!(failed.stdout, "");
        assert_eq!(Tree::names(&disk.path("state")), written, "{name}");
        disk.remount("size=1m");
        let again = disk.call(INIT).run();
        let mut answers = vec![&failed, &again];
        let restarted = (again.code != 0).then(|| disk.call(&format!("{INIT} --restart")).run());
        answers.extend(&restarted);
        answers.last().unwrap().ends_with(0);
        snapshot(&format!("machine/disk-full-at-{name}"), &answers);
        disk.call(LIST).run().ends_with(0);
    }
}

#[test]
fn a_disk_that_fills_up_at_the_mark_leaves_a_keyring_that_serves() {
    let sandbox = Sandbox::new();
    let Some(disk) = full_disk(&sandbox, 4) else { return };
    let failed = disk.call(INIT).run();
    assert_eq!(Tree::names(&disk.path("state")), ["audit.jsonl", "keyring", "lock", "root", "slot-file.key"]);
    disk.remount("size=1m");
    let again = disk.call(INIT).run();
    let status = disk.call("status --state-dir [DIR]/disk/state --socket [DIR]/run/kms.sock --backups none").run();
    snapshot("machine/disk-full-at-mark", &[failed.ends_with(5), again.ends_with(3), status.ends_with(1)]);
    disk.call(SERVE).serve().terminate();
    assert!(disk.path("state/mark").exists());
}

#[test]
fn a_full_disk_stops_no_daemon_that_has_a_mark() {
    let sandbox = Sandbox::new();
    let Some(disk) = full_disk(&sandbox, 6) else { return };
    disk.call(INIT).run().ends_with(0);
    fs::write(disk.path("more"), [b'x'; 4096]).unwrap();
    assert_eq!(disk.call(SERVE).serve().terminate().0, Some(0));
    fs::remove_file(disk.path("state/mark")).unwrap();
    fs::write(disk.path("still-more"), [b'x'; 4096]).unwrap();
    disk.refused(5, &format!("{SERVE} --log-level error")).matches("machine/disk-full-when-serving");
}

#[test]
fn a_disk_that_is_read_only() {
    let sandbox = Sandbox::new();
    let Some(disk) = Disk::new(&sandbox, 16) else { return };
    disk.call(INIT).run().ends_with(0);
    disk.remount("ro");
    let second = disk.refused(3, INIT);
    let first = disk.refused(5, "init --state-dir [DIR]/disk/new --without-recovery");
    disk.call(LIST).run().ends_with(0);
    assert_eq!(disk.call(SERVE).serve().terminate().0, Some(0), "a marked keyring is served without a write");
    disk.remount("rw");
    fs::remove_file(disk.path("state/mark")).unwrap();
    disk.remount("ro");
    let serve = disk.refused(5, &format!("{SERVE} --log-level error"));
    snapshot("machine/disk-read-only", &[&first, &second, &serve]);
}

#[test]
fn memory_that_cannot_be_locked() {
    // For root, memory can be locked without a limit.
    if !root_for("to become another user") {
        return;
    }
    let sandbox = Sandbox::initialised();
    chown(sandbox.path("state"), Some(NOBODY), None).unwrap();
    for name in Tree::names(&sandbox.path("state")) {
        chown(sandbox.path("state").join(name), Some(NOBODY), None).unwrap();
    }
    sandbox.make_dir("new", 0o700);
    chown(sandbox.path("new"), Some(NOBODY), None).unwrap();
    chown(sandbox.path("run"), Some(NOBODY), None).unwrap();
    let limited = |line: &str| {
        let no_memory = ["sh", "-c", "ulimit -l 0; exec \"$0\" \"$@\""];
        sandbox.call(line).by_nobody().under(no_memory, "# with `ulimit -l 0`").refused(3)
    };
    let answers = [
        "init --state-dir [DIR]/new --without-recovery",
        "key list --state-dir [DIR]/state",
        "serve --state-dir [DIR]/state --socket [DIR]/run/kms.sock --log-level error",
    ]
    .map(limited);
    snapshot("machine/memory-not-locked", &answers.each_ref());
}

#[test]
fn standard_output_that_is_full() {
    let sandbox = Sandbox::initialised();
    let full = |line: &str| sandbox.call(line).stdout("/dev/full").run();
    let answers = [
        "key list --state-dir [DIR]/state",
        "key list --state-dir [DIR]/state --output json",
        "status --state-dir [DIR]/state --socket [DIR]/run/kms.sock",
        "generate encryption-configuration",
    ]
    .map(full);
    for answer in &answers {
        answer.ends_with(5);
    }
    snapshot("machine/standard-output-full", &answers.each_ref());
    full("--help").ends_with(0);
}

#[test]
fn a_change_is_no_failure_because_its_report_cannot_be_printed() {
    let sandbox = Sandbox::new();
    let recipient = identity(&sandbox, "identity.txt");
    let full = |line: &str| {
        let answer = sandbox.call(&format!("{line} --state-dir [DIR]/state")).stdout("/dev/full").run();
        answer.ends_with(0);
        answer
    };
    let answers = [
        format!("init --recovery-recipient {recipient} --recovery-identity [DIR]/identity.txt"),
        "key add".to_owned(),
        "key promote k2 --without-backup --output json".to_owned(),
        "slot add file --name second".to_owned(),
        "slot remove second".to_owned(),
        "rekey".to_owned(),
        "backup create [DIR]/backup.age".to_owned(),
        "backup check [DIR]/backup.age --recovery-identity [DIR]/identity.txt".to_owned(),
    ]
    .map(|line| full(&line));
    for answer in &answers {
        assert!(answer.stderr.contains("all is done, but the report could not be printed"), "{}", answer.stderr);
    }
    let shown = sandbox.run("key list --state-dir [DIR]/state");
    shown.ends_with(0);
    assert!(shown.stdout.contains("decrypt-only") && sandbox.path("backup.age").exists(), "{}", shown.stdout);
    snapshot("machine/report-not-printed", &[&answers[0], &answers[1], &answers[2]]);
}

#[test]
fn streams_that_are_closed() {
    let sandbox = Sandbox::initialised();
    // Rust opens /dev/null in the place of a closed standard stream, so no command notices it. Also, no file of ours
    // gets the number of that stream.
    for (n, closed) in [">&-", "2>&-", "<&-", ">&- 2>&- <&-"].iter().enumerate() {
        let script = format!("exec \"$0\" \"$@\" {closed}");
        let run = |line: &str| sandbox.call(line).under(["sh", "-c", &script], "").run();
        run("key list --state-dir [DIR]/state").ends_with(0);
        run("key list --state-dir [DIR]/nowhere").ends_with(3);
        run("frobnicate").ends_with(2);
        let name = format!("state-{n}");
        run(&format!("init --state-dir [DIR]/{name} --without-recovery")).ends_with(0);
        sandbox.run(&format!("key list --state-dir [DIR]/{name}")).ends_with(0);
    }
}

#[test]
fn a_pipe_that_nobody_reads() {
    let sandbox = Sandbox::initialised();
    let script = "{ sleep 0.2; \"$0\" \"$@\"; echo exit $? >&2; } | true";
    let ends =
        |line: &str| sandbox.call(&format!("{line} --state-dir [DIR]/state")).under(["sh", "-c", script], "").run();
    for line in ["key list", "key list --output json", "status --socket [DIR]/run/kms.sock", "slot test"] {
        assert_eq!(ends(line).stderr, "exit 141\n", "{line}");
    }
    // The change is done. A backup that is not whole is never left without a message.
    let added = ends("key add").stderr;
    assert!(added.starts_with("warning: all is done, but the report could not be printed: "), "{added}");
    assert!(added.ends_with("\nexit 0\n"), "{added}");
    let recipient = identity(&sandbox, "identity.txt");
    let backup = ends(&format!("backup create - --recipient {recipient}")).stderr;
    let said = "error: writing to standard output: Broken pipe (os error 32)\nhint:  the backup is not whole: make it again\nexit 5\n";
    assert_eq!(backup, said);
}
