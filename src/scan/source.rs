//! The source that a scan read its objects from: a file or a live etcd, with its revision.

use std::path::Path;

use serde::Serialize;

/// The kind of a source: a file or a live etcd.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SourceKind {
    /// The file of a snapshot, or a copy of a member's database.
    Snapshot,
    /// A live etcd, over the network.
    Etcd,
}

/// The source that a scan read. It is a part of the JSON report.
#[derive(Debug, Clone, Serialize)]
pub struct ScanSource {
    /// The kind of the source.
    pub kind: SourceKind,
    /// The newest revision in the file, or the last revision at which the live etcd was read.
    pub revision: u64,
    /// The revision up to which etcd compacted. `None` if it never did, and for a live etcd, which does not tell.
    pub compacted: Option<u64>,
    /// The path of the file. `None` for a live etcd.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The length of the file in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// The digest of the file, if it was computed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<FileDigest>,
    /// The addresses of the live etcd.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<String>,
    /// The number of the live etcd's cluster, in hexadecimal digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster_id: Option<String>,
    /// All revisions at which the live etcd was read, if etcd compacted the first one away during the scan.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pins: Vec<u64>,
}

/// The SHA-256 of a scanned file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileDigest {
    /// The digest of all bytes except the digest at the end of the file, in hexadecimal digits.
    pub sha256: String,
    /// Whether the file ends with this digest. `None` if it does not end with a digest.
    pub matches: Option<bool>,
}

impl ScanSource {
    /// Makes the source for a file of `bytes` bytes.
    pub fn snapshot(path: &Path, bytes: u64) -> Self {
        Self { file: Some(path.display().to_string()), bytes: Some(bytes), ..Self::new(SourceKind::Snapshot) }
    }

    /// Makes the source for a live etcd with these addresses.
    pub fn etcd(endpoints: Vec<String>) -> Self {
        Self { endpoints, ..Self::new(SourceKind::Etcd) }
    }

    /// Returns a name that identifies the live etcd: the number of its cluster. kine reports 0 for every cluster, so
    /// its addresses are its name.
    pub fn etcd_name(&self) -> String {
        let number = self.cluster_id.clone().filter(|number| number != "0");
        number.unwrap_or_else(|| self.endpoints.join(","))
    }

    fn new(kind: SourceKind) -> Self {
        let (compacted, file, bytes, digest, cluster_id) = (None, None, None, None, None);
        let (revision, endpoints, pins) = (0, Vec::new(), Vec::new());
        Self { kind, revision, compacted, file, bytes, digest, endpoints, cluster_id, pins }
    }

    /// Notes that the live etcd was read at `revision`.
    pub fn pin(&mut self, revision: u64, cluster_id: u64) {
        if self.pins.last() != Some(&revision) {
            self.pins.push(revision);
        }
        self.revision = revision;
        self.cluster_id = Some(format!("{cluster_id:x}"));
    }
}
