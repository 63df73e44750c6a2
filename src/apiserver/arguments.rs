//! Reads kube-apiserver's flags from a file that contains nothing else, as MicroK8s has one.
//!
//! The rules are MicroK8s': each line is an argument; a line that begins with `#` is a comment; all quotes are removed;
//! variables are replaced also between single quotes.

use std::path::PathBuf;

use super::{
    error::FlagsError,
    flags::{CommandLine, ReadFlags},
    words::{Dialect, Words, commands},
};

/// The variables that snapd sets for MicroK8s.
const SNAP: [(&str, &str); 3] = [
    ("SNAP", "/snap/microk8s/current"),
    ("SNAP_DATA", "/var/snap/microk8s/current"),
    ("SNAP_COMMON", "/var/snap/microk8s/common"),
];

/// Whether the first line of `text` that is no comment begins with a flag.
pub(super) fn is_file_of_arguments(text: &str) -> bool {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let first = lines.next().unwrap_or_default();
    first.strip_prefix("--").is_some_and(|flag| flag.starts_with(|one: char| one.is_ascii_alphabetic()))
}

/// Reads a file of flags.
///
/// # Errors
/// When the flags cannot be used.
pub(super) fn read(text: &str) -> Result<ReadFlags, FlagsError> {
    let lookup = |name: &str| SNAP.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
    let mut all = Words::default();
    for line in text.lines().filter(|line| !line.trim_start().starts_with('#')) {
        for command in commands(&line.replace(['"', '\''], ""), Dialect::Systemd, &lookup) {
            all.words.extend(command.words);
            all.unknown.extend(command.unknown);
        }
    }
    let locate = |path: &str| path.starts_with('/').then(|| PathBuf::from(path));
    CommandLine { words: &all.words, unknown: all.unknown, locate: &locate }.read()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_comments_and_the_variables_of_snapd_are_understood() {
        let text = "# flags\n--cert-dir=${SNAP_DATA}/certs\n\
                    --etcd-servers=\"unix://${SNAP_DATA}/var/kubernetes/backend/kine.sock:12379\"\n\
                    #--etcd-prefix=/old\n--encryption-provider-config='${SNAP_DATA}/args/enc.yaml'\n";
        assert!(is_file_of_arguments(text));
        let ReadFlags { flags, doubts } = read(text).unwrap();
        let socket = "unix:///var/snap/microk8s/current/var/kubernetes/backend/kine.sock:12379";
        assert_eq!((flags.servers.urls, flags.prefix, doubts), (vec![socket.to_owned()], None, vec![]));
        assert_eq!(flags.encryption_config, Some("/var/snap/microk8s/current/args/enc.yaml".into()));
    }

    #[test]
    fn an_unknown_variable_is_a_doubt() {
        let ReadFlags { doubts, .. } = read("--etcd-servers=unix://${OTHER}/kine.sock\n").unwrap();
        assert_eq!(doubts[0].to_string(), "--etcd-servers contains ${OTHER}, whose value is not known");
    }

    #[test]
    fn a_document_of_yaml_is_no_file_of_arguments() {
        for text in ["---\nkind: Pod\n", "kind: Pod\n", "", "# --a\n"] {
            assert!(!is_file_of_arguments(text), "{text:?}");
        }
    }
}
