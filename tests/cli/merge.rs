//! Merges backups into an existing keyring: older, newer, diverged and damaged ones. After a merge, all seeds that
//! either side has wrapped unwrap.

use std::fs;

use super::{
    backup::{OURS, STATE, keys, with_recovery},
    kms::Kms,
    sandbox::{Answer, Sandbox, snapshot},
    tree::Tree,
};

/// A seed that was wrapped under the primary key of `state`.
struct Wrapped {
    key_id: String,
    bytes: Vec<u8>,
    seed: [u8; 32],
}

fn wrap(sandbox: &Sandbox, state: &str, seed: u8) -> Wrapped {
    let mut daemon = sandbox.serve(&format!("--state-dir [DIR]/{state} --socket [DIR]/run/kms.sock"));
    let (key_id, bytes) = Kms::connect(&sandbox.path("run/kms.sock")).encrypt(&[seed; 32]);
    daemon.kill();
    Wrapped { key_id, bytes, seed: [seed; 32] }
}

fn unwraps(sandbox: &Sandbox, state: &str, wrapped: &[Wrapped]) {
    let mut daemon = sandbox.serve(&format!("--state-dir [DIR]/{state} --socket [DIR]/run/kms.sock"));
    let kms = Kms::connect(&sandbox.path("run/kms.sock"));
    for Wrapped { key_id, bytes, seed } in wrapped {
        assert_eq!(kms.decrypt(key_id, bytes).unwrap(), *seed, "{key_id}");
    }
    kms.encrypt(&[1; 32]);
    daemon.kill();
}

fn backup(sandbox: &Sandbox, state: &str, name: &str) {
    sandbox.run(&format!("backup create [DIR]/{name}.age --state-dir [DIR]/{state}")).ends_with(0);
}

fn rotate(sandbox: &Sandbox, state: &str, key: &str) {
    sandbox.run(&format!("key add --state-dir [DIR]/{state}")).ends_with(0);
    sandbox.run(&format!("key promote {key} --without-backup --state-dir [DIR]/{state}")).ends_with(0);
}

fn merge(sandbox: &Sandbox, rest: &str) -> Answer {
    sandbox.run(&format!("backup restore {OURS} {STATE} {rest}"))
}

/// Runs a merge without `--accept`, and checks that it changes nothing.
fn shown(sandbox: &Sandbox, rest: &str) -> Answer {
    let before = Tree::of(&sandbox.path("state"));
    let shown = merge(sandbox, rest);
    shown.ends_with(1);
    assert_eq!(before.changes(&Tree::of(&sandbox.path("state"))), Vec::<String>::new());
    shown
}

fn shown_then_done(sandbox: &Sandbox, rest: &str) -> [Answer; 2] {
    let shown = shown(sandbox, rest);
    let done = merge(sandbox, &format!("{rest} --accept"));
    done.ends_with(0);
    [shown, done]
}

#[test]
fn twins_that_went_apart_become_one_again_and_lose_nothing() {
    let sandbox = with_recovery();
    sandbox.copy("state", "twin");
    rotate(&sandbox, "state", "k3");
    rotate(&sandbox, "twin", "k3");
    rotate(&sandbox, "twin", "k4");
    let wrapped = [wrap(&sandbox, "state", 3), wrap(&sandbox, "twin", 4)];
    backup(&sandbox, "twin", "twin");
    let [shown, done] = shown_then_done(&sandbox, "[DIR]/twin.age");
    let again = merge(&sandbox, "[DIR]/twin.age");
    for answer in [&shown, &done] {
        let rows: Vec<Vec<&str>> = answer
            .stdout
            .lines()
            .filter(|line| line.starts_with('k'))
            .map(|line| line.split_whitespace().collect())
            .collect();
        let merged: Vec<_> = rows.iter().filter(|row| row.last() == Some(&"decrypt-only")).collect();
        assert_eq!(merged.len(), 4, "{answer}");
        assert_eq!(merged.iter().filter(|row| row[0].starts_with("k3-")).count(), 2, "{answer}");
        // The newest key that a backup holds becomes primary.
        let wraps = |row: &Vec<&str>| row[0].starts_with("k4-") && row.last() == Some(&"primary");
        assert!(rows.iter().any(wraps), "{answer}");
    }
    again.ends_with(0);
    assert!(again.stdout.starts_with("nothing to do"), "{again}");
    unwraps(&sandbox, "state", &wrapped);
    // A clone that was put back does not follow from either of them.
    let checked = sandbox.run(&format!("backup check [DIR]/twin.age {OURS} --state-dir [DIR]/twin"));
    checked.ends_with(0);
    // The merged keyring is an ordinary one.
    sandbox.run(&format!("rekey {STATE}")).ends_with(0);
    rotate(&sandbox, "state", "k5");
    sandbox.run(&format!("recovery test {OURS} {STATE}")).ends_with(0);
}

