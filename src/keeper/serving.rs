//! The lock that a daemon holds on its state directory for its whole life, so that it is the only one there.

use std::{path::Path, sync::Arc};

use super::{
    error::OpenError,
    serve::ServeError,
    snapshot::Published,
    state_dir::{ROOT, StateFiles},
};
use crate::durable::{Dir, LifeLock, Privacy};

/// Makes this daemon the only one that serves from its state directory, until the value is dropped.
///
/// Whether the daemon has the lock is part of what it publishes: [`Published::is_alone`].
#[derive(Debug)]
pub struct Serving {
    lock: LifeLock,
    published: Arc<Published>,
}

impl Serving {
    /// Opens the lock of `state_dir` and does not take it yet; taking it will be noted in `published`.
    ///
    /// # Errors
    /// When nothing was set up in `state_dir`, as opening the keyring would say, or when the lock's file is not a private
    /// file of its owner.
    pub fn open(state_dir: &Path, published: Arc<Published>) -> Result<Self, ServeError> {
        let dir = Dir::open(state_dir, Privacy::Private).map_err(OpenError::StateDir)?;
        // Creates no file in a directory that may not be claviger's at all.
        if !dir.contains(ROOT).map_err(OpenError::File)? {
            return Err(OpenError::missing_root(StateFiles::new(&dir)).into());
        }
        Ok(Self { lock: LifeLock::open(dir).map_err(ServeError::Lock)?, published })
    }

    /// Takes the lock unless another daemon holds it, and says whether this daemon has it. Never waits.
    ///
    /// # Errors
    /// When the file system cannot lock files.
    pub fn try_lock(&self) -> Result<bool, ServeError> {
        let locked = self.is_locked() || self.lock.try_lock().map_err(ServeError::Lock)?;
        self.published.note_alone(locked);
        Ok(locked)
    }

    /// Makes this daemon the successor of the one that has the lock: from now on, no daemon but a successor gets it.
    ///
    /// # Errors
    /// When the file system cannot lock files.
    pub fn succeed(&mut self) -> Result<(), ServeError> {
        self.lock.succeed().map_err(ServeError::Lock)
    }

    /// Whether this daemon has the lock.
    pub fn is_locked(&self) -> bool {
        self.published.is_alone()
    }
}
