//! Tests that all stale objects are rewritten, and no others.

use std::{thread, time::Duration};

use super::rig::{PLAIN, PLAIN_KEY, Rig};
use crate::cli::sandbox::report_snapshot;

#[test]
fn what_is_stale_is_written_again_and_nothing_else() {
    let mut rig = Rig::new();
    rig.create_others();
    rig.create_secrets("old", 40);
    rig.promote_and_adopt();
    rig.create_secrets("new", 2);
    // The Secret was stored before encryption was switched on.
    rig.etcd.put(PLAIN_KEY, PLAIN).unwrap();
    let keys = rig.etcd.keys("/registry/").unwrap();
    let at_first: Vec<u64> = keys.iter().map(|key| rig.revision_of(key)).collect();

    let stale = ["configmaps", "secrets", "widgets.example.com"];
    let dry = rig.reencrypt("--dry-run", 1, &[" objects would be rewritten\n", "hint:  re-encrypt them: "]);
    report_snapshot("report/reencrypt-dry-run", &dry);
    let unchanged: Vec<u64> = keys.iter().map(|key| rig.revision_of(key)).collect();
    let changed = |before: &[u64], after: &[u64]| {
        let both = keys.iter().zip(before.iter().zip(after));
        both.filter(|(_, (before, after))| before != after).map(|(key, _)| key.clone()).collect::<Vec<_>>()
    };
    // API servers write Leases and other objects of their own all the time.
    let is_encrypted = |key: &String| {
        ["/registry/secrets/", "/registry/configmaps/", "/registry/example.com/"]
            .iter()
            .any(|path| key.starts_with(path))
    };
    assert!(
        !changed(&at_first, &unchanged).iter().any(is_encrypted),
        "a dry run wrote: {:?}",
        changed(&at_first, &unchanged)
    );

    let done = rig.reencrypt("--rate unlimited --output json", 0, &[]).json();
    assert_eq!((&done["end"], &done["failed"]), (&"done".into(), &serde_json::json!([])), "{done}");
    let of = |resource: &str, field: &str| {
        let found = done["resources"].as_array().unwrap().iter().find(|one| one["resource"] == resource);
        found.unwrap()[field].as_u64().unwrap()
    };
    let before: u64 = stale.iter().map(|resource| of(resource, "before")).sum();
    assert_eq!((done["written"].as_u64(), stale.map(|resource| of(resource, "now"))), (Some(before), [0; 3]), "{done}");
    assert_eq!((of("secrets", "before"), of("widgets.example.com", "before")), (41, 3), "{done}");
    rig.is_clean();
    let after: Vec<u64> = keys.iter().map(|key| rig.revision_of(key)).collect();
    let written: Vec<String> = changed(&unchanged, &after).into_iter().filter(is_encrypted).collect();
    assert_eq!(written.len() as u64, before, "{written:?}");
    assert!(!written.iter().any(|key| key.starts_with("/registry/secrets/default/new-")), "{written:?}");
    let value = rig.api.kubectl(&["get", "secret", "old-0007", "-o", "jsonpath={.data.password}"]).unwrap();
    assert_eq!(value, "cHctNw==", "pw-7");

    rig.reencrypt("", 0, &["Nothing to re-encrypt: every value that must be encrypted is under the primary key\n"]);
}

#[test]
fn an_api_server_that_has_not_adopted_the_key_is_waited_for() {
    let mut rig = Rig::new();
    rig.create_secrets("old", 3);
    rig.promote();
    rig.reencrypt("", 0, &["All re-encrypted: ", "waiting for the API server: it answers without writing"]);
    rig.is_clean();
}

#[test]
fn an_interrupted_run_ends_whole_and_the_next_one_goes_on() {
    let mut rig = Rig::new();
    rig.create_secrets("old", 60);
    rig.promote_and_adopt();
    let child = rig.call("--rate 10 --output json").start();
    let begun = std::time::Instant::now();
    let is_new = |rig: &Rig| {
        let value = rig.etcd.get("/registry/secrets/default/old-0000").unwrap().unwrap();
        value.windows(3).any(|bytes| bytes == b"k2-")
    };
    while !is_new(&rig) {
        assert!(begun.elapsed() < Duration::from_mins(1), "it wrote nothing");
        thread::sleep(Duration::from_millis(50));
    }
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &report["end"]), (Some(130), &"interrupted".into()), "{report}");
    let resources = report["resources"].as_array().unwrap();
    let sum = |field: &str| resources.iter().map(|one| one[field].as_u64().unwrap()).sum::<u64>();
    let (written, left) = (report["written"].as_u64().unwrap(), sum("now"));
    assert!(written > 0 && left > 0 && written + left == sum("before"), "{report}");
    let rest = rig.reencrypt("--rate unlimited --output json", 0, &[]).json();
    assert_eq!(rest["written"].as_u64(), Some(left), "{rest}");
    rig.is_clean();
}
