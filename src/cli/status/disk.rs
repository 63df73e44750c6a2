//! Opens the state directory for `claviger status`, again at every look of `--watch`. If it does not open, finds out
//! which of its files are lost.

use std::path::Path;

use super::super::{
    failure::{Exit, Failure, damaged_mark, is_mark_damaged},
    given::quoted,
    passphrase, rotation,
};
use crate::{
    config::Config,
    durable::{Dir, DurableError, Privacy},
    keeper::{self, MARK, OpenError, Opened},
    plan::RotationPlan,
    root::{Means, RootError, SlotError},
};

/// The state directory, as it was last opened.
#[derive(Default)]
pub(super) struct Disk {
    means: Option<Means>,
    opened: Option<Opened>,
}

/// The keyring on the disk.
pub(super) struct OpenedDisk<'a> {
    pub(super) opened: &'a Opened,
    /// The plan of an unfinished rotation, or the reason why it cannot be read.
    pub(super) plan: Result<Option<RotationPlan>, Failure>,
}

/// The reason why the keyring on the disk does not open, and the loss.
pub(super) struct DiskError {
    pub(super) failure: Failure,
    pub(super) loss: Option<Loss>,
}

/// The lost part of a state directory. Only a backup or a copy can restore it, except for the mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loss {
    /// The whole directory is lost. A backup can be restored there.
    All,
    /// Some files are missing, damaged or wrong. A backup can be merged into the rest.
    Some,
    /// The root file, or the secrets of all its slots, without which the keyring does not open.
    Root,
    /// Only the mark is lost. A plugin makes a new one.
    Mark,
}

impl Disk {
    /// Opens the keyring. Needs no slot if the keyring was opened before and has the same root key.
    ///
    /// # Errors
    /// When the keyring does not open, or no passphrase can be read.
    pub(super) fn open(&mut self, config: &Config) -> Result<OpenedDisk<'_>, DiskError> {
        let dir = Dir::open(&config.state_dir, Privacy::Private).map_err(OpenError::StateDir)?;
        let means = match self.means.take() {
            Some(means) => means,
            None => passphrase::means(config)?,
        };
        let means = self.means.insert(means);
        let opened = match &self.opened {
            Some(before) => keeper::open_again(&dir, means, before)?,
            None => keeper::open(&dir, means)?,
        };
        let plan = rotation::unfinished(&dir, &opened);
        Ok(OpenedDisk { opened: self.opened.insert(opened), plan })
    }
}

impl DiskError {
    /// Returns the failure of the command while a plugin answers. The report has the hint for a loss.
    pub(super) fn with_plugin(self) -> Failure {
        match self.loss {
            Some(_) => self.failure.with_hint(
                "do not stop or restart the plugin, if it serves this keyring; the report on standard output says what to do",
            ),
            None => self.failure,
        }
    }
}

/// Returns the hint for a loss while a plugin serves from memory.
pub(super) fn next(loss: Option<Loss>, state_dir: &Path) -> Option<String> {
    let dir = quoted(state_dir);
    let restore = match loss? {
        Loss::Mark => {
            let mark = damaged_mark(&state_dir.join(MARK));
            return Some(format!("let the plugin run, and repair the mark: {mark}"));
        }
        Loss::All => format!("restore a backup: claviger backup restore FILE --state-dir {dir}"),
        Loss::Root => format!(
            "put the root file or the secret of a slot back into {dir}; if there is no copy, move the contents of {dir} aside and \
             restore a backup, as in: claviger runbook passphrase"
        ),
        Loss::Some => format!(
            "merge a backup into what is left: claviger backup restore FILE --state-dir {dir} shows what it would do, and does it \
             with --accept"
        ),
    };
    Some(format!(
        "let the plugin run, and {restore}; then see whether every key that the plugin serves is there: claviger status --state-dir \
         {dir}; each step, also without a backup: claviger runbook deleted"
    ))
}

impl From<OpenError> for DiskError {
    fn from(error: OpenError) -> Self {
        let is_gone = matches!(
            &error,
            OpenError::NotInitialised(_) | OpenError::Unfinished(_) | OpenError::StateDir(DurableError::Missing(_))
        );
        let waits_for_operator = is_a_secret_missing(&error);
        // A backup can be merged only if the root file is there, and only into an existing keyring.
        let is_root = matches!(&error, OpenError::Root { .. } | OpenError::MissingRoot(_));
        let is_mark = is_mark_damaged(&error);
        let failure = Failure::from(error);
        let loss = match failure.exit() {
            _ if is_gone => Some(Loss::All),
            _ if is_mark => Some(Loss::Mark),
            Exit::Damaged | Exit::WrongKey if waits_for_operator => None,
            Exit::Damaged | Exit::WrongKey if is_root => Some(Loss::Root),
            Exit::Damaged | Exit::WrongKey => Some(Loss::Some),
            _ => None,
        };
        Self { failure, loss }
    }
}

impl From<Failure> for DiskError {
    fn from(failure: Failure) -> Self {
        Self { failure, loss: None }
    }
}

/// Whether a slot may open if the operator gives the right secret.
fn is_a_secret_missing(error: &OpenError) -> bool {
    let OpenError::Root { source: RootError::NoSlotOpens(slots), .. } = error else { return false };
    slots.iter().any(|(_, error)| {
        matches!(
            error,
            SlotError::NoPassphrase
                | SlotError::WrongPassphrase
                | SlotError::Passphrase(_)
                | SlotError::NoCredentials(_)
                | SlotError::Credential { .. }
        )
    })
}
