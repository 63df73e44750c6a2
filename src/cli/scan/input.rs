//! Collects what a scan needs, from flags, files and the flags of kube-apiserver: where etcd is, what should be
//! encrypted, and which keys exist.

use std::path::{Path, PathBuf};

use crate::{
    apiserver::{
        self, Doubt, Override,
        coverage::{BrokenRule, CONFIG_MAX, Coverage, CoverageError, KmsV1},
    },
    config::Config,
    etcd::Servers,
    scan::{judge::Judge, needs::ScanPlace},
};

use super::{
    super::{
        etcd::Declared,
        failure::{Exit, Failure},
        files::{read_text, wrong},
    },
    keys::ScanKeys,
};

/// What a scan needs.
pub(super) struct ScanInput {
    /// The places to read, at least one. The first one has the main etcd's objects.
    pub(super) places: Vec<ScanPlace>,
    /// The main etcd, if it is known. For a snapshot, this is the one that the snapshot was probably taken of.
    pub(super) etcd: Option<Servers>,
    /// Where the flags of kube-apiserver were found.
    pub(super) flags: Option<String>,
    pub(super) prefix: String,
    pub(super) judge: Judge,
    /// The keys that values are compared with. The judge has taken their states.
    pub(super) keys: ScanKeys,
    /// What the operator should know about the input.
    pub(super) notes: Vec<String>,
}

impl ScanInput {
    /// Reads the files that are named, or that a distribution writes.
    ///
    /// # Errors
    /// When nothing says where etcd is, or a file cannot be read or has wrong contents.
    pub(super) fn read(
        config: &Config,
        snapshot: Option<PathBuf>,
        mut keys: ScanKeys,
        has_kms_v1: bool,
    ) -> Result<Self, Failure> {
        // A snapshot may belong to another cluster than this node, so its manifest is not read by default.
        let declared = Declared::read(&config.cluster, snapshot.is_some())?;
        let mut notes: Vec<String> = declared.doubts.iter().map(|doubt| not_understood(&declared, doubt)).collect();
        let places = match snapshot {
            Some(file) => {
                notes.extend(declared.overrides.iter().map(elsewhere));
                vec![ScanPlace::Snapshot(file)]
            }
            None => declared.places().ok_or_else(|| nowhere(&notes))?.into_iter().map(|(place, _)| place).collect(),
        };
        notes.extend(keys.note.take());
        let kms_v1 = if has_kms_v1 || declared.allows_kms_v1 { KmsV1::Allowed } else { KmsV1::Refused };
        let coverage = declared.encryption_config.as_deref().map(|path| read_coverage(path, kms_v1)).transpose();
        let is_own = config.cluster.encryption_config.is_some();
        let coverage = coverage.map_err(|failure| if is_own { failure } else { named_by(&declared, failure) })?;
        let etcd = declared.servers.clone();
        let flags = declared.found_in;
        let judge = Judge { coverage, keys: keys.known.take() };
        Ok(Self { places, etcd, flags, prefix: declared.prefix, judge, keys, notes })
    }
}

pub(super) fn nowhere(doubts: &[String]) -> Failure {
    let hint = "give --snapshot FILE, --etcd-servers URL, --apiserver-manifest FILE, or --apiserver-process";
    let message = match doubts {
        [] => format!("no option says where etcd is, and there is no {}", apiserver::DEFAULTS[0]),
        _ => format!("it is not known where etcd is: {}", doubts.join("; ")),
    };
    Failure::new(Exit::Usage, &message, hint.to_owned())
}

fn not_understood(declared: &Declared, doubt: &Doubt) -> String {
    format!("in {}: {doubt}", declared.found_in.as_deref().unwrap_or("the flags of kube-apiserver"))
}

fn elsewhere(other: &Override) -> String {
    format!("{} is stored in another etcd, {}, which this scan did not read", other.resource, other.urls.join(", "))
}

/// Says where the EncryptionConfiguration is named that cannot be used.
fn named_by(declared: &Declared, failure: Failure) -> Failure {
    let place = declared.found_in.as_deref().unwrap_or("the flags of kube-apiserver");
    failure.about(&format!("the EncryptionConfiguration that {place} names"))
}

fn read_coverage(path: &Path, kms_v1: KmsV1) -> Result<Coverage, Failure> {
    let hint = |error: &CoverageError| match error {
        CoverageError::Rule { rule: BrokenRule::NoGate, .. } => {
            "if this kube-apiserver has that gate, say so: --feature-gates KMSv1=true"
        }
        _ => "kube-apiserver would refuse to start with it or to reload it",
    };
    Coverage::parse(&read_text(path, CONFIG_MAX)?, kms_v1).map_err(|error| wrong(path, &error, Some(hint(&error))))
}
