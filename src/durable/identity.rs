//! Tells whether the directory at a path is still the one that was opened. Somebody may have moved it away, removed it,
//! or put another one in its place.

use std::path::Path;

use rustix::{
    fs::{self, Stat},
    io::Errno,
};
use serde::{Deserialize, Serialize};

use super::{
    dir::Dir,
    error::{Result, io_error},
};

/// Identifies a directory, even if it is moved. While a process has the directory open, the system gives no other
/// directory the same numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectoryId {
    device: u64,
    inode: u64,
}

impl DirectoryId {
    fn of(stat: &Stat) -> Self {
        Self { device: stat.st_dev, inode: stat.st_ino }
    }
}

impl Dir {
    /// Identifies this directory.
    ///
    /// # Errors
    /// When the system refuses to tell.
    pub fn id(&self) -> Result<DirectoryId> {
        Ok(DirectoryId::of(&self.stat()?))
    }
}

/// Identifies the directory at `path`. Returns `None` if there is none. A container still sees a removed directory that
/// was mounted into it; a removed directory counts as none.
///
/// # Errors
/// When the system refuses to tell.
pub fn directory_at(path: &Path) -> Result<Option<DirectoryId>> {
    match fs::stat(path) {
        Ok(stat) if stat.st_nlink == 0 => Ok(None),
        Ok(stat) => Ok(Some(DirectoryId::of(&stat))),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(io_error("inspecting", path)(errno)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::durable::testing::private;

    #[test]
    fn a_directory_keeps_its_identity_when_it_is_moved_and_another_one_has_its_own() {
        let (_keep, dir) = private();
        let path = dir.path_of("state");
        let opened = Dir::open_or_create(&path).unwrap();
        let id = opened.id().unwrap();
        assert_eq!(directory_at(&path).unwrap(), Some(id));
        let moved = dir.path_of("moved");
        std::fs::rename(&path, &moved).unwrap();
        assert_eq!((directory_at(&path).unwrap(), directory_at(&moved).unwrap()), (None, Some(id)));
        Dir::open_or_create(&path).unwrap();
        assert_ne!(directory_at(&path).unwrap(), Some(id));
        std::fs::remove_dir(&moved).unwrap();
        // /proc/self/fd shows the directory as a container sees a mounted directory.
        let through = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&opened.fd));
        assert_eq!(directory_at(Path::new(&through)).unwrap(), None);
        directory_at(&dir.path_of("state/none/below")).unwrap();
    }
}
