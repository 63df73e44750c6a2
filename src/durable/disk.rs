//! Tells which disk a file is on, and whether the file would be lost together with a directory.

use std::path::Path;

use rustix::fs;

use super::{
    dir::Dir,
    error::{DurableError, Result, io_error},
};

/// The file systems that lose their files at a restart, or that store them in another file system. Source: statfs(2).
const NO_DISK: [(i64, &str); 3] = [(0x0102_1994, "tmpfs"), (0x8584_58f6, "ramfs"), (0x794c_7630, "overlay")];

/// btrfs. Each of its subvolumes has a device number of its own, even if all are on one disk.
const BTRFS: i64 = 0x9123_683e;

/// Checks that `path` is on another disk than `dir`, as far as the system tells: it has another device number, and its
/// file system has a disk of its own.
///
/// # Errors
/// When `path` is not on another disk, or the system refuses to tell.
pub fn is_on_another_disk(path: &Path, dir: &Dir) -> Result<()> {
    let stat = fs::stat(path).map_err(io_error("inspecting", path))?;
    let kind = kind_of_file_system(path)?;
    let shares = |what: &'static str| Err(DurableError::SharedDisk { path: path.to_owned(), what });
    if let Some((_, name)) = NO_DISK.iter().find(|(magic, _)| *magic == kind) {
        return shares(name);
    }
    if stat.st_dev == dir.stat()?.st_dev {
        return shares("the state directory's disk");
    }
    let may_be_same = kind == BTRFS && kind_of_file_system(dir.path())? == BTRFS;
    if may_be_same { shares("btrfs, as the state directory is: it may be the same disk") } else { Ok(()) }
}

/// Returns the name of the directory's file system, if its files may be gone after a restart of the machine or
/// container.
pub fn volatile(dir: &Dir) -> Option<&'static str> {
    let kind = kind_of_file_system(dir.path()).ok()?;
    NO_DISK.iter().find(|(magic, _)| *magic == kind).map(|(_, name)| *name)
}

fn kind_of_file_system(path: &Path) -> Result<i64> {
    let found = fs::statfs(path).map_err(io_error("inspecting the file system of", path))?;
    // The type of this field depends on the architecture.
    #[allow(clippy::useless_conversion, clippy::unnecessary_fallible_conversions, reason = "32 bits on some machines")]
    Ok(i64::try_from(found.f_type).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::durable::testing::private;

    #[test]
    fn a_file_beside_a_directory_or_in_memory_is_lost_with_it() {
        let (keep, dir) = private();
        let refused = |path: &Path| is_on_another_disk(path, &dir).unwrap_err().to_string();
        assert_eq!(refused(keep.path()), format!("{} is on the state directory's disk", keep.path().display()));
        let memory = Path::new("/dev/shm");
        if kind_of_file_system(memory).is_ok_and(|kind| kind == 0x0102_1994) {
            assert_eq!(refused(memory), "/dev/shm is on tmpfs");
        }
        assert!(is_on_another_disk(Path::new("/none"), &dir).is_err());
    }
}
