//! A rotation from its beginning to its end.

use super::{call, events, keys, rotate};
use crate::reencrypt::rig::Rig;

#[test]
fn a_rotation_ends_with_a_proof_and_the_next_one_makes_another_key() {
    let mut rig = Rig::new();
    rig.create_others();
    rig.create_secrets("old", 30);
    let preview = rotate(&mut rig, "--dry-run --without-backup", 0);
    assert_eq!(keys(&rig), [(1, "primary".to_owned())], "a dry run changes nothing");
    assert!(preview.stdout.contains("have the API server re-encrypt 3"), "{preview}");

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
