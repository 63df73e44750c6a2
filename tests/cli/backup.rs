//! Tests backups by the command line: claviger and stock age open them, and no existing file is overwritten.

use std::{fs, fs::Permissions, os::unix::fs::PermissionsExt, process::Command, time::Duration};

use super::{
    disk::Disk,
    kms::Kms,
    output::identity,
    sandbox::{Answer, Sandbox, snapshot},
};
use crate::harness::{binaries::Program, commands::output_of_success};

pub(super) const STATE: &str = "--state-dir [DIR]/state";
pub(super) const OURS: &str = "--recovery-identity [DIR]/ours.txt";

/// Returns a sandbox with a keyring: recovery by `ours.txt`, two keys, and an earlier root key.
pub(super) fn with_recovery() -> Sandbox {
    let sandbox = Sandbox::new();
    let recipient = identity(&sandbox, "ours.txt");
    sandbox.run(&format!("init {STATE} --recovery-recipient {recipient} {OURS}")).ends_with(0);
    sandbox.run(&format!("key add {STATE}")).ends_with(0);
    sandbox.run(&format!("rekey {STATE}")).ends_with(0);
    sandbox
}

/// Returns the key_ids of a keyring, and the key_id of its primary key.
pub(super) fn names(sandbox: &Sandbox, state: &str) -> (Vec<String>, String) {
    let listed = keys(sandbox, state);
    let rows = listed["keys"].as_array().unwrap();
    let name = |row: &serde_json::Value| row["key_id"].as_str().unwrap().to_owned();
    let primary = rows.iter().find(|row| row["state"] == "primary").map(name).unwrap();
    (rows.iter().map(name).collect(), primary)
}

/// Returns the line for `--expect`.
fn expect(sandbox: &Sandbox, state: &str) -> String {
    let status = sandbox.run(&format!("status --state-dir [DIR]/{state} --output json"));
    status.json()["keyring"]["expect"].as_str().unwrap().to_owned()
}

pub(super) fn keys(sandbox: &Sandbox, state: &str) -> serde_json::Value {
    sandbox.run(&format!("key list --state-dir [DIR]/{state} --output json")).json()
}

fn restore(sandbox: &Sandbox, rest: &str) -> Answer {
    sandbox.run(&format!("backup restore [DIR]/backup.age {OURS} --state-dir [DIR]/new {rest}"))
}

#[test]
fn a_keyring_comes_out_of_its_backup_as_it_went_in() {
    let sandbox = with_recovery();
    let mut daemon = sandbox.serve(&format!("{STATE} --socket [DIR]/run/kms.sock"));
    let (key_id, wrapped) = Kms::connect(&sandbox.path("run/kms.sock")).encrypt(&[7; 32]);
    daemon.kill();
    let (expect, (before, _)) = (expect(&sandbox, "state"), names(&sandbox, "state"));
    let created = sandbox.run(&format!("backup create [DIR]/backup.age {STATE}"));
    let checked = sandbox.run(&format!("backup check [DIR]/backup.age {OURS} {STATE}"));
    let alone = sandbox.run(&format!("backup check [DIR]/backup.age {OURS} --state-dir [DIR]/none --output json"));
    sandbox.run(&format!("key add {STATE}")).ends_with(0);
    let stale = sandbox.run(&format!("backup check [DIR]/backup.age {OURS} {STATE}"));
    fs::remove_dir_all(sandbox.path("state")).unwrap();
    let restored = restore(&sandbox, &format!("--expect {expect}"));
    snapshot("backup/life", &[&created, &checked, &alone, &stale, &restored]);
    assert_eq!([created.code, checked.code, alone.code, stale.code, restored.code], [0, 0, 0, 1, 0]);
    // The pending key may have been promoted after the backup was made, so it wraps.
    assert_eq!(names(&sandbox, "new"), (before.clone(), before[1].clone()));
    let status = sandbox.run("status --state-dir [DIR]/new --output json").json();
    assert_eq!(status["backup"]["unbacked"], serde_json::json!([]));
    let findings = status["findings"].as_array().unwrap();
    let is_asked =
        |finding: &serde_json::Value| finding.as_str().unwrap().starts_with("the keyring was restored or merged");
    assert!(findings.iter().any(is_asked), "{status}");
    let mut daemon = sandbox.serve("--state-dir [DIR]/new --socket [DIR]/run/kms.sock");
    assert_eq!(Kms::connect(&sandbox.path("run/kms.sock")).decrypt(&key_id, &wrapped).unwrap(), [7; 32]);
    daemon.kill();
    // The backup contains the earlier root key, and everything works in the restored directory.
    let root = fs::read_to_string(sandbox.path("new/root")).unwrap();
    assert_eq!(root.matches("\n-> old ").count(), 1, "{root}");
    sandbox.run("rekey --state-dir [DIR]/new").ends_with(0);
    sandbox.run(&format!("recovery test {OURS} --state-dir [DIR]/new")).ends_with(0);
    let audit = fs::read_to_string(sandbox.path("new/audit.jsonl")).unwrap();
    assert!(audit.lines().next().unwrap().contains("\"event\":\"restore\""), "{audit}");
}

