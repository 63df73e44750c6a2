//! Opens the keyring to serve from it, and marks it. Invariant: a record is marked before it is served, and a record
//! that may not be served is not marked.

use std::{path::PathBuf, sync::Arc};

use super::{
    commit::Commit,
    error::OpenError,
    expect::Expect,
    open::{Opened, open_after, open_with},
    state_dir::{ROOT, StateFiles},
};
use super::{commit::CommitError, expect::ExpectError};
use crate::{
    crypto::root_key::RootKey,
    durable::DurableError,
    keyring::{
        home::Home,
        mark::{Mark, RecordChoice, Standing},
    },
    root::Means,
};

/// Why a daemon does not serve the keyring in its state directory.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The keyring in the state directory did not open.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The keyring opens, but is neither the served one nor a successor. A process that starts now would serve it.
    #[error(transparent)]
    NoSuccessor(OpenError),
    /// The root file contains another root key than the served one, and does not list the served one as an earlier root
    /// key.
    #[error("root file {}: contains another root key, and does not list the served one as an earlier key", .0.display())]
    OtherRootKey(PathBuf),
    /// The record is not the expected one.
    #[error(transparent)]
    Expect(#[from] ExpectError),
    /// Somebody removed or moved the directory from which the served keyring was read.
    #[error("the state directory {} is gone", .0.display())]
    DirectoryGone(PathBuf),
    /// Somebody put another directory in the place of the one from which the served keyring was read. This process
    /// holds the lock of the earlier one, and may not be able to open the new one.
    #[error("another directory took the place of the state directory {}", .0.display())]
    DirectoryReplaced(PathBuf),
    /// The record that counts is in etcd, and the file is a copy of it.
    #[error("the keyring's home is etcd, below {0}; this build serves a keyring file only")]
    HomeInEtcd(String),
    /// A lock could not be taken: the lock of a change, or the lock that a daemon holds for its whole life.
    #[error(transparent)]
    Lock(DurableError),
    /// The record could not be marked.
    #[error(transparent)]
    NotMarked(#[from] CommitError),
}

/// The keyring that a daemon already serves.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Served<'a> {
    /// The current root key. `None` before the first keyring is served.
    pub(super) root: Option<&'a Arc<RootKey>>,
    /// The root key of the served record. During a rekey this may be an earlier one.
    pub(super) under: Option<&'a Arc<RootKey>>,
    /// The mark of the served record.
    pub(super) last: Option<&'a Mark>,
}

impl Served<'_> {
    /// Checks that `opened` is the served keyring or a successor. A stranger can make a directory with a root key of
    /// their own, so the files alone prove nothing. Only someone who knows the served root key can list it as an
    /// earlier root key.
    fn check(self, state: StateFiles<'_>, opened: &Opened) -> Result<(), ServeError> {
        let standing =
            self.last.map(|last| last.check(&opened.keyring, opened.digest, RecordChoice::Found)).transpose();
        standing.map_err(|source| ServeError::NoSuccessor(OpenError::mark(state, source)))?;
        let (file, uuid) = (&opened.root_file, opened.keyring.uuid());
        if let Some(root) = self.under.filter(|root| !file.is_under(root)) {
            let earlier = file.old(root.id(uuid), &opened.current).map_err(|error| OpenError::root(state, error))?;
            earlier.ok_or_else(|| ServeError::OtherRootKey(state.path_of(ROOT)))?;
        }
        Ok(())
    }
}

/// Opens the keyring to serve from it, and marks it if the mark does not name it yet.
///
/// # Errors
/// When the keyring does not open, its home is etcd, or the mark cannot be written. When the record is neither the
/// `served` one nor a successor of it. When it is not the record that `expect` identifies; on a node with a mark, a
/// successor of that record is accepted, too.
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
    // Opens again, because a command may have changed the files before the lock was taken.
    let opened = open_after(state, means, expect, &opened)?;
    check(state, &opened, served, expect)?;
    Commit::mark(&opened)?.run(state, &mut state.store())?;
    Ok(opened)
}

/// Checks that `opened` may be served.
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
        // Without a mark nothing shows whether a successor is forged. So only the expected record is accepted.
        (Some(expect), None) => expect.check_exactly(&opened.keyring, opened.digest)?,
        (None, _) => {}
    }
    served.check(state, opened)
}
