//! The contents of a directory: names, kinds, modes, owners and bytes. A test compares two of them to see that nothing
//! has changed.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
};

/// The files below a directory, by path. It leaves out lock files, and the copy of the program that another user runs.
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

    /// Reads everything below `root`. The paths are relative to it.
    pub(crate) fn below(root: &Path) -> Self {
        let entries = Self::of(root).0.into_iter();
        let relative = entries.map(|(path, entry)| (path.strip_prefix(root).unwrap().to_owned(), entry));
        Self(relative.filter(|(path, _)| path != Path::new("")).collect())
    }

    /// Keeps only the files in `names`.
    pub(crate) fn only(mut self, names: &[&str]) -> Self {
        self.0.retain(|path, _| names.iter().any(|name| path == Path::new(name)));
        self
    }

    /// Returns the paths that only one of the trees has, or whose contents differ.
    pub(crate) fn changes(&self, later: &Self) -> Vec<String> {
        let mut paths: Vec<&PathBuf> = self.0.keys().chain(later.0.keys()).collect();
        paths.sort();
        paths.dedup();
        let changed = paths.into_iter().filter(|path| self.0.get(*path) != later.0.get(*path));
        changed.map(|path| format!("{}: {}", path.display(), change(self.0.get(path), later.0.get(path)))).collect()
    }

    /// Returns the names in a directory, with a slash after directories. It does not enter these.
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
            format!(
                "{} {:04o} {:?} became {} {:04o} {:?}",
                before.kind, before.mode, before.owner, after.kind, after.mode, after.owner
            )
        }
        _ => "other bytes".to_owned(),
    }
}

fn is_left_out(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default();
    name == "lock"
        || name == "serving"
        || name == "claviger"
        || path.extension().is_some_and(|extension| extension == "lock")
}

fn collect(path: &Path, entries: &mut BTreeMap<PathBuf, Entry>) {
    if is_left_out(path) {
        return;
    }
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
    let entry = Entry { kind, mode: found.mode() & 0o7777, owner: (found.uid(), found.gid()), bytes };
    entries.insert(path.to_owned(), entry);
}