#[test]
fn a_disk_that_was_put_back_gets_the_newer_keys_from_a_backup() {
    let sandbox = with_recovery();
    let before: Vec<_> =
        ["keyring", "mark"].map(|name| (name, fs::read(sandbox.path("state").join(name)).unwrap())).into();
    rotate(&sandbox, "state", "k3");
    let wrapped = [wrap(&sandbox, "state", 3)];
    backup(&sandbox, "state", "newer");
    // The record alone is older than the mark. Record and mark together are an older disk, and nothing on this node can
    // tell.
    fs::write(sandbox.path("state/keyring"), &before[0].1).unwrap();
    let refused = sandbox.refused(3, &format!("key list {STATE}"));
    let [shown, done] = shown_then_done(&sandbox, "[DIR]/newer.age");
    snapshot("merge/rolled-back", &[&refused, &shown, &done]);
    unwraps(&sandbox, "state", &wrapped);
    for (name, bytes) in &before {
        fs::write(sandbox.path("state").join(name), bytes).unwrap();
    }
    let checked = sandbox.run(&format!("backup check [DIR]/newer.age {OURS} {STATE}"));
    checked.ends_with(1);
    assert!(checked.stdout.contains("! the keyring here does not follow from this backup"), "{checked}");
    let quiet = sandbox.run(&format!("backup check [DIR]/newer.age {OURS} {STATE} --quiet"));
    assert!(quiet.stdout.contains("! the keyring here does not follow from this backup"), "{quiet}");
    let lacks = format!(
        "! the keyring here lacks {}: to merge this backup into it: claviger backup restore ",
        wrapped[0].key_id
    );
    assert!(checked.stdout.contains(&lacks) && checked.stdout.contains("\ncounts    yes: it opened"), "{checked}");
    shown_then_done(&sandbox, "[DIR]/newer.age");
    unwraps(&sandbox, "state", &wrapped);
}

#[test]
fn a_directory_that_was_put_back_learns_from_a_backup_what_was_done_since() {
    let sandbox = with_recovery();
    sandbox.copy("state", "older");
    // The backup has no new key, and has the key as primary that is pending here.
    sandbox.run(&format!("key promote k2 --without-backup {STATE}")).ends_with(0);
    backup(&sandbox, "state", "newer");
    fs::remove_dir_all(sandbox.path("state")).unwrap();
    sandbox.copy("older", "state");
    shown_then_done(&sandbox, "[DIR]/newer.age");
    let states: Vec<_> =
        keys(&sandbox, "state")["keys"].as_array().unwrap().iter().map(|key| key["state"].clone()).collect();
    assert_eq!(states, ["decrypt-only", "primary"]);
}

#[test]
fn a_merge_that_broke_off_behind_the_record_is_finished_by_the_same_command() {
    let sandbox = with_recovery();
    sandbox.copy("state", "twin");
    rotate(&sandbox, "twin", "k3");
    backup(&sandbox, "twin", "twin");
    let mark = fs::read(sandbox.path("state/mark")).unwrap();
    merge(&sandbox, "[DIR]/twin.age --accept").ends_with(0);
    // The state is that after a process died before it wrote the ledger and the mark.
    fs::write(sandbox.path("state/mark"), mark).unwrap();
    fs::remove_file(sandbox.path("state/ledger")).unwrap();
    merge(&sandbox, "[DIR]/twin.age --accept").ends_with(0);
    let status = sandbox.run(&format!("status {STATE} --output json")).json();
    assert_eq!(status["backup"]["unbacked"], serde_json::json!([]));
    assert!(status["findings"].to_string().contains("was restored or merged"), "{status}");
}

