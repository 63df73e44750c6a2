//! Reads a file that a user names: at most so many bytes, and only a regular file, because a FIFO would be waited for and a device may
//! never end. Pipes that a shell passes on by their descriptor are read, too.

use std::{
    fs::{File, FileType, OpenOptions},
    io::{self, Read},
    os::unix::fs::{FileTypeExt, OpenOptionsExt},
    path::Path,
};

use rustix::fs::OFlags;
use zeroize::Zeroizing;

/// Reads a whole file. The bytes are wiped after use.
///
/// # Errors
/// When it cannot be read, is not a regular file, or has more than `limit` bytes (`FileTooLarge`).
pub fn read_input(path: &Path, limit: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    let file = if is_passed_on(path) { File::open(path)? } else { open_regular(path)? };
    // As large as the file from the start, if that is not a claim: a vector that grows leaves copies in memory.
    let expected = usize::try_from(file.metadata()?.len()).unwrap_or(limit).min(limit);
    let mut bytes = Zeroizing::new(Vec::with_capacity(expected + 1));
    file.take(limit as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > limit { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(bytes) }
}

/// Whether a shell passes it on: standard input, or `<(command)`.
fn is_passed_on(path: &Path) -> bool {
    path == Path::new("/dev/stdin") || path.starts_with("/dev/fd")
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
    fn a_file_is_read_up_to_its_limit_and_no_further() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "0123456789").unwrap();
        assert_eq!(**read_input(file.path(), 10).unwrap(), *b"0123456789");
        assert_eq!(read_input(file.path(), 9).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        // A file of the kernel's says that it is empty.
        assert!(!read_input(Path::new("/proc/self/status"), 1 << 16).unwrap().is_empty());
    }
}
