//! What the flags of kube-apiserver say about a scan: the EncryptionConfiguration, and what was not understood.

use std::path::{Path, PathBuf};

use crate::{
    apiserver::{
        self, FlagDoubt,
        coverage::{BrokenRule, CONFIG_MAX, Coverage, CoverageError, KmsV1},
    },
    config::Config,
    crypto::Digest,
};

use super::super::{
    etcd::Declared,
    failure::{Exit, Failure},
    files::{read_text, wrong},
};

/// An EncryptionConfiguration that was read from its file.
pub(in crate::cli) struct ReadConfig {
    pub(in crate::cli) path: PathBuf,
    /// The SHA-256 of the file's text.
    pub(in crate::cli) sha256: Digest,
    pub(in crate::cli) coverage: Coverage,
}

impl ReadConfig {
    /// Reads the EncryptionConfiguration that a flag, a setting or the flags of kube-apiserver name. Returns `None` if
    /// none of them does.
    ///
    /// # Errors
    /// When the file cannot be read, or kube-apiserver would refuse it.
    pub(in crate::cli) fn read(config: &Config, declared: &Declared) -> Result<Option<Self>, Failure> {
        let is_allowed = config.cluster.feature_gates.as_deref().is_some_and(apiserver::allows_kms_v1);
        let kms_v1 = if is_allowed || declared.allows_kms_v1 { KmsV1::Allowed } else { KmsV1::Refused };
        let read = declared.encryption_config.as_deref().map(|path| read_coverage(path, kms_v1)).transpose();
        let is_own = config.cluster.encryption_config.is_some();
        read.map_err(|failure| if is_own { failure } else { named_by(declared, failure) })
    }
}

/// Returns the failure if nothing says where etcd is.
pub(in crate::cli) fn nowhere(doubts: &[String]) -> Failure {
    let hint = "give --etcd-servers URL, --apiserver-manifest FILE, or --apiserver-process; scan and decrypt also take --snapshot FILE";
    let message = match doubts {
        [] => format!("no option says where etcd is, and there is no {}", apiserver::DEFAULTS[0]),
        _ => format!("it is not known where etcd is: {}", doubts.join("; ")),
    };
    Failure::new(Exit::Usage, &message, hint.to_owned())
}

/// Returns the failure if nothing says where the EncryptionConfiguration is.
pub(in crate::cli) fn unconfigured() -> Failure {
    let message = "no option says where the EncryptionConfiguration is, so it is not known what has to be encrypted";
    let hint = "give --encryption-config FILE, --apiserver-manifest FILE, or --apiserver-process";
    Failure::new(Exit::Usage, &message, hint.to_owned())
}

/// Returns the note about a flag of kube-apiserver that was not understood.
pub(in crate::cli) fn not_understood(declared: &Declared, doubt: &FlagDoubt) -> String {
    format!("in {}: {doubt}", declared.found_in.as_deref().unwrap_or("the flags of kube-apiserver"))
}

/// Adds to `failure` where the EncryptionConfiguration that cannot be used is named.
fn named_by(declared: &Declared, failure: Failure) -> Failure {
    let place = declared.found_in.as_deref().unwrap_or("the flags of kube-apiserver");
    failure.about(&format!("the EncryptionConfiguration that {place} names"))
}

fn read_coverage(path: &Path, kms_v1: KmsV1) -> Result<ReadConfig, Failure> {
    let hint = |error: &CoverageError| match error {
        CoverageError::Rule { rule: BrokenRule::NoGate, .. } => {
            "if this kube-apiserver has that gate, say so: --feature-gates KMSv1=true"
        }
        _ => "kube-apiserver would refuse to start with it or to reload it",
    };
    let text = read_text(path, CONFIG_MAX)?;
    let coverage = Coverage::parse(&text, kms_v1).map_err(|error| wrong(path, &error, Some(hint(&error))))?;
    Ok(ReadConfig { path: path.to_owned(), sha256: Digest::of(text.as_bytes()), coverage })
}
