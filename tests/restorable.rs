//! Tests `claviger backup check --snapshot` with snapshots of a real etcd that a real kube-apiserver has written.

use std::{fs, path::Path, time::Duration};

use serde_json::{Value, json};

use crate::{
    cli::{
        identity,
        sandbox::{Answer, CLAVIGER},
    },
    restoring::{Node, OURS, STATE},
};

/// Checks the snapshot `file`, on a machine without a state directory unless `rest` names one.
fn check(node: &Node, file: &str, rest: &str) -> Answer {
    let config = node.sandbox.path("nowhere.toml");
    fs::write(config, format!("state-dir = \"{}\"\n", node.sandbox.path("nowhere").display())).unwrap();
    node.sandbox.run(&format!("backup check --snapshot [DIR]/{file} --config [DIR]/nowhere.toml {rest}"))
}

/// Returns the answer as JSON. Checks the exit code before.
fn answer(node: &Node, file: &str, rest: &str, exit: i32) -> Value {
    let answer = check(node, file, &format!("{rest} --output json"));
    assert_eq!(answer.code, exit, "{answer}");
    answer.json()
}

/// Returns the answer about one key, and the files that have it.
fn of_key(answer: &Value, key_id: &str) -> (String, Vec<String>) {
    let rows = answer["keys"].as_array().unwrap();
    let row = rows.iter().find(|row| row["key_id"] == key_id).unwrap_or_else(|| panic!("{answer:#}"));
    let held = row["held_by"].as_array().unwrap().iter().map(|holder| holder["file"].as_str().unwrap().to_owned());
    (row["answer"].as_str().unwrap().to_owned(), held.collect())
}

fn name(answer: &str, files: &[&str]) -> (String, Vec<String>) {
    (answer.to_owned(), files.iter().map(|file| format!("[DIR]/{file}")).collect())
}

/// Returns a node with a Secret under each of two keys, in the snapshot `two.db`, and another one under aescbc, in
/// `three.db`. `one.age` has only the first key.
fn node() -> Node {
    let mut node = Node::new();
    node.etcd.snapshot(&node.sandbox.path("two.db")).unwrap();
    node.done("backup create [DIR]/one.age --state-dir [DIR]/older");
    let path = node.sandbox.path("encryption.yaml");
    let config = fs::read_to_string(&path).unwrap();
    let (before, after) = config.split_at(config.find("- kms:").unwrap());
    let indent = before.lines().last().unwrap();
    let provider = "- aescbc: {keys: [{name: legacy, secret: MDEyMzQ1Njc4OWFiY2RlZg==}]}";
    fs::write(&path, format!("{before}{provider}\n{indent}{after}")).unwrap();
    node.api.as_mut().unwrap().restart().unwrap();
    node.create("under-aescbc");
    node.etcd.snapshot(&node.sandbox.path("three.db")).unwrap();
    node.stop();
    node
}

/// The checks, which run one after the other in one control plane. Each has the original files of the node. The last
/// one empties etcd.
const CHECKED: [fn(&Node); 4] = [
    a_snapshot_can_be_restored_if_a_given_file_has_each_key_that_it_needs,
    a_disabled_key_counts_and_a_destroyed_one_does_not,
    a_snapshot_that_cannot_be_read_whole_gets_no_answer_for_the_rest,
    a_key_that_a_listed_snapshot_needs_is_destroyed_only_after_it_is_forgotten,
];

#[test]
fn a_check_says_what_of_a_snapshot_can_be_restored() {
    let mut node = node();
    let twin = node.sandbox.twin();
    let files = std::mem::replace(&mut node.sandbox, twin);
    for checked in CHECKED {
        node.sandbox = files.twin();
        checked(&node);
    }
}

