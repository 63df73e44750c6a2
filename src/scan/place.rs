//! A place that can be scanned, a live etcd or a file, and the only function that scans it.

use std::{fmt, path::PathBuf};

use super::{
    live::{self, LiveError},
    object::Sink,
    outcome::ScanOutcome,
    snapshot::{self, Options, SnapshotError},
    summarizer::Summarizer,
};
use crate::etcd::Servers;

/// A place that can be scanned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScanPlace {
    /// The file of a snapshot, or a copy of a member's database.
    Snapshot(PathBuf),
    /// A live etcd at these addresses.
    Etcd(Servers),
}

/// Why a place could not be scanned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScanPlaceError {
    /// The file cannot be scanned.
    #[error("{}: {source}", file.display())]
    Snapshot {
        /// The path of the file.
        file: PathBuf,
        /// The reason why it cannot be scanned.
        source: SnapshotError,
    },
    /// The live etcd cannot be scanned.
    #[error(transparent)]
    Live(#[from] LiveError),
}

impl ScanPlace {
    /// Passes the objects of this place to `sink`. The progress counts parts of a file, or objects of a live etcd.
    ///
    /// # Errors
    /// When the place cannot be scanned at all. If only a part of it cannot be read, the outcome says so.
    pub fn scan(
        &self,
        summarizer: &Summarizer,
        sink: &mut impl Sink,
        options: Options<'_>,
    ) -> Result<ScanOutcome, ScanPlaceError> {
        match self {
            Self::Snapshot(file) => snapshot::scan(file, summarizer, sink, options)
                .map_err(|source| ScanPlaceError::Snapshot { file: file.clone(), source }),
            Self::Etcd(servers) => Ok(live::scan(servers, summarizer.clone(), sink, options.progress)?),
        }
    }
}

impl fmt::Display for ScanPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Snapshot(file) => write!(f, "{}", file.display()),
            Self::Etcd(servers) => f.write_str(&servers.urls.join(",")),
        }
    }
}
