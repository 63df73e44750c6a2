//! Tells whether a file is still the one that was read, without reading it again.

use std::path::Path;

use rustix::fs;

/// What tells one version of a file from another without reading it: each is written under a new name first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version {
    inode: (u64, u64),
    changed: (i64, i64),
}

/// The version of the file at `path`; none if there is none.
pub fn version(path: &Path) -> Option<Version> {
    let stat = fs::stat(path).ok()?;
    Some(Version {
        inode: (stat.st_dev, stat.st_ino),
        changed: (stat.st_ctime, i64::try_from(stat.st_ctime_nsec).unwrap_or_default()),
    })
}
