//! Tests reports: their contents, which ones are refused, and which ones do not count any more.

use std::fs;

use serde_json::{Value, json};

use super::rig::{PLAINTEXT, Rig, STATE, value};
use crate::{cli::identity, harness::etcd::Etcd};

#[test]
fn a_report_is_kept_in_every_form_and_checked_in_every_form() {
    let rig = Rig::new();
    let made = rig.says("--to [DIR]/a.report --html [DIR]/a.html --output json", 0, &[]).json();
    let text = fs::read_to_string(rig.sandbox.path("a.report")).unwrap();
    assert_eq!(made["report"]["text"], json!(text));
    let page = fs::read_to_string(rig.sandbox.path("a.html")).unwrap();
    assert!(page.contains(&text) && page.contains("Clean: 3 values are under the primary key"), "{page}");
    assert!(!page.contains("<script") && !page.contains("http-equiv"));
    for expected in ["claviger/report/v1\n", "\noutcome clean\n", "\n-> group secrets kms%3Av2%3Aclaviger key=k2-"] {
        assert!(text.contains(expected), "{text}");
    }
    for file in ["a.report", "a.html"] {
        let same = rig.says(&format!("--report [DIR]/{file}"), 0, &["Clean: 3 values", "  nothing has changed\n"]);
        assert!(same.stdout.contains(&format!("compared with the report [DIR]/{file}, of ")), "{same}");
        let note = "note:  [DIR]/a.html is a page: only the authenticated report in it was checked";
        assert_eq!(same.stdout.contains(note), file == "a.html", "{same}");
    }
    let hint = rig.says("--to [DIR]/b.report", 0, &["to check this report later: claviger verify "]);
    assert!(hint.stdout.contains("--report [DIR]/b.report"), "{hint}");
    // A report is never overwritten.
    let taken = rig.sandbox.refused(3, &format!("verify {} --to [DIR]/a.report", rig.flags()));
    assert!(taken.complaint().contains("a.report"), "{taken}");
    assert_eq!(fs::read_to_string(rig.sandbox.path("a.report")).unwrap(), text);
}

#[test]
fn what_has_changed_since_a_report_is_shown() {
    let rig = Rig::new();
    rig.says("--to [DIR]/a.report", 0, &[]);
    rig.put("secrets/default/new", &value("claviger", &rig.key(2)));
    let grown = rig.says("--report [DIR]/a.report", 0, &["Clean: 4 values", "secrets under kms:v2:claviger k2-"]);
    assert!(grown.stdout.contains(": 2, now 3\n") && grown.stdout.contains("  revision of "), "{grown}");
    rig.put("secrets/default/plain", PLAINTEXT);
    rig.says(
        "--report [DIR]/a.report",
        1,
        &[
            "Not clean. 1 of 4 Secrets is readable in etcd\n",
            "  outcome: clean, now left-over\n",
            "  found plaintext-although-covered: none, now 1\n",
            "  secrets under identity: none, now 1\n",
        ],
    );
    // A report that is not clean is a report, too.
    rig.says("--to [DIR]/left.report", 1, &[]);
    rig.delete("secrets/default/plain");
    rig.says("--report [DIR]/left.report", 0, &["  found plaintext-although-covered: 1, now none\n"]);
    // Another key is primary, and all values are under the key before it.
    rig.done(&format!("key add {STATE}"));
    rig.done(&format!("key promote k3 --without-backup {STATE}"));
    let changed = rig.says("--report [DIR]/a.report", 1, &["stale (4): ", "  generation of the keyring: 3, now 5\n"]);
    assert!(changed.stdout.contains("  primary key: k2-"), "{changed}");
}

