//! Tests a new key_id: how an API server adopts it, which objects are stale then, and which updates rewrite them.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::{
    kms::key_id,
    meddled::{MEDDLED, Meddled, STALE},
    meddler::Method,
};
use crate::harness::wait::wait_until;
use crate::oracle::EncryptedObject;

const MERGE: &str = "merge-patch+json";
const METADATA: &str = "Accept: application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";

/// The number of Secrets that were written to see which key they come under.
static PROBES: AtomicUsize = AtomicUsize::new(0);

fn stored(rig: &Meddled, name: &str) -> Vec<u8> {
    rig.etcd.get(&format!("/registry/secrets/default/{name}")).unwrap().expect("the Secret is in etcd")
}

fn stored_key_id(rig: &Meddled, name: &str) -> String {
    EncryptedObject::parse("later-promoted", &stored(rig, name)).key_id
}

/// Returns the key_ids of the plugin's two keys: the first one, and the promoted one.
fn key_ids(rig: &Meddled) -> (String, String) {
    let [first, second] = rig.meddler("later-promoted").backends() else { panic!("two backends") };
    (key_id(first), key_id(second))
}

/// Waits until new writes are under the promoted key. Each request to the health check may be the probe that shows the
/// API server the new key.
fn wait_for_adoption(rig: &Meddled) {
    let (_, promoted) = key_ids(rig);
    wait_until("the promoted key is used", || {
        rig.front.providers();
        let name = format!("probe-{}", PROBES.fetch_add(1, Ordering::Relaxed));
        rig.create("later-promoted", &name).expect(201);
        stored_key_id(rig, &name) == promoted
    });
}

/// Asserts that `update` rewrites a stale Secret, and does not write a fresh one.
fn rewrites_what_is_stale(name: &str, update: impl Fn(&str)) {
    let rig = &*MEDDLED;
    let (first, promoted) = key_ids(rig);
    assert!(STALE.contains(&name));
    wait_for_adoption(rig);
    assert_eq!(stored_key_id(rig, name), first);
    let path = format!("/api/v1/namespaces/default/secrets/{name}");
    update(&path);
    assert_eq!(stored_key_id(rig, name), promoted, "what is stale is rewritten");
    let fresh = stored(rig, name);
    update(&path);
    assert_eq!(stored(rig, name), fresh, "what is fresh is not written");
}

#[test]
fn a_new_key_id_is_adopted_and_the_old_one_still_read() {
    let rig = &*MEDDLED;
    let (first, _) = key_ids(rig);
    wait_for_adoption(rig);
    assert_eq!(stored_key_id(rig, "untouched"), first);
    rig.read("later-promoted", "untouched").expect(200);
    // After the start, only a new key_id makes the API server ask for another seed.
    assert_eq!(rig.meddler("later-promoted").calls_of(Method::Encrypt).len(), 2);
}

#[test]
fn a_put_of_what_is_there_rewrites_a_stale_object() {
    rewrites_what_is_stale("by-put", |path| {
        let object = MEDDLED.front.get(path).expect(200);
        let headers = ["Content-Type: application/json"];
        MEDDLED.front.try_request(&format!("PUT {path}"), &headers, &object).unwrap().expect(200);
    });
}

#[test]
fn an_empty_merge_patch_rewrites_a_stale_object() {
    rewrites_what_is_stale("by-merge", |path| drop(MEDDLED.front.patch(path, MERGE, "{}").expect(200)));
}

#[test]
fn an_empty_strategic_patch_rewrites_a_stale_object() {
    rewrites_what_is_stale("by-strategic", |path| {
        MEDDLED.front.patch(path, "strategic-merge-patch+json", "{}").expect(200);
    });
}

#[test]
fn an_empty_json_patch_rewrites_a_stale_object() {
    rewrites_what_is_stale("by-json", |path| drop(MEDDLED.front.patch(path, "json-patch+json", "[]").expect(200)));
}

#[test]
fn an_apply_of_nothing_rewrites_a_stale_object() {
    rewrites_what_is_stale("by-apply", |path| {
        let object = r#"{"apiVersion":"v1","kind":"Secret","metadata":{"name":"by-apply"}}"#;
        let query = format!("{path}?fieldManager=test");
        MEDDLED.front.patch(&query, "apply-patch+yaml", object).expect(200);
    });
}

#[test]
fn a_patch_that_asks_for_metadata_rewrites_an_immutable_secret_and_shows_nothing_of_it() {
    rewrites_what_is_stale("by-metadata", |path| {
        let headers = [METADATA, "Content-Type: application/merge-patch+json"];
        let before = stored_managers(path);
        let answer = MEDDLED.front.try_request(&format!("PATCH {path}"), &headers, "{}").unwrap().expect(200);
        assert!(answer.contains(r#""kind":"PartialObjectMetadata""#) && !answer.contains("cy1zZWNyZXQ="), "{answer}");
        assert_eq!(stored_managers(path), before);
    });
}

fn stored_managers(path: &str) -> serde_json::Value {
    let secret: serde_json::Value = serde_json::from_str(&MEDDLED.front.get(path).expect(200)).unwrap();
    assert_eq!(secret["immutable"], true);
    secret["metadata"]["managedFields"].clone()
}

#[test]
fn an_empty_patch_creates_nothing() {
    MEDDLED.front.patch("/api/v1/namespaces/default/secrets/never-made", MERGE, "{}").expect(404);
}
