//! Opens the root file, and returns its root keys, and its slots without their secrets.

use std::sync::Arc;

use super::{
    error::{OpenError, RootFileError, RootKeyError},
    state_dir::StateFiles,
};
use crate::{
    crypto::{RootId, root_key::RootKey},
    keyring::{Keyring, record},
    root::{Kind, Means, RootFile, Slot},
};

/// A slot of the root file, without its secrets.
#[derive(Debug, Clone)]
pub struct SlotSummary {
    /// The name of the slot.
    pub name: String,
    /// The kind of the slot: what seals the root key.
    pub kind: Kind,
    /// Whether this slot was opened to get the root key. False for all slots if the root key was known already.
    pub opened: bool,
}

impl SlotSummary {
    /// Summarizes a slot that was not opened.
    pub(super) fn of(slot: &Slot) -> Self {
        Self { name: slot.name().to_owned(), kind: slot.kind(), opened: false }
    }
}

/// Returns summaries of the slots of `file`. `opened` is false for all of them.
pub(super) fn summaries(file: &RootFile) -> Vec<SlotSummary> {
    file.slots().iter().map(SlotSummary::of).collect()
}

/// Reads the root file and checks its grammar. Only a slot that opens proves that it is authentic.
pub(super) fn read_root(state: StateFiles<'_>) -> Result<RootFile, OpenError> {
    let bytes = state.root()?.ok_or_else(|| OpenError::missing_root(state))?;
    RootFile::parse(&bytes).map_err(|error| OpenError::root(state, error.into()))
}

/// An opened root file, with its root keys.
pub(super) struct Roots {
    pub(super) file: RootFile,
    pub(super) current: Arc<RootKey>,
    pub(super) slots: Vec<SlotSummary>,
}

impl Roots {
    /// Opens the root file by `means`. Needs no slot if `known` is still the root key in the file.
    pub(super) fn open(state: StateFiles<'_>, means: &Means, known: Option<&Arc<RootKey>>) -> Result<Self, OpenError> {
        let file = read_root(state)?;
        let mut slots = summaries(&file);
        if let Some(root) = known.filter(|root| file.is_under(root)) {
            file.check(root).map_err(|error| OpenError::root(state, error))?;
            return Ok(Self { current: Arc::clone(root), file, slots });
        }
        let (root, slot) = file.unseal(state.dir(), means).map_err(|error| OpenError::root(state, error))?;
        for summary in &mut slots {
            summary.opened = summary.name == slot.name();
        }
        Ok(Self { current: Arc::new(root), file, slots })
    }

    /// Returns the root key `root_id`, which may be an earlier one. If no root key has this id, returns the current
    /// root key, so that decoding fails.
    pub(super) fn key(&self, root_id: RootId, state: StateFiles<'_>) -> Result<Arc<RootKey>, OpenError> {
        let earlier = self.file.old(root_id, &self.current).map_err(|error| OpenError::root(state, error))?;
        Ok(earlier.map_or_else(|| Arc::clone(&self.current), Arc::new))
    }

    /// Decodes a record under the root key that it names: the current one or an earlier one. The error
    /// [`OpenError::Record`] says why the record was refused.
    pub(super) fn record(&self, bytes: &[u8], state: StateFiles<'_>) -> Result<Keyring, OpenError> {
        let refused = |error| OpenError::record(state, error);
        let root_id = record::root_id(bytes).map_err(|error| refused(error.into()))?;
        let root = self.key(root_id, state)?;
        record::decode(bytes, &root, self.file.uuid()).map_err(refused)
    }

    /// Returns the earlier root keys that the root file contains.
    pub(super) fn earlier(&self) -> Result<Vec<RootKey>, RootKeyError> {
        Ok(self.file.earlier(&self.current).map_err(RootFileError)?)
    }
}
