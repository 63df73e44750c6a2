//! Kills a rotation, and continues it.

use std::{
    fs,
    io::{BufRead, BufReader},
};

use super::{call, keys, rotate};
use crate::reencrypt::rig::Rig;

/// Runs a rotation until it has printed an event of this kind, and kills it.
pub(super) fn killed_after(rig: &mut Rig, event: &str) {
    let mut child = call(rig, "--without-backup --api-servers 1 --rate 20 --output json").start();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let wanted = format!("\"event\":\"{event}\"");
    let mut seen = Vec::new();
    while let Some(Ok(line)) = lines.next() {
        seen.push(line);
        if seen.iter().any(|line| line.contains(&wanted)) {
            break;
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(seen.last().is_some_and(|line| line.contains(&wanted)), "{event} never came: {seen:?}");
}

#[test]
fn a_rotation_that_is_killed_at_every_edge_goes_on_to_the_same_key() {
    let mut rig = Rig::new();
    rig.create_secrets("old", 40);
    for event in ["began", "added", "promoted", "published", "scanned", "rewritten", "waiting"] {
        killed_after(&mut rig, event);
        let made = keys(&rig);
        assert!(made.len() <= 2, "after {event}: {made:?}");
        let is_begun = event != "began";
        if is_begun {
            let status = rig.sandbox.run("status --state-dir [DIR]/state --socket [DIR]/run/kms.sock");
            assert_eq!(status.code, 1, "{status}");
            assert!(status.stdout.contains("unfinished, in the phase"), "after {event}: {status}");
        }
    }
    rig.sandbox.run("key add --state-dir [DIR]/state").ends_with(0);
    let refused = rig.sandbox.refused(3, "key promote k3 --without-backup --state-dir [DIR]/state");
    assert!(refused.stderr.contains("error: a rotation to k2-"), "{refused}");
    assert!(refused.stderr.contains("hint:  finish it: claviger rotate"), "{refused}");
    let all_the_same = "claviger key promote --state-dir [DIR]/state --without-backup k3-";
    assert!(refused.stderr.contains(all_the_same) && refused.stderr.contains(" --despite-rotation\n"), "{refused}");
    // No flag promotes a key that has been primary.
    let refused = rig.sandbox.refused(3, "key promote k1 --state-dir [DIR]/state");
    assert!(refused.stderr.contains("is decrypt-only and cannot be promoted"), "{refused}");
    assert!(!refused.stderr.contains("--despite-rotation"), "{refused}");
    // A new root key would void the plan.
    let rekey = rig.sandbox.refused(3, "rekey --state-dir [DIR]/state");
    let hint = "hint:  finish it: claviger rotate --state-dir [DIR]/state --etcd-servers URL --encryption-config FILE; or replace the root key all the same: claviger rekey --state-dir [DIR]/state --despite-rotation";
    assert!(rekey.stderr.contains(hint), "{rekey}");
    let done = rotate(&mut rig, "--without-backup --api-servers 1 --rate unlimited", 0);
    assert!(done.stdout.contains("The rotation to k2-"), "{done}");
    assert_eq!(keys(&rig)[..2], [(1, "decrypt-only".to_owned()), (2, "primary".to_owned())]);
    rig.is_clean();
    rig.sandbox.run("key promote k3 --without-backup --state-dir [DIR]/state").ends_with(0);
    // A rekey voids the plan, which then blocks nothing.
    for line in ["rekey", "key add", "key promote k4 --without-backup"] {
        rig.sandbox.run(&format!("{line} --state-dir [DIR]/state")).ends_with(0);
    }
}

#[test]
fn a_plan_that_is_lost_or_damaged_costs_no_key() {
    let mut rig = Rig::new();
    rig.create_secrets("old", 20);
    killed_after(&mut rig, "published");
    let file = rig.sandbox.path("state/rotation");
    let plan = fs::read(&file).unwrap();
    fs::remove_file(&file).unwrap();
    let finished = rotate(&mut rig, "--dry-run --without-backup --api-servers 1", 0);
    assert!(finished.stdout.contains("finish an earlier rotation to k2-"), "{finished}");
    let wait = ", until no API server writes under the old key; each call of the command begins this wait anew\n";
    assert!(finished.stdout.contains(wait), "{finished}");
    fs::write(&file, &plan[1..]).unwrap();
    rig.sandbox.chmod("state/rotation", 0o600);
    let done = rotate(&mut rig, "--without-backup --api-servers 1 --rate unlimited", 0);
    assert!(done.stderr.contains("warning: the plan of the rotation: not a rotation file"), "{done}");
    assert!(done.stdout.contains("finishes an earlier one"), "{done}");
    assert_eq!(keys(&rig), [(1, "decrypt-only".to_owned()), (2, "primary".to_owned())]);
    rig.is_clean();
}