fn a_snapshot_can_be_restored_if_a_given_file_has_each_key_that_it_needs(node: &Node) {
    let (k1, k2) = (node.key("k1").0, node.key("k2").0);
    let lost = |answer: &Value| (answer["lost"].as_u64().unwrap(), answer["incomplete"].clone());

    // The machine never was a node. It has both keys, and each kind of file.
    let whole = answer(node, "two.db", &format!("[DIR]/promoted.age {OURS}"), 0);
    assert_eq!(lost(&whole), (0, Value::Null));
    assert_eq!(of_key(&whole, &k1), name("held", &["promoted.age"]));
    assert_eq!(of_key(&whole, &k2), name("held", &["promoted.age"]));
    assert_eq!(whole["keyrings"][0]["holds"], 2);
    let keyring = &whole["keyrings"][0];
    assert!(keyring["root_id"].as_str().unwrap().len() == 64 && keyring["uuid"].as_str().unwrap().len() == 32);
    let text = check(node, "two.db", &format!("[DIR]/promoted.age {OURS}"));
    assert!(text.stdout.starts_with("this snapshot can be restored: the keys open all "), "{text}");
    assert!(text.stdout.contains("claviger backup restore"), "{text}");
    let all = answer(node, "two.db", &format!("[DIR]/one.age [DIR]/pending.age {OURS} {STATE}"), 0);
    assert_eq!(of_key(&all, &k1), name("held", &["one.age", "pending.age", "state"]));
    assert_eq!(of_key(&all, &k2), name("held", &["pending.age", "state"]));

    // The Secret under aescbc is lost with these keys alone.
    let three = answer(node, "three.db", &format!("[DIR]/promoted.age {OURS}"), 1);
    assert_eq!(lost(&three), (1, Value::Null));
    let foreign = three["keys"].as_array().unwrap().iter().find(|row| row["answer"] == "foreign").unwrap();
    assert_eq!((&foreign["provider"], &foreign["objects"]), (&json!("aescbc:v1:legacy"), &json!(1)));
    assert_eq!(foreign["samples"], json!(["/registry/secrets/default/under-aescbc"]));
    let objects = three["keys"].as_array().unwrap().iter().map(|row| row["objects"].as_u64().unwrap()).sum::<u64>();
    assert_eq!(three["objects"].as_u64().unwrap(), objects + three["plaintext"].as_u64().unwrap());

    // A backup, or a state directory from last week, has one of the keys.
    for one in [format!("[DIR]/one.age {OURS}"), "--state-dir [DIR]/older".to_owned()] {
        let one = answer(node, "three.db", &one, 1);
        assert_eq!((lost(&one), of_key(&one, &k1).0.as_str()), ((2, Value::Null), "held"));
        assert_eq!(of_key(&one, &k2), name("missing", &[]));
    }
    let text = check(node, "three.db", &format!("[DIR]/one.age {OURS}"));
    for part in [
        "2 of ",
        " would be lost\n",
        &format!("! 1 object would be lost: no given file has {k2}\n  /registry/secrets/default/under-k2\n"),
        "! 1 object would be lost: claviger cannot have the key of aescbc:v1:legacy\n  /registry/secrets/default/under-aescbc\n",
        "give every backup and copy of a keyring that may have the missing key: claviger backup check --config",
    ] {
        assert!(text.stdout.contains(part), "{part}\n{text}");
    }
    keys_of_another_keyring_and_shares(node);
}

fn keys_of_another_keyring_and_shares(node: &Node) {
    let foreign = identity(&node.sandbox, "theirs.txt");
    let theirs = "--recovery-identity [DIR]/theirs.txt";
    node.done(&format!("init --state-dir [DIR]/other --recovery-recipient {foreign} {theirs}"));
    node.done("backup create [DIR]/foreign.age --state-dir [DIR]/other");
    let foreign = answer(node, "two.db", &format!("[DIR]/foreign.age {theirs}"), 1);
    assert_eq!((&foreign["lost"], &foreign["keyrings"][0]["holds"]), (&json!(2), &json!(0)));
    let refused = check(node, "two.db", &format!("[DIR]/foreign.age {OURS}"));
    assert_eq!(refused.code, 4, "{refused}");
    let keyless = check(node, "two.db", "");
    assert!(keyless.code != 0 && keyless.stderr.contains("hint:  give a backup: claviger backup check"), "{keyless}");

    // Two of three shares open a backup.
    node.sandbox.make_dir("shares", 0o700);
    node.done(&format!("recovery split {OURS} --shares 3 --threshold 2 --directory [DIR]/shares"));
    let shares = fs::read_dir(node.sandbox.path("shares")).unwrap().map(|entry| entry.unwrap().file_name());
    let mut shares: Vec<String> =
        shares.map(|name| format!("--recovery-identity [DIR]/shares/{}", name.display())).collect();
    shares.sort();
    answer(node, "two.db", &format!("[DIR]/promoted.age {} {}", shares[0], shares[2]), 0);
    assert_ne!(check(node, "two.db", &format!("[DIR]/promoted.age {}", shares[0])).code, 0);
}

