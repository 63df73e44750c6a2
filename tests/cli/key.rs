//! Tests the life of keys, recovery recipients and the root key by the command line: which changes are made, which are
//! refused, and that a full disk loses nothing.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::{fs::symlink, net::UnixListener},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use super::{
    backup::{OURS, with_recovery},
    disk::Disk,
    kms::Kms,
    output::identity,
    sandbox::{CLAVIGER, Sandbox, snapshot},
};

/// The bytes that a write takes on a disk in memory.
const PAGE: usize = 4096;

const STATE: &str = "--state-dir [DIR]/state";

/// Returns the full key_id of the key with this number.
fn key_id(sandbox: &Sandbox, number: u32) -> String {
    let list = sandbox.run(&format!("key list {STATE} --output json")).json();
    let keys = list["keys"].as_array().unwrap();
    let ids = keys.iter().map(|key| key["key_id"].as_str().unwrap().to_owned());
    ids.into_iter().find(|id| id.starts_with(&format!("k{number}-"))).unwrap()
}

/// Leaves `free` pages of the disk free.
fn fill(disk: &Disk<'_>, free: u64) {
    let mut filler = fs::File::create(disk.path("filler")).unwrap();
    let mut pages = 0;
    while filler.write_all(&[0; PAGE]).is_ok() {
        pages += 1;
    }
    filler.set_len((pages - free) * PAGE as u64).unwrap();
}

