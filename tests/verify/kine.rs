//! Verifies kine instead of etcd. kine has no number of its cluster, and counts revisions in its own way.

use std::thread;

use super::rig::{PLAINTEXT, Rig, value};
use crate::{
    harness::kine::Kine,
    scan::{
        proxy::{Proxy, Then},
        writer::Writer,
    },
};

/// The number of Secrets: more than the first page has.
const SECRETS: usize = 700;
/// A place in the middle of the first page, in bytes.
const MIDDLE: usize = 64 << 10;

#[test]
fn kine_is_proven_clean_and_its_reports_count_as_those_of_etcd_do() {
    let rig = Rig::new();
    let kine = Kine::on_loopback(&rig.run).unwrap();
    let mut writer = Writer::new(&kine.url());
    writer.put("/registry/namespaces/default", PLAINTEXT).unwrap();
    let primary = value("claviger", &rig.key(2));
    for number in 0..SECRETS {
        writer.put(&format!("/registry/secrets/many/{number:05}"), &primary).unwrap();
    }
    let flags = |url: &str| rig.flags().replace(&rig.etcd.endpoints(), url);
    let run = |url: &str, more: &str| rig.sandbox.run(&format!("verify {} {more}", flags(url)));
    let clean = run(&kine.url(), "--to [DIR]/a.report");
    clean.ends_with(0);
    assert!(clean.stdout.starts_with(&format!("Clean: {SECRETS} values are under the primary key")), "{clean}");
    assert!(!clean.stdout.contains(", cluster "), "{clean}");
    let same = run(&kine.url(), "--report [DIR]/a.report");
    assert!(same.ends_with(0).stdout.contains("  nothing has changed\n"), "{same}");

    // kine forgets the revision in the middle of the first page, after an object was written in plaintext.
    let proxy = Proxy::start(&kine.url(), MIDDLE, Then::HoldEach);
    let (url, more) = (proxy.url(), "--output json");
    let answer = thread::scope(|scope| {
        let verifying = scope.spawn(|| run(&url, more));
        proxy.wait_until_held();
        writer.put("/registry/secrets/many/00300", &primary).unwrap();
        let revision = writer.put("/registry/secrets/zz/plain", PLAINTEXT).unwrap();
        writer.compact(revision, true).unwrap();
        proxy.release();
        proxy.wait_until_held();
        proxy.release();
        verifying.join().unwrap()
    });
    let json = answer.ends_with(1).json();
    assert_eq!(
        (&json["found"]["plaintext-although-covered"], &json["shortfalls"]),
        (&1.into(), &serde_json::json!([]))
    );

    // Another kine is another etcd. An older database of the same kine has a lower revision.
    let other = Kine::on_loopback(&rig.run).unwrap();
    let mut writer = Writer::new(&other.url());
    writer.put("/registry/namespaces/default", PLAINTEXT).unwrap();
    writer.put("/registry/secrets/many/00000", &primary).unwrap();
    let replaced = run(&other.url(), "--report [DIR]/a.report");
    let says = format!(
        "! the API server's etcd is {} now, and the report read {}, which has no number to compare",
        other.url(),
        kine.url()
    );
    assert!(replaced.ends_with(1).stdout.contains(&says), "{replaced}");
}
