//! The nodes of a keyring, as its record lists them.
//!
//! A shared keyring lists every control-plane node; a keyring in a file lists none. This build reads and keeps the
//! list, and does not use it yet. Source: `docs/formats.md`, "record"; names are DNS subdomains, as Kubernetes has them
//! (RFC 1123).

use super::time::Time;
use crate::text;

/// A control-plane node, or a coordinator without a plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The name of the node in Kubernetes.
    pub name: String,
    /// Whether the node is a coordinator, which runs rotations and no plugin.
    pub is_coordinator: bool,
    /// The sequence number of the key whose rotation did not wait for this node.
    pub skipped: Option<u32>,
    /// The time when the node joined.
    pub enrolled: Time,
    /// The time when the node was removed.
    pub left: Option<Time>,
    /// The time when an operator said that the node will never return.
    pub gone: Option<Time>,
}

impl Node {
    /// Reads what [`Node::line`] writes.
    pub(super) fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ').peekable();
        let name = words.next().filter(|name| is_name(name))?.to_owned();
        let is_coordinator = words.next_if_eq(&"coordinator").is_some();
        let mut value = |name: &str| words.next_if(|word| word.starts_with(name)).map(|word| &word[name.len()..]);
        let skipped = match value("skipped=") {
            Some(seq) => Some(text::seq(seq)?),
            None => None,
        };
        let enrolled = Time::parse(value("enrolled=")?)?;
        let mut time = |name| value(name).map_or(Some(None), |time| Time::parse(time).map(Some));
        let (left, gone) = (time("left=")?, time("gone=")?);
        words.next().is_none().then_some(Self { name, is_coordinator, skipped, enrolled, left, gone })
    }

    /// Writes the line `<name> [coordinator] [skipped=<seq>] enrolled=<time> [left=<time>] [gone=<time>]`.
    pub(super) fn line(&self) -> String {
        let time = |name: &str, time: Option<Time>| time.map_or_else(String::new, |time| format!(" {name}={time}"));
        let coordinator = if self.is_coordinator { " coordinator" } else { "" };
        let skipped = self.skipped.map_or_else(String::new, |seq| format!(" skipped={seq}"));
        let Self { name, enrolled, .. } = self;
        let (left, gone) = (time("left", self.left), time("gone", self.gone));
        format!("{name}{coordinator}{skipped} enrolled={enrolled}{left}{gone}")
    }
}

fn is_name(name: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(is_inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENROLLED: &str = "enrolled=2026-11-23T20:14:48Z";

    #[test]
    fn reads_what_it_writes_and_nothing_else() {
        for text in [
            format!("cp-1.example.org {ENROLLED}"),
            format!("a coordinator skipped=7 {ENROLLED} left=2026-11-24T20:14:48Z gone=2026-11-25T20:14:48Z"),
            format!("a skipped=2147483648 {ENROLLED} gone=2026-11-25T20:14:48Z"),
        ] {
            assert_eq!(Node::parse(&text).unwrap().line(), text);
        }
        for text in [
            String::new(),
            "a".to_owned(),
            format!("A {ENROLLED}"),
            format!("-a {ENROLLED}"),
            format!("a..b {ENROLLED}"),
            format!("{} {ENROLLED}", "a".repeat(64)),
            format!("a  {ENROLLED}"),
            format!("a {ENROLLED} "),
            format!("a skipped=0 {ENROLLED}"),
            format!("a skipped=2147483649 {ENROLLED}"),
            format!("a {ENROLLED} coordinator"),
            format!("a {ENROLLED} gone=2026-11-25T20:14:48Z left=2026-11-24T20:14:48Z"),
            format!("a {ENROLLED} left=now"),
        ] {
            assert_eq!(Node::parse(&text), None, "{text:?}");
        }
    }
}
