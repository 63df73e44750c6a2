//! Tells whether a file is still the one that was read, without reading it again.

use std::path::Path;

use rustix::fs;

/// Identifies one version of a file. Each version is written to a new temporary file, so it has another inode or
/// another time of change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version {
    inode: (u64, u64),
    changed: (i64, i64),
}

/// Returns the version of the file at `path`. Returns `None` if there is no file.
pub fn version(path: &Path) -> Option<Version> {
    let stat = fs::stat(path).ok()?;
    Some(Version {
        inode: (stat.st_dev, stat.st_ino),
        changed: (stat.st_ctime, i64::try_from(stat.st_ctime_nsec).unwrap_or_default()),
    })
}
