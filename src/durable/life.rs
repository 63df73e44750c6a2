//! The lock that a daemon holds on a directory for its whole life.

use std::{os::fd::OwnedFd, path::Path};

use rustix::{
    fs::{self, FlockOperation, OFlags},
    io::Errno,
};

use super::{
    dir::{Dir, Privacy},
    error::{DurableError, Result, io_error},
};

/// The name of the file that is locked. It is never removed, because a lock on a removed file excludes nobody.
pub const SERVING: &str = "serving";

const EXCLUSIVE: FlockOperation = FlockOperation::NonBlockingLockExclusive;
const SHARED: FlockOperation = FlockOperation::NonBlockingLockShared;
const RELEASE: FlockOperation = FlockOperation::NonBlockingUnlock;

/// Locks a directory for the life of one daemon. The kernel releases the lock when it is dropped or the process dies.
///
/// To take the lock, a daemon locks both the file `serving` and the directory itself exclusively. So two daemons
/// exclude each other even if somebody removed the file, or the disk has no room for it. Then the daemon makes its lock
/// on the directory a shared one. A successor takes a shared lock on the directory, too. As long as it has that, no
/// other daemon can lock the directory exclusively. So when the holder ends, its successor gets the lock, and not
/// another daemon that waits.
#[derive(Debug)]
pub struct LifeLock {
    dir: Dir,
    file: Option<OwnedFd>,
    /// Whether this daemon is the successor of the daemon that holds the lock.
    succeeds: bool,
}

impl LifeLock {
    /// Opens the directory and the file, and creates the file if it is missing. Locks neither.
    ///
    /// If the disk is full or read-only, and no daemon ran on it before, the file stays missing. A plugin must start
    /// there, too.
    ///
    /// # Errors
    /// When the file is not a regular file, does not belong to the directory's owner, or is open to others, or a system
    /// call fails.
    pub fn open(dir: Dir) -> Result<Self> {
        let file = match open_serving(&dir) {
            Err(DurableError::Missing(_)) => create_serving(&dir)?,
            opened => Some(opened?),
        };
        Ok(Self { dir, file, succeeds: false })
    }

    /// Takes the lock unless another process holds it. Returns whether this daemon has it now. Never waits.
    ///
    /// # Errors
    /// When the system call fails.
    pub fn try_lock(&self) -> Result<bool> {
        let Some(file) = &self.file else { return self.flock(&self.dir.fd, EXCLUSIVE) };
        if !self.flock(file, EXCLUSIVE)? {
            return Ok(false);
        }
        if self.flock(&self.dir.fd, EXCLUSIVE)? {
            self.flock(&self.dir.fd, SHARED)?;
            return Ok(true);
        }
        if self.succeeds {
            // A failed attempt to lock exclusively releases the shared lock, so this takes it again.
            self.flock(&self.dir.fd, SHARED)?;
        } else {
            // A successor has locked the directory, so this releases the file for it.
            self.flock(file, RELEASE)?;
        }
        Ok(false)
    }

    /// Makes this daemon a successor of the one that holds the lock. From now on only a successor can get the lock.
    ///
    /// # Errors
    /// When the system call fails.
    pub fn succeed(&mut self) -> Result<()> {
        self.succeeds = true;
        // The other daemon prevents this only if it has no file `serving`. Then it keeps the directory locked
        // exclusively.
        self.flock(&self.dir.fd, SHARED).map(drop)
    }

    /// Whether a daemon holds the lock of the directory at `path`, or waits for it as a successor. Creates nothing.
    ///
    /// # Errors
    /// As [`LifeLock::open`] and [`LifeLock::try_lock`], or when the directory cannot be opened.
    pub fn is_held(path: &Path) -> Result<bool> {
        let dir = Dir::open(path, Privacy::Private)?;
        let file = match open_serving(&dir) {
            Err(DurableError::Missing(_)) => None,
            opened => Some(opened?),
        };
        // If the lock is free, this call takes it and releases it at its end.
        Ok(!Self { dir, file, succeeds: false }.try_lock()?)
    }

    fn flock(&self, fd: &OwnedFd, operation: FlockOperation) -> Result<bool> {
        match fs::flock(fd, operation) {
            Ok(()) => Ok(true),
            Err(Errno::WOULDBLOCK) => Ok(false),
            Err(errno) => Err(io_error("locking", &self.dir.path_of(SERVING))(errno)),
        }
    }
}

/// Opens the file for writing, because NFS locks only such a file exclusively. On a read-only disk, opens it for
/// reading.
fn open_serving(dir: &Dir) -> Result<OwnedFd> {
    match dir.open_private(SERVING, OFlags::RDWR) {
        Err(DurableError::Io { source, .. }) if source.kind() == std::io::ErrorKind::ReadOnlyFilesystem => {
            dir.open_private(SERVING, OFlags::RDONLY)
        }
        opened => opened,
    }
}

