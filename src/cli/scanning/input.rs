//! Collects what a scan needs, from flags, files and the flags of kube-apiserver: where etcd is, what should be
//! encrypted, and which keys exist.

use std::path::PathBuf;

use crate::{
    apiserver::Override,
    config::Config,
    etcd::Servers,
    plan::Timeouts,
    scan::{judge::Judge, place::ScanPlace},
};

use super::{
    super::{etcd::Declared, failure::Failure},
    declared::{ReadConfig, not_understood, nowhere},
    keys::ScanKeys,
};

/// The inputs of a scan.
pub(in crate::cli) struct ScanInput {
    /// The places to scan, at least one. The first one is the main etcd.
    pub(in crate::cli) places: Vec<ScanPlace>,
    /// The main etcd, if it is known.
    pub(in crate::cli) etcd: Option<Servers>,
    /// The place where the flags of kube-apiserver were found.
    pub(in crate::cli) flags: Option<String>,
    pub(in crate::cli) prefix: String,
    pub(in crate::cli) judge: Judge,
    /// The keys that values are compared with. The judge knows their states.
    pub(in crate::cli) keys: ScanKeys,
    /// The time limits of the API servers.
    pub(in crate::cli) timeouts: Timeouts,
    /// Notes for the operator about the inputs.
    pub(in crate::cli) notes: Vec<String>,
}

impl ScanInput {
    /// Reads the files that are named, or that a distribution writes.
    ///
    /// # Errors
    /// When nothing says where etcd is, or a file cannot be read or has wrong contents.
    pub(in crate::cli) fn read(
        config: &Config,
        snapshot: Option<PathBuf>,
        mut keys: ScanKeys,
    ) -> Result<Self, Failure> {
        // A snapshot may belong to another cluster than this node, so the manifest of this node is not read by default.
        let declared = Declared::read_for(&config.cluster, snapshot.is_some())?;
        let mut notes: Vec<String> = declared.doubts.iter().map(|doubt| not_understood(&declared, doubt)).collect();
        // A fault of the file is reported even if it is not known where etcd is.
        let read = ReadConfig::read(config, &declared)?;
        let places = match snapshot {
            Some(file) => {
                notes.extend(declared.overrides.iter().map(elsewhere));
                vec![ScanPlace::Snapshot(file)]
            }
            None => declared.places().ok_or_else(|| nowhere(&notes))?,
        };
        notes.extend(keys.note.take());
        let timeouts = declared.timeouts(read.as_ref().map(|read| &read.coverage));
        let etcd = declared.servers.clone();
        let flags = declared.found_in;
        let judge = Judge { coverage: read.map(|read| read.coverage), keys: keys.known.take() };
        Ok(Self { places, etcd, flags, prefix: declared.prefix, judge, keys, timeouts, notes })
    }
}

fn elsewhere(other: &Override) -> String {
    format!("{} is stored in another etcd, {}, which this scan did not read", other.resource, other.urls.join(", "))
}
