//! A directory of private files that an operator asks for. It gets its name when it is complete.

use std::{
    fs::{self as std_fs, File},
    io::Write,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{self, CWD, Mode, OFlags},
    io::Errno,
};

use super::{
    dir::parent_of,
    error::{DurableError, Result, io_error},
    export::{check_export, name_of},
    mode::{PRIVATE_DIRECTORY, PRIVATE_FILE},
    rename::rename_new,
    step::survive,
    temporary::temporary_name,
};

/// A new directory of private files. Until [`finish`](Self::finish) it has a temporary name that ends in `.new`.
/// Dropping it before that removes it. If the process is killed, it stays.
#[derive(Debug)]
pub struct ExportTree {
    path: PathBuf,
    temporary: PathBuf,
    root: OwnedFd,
    /// The directory of the file that was written last, which is often also that of the next file.
    last: Option<(Vec<String>, OwnedFd)>,
    is_finished: bool,
}

impl ExportTree {
    /// Makes a directory that will be at `path`.
    ///
    /// # Errors
    /// When the path is taken, or its directory does not exist or cannot be written to.
    pub fn create(path: &Path) -> Result<Self> {
        check_export(path)?;
        let name = name_of(path)?;
        let temporary = parent_of(path).join(temporary_name(name)?);
        survive(path)?;
        fs::mkdir(&temporary, Mode::from(PRIVATE_DIRECTORY)).map_err(io_error("creating", &temporary))?;
        let root = open(CWD, &temporary).map_err(io_error("opening", &temporary))?;
        Ok(Self { path: path.to_owned(), temporary, root, last: None, is_finished: false })
    }

    /// Writes a file. `names` are the names of the directories below this one, and then the name of the file. None may
    /// be a path.
    ///
    /// # Errors
    /// When there is such a file, or it cannot be written.
    pub fn write(&mut self, names: &[String], bytes: &[u8]) -> Result<()> {
        let at = names.iter().fold(self.path.clone(), |path, name| path.join(name));
        let Some((name, above)) = names.split_last().filter(|_| names.iter().all(|name| is_name(name))) else {
            return Err(DurableError::Path { path: at, found: "no path of names", expected: "one" });
        };
        survive(&at)?;
        let dir = self.directory(above)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = fs::openat(dir, name, flags, Mode::from(PRIVATE_FILE)).map_err(|errno| match errno {
            Errno::EXIST => DurableError::Exists(at.clone()),
            errno => io_error("creating", &at)(errno),
        })?;
        let written = File::from(file).write_all(bytes);
        written.map_err(|source| DurableError::Io { action: "writing", path: at, source })
    }

    /// Syncs all files, and gives the directory its final name.
    ///
    /// # Errors
    /// When the disk does not take it, or something has taken the name.
    pub fn finish(mut self) -> Result<()> {
        let parent = parent_of(&self.path);
        fs::syncfs(&self.root).map_err(io_error("syncing", &self.path))?;
        survive(&self.path)?;
        let above = open(CWD, &parent).map_err(io_error("opening", &parent))?;
        let name = |path: &Path| path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        match rename_new(&above, &name(&self.temporary), &above, &name(&self.path)) {
            Ok(()) => self.is_finished = true,
            Err(Errno::EXIST) => return Err(DurableError::Exists(self.path.clone())),
            Err(errno) => return Err(io_error("renaming to", &self.path)(errno)),
        }
        fs::fsync(&above).map_err(io_error("syncing", &parent))
    }

    /// Returns the directory with these names below this one. Makes it if it does not exist.
    fn directory(&mut self, names: &[String]) -> Result<&OwnedFd> {
        if self.last.as_ref().is_none_or(|(last, _)| last != names) {
            let mut dir = self.root.try_clone().map_err(|source| self.failed(source))?;
            for name in names {
                match fs::mkdirat(&dir, name, Mode::from(PRIVATE_DIRECTORY)) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(errno) => return Err(self.failed(errno.into())),
                }
                dir = open(&dir, Path::new(name)).map_err(|errno| self.failed(errno.into()))?;
            }
            self.last = Some((names.to_vec(), dir));
        }
        Ok(self.last.as_ref().map_or(&self.root, |(_, dir)| dir))
    }

    fn failed(&self, source: std::io::Error) -> DurableError {
        DurableError::Io { action: "making a directory in", path: self.path.clone(), source }
    }
}

impl Drop for ExportTree {
    fn drop(&mut self) {
        if !self.is_finished {
            // If this fails, the directory stays. The call removes only files that this value made.
            let _ = std_fs::remove_dir_all(&self.temporary);
        }
    }
}

fn open(dir: impl std::os::fd::AsFd, path: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    fs::openat(dir, path, flags, Mode::empty())
}

/// Whether `name` is the name of a file, and not a path.
fn is_name(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && !name.contains(['/', '\0'])
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::durable::testing::dying_after;

    fn names(path: &str) -> Vec<String> {
        path.split('/').map(ToOwned::to_owned).collect()
    }

    fn export(path: &Path) -> Result<()> {
        let mut tree = ExportTree::create(path)?;
        tree.write(&names("secrets/default/a.yaml"), b"a")?;
        tree.write(&names("secrets/default/b.yaml"), b"b")?;
        tree.write(&names("c.bin"), b"c")?;
        tree.finish()
    }

    #[test]
    fn a_directory_appears_whole_and_private_or_not_at_all() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("out");
        for steps in 0..5 {
            let (written, _) = dying_after(steps, || export(&path));
            assert!(written.is_err() && !path.exists(), "after {steps}");
            assert_eq!(std_fs::read_dir(parent.path()).unwrap().count(), 0, "after {steps}");
        }
        export(&path).unwrap();
        let mode = |name: &str| path.join(name).metadata().unwrap().permissions().mode() & 0o7777;
        assert_eq!(["", "secrets", "secrets/default"].map(mode), [0o700; 3]);
        assert_eq!(["c.bin", "secrets/default/a.yaml"].map(mode), [0o600; 2]);
        assert_eq!(std_fs::read(path.join("secrets/default/b.yaml")).unwrap(), b"b");
        assert!(matches!(export(&path), Err(DurableError::Exists(_))));
        assert_eq!(std_fs::read_dir(parent.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_name_leads_nowhere_else_and_no_file_is_written_twice() {
        let parent = tempfile::tempdir().unwrap();
        let mut tree = ExportTree::create(&parent.path().join("out")).unwrap();
        for wrong in ["", ".", "..", "a//b", "../b", "a/.."] {
            assert!(matches!(tree.write(&names(wrong), b""), Err(DurableError::Path { .. })), "{wrong}");
        }
        tree.write(&names("a/b"), b"").unwrap();
        assert!(matches!(tree.write(&names("a/b"), b""), Err(DurableError::Exists(_))));
        assert!(matches!(tree.write(&names("a/b/c"), b""), Err(DurableError::Io { .. })));
        // Somebody else has taken the name in the meantime.
        std_fs::create_dir(parent.path().join("out")).unwrap();
        assert!(matches!(tree.finish(), Err(DurableError::Exists(_))));
        assert_eq!(std_fs::read_dir(parent.path()).unwrap().count(), 1);
        assert!(matches!(ExportTree::create(Path::new("/")), Err(DurableError::Exists(_))));
    }
}
