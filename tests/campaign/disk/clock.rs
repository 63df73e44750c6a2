//! Runs commands with clocks that are ten years wrong. Times are only shown, and no decision depends on them.

use std::{fs, process::Command};

use super::case::Base;
use crate::cli::sandbox::Sandbox;

const STATE: &str = "--state-dir [DIR]/state";
const OURS: &str = "--recovery-identity [DIR]/ours.txt";

/// A library that moves the wall clock of the process that loads it, by `SHIFT` seconds.
const SHIM: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>
int clock_gettime(clockid_t id, struct timespec *now) {
    int (*real)(clockid_t, struct timespec *) = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(id, now);
    const char *shift = getenv("SHIFT");
    if (result == 0 && id == CLOCK_REALTIME && shift) now->tv_sec += atoll(shift);
    return result;
}
"#;

const YEAR: i64 = 365 * 24 * 3600;

/// Returns the words before a command that move its clock by `years`.
fn under(sandbox: &Sandbox, years: i64) -> [String; 3] {
    let shim = sandbox.path("shim.so").display().to_string();
    ["env".to_owned(), format!("LD_PRELOAD={shim}"), format!("SHIFT={}", years * YEAR)]
}

#[test]
#[ignore = "campaign"]
fn a_clock_that_is_ten_years_off_decides_nothing() {
    let sandbox = Base::new().sandbox;
    fs::write(sandbox.path("shim.c"), SHIM).unwrap();
    let cc = |name: &str| sandbox.path(name).display().to_string();
    let built = Command::new("cc").args(["-shared", "-fPIC", "-o", &cc("shim.so"), &cc("shim.c"), "-ldl"]).status();
    assert!(built.unwrap().success());
    let mut rounds = 0;
    for (round, years) in [10, -10, 0, -10, 10].into_iter().enumerate() {
        let run = |line: &str| sandbox.call(line).under(under(&sandbox, years), "").run();
        let added = run(&format!("key add {STATE} --output json")).ends_with(0).json();
        let created = added["key"]["created"].as_str().unwrap();
        let year: i64 = created[..4].parse().unwrap();
        assert!((2026 + years - 1..=2040 + years).contains(&year), "the clock was not moved: {created}");
        let key = added["key"]["key_id"].as_str().unwrap();
        run(&format!("backup create [DIR]/clock-{round}.age {STATE}")).ends_with(0);
        run(&format!("backup check [DIR]/clock-{round}.age {OURS} {STATE}")).ends_with(0);
        run(&format!("key promote {key} {STATE}")).ends_with(0);
        run(&format!("rekey {STATE}")).ends_with(0);
        // A process with the right time and a process with the moved clock read the same keyring.
        let now = sandbox.run(&format!("key list {STATE} --output json")).ends_with(0).json();
        assert_eq!(run(&format!("key list {STATE} --output json")).ends_with(0).json(), now);
        let expect =
            run(&format!("status {STATE} --output json")).json()["keyring"]["expect"].as_str().unwrap().to_owned();
        run(&format!("backup create [DIR]/end-{round}.age {STATE}")).ends_with(0);
        let new = format!("--state-dir [DIR]/new-{round}");
        run(&format!("backup restore [DIR]/end-{round}.age {OURS} {new} --expect {expect}")).ends_with(0);
        sandbox.serve(&format!("{new} --socket [DIR]/run/kms.sock")).kill();
        rounds += 1;
    }
    println!("{rounds} rounds with clocks ten years off: nothing was decided by a time");
}
