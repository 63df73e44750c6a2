//! The kind and the permissions of a file.

use rustix::fs::{FileType, Stat};

pub(super) const PRIVATE_FILE: u32 = 0o600;
pub(super) const PUBLIC_FILE: u32 = 0o644;
pub(super) const PRIVATE_DIRECTORY: u32 = 0o700;
/// The permissions of everybody but the owner.
pub(super) const OTHERS: u32 = 0o077;

/// The kind of a file, in words.
pub(super) fn kind_of(stat: &Stat) -> &'static str {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => "a regular file",
        FileType::Directory => "a directory",
        FileType::Fifo => "a FIFO",
        FileType::Socket => "a socket",
        FileType::Symlink => "a symbolic link",
        _ => "a device",
    }
}

/// The permission bits of a file, with set-uid, set-gid and sticky.
pub(super) fn permissions(stat: &Stat) -> u32 {
    stat.st_mode & 0o7777
}
