//! The lock that one daemon holds on a directory for its whole life.

use std::os::fd::OwnedFd;

use rustix::{
    fs::{self, FlockOperation, OFlags},
    io::Errno,
};

use super::{
    dir::Dir,
    error::{DurableError, Result, io_error},
};

/// The file that is locked. Nothing removes it: a lock on a removed file excludes nobody.
const SERVING: &str = "serving";

const EXCLUSIVE: FlockOperation = FlockOperation::NonBlockingLockExclusive;
const SHARED: FlockOperation = FlockOperation::NonBlockingLockShared;
const RELEASE: FlockOperation = FlockOperation::NonBlockingUnlock;

/// Locks a directory for the life of one daemon. The kernel releases the lock when it is dropped or the process dies.
///
/// The lock is taken when both the file `serving` and the directory itself are locked exclusively. So two daemons exclude
/// each other also after somebody removed the file, and on a disk on which the file cannot be created. The directory's
/// lock is then made a shared one, which a successor can take as well. As long as a successor has it, nobody else locks the
/// directory exclusively: when the holder ends, the lock goes to its successor and not to another daemon that waits.
#[derive(Debug)]
pub struct LifeLock {
    dir: Dir,
    file: Option<OwnedFd>,
    /// Whether this daemon has replaced the one that holds the lock.
    succeeds: bool,
}

impl LifeLock {
    /// Opens what will be locked, and creates the file if it is missing. Locks nothing yet.
    ///
    /// The file is missing on a read-only or full disk on which no daemon ran before: a plugin must start there, too.
    ///
    /// # Errors
    /// When the file is no regular file, not the directory's owner's, or open to others; or when the system refuses.
    pub fn open(dir: Dir) -> Result<Self> {
        let file = match open_serving(&dir) {
            Err(DurableError::Missing(_)) => create_serving(&dir)?,
            opened => Some(opened?),
        };
        Ok(Self { dir, file, succeeds: false })
    }

    /// Takes the lock unless another process holds it, and says whether it has it. Never waits.
    ///
    /// # Errors
    /// When the file system cannot lock files.
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
            // The failed attempt has released the shared lock.
            self.flock(&self.dir.fd, SHARED)?;
        } else {
            // A successor holds the directory: the file is left to it.
            self.flock(file, RELEASE)?;
        }
        Ok(false)
    }

    /// Makes this daemon the successor of the one that holds the lock: from now on, no daemon but a successor gets it.
    ///
    /// # Errors
    /// When the file system cannot lock files.
    pub fn succeed(&mut self) -> Result<()> {
        self.succeeds = true;
        // Another daemon can stop this only if it has no file: it then keeps the directory locked exclusively.
        self.flock(&self.dir.fd, SHARED).map(drop)
    }

    fn flock(&self, fd: &OwnedFd, operation: FlockOperation) -> Result<bool> {
        match fs::flock(fd, operation) {
            Ok(()) => Ok(true),
            Err(Errno::WOULDBLOCK) => Ok(false),
            Err(errno) => Err(io_error("locking", &self.dir.path_of(SERVING))(errno)),
        }
    }
}

/// Opens the file for writing, because NFS locks only such files exclusively; for reading where the disk is read-only.
fn open_serving(dir: &Dir) -> Result<OwnedFd> {
    match dir.open_private(SERVING, OFlags::RDWR) {
        Err(DurableError::Io { source, .. }) if source.kind() == std::io::ErrorKind::ReadOnlyFilesystem => {
            dir.open_private(SERVING, OFlags::RDONLY)
        }
        opened => opened,
    }
}

/// Creates the file; none where the disk has no room for it or is read-only.
fn create_serving(dir: &Dir) -> Result<Option<OwnedFd>> {
    let path = dir.path_of(SERVING);
    match dir.create_exclusively(SERVING) {
        Ok(file) => {
            dir.give_to_owner(&file, &path)?;
            Ok(Some(file))
        }
        // Another daemon was faster.
        Err(Errno::EXIST) => open_serving(dir).map(Some),
        Err(Errno::ROFS | Errno::NOSPC | Errno::DQUOT) => Ok(None),
        Err(errno) => Err(io_error("creating", &path)(errno)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;
    use crate::durable::{Privacy, testing::private};

    /// What another daemon opens on the directory of `dir`.
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
