//! The errors with which a file is not scanned.

use std::{fmt, io};

use super::super::bolt::BoltError;

/// Why a file was not scanned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// The system cannot open the file.
    #[error("opening failed: {0}")]
    Open(#[source] io::Error),
    /// The path leads to a directory, a pipe or a device.
    #[error("not a regular file")]
    Kind,
    /// The file is an archive, or compressed.
    #[error("it is packed with {0}, expected a database of etcd")]
    Packed(Packing),
    /// The file is the database of a running etcd.
    #[error("a running etcd holds this file")]
    Running,
    /// The file is no database of etcd that can be read.
    #[error(transparent)]
    Bolt(#[from] BoltError),
}

/// The format in which a file was packed, according to its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// The format gzip.
    Gzip,
    /// The format zip.
    Zip,
    /// The format Zstandard.
    Zstd,
    /// The format xz.
    Xz,
    /// The format bzip2.
    Bzip2,
}

impl Packing {
    /// Recognizes a packed file by its first bytes.
    pub fn of(first: &[u8]) -> Option<Self> {
        let magics: [(&[u8], Self); 5] = [
            (b"\x1f\x8b", Self::Gzip),
            (b"PK\x03\x04", Self::Zip),
            (b"\x28\xb5\x2f\xfd", Self::Zstd),
            (b"\xfd7zXZ\0", Self::Xz),
            (b"BZh", Self::Bzip2),
        ];
        magics.into_iter().find(|(magic, _)| first.starts_with(magic)).map(|(_, packing)| packing)
    }

    /// Returns the command that unpacks the file named after it.
    pub fn unpack(self) -> &'static str {
        match self {
            Self::Gzip => "gzip --decompress --keep",
            Self::Zip => "unzip",
            Self::Zstd => "zstd --decompress",
            Self::Xz => "xz --decompress --keep",
            Self::Bzip2 => "bzip2 --decompress --keep",
        }
    }
}

impl fmt::Display for Packing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gzip => "gzip",
            Self::Zip => "zip",
            Self::Zstd => "zstd",
            Self::Xz => "xz",
            Self::Bzip2 => "bzip2",
        })
    }
}
