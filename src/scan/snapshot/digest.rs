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

/// Computes the SHA-256 of the first `length` bytes of `file`.
pub fn sha256(file: &File, length: u64) -> Result<[u8; 32], io::Error> {
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

/// Compares the computed digest of a file of `length` bytes with the digest at its end.
pub fn compare(file: &File, length: u64, computed: Result<[u8; 32], io::Error>) -> FileDigest {
    let mut expected = [0; 32];
    let is_there = has_digest(length) && file.read_exact_at(&mut expected, length_before(length)).is_ok();
    let sha256 = computed.as_ref().map_or_else(|_| String::new(), |computed| base16ct::lower::encode_string(computed));
    let matches = is_there.then(|| computed.is_ok_and(|computed| computed == expected));
    FileDigest { sha256, matches }
}
