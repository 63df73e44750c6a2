//! Reads from the system calls what a command did to its disk: it made, wrote, synced, read back, renamed or removed
//! files.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{
    case::is_ours,
    trace::{Call, unescape},
};

/// One step. Paths are absolute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Op {
    MakeDir(PathBuf),
    Create(PathBuf),
    Write(PathBuf, Vec<u8>),
    /// A file's bytes are on the disk.
    Sync(PathBuf),
    /// The names in a directory are on the disk.
    SyncDir(PathBuf),
    Read(PathBuf),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
}

/// Returns the steps in a sandbox at `root`, in their order.
pub(super) fn of(calls: &[Call], root: &Path) -> Vec<Op> {
    let is_below = |path: &Path| path == root || is_ours(&path.to_string_lossy(), root);
    let ops = calls.iter().filter(|call| call.succeeded()).filter_map(op);
    let mut ops: Vec<Op> = ops.filter(|op| is_below(op.path())).collect();
    for place in 0..ops.len() {
        let unseen = match &ops[place] {
            Op::Write(path, bytes) if bytes.is_empty() => path.clone(),
            _ => continue,
        };
        let published = |op: &Op| matches!(op, Op::Rename(from, _) if *from == unseen);
        if let Some(Op::Rename(_, to)) = ops[place..].iter().find(|op| published(op)) {
            ops[place] = Op::Write(unseen, fs::read(to).unwrap());
        }
    }
    ops
}

impl Op {
    fn path(&self) -> &Path {
        match self {
            Self::MakeDir(path)
            | Self::Create(path)
            | Self::Write(path, _)
            | Self::Sync(path)
            | Self::SyncDir(path)
            | Self::Read(path)
            | Self::Rename(path, _)
            | Self::Remove(path) => path,
        }
    }
}

fn op(call: &Call) -> Option<Op> {
    let described = |text: &str| Some(PathBuf::from(text.split_once('<')?.1.split_once('>')?.0));
    let strings =
        || call.args.split('"').skip(1).step_by(2).map(|text| String::from_utf8_lossy(&unescape(text)).into_owned());
    let first = || described(&call.args);
    match &*call.name {
        "mkdir" => strings().next().map(|path| Op::MakeDir(path.into())),
        "mkdirat" => Some(Op::MakeDir(first()?.join(strings().next()?))),
        "openat" | "open" if call.args.contains("O_CREAT") => Some(Op::Create(described(&call.result)?)),
        // The written bytes are between the first quote and the last. strace cannot read bytes in secret memory; they
        // are taken from the file instead.
        "write" => {
            let bytes =
                call.args.find('"').zip(call.args.rfind('"')).map(|(start, end)| unescape(&call.args[start + 1..end]));
            Some(Op::Write(first()?, bytes.unwrap_or_default()))
        }
        "read" => Some(Op::Read(first()?)),
        "fsync" | "fdatasync" => {
            let path = first()?;
            Some(if path.is_dir() { Op::SyncDir(path) } else { Op::Sync(path) })
        }
        "renameat2" | "renameat" => {
            let mut names = strings();
            let (from, to) = (names.next()?, names.next()?);
            let directories: Vec<PathBuf> =
                call.args.split('<').skip(1).filter_map(|rest| Some(rest.split_once('>')?.0.into())).collect();
            let [old, new] = directories.as_slice() else { return None };
            Some(Op::Rename(old.join(from), new.join(to)))
        }
        "unlinkat" => Some(Op::Remove(first()?.join(strings().next()?))),
        _ => None,
    }
}
