//! Checks the order of steps of every write: a new temporary file, write, fsync, read back, rename, fsync of the
//! directory. The audit line comes before the first write, and the record before the ledger and the mark. In a state
//! directory, nothing is written outside of a commit.

use std::path::Path;

use super::{
    case::{Base, CASES, Prepared, is_temporary},
    ops::{self, Op},
    trace,
};

/// Files that are not published by a rename: one that only grows, and one that is only locked.
const NOT_RENAMED: [&str; 2] = ["audit.jsonl", "lock"];

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// A step that must occur, with its name.
type Step<'a> = (&'a str, &'a dyn Fn(&Op) -> bool);

/// Returns the faults in the order of `ops`.
fn faults(ops: &[Op]) -> Vec<String> {
    let fault = |place: usize| {
        let later = &ops[place..];
        match &ops[place] {
            Op::Create(path) if !NOT_RENAMED.contains(&&*name(path)) => not_published(later, path),
            Op::Write(path, _) if name(path) == "audit.jsonl" => not_on_record(later, path),
            Op::Write(path, _) if !NOT_RENAMED.contains(&&*name(path)) => {
                let is_synced = later.iter().any(|op| is_sync_of(op, path));
                (!is_synced).then(|| format!("{} was written and not synced after it", path.display()))
            }
            // A command removes only temporary files and the key file of a slot before its end.
            Op::Remove(path) | Op::MakeDir(path) => {
                let is_synced = later.iter().any(|op| is_sync_in(op, path));
                (!is_synced)
                    .then(|| format!("{} was made or removed, and the directory was not synced", path.display()))
            }
            _ => None,
        }
    };
    (0..ops.len()).filter_map(fault).chain(published_out_of_order(ops)).collect()
}

fn is_sync_of(op: &Op, path: &Path) -> bool {
    matches!(op, Op::Sync(other) if other == path)
}

fn is_sync_in(op: &Op, path: &Path) -> bool {
    matches!(op, Op::SyncDir(other) if Some(&**other) == path.parent())
}

/// Returns an error unless the file at `path` goes through all steps, in their order.
fn not_published(later: &[Op], path: &Path) -> Option<String> {
    let steps: [Step<'_>; 5] = [
        ("written", &|op| matches!(op, Op::Write(other, _) if other == path)),
        ("synced", &|op| is_sync_of(op, path)),
        ("read back", &|op| matches!(op, Op::Read(other) if other == path)),
        ("renamed", &|op| matches!(op, Op::Rename(other, _) if other == path)),
        ("synced in its directory", &|op| is_sync_in(op, path)),
    ];
    let mut rest = later;
    for (what, is_it) in steps {
        let Some(place) = rest.iter().position(is_it) else {
            return Some(format!("{} was not {what} in time", path.display()));
        };
        rest = &rest[place + 1..];
    }
    None
}

/// Returns an error unless an audit line is on the disk before anything is published.
fn not_on_record(later: &[Op], path: &Path) -> Option<String> {
    let synced = later.iter().position(|op| is_sync_of(op, path));
    let renamed = later.iter().position(|op| matches!(op, Op::Rename(..)));
    let is_late = synced.is_none_or(|synced| renamed.is_some_and(|renamed| renamed < synced));
    is_late.then(|| "the audit line was not synced before something was changed".to_owned())
}

/// The files of a state directory, in the order in which a commit writes them.
const COMMIT: [&str; 7] = ["audit.jsonl", "slot-", "root", "keyring.prev", "keyring", "ledger", "mark"];

/// Returns the place of a file in that order. `None` if it is not in the list.
fn place_of(name: &str) -> Option<usize> {
    COMMIT.iter().position(|known| name == *known || (*known == "slot-" && name.starts_with(known)))
}

/// Returns the writes in the state directory `dir` that are not those of a commit, or not in its order. Each audit line
/// begins a commit.
fn not_of_a_commit(ops: &[Op], dir: &Path) -> Vec<String> {
    let is_here = |path: &Path| path.parent() == Some(dir);
    let mut faults = Vec::new();
    let mut last = 0;
    for op in ops {
        let place = match op {
            Op::Rename(_, to) if is_here(to) => place_of(&name(to)),
            Op::Write(path, _) if is_here(path) && name(path) == "audit.jsonl" => {
                last = 0;
                Some(0)
            }
            // The key file of a removed slot goes after the root file.
            Op::Remove(path) if is_here(path) && !is_temporary(&name(path)) => {
                place_of(&name(path)).filter(|_| last == 2 && name(path).starts_with("slot-")).map(|_| 2)
            }
            // A temporary file is renamed, which is seen above, or removed.
            Op::Create(path) if NOT_RENAMED.contains(&&*name(path)) || is_temporary(&name(path)) => continue,
            Op::Create(path) | Op::MakeDir(path) if is_here(path) => None,
            _ => continue,
        };
        match place {
            Some(place) if place >= last => last = place,
            _ => faults.push(format!("{op:?} after {}", COMMIT[last])),
        }
    }
    faults
}

/// Returns an error if the record does not come before the ledger and the mark, or the root file not before them all.
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
#[ignore = "campaign"]
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
        let dir = sandbox.root().join(case.target);
        assert_eq!(not_of_a_commit(&ops, &dir), Vec::<String>::new(), "{}", case.name);
        let renames = ops.iter().filter(|op| matches!(op, Op::Rename(..))).count();
        assert!(renames > 0 || case.name == "slot remove", "{}: nothing was seen", case.name);
        let (dropped, noticed) = drop_each(&ops);
        println!("{:24} {renames} files in order; {noticed} of {dropped} left-out steps noticed", case.name);
        assert_eq!(dropped, noticed, "{}", case.name);
        (files, caught) = (files + renames, caught + noticed);
    }
    println!("{:24} {files} files in order; {caught} left-out steps noticed", "all");
}

/// Leaves out each sync and each reading back of a new file in turn. Returns the number of these steps, and for how
/// many of them the check found a fault.
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
    // A file that was synced and that somebody else wrote was not made here.
    let made = |place: &&usize| {
        let Op::Sync(path) = &ops[**place] else { return true };
        ops.iter().any(|op| matches!(op, Op::Create(other) | Op::Write(other, _) if other == path))
    };
    let places: Vec<usize> = places.iter().filter(made).copied().collect();
    (places.len(), places.iter().filter(is_noticed).count())
}
