//! Writing, renaming and removing the files of a directory, in an order that survives a crash.
//!
//! A write has these steps: make a temporary file, write, fsync, read back and compare, rename, fsync the directory.
//! Only then has it succeeded. If a step fails, nothing is tried again, and the old file is still whole, unless only
//! the last step has failed: then the new file may be there. Source: rename(2), fsync(2); `docs/formats.md`, "Files".

use std::{
    fs::File,
    io::Write,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{self, AtFlags, Mode, OFlags},
    io::Errno,
};

use super::{
    dir::Dir,
    error::{DurableError, Result, io_error},
    mode::{PRIVATE_DIRECTORY, PRIVATE_FILE},
    rename::rename_new,
    step::survive,
    temporary::temporary_name,
};

/// How a new file gets its name.
#[derive(Debug, Clone, Copy)]
enum Target {
    /// The name must be free.
    New,
    /// A file that has the name is replaced.
    Any,
}

impl Dir {
    /// Writes a file that must not exist yet.
    ///
    /// # Errors
    /// When the file exists, or a step fails. Then there is no new file of this name.
    pub fn create(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.write(name, bytes, Target::New)
    }

    /// Writes a file, and replaces an old one.
    ///
    /// # Errors
    /// When a step fails. Up to the rename the old file stays whole.
    pub fn replace(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.write(name, bytes, Target::Any)
    }

    /// Writes a temporary file, renames it to `name`, and syncs the directory.
    fn write(&self, name: &str, bytes: &[u8], target: Target) -> Result<()> {
        // Errors name this file and not the temporary one, which is removed.
        let path = self.path_of(name);
        let temporary = temporary_name(name)?;
        survive(&path)?;
        let fd = self.create_exclusively(&temporary).map_err(io_error("creating", &path))?;
        let filled = self.fill(fd, &temporary, bytes, &path).and_then(|()| survive(&path));
        let written = filled.and_then(|()| self.rename(&temporary, name, target));
        if written.is_err() && survive(&path).is_ok() {
            // If this fails, the temporary file stays until the next change removes it. The call removes only a file
            // that this function made.
            let _ = fs::unlinkat(&self.fd, &temporary, AtFlags::empty());
        }
        written?;
        survive(&path)?;
        self.sync()
    }

