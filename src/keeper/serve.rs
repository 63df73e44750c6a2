//! Opens the keyring to serve from it: what is served was marked first, and nothing is marked that will not be served.

use std::sync::Arc;

use super::{
    commit::Commit,
    error::OpenError,
    expect::Expect,
    open::{Opened, open_after, open_with},
    state_dir::StateFiles,
};
use super::{commit::CommitError, expect::ExpectError};
use crate::{
    crypto::kdf::RootKey,
    durable::DurableError,
    keyring::{
        home::Home,
        mark::{Mark, Standing},
    },
    root::{Means, RootError},
};

/// Why a daemon does not serve what is in its state directory.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The keyring did not open, or does not follow from what is served.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The record is not the expected one.
    #[error(transparent)]
    Expect(#[from] ExpectError),
    /// The record that counts is in etcd, and the file is a copy of it.
    #[error("the keyring's home is etcd, below {0}; this build serves a keyring file only")]
    HomeInEtcd(String),
    /// A lock could not be had: that of a change, or the one that a daemon holds for its life.
    #[error(transparent)]
    Lock(DurableError),
    /// The record could not be marked.
    #[error(transparent)]
    NotMarked(#[from] CommitError),
}

/// What a daemon serves already.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Served<'a> {
    /// The current root key, which needs no slot; `None` before the first keyring is served.
    pub(super) root: Option<&'a Arc<RootKey>>,
    /// The root key of the record: an earlier one during a rekey.
    pub(super) under: Option<&'a Arc<RootKey>>,
    /// The record that is served, as a mark would name it.
    pub(super) last: Option<&'a Mark>,
}

impl Served<'_> {
    /// Makes sure that `opened` follows from what is served. The files on the disk prove nothing here: a stranger's files match each
    /// other, under a root key of the stranger's. Only someone who has the served root key can list it as an earlier one.
    fn check(self, state: StateFiles<'_>, opened: &Opened) -> Result<(), OpenError> {
        let standing = self.last.map(|last| last.check(&opened.keyring, opened.digest, false)).transpose();
        standing.map_err(|source| OpenError::mark(state, source))?;
        let (file, uuid) = (&opened.root_file, opened.keyring.uuid());
        if let Some(root) = self.under.filter(|root| !file.is_under(root)) {
            let earlier = file.old(root.id(uuid), &opened.current).map_err(|error| OpenError::root(state, error))?;
            earlier.ok_or_else(|| OpenError::root(state, RootError::NoSuccessor))?;
        }
        Ok(())
    }
}

/// Opens the keyring to serve from it, and marks it if the mark does not name it yet.
///
/// # Errors
/// When the keyring does not open; when the record is not the one that `expect` names, nor a successor on a node that has a mark;
/// when it does not follow from what is `served`; when its home is etcd; or when the mark cannot be written.
pub(super) fn open_to_serve(
    state: StateFiles<'_>,
    means: &Means,
    served: Served<'_>,
    expect: Option<&Expect>,
) -> Result<Opened, ServeError> {
    let opened = open_with(state, means, served.root, expect)?;
    check(state, &opened, served, expect)?;
    if opened.standing == Some(Standing::Current) {
        return Ok(opened);
    }
    let _lock = state.lock().map_err(ServeError::Lock)?;
    // Read again: what was seen before the lock may have changed.
    let opened = open_after(state, means, expect, &opened)?;
    check(state, &opened, served, expect)?;
    Commit::mark(&opened)?.run(state, &mut state.store())?;
    Ok(opened)
}

/// Makes sure that `opened` may be served.
fn check(
    state: StateFiles<'_>,
    opened: &Opened,
    served: Served<'_>,
    expect: Option<&Expect>,
) -> Result<(), ServeError> {
    if let Home::Etcd(prefix) = opened.keyring.home() {
        return Err(ServeError::HomeInEtcd(prefix.clone()));
    }
    match (expect, opened.standing) {
        (Some(expect), Some(_)) => expect.check(&opened.keyring, opened.digest)?,
        // Only the operator's word tells a successor from a forged record here.
        (Some(expect), None) => expect.check_exactly(&opened.keyring, opened.digest)?,
        (None, _) => {}
    }
    Ok(served.check(state, opened)?)
}