#[test]
fn a_report_that_was_changed_or_is_of_another_keyring_is_refused() {
    let rig = Rig::new();
    rig.put("secrets/default/stale", &value("claviger", &rig.key(1)));
    rig.says("--to [DIR]/a.report --html [DIR]/a.html", 1, &[]);
    let text = fs::read_to_string(rig.sandbox.path("a.report")).unwrap();
    let page = fs::read_to_string(rig.sandbox.path("a.html")).unwrap();
    let refused_with = |exit, forged: &str| {
        fs::write(rig.sandbox.path("forged"), forged).unwrap();
        rig.sandbox.refused(exit, &format!("verify {} --report [DIR]/forged", rig.flags())).complaint()
    };
    let refused = |forged: &str| refused_with(4, forged);
    let is_changed = "error: [DIR]/forged: the report: failed authentication: it was changed, or not written by this \
                      keyring's root key\n";
    for (from, to) in [
        ("outcome left-over\n", "outcome clean\n"),
        ("-> found stale 1\n", ""),
        ("objects=2", "objects=3"),
        ("-> etcd ", "-> etcd 1"),
        ("\ngeneration 3\n", "\ngeneration 2\n"),
    ] {
        assert!(text.contains(from), "{from}: {text}");
        assert!(refused(&text.replacen(from, to, 1)).starts_with(is_changed), "{from}");
        assert!(refused(&page.replacen(from, to, 1)).starts_with(is_changed), "{from} in the page");
    }
    for (exit, wrong) in [
        (7, ""),
        (7, "nothing"),
        (4, &text[..text.len() - 1]),
        (4, &format!("{text}\n")),
        (3, &text.replace("/v1", "/v2")),
        (7, &text[1..]),
    ] {
        refused_with(exit, wrong);
    }
    // The mark is authentic under the same root key, but is no report.
    let mark = fs::read_to_string(rig.sandbox.path("state/mark")).unwrap();
    assert!(
        refused(&mark.replacen("claviger/mark/", "claviger/report/", 1)).contains("the report: failed authentication")
    );
    assert!(refused_with(7, &mark).contains("the report: not a report file"));

    rig.sandbox.init("other");
    let flags = rig.flags().replace("[DIR]/state", "[DIR]/other");
    let other = rig.sandbox.refused(4, &format!("verify {flags} --report [DIR]/a.report")).complaint();
    assert!(other.contains("error: [DIR]/a.report: the report is of keyring "), "{other}");
}

#[test]
fn a_file_that_another_command_wrote_is_no_report() {
    let rig = Rig::new();
    let no_report = "hint:  give a file that an earlier verification wrote, by --to or --html\n";
    for (exit, other) in
        [(7, &b"{\"format\":\"claviger/scan/v1\"}\n"[..]), (7, b"a text"), (7, b"age-encryption.org/v1\n\xff\xfe")]
    {
        fs::write(rig.sandbox.path("no.report"), other).unwrap();
        let refused =
            rig.sandbox.refused(exit, &format!("verify {} --report [DIR]/no.report", rig.flags())).complaint();
        assert!(refused.ends_with(no_report), "{refused}");
    }
}

#[test]
fn a_report_from_before_a_rekey_is_refused_because_others_may_know_its_root_key() {
    let rig = Rig::new();
    rig.put("secrets/default/stale", &value("claviger", &rig.key(1)));
    rig.says("--to [DIR]/a.report", 1, &[]);
    rig.done(&format!("rekey {STATE}"));
    let earlier = rig.sandbox.refused(4, &format!("verify {} --report [DIR]/a.report", rig.flags())).complaint();
    assert!(earlier.contains("the report is under a root key from before a rekey"), "{earlier}");
    rig.delete("secrets/default/stale");
    rig.says("--to [DIR]/new.report", 0, &[]);
    rig.says("--report [DIR]/new.report", 0, &["  nothing has changed\n"]);
}

/// Returns the reasons that void the report, in a verification that ends with 1.
#[track_caller]
fn voided(rig: &Rig, flags: &str) -> String {
    let answer = rig.sandbox.run(&format!("verify {flags} --report [DIR]/a.report --output json"));
    let json: Value = answer.ends_with(1).json();
    assert_eq!(json["outcome"], "clean", "the cluster itself is clean: {json}");
    let voided = json["since"]["voided"].as_array().unwrap();
    assert_eq!(voided.len(), 1, "{json}");
    voided[0].as_str().unwrap().to_owned()
}

#[test]
fn an_etcd_that_was_restored_in_place_voids_a_report() {
    let mut rig = Rig::new();
    let (snapshot, before) = (rig.sandbox.path("etcd.db"), rig.etcd.revision().unwrap());
    rig.etcd.snapshot(&snapshot).unwrap();
    rig.put("secrets/default/later", &value("claviger", &rig.key(2)));
    rig.says("--to [DIR]/a.report", 0, &[]);
    rig.etcd.restore_in_place(&snapshot).unwrap();
    let url = rig.etcd.endpoints();
    let expected =
        format!("etcd {url} was restored: it is at revision {before}, and the report read revision {}", before + 1);
    assert_eq!(voided(&rig, &rig.flags()), expected);
    let said = rig.says("--report [DIR]/a.report", 1, &[&format!("! {expected}\n"), "does not count any more\n"]);
    assert!(said.stdout.contains("hint:  make a report of what is in etcd now: claviger verify "), "{said}");
}

