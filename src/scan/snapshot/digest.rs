//! Computes the SHA-256 of a file, and compares it with the digest that `etcdctl snapshot save` appends.

use std::{fs::File, io, os::unix::fs::FileExt};

use ring::digest::{Context, SHA256};

use super::super::source::FileDigest;

/// The length in bytes of the digest at the end of a snapshot. A file ends with a digest if this is the remainder of
/// its length divided by [`SECTOR`].
const DIGEST: u64 = 32;
const SECTOR: u64 = 512;

/// The number of bytes that are read at once.
const BLOCK: usize = 1 << 20;

/// Whether a file of `length` bytes ends with a digest.
pub fn has_digest(length: u64) -> bool {
    length % SECTOR == DIGEST
}

/// Returns the length of a file in bytes without its digest. `length` is the length of the whole file.
pub fn length_before(length: u64) -> u64 {
    if has_digest(length) { length - DIGEST } else { length }
}

/// Computes the SHA-256 of a file of `length` bytes without the digest at its end, and compares the two.
pub fn read(file: &File, length: u64) -> Result<FileDigest, io::Error> {
    let computed = sha256(file, length_before(length))?;
    let mut at_end = [0; 32];
    let matches = if has_digest(length) {
        file.read_exact_at(&mut at_end, length_before(length))?;
        Some(at_end == computed)
    } else {
        None
    };
    Ok(FileDigest { sha256: base16ct::lower::encode_string(&computed), matches })
}

/// Computes the SHA-256 of the first `length` bytes of `file`.
fn sha256(file: &File, length: u64) -> Result<[u8; 32], io::Error> {
    let mut context = Context::new(&SHA256);
    let mut block = vec![0; BLOCK];
    let mut offset = 0;
    while offset < length {
        let wanted = usize::try_from(length - offset).unwrap_or(usize::MAX).min(BLOCK);
        match file.read_at(&mut block[..wanted], offset)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => {
                context.update(&block[..read]);
                offset += read as u64;
            }
        }
    }
    let mut digest = [0; 32];
    digest.copy_from_slice(context.finish().as_ref());
    Ok(digest)
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write};

    use super::{super::super::outcome::Incomplete, *};

    #[test]
    fn the_digest_at_the_end_is_compared_if_there_is_one() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[7; 512]).unwrap();
        let whole = read(&file, 512).unwrap();
        assert_eq!((whole.sha256.len(), whole.matches), (64, None));
        file.write_all(&sha256(&file, 512).unwrap()).unwrap();
        assert_eq!(read(&file, 544).unwrap(), FileDigest { matches: Some(true), ..whole.clone() });
        file.write_all_at(&[8], 0).unwrap();
        assert_eq!(read(&file, 544).unwrap().matches, Some(false));
    }

    #[test]
    fn a_file_that_cannot_be_read_has_no_digest_and_a_reason() {
        let named = tempfile::NamedTempFile::new().unwrap();
        fs::write(named.path(), [7; 544]).unwrap();
        let write_only = fs::OpenOptions::new().write(true).open(named.path()).unwrap();
        let reason = read(&write_only, 544).unwrap_err();
        assert_eq!(reason.to_string(), "Bad file descriptor (os error 9)");
        let text = Incomplete::DigestUnread(reason.to_string()).to_string();
        assert_eq!(
            text,
            "the digest of the file was not computed, because a read failed: Bad file descriptor (os error 9)"
        );
        // Another program has made the file shorter.
        let shorter = File::open(named.path()).unwrap();
        assert_eq!(read(&shorter, 1056).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