#[test]
fn an_older_backup_brings_back_what_was_destroyed_unless_its_key_is_named() {
    let sandbox = with_recovery();
    let first = keys(&sandbox, "state")["keys"][0]["key_id"].as_str().unwrap().to_owned();
    let wrapped = [wrap(&sandbox, "state", 1)];
    backup(&sandbox, "state", "older");
    let nothing = merge(&sandbox, "[DIR]/older.age");
    sandbox.run(&format!("key promote k2 --without-backup {STATE}")).ends_with(0);
    sandbox.run(&format!("key disable {first} --risk-unreadable-secrets {STATE}")).ends_with(0);
    sandbox.run(&format!("key destroy {first} --risk-losing-secrets {STATE}")).ends_with(0);
    let checked = sandbox.run(&format!("backup check [DIR]/older.age {OURS} {STATE}"));
    assert!(
        checked.stdout.contains(&format!("\n{first} is destroyed here, and this backup still has it: ")),
        "{checked}"
    );
    let wrong = "k9-00000000000000000000000000000000";
    let named = sandbox.refused(3, &format!("backup restore {OURS} {STATE} [DIR]/older.age --keep-destroyed {wrong}"));
    let kept = shown(&sandbox, &format!("[DIR]/older.age --keep-destroyed {first}"));
    let [shown, done] = shown_then_done(&sandbox, "[DIR]/older.age");
    let brings = format!(
        "! {first} was destroyed in one keyring, and the merge brings it back, because another one still has it"
    );
    assert!(shown.stdout.contains(&brings) && shown.stdout.contains(&format!("--keep-destroyed {first}\n")), "{shown}");
    assert!(kept.stdout.contains(&format!("{first} stays destroyed, as --keep-destroyed says")), "{kept}");
    assert!(done.stdout.contains(&format!("! {first} was destroyed, and is back")), "{done}");
    snapshot("merge/destroyed", &[&nothing, &named, &kept, &shown, &done]);
    nothing.ends_with(0);
    unwraps(&sandbox, "state", &wrapped);
}

#[test]
fn a_key_that_only_one_keyring_has_disabled_is_enabled_and_the_merge_says_why() {
    let sandbox = with_recovery();
    let first = keys(&sandbox, "state")["keys"][0]["key_id"].as_str().unwrap().to_owned();
    sandbox.run(&format!("key promote k2 --without-backup {STATE}")).ends_with(0);
    sandbox.run(&format!("key disable {first} --risk-unreadable-secrets {STATE}")).ends_with(0);
    sandbox.copy("state", "twin");
    rotate(&sandbox, "twin", "k3");
    sandbox.run(&format!("key destroy {first} --risk-losing-secrets --state-dir [DIR]/twin")).ends_with(0);
    backup(&sandbox, "twin", "twin");
    // Nobody has promoted this one.
    sandbox.run(&format!("key add {STATE}")).ends_with(0);
    let pending = keys(&sandbox, "state")["keys"][2]["key_id"].as_str().unwrap().to_owned();
    let [shown, done] = shown_then_done(&sandbox, "[DIR]/twin.age");
    let why = format!(
        "\n! {first} is disabled in one keyring, and becomes decrypt-only, because not every keyring that lists it says that it is \
         disabled; if nothing needs it: claviger key disable {STATE} --etcd-servers URL {first}\n"
    );
    assert!(shown.stdout.contains(&why) && done.stdout.contains(&why), "{shown}{done}");
    let status = sandbox.run(&format!("status {STATE} --socket [DIR]/run/kms.sock"));
    let never = format!(
        "! no listed backup holds {pending}, which was never primary in this keyring: nothing is under it, unless it was promoted \
         elsewhere; write one"
    );
    assert!(status.stdout.contains(&never), "{status}");
    let lost = format!("! no listed backup holds {first}: if this disk is lost, so is every Secret under it;");
    assert!(status.stdout.contains(&lost), "{status}");
}

