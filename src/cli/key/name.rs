//! Finds the key that a command line names: by its key_id, or by its number if only one key has that number.

use clap::Args;

use crate::{
    cli::{
        KeyringArgs,
        failure::{Exit, Failure},
        tables::all_of,
    },
    keyring::{Entry, Keyring, key_id::KeyId},
};

/// The arguments of a verb about one key.
#[derive(Args)]
pub(super) struct KeyArg {
    /// Key, by its key_id or by its number, for example k2
    #[arg(value_name = "KEY")]
    pub(super) key: String,
    #[command(flatten)]
    pub(super) keyring: KeyringArgs,
}

/// Finds the key that `text` names: by its full key_id, or by its number if only one key has that number.
pub(super) fn named(keyring: &Keyring, text: &str) -> Result<KeyId, Failure> {
    if let Ok(key_id) = text.parse() {
        return Ok(key_id);
    }
    let numbered = format!("{text}-");
    let mut found = keyring.entries().iter().map(Entry::id).filter(|id| id.to_string().starts_with(&numbered));
    match (found.next(), found.next()) {
        (Some(key_id), None) => Ok(key_id),
        (None, _) => Err(unnamed(keyring, text)),
        (Some(first), Some(second)) => {
            let ids: Vec<String> = [first, second].into_iter().chain(found).map(|id| id.to_string()).collect();
            let message = format!("there are several keys {text}: {}", all_of(&ids));
            let hint = "give the key_id in full; `claviger key list` shows the state of each".to_owned();
            Err(Failure::new(Exit::Refused, &message, hint))
        }
    }
}

/// Returns the failure for a `text` that names no key. Its hint names the key that was probably meant.
fn unnamed(keyring: &Keyring, text: &str) -> Failure {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let ids: Vec<String> = keyring.entries().iter().map(|entry| entry.id().to_string()).collect();
    let hint = if let Some((id, (number, _))) = meant(&ids, text).and_then(|id| Some((id, id.split_once('-')?))) {
        format!("a key is named by k and its number, or by its whole key_id: {number} or {id}")
    } else if is_number {
        format!(
            "a key is named by k and its number, as in k{text}, or by its key_id; `claviger key list` shows the keys"
        )
    } else {
        "`claviger key list` shows the keys".to_owned()
    };
    Failure::new(Exit::Refused, &format!("there is no key {text}"), hint)
}

/// Finds the only key_id that begins with `text`, or whose digits after the number do, ignoring the case of letters.
fn meant<'i>(ids: &'i [String], text: &str) -> Option<&'i String> {
    const DIGITS: usize = 4;
    let text = text.to_ascii_lowercase();
    let is_it = |id: &&String| {
        let Some((number, digits)) = id.split_once('-') else { return false };
        number == text
            || text.contains('-') && id.starts_with(&text)
            || text.len() >= DIGITS && digits.starts_with(&text)
    };
    let mut found = ids.iter().filter(is_it);
    found.next().filter(|_| found.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_was_probably_meant_is_found() {
        let digits = |start: &str| format!("{start}{}", "0".repeat(28));
        let ids =
            [format!("k1-{}", digits("0aaa")), format!("k2-{}", digits("c195")), format!("k21-{}", digits("c1bb"))];
        let named = |text| meant(&ids, text).map(|id| &id[..id.find('-').unwrap()]);
        for (text, expected) in
            [("K2", "k2"), ("k2-c1", "k2"), ("K2-C195", "k2"), ("c195", "k2"), ("0aaa", "k1"), ("k21-", "k21")]
        {
            assert_eq!(named(text), Some(expected), "{text}");
        }
        for text in ["", "k", "c1", "k3", "k3-c1", "2", "-"] {
            assert_eq!(named(text), None, "{text}");
        }
        let twins = [format!("k2-{}", digits("c195")), format!("k2-{}", digits("c1bb"))];
        assert_eq!(meant(&twins, "K2"), None);
        assert_eq!(meant(&twins, "k2-c1b"), Some(&twins[1]));
    }
}
