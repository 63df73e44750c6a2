//! The keyrings that are at hand: those of backups, on any machine, or the one in the state directory.

use std::{
    io::{self, Write},
    path::PathBuf,
};

use clap::Args;

use super::{
    KeyringArgs, Site,
    backup_file::{open, read},
    failure::{Exit, Failure},
    identities::{IdentityArgs, Purpose},
};
use crate::{
    audit,
    config::{Config, Settings},
    keyring::Keyring,
};

/// The flags that say where keys are.
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

/// The keyrings that are at hand, at least one.
pub(super) struct AtHand {
    pub(super) keyrings: Vec<Keyring>,
    /// The state directory, if its keyring is one of them.
    site: Option<Site>,
}

impl AtHandArgs {
    /// Puts the flags into `settings`, and keeps what is not among the settings.
    pub(super) fn split(self) -> (Settings, GivenBackups) {
        let has_state_dir = self.keyring.has_state_dir();
        (self.keyring.settings(), GivenBackups { files: self.backup, identity: self.identity, has_state_dir })
    }
}

/// The backups that are given.
pub(super) struct GivenBackups {
    files: Vec<PathBuf>,
    identity: IdentityArgs,
    /// Whether the state directory is given, too.
    has_state_dir: bool,
}

impl GivenBackups {
    /// Opens the backups, and the state directory if it is given or if there are no backups.
    ///
    /// # Errors
    /// When one of them does not open.
    pub(super) fn open(self, config: Config) -> Result<AtHand, Failure> {
        let mut keyrings = Vec::new();
        if !self.files.is_empty() {
            let identities = self.identity.read(Purpose::Open)?;
            for file in &self.files {
                keyrings.push(open(file, &read(file)?, &identities)?.keyring);
            }
        }
        let mut site = None;
        if self.files.is_empty() || self.has_state_dir {
            let found = Site::of(config).map_err(|failure| without_backup(failure, &self.files))?;
            keyrings.push(found.open().map_err(|failure| without_backup(failure, &self.files))?.keyring);
            site = Some(found);
        }
        Ok(AtHand { keyrings, site })
    }
}

fn without_backup(failure: Failure, backups: &[PathBuf]) -> Failure {
    if backups.is_empty() { failure.or("or use the keys of a backup: --backup FILE") } else { failure }
}

impl AtHand {
    /// Writes `event` to the audit log of the state directory, or to standard error if there is none.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn audit(&self, event: &audit::Event<'_>) -> Result<(), Failure> {
        if let Some(site) = &self.site {
            return audit::record(&site.dir, event).map_err(|error| Failure::export(&error));
        }
        let unwritten = |error| {
            let message = format!("writing the audit event to standard error: {error}");
            Failure::new(Exit::Disk, &message, None)
        };
        io::stderr().write_all(&audit::line(event)).map_err(unwritten)
    }
}
