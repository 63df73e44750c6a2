//! The order on every path that writes: a new temporary file, write, fsync, read back, rename, fsync of the directory; the audit line
//! before the first of them, the record before the ledger and the mark.

use std::path::Path;

use super::{
    case::{Base, CASES, Prepared},
    ops::{self, Op},
    trace,
};

/// Files that are not published by a rename: one that only grows, and one that is only locked.
const NOT_RENAMED: [&str; 2] = ["audit.jsonl", "lock"];

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// What is wrong with the order of `ops`.
fn faults(ops: &[Op]) -> Vec<String> {
    let mut faults = Vec::new();
    let at =
        |wanted: &dyn Fn(&Op) -> bool, from: usize| ops.iter().skip(from).position(wanted).map(|place| place + from);
    for (place, op) in ops.iter().enumerate() {
        match op {
            Op::Create(path) if NOT_RENAMED.contains(&&*name(path)) => {}
            Op::Create(path) => {
                let steps: [(&str, &dyn Fn(&Op) -> bool); 5] = [
                    ("written", &|op| matches!(op, Op::Write(other, _) if other == path)),
                    ("synced", &|op| matches!(op, Op::Sync(other) if other == path)),
                    ("read back", &|op| matches!(op, Op::Read(other) if other == path)),
                    ("renamed", &|op| matches!(op, Op::Rename(other, _) if other == path)),
                    (
                        "made sure of in its directory",
                        &|op| matches!(op, Op::SyncDir(other) if Some(&**other) == path.parent()),
                    ),
                ];
                let mut from = place;
                for (what, is_it) in steps {
                    match at(is_it, from) {
                        Some(found) => from = found + 1,
                        None => {
                            faults.push(format!("{} was not {what} in time", path.display()));
                            break;
                        }
                    }
                }
            }
            // Nothing more may be written to what was synced, and nothing is published by another way.
            Op::Write(path, _) if !NOT_RENAMED.contains(&&*name(path)) => {
                let synced = at(&|op| matches!(op, Op::Sync(other) if other == path), 0);
                if synced.is_none_or(|synced| synced < place) {
                    faults.push(format!("{} was written and not synced after it", path.display()));
                }
            }
            Op::Write(path, _) if name(path) == "audit.jsonl" => {
                let synced = at(&|op| matches!(op, Op::Sync(other) if other == path), place);
                let renamed = at(&|op| matches!(op, Op::Rename(..)), place);
                if synced.is_none() || renamed.is_some_and(|renamed| Some(renamed) < synced) {
                    faults.push("the audit line was not synced before something was changed".to_owned());
                }
            }
            Op::Remove(path) if name(path).ends_with(".key") => {
                if at(&|op| matches!(op, Op::SyncDir(_)), place).is_none() {
                    faults.push(format!("{} was removed, and that not made sure of", path.display()));
                }
            }
            Op::MakeDir(path) => {
                let parent = |op: &Op| matches!(op, Op::SyncDir(other) if Some(&**other) == path.parent());
                if at(&parent, place).is_none() {
                    faults.push(format!("{} was made, and that not made sure of", path.display()));
                }
            }
            _ => {}
        }
    }
    faults.extend(published_out_of_order(ops));
    faults
}

/// The record comes before the ledger and the mark, and the root file before them all.
fn published_out_of_order(ops: &[Op]) -> Option<String> {
    const ORDER: [&str; 5] = ["root", "keyring.prev", "keyring", "ledger", "mark"];
    let published: Vec<usize> = ops
        .iter()
        .filter_map(
            |op| if let Op::Rename(_, to) = op { ORDER.iter().position(|known| *known == name(to)) } else { None },
        )
        .collect();
    let is_right = published.is_sorted();
    (!is_right).then(|| format!("published as {:?}", published.iter().map(|place| ORDER[*place]).collect::<Vec<_>>()))
}

#[test]
fn every_write_is_synced_read_back_renamed_and_made_sure_of_in_this_order() {
    if !trace::is_here() {
        return;
    }
    let base = Base::new();
    let (mut files, mut caught) = (0, 0);
    for case in CASES {
        let prepared = Prepared::of(case, &base);
        let sandbox = prepared.sandbox();
        let ops = ops::of(&trace::of(&prepared, &sandbox, 1_000_000), sandbox.root());
        assert_eq!(faults(&ops), Vec::<String>::new(), "{}", case.name);
        let renames = ops.iter().filter(|op| matches!(op, Op::Rename(..))).count();
        assert!(renames > 0 || case.name == "slot remove", "{}: nothing was seen", case.name);
        let (dropped, noticed) = drop_each(&ops);
        println!("{:24} {renames} files in order; {noticed} of {dropped} left-out steps noticed", case.name);
        assert_eq!(dropped, noticed, "{}", case.name);
        (files, caught) = (files + renames, caught + noticed);
    }
    println!("{:24} {files} files in order; {caught} left-out steps noticed", "all");
}

/// How many syncs and readings back of new files there are, and how many of them are missed when they are left out.
fn drop_each(ops: &[Op]) -> (usize, usize) {
    let counts = |op: &Op| match op {
        Op::Sync(path) => !NOT_RENAMED.contains(&&*name(path)) || name(path) == "audit.jsonl",
        Op::Rename(..) => true,
        _ => false,
    };
    let places: Vec<usize> = (0..ops.len()).filter(|place| counts(&ops[*place])).collect();
    let is_noticed = |place: &&usize| {
        let mut without = ops.to_vec();
        without.remove(**place);
        !faults(&without).is_empty()
    };
    // A file that is synced as somebody else has written it was not made here.
    let made = |place: &&usize| {
        let Op::Sync(path) = &ops[**place] else { return true };
        ops.iter().any(|op| matches!(op, Op::Create(other) | Op::Write(other, _) if other == path))
    };
    let places: Vec<usize> = places.iter().filter(made).copied().collect();
    (places.len(), places.iter().filter(is_noticed).count())
}
