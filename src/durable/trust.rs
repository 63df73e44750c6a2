//! Checks who can change where a path leads: only root and the expected owner may.

use std::path::Path;

use rustix::fs::{self, FileType, Stat};

use super::{
    error::{DurableError, Result, io_error},
    mode::permissions,
};

const WRITABLE_BY_OTHERS: u32 = 0o022;
const STICKY: u32 = 0o1000;

/// Checks that nobody but root and `owner` can replace `path` or a directory above it.
///
/// A directory that everybody may write to, like `/tmp`, is accepted only if it belongs to root and is sticky. If this
/// user is root, `owner` must be root, too, because anybody can make a directory in `/tmp`. A
/// symbolic link on the way must belong to root or to this user, or to `owner` if this user is not root. The
/// directories that the link leads through are checked as well.
///
/// # Errors
/// When somebody else can replace one of them, or a system call fails.
pub fn check_ancestors(path: &Path, owner: u32) -> Result<()> {
    check_links(path, owner)?;
    let io = |source| DurableError::Io { action: "resolving", path: path.to_owned(), source };
    let real = path.canonicalize().map_err(io)?;
    for ancestor in real.ancestors().skip(1) {
        let stat = fs::stat(ancestor).map_err(io_error("inspecting", ancestor))?;
        check_ancestor(ancestor, &stat, path, owner)?;
    }
    Ok(())
}

fn check_ancestor(ancestor: &Path, stat: &Stat, below: &Path, owner: u32) -> Result<()> {
    let (mode, is_roots) = (permissions(stat), stat.st_uid == 0);
    let is_shared = is_roots && mode & STICKY != 0 && is_trusted(owner, owner);
    if mode & WRITABLE_BY_OTHERS != 0 && !is_shared {
        return Err(DurableError::Ancestor { path: ancestor.to_owned(), mode, below: below.to_owned() });
    }
    if !is_roots && stat.st_uid != owner {
        return Err(DurableError::AncestorOwner {
            path: ancestor.to_owned(),
            found: stat.st_uid,
            below: below.to_owned(),
        });
    }
    Ok(())
}

/// Checks the owners of the symbolic links in `path`, as it was given.
fn check_links(path: &Path, owner: u32) -> Result<()> {
    let io = |source| DurableError::Io { action: "resolving", path: path.to_owned(), source };
    for step in std::path::absolute(path).map_err(io)?.ancestors() {
        let stat = fs::lstat(step).map_err(io_error("inspecting", step))?;
        let is_link = FileType::from_raw_mode(stat.st_mode) == FileType::Symlink;
        if is_link && !is_trusted(stat.st_uid, owner) {
            return Err(DurableError::AncestorOwner {
                path: step.to_owned(),
                found: stat.st_uid,
                below: path.to_owned(),
            });
        }
    }
    Ok(())
}

/// Whether a user is trusted: root, this user, and the owner if this user is not root.
fn is_trusted(uid: u32, owner: u32) -> bool {
    let us = rustix::process::geteuid();
    uid == 0 || uid == us.as_raw() || (!us.is_root() && uid == owner)
}
