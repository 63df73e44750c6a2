//! A rotation waits for events under the old key, and not for ever.

use super::{events, keys, rotate};
use crate::reencrypt::rig::{Rig, has_all};

const EVENT: &str = "
apiVersion: v1
kind: Event
metadata: {name: happened, namespace: default}
involvedObject: {kind: Pod, namespace: default, name: a}
reason: Test
";

#[test]
fn events_that_do_not_expire_are_named_after_their_lifetime() {
    let mut rig = Rig::with_events();
    rig.create_secrets("old", 3);
    rig.apply(EVENT);
    // Written again without a lease, the event never expires.
    let key = "/registry/events/default/happened";
    let value = rig.etcd.get(key).unwrap().unwrap();
    rig.etcd.put(key, &value).unwrap();
    let stopped = rotate(&mut rig, "--without-backup --api-servers 1 --output json", 1);
    let waits: Vec<u64> = events(&stopped)
        .iter()
        .filter(|event| event["gate"] == "events")
        .map(|event| event["seconds"].as_u64().unwrap())
        .collect();
    assert!(waits.len() > 5 && waits[0] == 15 * 60, "{stopped}");
    assert!(waits.windows(2).all(|pair| pair[1] < pair[0]), "{waits:?}");
    has_all(
        &stopped,
        &[
            "the rotation is unfinished: after 15 min, 1 event is still under another key, and should have expired",
            "hint\":\"see them: claviger scan ",
        ],
    );
    for left in rig.etcd.keys("/registry/events/").unwrap() {
        rig.etcd.run_etcdctl(&["del", &left]).unwrap();
    }
    rotate(&mut rig, "--without-backup --api-servers 1", 0);
    assert_eq!(keys(&rig), [(1, "decrypt-only".to_owned()), (2, "primary".to_owned())]);
}
