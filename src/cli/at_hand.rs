//! The keyrings that a command can open: those in given backups, on any machine, and the one in the state directory.

use std::{fmt, path::PathBuf};

#[cfg(feature = "recover")]
use clap::Args;

use super::{
    Global, Site,
    backup_file::{open, read},
    failure::{Failure, warn},
    identities::{IdentityArgs, Purpose},
    site::holds_keyring,
};
#[cfg(feature = "recover")]
use super::{KeyringArgs, output::audit_to_stderr};
#[cfg(feature = "recover")]
use crate::{audit, config::Settings};
use crate::{config::Config, keyring::Keyring};

/// The flags that say where keys are.
#[cfg(feature = "recover")]
#[derive(Args, Default)]
pub(super) struct AtHandArgs {
    /// Backup with the keys; may be given several times [default: the keyring in the state directory]
    #[arg(long, value_name = "FILE")]
    backup: Vec<PathBuf>,
    #[command(flatten)]
    identity: IdentityArgs,
    #[command(flatten)]
    keyring: KeyringArgs,
}

/// The place of a keyring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum KeyringOrigin {
    /// The keyring is in this backup.
    Backup(PathBuf),
    /// The keyring is in this state directory.
    StateDir(PathBuf),
}

impl fmt::Display for KeyringOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Backup(path) | Self::StateDir(path) => path.display().fmt(f),
        }
    }
}

/// An opened keyring, with its place.
pub(super) struct HeldKeyring {
    pub(super) origin: KeyringOrigin,
    pub(super) keyring: Keyring,
}

/// The opened keyrings, at least one.
pub(super) struct AtHand {
    pub(super) held: Vec<HeldKeyring>,
    /// The state directory, if its keyring is among the opened ones.
    pub(super) site: Option<Site>,
}

/// When the keyring in the state directory is opened besides the backups. Without a backup, it is always opened.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum StateDirUse {
    /// If a flag names the directory.
    IfNamed,
    /// If a flag names the directory, or the directory contains a keyring.
    IfThere,
}

#[cfg(feature = "recover")]
impl AtHandArgs {
    /// Moves the flags into `settings`, and returns the arguments that are not settings.
    pub(super) fn split(self) -> (Settings, GivenBackups) {
        let Self { backup: files, identity, keyring } = self;
        let instead = "use the keys of a backup: --backup FILE";
        let backups = GivenBackups {
            files,
            identity,
            is_named: keyring.has_state_dir(),
            state_dir: StateDirUse::IfNamed,
            instead,
        };
        (keyring.settings(), backups)
    }
}

/// The arguments that name backups and identities.
pub(super) struct GivenBackups {
    pub(super) files: Vec<PathBuf>,
    pub(super) identity: IdentityArgs,
    /// Whether a flag names the state directory.
    pub(super) is_named: bool,
    pub(super) state_dir: StateDirUse,
    /// Another way to give keys. The hint mentions it if there are no backups and the state directory does not open.
    pub(super) instead: &'static str,
}

impl GivenBackups {
    /// Opens the backups and, if it should be used, the keyring in the state directory.
    ///
    /// # Errors
    /// When one of them does not open. If there are backups, a directory without a keyring is only warned of.
    pub(super) fn open(self, config: Config, global: &Global) -> Result<AtHand, Failure> {
        let mut held = Vec::new();
        if !self.files.is_empty() {
            let identities = self.identity.read(Purpose::Open)?;
            for file in &self.files {
                let keyring = open(file, &read(file)?, &identities)?.keyring;
                held.push(HeldKeyring { origin: KeyringOrigin::Backup(file.clone()), keyring });
            }
        }
        let mut site = None;
        if self.wants_state_dir(&config, global)? {
            let path = config.state_dir.clone();
            let found = Site::of(config).map_err(|failure| self.backup_first(failure))?;
            let keyring = found.open().map_err(|failure| self.backup_first(failure))?.keyring;
            held.push(HeldKeyring { origin: KeyringOrigin::StateDir(path), keyring });
            site = Some(found);
        }
        Ok(AtHand { held, site })
    }

    /// Decides whether the keyring in the state directory is opened, too. Warns if a flag names a directory without a
    /// keyring.
    fn wants_state_dir(&self, config: &Config, global: &Global) -> Result<bool, Failure> {
        if self.files.is_empty() {
            return Ok(true);
        }
        if !self.is_named && self.state_dir == StateDirUse::IfNamed {
            return Ok(false);
        }
        let is_there = holds_keyring(&config.state_dir)?;
        if self.is_named && !is_there {
            let dir = config.state_dir.display();
            let what = if config.state_dir.exists() { "holds no keyring" } else { "does not exist" };
            let message = format!("{dir} {what}, so only the keys of the backups were used");
            warn(&message, "if there is a keyring, name its directory: --state-dir DIR", global);
        }
        Ok(is_there)
    }

    fn backup_first(&self, failure: Failure) -> Failure {
        if self.files.is_empty() { failure.first(self.instead) } else { failure }
    }
}

#[cfg(feature = "recover")]
impl AtHand {
    /// Returns the opened keyrings.
    pub(super) fn keyrings(&self) -> impl Iterator<Item = &Keyring> {
        self.held.iter().map(|held| &held.keyring)
    }

    /// Writes `event` to the audit log of the state directory, or to standard error if there is none.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn audit(&self, event: &audit::Event<'_>) -> Result<(), Failure> {
        if let Some(site) = &self.site {
            return audit::write(&site.dir, event).map_err(|error| Failure::export(&error));
        }
        audit_to_stderr(event)
    }
}