/// Returns the events of the audit log.
fn audited(sandbox: &Sandbox) -> Vec<String> {
    let text = fs::read_to_string(sandbox.path("state/audit.jsonl")).unwrap_or_default();
    let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    lines.map(|line| line["event"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_key_goes_through_its_whole_life() {
    let sandbox = Sandbox::initialised();
    let add = sandbox.run(&format!("key add {STATE}"));
    let promote = sandbox.run(&format!("key promote k2 --without-backup {STATE}"));
    let first = key_id(&sandbox, 1);
    let disable = sandbox.run(&format!("key disable {first} --risk-unreadable-secrets {STATE}"));
    let enable = sandbox.run(&format!("key enable k1 {STATE}"));
    sandbox.run(&format!("key disable {first} --risk-unreadable-secrets {STATE}")).ends_with(0);
    let destroy = sandbox.run(&format!("key destroy {first} --risk-losing-secrets {STATE} --output json"));
    let gone = ["enable", "disable"].map(|verb| sandbox.refused(3, &format!("key {verb} {first} {STATE}")));
    let list = sandbox.run(&format!("key list {STATE}"));
    snapshot("key/life", &[&add, &promote, &disable, &enable, &destroy, &gone[0], &gone[1], &list]);
    assert_eq!(audited(&sandbox), ["init", "add", "promote", "disable", "enable", "disable", "destroy"]);
    let record = fs::read(sandbox.path("state/keyring")).unwrap();
    assert_eq!(fs::read(sandbox.path("state/keyring.prev")).unwrap(), record, "no copy has the destroyed key");
}

#[test]
fn what_must_not_be_is_refused() {
    let sandbox = Sandbox::initialised();
    sandbox.run(&format!("key add {STATE}")).ends_with(0);
    let (first, second) = (key_id(&sandbox, 1), key_id(&sandbox, 2));
    let refused = |line: &str| sandbox.refused(3, &format!("key {line} {STATE}"));
    let early = [
        refused("promote k1"),
        refused("promote k7"),
        refused(&format!("disable {first}")),
        refused("enable k2"),
        refused(&format!("destroy {second}")),
        sandbox.refused(2, &format!("key destroy k2 {STATE}")),
    ];
    sandbox.run(&format!("key promote k2 --without-backup {STATE}")).ends_with(0);
    let late = [refused(&format!("disable {first}")), refused("promote k1")];
    sandbox.run(&format!("key disable k1 {STATE} --risk-unreadable-secrets")).ends_with(0);
    let again = refused(&format!("disable {first}"));
    assert!(
        again.stderr.starts_with(&format!("error: key {first} is disabled already\nhint:  nothing has to be done")),
        "{again}"
    );
    let unproven = refused(&format!("destroy {first}"));
    fs::remove_file(sandbox.path("state/mark")).unwrap();
    let unmarked = [refused("add"), sandbox.refused(3, &format!("rekey {STATE}"))];
    let all = early.iter().chain(&late).chain([&unproven]).chain(&unmarked).collect::<Vec<_>>();
    snapshot("key/refused", &all);
}

#[test]
fn a_key_that_was_never_promoted_may_be_needed_all_the_same() {
    let sandbox = Sandbox::initialised();
    sandbox.run(&format!("key add {STATE}")).ends_with(0);
    let second = key_id(&sandbox, 2);
    let disable = sandbox.refused(3, &format!("key disable {second} {STATE}"));
    sandbox.run(&format!("key disable {second} {STATE} --risk-unreadable-secrets")).ends_with(0);
    let destroy = sandbox.refused(3, &format!("key destroy {second} {STATE}"));
    snapshot("key/never-promoted", &[&disable, &destroy]);
}

/// Closes every connection to the socket without an answer.
fn serve_nothing(socket: &Path) {
    let listener = UnixListener::bind(socket).unwrap();
    thread::spawn(move || while listener.accept().is_ok() {});
}

#[test]
fn a_plugin_that_does_not_answer_may_have_api_servers_that_write() {
    let sandbox = Sandbox::initialised();
    sandbox.run(&format!("key add {STATE}")).ends_with(0);
    let second = key_id(&sandbox, 2);
    serve_nothing(&sandbox.path("run/kms.sock"));
    let socket = "--socket [DIR]/run/kms.sock";
    let disable = sandbox.refused(3, &format!("key disable {second} {STATE} {socket}"));
    sandbox.run(&format!("key disable {second} {STATE} {socket} --risk-unreadable-secrets")).ends_with(0);
    let destroy = sandbox.refused(3, &format!("key destroy {second} {STATE} {socket}"));
    sandbox.run(&format!("key destroy {second} {STATE} {socket} --risk-losing-secrets")).ends_with(0);
    for refused in [&disable, &destroy] {
        let reason = "which may still be in use: the plugin did not say which key each API server has adopted: ";
        assert!(refused.stderr.contains(reason), "{}", refused.stderr);
        let hint = "as root or as the user that it runs as: claviger status --state-dir [DIR]/state --socket [DIR]/run/kms.sock; --risk-";
        assert!(refused.stderr.contains(hint), "{}", refused.stderr);
    }
}

#[test]
fn a_change_on_a_disk_of_any_fullness_is_done_or_is_not() {
    let sandbox = Sandbox::new();
    let Some(disk) = Disk::new(&sandbox, 40) else { return };
    disk.call("init --state-dir [DIR]/disk/state --without-recovery").run().ends_with(0);
    let list = || disk.call("key list --state-dir [DIR]/disk/state --output json").run().json();
    let mut said = Vec::new();
    for free in 0..8 {
        fill(&disk, free);
        let before = list()["generation"].as_u64().unwrap();
        let answer = disk.call("key add --state-dir [DIR]/disk/state").run();
        let after = list()["generation"].as_u64().unwrap();
        match answer.code {
            0 => assert_eq!(after, before + 1),
            5 => assert!(after == before || answer.stderr.contains("was changed, but not marked"), "{}", answer.stderr),
            code => panic!("{code}: {}", answer.stderr),
        }
        said.push(answer.code);
        fs::remove_file(disk.path("filler")).unwrap();
        disk.call("rekey --state-dir [DIR]/disk/state").run().ends_with(0);
    }
    assert!(said.contains(&0) && said.contains(&5), "{said:?}");
}

#[test]
fn recovery_recipients_are_added_tested_and_removed() {
    let sandbox = Sandbox::initialised();
    let (ours, others) = (identity(&sandbox, "ours.txt"), identity(&sandbox, "others.txt"));
    let none = sandbox.run(&format!("recovery list {STATE}"));
    let add =
        |recipient: &str, file: &str| format!("recovery add {recipient} --recovery-identity [DIR]/{file} {STATE}");
    let wrong = sandbox.refused(4, &add(&ours, "others.txt"));
    let added = sandbox.run(&add(&ours, "ours.txt"));
    let twice = sandbox.refused(3, &add(&ours, "ours.txt"));
    let test = |file: &str| sandbox.run(&format!("recovery test --recovery-identity [DIR]/{file} {STATE}"));
    let tested = [test("ours.txt"), test("others.txt")];
    assert_eq!((tested[0].code, tested[1].code), (0, 1));
    let last = sandbox.refused(3, &format!("recovery remove {ours} {STATE}"));
    let unknown = sandbox.refused(3, &format!("recovery remove {others} {STATE}"));
    let rekeyed = sandbox.run(&format!("rekey {STATE}"));
    test("ours.txt").ends_with(0);
    let removed = sandbox.run(&format!("recovery remove {ours} --risk-no-recovery {STATE} --output json"));
    let all = [&none, &wrong, &added, &twice, &tested[0], &tested[1], &last, &unknown, &rekeyed, &removed];
    snapshot("key/recovery", &all);
    assert_eq!(audited(&sandbox), ["init", "recovery-add", "rekey", "rekey", "recovery-remove"]);
}

#[test]
fn an_identity_in_the_place_of_its_recipient_is_refused_and_not_repeated() {
    let sandbox = Sandbox::initialised();
    let recipient = identity(&sandbox, "ours.txt");
    let file = fs::read_to_string(sandbox.path("ours.txt")).unwrap();
    let secret = file.lines().last().unwrap();
    for line in [
        format!("init --state-dir [DIR]/new --recovery-recipient {secret} --recovery-identity [DIR]/ours.txt"),
        format!("recovery add {secret} --recovery-identity [DIR]/ours.txt {STATE}"),
        format!("recovery add {} --recovery-identity [DIR]/ours.txt {STATE}", secret.to_lowercase()),
        format!("recovery remove {secret} {STATE}"),
        format!("backup create [DIR]/backup.age --recipient {secret} {STATE}"),
    ] {
        let answer = sandbox.refused(2, &line);
        let said = "error: an identity was given where its recipient is expected, age1…\nhint:  `age-keygen -y FILE` prints the recipient";
        assert!(answer.stderr.starts_with(said), "{answer}");
        assert!(!answer.stderr.to_uppercase().contains(secret), "the secret is repeated");
    }
    // In the other order, nothing has to be made anew.
    fs::write(sandbox.path("recipient.txt"), &recipient).unwrap();
    let answer = sandbox.refused(2, &format!("recovery test --recovery-identity [DIR]/recipient.txt {STATE}"));
    let hint = "hint:  give the file that `age-keygen -o FILE` wrote when it printed the recipient; the recipient, age1…, opens nothing\n";
    assert!(answer.stderr.ends_with(hint), "{answer}");
}

#[test]
fn a_running_plugin_follows_every_change_without_a_signal() {
    let sandbox = Sandbox::initialised();
    let mut daemon = sandbox.serve("--state-dir [DIR]/state --socket [DIR]/run/kms.sock");
    let follows = || {
        let deadline = Instant::now() + Duration::from_secs(10);
        let status = || sandbox.run(&format!("status {STATE} --socket [DIR]/run/kms.sock --backups none"));
        while status().code != 0 {
            assert!(Instant::now() < deadline, "{}", status().stdout);
        }
    };
    for round in 2..6 {
        sandbox.run(&format!("key add {STATE}")).ends_with(0);
        sandbox.run(&format!("key promote k{round} --without-backup {STATE}")).ends_with(0);
        follows();
        sandbox.run(&format!("rekey {STATE}")).ends_with(0);
        follows();
    }
    daemon.kill();
}

#[test]
fn status_stays_on_the_screen_and_follows() {
    let sandbox = Sandbox::initialised();
    let _daemon = sandbox.serve("--state-dir [DIR]/state --socket [DIR]/run/kms.sock");
    let mut watching = Command::new(CLAVIGER)
        .args(["status", "--watch", "--state-dir"])
        .arg(sandbox.path("state"))
        .arg("--socket")
        .arg(sandbox.path("run/kms.sock"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(watching.stdout.take().unwrap()).lines();
    let mut shows = |text: &str| assert!(lines.any(|line| line.unwrap().contains(text)), "{text}");
    shows("generation 1");
    sandbox.run(&format!("key add {STATE}")).ends_with(0);
    shows("generation 2");
    watching.kill().unwrap();
    watching.wait().unwrap();
}

const WAIT: &str = "--without-backup --wait --socket [DIR]/run/kms.sock --state-dir [DIR]/state";

#[test]
fn a_promotion_that_cannot_be_waited_for_is_not_made() {
    let sandbox = Sandbox::initialised();
    sandbox.run(&format!("key add {STATE}")).ends_with(0);
    let alone = sandbox.refused(6, &format!("key promote k2 {WAIT}"));
    let _daemon = sandbox.serve("--state-dir [DIR]/state --socket [DIR]/run/kms.sock");
    let without = sandbox.run(&format!("key promote k2 {WAIT}"));
    without.ends_with(1);
    snapshot("key/wait", &[&alone, &without]);
}

#[test]
fn waiting_for_an_adoption_can_be_interrupted_and_begun_again() {
    let sandbox = Sandbox::initialised();
    let _daemon = sandbox.serve("--state-dir [DIR]/state --socket [DIR]/run/kms.sock");
    let api_server = Kms::connect(&sandbox.path("run/kms.sock"));
    let before = api_server.status();
    sandbox.run(&format!("key add {STATE}")).ends_with(0);

    // The shell sends the signal when the command says that it waits.
    let script = ": > out; env --default-signal=INT \"$0\" \"$@\" >> out & while ! grep -q 'of 1' out; do sleep 0.05; done; kill -INT $!; wait $!";
    let line = format!("key promote k2 {WAIT}");
    let interrupted = sandbox.call(&line).under(["bash", "-c", script], "# then Ctrl-C").run();
    interrupted.ends_with(130);
    let second = sandbox.call(&line).under(["bash", "-c", script], "# again, then Ctrl-C").run();
    second.ends_with(130);
    snapshot("key/wait-interrupted", &[&interrupted, &second]);

    let adopts = thread::spawn(move || {
        while api_server.status() == before {}
        (api_server.status(), api_server)
    });
    let done = sandbox.run(&line);
    done.ends_with(0);
    assert!(done.stdout.contains("1 of 1 connection has adopted k2-"), "{}", done.stdout);
    assert!(adopts.join().unwrap().0.starts_with("k2-"));
}

#[test]
fn a_wait_that_loses_the_plugin_says_that_the_key_is_primary() {
    let sandbox = Sandbox::initialised();
    let mut daemon = sandbox.serve("--state-dir [DIR]/state --socket [DIR]/run/kms.sock");
    let api_server = Kms::connect(&sandbox.path("run/kms.sock"));
    api_server.status();
    sandbox.run(&format!("key add {STATE}")).ends_with(0);
    let lost = thread::scope(|scope| {
        let waits = scope.spawn(|| sandbox.run(&format!("key promote k2 {WAIT}")));
        daemon.wait_for("keyring changed");
        daemon.kill();
        waits.join().unwrap()
    });
    assert!(lost.ends_with(6).stderr.contains("is primary: cannot ask the plugin"), "{lost}");
    let hint = "to go on waiting: claviger key promote --state-dir [DIR]/state --socket [DIR]/run/kms.sock \
                --without-backup k2-";
    assert!(lost.stderr.contains(hint), "{lost}");
}

#[test]
fn what_cannot_be_written_to_the_audit_log_is_not_done() {
    let sandbox = Sandbox::initialised();
    fs::remove_file(sandbox.path("state/audit.jsonl")).unwrap();
    symlink("/dev/null", sandbox.path("state/audit.jsonl")).unwrap();
    let answers = ["key add", "rekey"].map(|verb| sandbox.refused(3, &format!("{verb} {STATE}")));
    snapshot("key/unaudited", &answers.each_ref());
}

/// A restore of the older backup promotes the key all the same. So this is no finding.
#[test]
fn status_says_that_the_newest_backup_was_made_before_the_primary_key_was_promoted() {
    let sandbox = with_recovery();
    let back_up = |file: &str| {
        sandbox.run(&format!("backup create [DIR]/{file} {STATE}")).ends_with(0);
        sandbox.run(&format!("backup check [DIR]/{file} {OURS} {STATE}")).ends_with(0);
    };
    let status = |flags: &str| {
        let status = sandbox.run(&format!("status {STATE} {flags}"));
        let json = sandbox.run(&format!("status {STATE} {flags} --output json")).json();
        let line = status.stdout.lines().find_map(|line| line.strip_prefix("backup")).unwrap().trim().to_owned();
        (line, json["backup"]["before_promotion"].as_bool().unwrap(), json["findings"].as_array().unwrap().len())
    };
    back_up("pending.age");
    let pending = status("");
    assert!(!pending.0.contains("promoted") && !pending.1, "{pending:?}");
    // The times of the ledger and of the keyring are whole seconds.
    thread::sleep(Duration::from_millis(1100));
    sandbox.run(&format!("key promote k2 {STATE}")).ends_with(0);
    let promoted = status("");
    let note = ", before the primary key was promoted; to make a newer one: claviger backup create --state-dir [DIR]/state FILE";
    assert!(promoted.0.ends_with(note) && promoted.1, "{promoted:?}");
    assert_eq!(promoted.2, pending.2);
    assert!(!status("--backups none").1);
    thread::sleep(Duration::from_millis(1100));
    back_up("primary.age");
    let renewed = status("");
    assert!(!renewed.0.contains("promoted") && !renewed.1, "{renewed:?}");
}

#[test]
fn a_pending_key_that_is_disabled_can_never_be_promoted_and_the_command_says_so() {
    let sandbox = Sandbox::initialised();
    sandbox.run(&format!("key add {STATE}")).ends_with(0);
    let disabled = sandbox.run(&format!("key disable k2 {STATE} --risk-unreadable-secrets"));
    let said = "it can never be promoted any more, because `key enable` makes it decrypt-only; to get another key: claviger key add";
    assert!(disabled.ends_with(0).stdout.contains(said), "{disabled}");
    assert!(!disabled.stdout.contains("to go back"), "{disabled}");
    sandbox.run(&format!("key enable k2 {STATE}")).ends_with(0);
    let refused = sandbox.refused(3, &format!("key promote k2 {STATE} --without-backup"));
    assert!(refused.stderr.contains("is decrypt-only and cannot be promoted"), "{refused}");
}
