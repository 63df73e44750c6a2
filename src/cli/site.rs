//! Opens the state directory that a command works on, and the keyring in it.

use std::path::Path;

use super::{arguments::Global, failure::Failure, passphrase};
use crate::{
    config::{Config, Settings},
    durable::{Dir, DurableError, Privacy},
    keeper::{self, OpenError, Opened},
    root::Means,
};

/// The state directory of a command, with its configuration and the secrets that open its slots.
pub(super) struct Site {
    pub(super) config: Config,
    pub(super) dir: Dir,
    pub(super) means: Means,
}

impl Site {
    /// Opens the configured state directory, and reads the secrets that open its slots.
    ///
    /// # Errors
    /// When the configuration is invalid, the directory is not safe, or a passphrase cannot be read.
    pub(super) fn find(settings: Settings, global: &Global) -> Result<Self, Failure> {
        Self::of(global.config(settings)?)
    }

    /// Opens the state directory of `config`, as [`find`](Self::find) does.
    ///
    /// # Errors
    /// When the directory is not safe, or a passphrase cannot be read.
    pub(super) fn of(config: Config) -> Result<Self, Failure> {
        let dir = Dir::open(&config.state_dir, Privacy::Private).map_err(OpenError::StateDir)?;
        let means = passphrase::means(&config)?;
        Ok(Self { config, dir, means })
    }

    /// Opens the keyring, and changes nothing.
    ///
    /// # Errors
    /// When the keyring does not open.
    pub(super) fn open(&self) -> Result<Opened, Failure> {
        Ok(keeper::open(&self.dir, &self.means)?)
    }
}

/// Whether the directory contains a keyring.
///
/// # Errors
/// When this cannot be found out.
pub(super) fn holds_keyring(state_dir: &Path) -> Result<bool, Failure> {
    match Dir::open(state_dir, Privacy::Private).and_then(|dir| keeper::is_set_up(&dir)) {
        // If the directory has another fault, the code that uses it reports that.
        Err(DurableError::Missing(_)) => Ok(false),
        outcome => Ok(outcome.map_err(OpenError::StateDir)?),
    }
}
