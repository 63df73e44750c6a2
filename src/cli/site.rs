//! Opens the state directory that a command works on, and the keyring in it.

use std::path::Path;

use super::{
    arguments::Global,
    failure::{Exit, Failure},
    given::quoted,
    passphrase,
};
use crate::{
    config::{Config, Settings},
    durable::{Dir, DurableError, Privacy},
    keeper::{self, KEYRING, OpenError, Opened, ROOT},
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

/// Refuses to make a state directory inside of another one. A copy of the outer directory, for example, would contain
/// both.
///
/// # Errors
/// When a directory above has a keyring.
pub(super) fn check_apart(state_dir: &Path) -> Result<(), Failure> {
    let real = state_dir.canonicalize();
    let mut below = real.as_deref().unwrap_or(state_dir).ancestors().skip(1);
    let Some(above) = below.find_map(|above| above.canonicalize().ok()) else { return Ok(()) };
    // A directory that claviger would not open, for example because of its mode, may still be a state directory.
    let has_files = |dir: &Path| [ROOT, KEYRING].iter().all(|name| dir.join(name).is_file());
    let is_state_dir = |dir: &&Path| holds_keyring(dir).unwrap_or_else(|_| has_files(dir));
    let Some(other) = above.ancestors().find(is_state_dir) else { return Ok(()) };
    let message = format!("{} is inside of the state directory {}", state_dir.display(), other.display());
    let hint = format!(
        "give a directory outside of it: --state-dir DIR; to see the keyring that is there: claviger status --state-dir {}",
        quoted(other)
    );
    Err(Failure::new(Exit::Refused, &message, hint).without("state-dir"))
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
