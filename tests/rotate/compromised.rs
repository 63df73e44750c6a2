//! Rotates because others may know the keys.

use super::{
    LIMIT, call, events, impatient, keys, rotate,
    stopped::{allow_updates, refuse_updates},
};
use crate::{
    cli::sandbox::{Sandbox, report_snapshot},
    reencrypt::rig::{Rig, has_all},
};

/// Returns for each key whether it is marked as compromised.
fn compromised(sandbox: &Sandbox) -> Vec<bool> {
    let list = sandbox.run("key list --state-dir [DIR]/state --output json").json();
    list["keys"].as_array().unwrap().iter().map(|key| key["compromised"].as_bool().unwrap()).collect()
}

#[test]
fn a_compromised_key_is_replaced_marked_and_disabled() {
    let mut rig = Rig::new();
    rig.create_secrets("old", 5);
    let preview = rotate(&mut rig, "--compromise --dry-run --without-backup --api-servers 1", 0);
    report_snapshot("report/rotate-compromise-dry-run", &preview);
    // Others may know a pending key, too.
    let added = rig.sandbox.run("key add --state-dir [DIR]/state --socket [DIR]/run/kms.sock");
    added.ends_with(0);

    let done = call(&mut rig, "--compromise --without-backup --api-servers 1 --output json").run();
    done.ends_with(0);
    let events = events(&done);
    let all = |name: &str| events.iter().filter(|event| event["event"] == name).collect::<Vec<_>>();
    assert_eq!(all("promoted")[0]["compromised"].as_array().unwrap().len(), 2, "{done}");
    assert_eq!(all("disabled").len(), 2, "{done}");
    let report = events.last().unwrap();
    assert_eq!((&report["outcome"], report["compromised"].as_array().unwrap().len()), (&"clean".into(), 2), "{done}");
    let expected = ["disabled", "disabled", "primary"].iter().zip(1..).map(|(state, seq)| (seq, (*state).to_owned()));
    assert_eq!(keys(&rig), expected.collect::<Vec<_>>());
    assert_eq!(compromised(&rig.sandbox), [true, true, false]);
    rig.is_clean();
    // An API server that remembers nothing reads everything.
    rig.api.restart().unwrap();
    let value = rig.api.kubectl(&["get", "secret", "old-0003", "-o", "jsonpath={.data.password}"]).unwrap();
    assert_eq!(value, "cHctMw==", "pw-3");
}

#[test]
fn a_compromise_takes_over_a_rotation_that_cannot_end_and_does_not_end_before_nothing_needs_an_old_key() {
    let mut rig = Rig::new();
    rig.create_secrets("old", 5);
    refuse_updates(&rig);
    let held = rotate(&mut rig, "--without-backup --api-servers 1", 1);
    has_all(&held, &["error: the rotation is unfinished: 1 object was not re-encrypted"]);

    let line = "--compromise --without-backup --api-servers 1";
    let taken_over = rotate(&mut rig, line, 1);
    has_all(
        &taken_over,
        &["to a new key begins, because others may know the keys before", " are marked as compromised"],
    );
    assert!(!taken_over.stdout.contains("goes on"), "{taken_over}");
    assert_eq!(compromised(&rig.sandbox), [true, true, false]);
    let shown = rig.sandbox.run("status --state-dir [DIR]/state --socket [DIR]/run/kms.sock");
    has_all(&shown, &["! others may know k1-", "can put values into etcd"]);
    let left = "--without-backup --api-servers 1 --leave /registry/secrets/default/old-0003";
    let needed = rotate(&mut rig, left, 1);
    has_all(
        &needed,
        &["error: the compromised keys are not disabled: 1 object that --leave names still needs one of them"],
    );
    let states = |rig: &Rig| keys(rig).into_iter().map(|(_, state)| state).collect::<Vec<_>>();
    assert_eq!(states(&rig), ["decrypt-only", "decrypt-only", "primary"]);

    allow_updates(&rig);
    let ended = rotate(&mut rig, "--without-backup --api-servers 1", 0);
    has_all(&ended, &["The rotation to k3-", " are compromised, and disabled. ", "Restart every API server"]);
    assert_eq!(states(&rig), ["disabled", "disabled", "primary"]);
    rig.is_clean();
}

#[test]
fn a_compromise_ends_after_half_an_hour_if_an_api_server_does_not_settle_and_goes_on_later() {
    let mut rig = Rig::new();
    rig.create_secrets("old", 3);
    let line = "--compromise --without-backup --api-servers 1";
    let program = impatient(&rig);
    let late = rig.cluster_call("rotate --socket [DIR]/run/kms.sock", line).by(&program, LIMIT).run();
    late.ends_with(6);
    let pid = rig.api.process().unwrap().id();
    has_all(
        &late,
        &[
            "error: no compromised key is disabled yet: after 30 min, ",
            &format!("process {pid} of user "),
            " learned k2-",
            "hint:  see how each API server is: claviger status",
            "then go on: claviger rotate",
        ],
    );
    assert_eq!(keys(&rig), [(1, "decrypt-only".to_owned()), (2, "primary".to_owned())]);
    let ended = rotate(&mut rig, "--without-backup --api-servers 1", 0);
    has_all(&ended, &["The rotation to k2-", " is compromised, and disabled. "]);
    assert_eq!(keys(&rig), [(1, "disabled".to_owned()), (2, "primary".to_owned())]);
    rig.is_clean();
}