#[test]
fn a_key_that_was_seen_here_and_is_nowhere_stops_the_merge_until_it_is_named_or_found() {
    let sandbox = with_recovery();
    backup(&sandbox, "state", "older");
    rotate(&sandbox, "state", "k3");
    let wrapped = [wrap(&sandbox, "state", 3)];
    backup(&sandbox, "state", "newer");
    let keyring = fs::read(sandbox.path("state/keyring")).unwrap();
    fs::write(sandbox.path("state/keyring"), &keyring[..keyring.len() / 2]).unwrap();
    fs::remove_file(sandbox.path("state/keyring.prev")).unwrap();
    let stopped = sandbox.refused(3, &format!("backup restore {OURS} {STATE} [DIR]/older.age"));
    let lost = wrapped[0].key_id.as_str();
    let named = shown(&sandbox, &format!("[DIR]/older.age --lost {lost}"));
    let [shown, done] = shown_then_done(&sandbox, "[DIR]/older.age [DIR]/newer.age");
    snapshot("merge/missing", &[&stopped, &named, &shown, &done]);
    unwraps(&sandbox, "state", &wrapped);
}

#[test]
fn a_damaged_record_is_mended_from_the_one_before_it_and_a_backup() {
    let sandbox = with_recovery();
    let wrapped = [wrap(&sandbox, "state", 1)];
    backup(&sandbox, "state", "backup");
    sandbox.run(&format!("key add {STATE}")).ends_with(0);
    sandbox.run(&format!("recovery test {OURS} {STATE}")).ends_with(0);
    sandbox.run(&format!("key add {STATE}")).ends_with(0);
    let listed = keys(&sandbox, "state")["keys"].as_array().unwrap().len();
    fs::write(sandbox.path("state/keyring"), "").unwrap();
    // The last key was pending, and no value is under it.
    let [stopped, _] = [(); 2].map(|()| sandbox.refused(3, &format!("backup restore {OURS} {STATE} [DIR]/backup.age")));
    let lost = stopped.stderr.split_whitespace().find(|word| word.starts_with("k4-")).unwrap().to_owned();
    let [shown, done] = shown_then_done(&sandbox, &format!("[DIR]/backup.age --lost {lost}"));
    for answer in [shown, done] {
        let instead = "\ninstead     keyring.prev in this directory, which is the keyring before its last change\n";
        assert!(answer.stdout.contains(instead) && answer.stdout.contains("   KEYRING.PREV, 4 "), "{answer}");
    }
    assert_eq!(keys(&sandbox, "state")["keys"].as_array().unwrap().len(), listed - 1);
    unwraps(&sandbox, "state", &wrapped);
}

#[test]
fn a_backup_after_a_rekey_is_the_one_to_begin_with() {
    let sandbox = with_recovery();
    sandbox.copy("state", "twin");
    rotate(&sandbox, "state", "k3");
    let wrapped = [wrap(&sandbox, "state", 3)];
    sandbox.run("rekey --state-dir [DIR]/twin").ends_with(0);
    backup(&sandbox, "twin", "newer");
    backup(&sandbox, "state", "older");
    let refused = sandbox.refused(3, &format!("backup restore {OURS} {STATE} [DIR]/newer.age --accept"));
    // In the other direction the file alone is enough: the root file contains the root key from before the rekey.
    let line = "backup restore [DIR]/state/keyring --state-dir [DIR]/twin --accept";
    // No opened backup contains one of the keys. So a fresh key wraps, and is backed up first.
    let nowhere = sandbox.refused(3, line);
    let shown = sandbox.run(&format!("{} --backup-to [DIR]/fresh.age", line.trim_end_matches(" --accept")));
    assert!(!sandbox.path("fresh.age").exists());
    let done = sandbox.run(&format!("{line} --backup-to [DIR]/fresh.age"));
    sandbox.run(&format!("backup check [DIR]/fresh.age {OURS} --state-dir [DIR]/twin")).ends_with(0);
    snapshot("merge/after-a-rekey", &[&refused, &nowhere, &shown, &done]);
    done.ends_with(0);
    let again = sandbox.run("backup restore [DIR]/state/keyring --state-dir [DIR]/twin");
    assert!(again.ends_with(0).stdout.contains("nothing to do"), "{again}");
    unwraps(&sandbox, "twin", &wrapped);
}

