//! Tests an API server while its plugin is unhealthy, refuses calls, or was not asked yet: its writes, its reads, and
//! the texts that its clients see.

use super::{
    meddled::{EARLY, MEDDLED, UNWELL, kind, serving},
    meddler::{Faults, Method},
    seal::Seed,
};
use crate::harness::wait::wait_until;

#[test]
fn healthz_other_than_ok_later_stops_neither_writes_nor_reads() {
    let rig = &*MEDDLED;
    wait_until("the check fails", || rig.health("later-unwell").contains(UNWELL));
    rig.create("later-unwell", "new").expect(201);
    rig.read("later-unwell", "new").expect(200);
    rig.read("later-unwell", EARLY).expect(200);
}

#[test]
fn a_refused_status_fails_readiness_and_writes_coast() {
    let rig = &*MEDDLED;
    let refusal = "code = Unavailable desc = sealed: the keyring is not open yet";
    wait_until("the check fails", || rig.health("later-refused").contains(refusal));
    rig.create("later-refused", "new").expect(201);
    rig.read("later-refused", "new").expect(200);
    rig.read("later-refused", EARLY).expect(200);
}

#[test]
fn a_status_refused_from_the_start_stops_writes_and_reads_until_it_is_answered() {
    let rig = &*MEDDLED;
    rig.put_sealed("refused", "sealed", &rig.seed("refused"));
    let no_seed = "got unexpected nil transformer";
    assert!(rig.create("refused", "new").expect(500).contains(no_seed));
    assert!(rig.read("refused", "sealed").expect(500).contains(no_seed));
    // The API server itself repeats a failed check every 10 s, so nobody has to restart it.
    rig.meddler("refused").meddle(Faults::NONE);
    wait_until("writes work", || rig.create("refused", "new").status == 201);
    rig.read("refused", "sealed").expect(200);
}

#[test]
fn reads_fail_until_one_encrypt_has_succeeded() {
    let rig = &*MEDDLED;
    let meddler = rig.meddler("encrypt-refused");
    rig.put_sealed("encrypt-refused", "sealed", &rig.seed("encrypt-refused"));
    let answer = rig.read("encrypt-refused", "sealed").expect(500);
    assert!(answer.contains("got unexpected nil transformer"), "{answer}");
    assert_eq!(meddler.calls_of(Method::Decrypt).len(), 0, "Decrypt would have worked and is not asked");
    meddler.meddle(Faults::NONE);
    wait_until("reads work", || rig.read("encrypt-refused", "sealed").status == 200);
}

#[test]
fn clients_see_an_unknown_key_id_in_fixed_words() {
    let rig = &*MEDDLED;
    // The seed is real, and is under a key of another installation. Nobody here has that key.
    let _elsewhere = serving(&rig.run, "elsewhere");
    rig.put_sealed("key-unknown", "theirs", &Seed::one_wrapped_by(&rig.run.path("elsewhere.sock")));
    let answer = rig.read("key-unknown", "theirs").expect(500);
    let expected = "Internal error occurred: StorageError: corrupt object, Code: 7, \
        Key: /statefulsets/default/theirs, ResourceVersion: 0, AdditionalErrorMsg: data from the storage is not \
        transformable revision=0: failed to decrypt DEK, error: rpc error: code = NotFound desc = unknown key_id";
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer["message"], expected);
    // kubectl shows that text only: the object and the reason, without a path or a key.
    let shown = rig.api.kubectl(&["get", "statefulset", "theirs"]).unwrap_err().to_string();
    assert!(shown.contains(&format!("Error from server (InternalError): {expected}")), "{shown}");
}

#[test]
fn a_value_under_another_provider_name_is_orphaned() {
    let rig = &*MEDDLED;
    let kind = kind("key-unknown");
    let seed = rig.seed("key-unknown");
    // After a rename of the provider, the plugin has the key, but the API server never asks it.
    let value = seed.seal("name-before", &kind.etcd_key("orphan"), kind.object("orphan").as_bytes());
    rig.etcd.put(&kind.etcd_key("orphan"), &value).unwrap();
    let answer = rig.read("key-unknown", "orphan").expect(500);
    assert!(answer.contains("no matching prefix found"), "{answer}");
    rig.put_sealed("key-unknown", "orphan", &seed);
    rig.read("key-unknown", "orphan").expect(200);
}

#[test]
fn what_does_not_open_is_deleted_only_by_asking_for_damage() {
    let rig = &*MEDDLED;
    let _elsewhere = serving(&rig.run, "elsewhere-3");
    rig.put_sealed("key-unknown", "corrupt", &Seed::one_wrapped_by(&rig.run.path("elsewhere-3.sock")));
    let path = kind("key-unknown").path("corrupt");
    rig.front.delete(&path).expect(500);
    let unsafe_path = format!("{path}?ignoreStoreReadErrorWithClusterBreakingPotential=true");
    rig.front.delete(&unsafe_path).expect(200);
    assert_eq!(rig.etcd.get(&kind("key-unknown").etcd_key("corrupt")).unwrap(), None);
}

#[test]
fn what_cannot_be_read_for_the_moment_can_be_lost_the_same_way() {
    let rig = &*MEDDLED;
    rig.put_sealed("decrypt-late", "sound", &rig.seed("decrypt-late"));
    let path = kind("decrypt-late").path("sound");
    rig.front.delete(&path).expect(500);
    // The plugin has the key, and would answer a second later.
    rig.front.delete(&format!("{path}?ignoreStoreReadErrorWithClusterBreakingPotential=true")).expect(200);
    assert_eq!(rig.etcd.get(&kind("decrypt-late").etcd_key("sound")).unwrap(), None);
}

#[test]
fn one_object_that_does_not_open_breaks_the_list_of_its_type() {
    let rig = &*MEDDLED;
    rig.create("list-broken", "good").expect(201);
    let collection = kind("list-broken").collection();
    rig.front.get(&collection).expect(200);
    let _elsewhere = serving(&rig.run, "elsewhere-too");
    rig.put_sealed("list-broken", "theirs", &Seed::one_wrapped_by(&rig.run.path("elsewhere-too.sock")));
    let mut answer = String::new();
    wait_until("the list is broken", || {
        let list = rig.front.get(&collection);
        answer = list.body;
        list.status == 500
    });
    let reason = "failed to decrypt DEK, error: rpc error: code = NotFound desc = unknown key_id";
    assert!(answer.contains(&kind("list-broken").etcd_key("theirs")) && answer.contains(reason), "{answer}");
    // Each of the other objects can still be read by its name.
    rig.read("list-broken", "good").expect(200);
    rig.etcd.run_etcdctl(&["del", &kind("list-broken").etcd_key("theirs")]).unwrap();
    wait_until("the list is whole again", || rig.front.get(&collection).status == 200);
}
