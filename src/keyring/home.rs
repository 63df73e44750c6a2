//! The home of a keyring: where the record that counts is kept. Source: `docs/formats.md`, "record".

use std::fmt;

/// The length of the longest prefix in etcd, its first slash included.
const PREFIX_MAX: usize = 129;

/// The place where the record that counts is kept. Every other copy is a cache.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Home {
    /// The file `keyring` in the state directory of one node.
    #[default]
    File,
    /// The cluster's etcd, below this prefix. All control-plane nodes share the record.
    Etcd(String),
}

impl Home {
    /// Reads what [`Home`]'s `Display` writes.
    pub fn parse(text: &str) -> Option<Self> {
        if text == "file" {
            return Some(Self::File);
        }
        let prefix = text.strip_prefix("etcd ")?;
        let is_allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"/-".contains(&byte);
        let is_prefix =
            (2..=PREFIX_MAX).contains(&prefix.len()) && prefix.starts_with('/') && prefix.bytes().all(is_allowed);
        is_prefix.then(|| Self::Etcd(prefix.to_owned()))
    }
}

impl fmt::Display for Home {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File => f.write_str("file"),
            Self::Etcd(prefix) => write!(f, "etcd {prefix}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes_and_nothing_else() {
        let longest = format!("etcd /{}", "a".repeat(128));
        for text in ["file", "etcd /claviger", "etcd /a/b-1", &longest] {
            assert_eq!(Home::parse(text).unwrap().to_string(), text);
        }
        let too_long = format!("{longest}a");
        for text in
            ["", "files", "etcd", "etcd ", "etcd /", "etcd a", "etcd /A", "etcd /a b", "etcd  /a", "etcd /ä", &too_long]
        {
            assert_eq!(Home::parse(text), None, "{text:?}");
        }
    }
}
