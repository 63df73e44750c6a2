//! The lock of a directory. Every change of the files in it takes this lock, and so removes the temporary files of
//! changes that died.

use std::{
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use rustix::{
    fs::{self, AtFlags, FlockOperation, OFlags},
    io::Errno,
};

use super::{
    dir::Dir,
    error::{DurableError, Result, io_error},
    temporary::is_temporary,
};

/// How long a change waits until another change has finished.
const LOCK_WAIT: Duration = Duration::from_secs(10);
/// The name of the file that is locked.
pub const LOCK: &str = "lock";

/// The lock, which the daemon and every command hold while they change something. Dropping it releases it.
#[derive(Debug)]
pub struct Lock {
    _file: OwnedFd,
}

impl Dir {
    /// Takes the directory's lock. If another process holds it, waits for up to 10 s.
    ///
    /// # Errors
    /// When the other process holds it for longer, or a system call fails.
    pub fn lock(&self) -> Result<Lock> {
        let path = self.path_of(LOCK);
        let file = self.open_lock()?;
        let start = Instant::now();
        loop {
            match fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(Errno::WOULDBLOCK) if start.elapsed() < LOCK_WAIT => std::thread::sleep(Duration::from_millis(20)),
                Err(Errno::WOULDBLOCK) => return Err(DurableError::Locked(path)),
                Err(errno) => return Err(io_error("locking", &path)(errno)),
            }
        }
        self.remove_temporaries()?;
        Ok(Lock { _file: file })
    }

    /// Opens the file of the lock. Changes the owner only of a file that it has just created, because an existing name
    /// may be a link.
    fn open_lock(&self) -> Result<OwnedFd> {
        let path = self.path_of(LOCK);
        match self.create_exclusively(LOCK) {
            Ok(file) => {
                self.give_to_owner(&file, &path)?;
                Ok(file)
            }
            Err(Errno::EXIST) => self.open_regular(LOCK, OFlags::RDONLY).map(|(file, _)| file),
            Err(errno) => Err(io_error("creating", &path)(errno)),
        }
    }

    /// Removes temporary files, which crashes in the middle of a write have left. Nobody else is writing, because this
    /// process has the lock.
    fn remove_temporaries(&self) -> Result<()> {
        for name in self.names()?.iter().filter(|name| is_temporary(name)) {
            fs::unlinkat(&self.fd, name.as_str(), AtFlags::empty())
                .map_err(io_error("removing", &self.path_of(name)))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::durable::{FileKind, testing::private};

    #[test]
    fn what_a_crash_left_of_a_write_goes_with_the_next_change_and_nothing_else_does() {
        let (_keep, dir) = private();
        for name in ["keyring.0123456789abcdef.new", "keyring.new", "keyring.0123456789abcdeX.new"] {
            std::fs::write(dir.path_of(name), b"half a key").unwrap();
        }
        drop(dir.lock().unwrap());
        dir.create("keyring", b"whole").unwrap();
        assert_eq!(dir.names().unwrap(), ["keyring", "keyring.0123456789abcdeX.new", "keyring.new", "lock"]);
    }

    #[test]
    fn a_lock_that_is_a_link_to_something_else_is_not_given_away() {
        let (keep, dir) = private();
        std::fs::write(dir.path_of("precious"), b"").unwrap();
        symlink(dir.path_of("precious"), keep.path().join(LOCK)).unwrap();
        assert!(matches!(dir.lock(), Err(DurableError::Kind { found: FileKind::SymbolicLink, .. })));
    }

    #[test]
    fn a_lock_is_held_until_it_is_dropped() {
        let (keep, dir) = private();
        let lock = dir.lock().unwrap();
        let again = std::fs::File::open(keep.path().join(LOCK)).unwrap();
        assert_eq!(fs::flock(&again, FlockOperation::NonBlockingLockExclusive), Err(Errno::WOULDBLOCK));
        drop(lock);
        fs::flock(&again, FlockOperation::NonBlockingLockExclusive).unwrap();
    }
}