#[test]
fn the_keyring_alone_and_an_identity_restore_everything() {
    let sandbox = with_recovery();
    let (expect, (before, _)) = (expect(&sandbox, "state"), names(&sandbox, "state"));
    fs::copy(sandbox.path("state/keyring"), sandbox.path("backup.age")).unwrap();
    fs::remove_dir_all(sandbox.path("state")).unwrap();
    restore(&sandbox, &format!("--expect {expect} --slot-file [DIR]/new.key")).ends_with(0);
    assert_eq!(names(&sandbox, "new"), (before.clone(), before[1].clone()));
    assert!(sandbox.path("new.key").exists() && !sandbox.path("new/slot-file.key").exists());
}

#[test]
fn stock_age_and_tar_open_a_backup() {
    let sandbox = with_recovery();
    sandbox.run(&format!("backup create [DIR]/backup.age {STATE}")).ends_with(0);
    let mut age = Command::new(Program::Age.path().unwrap());
    age.args(["-d", "-i"]).arg(sandbox.path("ours.txt")).arg(sandbox.path("backup.age"));
    let tar = output_of_success(age, &[], Duration::from_secs(20)).unwrap();
    sandbox.make_dir("opened", 0o700);
    let mut untar = Command::new("tar");
    untar.args(["-xv", "-C"]).arg(sandbox.path("opened"));
    let names = output_of_success(untar, &tar, Duration::from_secs(20)).unwrap();
    assert_eq!(String::from_utf8(names).unwrap(), "MANIFEST\nkeyring\nroot-keys\n");
    let read = |name: &str| fs::read(sandbox.path(name)).unwrap();
    assert_eq!(read("opened/keyring"), read("state/keyring"));
    let manifest = String::from_utf8(read("opened/MANIFEST")).unwrap();
    let listed = keys(&sandbox, "state");
    for key in listed["keys"].as_array().unwrap() {
        let line = format!("\nkey {} {}\n", key["key_id"].as_str().unwrap(), key["state"].as_str().unwrap());
        assert!(manifest.contains(&line), "{manifest}");
    }
}

#[test]
fn what_is_not_the_keyring_that_is_wanted_is_not_restored() {
    let sandbox = with_recovery();
    let others = identity(&sandbox, "others.txt");
    let right = expect(&sandbox, "state");
    sandbox.run(&format!("backup create [DIR]/backup.age {STATE}")).ends_with(0);
    sandbox.run(&format!("backup create [DIR]/others.age --recipient {others} {STATE}")).ends_with(0);
    sandbox.run(&format!("key add {STATE}")).ends_with(0);
    let newer = expect(&sandbox, "state");
    sandbox.init("another");
    let stranger = expect(&sandbox, "another");
    let same_generation = format!("{}{}", &right[..right.len() - 8], "00000000");
    let backup = fs::read(sandbox.path("backup.age")).unwrap();
    fs::write(sandbox.path("cut.age"), &backup[..backup.len() - 1]).unwrap();
    fs::write(sandbox.path("foreign.age"), "PK").unwrap();
    let refused = |exit, file: &str, state: &str, rest: &str| {
        sandbox.refused(exit, &format!("backup restore [DIR]/{file}.age {OURS} --state-dir [DIR]/{state} {rest}"))
    };
    let answers = [
        refused(3, "backup", "new", ""),
        refused(3, "backup", "new", &format!("--expect {newer}")),
        refused(3, "backup", "new", &format!("--expect {stranger}")),
        refused(3, "backup", "new", &format!("--expect {same_generation}")),
        refused(4, "others", "new", &format!("--expect {right}")),
        refused(7, "cut", "new", &format!("--expect {right}")),
        refused(7, "foreign", "new", &format!("--expect {right}")),
        refused(2, "absent", "new", &format!("--expect {right}")),
        refused(3, "backup", "another", &format!("--expect {right} --slot-file [DIR]/new.key")),
        sandbox.refused(4, &format!("backup check [DIR]/backup.age {OURS} --state-dir [DIR]/another")),
        sandbox.refused(3, &format!("backup create [DIR]/backup.age {STATE}")),
        sandbox.refused(3, &format!("backup create [DIR]/none/backup.age {STATE}")),
        sandbox.refused(3, "backup create [DIR]/another.age --state-dir [DIR]/another"),
        sandbox.refused(2, &format!("backup create [DIR]/another.age --recipient age1 {STATE}")),
    ];
    snapshot("backup/refused", &answers.each_ref());
    assert_eq!(fs::read(sandbox.path("backup.age")).unwrap(), backup);
}

