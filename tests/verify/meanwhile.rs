//! Tests changes while `verify` reads etcd: etcd compacts the revision, or the primary key changes.

use std::thread;

use super::rig::{Named, Rig, STATE, value};
use crate::{
    cli::sandbox::Answer,
    scan::{
        proxy::{Proxy, Then},
        writer::Writer,
    },
};

/// The number of Secrets: more than the first page has.
const SECRETS: usize = 700;
/// A place in the middle of the first page, in bytes.
const MIDDLE: usize = 64 << 10;

/// The number of times that `verify` reads.
const ATTEMPTS: usize = 3;

/// Puts many Secrets under `key`.
fn fill(writer: &mut Writer, key: &Named) -> u64 {
    let bytes = value("claviger", key);
    let names: Vec<String> = (0..SECRETS).map(|number| format!("/registry/secrets/many/{number:05}")).collect();
    let parts = names.chunks(100).map(|part| part.iter().map(|name| (name.as_str(), bytes.as_slice())));
    parts.map(|part| writer.put_all(part).unwrap()).max().unwrap()
}

/// Runs `verify` through a proxy that stops in the middle of the first page of every attempt. Calls `meanwhile` then,
/// with the number of the attempt.
fn verify_while(rig: &Rig, attempts: usize, more: &str, mut meanwhile: impl FnMut(usize)) -> Answer {
    let proxy = Proxy::start(&rig.etcd.endpoints(), MIDDLE, Then::HoldEach);
    let flags = rig.flags().replace(&rig.etcd.endpoints(), &proxy.url());
    let line = format!("verify {flags} {more}");
    thread::scope(|scope| {
        let verifying = scope.spawn(|| rig.sandbox.run(&line));
        for attempt in 0..attempts {
            proxy.wait_until_held();
            meanwhile(attempt);
            proxy.release();
        }
        verifying.join().unwrap()
    })
}

#[test]
fn an_etcd_that_compacts_during_the_scan_is_read_again_and_if_it_never_stops_nothing_is_proven() {
    let rig = Rig::new();
    let (mut writer, primary) = (Writer::new(&rig.etcd.endpoints()), rig.key(2));
    fill(&mut writer, &primary);
    let bytes = value("claviger", &primary);
    let mut revisions = Vec::new();
    let mut compact = |number: usize| {
        // The next page cannot be read at the revision of the first one.
        let revision = writer.put(&format!("/registry/secrets/zz/{number}"), &bytes).unwrap();
        writer.compact(revision, false).unwrap();
        revisions.push(revision);
    };
    // The compaction happens once. The second attempt counts, because it has one revision.
    let once = verify_while(&rig, 2, "--output json", |attempt| {
        if attempt == 0 {
            compact(0);
        }
    });
    let json = once.ends_with(0).json();
    assert_eq!(
        (&json["outcome"], &json["etcds"][0]["revision"]),
        (&"clean".into(), &rig.etcd.revision().unwrap().into())
    );
    let counted = SECRETS + 3;
    assert!(json["report"]["text"].as_str().unwrap().contains(&format!("objects={counted} ")), "{json}");
    // The compaction happens each time, so the rest was read at a later revision than the first page.
    let always = verify_while(&rig, ATTEMPTS, "--to [DIR]/several.report", |attempt| compact(attempt + 1));
    always.ends_with(7);
    let says = "Not proven clean. etcd was not read at one revision, because it compacted during the scan\n";
    assert!(always.stdout.starts_with(says), "{always}");
    assert!(always.stdout.contains("hint:  API servers compact etcd every 5 minutes"), "{always}");
    assert!(always.stdout.contains(&format!("revision {}\n", revisions[ATTEMPTS])), "{always}");
    // The report says so, too, when it is compared later.
    rig.says("--report [DIR]/several.report", 0, &["shortfall several-revisions: yes, now none\n"]);
}

#[test]
fn a_key_that_is_promoted_during_the_scan_is_what_the_report_is_about() {
    let rig = Rig::new();
    let (mut writer, before) = (Writer::new(&rig.etcd.endpoints()), rig.key(2));
    fill(&mut writer, &before);
    let change = |line: &str| drop(rig.done(&format!("{line} {STATE}")));
    let promoted = verify_while(&rig, 2, "--output json --to [DIR]/a.report", |attempt| {
        if attempt == 0 {
            change("key add");
            change("key promote k3 --without-backup");
        }
    });
    // All values are under k2, which was primary when the scan began.
    let json = promoted.ends_with(1).json();
    let primary = rig.key(3).key_id;
    assert_eq!((&json["outcome"], &json["keyring"]["primary"]), (&"left-over".into(), &primary.as_str().into()));
    assert_eq!(json["found"]["stale"], SECRETS + 3, "{json}");
    let later = rig.says("--report [DIR]/a.report", 1, &["  addresses of etcd: "]);
    assert!(!later.stdout.contains("primary key: ") && !later.stdout.contains("generation of "), "{later}");

    // If the changes do not end, the report proves nothing.
    let restless = verify_while(&rig, ATTEMPTS, "--to [DIR]/b.report", |_| change("key add"));
    restless.ends_with(3);
    assert_eq!(restless.stdout, "");
    let error = "error: the keyring was changed during each scan, so nothing is proven about its primary key\n";
    assert!(restless.stderr.starts_with(error), "{restless}");
    assert!(
        restless.stderr.contains("hint:  wait until nobody changes keys: claviger verify --state-dir "),
        "{restless}"
    );
    assert!(!rig.sandbox.path("b.report").exists());
}
