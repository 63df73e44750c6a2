//! Makes system calls fail. A command never says that it has done something that it has not.

use super::{
    case::{Base, CASES, Prepared, Side, is_ours},
    in_parallel,
    trace::{self, Call},
};
use crate::campaign::{sample, size};

const ERRORS: [&str; 3] = ["EIO", "ENOSPC", "EROFS"];

/// System calls that write or sync. If one of them fails, the command fails.
const WRITING: [&str; 8] = ["write", "fsync", "fdatasync", "renameat2", "rename", "linkat", "mkdirat", "ftruncate"];

/// System calls that read files or remove leftovers. For files that an earlier crash has left, `getdents64` and
/// `unlinkat` may fail. Everything else may be read twice.
const OTHERS: [&str; 7] = ["openat", "open", "read", "fstat", "flock", "unlinkat", "getdents64"];

fn points(prepared: &Prepared) -> Vec<Call> {
    let sandbox = prepared.sandbox();
    let is_on_disk = |call: &Call| call.paths().iter().any(|path| is_ours(path, sandbox.root()));
    let calls = trace::of(prepared, &sandbox, 4096);
    let is_wanted = |call: &Call| WRITING.contains(&&*call.name) || OTHERS.contains(&&*call.name);
    calls.into_iter().filter(|call| call.succeeded() && is_wanted(call) && is_on_disk(call)).collect()
}

#[test]
#[ignore = "campaign"]
fn a_command_whose_system_calls_fail_never_says_that_it_is_done() {
    if !trace::is_here() {
        return;
    }
    let base = Base::new();
    let mut total = [0; 3];
    for case in CASES {
        let prepared = Prepared::of(case, &base);
        let all: Vec<(Call, &str)> =
            points(&prepared).iter().flat_map(|call| ERRORS.map(|error| (call.clone(), error))).collect();
        let points = sample(&all, size(9));
        let outcomes = in_parallel(&points, |(call, error)| {
            let sandbox = prepared.sandbox();
            let (code, complaint) = trace::inject(&prepared, &sandbox, call, &format!("error={error}"));
            let context =
                || format!("{}, {error} of {} {}: {}\n{complaint}", case.name, call.name, call.number, call.args);
            let side = prepared.check(&sandbox).unwrap_or_else(|error| panic!("{}: {error}", context()));
            let is_writing = WRITING.contains(&&*call.name) || call.args.contains("O_CREAT");
            match code {
                // The slot is removed by then. The command reports that its key file may come back, which opens
                // nothing.
                Some(0) if case.name == "slot remove" && call.name == "fsync" && side == Side::Before => {}
                // Only the report is lost, and the command says so.
                Some(0) if call.args.starts_with("1<") => {
                    let is_done = side == Side::After || !prepared.changes_keyring();
                    assert!(is_done && complaint.contains("all is done, but the report"), "{}", context());
                }
                Some(0) => assert!(!is_writing, "it said done: {}", context()),
                Some(1..=7) => {
                    assert!(complaint.contains("error: "), "{}", context());
                    // If the change was made in spite of the failure, the error says so.
                    let is_reported = ["was changed, but", "was written, but", "is not listed", "is not finished"]
                        .iter()
                        .any(|words| complaint.contains(words));
                    let is_quiet =
                        ["rekey", "slot add file", "slot add passphrase", "slot remove"].contains(&case.name);
                    assert!(side == Side::Before || is_reported || is_quiet, "{}", context());
                }
                code => panic!("{code:?}: {}", context()),
            }
            prepared.again(&sandbox).unwrap_or_else(|error| panic!("{}: {error}", context()));
            code == Some(0)
        });
        let done = outcomes.iter().filter(|done| **done).count();
        println!(
            "{:24} {:5} of {:5} failures: {done} harmless, the others reported",
            case.name,
            points.len(),
            all.len()
        );
        total = [total[0] + points.len(), total[1] + done, total[2] + points.len() - done];
    }
    println!("{:24} {} failures: {} harmless, {} reported", "all", total[0], total[1], total[2]);
    assert!(total[2] > 0);
}