#[test]
fn a_keyring_that_is_not_this_one_is_not_merged() {
    let sandbox = with_recovery();
    let recipient = super::output::identity(&sandbox, "others.txt");
    sandbox
        .run(&format!(
            "init --state-dir [DIR]/other --recovery-recipient {recipient} --recovery-identity [DIR]/others.txt"
        ))
        .ends_with(0);
    backup(&sandbox, "other", "other");
    backup(&sandbox, "state", "ours");
    sandbox.run(&format!("key add {STATE}")).ends_with(0);
    let expect =
        sandbox.run(&format!("status {STATE} --output json")).json()["keyring"]["expect"].as_str().unwrap().to_owned();
    let refused = |exit, line: &str| sandbox.refused(exit, &format!("backup restore {line}"));
    let answers = [
        refused(4, &format!("[DIR]/other.age --recovery-identity [DIR]/others.txt {STATE} --accept")),
        refused(4, &format!("[DIR]/other.age {OURS} {STATE} --accept")),
        refused(3, &format!("[DIR]/ours.age {OURS} {STATE} --accept --expect {expect}")),
        refused(2, &format!("[DIR]/ours.age {OURS} --state-dir [DIR]/new --accept")),
        refused(2, &format!("[DIR]/ours.age [DIR]/other.age {OURS} --state-dir [DIR]/new")),
        refused(3, &format!("[DIR]/ours.age {OURS} {STATE} --slot-file [DIR]/new.key --expect {expect}")),
    ];
    snapshot("merge/refused", &answers.each_ref());
}

#[test]
fn a_node_whose_slot_is_lost_begins_again_from_a_backup_and_its_own_record() {
    let sandbox = with_recovery();
    backup(&sandbox, "state", "older");
    rotate(&sandbox, "state", "k3");
    let wrapped = [wrap(&sandbox, "state", 3)];
    fs::remove_file(sandbox.path("state/slot-file.key")).unwrap();
    let refused = sandbox.refused(7, &format!("backup restore {OURS} {STATE} [DIR]/older.age"));
    let bare = sandbox.run(&format!("backup restore {OURS} {STATE} [DIR]/state/keyring"));
    let why = "the root key here does not open [DIR]/state/keyring: root file [DIR]/state/root: ";
    assert!(bare.stderr.contains(why), "{bare}");
    // A warning is for machines, too.
    let json = sandbox.run(&format!("backup restore {OURS} {STATE} [DIR]/state/keyring --output json"));
    let warnings: Vec<serde_json::Value> =
        json.stderr.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    assert!(warnings.iter().any(|line| line["warning"].as_str().is_some_and(|text| text.starts_with(why))), "{json}");
    fs::rename(sandbox.path("state"), sandbox.path("aside")).unwrap();
    let alone = Sandbox::run(&sandbox, &format!("backup check [DIR]/older.age {OURS} --output json"));
    let expect = alone.json()["expect"].as_str().unwrap().to_owned();
    sandbox.run(&format!("backup restore [DIR]/older.age {OURS} {STATE} --expect {expect}")).ends_with(0);
    let done = merge(&sandbox, "[DIR]/aside/keyring --accept");
    snapshot("merge/slot-lost", &[&refused, &done]);
    done.ends_with(0);
    unwraps(&sandbox, "state", &wrapped);
}

