//! A rotation that is given up.

use super::{keys, resumed::killed_after, rotate};
use crate::reencrypt::rig::{Rig, STATE, has_all};

#[test]
fn a_rotation_is_given_up_until_its_key_is_primary() {
    let mut rig = Rig::new();
    rig.create_secrets("old", 3);
    let give_up = format!("rotate --give-up {STATE}");
    let none = rig.sandbox.refused(3, &give_up);
    has_all(&none, &["error: no rotation is unfinished, so there is none to give up"]);
    // It stops, because no backup holds its key.
    rotate(&mut rig, "--api-servers 1", 3);
    let added = rig.sandbox.run(&format!("key add {STATE}"));
    added.ends_with(0);
    has_all(&added, &["so the new key can be promoted only after it", "finish it: claviger rotate"]);
    let promote = format!("key promote k3 --without-backup {STATE}");
    let refused = rig.sandbox.refused(3, &promote);
    has_all(
        &refused,
        &["error: a rotation to k2-", "or give it up: claviger rotate --state-dir [DIR]/state --give-up; or"],
    );

    let ended = rig.sandbox.run(&give_up);
    ended.ends_with(0);
    has_all(
        &ended,
        &[
            " is given up; k1-",
            " stays primary\n",
            " stays pending\n",
            "to promote it by hand: claviger key promote --state-dir [DIR]/state k2-",
            "to take it out of use: claviger key disable --state-dir [DIR]/state --etcd-servers URL k2-",
        ],
    );
    rig.sandbox.refused(3, &give_up);
    let status = rig.sandbox.run(&format!("status {STATE} --socket [DIR]/run/kms.sock"));
    assert!(!status.stdout.contains("is unfinished"), "{status}");
    rig.sandbox.run(&promote).ends_with(0);
    let in_states = |rig: &Rig| keys(rig).into_iter().map(|(_, state)| state).collect::<Vec<_>>();
    assert_eq!(in_states(&rig), ["decrypt-only", "pending", "primary"]);

    // The next rotation goes on to the present primary key, and cannot be given up.
    killed_after(&mut rig, "began");
    let primary = rig.sandbox.refused(3, &give_up);
    has_all(
        &primary,
        &[
            "error: k3-",
            " is not pending any more, so its rotation is not given up",
            "nothing is lost; finish the rotation: claviger rotate",
        ],
    );
    rotate(&mut rig, "--without-backup --api-servers 1", 0);
    assert_eq!(in_states(&rig), ["decrypt-only", "pending", "primary"]);
    rig.is_clean();

    // In JSON, and before there is a key.
    killed_after(&mut rig, "began");
    let report = rig.sandbox.run(&format!("{give_up} --output json")).json();
    assert_eq!(report["format"], "claviger/rotate-given-up/v1", "{report}");
    assert!(report["primary"].as_str().unwrap().starts_with("k3-"), "{report}");
}
