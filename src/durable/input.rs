//! Reads a file that a user names: at most so many bytes, and only a regular file, because reading a FIFO could block,
//! and a device may have no end. Pipes that a shell passes on by their descriptor are read, too.

use std::{
    fs::{File, FileType, Metadata, OpenOptions},
    io::{self, Read},
    os::{
        fd::AsFd,
        unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt},
    },
    path::Path,
};

use rustix::fs::OFlags;
use zeroize::Zeroizing;

use super::{error::DurableError, trust::check_ancestors};

/// The paths of standard input. Its descriptor is copied, because another user's pipe cannot be opened again by its
/// path.
const STDIN: [&str; 3] = ["/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"];

/// Why a file was not read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InputError {
    /// The system call that opens or reads the file failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Somebody else may have written the file.
    #[error(transparent)]
    Untrusted(#[from] Untrusted),
}

/// Why the contents of a file are not trusted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Untrusted {
    /// The mode of the file lets other users write it.
    #[error("its mode is {0:04o}, so other users may write it")]
    Mode(u32),
    /// The file belongs to another user, who may write it.
    #[error("it belongs to uid {0}, who may write it")]
    Owner(u32),
    /// Another user can replace the file, or a directory above it.
    #[error(transparent)]
    Place(DurableError),
}

/// Reads a whole file that nobody but root and this user may write or replace. The bytes are wiped after use.
///
/// # Errors
/// As [`read_input`], and when others may write the file or a directory above it.
pub fn read_trusted(path: &Path, limit: usize) -> Result<Zeroizing<Vec<u8>>, InputError> {
    Ok(read(open_trusted(path)?, limit)?)
}

/// Opens a file that nobody but root and this user may write or replace. What a shell passes on is trusted.
///
/// # Errors
/// As [`open_input`], and when others may write the file or a directory above it.
pub fn open_trusted(path: &Path) -> Result<File, InputError> {
    let file = open_input(path)?;
    if !is_passed_on(path) {
        check_writers(&file.metadata()?)?;
        check_ancestors(path, rustix::process::geteuid().as_raw()).map_err(Untrusted::Place)?;
    }
    Ok(file)
}

fn check_writers(found: &Metadata) -> Result<(), Untrusted> {
    let ours = rustix::process::geteuid().as_raw();
    match (found.uid(), found.mode() & 0o7777) {
        (owner, _) if owner != 0 && owner != ours => Err(Untrusted::Owner(owner)),
        (_, mode) if mode & 0o022 != 0 => Err(Untrusted::Mode(mode)),
        _ => Ok(()),
    }
}

/// Reads a whole file. The bytes are wiped after use.
///
/// # Errors
/// When it cannot be read, is not a regular file, or has more than `limit` bytes (`FileTooLarge`).
pub fn read_input(path: &Path, limit: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    read(open_input(path)?, limit)
}

/// Opens a file to read it to the end. A pipe is opened only if a shell passes it on by its descriptor.
///
/// # Errors
/// When it cannot be opened, or is not a regular file.
pub fn open_input(path: &Path) -> io::Result<File> {
    match path {
        path if STDIN.iter().any(|name| Path::new(name) == path) => {
            Ok(io::stdin().as_fd().try_clone_to_owned()?.into())
        }
        path if is_passed_on(path) => File::open(path),
        path => open_regular(path),
    }
}

fn read(file: File, limit: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    // Allocates the file's length at once, up to `limit`: a vector that grows leaves copies in memory.
    let expected = usize::try_from(file.metadata()?.len()).unwrap_or(limit).min(limit);
    let mut bytes = Zeroizing::new(Vec::with_capacity(expected + 1));
    file.take(limit as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > limit { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(bytes) }
}

/// Whether a shell passes the file on: standard input, or `<(command)`.
pub fn is_passed_on(path: &Path) -> bool {
    path == Path::new("/dev/stdin") || path.starts_with("/dev/fd") || path.starts_with("/proc/self/fd")
}

/// Opens the file without waiting for the other end of a FIFO.
fn open_regular(path: &Path) -> io::Result<File> {
    let flags = i32::try_from((OFlags::NONBLOCK | OFlags::NOCTTY).bits()).unwrap_or_default();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    match other_kind(file.metadata()?.file_type()) {
        Some(kind) => {
            Err(io::Error::new(io::ErrorKind::InvalidInput, format!("it is {kind}, expected a regular file")))
        }
        None => Ok(file),
    }
}

fn other_kind(found: FileType) -> Option<&'static str> {
    if found.is_file() {
        return None;
    }
    Some(match found {
        _ if found.is_dir() => return None,
        _ if found.is_fifo() => "a FIFO",
        _ if found.is_socket() => "a socket",
        _ => "a device",
    })
}

#[cfg(test)]
mod tests {
    use std::{fs::Permissions, os::unix::fs::PermissionsExt};

    use super::*;

    #[test]
    fn what_may_never_end_is_refused_with_its_kind() {
        let directory = tempfile::tempdir().unwrap();
        let fifo = directory.path().join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(directory.path().join("socket")).unwrap();
        let refused = |path: &Path| read_input(path, 10).unwrap_err().to_string();
        assert_eq!(refused(&fifo), "it is a FIFO, expected a regular file");
        assert_eq!(refused(Path::new("/dev/zero")), "it is a device, expected a regular file");
        assert!(refused(directory.path()).starts_with("Is a directory"));
        assert!(read_input(&directory.path().join("socket"), 10).is_err());
    }

    #[test]
    fn a_file_that_others_may_write_is_not_trusted() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let refused = |mode| {
            file.as_file().set_permissions(Permissions::from_mode(mode)).unwrap();
            read_trusted(file.path(), 10).err().map(|error| error.to_string())
        };
        assert_eq!([0o600, 0o640, 0o755].map(refused), [None, None, None]);
        assert_eq!(refused(0o620), Some("its mode is 0620, so other users may write it".to_owned()));
        assert_eq!(refused(0o606), Some("its mode is 0606, so other users may write it".to_owned()));
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(file.path(), Some(4711), None).unwrap();
            assert_eq!(refused(0o600), Some("it belongs to uid 4711, who may write it".to_owned()));
        }
        let directory = tempfile::tempdir().unwrap();
        let below = directory.path().join("config.toml");
        std::fs::write(&below, "").unwrap();
        std::fs::set_permissions(directory.path(), Permissions::from_mode(0o777)).unwrap();
        let refused = read_trusted(&below, 10).unwrap_err().to_string();
        assert!(refused.contains("is writable by others (mode 0777), and is above"), "{refused}");
        assert!(matches!(read_trusted(Path::new("/nowhere"), 10), Err(InputError::Io(_))));
    }

    #[test]
    fn a_file_is_read_up_to_its_limit_and_no_further() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "0123456789").unwrap();
        assert_eq!(**read_input(file.path(), 10).unwrap(), *b"0123456789");
        assert_eq!(read_input(file.path(), 9).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        // The kernel reports a length of zero for a file in `/proc`.
        assert!(!read_input(Path::new("/proc/self/status"), 1 << 16).unwrap().is_empty());
    }
}
