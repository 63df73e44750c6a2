//! Opens a database file, and notices if it belongs to a running etcd or changes during the scan.

use std::{
    fs::{File, Metadata, OpenOptions},
    os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
    path::Path,
};

use rustix::{
    fs::{FlockOperation, OFlags, flock},
    io::Errno,
};

use super::error::{Packing, SnapshotError};

/// A database file, and its attributes at the time when it was opened.
pub struct DatabaseFile {
    /// The open file.
    pub file: File,
    before: Metadata,
}

impl DatabaseFile {
    /// Opens the file at `path`, without waiting if it is a pipe.
    ///
    /// # Errors
    /// When it cannot be opened, is no regular file, or belongs to a running etcd.
    pub fn open(path: &Path) -> Result<Self, SnapshotError> {
        let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(SnapshotError::Open)?;
        let before = file.metadata().map_err(SnapshotError::Open)?;
        if !before.is_file() {
            return Err(SnapshotError::Kind);
        }
        if is_of_running_etcd(&file) {
            return Err(SnapshotError::Running);
        }
        let mut first = [0; 8];
        let length = file.read_at(&mut first, 0).map_err(SnapshotError::Open)?;
        if let Some(packing) = Packing::of(&first[..length]) {
            return Err(SnapshotError::Packed(packing));
        }
        Ok(Self { file, before })
    }

    /// Returns the length that the file had when it was opened.
    pub fn length(&self) -> u64 {
        self.before.len()
    }

    /// Whether anything may have written to the file since it was opened.
    pub fn has_changed(&self) -> bool {
        let stamp = |metadata: &Metadata| (metadata.len(), metadata.mtime(), metadata.mtime_nsec());
        let is_other = self.file.metadata().map_or(true, |after| stamp(&after) != stamp(&self.before));
        is_other || is_of_running_etcd(&self.file)
    }
}

/// Whether etcd holds its lock on the file. Our own lock is released at once, so that no etcd has to wait for it. On a
/// file system without locks, the answer is always no.
fn is_of_running_etcd(file: &File) -> bool {
    match flock(file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => {
            let _ = flock(file, FlockOperation::Unlock);
            false
        }
        Err(error) => error == Errno::WOULDBLOCK,
    }
}
