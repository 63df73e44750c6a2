//! Reads kube-apiserver's flags from a log of k3s or RKE2, which write them when they start it.
//!
//! k3s runs kube-apiserver in its own process, so neither a manifest nor a command line shows the flags. It works in
//! the directory `server` of its data directory, and addresses its database with a path relative to that.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use super::{
    error::{FlagsError, NoApiServer},
    flags::{CommandLine, ReadFlags},
};

/// The text before the flags in the log.
const START: &str = "Running kube-apiserver ";

/// Whether a line of `text` contains the flags.
pub(super) fn is_log(text: &str) -> bool {
    text.contains("Running kube-apiserver --")
}

/// Reads the flags of the last start.
///
/// # Errors
/// When no line has flags, or they cannot be used.
pub(super) fn read(text: &str) -> Result<ReadFlags, FlagsError> {
    let message = text.lines().rev().find_map(message).ok_or(FlagsError::NoApiServer(NoApiServer::Log))?;
    let words: Vec<String> = message.split_whitespace().map(ToOwned::to_owned).collect();
    let directory = working_directory(&words);
    let locate = |path: &str| match &directory {
        Some(directory) => Some(directory.join(path)),
        None => path.starts_with('/').then(|| PathBuf::from(path)),
    };
    CommandLine { words: &words, unknown: BTreeSet::new(), locate: &locate }.read()
}

/// Returns the text after [`START`] in `line`, up to the end of the quoted message that contains it.
fn message(line: &str) -> Option<String> {
    let (before, after) = line.split_once(START)?;
    if !before.ends_with('"') {
        return Some(after.to_owned());
    }
    let (mut message, mut rest) = (String::new(), after.chars());
    while let Some(next) = rest.next() {
        match next {
            '"' => break,
            '\\' => message.extend(rest.next()),
            other => message.push(other),
        }
    }
    Some(message)
}

/// Returns the directory `server`, to which the paths of certificates and configurations are relative.
fn working_directory(words: &[String]) -> Option<PathBuf> {
    words.iter().find_map(|word| {
        let (_, path) = word.split_once('=')?;
        let end = ["/server/tls/", "/server/cred/"].iter().find_map(|part| path.find(part))?;
        path.starts_with('/').then(|| Path::new(&path[..end]).join("server"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flags_of_the_last_start_are_read() {
        let line = |servers: &str| {
            format!(
                "Nov 27 k3s[7]: time=\"2026-11-27T10:00:00Z\" level=info msg=\"Running kube-apiserver \
                 --cert-dir=/data/server/tls/temporary-certs --x=\\\"y\\\" --etcd-servers={servers} \
                 --encryption-provider-config=/data/server/cred/encryption-config.json\"\n"
            )
        };
        let text = line("unix://old.sock") + "level=info msg=other\n" + &line("unix://kine.sock");
        assert!(is_log(&text));
        let ReadFlags { flags, doubts } = read(&text).unwrap();
        assert_eq!(flags.servers.urls, ["unix:///data/server/kine.sock"]);
        assert_eq!(flags.encryption_config, Some("/data/server/cred/encryption-config.json".into()));
        assert_eq!(doubts, []);
    }

    #[test]
    fn without_a_directory_a_relative_socket_is_a_doubt() {
        let ReadFlags { flags, doubts } = read("Running kube-apiserver --etcd-servers=unix://kine.sock").unwrap();
        let expected = "--etcd-servers names unix://kine.sock, and it is not known where that is on this machine";
        assert_eq!((flags.servers.urls.len(), doubts[0].to_string()), (0, expected.to_owned()));
        assert!(!is_log("Running kube-apiserver") && read("").is_err());
    }
}
