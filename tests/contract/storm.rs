//! Starts an API server over thousands of objects, under as many seeds as years of restarts leave.

use std::{collections::BTreeSet, path::PathBuf, time::Instant};

use base64ct::{Base64, Encoding};

use super::{
    config::SECRETS,
    http::request,
    meddler::{Faults, Meddler, Method},
    rig::{Ground, Rig},
    seal::Seed,
};
use crate::harness::api_server::ApiServer;

const OBJECTS: usize = 5_000;
const SEEDS: usize = 1_000;

/// The greatest number of keys that etcd accepts in one transaction.
const AT_ONCE: usize = 100;

fn name(number: usize) -> String {
    format!("stored-{number}")
}

/// Returns a Secret as an API server stores it, without the fields that the API server fills in.
fn object(number: usize) -> String {
    let (name, value) = (name(number), Base64::encode_string(format!("s-value-{number}").as_bytes()));
    let metadata = format!(r#"{{"name":"{name}","namespace":"default"}}"#);
    format!(r#"{{"apiVersion":"v1","kind":"Secret","metadata":{metadata},"data":{{"a":"{value}"}}}}"#)
}

/// Puts `objects` objects into etcd, through the JSON gateway on its client port. Without seeds they are in plaintext.
fn store(ground: &Ground, objects: usize, seeds: &[Seed]) {
    let port = ground.etcd.client_urls()[0].rsplit_once(':').unwrap().1.parse().unwrap();
    for first in (0..objects).step_by(AT_ONCE) {
        let seed = |number: usize| seeds.get(number % seeds.len().max(1));
        let puts: Vec<String> = (first..first + AT_ONCE).map(|number| put(number, seed(number))).collect();
        let body = format!(r#"{{"success":[{}]}}"#, puts.join(","));
        request(port, "POST /v3/kv/txn", &[], body.as_bytes()).unwrap().expect(200);
    }
}

fn put(number: usize, seed: Option<&Seed>) -> String {
    let (etcd_key, object) = (SECRETS.etcd_key(&name(number)), object(number));
    let sealed = seed.map(|seed| seed.seal("claviger", &etcd_key, object.as_bytes()));
    let value = sealed.unwrap_or_else(|| object.into_bytes());
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
    store(&ground, OBJECTS, &seeds);
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

/// Returns the seconds until an API server is ready, and ends it. Without a configuration its only provider is
/// identity.
fn start(ground: &Ground, config: Option<PathBuf>) -> f64 {
    let begin = Instant::now();
    let options = ApiServer::on(&ground.run, &ground.etcd);
    let options = match config {
        Some(config) => options.encryption_config(config),
        None => options,
    };
    let mut api = options.launch().unwrap();
    api.wait_until_ready().unwrap();
    let took = begin.elapsed().as_secs_f64();
    let stored = api.kubectl(&["get", "--raw", "/api/v1/namespaces/default/secrets/stored-1"]).unwrap();
    assert!(stored.contains(&Base64::encode_string(b"s-value-1")), "{stored}");
    api.kill().unwrap();
    took
}

#[test]
#[ignore = "benchmark: starts 14 API servers, half of them without claviger, and prints how long that takes"]
fn a_start_over_10000_secrets_takes_as_long_as_without_encryption() {
    const OBJECTS: usize = 10_000;
    let (plain, mut sealed) = (Ground::prepare(), Ground::prepare());
    sealed.serve();
    store(&plain, OBJECTS, &[]);
    store(&sealed, OBJECTS, &Seed::wrapped_by(&sealed.socket(), 10));
    let mut seconds = [Vec::new(), Vec::new()];
    for _ in 0..7 {
        let config = sealed.plugin.encryption_config(&["secrets"], true).unwrap();
        seconds[0].push(start(&plain, None));
        seconds[1].push(start(&sealed, Some(config)));
    }
    let [identity, claviger] = seconds.map(|mut seconds| {
        seconds.sort_by(f64::total_cmp);
        println!("from {:.2} s to {:.2} s, median {:.2} s", seconds[0], seconds[6], seconds[3]);
        seconds[3]
    });
    println!("{OBJECTS} Secrets: identity {identity:.2} s, claviger {claviger:.2} s, ratio {:.3}", claviger / identity);
}