#[test]
fn another_etcd_voids_a_report_whatever_its_revision_is() {
    let mut rig = Rig::new();
    rig.says("--to [DIR]/a.report", 0, &[]);
    let snapshot = rig.sandbox.path("etcd.db");
    rig.etcd.snapshot(&snapshot).unwrap();
    let clone = Etcd::start_from_snapshot(&rig.run, &snapshot).unwrap();
    clone.put("/registry/secrets/default/later", &value("claviger", &rig.key(2))).unwrap();
    rig.etcd = clone;
    assert!(voided(&rig, &rig.flags()).contains(" was replaced or restored: it is cluster "));
    let stranger = Etcd::start(&rig.run, 1).unwrap();
    rig.fill(&stranger);
    rig.etcd = stranger;
    assert!(voided(&rig, &rig.flags()).contains(" was replaced or restored: it is cluster "));
}

/// Restores the files at FILE, which belong to this keyring.
fn restore(rig: &Rig, rest: &str) {
    rig.done(&format!("backup restore {rest} --recovery-identity [DIR]/ours.txt"));
}

#[test]
fn a_keyring_that_was_restored_or_merged_voids_a_report() {
    let rig = Rig::new();
    let ours = identity(&rig.sandbox, "ours.txt");
    rig.done(&format!("recovery add {ours} --recovery-identity [DIR]/ours.txt {STATE}"));
    rig.done(&format!("backup create [DIR]/newest.age {STATE}"));
    let made = rig.says("--to [DIR]/a.report --output json", 0, &[]).json();
    assert_eq!((&made["keyring"]["generation"], &made["keyring"]["restored"]), (&json!(4), &Value::Null));
    let since = |generation| {
        format!(
            "the keyring was restored or merged at generation {generation}, after the report, which names generation 4"
        )
    };
    // The disk is lost. Nothing had changed after the backup was made.
    fs::rename(rig.sandbox.path("state"), rig.sandbox.path("lost")).unwrap();
    restore(&rig, &format!("[DIR]/newest.age {STATE} --etcd-servers {}", rig.etcd.endpoints()));
    assert_eq!(voided(&rig, &rig.flags()), since(5));
    let said = rig.says("--report [DIR]/a.report", 1, &[&format!("! {}\n", since(5)), "does not count any more\n"]);
    assert!(said.stdout.contains("hint:  make a report of what is in etcd now: claviger verify "), "{said}");
    // A new report counts, and says what happened before. A change by a command voids neither report.
    let new = rig.says("--to [DIR]/b.report --output json", 0, &[]).json();
    assert_eq!(new["keyring"]["restored"], 5);
    assert!(new["report"]["text"].as_str().unwrap().contains("\nrestored 5\n"), "{new}");
    rig.done(&format!("key add {STATE}"));
    rig.says("--report [DIR]/b.report", 0, &["Clean: 3 values"]);
    assert_eq!(voided(&rig, &rig.flags()), since(5));
    // The lost disk is found. Its keyring has other changes, and gets the keys of the restored one.
    let lost = rig.flags().replace("[DIR]/state", "[DIR]/lost");
    rig.done("key add --state-dir [DIR]/lost");
    let counts = |report: &str| {
        let answer = rig.sandbox.run(&format!("verify {lost} --report [DIR]/{report} --output json"));
        answer.json()["since"]["voided"].clone()
    };
    assert_eq!(counts("a.report"), json!([]), "nobody restored this one");
    rig.done(&format!("backup create [DIR]/restored.age {STATE}"));
    restore(&rig, "[DIR]/restored.age --state-dir [DIR]/lost --accept");
    assert_eq!(counts("a.report"), json!([since(7)]));
    assert_eq!(counts("b.report"), json!([since(7).replace("generation 4", "generation 5")]));
}

#[test]
fn an_older_keyring_voids_a_report() {
    let rig = Rig::new();
    rig.sandbox.copy("state", "older");
    rig.done(&format!("key add {STATE}"));
    rig.says("--to [DIR]/a.report", 0, &[]);
    let flags = rig.flags().replace("[DIR]/state", "[DIR]/older");
    let expected = "the keyring is older than the report: it has generation 3, and the report names generation 4";
    assert_eq!(voided(&rig, &flags), expected);
    // The older keyring has other changes.
    rig.done("key add --state-dir [DIR]/older");
    let expected = "the keyring forked: its generation 4 is not the one that the report names";
    assert_eq!(voided(&rig, &flags), expected);
    rig.done("key add --state-dir [DIR]/older");
    assert_eq!(voided(&rig, &flags), expected);
}
