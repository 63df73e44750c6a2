//! Tests rotations that must not begin, or cannot end.

use std::{
    fs,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use super::{call, keys, resumed::killed_after, rotate};
use crate::reencrypt::rig::{Rig, has_all};

const BROKEN: &str = "/registry/secrets/default/broken";

#[test]
fn what_would_stop_a_rotation_is_said_before_it_begins() {
    let mut rig = Rig::new();
    rig.create_secrets("old", 3);
    let several = rotate(&mut rig, "--without-backup --api-servers 3", 3);
    has_all(
        &several,
        &["error: 3 API servers use this etcd, expected at most 1, because a keyring file serves one API server"],
    );
    assert!(!several.stderr.contains("--api-servers 3"), "the hint has the flag once: {several}");
    let dry = rotate(&mut rig, "--dry-run --without-backup --api-servers 3", 3);
    has_all(&dry, &["A rotation would stop at once, for the reason below."]);
    // No value would be under the new key.
    let unused = rotate(&mut rig, "--without-backup --api-servers 1 --provider-name other", 3);
    has_all(
        &unused,
        &[
            "error: the EncryptionConfiguration writes nothing with the provider other, so nothing would be under a new key",
        ],
    );
    let none = rotate(&mut rig, "--without-backup --api-servers 0", 2);
    has_all(&none, &["--api-servers", "0 is not in 1.."]);
    let (etcd, kubeconfig) = (rig.etcd.endpoints(), rig.kubeconfig());
    let line = format!(
        "rotate --dry-run --state-dir [DIR]/state --socket [DIR]/run/kms.sock --etcd-servers {etcd} --encryption-config \
         [DIR]/encryption.yaml --kubeconfig {} --without-backup --api-servers 1",
        kubeconfig.display()
    );
    let unread = rig.sandbox.run(&line);
    unread.ends_with(0);
    has_all(
        &unread,
        &["warning: the flags of kube-apiserver were not read, so its --request-timeout is taken as 60 s"],
    );
    // Flags that are not understood may name another etcd, so no scan would be a proof.
    let pod = format!(
        "spec: {{containers: [{{command: [kube-apiserver, '--etcd-servers={etcd}', '--etcd-servers-overrides=$(OTHERS)']}}]}}"
    );
    fs::write(rig.sandbox.path("pod.yaml"), pod).unwrap();
    let unclear = line.replace(&format!("--etcd-servers {etcd}"), "--apiserver-manifest [DIR]/pod.yaml");
    for line in [unclear.clone(), unclear.replace(" --dry-run", "")] {
        let unclear = rig.sandbox.run(&line);
        unclear.ends_with(7);
        has_all(&unclear, &["error: no scan would prove that the rotation is finished: ", "pod.yaml"]);
    }
    refuses_useless_backups(&mut rig);
    rig.sandbox.init("other");
    let elsewhere = line.replace("--state-dir [DIR]/state", "--state-dir [DIR]/other").replace(" --dry-run", "");
    let elsewhere = rig.sandbox.run(&elsewhere);
    elsewhere.ends_with(3);
    has_all(&elsewhere, &["error: the plugin serves from [DIR]/state, and not from [DIR]/other"]);
    assert_eq!(keys(&rig), [(1, "primary".to_owned())], "nothing was changed");
    assert!(!rig.sandbox.path("state/rotation").exists());
    waits_for_a_backup_of_the_key(&mut rig);
}

/// Checks that a key that no backup holds is not promoted, and that the rotation continues if the operator wants no
/// backup.
fn waits_for_a_backup_of_the_key(rig: &mut Rig) {
    let unbacked = rotate(rig, "--api-servers 1", 3);
    has_all(&unbacked, &["so it is not promoted", "claviger backup create --state-dir"]);
    assert_eq!(keys(rig), [(1, "primary".to_owned()), (2, "pending".to_owned())]);
    let dry = rotate(rig, "--dry-run --api-servers 1", 3);
    has_all(&dry, &["stop unless a listed backup holds the key, then promote the key"]);
    assert!(!dry.stdout.contains("re-encrypt 0 objects"), "{dry}");
    rotate(rig, "--api-servers 1 --without-backup --quiet", 0);
    assert_eq!(keys(rig), [(1, "decrypt-only".to_owned()), (2, "primary".to_owned())]);
}

/// kube-apiserver accepts a misspelt name, and reads no Secret then.
#[test]
fn a_misspelt_resource_or_provider_is_named_in_each_phase() {
    let mut rig = Rig::new();
    rig.create_secrets("old", 3);
    let config = fs::read_to_string(rig.sandbox.path("encryption.yaml")).unwrap();
    fs::write(rig.sandbox.path("resource.yaml"), config.replace("- secrets", "- secret")).unwrap();
    fs::write(rig.sandbox.path("provider.yaml"), config.replace("name: claviger", "name: klaviger")).unwrap();
    let resource = "--encryption-config [DIR]/resource.yaml --without-backup --api-servers 1";
    let provider = "--encryption-config [DIR]/provider.yaml --without-backup --api-servers 1";
    let of_resource = [
        "error: no entry of the EncryptionConfiguration covers secrets, so the API server could not read ",
        "hint:  it lists secret, and etcd has no object of that name: write secrets there\n",
    ];
    let check = |rig: &mut Rig| {
        for dry in ["--dry-run ", ""] {
            has_all(&rotate(rig, &format!("{dry}{resource}"), 1), &of_resource);
            let unused = rotate(rig, &format!("{dry}{provider}"), 3);
            has_all(&unused, &["hint:  it lists klaviger: if that is misspelt, write claviger there; if values are "]);
        }
    };
    check(&mut rig);
    assert_eq!(keys(&rig), [(1, "primary".to_owned())], "nothing was changed");
    killed_after(&mut rig, "promoted");
    assert_eq!(keys(&rig), [(1, "decrypt-only".to_owned()), (2, "primary".to_owned())]);
    let begin = Instant::now();
    check(&mut rig);
    rig.reencrypt("--encryption-config [DIR]/resource.yaml", 1, &of_resource);
    assert!(begin.elapsed() < Duration::from_mins(2), "nothing was waited for: {:?}", begin.elapsed());
    rotate(&mut rig, "--without-backup --api-servers 1 --quiet", 0);
}

/// Checks that a rotation refuses a directory in which a backup would not count, before it changes anything.
fn refuses_useless_backups(rig: &mut Rig) {
    let there = format!("--backup-dir {}", rig.sandbox.root().display());
    let same_disk = rotate(rig, &there, 3);
    has_all(&same_disk, &["error: cannot keep the backup in ", "hint:  name a directory on another disk"]);
    let none = "--backup-dir [DIR]/none";
    for (wrong, exit) in [(none.to_owned(), 2), (format!("--dry-run {none}"), 2), (format!("--dry-run {there}"), 3)] {
        has_all(&rotate(rig, &wrong, exit), &["error: cannot keep the backup in "]);
    }
    let lost_too = "and a backup there is lost with it\nhint:  name a directory on another disk: ";
    rig.sandbox.make_dir("state/backups", 0o700);
    for (dir, why) in [
        (
            "encryption.yaml",
            "it is not a directory\nhint:  rotate chooses the name of the file: name a directory on another disk: ",
        ),
        ("state", &format!("it is the state directory, {lost_too}")),
        ("state/backups", &format!("it is in the state directory, {lost_too}")),
        ("state/../state", &format!("it is the state directory, {lost_too}")),
    ] {
        for dry in ["", "--dry-run "] {
            let refused = rotate(rig, &format!("{dry}--backup-dir [DIR]/{dir}"), 3);
            has_all(&refused, &[&format!("error: --backup-dir [DIR]/{dir}: {why}")]);
        }
    }
    std::fs::remove_dir(rig.sandbox.path("state/backups")).unwrap();
    let missing = rotate(rig, "--backup-dir media/usb", 2);
    has_all(
        &missing,
        &[
            "hint:  it was looked for at [DIR]/media/usb; there is no [DIR]/media: if it is on another disk, mount that disk; or name ",
        ],
    );
}

#[test]
fn a_keyring_that_lacks_a_key_of_the_plugin_is_not_rotated() {
    let mut rig = Rig::new();
    let [state, old, new] = ["state", "old", "new"].map(|name| rig.sandbox.path(name));
    assert!(Command::new("cp").arg("-a").args([&state, &old]).status().unwrap().success());
    rig.promote();
    let status = "status --state-dir [DIR]/state --socket [DIR]/run/kms.sock --output json";
    let serves =
        || rig.sandbox.run(status).json()["plugin"]["key_id"].as_str().is_some_and(|key| key.starts_with("k2-"));
    let begun = Instant::now();
    while !serves() {
        assert!(begun.elapsed() < Duration::from_mins(1), "the plugin does not take the new key up");
        thread::sleep(Duration::from_millis(100));
    }
    // Somebody puts an older copy of the directory back.
    fs::rename(&state, &new).unwrap();
    fs::rename(&old, &state).unwrap();
    let refused = rotate(&mut rig, "--without-backup --api-servers 1", 7);
    has_all(
        &refused,
        &["error: the plugin serves k2-", "which this keyring does not hold, so no rotation could finish"],
    );
    assert_eq!(keys(&rig), [(1, "primary".to_owned())]);
}

#[test]
fn an_object_that_cannot_be_read_stops_a_rotation_unless_it_is_left_by_name() {
    let mut rig = Rig::new();
    rig.create_secrets("old", 3);
    let value = rig.etcd.get("/registry/secrets/default/old-0000").unwrap().unwrap();
    // The value names a key that no keyring has.
    let name = value.windows(3).position(|bytes| bytes == b"k1-").unwrap();
    let magic = value.windows(4).position(|bytes| bytes == b"KW\x01\x01").unwrap();
    let mut changed = value;
    changed[name + 3..name + 35].copy_from_slice(&[b'0'; 32]);
    changed[magic + 4..magic + 36].copy_from_slice(&[0; 32]);
    rig.etcd.put(BROKEN, &changed).unwrap();
    let stopped = rotate(&mut rig, "--without-backup --api-servers 1", 1);
    has_all(&stopped, &["error: not rotating: the API server cannot read 1 object", "--leave ETCD_KEY"]);
    assert_eq!(keys(&rig), [(1, "primary".to_owned())]);
    let left = rotate(&mut rig, &format!("--without-backup --api-servers 1 --leave {BROKEN}"), 1);
    has_all(&left, &["is finished, but for 1 object that you left as it is", BROKEN]);
    assert_eq!(keys(&rig), [(1, "decrypt-only".to_owned()), (2, "primary".to_owned())]);
    // A rotation that left objects by name does not count as unfinished.
    let again = rotate(&mut rig, &format!("--dry-run --without-backup --api-servers 1 --leave {BROKEN}"), 0);
    has_all(&again, &["make a key, and have the plugin prove that it can read with it"]);
    // A key that an operator made is not that of a rotation. The plugin may not have followed the change yet.
    rig.sandbox.run("key add --state-dir [DIR]/state").ends_with(0);
    let again = call(&mut rig, &format!("--dry-run --without-backup --api-servers 1 --leave {BROKEN}")).run();
    let instead = " pending, as made by hand; to use it instead of a new key: claviger key promote --state-dir";
    has_all(&again, &["  leave k3-", instead]);
}

#[test]
fn a_webhook_that_refuses_holds_the_rotation_until_it_is_gone() {
    let mut rig = Rig::new();
    rig.create_secrets("old", 5);
    refuse_updates(&rig);
    let held = rotate(&mut rig, "--without-backup --api-servers 1", 1);
    has_all(
        &held,
        &[
            "error: the rotation is unfinished: 1 object was not re-encrypted: /registry/secrets/default/old-0003 (",
            "go on: claviger rotate",
        ],
    );
    allow_updates(&rig);
    rotate(&mut rig, "--without-backup --api-servers 1", 0);
    assert_eq!(keys(&rig), [(1, "decrypt-only".to_owned()), (2, "primary".to_owned())]);
    rig.is_clean();
}

/// Makes the API server refuse every update of the Secret old-0003.
pub(super) fn refuse_updates(rig: &Rig) {
    rig.apply(&policy());
    while_updates_are(rig, true);
}

/// Makes the API server allow these updates again.
pub(super) fn allow_updates(rig: &Rig) {
    rig.api.kubectl(&["delete", "validatingadmissionpolicybinding,validatingadmissionpolicy", "refuses"]).unwrap();
    while_updates_are(rig, false);
}

/// Waits until the API server allows or refuses updates. It reads policies now and then.
fn while_updates_are(rig: &Rig, allowed: bool) {
    let begun = Instant::now();
    while rig.api.kubectl(&["annotate", "secret", "old-0003", "a=b", "--dry-run=server"]).is_ok() == allowed {
        assert!(begun.elapsed() < Duration::from_mins(1), "the API server goes on as before");
        thread::sleep(Duration::from_millis(200));
    }
}

/// Returns a policy that refuses every update of one Secret.
fn policy() -> String {
    let rules = "{matchConstraints: {resourceRules: [{apiGroups: [''], apiVersions: [v1], operations: [UPDATE], resources: [secrets]}]}, \
                 validations: [{expression: \"object.metadata.name != 'old-0003'\", message: not today}]}";
    format!(
        "{{apiVersion: admissionregistration.k8s.io/v1, kind: ValidatingAdmissionPolicy, metadata: {{name: refuses}}, spec: {rules}}}\n---\n\
         {{apiVersion: admissionregistration.k8s.io/v1, kind: ValidatingAdmissionPolicyBinding, metadata: {{name: refuses}}, \
         spec: {{policyName: refuses, validationActions: [Deny]}}}}\n"
    )
}
