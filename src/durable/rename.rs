//! Gives a file a name that nothing has yet, also where the file system cannot refuse to overwrite by itself.

use std::os::fd::AsFd;

use rustix::{
    fs::{self, AtFlags, RenameFlags},
    io::{Errno, Result},
};

/// Renames `from` in one directory to `to` in another one. Never overwrites a file. Exception: on FAT and similar file
/// systems, which have neither `RENAME_NOREPLACE` nor hard links, another process can create the name between the check
/// and the rename.
pub(super) fn rename_new(from_dir: impl AsFd, from: &str, to_dir: impl AsFd, to: &str) -> Result<()> {
    match fs::renameat_with(&from_dir, from, &to_dir, to, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => link_new(from_dir, from, to_dir, to),
        outcome => outcome,
    }
}

/// Makes a hard link `to`, which fails if the name exists, and removes the name `from`.
fn link_new(from_dir: impl AsFd, from: &str, to_dir: impl AsFd, to: &str) -> Result<()> {
    match fs::linkat(&from_dir, from, &to_dir, to, AtFlags::empty()) {
        Ok(()) => fs::unlinkat(from_dir, from, AtFlags::empty()),
        // These errors of linkat(2) mean that the file system has no hard links.
        Err(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS) => look_and_rename(from_dir, from, to_dir, to),
        Err(errno) => Err(errno),
    }
}

fn look_and_rename(from_dir: impl AsFd, from: &str, to_dir: impl AsFd, to: &str) -> Result<()> {
    match fs::statat(&to_dir, to, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => fs::renameat(from_dir, from, to_dir, to),
        Ok(_) => Err(Errno::EXIST),
        Err(errno) => Err(errno),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, os::fd::OwnedFd};

    use super::*;

    /// A way to give a file of a directory another name.
    type Way = fn(&OwnedFd, &str, &str) -> Result<()>;

    #[test]
    fn no_way_overwrites_a_file_and_each_leaves_one_name() {
        let directory = tempfile::tempdir().unwrap();
        let ways: [Way; 3] = [
            |dir, from, to| rename_new(dir, from, dir, to),
            |dir, from, to| link_new(dir, from, dir, to),
            |dir, from, to| look_and_rename(dir, from, dir, to),
        ];
        let dir = OwnedFd::from(File::open(directory.path()).unwrap());
        let names = || {
            let entries = std::fs::read_dir(directory.path()).unwrap();
            let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        };
        for way in ways {
            std::fs::write(directory.path().join("new"), "new").unwrap();
            std::fs::write(directory.path().join("old"), "old").unwrap();
            assert_eq!(way(&dir, "new", "old"), Err(Errno::EXIST));
            assert_eq!(
                (names(), std::fs::read(directory.path().join("old")).unwrap()),
                (vec!["new".into(), "old".into()], b"old".to_vec())
            );
            std::fs::remove_file(directory.path().join("old")).unwrap();
            assert_eq!(way(&dir, "new", "old"), Ok(()));
            assert_eq!(
                (names(), std::fs::read(directory.path().join("old")).unwrap()),
                (vec!["old".into()], b"new".to_vec())
            );
            std::fs::remove_file(directory.path().join("old")).unwrap();
        }
    }
}