#[test]
fn a_backup_goes_through_a_pipe() {
    let sandbox = with_recovery();
    let file = sandbox.path("backup.age");
    fs::write(&file, "").unwrap();
    let created = sandbox.call(&format!("backup create - {STATE}")).stdout(file.to_str().unwrap()).run();
    created.ends_with(0);
    assert_eq!(created.stderr, format!("expect  {}\n", expect(&sandbox, "state")));
    sandbox.run(&format!("backup check [DIR]/backup.age {OURS} {STATE}")).ends_with(0);
}

#[test]
fn a_backup_that_would_go_nowhere_is_refused() {
    let sandbox = with_recovery();
    let line = format!("backup create - {STATE}");
    let closed = sandbox.call(&line).under(["sh", "-c", "exec \"$0\" \"$@\" >&-"], ">&-").refused(2);
    let null = sandbox.call(&line).stdout("/dev/null").refused(2);
    assert_eq!(closed.complaint(), null.complaint());
    snapshot("backup/nowhere", &[&closed, &null]);
}

#[test]
fn a_disk_of_any_fullness_gets_a_whole_backup_or_none_and_a_restore_begins_again() {
    let mut said = Vec::new();
    for pages in 1..9 {
        let sandbox = with_recovery();
        let expect = expect(&sandbox, "state");
        sandbox.run(&format!("backup create [DIR]/backup.age {STATE}")).ends_with(0);
        let Some(disk) = Disk::new(&sandbox, pages) else { return };
        let created = disk.call(&format!("backup create [DIR]/disk/backup.age {STATE}")).run();
        let left: Vec<_> = fs::read_dir(disk.path("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, if created.code == 0 { vec!["backup.age"] } else { vec![] }, "{created}");
        _ = fs::remove_file(disk.path("backup.age"));
        let line = format!("backup restore [DIR]/backup.age {OURS} --state-dir [DIR]/disk/new --expect {expect}");
        let restored = disk.call(&line).run();
        said.push((created.code, restored.code));
        let opens = disk.call("key list --state-dir [DIR]/disk/new").run().code == 0;
        assert!(restored.code != 0 || opens, "{restored}");
    }
    println!("{said:?}");
    assert!(said.contains(&(5, 5)) && said.contains(&(0, 0)), "{said:?}");
}

#[test]
fn a_key_that_no_checked_backup_holds_is_not_promoted() {
    let sandbox = with_recovery();
    let promote = format!("key promote k2 {STATE}");
    let unbacked = || {
        let status = sandbox.run(&format!("status {STATE} --output json")).json();
        status["backup"]["unbacked"].as_array().unwrap().len()
    };
    let never = sandbox.refused(3, &promote);
    sandbox.run(&format!("backup create [DIR]/backup.age {STATE}")).ends_with(0);
    let unopened = sandbox.refused(3, &promote);
    assert_eq!(unbacked(), 2);
    sandbox.run(&format!("backup check [DIR]/backup.age {OURS} {STATE}")).ends_with(0);
    assert_eq!(unbacked(), 0);
    sandbox.run(&promote).ends_with(0);
    sandbox.run(&format!("key add {STATE}")).ends_with(0);
    let later = sandbox.refused(3, &format!("key promote k3 {STATE}"));
    let status = sandbox.run(&format!("status {STATE}"));
    snapshot("backup/unbacked", &[&never, &unopened, &later, &status]);
    // A checked backup stays checked under another root key, and for a restored keyring.
    sandbox.run(&format!("rekey {STATE}")).ends_with(0);
    assert_eq!(unbacked(), 1);
    sandbox.run(&format!("backup check [DIR]/backup.age {OURS} {STATE}")).ends_with(1);
    sandbox.run(&format!("key promote k3 {STATE} --without-backup")).ends_with(0);
    let audit = fs::read_to_string(sandbox.path("state/audit.jsonl")).unwrap();
    assert!(audit.contains("\"event\":\"backup-check\"") && audit.contains("\"unproven\":true"), "{audit}");
}

#[test]
fn a_ledger_with_the_wrong_mode_is_mended_in_place() {
    let sandbox = with_recovery();
    sandbox.run(&format!("backup create [DIR]/backup.age {STATE}")).ends_with(0);
    let check = || sandbox.run(&format!("backup check [DIR]/backup.age {OURS} {STATE}"));
    check().ends_with(0);
    let chmod = |mode| fs::set_permissions(sandbox.path("state/ledger"), Permissions::from_mode(mode)).unwrap();
    chmod(0o644);
    let list = sandbox.run(&format!("backup list {STATE}"));
    let promote = sandbox.refused(3, &format!("key promote k2 {STATE}"));
    let status = sandbox.run(&format!("status {STATE}"));
    let add = sandbox.run(&format!("key add {STATE}"));
    add.ends_with(0);
    let warned = "warning: no backup counts, so the key cannot be promoted yet: [DIR]/state/ledger has mode 0644, expected 0600\n";
    assert!(
        add.stderr.contains(warned) && add.stdout.contains("next: repair the ledger, as the warning says"),
        "{add}"
    );
    assert!(!add.stdout.contains("not yet`"), "{add}");
    for answer in [&check(), &list, &promote, &status, &add] {
        let all = format!("{}{}", answer.stdout, answer.stderr);
        assert!(all.contains("chmod 0600 [DIR]/state/ledger"), "{answer}");
        for wrong in ["no backup is listed", "forget --all", "in no listed backup", "so that it counts"] {
            assert!(!all.contains(wrong), "{wrong}: {answer}");
        }
    }
    chmod(0o600);
    // The backup counts, and lacks the key that was made meanwhile.
    check().ends_with(1);
    sandbox.run(&format!("key promote k2 {STATE}")).ends_with(0);
}

#[test]
fn a_ledger_that_is_not_the_last_one_counts_for_nothing_until_it_is_begun_anew() {
    let sandbox = with_recovery();
    let check = || sandbox.run(&format!("backup check [DIR]/backup.age {OURS} {STATE}"));
    sandbox.run(&format!("backup create [DIR]/backup.age {STATE}")).ends_with(0);
    check().ends_with(0);
    let path = sandbox.path("state/ledger");
    let first = fs::read(&path).unwrap();
    check().ends_with(0);
    let second = fs::read(&path).unwrap();
    let refused = |bytes: Option<&[u8]>, code: i32| {
        match bytes {
            Some(bytes) => fs::write(&path, bytes).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
        let promote = sandbox.refused(3, &format!("key promote k2 {STATE}"));
        let status = sandbox.run(&format!("status {STATE}"));
        assert!(status.stdout.contains("\n! no backup counts: "), "{status}");
        let unlisted = check();
        assert!(unlisted.code == code && unlisted.stderr.contains("and is not listed"), "{code}: {unlisted}");
        promote
    };
    let mut changed = second.clone();
    changed[200] ^= 1;
    let newer = String::from_utf8(second.clone()).unwrap().replacen("/v1\n", "/v2\n", 1);
    let answers = [
        refused(Some(&first), 3),
        refused(Some(&changed), 4),
        refused(Some(newer.as_bytes()), 3),
        refused(Some(&vec![b'x'; 600 * 1024]), 7),
        refused(None, 7),
    ];
    snapshot("backup/ledger", &answers.each_ref());
    // A keyring without a counting backup can be served, and an operator can say that there are no backups.
    sandbox.serve(&format!("{STATE} --socket [DIR]/run/kms.sock")).kill();
    let unlisted = check();
    let uuid = expect(&sandbox, "state")[..32].to_owned();
    let wrong = sandbox.refused(3, &format!("backup forget --all {} {STATE}", "0".repeat(32)));
    let list = sandbox.run(&format!("backup list {STATE}"));
    let forgot = sandbox.run(&format!("backup forget --all {uuid} {STATE}"));
    snapshot("backup/begun-anew", &[&unlisted, &wrong, &list, &forgot]);
    check().ends_with(0);
    sandbox.run(&format!("key promote k2 {STATE}")).ends_with(0);
    assert!(!sandbox.run(&format!("status {STATE}")).stdout.contains("no backup counts"));
    // The lost ledger may have listed a snapshot that needs the old key.
    let first = names(&sandbox, "state").0[0].clone();
    sandbox.run(&format!("key disable {first} {STATE} --risk-unreadable-secrets")).ends_with(0);
    sandbox.refused(3, &format!("key destroy {first} {STATE}"));
}

#[test]
fn a_listed_backup_leaves_the_list_only_when_it_is_forgotten() {
    let sandbox = with_recovery();
    let check = |file: &str| sandbox.run(&format!("backup check [DIR]/{file} {OURS} {STATE}"));
    sandbox.run(&format!("backup create [DIR]/one.age {STATE}")).ends_with(0);
    check("one.age").ends_with(0);
    sandbox.run(&format!("key add {STATE}")).ends_with(0);
    sandbox.run(&format!("backup create [DIR]/two.age {STATE}")).ends_with(0);
    check("two.age").ends_with(0);
    let list = || sandbox.run(&format!("backup list {STATE}"));
    let listed = list();
    let json = sandbox.run(&format!("backup list {STATE} --output json")).json();
    assert_eq!((json["backups"].as_array().unwrap().len(), &json["unbacked"]), (2, &serde_json::json!([])));
    let second = json["backups"][1]["record"].as_str().unwrap();
    let unknown = sandbox.refused(3, &format!("backup forget 00000000000000 {STATE}"));
    let forgot = sandbox.run(&format!("backup forget {} {STATE}", &second[..12]));
    sandbox.refused(3, &format!("key promote k3 {STATE}"));
    // A copy of the backup counts again after it was opened.
    check("two.age").ends_with(0);
    sandbox.run(&format!("key promote k3 {STATE}")).ends_with(0);
    snapshot("backup/list", &[&listed, &unknown, &forgot]);
}

#[test]
fn status_names_the_newest_backup_also_when_an_older_one_was_checked_last() {
    let sandbox = with_recovery();
    for file in ["old.age", "new.age"] {
        sandbox.run(&format!("backup create [DIR]/{file} {STATE}")).ends_with(0);
        sandbox.run(&format!("backup check [DIR]/{file} {OURS} {STATE}")).ends_with(0);
        sandbox.run(&format!("key add {STATE}")).ends_with(0);
    }
    sandbox.run(&format!("backup check [DIR]/old.age {OURS} {STATE}")).ends_with(1);
    let status = sandbox.run(&format!("status {STATE} --socket [DIR]/run/kms.sock"));
    assert!(status.stdout.contains("backup    generation 4 opened on "), "{status}");
    let json = sandbox.run(&format!("status {STATE} --socket [DIR]/run/kms.sock --output json")).json();
    assert_eq!(json["backup"]["generation"], 4);
}

#[test]
fn a_backup_beside_its_keyring_is_none() {
    let sandbox = with_recovery();
    sandbox.run(&format!("backup create [DIR]/backup.age {STATE}")).ends_with(0);
    fs::copy(sandbox.path("backup.age"), sandbox.path("state/backup.age")).unwrap();
    let answers = [
        sandbox.refused(3, &format!("backup create [DIR]/state/other.age {STATE}")),
        sandbox.refused(3, &format!("backup check [DIR]/state/backup.age {OURS} {STATE}")),
        sandbox.refused(3, &format!("backup check [DIR]/state/keyring {OURS} {STATE}")),
    ];
    // The check also refuses another path to the same directory.
    for link in ["record", "directory"] {
        let target = if link == "record" { "state/keyring" } else { "state" };
        std::os::unix::fs::symlink(sandbox.path(target), sandbox.path(link)).unwrap();
    }
    fs::hard_link(sandbox.path("state/keyring"), sandbox.path("hard")).unwrap();
    for path in ["record", "directory/keyring", "hard"] {
        sandbox.refused(3, &format!("backup check [DIR]/{path} {OURS} {STATE}"));
    }
    sandbox.refused(3, &format!("backup create [DIR]/directory/other.age {STATE}"));
    snapshot("backup/beside", &answers.each_ref());
}

#[test]
fn a_backup_on_another_disk_for_a_tried_recipient_counts_at_once() {
    let sandbox = with_recovery();
    let others = identity(&sandbox, "others.txt");
    let Some(disk) = Disk::looped(&sandbox) else { return };
    let listed = |line: &str| disk.call(line).run().json()["listed"].as_bool().unwrap();
    // Nobody has tried the identity of this recipient.
    assert!(!listed(&format!("backup create [DIR]/disk/others.age --recipient {others} {STATE} --output json")));
    assert!(!listed(&format!("backup create [DIR]/beside.age {STATE} --output json")), "the same disk");
    sandbox.refused(3, &format!("key promote k2 {STATE}"));
    let created = disk.call(&format!("backup create [DIR]/disk/backup.age {STATE}")).run();
    created.ends_with(0);
    let list = sandbox.run(&format!("backup list {STATE}"));
    snapshot("backup/another-disk", &[&created, &list]);
    sandbox.run(&format!("key promote k2 {STATE}")).ends_with(0);
    let audit = fs::read_to_string(sandbox.path("state/audit.jsonl")).unwrap();
    assert!(audit.contains("\"event\":\"backup-written\""), "{audit}");
}

#[test]
fn a_key_that_has_to_be_made_is_backed_up_before_it_wraps() {
    let sandbox = with_recovery();
    sandbox.run(&format!("backup create [DIR]/backup.age {STATE}")).ends_with(0);
    let (ids, _) = names(&sandbox, "state");
    let expect = expect(&sandbox, "state");
    let compromised: String = ids.iter().map(|id| format!(" --compromised {id}")).collect();
    let line = format!("backup restore [DIR]/backup.age {OURS} --state-dir [DIR]/new --expect {expect}{compromised}");
    sandbox.refused(3, &format!("{line} --backup-to [DIR]/ours.txt"));
    let restored = sandbox.run(&line);
    restored.ends_with(0);
    let checked = sandbox.run(&format!("backup check [DIR]/backup-restored-4.age {OURS} --state-dir [DIR]/new"));
    checked.ends_with(0);
    snapshot("backup/fresh", &[&restored, &checked]);
    let (after, primary) = names(&sandbox, "new");
    assert!(after[..2] == ids && after[2] == primary, "{after:?}");
    // A merge does the same.
    let line = format!("backup restore [DIR]/backup.age {OURS} {STATE}{compromised}");
    sandbox.run(&line).ends_with(1);
    assert!(!sandbox.path("backup-restored-4-2.age").exists());
    sandbox.run(&format!("{line} --accept")).ends_with(0);
    sandbox.run(&format!("backup check [DIR]/backup-restored-4-2.age {OURS} {STATE}")).ends_with(0);
    // Such a key cannot be promoted by a command either.
    let promote = sandbox.run(&format!("key list {STATE}"));
    assert_eq!(promote.stdout.matches("compromised").count(), 2, "{promote}");
}

/// The directory is the right one, even if a copy of it was rekeyed.
#[test]
fn a_backup_of_a_rekeyed_copy_moves_no_directory_away_that_a_plugin_serves() {
    let sandbox = with_recovery();
    sandbox.copy("state", "copy");
    sandbox.run("rekey --state-dir [DIR]/copy").ends_with(0);
    sandbox.run("backup create [DIR]/copy.age --state-dir [DIR]/copy").ends_with(0);
    let _plugin = sandbox.serve(&format!("{STATE} --socket [DIR]/run/kms.sock"));
    let check = sandbox.refused(4, &format!("backup check [DIR]/copy.age {OURS} {STATE} --socket [DIR]/run/kms.sock"));
    assert!(check.stderr.contains("is under a root key that this keyring has never had"), "{check}");
    assert!(!check.stderr.contains("move "), "{check}");
}

#[test]
fn a_file_is_not_taken_for_a_missing_directory() {
    let sandbox = with_recovery();
    fs::write(sandbox.path("file"), "").unwrap();
    let refused = sandbox.refused(3, &format!("backup create [DIR]/file/b.age {STATE}"));
    assert!(refused.stderr.contains("error: [DIR]/file is a regular file, expected a directory"), "{refused}");
    assert!(!refused.stderr.contains("mkdir"), "{refused}");
}
