//! Tests `claviger rotate` with a real API server. Its waits are short, because [`hurried`] is the same program with
//! another clock.
//!
//! ```text
//! whole, resumed, stopped, foreseen, abandoned, given_up, compromised, busy, events, twice
//! ```

mod abandoned;
mod busy;
mod compromised;
mod events;
mod foreseen;
mod given_up;
mod resumed;
mod stopped;
mod twice;
mod whole;

use std::{path::PathBuf, process::Command, time::Duration};

use crate::{
    cli::sandbox::{Answer, CLAVIGER, Call},
    reencrypt::rig::Rig,
};

/// The time limit of a rotation. It counts the API servers up to three times, which takes 10 s each.
const LIMIT: Duration = Duration::from_mins(3);

/// Returns the program with a clock on which minutes pass at once.
pub(crate) fn hurried() -> PathBuf {
    let program = PathBuf::from(CLAVIGER).with_file_name("examples").join("hurried");
    assert!(program.exists(), "build it first: cargo build --example hurried");
    program
}

/// Returns the program on whose clock an API server that runs takes far too long to settle: a copy of the same one.
fn impatient(rig: &Rig) -> PathBuf {
    let program = rig.sandbox.path("impatient");
    if !program.exists() {
        assert!(Command::new("cp").args([&hurried(), &program]).status().unwrap().success());
    }
    program
}

/// Returns a call of `claviger rotate`.
fn call<'a>(rig: &'a mut Rig, more: &str) -> Call<'a> {
    rig.cluster_call("rotate --socket [DIR]/run/kms.sock", more).by(&hurried(), LIMIT)
}

/// Runs a rotation, which must end with `exit`.
#[track_caller]
fn rotate(rig: &mut Rig, more: &str, exit: i32) -> Answer {
    let answer = call(rig, more).run();
    answer.ends_with(exit);
    answer
}

/// Returns the events of a rotation with `--output json`, and the report at its end.
fn events(answer: &Answer) -> Vec<serde_json::Value> {
    answer.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Returns the keys of the keyring, each with its state.
fn keys(rig: &Rig) -> Vec<(u64, String)> {
    let list = rig.sandbox.run("key list --state-dir [DIR]/state --output json").json();
    let key = |key: &serde_json::Value| {
        let seq = key["key_id"].as_str().unwrap()[1..].split('-').next().unwrap().parse().unwrap();
        (seq, key["state"].as_str().unwrap().to_owned())
    };
    list["keys"].as_array().unwrap().iter().map(key).collect()
}
