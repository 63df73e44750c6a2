//! Reads the kind and the permissions of a file from its `stat`.

use rustix::fs::{FileType, Stat};

use super::error::FileKind;

pub(super) const PRIVATE_FILE: u32 = 0o600;
pub(super) const PUBLIC_FILE: u32 = 0o644;
pub(super) const PRIVATE_DIRECTORY: u32 = 0o700;
/// The permission bits of everybody but the owner.
pub(super) const OTHERS: u32 = 0o077;

/// Returns the kind of the file that `stat` describes.
pub(super) fn kind_of(stat: &Stat) -> FileKind {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => FileKind::Regular,
        FileType::Directory => FileKind::Directory,
        FileType::Fifo => FileKind::Fifo,
        FileType::Socket => FileKind::Socket,
        FileType::Symlink => FileKind::SymbolicLink,
        FileType::CharacterDevice | FileType::BlockDevice | FileType::Unknown => FileKind::Device,
    }
}

/// Returns the permission bits of the file that `stat` describes, including set-uid, set-gid and sticky.
pub(super) fn permissions(stat: &Stat) -> u32 {
    stat.st_mode & 0o7777
}
