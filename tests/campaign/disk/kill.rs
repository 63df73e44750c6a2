//! Kills commands at any system call. The keyring of before or after the command is there, and the next command works.

use super::{
    case::{Base, CASES, Prepared, Side},
    in_parallel,
    trace::{self, Call},
};
use crate::campaign::{sample, size};

/// Returns the first call that writes. The calls before it only read.
fn first_write(calls: &[Call]) -> usize {
    calls.iter().position(|call| call.args.contains("O_CREAT") || call.name.starts_with("mkdir")).unwrap_or(0)
}

#[test]
#[ignore = "campaign"]
fn a_command_that_is_killed_at_any_system_call_leaves_all_or_nothing_of_its_change() {
    if !trace::is_here() {
        return;
    }
    let base = Base::new();
    let (mut kills, mut afters) = (0, 0);
    for case in CASES {
        let prepared = Prepared::of(case, &base);
        let traced = prepared.sandbox();
        let calls = trace::of(&prepared, &traced, 0);
        let all = size(0) > calls.len() as u64;
        let from = if all { 0 } else { first_write(&calls) };
        let points = sample(&calls[from..], size(8));
        let sides = in_parallel(&points, |call| {
            let sandbox = prepared.sandbox();
            let (code, _) = trace::inject(&prepared, &sandbox, call, "signal=KILL");
            let context = || format!("{}, killed at {} {}: {}", case.name, call.name, call.number, call.args);
            assert!(code.is_none() || code == Some(0), "{}: {code:?}", context());
            let side = prepared.check(&sandbox).unwrap_or_else(|error| panic!("{}: {error}", context()));
            prepared.again(&sandbox).unwrap_or_else(|error| panic!("{}: {error}", context()));
            (code, side)
        });
        let killed = sides.iter().filter(|(code, _)| code.is_none()).count();
        let after = sides.iter().filter(|(_, side)| *side == Side::After).count();
        println!(
            "{:24} {:5} of {:5} system calls: {killed} killed, {after} already done",
            case.name,
            points.len(),
            calls.len()
        );
        (kills, afters) = (kills + killed, afters + after);
    }
    println!("{:24} {kills} killed, {afters} already done, every one whole", "all");
    assert!(kills > CASES.len());
}
