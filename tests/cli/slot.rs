//! Tests slots by the command line: any slot opens the keyring, and a slot that is needed is not removed.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    time::{Duration, Instant},
};

use super::{
    kms::Kms,
    sandbox::{CLAVIGER, Sandbox, snapshot},
    terminal::type_into,
};

const STATE: &str = "--state-dir [DIR]/state";

/// The passphrase. Every answer is searched for it, as for the other secrets.
const PASSPHRASE: &str = "correct horse battery staple";

/// The flags for a cheap slot, because the tests open many slots.
const CHEAP: &str = "--lanes 1 --memory 64 --passes 1";

const BY_PASSPHRASE: &str = "--passphrase-file [DIR]/passphrase.key";

/// Returns a sandbox with a keyring that has a passphrase slot only.
pub(super) fn with_passphrase() -> Sandbox {
    let sandbox = Sandbox::initialised();
    private(&sandbox, "passphrase.key", PASSPHRASE.as_bytes());
    let add = format!("slot add passphrase --new-passphrase-file [DIR]/passphrase.key {CHEAP} {STATE}");
    sandbox.run(&add).ends_with(0);
    sandbox.run(&format!("slot remove file {BY_PASSPHRASE} {STATE}")).ends_with(0);
    sandbox
}

fn private(sandbox: &Sandbox, name: &str, bytes: &[u8]) {
    fs::write(sandbox.path(name), bytes).unwrap();
    sandbox.chmod(name, 0o600);
}

