//! The names of all settings, with the kind of value that each has, and its default or an example.

/// The state directory, unless a flag or the file names another one.
pub const DEFAULT_STATE_DIR: &str = "/var/lib/claviger";
pub const DEFAULT_SOCKET: &str = "/run/claviger/kms.sock";
pub(super) const DEFAULT_PROVIDER: &str = "claviger";

/// The kind of value that a setting has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueKind {
    /// A text. Contains an example.
    Text(&'static str),
    /// One of these words. The last one is the default.
    Words(&'static [&'static str]),
    /// A number. Contains an example.
    Number(u32),
    /// A list of texts. Contains an example.
    List(&'static str),
    /// A list of some of these words.
    WordList(&'static [&'static str]),
}

impl ValueKind {
    /// Describes the expected value.
    pub fn expected(self) -> String {
        match self {
            Self::Text(_) => "text in quotes".to_owned(),
            Self::Words(words) => format!("one of {}, in quotes", quoted(words)),
            Self::Number(_) => "a number that is not negative, without quotes".to_owned(),
            Self::List(example) => format!("a list such as {example}"),
            Self::WordList(words) => format!("a list of some of {}", quoted(words)),
        }
    }
}

fn quoted(words: &[&str]) -> String {
    words.iter().map(|word| format!("{word:?}")).collect::<Vec<_>>().join(", ")
}

/// Returns the setting whose name is nearest to `key`, if one is near.
pub fn nearest(key: &str) -> Option<&'static str> {
    nearest_of(&key.replace('_', "-"), KINDS.into_iter().map(|(name, _)| name))
}

/// Returns the one of `names` that is nearest to `word`, if one is near. Capital letters do not count.
pub fn nearest_of<'n>(word: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let word = word.to_lowercase();
    let (distance, name) = names.map(|name| (distance(&word, &name.to_lowercase()), name)).min()?;
    (distance <= 1 + name.len() / 4).then_some(name)
}

/// Returns how many letters have to be inserted, removed or replaced to make one word of the other.
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.chars().count()).collect();
    for (index, letter) in one.chars().enumerate() {
        let mut before = std::mem::replace(&mut row[0], index + 1);
        for (column, also) in other.chars().enumerate() {
            let replaced = before + usize::from(letter != also);
            before = row[column + 1];
            row[column + 1] = replaced.min(before + 1).min(row[column] + 1);
        }
    }
    row.last().copied().unwrap_or_default()
}

/// Every setting, with the kind of its value.
pub const KINDS: [(&str, ValueKind); 17] = [
    ("state-dir", ValueKind::Text(DEFAULT_STATE_DIR)),
    ("passphrase-file", ValueKind::Text("/media/usb/passphrase")),
    ("socket", ValueKind::Text(DEFAULT_SOCKET)),
    ("socket-group", ValueKind::Number(1001)),
    ("allow-uid", ValueKind::List("[1001]")),
    ("metrics-listen", ValueKind::Text("127.0.0.1:9808")),
    ("provider-name", ValueKind::Text(DEFAULT_PROVIDER)),
    ("without", ValueKind::WordList(&["memfd-secret", "landlock", "seccomp"])),
    ("log-level", ValueKind::Words(&["debug", "error", "warn", "info"])),
    ("backups", ValueKind::Words(&["none", "listed"])),
    ("etcd-servers", ValueKind::List("[\"https://127.0.0.1:2379\"]")),
    ("etcd-cafile", ValueKind::Text("/etc/kubernetes/pki/etcd/ca.crt")),
    ("etcd-certfile", ValueKind::Text("/etc/kubernetes/pki/etcd/server.crt")),
    ("etcd-keyfile", ValueKind::Text("/etc/kubernetes/pki/etcd/server.key")),
    ("etcd-prefix", ValueKind::Text("/registry")),
    ("apiserver-manifest", ValueKind::Text("/etc/kubernetes/manifests/kube-apiserver.yaml")),
    ("encryption-config", ValueKind::Text("/etc/kubernetes/claviger/encryption-configuration.yaml")),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_setting_is_found_and_another_word_is_none() {
        for (key, name) in [
            ("sokcet", "socket"),
            ("state_dir", "state-dir"),
            ("StateDir", "state-dir"),
            ("etcd-server", "etcd-servers"),
            ("loglevel", "log-level"),
        ] {
            assert_eq!(nearest(key), Some(name), "{key}");
        }
        for key in ["", "log", "timeout", "\u{1f511}"] {
            assert_eq!(nearest(key), None, "{key}");
        }
    }
}
