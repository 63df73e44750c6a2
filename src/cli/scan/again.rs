//! The command line of this scan, so that a hint can show a command that does the same with another flag. A shell reads
//! each word as it is.

use std::env;

/// The words of this command line, after the program's name.
pub(super) struct Again(Vec<String>);

impl Again {
    /// Takes the command line of this process.
    pub(super) fn from_env() -> Self {
        Self(env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect())
    }

    /// Returns the command line with `flag` and `value` in place of any value that `flag` has now.
    pub(super) fn with(&self, flag: &str, value: &str) -> String {
        let mut words = vec!["claviger".to_owned()];
        let mut others = self.0.iter();
        while let Some(word) = others.next() {
            if word == flag {
                others.next();
            } else if word.strip_prefix(flag).is_none_or(|rest| !rest.starts_with('=')) {
                words.push(quoted(word));
            }
        }
        // A value in capitals is for people to replace.
        words.extend([flag.to_owned(), quoted(value)]);
        words.join(" ")
    }
}

/// Returns a word as a shell has to be given it.
pub(super) fn quoted(word: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_@%+=:,./-".contains(&byte);
    if !word.is_empty() && word.bytes().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_is_added_or_gets_another_value() {
        let again = |words: &[&str]| Again(words.iter().map(|word| (*word).to_owned()).collect());
        let with = |words: &[&str]| again(words).with("--etcd-prefix", "/registry");
        let expected = "claviger scan --snapshot 'a b' --etcd-prefix /registry";
        assert_eq!(with(&["scan", "--snapshot", "a b"]), expected);
        assert_eq!(with(&["scan", "--etcd-prefix", "/x", "--snapshot", "a b"]), expected);
        assert_eq!(with(&["scan", "--etcd-prefix=/x", "--snapshot", "a b"]), expected);
        assert_eq!(with(&["--etcd-prefixes"]), "claviger --etcd-prefixes --etcd-prefix /registry");
    }

    #[test]
    fn a_shell_reads_each_word_as_it_is() {
        for word in ["", "a b", "it's", "$(id)", "a;b", "*", "\\", "k\u{e9}y", "/registry"] {
            let script = format!("printf %s {}", quoted(word));
            let output = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), word);
        }
    }
}
