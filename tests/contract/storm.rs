//! An API server starts over thousands of objects that are under as many seeds as years of restarts leave.

use std::collections::BTreeSet;

use base64ct::{Base64, Encoding};

use super::{
    config::SECRETS,
    http::request,
    meddler::{Faults, Meddler, Method},
    rig::{Ground, Rig},
    seal::Seed,
};

const OBJECTS: usize = 5_000;
const SEEDS: usize = 1_000;

/// Keys that etcd takes in one transaction.
const AT_ONCE: usize = 100;

fn name(number: usize) -> String {
    format!("stored-{number}")
}

/// A Secret as an API server stores it, but for what it would fill in.
fn object(number: usize) -> String {
    let (name, value) = (name(number), Base64::encode_string(format!("s-value-{number}").as_bytes()));
    let metadata = format!(r#"{{"name":"{name}","namespace":"default"}}"#);
    format!(r#"{{"apiVersion":"v1","kind":"Secret","metadata":{metadata},"data":{{"a":"{value}"}}}}"#)
}

/// Puts all objects into etcd, through the JSON gateway on its client port.
fn store(ground: &Ground, seeds: &[Seed]) {
    let port = ground.etcd.client_urls()[0].rsplit_once(':').unwrap().1.parse().unwrap();
    for first in (0..OBJECTS).step_by(AT_ONCE) {
        let puts: Vec<String> = (first..first + AT_ONCE).map(|number| put(number, &seeds[number % SEEDS])).collect();
        let body = format!(r#"{{"success":[{}]}}"#, puts.join(","));
        request(port, "POST /v3/kv/txn", &[], body.as_bytes()).unwrap().expect(200);
    }
}

fn put(number: usize, seed: &Seed) -> String {
    let etcd_key = SECRETS.etcd_key(&name(number));
    let value = seed.seal("claviger", &etcd_key, object(number).as_bytes());
    let [key, value] = [etcd_key.as_bytes(), &value].map(Base64::encode_string);
    format!(r#"{{"requestPut":{{"key":"{key}","value":"{value}"}}}}"#)
}

fn reads_back(rig: &Rig, number: usize) {
    let answer = rig.front.get(&SECRETS.path(&name(number))).expect(200);
    let secret: serde_json::Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(secret["data"]["a"], Base64::encode_string(format!("s-value-{number}").as_bytes()));
}

#[test]
fn an_api_server_starts_over_5000_secrets_under_1000_seeds() {
    let mut ground = Ground::prepare();
    ground.serve();
    let meddler = Meddler::start(&ground.run.socket("m.sock").unwrap(), &[&ground.socket()], Faults::NONE);
    let seeds = Seed::wrapped_by(&ground.socket(), SEEDS);
    store(&ground, &seeds);
    let mut rig = ground.launch(meddler.socket(), &["secrets"]);
    rig.api.wait_until_ready().unwrap();
    let decrypts = meddler.calls_of(Method::Decrypt);
    let distinct: BTreeSet<&[u8]> = decrypts.iter().map(|call| call.ciphertext.as_slice()).collect();
    println!("{OBJECTS} objects under {SEEDS} seeds: {} calls of Decrypt until ready", decrypts.len());
    assert_eq!(distinct.len(), SEEDS, "every seed is asked for before the API server is ready");
    for number in (0..OBJECTS).step_by(OBJECTS / 50) {
        reads_back(&rig, number);
    }
    assert_eq!(meddler.calls_of(Method::Decrypt).len(), decrypts.len(), "and none of them again");
}
