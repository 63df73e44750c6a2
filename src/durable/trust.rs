//! Whom a path depends on: nobody but root and the owner of what it leads to.

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
/// A directory that everybody writes to is accepted above it if it is sticky and root's, and what is below is root's or
/// our own: there, anybody could have made a directory for us to find. A link on the way is followed if it is root's,
/// `owner`'s or our own, and then judged by where it leads.
///
/// # Errors
/// When somebody can, or the system does not say.
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

/// Checks the owners of the symbolic links that stand on the way to `path`, as it was given.
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

/// Root and we ourselves; as another user than root, that is also the owner of what we were sent to.
fn is_trusted(uid: u32, owner: u32) -> bool {
    let us = rustix::process::geteuid();
    uid == 0 || uid == us.as_raw() || (!us.is_root() && uid == owner)
}
