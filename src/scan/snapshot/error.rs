//! Why a file is not scanned.

use std::{fmt, io};

use super::super::bolt::BoltError;

/// Why a file is not scanned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// The system cannot open it.
    #[error("opening failed: {0}")]
    Open(#[source] io::Error),
    /// It is a directory, a pipe or a device.
    #[error("not a regular file")]
    Kind,
    /// It is an archive or a compressed file.
    #[error("it is packed with {0}, expected a database of etcd")]
    Packed(Packing),
    /// It is the database of a running etcd.
    #[error("a running etcd holds this file")]
    Running,
    /// It is no database that can be read.
    #[error(transparent)]
    Bolt(#[from] BoltError),
}

/// How a file was packed, judging by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// gzip.
    Gzip,
    /// zip.
    Zip,
    /// Zstandard.
    Zstd,
    /// xz.
    Xz,
    /// bzip2.
    Bzip2,
}

impl Packing {
    /// Recognizes a packed file.
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
