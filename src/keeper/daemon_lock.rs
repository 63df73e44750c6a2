//! The lock that a daemon holds on its state directory for its whole life, so that no other daemon serves from there.

use std::{path::Path, sync::Arc};

use super::{
    error::OpenError,
    served_keys::Published,
    state_dir::{ROOT, StateFiles},
};
use crate::durable::{Dir, DurableError, LifeLock, Privacy};

/// Makes this daemon the only one that serves from its state directory, until the value is dropped.
///
/// [`Published::is_alone`] says whether the daemon has the lock.
#[derive(Debug)]
pub struct Serving {
    lock: LifeLock,
    published: Arc<Published>,
}

impl Serving {
    /// Opens the lock of `state_dir` without taking it. [`Serving::try_lock`] will note in `published` whether it was
    /// taken.
    ///
    /// # Errors
    /// When the directory has no root file; this is the error that opening the keyring returns. When the lock's file is
    /// not a private file of the directory's owner.
    pub fn open(state_dir: &Path, published: Arc<Published>) -> Result<Self, OpenError> {
        let dir = Dir::open(state_dir, Privacy::Private).map_err(OpenError::StateDir)?;
        // Checks for the root file first, so that no file is created in a directory that does not belong to claviger.
        if !dir.contains(ROOT).map_err(OpenError::File)? {
            return Err(OpenError::missing_root(StateFiles::new(&dir)));
        }
        Ok(Self { lock: LifeLock::open(dir)?, published })
    }

    /// Takes the lock unless another daemon holds it. Returns whether this daemon has the lock. Never waits.
    ///
    /// # Errors
    /// When the system call fails.
    pub fn try_lock(&self) -> Result<bool, DurableError> {
        let locked = self.is_locked() || self.lock.try_lock()?;
        self.published.note_alone(locked);
        Ok(locked)
    }

    /// Makes this daemon the successor of the daemon that has the lock. From now on, only a successor can take the
    /// lock.
    ///
    /// # Errors
    /// When the system call fails.
    pub fn succeed(&mut self) -> Result<(), DurableError> {
        self.lock.succeed()
    }

    /// Whether this daemon has the lock.
    pub fn is_locked(&self) -> bool {
        self.published.is_alone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{durable, keeper::testing::set_up};

    fn serving(dir: &Dir) -> (Serving, Arc<Published>) {
        let published = Arc::default();
        (Serving::open(dir.path(), Arc::clone(&published)).unwrap(), published)
    }

    #[test]
    fn one_daemon_serves_from_a_directory_until_it_ends() {
        let (_keep, dir) = set_up();
        let ((first, published), (second, waiting)) = (serving(&dir), serving(&dir));
        assert!(!first.is_locked());
        assert!(first.try_lock().unwrap() && first.try_lock().unwrap() && first.is_locked());
        assert!(!second.try_lock().unwrap() && !second.is_locked());
        assert!(published.is_alone() && !waiting.is_alone());
        drop(first);
        assert!(second.try_lock().unwrap() && waiting.is_alone());
    }

    #[test]
    fn the_successor_serves_next() {
        let (_keep, dir) = set_up();
        let [(first, _), (mut second, _), (other, _)] = [(); 3].map(|()| serving(&dir));
        assert!(first.try_lock().unwrap());
        second.succeed().unwrap();
        drop(first);
        assert!(!other.try_lock().unwrap() && second.try_lock().unwrap());
    }

    #[test]
    fn nothing_is_created_in_a_directory_without_a_keyring() {
        let (_keep, dir) = durable::testing::private();
        let refused = Serving::open(dir.path(), Arc::default()).map(drop).unwrap_err().to_string();
        assert_eq!(refused, format!("{} holds no keyring", dir.path().display()));
        assert!(dir.names().unwrap().is_empty());
    }
}
