//! Tests a sweep during which etcd becomes full.

use std::{
    thread,
    time::{Duration, Instant},
};

use super::rig::Rig;

#[test]
fn a_sweep_ends_when_etcd_becomes_full_and_goes_on_when_there_is_room() {
    let mut rig = Rig::new();
    rig.create_secrets("old", 200);
    rig.promote_and_adopt();
    let child = rig.call("--rate 5").start();
    let begun = Instant::now();
    while !rig.etcd.get("/registry/secrets/default/old-0000").unwrap().unwrap().windows(3).any(|part| part == b"k2-") {
        assert!(begun.elapsed() < Duration::from_mins(1), "it wrote nothing");
        thread::sleep(Duration::from_millis(50));
    }
    // The first write beyond the quota raises the alarm.
    rig.etcd.launch_with(0, &["--quota-backend-bytes=100000"]).unwrap();
    let output = child.wait_with_output().unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    let expected = [
        "etcd refuses every write: ",
        " objects are left\n",
        "refuses every write: its database has become as large as it may (alarm NOSPACE)\n",
        "hint:  make room: etcdctl --endpoints http://",
        " alarm disarm, each with the certificates of etcd; then go on: claviger reencrypt",
    ];
    assert!(expected.iter().all(|text| stdout.contains(text)), "{stdout}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(3), "{stdout}");
    assert!(!stdout.contains("leave an object as it is"), "no object is the reason: {stdout}");

    rig.etcd.launch_with(0, &["--quota-backend-bytes=0"]).unwrap();
    let begun = Instant::now();
    while rig.etcd.run_etcdctl(&["alarm", "disarm"]).is_err() {
        assert!(begun.elapsed() < Duration::from_mins(1), "the alarm stays");
    }
    rig.etcd.wait_until_healthy(0).unwrap();
    rig.reencrypt("--rate unlimited", 0, &["All re-encrypted: "]);
    rig.is_clean();
}
