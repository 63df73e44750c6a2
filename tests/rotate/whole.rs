//! Tests a rotation from its beginning to its end.

use std::{fs, path::Path};

use super::{LIMIT, call, events, hurried, keys, rotate};
use crate::{
    cli::{disk::Disk, identity, sandbox::report_snapshot},
    reencrypt::rig::Rig,
};

#[test]
fn a_rotation_ends_with_a_proof_and_the_next_one_makes_another_key() {
    let mut rig = Rig::new();
    rig.create_others();
    rig.create_secrets("old", 30);
    let preview = rotate(&mut rig, "--dry-run --without-backup", 0);
    assert_eq!(keys(&rig), [(1, "primary".to_owned())], "a dry run changes nothing");
    assert!(preview.stdout.contains("have the API server re-encrypt 3"), "{preview}");
    report_snapshot("report/rotate-dry-run", &preview);

    let done = rotate(&mut rig, "--without-backup --rate unlimited --output json", 0);
    let events = events(&done);
    let of =
        |name: &str| events.iter().find(|event| event["event"] == name).unwrap_or_else(|| panic!("{name}: {done}"));
    assert_eq!(of("counted")["api_servers"], 1, "{done}");
    assert!(of("rewritten")["written"].as_u64().unwrap() >= 36, "{done}");
    let quiet = events.iter().find(|event| event["gate"] == "quiet").unwrap();
    assert!(quiet["seconds"].as_u64().unwrap() > 200, "{done}");
    let report = events.last().unwrap();
    assert_eq!((&report["format"], &report["outcome"]), (&"claviger/rotate/v1".into(), &"clean".into()));
    assert_eq!(keys(&rig), [(1, "decrypt-only".to_owned()), (2, "primary".to_owned())]);
    rig.is_clean();
    for key in rig.etcd.keys("/registry/secrets/").unwrap() {
        let value = rig.etcd.get(&key).unwrap().unwrap();
        assert!(value.windows(3).any(|bytes| bytes == b"k2-"), "{key}");
    }
    let value = rig.api.kubectl(&["get", "secret", "old-0007", "-o", "jsonpath={.data.password}"]).unwrap();
    assert_eq!(value, "cHctNw==", "pw-7");

    let again = call(&mut rig, "--without-backup --api-servers 1").run();
    again.ends_with(0);
    assert_eq!(keys(&rig).last(), Some(&(3, "primary".to_owned())));
    assert!(again.stdout.contains("The rotation to k3-"), "{again}");
    rig.is_clean();
}

/// Returns the command line of the unit that the timer starts, with the directories of the test.
fn command_of_the_timer(kubeconfig: &Path) -> String {
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/claviger-rotate.service");
    let unit = fs::read_to_string(unit).unwrap();
    let line = unit.lines().find_map(|line| line.strip_prefix("ExecStart=/usr/local/bin/claviger ")).unwrap();
    line.replace("/etc/kubernetes/admin.conf", &kubeconfig.display().to_string())
        .replace("/var/backups/claviger", "[DIR]/disk")
}

#[test]
fn a_rotation_writes_the_backup_that_its_key_needs() {
    let mut rig = Rig::new();
    rig.create_secrets("old", 3);
    let recipient = identity(&rig.sandbox, "ours.txt");
    let add = format!("recovery add {recipient} --recovery-identity [DIR]/ours.txt --state-dir [DIR]/state");
    rig.sandbox.run(&add).ends_with(0);
    let (pid, kubeconfig) = (rig.api.process().unwrap().id(), rig.kubeconfig());
    let Some(disk) = Disk::looped(&rig.sandbox) else { return };
    // No identity is on the node when a timer starts the rotation.
    fs::rename(rig.sandbox.path("ours.txt"), rig.sandbox.path("offline.txt")).unwrap();
    let line = format!(
        "{} --state-dir [DIR]/state --socket [DIR]/run/kms.sock --apiserver-process {pid} --api-servers 1 --to \
         [DIR]/rotated.report",
        command_of_the_timer(&kubeconfig)
    );
    let done = disk.call(&line).by(&hurried(), LIMIT).run();
    done.ends_with(0);
    assert!(done.stdout.contains("/disk/claviger-generation-3.age"), "{done}");
    assert_eq!(keys(&rig), [(1, "decrypt-only".to_owned()), (2, "primary".to_owned())]);
    let backup = "[DIR]/disk/claviger-generation-3.age --recovery-identity [DIR]/ours.txt --state-dir [DIR]/state";
    fs::rename(rig.sandbox.path("offline.txt"), rig.sandbox.path("ours.txt")).unwrap();
    let checked = disk.call(&format!("backup check {backup}")).run();
    assert!(checked.stdout.contains("k2-"), "{checked}");
    let kept = format!("verify --state-dir [DIR]/state --apiserver-process {pid} --report [DIR]/rotated.report");
    rig.sandbox.run(&kept).ends_with(0);
}

#[test]
fn an_api_server_with_two_providers_on_one_socket_counts_once() {
    let mut rig = Rig::with_two_providers();
    rig.create_secrets("old", 3);
    rig.apply("{apiVersion: v1, kind: ConfigMap, metadata: {name: settings}, data: {a: b}}");
    let status =
        rig.sandbox.run("status --state-dir [DIR]/state --socket [DIR]/run/kms.sock --backups none --output json");
    let connections = status.json()["plugin"]["connections"].as_array().unwrap().len();
    assert_eq!(connections, 2, "each entry has a connection: {status}");
    rotate(&mut rig, "--without-backup --rate unlimited", 0);
    assert_eq!(keys(&rig), [(1, "decrypt-only".to_owned()), (2, "primary".to_owned())]);
    rig.is_clean();
    for key in ["/registry/secrets/default/old-0001", "/registry/configmaps/default/settings"] {
        let value = rig.etcd.get(key).unwrap().unwrap();
        assert!(value.windows(3).any(|bytes| bytes == b"k2-"), "{key}");
    }
}
