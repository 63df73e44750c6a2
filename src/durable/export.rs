//! Writes files that an operator asks for, at any path. The directory may be on another disk, may belong to somebody
//! else, and its file system may have no permissions.

use std::{fs::File, io::Read, os::fd::OwnedFd, path::Path};

use rustix::{
    fs::{self, AtFlags, Mode, OFlags},
    io::Errno,
};

use super::{
    dir::parent_of,
    error::{DurableError, FileKind, Result, io_error},
    mode::{PRIVATE_FILE, PUBLIC_FILE, kind_of},
    rename::rename_new,
    step::survive,
    temporary::temporary_name,
    write::write_through,
};

/// Looks for reasons why [`export`] would fail.
///
/// # Errors
/// When the path is taken, or there is no directory for it.
pub fn check_export(path: &Path) -> Result<()> {
    let parent = parent_of(path);
    match fs::stat(&parent).map(|stat| kind_of(&stat)) {
        Ok(FileKind::Directory) => {}
        Ok(found) => return Err(DurableError::Kind { path: parent, found, expected: FileKind::Directory }),
        Err(_) => return Err(DurableError::Missing(parent)),
    }
    if path.symlink_metadata().is_ok() { Err(DurableError::Exists(path.to_owned())) } else { Ok(()) }
}

/// Writes a private file that must not exist, in the same steps as every other write.
///
/// # Errors
/// When the file exists, or a step fails. Then there is no new file at `path`, unless only the fsync of its directory
/// has failed.
pub fn export(path: &Path, bytes: &[u8]) -> Result<()> {
    write(path, PRIVATE_FILE, bytes, |dir, temporary, name| publish(dir, temporary, name, path))
}

/// Writes a file that every user may read, and replaces an existing one. At any time a reader finds one whole file at
/// `path`.
///
/// # Errors
/// When there is something else than a file, such as a device or a link, or a step fails. Then the path is as it was,
/// unless only the fsync of its directory has failed.
pub fn replace_export(path: &Path, bytes: &[u8]) -> Result<()> {
    let found = fs::lstat(path).ok().map(|stat| kind_of(&stat));
    if let Some(found) = found.filter(|kind| *kind != FileKind::Regular) {
        return Err(DurableError::Kind { path: path.to_owned(), found, expected: FileKind::Regular });
    }
    write(path, PUBLIC_FILE, bytes, |dir, temporary, name| {
        fs::renameat(dir, temporary, dir, name).map_err(io_error("renaming to", path))
    })
}

/// Returns the name of the file at `path`.
pub(super) fn name_of(path: &Path) -> Result<&str> {
    let wrong = |found, expected| DurableError::Path { path: path.to_owned(), found, expected };
    let name = path.file_name().ok_or_else(|| wrong("without a name", "a path that ends in a name"))?;
    name.to_str().ok_or_else(|| wrong("not UTF-8", "a name in UTF-8"))
}

/// Writes a temporary file beside `path`, gives it its name by `publish`, and syncs the directory.
fn write(path: &Path, mode: u32, bytes: &[u8], publish: impl FnOnce(&OwnedFd, &str, &str) -> Result<()>) -> Result<()> {
    let name = name_of(path)?;
    let parent = parent_of(path);
    let dir =
        fs::open(&parent, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).map_err(|errno| {
            match errno {
                Errno::NOENT => DurableError::Missing(parent.clone()),
                errno => io_error("opening", &parent)(errno),
            }
        })?;
    let temporary = temporary_name(name)?;
    let written = fill(&dir, &temporary, path, mode, bytes).and_then(|()| publish(&dir, &temporary, name));
    if written.is_err() {
        // If this fails, the temporary file stays. The call removes only a file that this function made.
        let _ = fs::unlinkat(&dir, &temporary, AtFlags::empty());
    }
    written?;
    fs::fsync(&dir).map_err(io_error("syncing", &parent))
}

/// Writes the temporary file `name`, syncs it, and compares the bytes that it reads back.
fn fill(dir: &OwnedFd, name: &str, path: &Path, mode: u32, bytes: &[u8]) -> Result<()> {
    survive(path)?;
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = fs::openat(dir, name, flags, Mode::from(mode)).map_err(io_error("creating", path))?;
    if mode == PUBLIC_FILE {
        // Undoes the effect of the umask. This fails on file systems without permissions, where everybody can read the
        // file anyway.
        let _ = fs::fchmod(&fd, Mode::from(mode));
    }
    let mut file = File::from(fd);
    let unread = |source| DurableError::Io { action: "reading", path: path.to_owned(), source };
    write_through(&mut file, bytes, path)?;
    let mut found = Vec::with_capacity(bytes.len() + 1);
    std::io::Seek::rewind(&mut file).map_err(unread)?;
    file.read_to_end(&mut found).map_err(unread)?;
    if found == bytes { survive(path) } else { Err(DurableError::ReadBack(path.to_owned())) }
}

fn publish(dir: &OwnedFd, temporary: &str, name: &str, path: &Path) -> Result<()> {
    match rename_new(dir, temporary, dir, name) {
        Ok(()) => survive(path),
        Err(Errno::EXIST) => Err(DurableError::Exists(path.to_owned())),
        Err(errno) => Err(io_error("renaming to", path)(errno)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::durable::testing::dying_after;

    #[test]
    fn nothing_is_overwritten_and_nothing_half_remains() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("backup.age");
        for steps in 0..4 {
            let (written, _) = dying_after(steps, || export(&path, b"bytes"));
            assert_eq!(written.is_ok(), steps >= 3, "after {steps}");
            if written.is_err() && path.exists() {
                std::fs::remove_file(&path).unwrap();
            }
        }
        assert_eq!(std::fs::read(&path).unwrap(), b"bytes");
        assert!(matches!(export(&path, b"others"), Err(DurableError::Exists(_))));
        assert_eq!(std::fs::read(&path).unwrap(), b"bytes");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
        let missing = directory.path().join("none/backup.age");
        assert!(matches!(export(&missing, b"bytes"), Err(DurableError::Missing(_))));
        assert!(matches!(export(Path::new("/"), b"bytes"), Err(DurableError::Path { .. })));
    }
}