/// Creates the file. Returns `None` if the disk is full or read-only.
fn create_serving(dir: &Dir) -> Result<Option<OwnedFd>> {
    let path = dir.path_of(SERVING);
    match dir.create_exclusively(SERVING) {
        Ok(file) => {
            dir.give_to_owner(&file, &path)?;
            Ok(Some(file))
        }
        // Another daemon has created the file in the meantime.
        Err(Errno::EXIST) => open_serving(dir).map(Some),
        Err(Errno::ROFS | Errno::NOSPC | Errno::DQUOT) => Ok(None),
        Err(errno) => Err(io_error("creating", &path)(errno)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;
    use crate::durable::testing::private;

    #[test]
    fn who_asks_whether_it_is_held_neither_takes_it_nor_makes_its_file() {
        let (_directory, dir) = private();
        assert!(!LifeLock::is_held(dir.path()).unwrap());
        assert!(!dir.contains(SERVING).unwrap());
        let daemon = open(&dir).unwrap();
        assert!(daemon.try_lock().unwrap() && LifeLock::is_held(dir.path()).unwrap());
        drop(daemon);
        assert!(!LifeLock::is_held(dir.path()).unwrap());
        assert!(open(&dir).unwrap().try_lock().unwrap());
    }

    /// Opens the lock of `dir` as another daemon does.
    fn open(dir: &Dir) -> Result<LifeLock> {
        LifeLock::open(Dir::open(dir.path(), Privacy::Private).unwrap())
    }

    #[test]
    fn one_holds_it_until_it_is_dropped() {
        let (_keep, dir) = private();
        let (first, second) = (open(&dir).unwrap(), open(&dir).unwrap());
        assert!(first.try_lock().unwrap());
        assert!(!second.try_lock().unwrap() && !second.try_lock().unwrap());
        drop(first);
        assert!(second.try_lock().unwrap());
        let found = std::fs::metadata(dir.path_of(SERVING)).unwrap();
        assert_eq!((found.permissions().mode() & 0o7777, found.uid()), (0o600, dir.owner()));
    }

    #[test]
    fn a_change_does_not_wait_for_it() {
        let (_keep, dir) = private();
        let serving = open(&dir).unwrap();
        assert!(serving.try_lock().unwrap());
        drop(dir.lock().unwrap());
        dir.create("keyring", b"x").unwrap();
    }

    #[test]
    fn a_removed_file_lets_nobody_else_in() {
        let (_keep, dir) = private();
        let first = open(&dir).unwrap();
        assert!(first.try_lock().unwrap());
        std::fs::remove_file(dir.path_of(SERVING)).unwrap();
        let second = open(&dir).unwrap();
        assert!(!second.try_lock().unwrap());
        drop(first);
        assert!(second.try_lock().unwrap());
    }

    #[test]
    fn a_daemon_without_the_file_and_one_with_it_exclude_each_other() {
        let (_keep, dir) = private();
        let without = LifeLock { file: None, ..open(&dir).unwrap() };
        let with = open(&dir).unwrap();
        assert!(without.try_lock().unwrap() && !with.try_lock().unwrap());
        drop(without);
        assert!(with.try_lock().unwrap());
    }

    #[test]
    fn the_successor_gets_it_and_nobody_else() {
        let (_keep, dir) = private();
        let [first, mut second, mut third, other] = [(); 4].map(|()| open(&dir).unwrap());
        assert!(first.try_lock().unwrap());
        second.succeed().unwrap();
        assert!(!second.try_lock().unwrap() && !other.try_lock().unwrap());
        drop(first);
        assert!(!other.try_lock().unwrap(), "the successor has not looked yet");
        third.succeed().unwrap();
        assert!(!third.try_lock().unwrap(), "the second one is still there");
        drop(second);
        assert!(!other.try_lock().unwrap() && third.try_lock().unwrap());
        drop(third);
        assert!(other.try_lock().unwrap());
    }

    #[test]
    fn what_is_no_private_file_is_refused() {
        for (make, reason) in [
            ((|path| symlink("/etc/passwd", path).unwrap()) as fn(&std::path::Path), "is a symbolic link, expected"),
            (|path| std::fs::create_dir(path).unwrap(), "is a directory, expected a regular file"),
            (
                |path| {
                    std::fs::write(path, "").unwrap();
                    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644)).unwrap();
                },
                "has mode 0644, expected 0600",
            ),
        ] {
            let (_keep, dir) = private();
            make(&dir.path_of(SERVING));
            let error = open(&dir).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }
}