fn a_disabled_key_counts_and_a_destroyed_one_does_not(node: &Node) {
    let (k1, k2) = (node.key("k1").0, node.key("k2").0);
    node.done(&format!("key disable {k1} --risk-unreadable-secrets {STATE}"));
    let disabled = answer(node, "two.db", STATE, 0);
    assert_eq!(of_key(&disabled, &k1), name("disabled", &["state"]));
    let text = check(node, "two.db", STATE);
    assert!(text.stdout.contains("enable the disabled key: claviger key enable "), "{text}");
    let enabled = answer(node, "two.db", &format!("[DIR]/one.age {OURS} {STATE}"), 0);
    assert_eq!(of_key(&enabled, &k1), name("held", &["one.age", "state"]));
    node.done(&format!("key destroy {k1} --risk-losing-secrets {STATE}"));
    let destroyed = answer(node, "two.db", STATE, 1);
    assert_eq!(of_key(&destroyed, &k1), name("destroyed", &[]));
    assert_eq!((of_key(&destroyed, &k2), destroyed["lost"].as_u64()), (name("held", &["state"]), Some(1)));
    let text = check(node, "two.db", STATE);
    assert!(text.stdout.contains(&format!("would be lost: {k1} was destroyed\n")), "{text}");
    let saved = answer(node, "two.db", &format!("[DIR]/one.age {OURS} {STATE}"), 0);
    assert_eq!(of_key(&saved, &k1), name("held", &["one.age"]));
}

fn a_snapshot_that_cannot_be_read_whole_gets_no_answer_for_the_rest(node: &Node) {
    let both = format!("[DIR]/promoted.age {OURS}");
    let bytes = fs::read(node.sandbox.path("two.db")).unwrap();
    let mut damaged = bytes.clone();
    *damaged.last_mut().unwrap() ^= 1;
    fs::write(node.sandbox.path("damaged.db"), &damaged).unwrap();
    let text = check(node, "damaged.db", &both);
    assert_eq!(text.code, 7, "{text}");
    assert!(text.stdout.starts_with("unknown: the keys open what was read of this snapshot"), "{text}");
    assert!(text.stdout.contains("! the answer is only about what was read: "), "{text}");
    assert!(text.stdout.contains("the file does not match the digest at its end"), "{text}");
    let one = check(node, "damaged.db", &format!("[DIR]/one.age {OURS}"));
    assert_eq!(one.code, 7, "{one}");
    assert!(one.stdout.starts_with("at least 1 object would be lost, and not all of this snapshot was read"), "{one}");
    let prefix = answer(node, "two.db", &format!("{both} --etcd-prefix /k8s"), 7);
    assert!(prefix["incomplete"].as_str().unwrap().contains("an API server's objects are below /registry"), "{prefix}");
    let inside = answer(node, "two.db", &format!("{both} --etcd-prefix /registry/secrets"), 7);
    assert!(inside["incomplete"].is_string(), "{inside}");
    // The snapshots have zeros in the middle, or lack half of the file. In no case does the command say that everything
    // is well.
    let mut holed = bytes.clone();
    let middle = bytes.len() / 8192 * 4096;
    holed[middle..middle + 4096].fill(0);
    for bytes in [&holed[..], &bytes[..bytes.len() / 2], b"no database", b""] {
        fs::write(node.sandbox.path("cut.db"), bytes).unwrap();
        let answer = check(node, "cut.db", &both);
        assert!(answer.code != 0 && !answer.stdout.contains("can be restored"), "{answer}");
    }
    let several = node.sandbox.run(&format!("backup check [DIR]/one.age [DIR]/pending.age {OURS}"));
    assert_eq!(several.code, 2, "{several}");
    assert!(several.stderr.contains("several backups are checked only against a snapshot of etcd"), "{several}");
}

/// Checks that a restore and a merge beside a snapshot both list the snapshot.
fn listed_by_a_restore_and_a_merge(node: &Node) {
    node.sandbox.copy("older", "merged");
    let lists = ["restored", "merged --accept"].map(|state| {
        let line =
            format!("backup restore [DIR]/promoted.age {OURS} --snapshot [DIR]/two.db --state-dir [DIR]/{state}");
        node.done(&line);
        let state = state.trim_end_matches(" --accept");
        node.done(&format!("backup list --state-dir [DIR]/{state} --output json")).json()["snapshots"].clone()
    });
    let [restored, merged] = lists.map(|mut snapshots| {
        snapshots[0].as_object_mut().unwrap().remove("checked").unwrap();
        snapshots
    });
    assert_eq!(restored[0]["keys"], json!([node.key("k1").0, node.key("k2").0]));
    assert_eq!(restored[0]["file"], "[DIR]/two.db");
    assert_eq!(restored, merged);
}

