//! A directory as it is: names, kinds, modes, owners and bytes; to see that nothing changed.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
};

/// What there is below a directory, by path. Left out are the files that are only there to be locked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Tree(BTreeMap<PathBuf, Entry>);

#[derive(Debug, PartialEq, Eq)]
struct Entry {
    kind: &'static str,
    mode: u32,
    owner: (u32, u32),
    bytes: Vec<u8>,
}

impl Tree {
    /// Reads everything below `root`, and `root` itself.
    pub(crate) fn of(root: &Path) -> Self {
        let mut entries = BTreeMap::new();
        collect(root, &mut entries);
        Self(entries)
    }

    /// The paths that are in one of both only, or differ.
    pub(crate) fn changes(&self, later: &Self) -> Vec<String> {
        let mut paths: Vec<&PathBuf> = self.0.keys().chain(later.0.keys()).collect();
        paths.sort();
        paths.dedup();
        let changed = paths.into_iter().filter(|path| self.0.get(*path) != later.0.get(*path));
        changed.map(|path| format!("{}: {}", path.display(), change(self.0.get(path), later.0.get(path)))).collect()
    }

    /// The names, with a slash behind directories; what is below them is left out.
    pub(crate) fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|entry| {
                let slash = if entry.file_type().unwrap().is_dir() { "/" } else { "" };
                format!("{}{slash}", entry.file_name().to_string_lossy())
            })
            .collect();
        names.sort();
        names
    }
}

fn change(before: Option<&Entry>, after: Option<&Entry>) -> String {
    match (before, after) {
        (None, Some(entry)) => format!("new, {} {:04o}", entry.kind, entry.mode),
        (Some(_), None) => "gone".to_owned(),
        (Some(before), Some(after)) if before.bytes == after.bytes => {
            format!("{} {:04o} {:?} became {} {:04o} {:?}", before.kind, before.mode, before.owner, after.kind, after.mode, after.owner)
        }
        _ => "other bytes".to_owned(),
    }
}

fn is_lock(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == "lock") || path.extension().is_some_and(|extension| extension == "lock")
}

fn collect(path: &Path, entries: &mut BTreeMap<PathBuf, Entry>) {
    let found = fs::symlink_metadata(path).unwrap();
    let kind = found.file_type();
    let (kind, bytes) = if kind.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            collect(&entry.unwrap().path(), entries);
        }
        ("directory", Vec::new())
    } else if kind.is_symlink() {
        ("link", fs::read_link(path).unwrap().into_os_string().into_encoded_bytes())
    } else if kind.is_file() {
        ("file", fs::read(path).unwrap())
    } else if kind.is_socket() {
        ("socket", Vec::new())
    } else {
        ("special file", Vec::new())
    };
    if !is_lock(path) {
        let entry = Entry { kind, mode: found.mode() & 0o7777, owner: (found.uid(), found.gid()), bytes };
        entries.insert(path.to_owned(), entry);
    }
}