fn audited(sandbox: &Sandbox) -> Vec<serde_json::Value> {
    let text = fs::read_to_string(sandbox.path("state/audit.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_slot_of_each_kind_is_added_tested_and_removed() {
    let sandbox = Sandbox::initialised();
    private(&sandbox, "passphrase.key", PASSPHRASE.as_bytes());
    private(&sandbox, "credential.key", &[7; 32]);
    sandbox.make_dir("usb", 0o700);
    let passphrase =
        sandbox.run(&format!("slot add passphrase --new-passphrase-file [DIR]/passphrase.key {CHEAP} {STATE}"));
    let credential = sandbox.run(&format!("slot add credential --credential-file [DIR]/credential.key {STATE}"));
    let usb = sandbox.run(&format!("slot add file --name usb --slot-file [DIR]/usb/claviger.key {STATE}"));
    let list = sandbox.run(&format!("slot list {STATE} --output json"));
    let some = sandbox.run(&format!("slot test {STATE}"));
    let one = sandbox.run(&format!("slot test passphrase {BY_PASSPHRASE} {STATE}"));
    let removed =
        ["file", "usb", "credential"].map(|slot| sandbox.run(&format!("slot remove {slot} {BY_PASSPHRASE} {STATE}")));
    let only_one = sandbox.refused(3, &format!("slot remove passphrase {BY_PASSPHRASE} {STATE}"));
    let all = [&passphrase, &credential, &usb, &list, &some, &one, &removed[0], &removed[1], &removed[2], &only_one];
    snapshot("slot/life", &all);
    assert!(!sandbox.path("state/slot-file.key").exists() && sandbox.path("usb/claviger.key").exists());
    let audited = audited(&sandbox).split_off(1);
    let acts: Vec<_> = audited.iter().map(|line| format!("{} {}", line["event"], line["slot"])).collect();
    let expected = ["add passphrase", "add credential", "add usb", "remove file", "remove usb", "remove credential"];
    assert_eq!(acts, expected.map(|act| format!("\"slot-{}\"", act.replacen(' ', "\" \"", 1))));
}

#[test]
fn what_opens_nothing_is_refused_in_its_own_words() {
    let sandbox = with_passphrase();
    private(&sandbox, "other.key", b"incorrect horse battery");
    private(&sandbox, "short.key", b"1234567");
    private(&sandbox, "empty.key", b"\n");
    private(&sandbox, "open.key", PASSPHRASE.as_bytes());
    sandbox.chmod("open.key", 0o644);
    // A command that was killed has left this file.
    private(&sandbox, "state/slot-taken.key", &[4; 32]);
    let list = |file: &str| format!("key list --passphrase-file [DIR]/{file}.key {STATE}");
    let add = |rest: &str| format!("slot add {rest} {BY_PASSPHRASE} {STATE}");
    let answers = [
        sandbox.refused(3, &format!("key list {STATE}")),
        sandbox.refused(4, &list("other")),
        sandbox.refused(3, &list("absent")),
        sandbox.refused(3, &list("empty")),
        sandbox.refused(3, &list("open")),
        sandbox.refused(2, &add("passphrase --name two --new-passphrase-file [DIR]/short.key")),
        sandbox.refused(2, &add("passphrase --name two --new-passphrase-file [DIR]/absent.key")),
        sandbox.refused(2, &add("passphrase --name two")),
        sandbox.refused(2, &add("passphrase --name two --memory 2097152 --new-passphrase-file [DIR]/other.key")),
        sandbox.refused(3, &add(&format!("passphrase --new-passphrase-file [DIR]/other.key {CHEAP}"))),
        sandbox.refused(2, &add("file --name No_Name")),
        sandbox.refused(3, &add("credential")),
        sandbox.refused(3, &add("credential --credential-file [DIR]/short.key")),
        sandbox.refused(2, &add("credential --credential a/b --credential-file [DIR]/short.key")),
        sandbox.refused(3, &format!("slot remove tape {BY_PASSPHRASE} {STATE}")),
        sandbox.refused(3, &format!("slot test tape {STATE}")),
        sandbox.refused(3, &add("file --name taken")),
    ];
    snapshot("slot/refused", &answers.each_ref());
}

#[test]
fn the_passphrase_of_the_slot_that_stays_is_asked_for_before_another_one_is_removed() {
    let sandbox = Sandbox::initialised();
    private(&sandbox, "passphrase.key", PASSPHRASE.as_bytes());
    let add = format!("slot add passphrase --new-passphrase-file [DIR]/passphrase.key {CHEAP} {STATE}");
    sandbox.run(&add).ends_with(0);
    let refused = sandbox.refused(3, &format!("slot remove file {STATE}"));
    let hint = "hint:  give the passphrase: --passphrase-file FILE, or run it on a terminal; or else another slot has to open first: ";
    assert!(refused.stderr.contains(hint), "{refused}");
    sandbox.run(&format!("slot remove file {BY_PASSPHRASE} {STATE}")).ends_with(0);
}

#[test]
fn a_passphrase_comes_from_a_pipe_a_descriptor_or_the_terminal() {
    let sandbox = with_passphrase();
    let piped = sandbox.call(&format!("key list --passphrase-file - {STATE}")).stdin(format!("{PASSPHRASE}\n")).run();
    piped.ends_with(0);
    let shell = format!("exec \"$0\" \"$@\" 3< {}", sandbox.path("passphrase.key").display());
    let by_descriptor = sandbox.call(&format!("key add --passphrase-file /dev/fd/3 {STATE}"));
    by_descriptor.under(["bash", "-c", &shell], "3< passphrase").run().ends_with(0);
    let (said, succeeded) = type_into(&sandbox, &format!("key list {STATE}"), &["hunter2 hunter2", PASSPHRASE]);
    assert!(succeeded && said.contains("wrong passphrase; passphrase of slot passphrase: "), "{said}");
    let (said, succeeded) = type_into(&sandbox, &format!("key list {STATE}"), &["hunter2", "hunter3", "hunter4"]);
    assert!(!succeeded && said.contains("wrong passphrase"), "{said}");
    // A command asks for a passphrase once, even if it opens several slots, and twice for a new passphrase.
    let add = format!("slot add passphrase --name second {CHEAP} {STATE}");
    let (said, succeeded) = type_into(&sandbox, &add, &["tr0ub4dor&3 tr0ub4dor", "tr0ub4dor&3 tr0ub4dor", PASSPHRASE]);
    assert!(succeeded && said.contains("slot second is added"), "{said}");
    let (said, succeeded) = type_into(&sandbox, &add.replace("second", "third"), &["tr0ub4dor&3", "tr0ub4dor&4"]);
    assert!(!succeeded && said.contains("the two entries differ"), "{said}");
    let (said, succeeded) = type_into(&sandbox, &format!("rekey {STATE}"), &[PASSPHRASE, "tr0ub4dor&3 tr0ub4dor"]);
    assert!(succeeded, "{said}");
}

#[test]
fn a_rekey_that_lacks_a_passphrase_says_how_to_give_it() {
    let sandbox = with_passphrase();
    sandbox.run(&format!("slot add file {BY_PASSPHRASE} {STATE}")).ends_with(0);
    let refused = sandbox.refused(3, &format!("rekey {STATE}"));
    let hint = "hint:  give its passphrase: --passphrase-file FILE, or run it on a terminal; or remove the slot; nothing was changed\n";
    assert!(refused.stderr.ends_with(hint), "{refused}");
    sandbox.run(&format!("rekey {BY_PASSPHRASE} {STATE}")).ends_with(0);
}

#[test]
fn a_daemon_starts_by_a_passphrase_file_and_follows_a_rekey_by_it() {
    let sandbox = with_passphrase();
    let socket = "--socket [DIR]/run/kms.sock";
    // Tests a relative path, and a link to another directory.
    sandbox.make_dir("elsewhere", 0o700);
    fs::copy(sandbox.path("passphrase.key"), sandbox.path("elsewhere/real.key")).unwrap();
    symlink("elsewhere/real.key", sandbox.path("linked.key")).unwrap();
    let mut daemon = sandbox.serve(&format!("{STATE} {socket} --passphrase-file linked.key"));
    let kms = Kms::connect(&sandbox.path("run/kms.sock"));
    let (key_id, wrapped) = kms.encrypt(&[9; 32]);
    sandbox.run(&format!("rekey {BY_PASSPHRASE} {STATE}")).ends_with(0);
    daemon.wait_for("\"generation\":2");
    assert_eq!(kms.decrypt(&key_id, &wrapped).unwrap(), [9; 32]);
    sandbox.run(&format!("status {BY_PASSPHRASE} {STATE} {socket} --backups none")).ends_with(0);
    assert_eq!(daemon.terminate().0, Some(0));
}

#[test]
fn a_daemon_that_cannot_open_a_slot_by_itself_serves_on_and_says_so() {
    let sandbox = with_passphrase();
    let socket = "--socket [DIR]/run/kms.sock";
    let shell = format!("exec \"$0\" \"$@\" 3< {}", sandbox.path("passphrase.key").display());
    let call = sandbox.call(&format!("serve {STATE} {socket} --passphrase-file /dev/fd/3"));
    let mut daemon = call.under(["bash", "-c", &shell], "3< passphrase").serve();
    // The daemon has the root key in memory, so it follows a change that keeps the root key.
    sandbox.run(&format!("key add {BY_PASSPHRASE} {STATE}")).ends_with(0);
    daemon.wait_for("\"generation\":2");
    let kms = Kms::connect(&sandbox.path("run/kms.sock"));
    let (key_id, wrapped) = kms.encrypt(&[9; 32]);
    sandbox.run(&format!("rekey {BY_PASSPHRASE} {STATE}")).ends_with(0);
    daemon.wait_for("no passphrase was given");
    assert_eq!(kms.decrypt(&key_id, &wrapped).unwrap(), [9; 32]);
    let status = sandbox.run(&format!("status {BY_PASSPHRASE} {STATE} {socket} --backups none"));
    status.ends_with(1);
    snapshot("slot/degraded", &[&status]);
    assert_eq!(daemon.terminate().0, Some(0));
}

#[test]
fn a_daemon_opens_a_credential_that_systemd_gives_it() {
    let sandbox = Sandbox::initialised();
    sandbox.make_dir("credentials", 0o500);
    sandbox.chmod("credentials", 0o700);
    fs::write(sandbox.path("credentials/claviger-root"), [5; 64]).unwrap();
    fs::set_permissions(sandbox.path("credentials/claviger-root"), fs::Permissions::from_mode(0o440)).unwrap();
    let given = format!("CREDENTIALS_DIRECTORY={}", sandbox.path("credentials").display());
    let call = |line: &str| sandbox.call(line).under(["env", &given], "with credentials");
    call(&format!("slot add credential {STATE}")).run().ends_with(0);
    call(&format!("slot remove file {STATE}")).run().ends_with(0);
    sandbox.refused(3, &format!("key list {STATE}"));
    let socket = "--socket [DIR]/run/kms.sock";
    let mut daemon = call(&format!("serve {STATE} {socket}")).serve();
    call(&format!("rekey {STATE}")).run().ends_with(0);
    daemon.wait_for("\"generation\":2");
    call(&format!("status {STATE} {socket} --backups none")).run().ends_with(0);
    daemon.kill();
    fs::write(sandbox.path("credentials/claviger-root"), [6; 64]).unwrap();
    let other = call(&format!("key list {STATE}")).run();
    fs::remove_file(sandbox.path("credentials/claviger-root")).unwrap();
    let gone = call(&format!("key list {STATE}")).run();
    snapshot("slot/credential", &[&other, &gone]);
    assert_eq!((other.code, gone.code), (4, 3));
}

#[test]
fn a_guess_costs_what_the_line_says() {
    let sandbox = Sandbox::initialised();
    private(&sandbox, "passphrase.key", PASSPHRASE.as_bytes());
    sandbox.run(&format!("slot add passphrase --new-passphrase-file [DIR]/passphrase.key {STATE}")).ends_with(0);
    let root = fs::read_to_string(sandbox.path("state/root")).unwrap();
    assert!(root.contains("-> slot passphrase passphrase lanes=4 memory=262144 passes=3 salt="), "{root}");
    // If Argon2id gets too little memory, the command ends with an error.
    let poor = ["bash", "-c", "ulimit -v 200000; exec \"$0\" \"$@\""];
    let call = sandbox.call(&format!("slot test passphrase {BY_PASSPHRASE} {STATE}")).under(poor, "with 200 MB");
    let answer = call.run();
    assert!(answer.ends_with(1).stdout.contains("no 262144 KiB of memory for Argon2id"), "{answer}");
}

#[test]
fn asking_is_over_within_the_time_of_a_lock() {
    // An operator who types slowly blocks nobody: another command runs meanwhile.
    let sandbox = with_passphrase();
    let typing = std::process::Command::new("script")
        .args(["-qec", &format!("{CLAVIGER} key add --state-dir {}", sandbox.path("state").display()), "/dev/null"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn();
    let mut typing = typing.unwrap();
    std::thread::sleep(Duration::from_secs(1));
    let begun = Instant::now();
    sandbox.run(&format!("key add {BY_PASSPHRASE} {STATE}")).ends_with(0);
    println!("the other command took {:?}", begun.elapsed());
    typing.kill().unwrap();
    typing.wait().unwrap();
}

#[test]
fn a_key_file_that_others_may_read_is_answered_with_what_mends_it() {
    let sandbox = Sandbox::initialised();
    sandbox.chmod("state/slot-file.key", 0o644);
    let hint = "hint:  chmod 0600 [DIR]/state/slot-file.key\n";
    let test = sandbox.run(&format!("slot test {STATE}"));
    assert!(test.ends_with(1).stdout.ends_with(&format!("has mode 0644, expected 0600\n{hint}")), "{test}");
    let list = sandbox.run(&format!("key list {STATE}"));
    assert!(list.ends_with(3).stderr.ends_with(hint), "the same as that of every other command: {list}");
    sandbox.chmod("state/slot-file.key", 0o600);
    let test = sandbox.run(&format!("slot test {STATE}"));
    assert!(!test.ends_with(0).stdout.contains("hint"), "{test}");
}

#[test]
fn a_secret_that_is_missing_or_may_not_be_read_has_a_hint_beside_the_table() {
    let sandbox = Sandbox::initialised();
    private(&sandbox, "open", PASSPHRASE.as_bytes());
    let add = format!("slot add passphrase --new-passphrase-file [DIR]/open {CHEAP} {STATE}");
    sandbox.run(&add).ends_with(0);
    fs::remove_file(sandbox.path("state/slot-file.key")).unwrap();
    sandbox.chmod("open", 0o644);
    let test = sandbox.run(&format!("slot test {STATE} --passphrase-file [DIR]/open"));
    for hint in [
        "hint:  put [DIR]/state/slot-file.key back, if you keep a copy of it; if it is lost, and another slot opens: claviger slot remove ",
        "hint:  correct the passphrase file, or name another one: --passphrase-file FILE\n",
    ] {
        assert!(test.ends_with(1).stdout.contains(hint), "{test}");
    }
}
