//! The names of the flags that hints repeat, and the form in which they repeat a value.

use std::path::{Path, PathBuf, absolute};

/// The flags that a suggested command repeats, if it takes them.
pub(super) const REPEATED: [&str; 19] = [
    "config",
    "state-dir",
    "socket",
    "passphrase-file",
    "recovery-identity",
    "provider-name",
    "etcd-servers",
    "etcd-cafile",
    "etcd-certfile",
    "etcd-keyfile",
    "etcd-prefix",
    "apiserver-manifest",
    "apiserver-process",
    "encryption-config",
    "feature-gates",
    "keyring",
    "primary",
    "kubeconfig",
    "context",
];

/// The flags that a hint repeats only if it suggests the same command again. `--html` is not one of them, because most
/// commands have written the page when they print a hint.
pub(super) const REPEATED_BY_ITSELF: [&str; 11] = [
    "snapshot",
    "list",
    "all",
    "prometheus",
    "rate",
    "leave",
    "via",
    "backup-dir",
    "api-servers",
    "without-backup",
    "wait",
];

/// The flags that a hint of `claviger rotate` repeats only if it suggests a rotation again, because a rotation writes
/// its reports at its end.
pub(super) const REPEATED_BY_ROTATION: [&str; 2] = ["html", "to"];

/// The flags that name a file to read. A hint does not repeat such a flag if its file is the reason of the failure.
pub(super) const FILES: [&str; 10] = [
    "config",
    "passphrase-file",
    "recovery-identity",
    "etcd-cafile",
    "etcd-certfile",
    "etcd-keyfile",
    "apiserver-manifest",
    "encryption-config",
    "keyring",
    "kubeconfig",
];

/// The flags that name a file or a directory. A hint repeats the absolute path, so that it can be pasted elsewhere.
const PATHS: [&str; 6] = ["state-dir", "snapshot", "prometheus", "backup-dir", "html", "to"];

/// The names that etcdctl has for the flags that name an etcd.
pub(super) const ETCDCTL: [(&str, &str); 4] =
    [("etcd-servers", "endpoints"), ("etcd-cafile", "cacert"), ("etcd-certfile", "cert"), ("etcd-keyfile", "key")];

/// The flags that a command does not take together with a snapshot.
pub(super) const LIVE: [&str; 4] = ["etcd-servers", "etcd-cafile", "etcd-certfile", "etcd-keyfile"];

/// Returns the value of a flag in a form that means the same in any directory.
pub(super) fn anywhere(name: &str, given: &str) -> String {
    let is_path = given.contains('/') || Path::new(given).extension().is_some();
    let is_socket = name == "socket" && is_path && !given.starts_with('@') && !given.contains(':');
    if !is_socket && !PATHS.contains(&name) && !FILES.contains(&name) {
        return given.to_owned();
    }
    let path = absolute(given).map(|path| path.components().collect::<PathBuf>());
    path.map_or_else(|_| given.to_owned(), |path| path.display().to_string())
}