#[test]
fn a_root_key_that_was_never_here_needs_the_operators_word() {
    let sandbox = with_recovery();
    let wrapped = [wrap(&sandbox, "state", 1)];
    backup(&sandbox, "state", "older");
    let expect = |state: &str| {
        let status = sandbox.run(&format!("status --state-dir [DIR]/{state} --output json")).json();
        status["keyring"]["expect"].as_str().unwrap().to_owned()
    };
    let older = expect("state");
    sandbox.run(&format!("rekey {STATE}")).ends_with(0);
    // A bare record contains no earlier root key.
    let line = format!("backup restore [DIR]/state/keyring {OURS} --state-dir [DIR]/new --expect {}", expect("state"));
    sandbox.run(&line).ends_with(0);
    for (verb, flag) in [("disable", "--risk-unreadable-secrets"), ("destroy", "--risk-losing-secrets")] {
        sandbox.run(&format!("key {verb} {} {flag} --state-dir [DIR]/new", wrapped[0].key_id)).ends_with(0);
    }
    let line = format!("backup restore [DIR]/older.age {OURS} --state-dir [DIR]/new --accept");
    let refused = sandbox.refused(4, &line);
    snapshot("merge/strange-root-key", &[&refused]);
    sandbox.run(&format!("{line} --expect {older}")).ends_with(0);
    unwraps(&sandbox, "new", &wrapped);
}

/// A later merge brings the plugin's key back. Without this rule, the keyring would then have two keys of one number.
#[test]
fn a_new_key_does_not_get_the_number_of_a_key_that_only_the_plugin_has() {
    let sandbox = with_recovery();
    let socket = "--socket [DIR]/run/kms.sock";
    let older = sandbox.run(&format!("backup create [DIR]/older.age {STATE} --output json")).json();
    sandbox.run(&format!("key add {STATE}")).ends_with(0);
    backup(&sandbox, "state", "newer");
    let _daemon = sandbox.serve(&format!("{STATE} {socket}"));
    fs::remove_dir_all(sandbox.path("state")).unwrap();
    let expect = older["expect"].as_str().unwrap();
    sandbox.run(&format!("backup restore [DIR]/older.age {OURS} {STATE} {socket} --expect {expect}")).ends_with(0);
    let added = sandbox.run(&format!("key add {STATE} {socket}"));
    added.ends_with(0).matches("merge/added-beside");
    merge(&sandbox, "[DIR]/newer.age --accept").ends_with(0);
    let keys = sandbox.run(&format!("key list {STATE}"));
    assert_eq!(["k1-", "k2-", "k3-", "k4-"].map(|number| keys.stdout.matches(number).count()), [1; 4], "{keys}");
}

#[test]
fn a_number_that_two_keys_have_is_not_enough_to_name_one() {
    let sandbox = with_recovery();
    sandbox.copy("state", "twin");
    for dir in ["state", "twin"] {
        sandbox.run(&format!("key add --state-dir [DIR]/{dir}")).ends_with(0);
    }
    backup(&sandbox, "twin", "twin");
    merge(&sandbox, "[DIR]/twin.age --accept").ends_with(0);
    let named = sandbox.refused(3, &format!("key promote k3 {STATE} --without-backup"));
    let listed = sandbox.run(&format!("backup list {STATE}"));
    snapshot("merge/twins", &[&named, &listed]);
}

#[test]
fn a_merge_refuses_a_backup_that_is_not_the_expected_one() {
    let sandbox = with_recovery();
    let older = sandbox.run(&format!("backup create [DIR]/older.age {STATE} --output json")).json();
    let (record, _) = older["expect"].as_str().unwrap().rsplit_once(':').unwrap();
    let expect = format!("{record}:{}", "0".repeat(64));
    for accept in ["", "--accept"] {
        let line = format!("backup restore [DIR]/older.age {OURS} {STATE} --expect {expect} {accept}");
        let refused = sandbox.refused(3, &line);
        assert!(refused.stderr.contains("has another SHA-256 than expected"), "{refused}");
        assert!(refused.stderr.contains("to merge others, omit --expect"), "{refused}");
    }
}