fn a_key_that_a_listed_snapshot_needs_is_destroyed_only_after_it_is_forgotten(node: &Node) {
    let (k1, k2) = (node.key("k1").0, node.key("k2").0);
    let listed = || node.done(&format!("backup list {STATE} --output json")).json()["snapshots"].clone();
    listed_by_a_restore_and_a_merge(node);
    uses_the_backups_if_the_named_directory_does_not_exist(node);
    // Keys of another keyring, and a machine without a keyring, list nothing.
    let promoted = answer(node, "two.db", &format!("[DIR]/promoted.age {OURS}"), 0);
    assert_eq!((&promoted["listed"], listed()), (&Value::Null, json!([])));
    let here = answer(node, "two.db", STATE, 0);
    assert_eq!(here["listed"], true);
    answer(node, "three.db", STATE, 1);
    // After another reading with another prefix, the snapshot still needs both keys.
    answer(node, "two.db", &format!("{STATE} --etcd-prefix /k8s"), 7);
    let entries = listed();
    let entry = |file: &str| {
        let file = json!(format!("[DIR]/{file}"));
        entries.as_array().unwrap().iter().find(|entry| entry["file"] == file).unwrap_or_else(|| panic!("{entries:#}"))
    };
    for file in ["two.db", "three.db"] {
        assert_eq!(entry(file)["keys"], json!([k1, k2]));
    }
    assert_eq!((&entry("two.db")["sha256"], &entry("two.db")["revision"]), (&here["sha256"], &here["revision"]));
    let text = node.done(&format!("backup list {STATE}"));
    assert!(text.stdout.contains("NEEDS") && text.stdout.contains("[DIR]/two.db"), "{text}");

    node.done(&format!("key disable {k1} --risk-unreadable-secrets {STATE}"));
    node.etcd.run_etcdctl(&["del", "--prefix", "/registry/secrets/"]).unwrap();
    let destroy = || node.sandbox.run(&format!("key destroy {k1} {STATE} {}", node.etcd_flags()));
    let id = |file: &str| entry(file)["sha256"].as_str().unwrap()[..12].to_owned();
    let refused = destroy();
    assert_eq!(refused.code, 3, "{refused}");
    let text = format!("not destroying key {k1}: a listed snapshot needs it: [DIR]/two.db, and 1 more");
    assert!(refused.stderr.contains(&text), "{refused}");
    let hint = format!("claviger backup forget {STATE} {}", id("two.db"));
    assert!(refused.stderr.contains(&hint) && refused.stderr.contains("--risk-losing-secrets"), "{refused}");
    node.done(&hint["claviger ".len()..]);
    assert!(destroy().stderr.contains("a listed snapshot needs it: [DIR]/three.db"));
    node.done(&format!("backup forget {} {STATE}", id("three.db")));
    assert_eq!(listed(), json!([]));
    let unasked = destroy();
    assert!(unasked.stderr.contains("the plugin on this node does not serve the keyring as it is now"), "{unasked}");
    let line = format!("key destroy {k1} {STATE} {} --api-servers 0", node.etcd_flags());
    // The count of API servers takes up to 30 s.
    let untrue = node.sandbox.call(&line).by(Path::new(CLAVIGER), Duration::from_mins(2)).run();
    assert!(untrue.stderr.contains("1 API server uses this etcd, but the operator says that none runs"), "{untrue}");
    node.done(&format!("key destroy {k1} {STATE} --risk-losing-secrets"));
    // A destroyed key opens nothing, so the snapshot keeps nothing.
    let left = check(node, "two.db", STATE);
    assert!(left.stdout.contains("listed     yes: `key destroy` keeps those of its keys that are left here"), "{left}");
    node.done(&format!("backup forget {} {STATE}", id("two.db")));
    let audit = fs::read_to_string(node.sandbox.path("state/audit.jsonl")).unwrap();
    assert_eq!(audit.matches("\"snapshot-check\"").count(), 3, "{audit}");
    assert_eq!(audit.matches("\"snapshot-forget\"").count(), 3, "{audit}");
    a_changed_ledger_lists_nothing_and_the_answer_is_printed_nevertheless(node);
}

fn uses_the_backups_if_the_named_directory_does_not_exist(node: &Node) {
    let nowhere = check(node, "two.db", &format!("[DIR]/promoted.age {OURS} --state-dir [DIR]/nowhere"));
    assert!(nowhere.code == 0 && nowhere.stdout.starts_with("this snapshot can be restored"), "{nowhere}");
    let warning = "warning: [DIR]/nowhere does not exist, so only the keys of the backups were used\n";
    assert!(nowhere.stderr.contains(warning), "{nowhere}");
}

fn a_changed_ledger_lists_nothing_and_the_answer_is_printed_nevertheless(node: &Node) {
    let ledger = node.sandbox.path("state/ledger");
    let text = fs::read_to_string(&ledger).unwrap();
    fs::write(&ledger, text.replacen("count ", "count 1", 1)).unwrap();
    let unlisted = check(node, "two.db", STATE);
    assert!(unlisted.code != 0 && unlisted.stdout.contains("listed     not yet: the ledger"), "{unlisted}");
    assert!(unlisted.stderr.contains("the snapshot was read, and is not listed"), "{unlisted}");
}
