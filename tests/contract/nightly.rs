//! Tests the rules that take minutes, with the real waits. Each is the long form of a shorter test.

use std::{
    thread,
    time::{Duration, Instant},
};

use super::{
    config::SECRETS,
    meddled::UNWELL,
    meddler::{Faults, Meddler, Method},
    rig::{Ground, Rig},
};
use crate::harness::wait::wait_until;

/// Starts a plugin, a proxy that can disturb its answers, and an API server. Creates one object.
fn meddled() -> (Rig, Meddler) {
    let mut ground = Ground::prepare();
    ground.serve();
    let meddler = Meddler::start(&ground.run.socket("m.sock").unwrap(), &[&ground.socket()], Faults::NONE);
    let mut rig = ground.launch(meddler.socket(), &["secrets"]);
    rig.api.wait_until_ready().unwrap();
    rig.create("early").expect(201);
    (rig, meddler)
}

/// Returns the time of the last Status that was answered.
fn last_status(meddler: &Meddler) -> Instant {
    meddler.calls_of(Method::Status).last().unwrap().at
}

fn sleep_until(time: Instant) {
    thread::sleep(time.saturating_duration_since(Instant::now()));
}

#[test]
#[ignore = "nightly: waits for 4 minutes, as writes go on for 3 after the last good Status"]
fn writes_coast_for_180_s_after_the_last_good_status_and_reads_go_on() {
    let (rig, meddler) = meddled();
    let good = last_status(&meddler);
    meddler.meddle(Faults { refused: &[Method::Status, Method::Encrypt, Method::Decrypt], ..Faults::NONE });
    sleep_until(good + Duration::from_secs(150));
    rig.create("coasting").expect(201);
    sleep_until(good + Duration::from_secs(185));
    let answer = rig.create("too-late").expect(500);
    assert!(answer.contains("encryptedDEKSource with keyID hash") && answer.contains("expired at"), "{answer}");
    println!("{answer}");
    for name in ["early", "coasting"] {
        rig.front.get(&SECRETS.path(name)).expect(200);
    }
    rig.front.get(&SECRETS.collection()).expect(200);
    meddler.meddle(Faults::NONE);
    wait_until("writes work again", || rig.create("healed").status == 201);
    // The seed is the one from before: a good Status with the same key_id is enough.
    assert_eq!(meddler.calls_of(Method::Encrypt).len(), 1);
}

#[test]
#[ignore = "nightly: waits for 4 minutes, past the 3 for which writes go on after a refused Status"]
fn healthz_other_than_ok_does_not_stop_writes_after_180_s_either() {
    let (rig, meddler) = meddled();
    meddler.meddle(Faults { status: |answer| answer.healthz = UNWELL.into(), ..Faults::NONE });
    let unwell = Instant::now();
    rig.front.wait_for_providers(UNWELL);
    sleep_until(unwell + Duration::from_mins(4));
    rig.create("still").expect(201);
    rig.front.get(&SECRETS.path("still")).expect(200);
}

#[test]
#[ignore = "nightly: waits for 3 minutes, to count probes that come once a minute"]
fn status_is_asked_every_60_s_while_good_and_every_10_s_while_not() {
    let (_rig, meddler) = meddled();
    let count = |time| {
        let before = meddler.calls_of(Method::Status).len();
        thread::sleep(time);
        meddler.calls_of(Method::Status).len() - before
    };
    let good = count(Duration::from_secs(125));
    assert_eq!(good, 2, "in 125 s while good");
    meddler.meddle(Faults { refused: &[Method::Status], ..Faults::NONE });
    wait_until("the first refused probe", || last_status(&meddler).elapsed() < Duration::from_secs(1));
    let bad = count(Duration::from_secs(45));
    println!("{good} probes in 125 s while good, {bad} in 45 s while not");
    assert!((4..=5).contains(&bad), "{bad} in 45 s while not");
}

#[test]
#[ignore = "nightly: the plugin comes a minute late, and may be looked for only 2 minutes later"]
fn a_plugin_that_comes_a_minute_late_is_found() {
    let mut rig = Rig::without_plugin();
    thread::sleep(Duration::from_mins(1));
    let late = Instant::now();
    rig.serve_late();
    println!("a plugin a minute late was found after {:?}", late.elapsed());
}

#[test]
#[ignore = "nightly: the plugin is away for 4 minutes, and may be looked for only 2 minutes later"]
fn a_plugin_that_was_away_for_minutes_is_found_again() {
    let mut rig = Rig::without_plugin();
    rig.serve_late();
    rig.plugin.kill().unwrap();
    thread::sleep(Duration::from_mins(4));
    rig.create("away").expect(500);
    rig.plugin.restart().unwrap();
    let back = Instant::now();
    // The test waits in steps, because one wait has a limit below the two minutes in which the API server does not
    // connect.
    let found = |step: usize| rig.create(&format!("back-{step}")).status == 201;
    let step = (0..300).find(|&step| {
        thread::sleep(Duration::from_millis(500));
        found(step)
    });
    assert!(step.is_some(), "not found within {:?}", back.elapsed());
    println!("a plugin that was away for 4 minutes was found after {:?}", back.elapsed());
}
