//! The claim of a plugin to the path of its socket: tells whether our socket is still there, and whether the replaced
//! plugin has released its lock.

use std::os::fd::OwnedFd;

use super::{
    error::{SocketError, failed},
    socket_path::{Access, FileId, Occupant, SocketPath},
};

/// The state of the path at which our socket was put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SocketFate {
    /// Our socket is still at its path.
    There,
    /// Another socket is at the path.
    Replaced,
    /// Our socket was removed.
    Gone,
}

/// The right to listen at a path: holds the path's lock, and removes our socket when dropped.
#[derive(Debug)]
pub struct Claim {
    path: SocketPath,
    access: Access,
    identity: FileId,
    lock: OwnedFd,
    /// The right to be the next plugin at the path, while the replaced plugin still holds the lock of the path.
    next: Option<OwnedFd>,
}

impl Claim {
    /// Returns the claim to the path `path`, where our socket with the identity `identity` is.
    pub(super) fn new(path: SocketPath, access: Access, identity: FileId, lock: OwnedFd) -> Self {
        Self { path, access, identity, lock, next: None }
    }

    /// Returns the claim of a successor, which waits until the replaced plugin releases the lock.
    pub(super) fn after(mut self, next: OwnedFd) -> Self {
        self.next = Some(next);
        self
    }

    /// Whether the replaced plugin still holds the lock.
    pub(super) fn takes_over(&self) -> bool {
        self.next.is_some()
    }

    /// Returns the state of the path. Takes the lock if the replaced plugin has released it.
    ///
    /// If the system does not answer, or if something that is no socket is at the path, nothing changes: the next look
    /// may see more.
    pub(super) fn restore_socket(&mut self) -> SocketFate {
        if self.next.is_some() && self.path.try_lock(&self.lock).unwrap_or(false) {
            self.next = None;
        }
        match self.path.look() {
            Ok(Occupant::Nothing) => SocketFate::Gone,
            Ok(Occupant::Socket(identity)) if identity != self.identity => SocketFate::Replaced,
            Ok(Occupant::Socket(_) | Occupant::Other) | Err(_) => SocketFate::There,
        }
    }

    /// Makes our socket again, after it was removed.
    ///
    /// # Errors
    /// When the path leads to something that is no socket, or the kernel refuses a step.
    pub(super) fn restore(&mut self) -> Result<tokio::net::UnixListener, SocketError> {
        let (socket, identity) = self.path.listen(&self.lock, self.access)?;
        self.identity = identity;
        tokio::net::UnixListener::from_std(socket.into())
            .map_err(|error| failed("register the socket of", self.path.path(), error))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.path.remove(self.identity);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::listen::testing::{answers, bind};

    #[tokio::test]
    async fn a_socket_that_was_removed_is_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kms.sock");
        let mut claim = bind(&path).into_tokio().unwrap().1.unwrap();
        fs::remove_file(&path).unwrap();
        assert_eq!(claim.restore_socket(), SocketFate::Gone);
        let listener = claim.restore().unwrap();
        assert!(answers(&path));
        listener.accept().await.unwrap();
        assert_eq!(claim.restore_socket(), SocketFate::There);
        fs::remove_file(&path).unwrap();
        fs::write(&path, "somebody's").unwrap();
        assert_eq!(claim.restore_socket(), SocketFate::There, "what is no socket is nobody's business");
        assert!(matches!(claim.restore(), Err(SocketError::Occupied(_))));
    }
}
