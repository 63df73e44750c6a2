//! Tests how kube-apiserver checks the answers of a plugin: which answers it refuses, its error texts, and what it then
//! does not do.

use super::{
    meddled::{ANNOTATIONS, MEDDLED, UNWELL, kind},
    meddler::{DELAY, Faults, Method},
};
use crate::harness::wait::wait_until;
use crate::oracle::EncryptedObject;

/// Asserts that the API server refuses the provider `name`: its health check contains `text`, and nothing is written.
fn is_refused(name: &str, text: &str) {
    let rig = &*MEDDLED;
    let health = rig.health(name);
    assert!(health.contains(text), "{health}");
    let answer = rig.create(name, "new").expect(500);
    assert!(answer.contains("got unexpected nil transformer"), "{answer}");
    assert_eq!(rig.etcd.get(&kind(name).etcd_key("new")).unwrap(), None, "and never in the clear");
}

#[test]
fn healthz_other_than_ok_fails_readiness_in_the_words_of_the_plugin() {
    let health = MEDDLED.health("healthz-unwell");
    assert!(health.contains(&format!("got unexpected healthz status: {UNWELL}")), "{health}");
}

#[test]
fn healthz_other_than_ok_at_the_start_stops_no_write() {
    let rig = &*MEDDLED;
    assert!(rig.health("healthz-unwell").contains(UNWELL));
    rig.create("healthz-unwell", "new").expect(201);
    rig.read("healthz-unwell", "new").expect(200);
}

#[test]
fn a_version_other_than_v2_fails_readiness_and_stops_no_write() {
    let rig = &*MEDDLED;
    let health = rig.health("version-unknown");
    assert!(health.contains("expected KMSv2 API version v2, got v3"), "{health}");
    // As with healthz, only the check fails. The key_id and the seed are good.
    rig.create("version-unknown", "new").expect(201);
}

#[test]
fn the_first_version_is_pinned() {
    let rig = &*MEDDLED;
    let text = "KMSv2 API version should not change after the initial status response version v2, got v2beta1";
    wait_until("the other version is refused", || rig.health("later-version").contains(text));
}

#[test]
fn an_empty_key_id_is_refused() {
    is_refused("key-id-empty", r#"got invalid KMSv2 KeyID hash "": keyID is empty"#);
}

#[test]
fn a_key_id_of_1025_bytes_is_refused() {
    is_refused("key-id-long", "keyID is 1025 bytes, which exceeds the max size of 1024");
}

#[test]
fn a_key_id_other_than_that_of_status_is_refused() {
    is_refused("key-id-other", "failed to rotate DEK");
    // The seed was wrapped, and the API server throws it away. Each probe wraps another one.
    assert!(!MEDDLED.meddler("key-id-other").calls_of(Method::Encrypt).is_empty());
}

#[test]
fn an_empty_ciphertext_is_refused() {
    is_refused("ciphertext-empty", "failed to validate encrypted DEK source: encrypted DEK source is empty");
}

#[test]
fn a_ciphertext_of_1025_bytes_is_refused() {
    is_refused("ciphertext-long", "encrypted DEK source is 1025 bytes, which exceeds the max size of 1024");
}

#[test]
fn annotations_over_32_kib_are_refused() {
    let text = format!("total size of annotations is {}, which exceeds the max size of {ANNOTATIONS}", ANNOTATIONS + 1);
    is_refused("annotations-big", &text);
}

#[test]
fn an_annotation_whose_name_is_no_domain_is_refused() {
    is_refused("annotations-name", "should be a domain with at least two segments separated by dots");
}

#[test]
fn the_longest_answers_are_taken() {
    let rig = &*MEDDLED;
    assert_eq!(rig.health("all-at-the-limit"), "");
    rig.create("all-at-the-limit", "new").expect(201);
    rig.read("all-at-the-limit", "new").expect(200);
    let stored = rig.etcd.get("/registry/ingress/default/new").unwrap().unwrap();
    let object = EncryptedObject::parse("all-at-the-limit", &stored);
    assert_eq!((object.key_id.len(), object.encrypted_dek_source.len()), (1024, 1024));
    assert_eq!(object.annotations["a.example.com"].len() + "a.example.com".len(), ANNOTATIONS);
}

#[test]
fn a_seed_under_32_bytes_is_refused() {
    let rig = &*MEDDLED;
    rig.put_sealed("seed-short", "sealed", &rig.seed("seed-short"));
    let answer = rig.read("seed-short", "sealed").expect(500);
    assert!(answer.contains("invalid seed length"), "{answer}");
    // The API server keeps nothing of the wrong answer. It reads the object as soon as the answer is right.
    rig.meddler("seed-short").meddle(Faults::NONE);
    rig.read("seed-short", "sealed").expect(200);
}

#[test]
fn a_dek_of_kubernetes_1_27_is_still_read() {
    let (rig, kind) = (&*MEDDLED, kind("key-unknown"));
    let etcd_key = kind.etcd_key("of-1-27");
    let value = rig.seed("key-unknown").seal_as_dek("key-unknown", &etcd_key, kind.object("of-1-27").as_bytes());
    rig.etcd.put(&etcd_key, &value).unwrap();
    rig.read("key-unknown", "of-1-27").expect(200);
}

#[test]
fn a_wrong_seed_is_kept_and_never_asked_for_again() {
    let rig = &*MEDDLED;
    rig.put_sealed("seed-wrong", "sealed", &rig.seed("seed-wrong"));
    // The test reads several times, because the watch asks for the value at about the same time.
    (0..3).for_each(|_| drop(rig.read("seed-wrong", "sealed").expect(500)));
    rig.meddler("seed-wrong").meddle(Faults::NONE);
    let before = rig.meddler("seed-wrong").calls_of(Method::Decrypt).len();
    // A right answer comes too late.
    let answer = rig.read("seed-wrong", "sealed").expect(500);
    assert!(answer.contains("message authentication failed"), "{answer}");
    assert_eq!(rig.meddler("seed-wrong").calls_of(Method::Decrypt).len(), before);
}

#[test]
fn a_call_may_take_3_s() {
    let rig = &*MEDDLED;
    rig.put_sealed("decrypt-late", "sealed", &rig.seed("decrypt-late"));
    let answer = rig.read("decrypt-late", "sealed").expect(500);
    assert!(answer.contains("context deadline exceeded"), "{answer}");
}

#[test]
fn the_configuration_may_give_a_call_longer() {
    let rig = &*MEDDLED;
    rig.put_sealed("decrypt-late-patient", "sealed", &rig.seed("decrypt-late-patient"));
    rig.read("decrypt-late-patient", "sealed").expect(200);
    let calls = rig.meddler("decrypt-late-patient").calls_of(Method::Decrypt);
    assert!(calls.iter().all(|call| call.waits_for() > DELAY), "{calls:?}");
}