    /// Opens a new file, and fails if the name is taken.
    pub(super) fn create_exclusively(&self, name: &str) -> rustix::io::Result<OwnedFd> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        fs::openat(&self.fd, name, flags, Mode::from(PRIVATE_FILE))
    }

    fn fill(&self, fd: OwnedFd, name: &str, bytes: &[u8], path: &Path) -> Result<()> {
        self.give_to_owner(&fd, path)?;
        write_through(&mut File::from(fd), bytes, path)?;
        if *self.read(name, bytes.len())? != bytes {
            return Err(DurableError::ReadBack(path.to_owned()));
        }
        Ok(())
    }

    /// Gives a new file to the directory's owner, because root may run the command.
    pub(super) fn give_to_owner(&self, fd: &OwnedFd, path: &Path) -> Result<()> {
        let stat = fs::fstat(fd).map_err(io_error("inspecting", path))?;
        if (stat.st_uid, stat.st_gid) == (self.uid, self.gid) || stat.st_uid == self.uid {
            return Ok(());
        }
        let (uid, gid) = (fs::Uid::from_raw(self.uid), fs::Gid::from_raw(self.gid));
        fs::fchown(fd, Some(uid), Some(gid)).map_err(io_error("chown", path))
    }

    fn rename(&self, from: &str, to: &str, target: Target) -> Result<()> {
        let path = self.path_of(to);
        let renamed = match target {
            Target::New => rename_new(&self.fd, from, &self.fd, to),
            Target::Any => fs::renameat(&self.fd, from, &self.fd, to),
        };
        renamed.map_err(|errno| match errno {
            Errno::EXIST => DurableError::Exists(path.clone()),
            errno => io_error("renaming to", &path)(errno),
        })
    }

    /// Syncs a file that another process may have written, and the directory.
    ///
    /// # Errors
    /// When it cannot be opened as in [`Dir::read`], or a sync fails.
    pub fn sync_file(&self, name: &str) -> Result<()> {
        let fd = self.open_file(name)?;
        fs::fsync(&fd).map_err(io_error("syncing", &self.path_of(name)))?;
        self.sync()
    }

    pub(super) fn sync(&self) -> Result<()> {
        fs::fsync(&self.fd).map_err(io_error("syncing", self.path()))
    }

    /// Removes a file, if it is there.
    ///
    /// # Errors
    /// When the file cannot be removed, or the directory cannot be synced.
    pub fn remove(&self, name: &str) -> Result<()> {
        let path = self.path_of(name);
        survive(&path)?;
        match fs::unlinkat(&self.fd, name, AtFlags::empty()) {
            Ok(()) => {}
            Err(Errno::NOENT) => return Ok(()),
            Err(errno) => return Err(io_error("removing", &path)(errno)),
        }
        survive(&path)?;
        self.sync()
    }

    /// Moves `names` into a new directory `<prefix>-<n>` and returns its path. Nothing is overwritten.
    ///
    /// # Errors
    /// When the directory cannot be made, or a name cannot be moved. Then some names are in the new directory, and the
    /// others are still here.
    pub fn move_aside(&self, names: &[String], prefix: &str) -> Result<PathBuf> {
        let aside = self.make_aside(prefix)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let target =
            fs::openat(&self.fd, &aside, flags, Mode::empty()).map_err(io_error("opening", &self.path_of(&aside)))?;
        for name in names {
            rename_new(&self.fd, name, &target, name).map_err(io_error("moving", &self.path_of(name)))?;
        }
        fs::fsync(&target).map_err(io_error("syncing", &self.path_of(&aside)))?;
        self.sync()?;
        Ok(self.path_of(&aside))
    }

    fn make_aside(&self, prefix: &str) -> Result<String> {
        for n in 1_u32.. {
            let name = format!("{prefix}-{n}");
            match fs::mkdirat(&self.fd, &name, Mode::from(PRIVATE_DIRECTORY)) {
                Ok(()) => return Ok(name),
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(io_error("making", &self.path_of(&name))(errno)),
            }
        }
        Err(DurableError::Exists(self.path_of(prefix)))
    }
}

/// Writes `bytes` to a new file at `path` and syncs it. What is read back after this comes from the disk.
pub(super) fn write_through(file: &mut File, bytes: &[u8], path: &Path) -> Result<()> {
    file.write_all(bytes).map_err(|source| DurableError::Io { action: "writing", path: path.to_owned(), source })?;
    fs::fsync(&*file).map_err(io_error("syncing", path))?;
    // Drops the file from the page cache, so that it is read back from the disk. If this fails, the check is only
    // weaker.
    let _ = fs::fadvise(&*file, 0, None, fs::Advice::DontNeed);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::durable::testing::private;

    #[test]
    fn what_was_written_reads_back_and_nothing_else_stays() {
        let (_keep, dir) = private();
        dir.create("keyring", b"one").unwrap();
        dir.replace("keyring", b"two").unwrap();
        assert_eq!(*dir.read("keyring", 3).unwrap(), b"two");
        assert_eq!(dir.names().unwrap(), ["keyring"]);
    }

    #[test]
    fn create_never_overwrites() {
        let (_keep, dir) = private();
        dir.create("keyring", b"one").unwrap();
        assert!(matches!(dir.create("keyring", b"two"), Err(DurableError::Exists(_))));
        assert_eq!(*dir.read("keyring", 3).unwrap(), b"one");
        assert_eq!(dir.names().unwrap(), ["keyring"]);
    }

    #[test]
    fn moving_aside_overwrites_nothing() {
        let (_keep, dir) = private();
        for expected in ["old-1", "old-2"] {
            dir.create("root", b"x").unwrap();
            assert_eq!(dir.move_aside(&["root".to_owned()], "old").unwrap(), dir.path_of(expected));
        }
        assert_eq!(dir.names().unwrap(), ["old-1", "old-2"]);
    }
}
