//! The command line of this scan, so that a hint can show a command that does the same with another flag. A shell reads
//! each word as it is.

use std::env;

use super::super::given::quoted;

/// The flag for a file, and those for a live etcd, which contradict it.
const SNAPSHOT: &str = "--snapshot";
const LIVE: [&str; 4] = ["--etcd-servers", "--etcd-cafile", "--etcd-certfile", "--etcd-keyfile"];

/// The flag for a file that this scan has written, and that another one does not overwrite.
const PAGE: &str = "--html";

/// The words of this command line, after the program's name.
pub(super) struct Again(Vec<String>);

impl Again {
    /// Takes the command line of this process.
    pub(super) fn from_env() -> Self {
        Self(env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect())
    }

    /// Returns the command line with `flag` and `value` in place of any value that `flag` has now. A value in capitals is
    /// for people to replace.
    pub(super) fn with(&self, flag: &str, value: &str) -> String {
        format!("{} {flag} {}", self.without(&[flag, PAGE]), quoted(value))
    }

    /// Returns the command line for a snapshot that does not exist yet.
    pub(super) fn with_snapshot(&self) -> String {
        format!("{} {SNAPSHOT} FILE", self.without(&[&[SNAPSHOT, PAGE], &LIVE[..]].concat()))
    }

    fn without(&self, flags: &[&str]) -> String {
        let mut words = vec!["claviger".to_owned()];
        let mut others = self.0.iter();
        while let Some(word) = others.next() {
            let name = word.split('=').next().unwrap_or_default();
            if !flags.contains(&name) {
                words.push(quoted(word));
            } else if name == word {
                // The next word is its value.
                others.next();
            }
        }
        words.join(" ")
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
        assert_eq!(with(&["scan", "--html", "p", "--snapshot", "a b"]), expected);
        assert_eq!(with(&["--etcd-prefixes"]), "claviger --etcd-prefixes --etcd-prefix /registry");
        let live = ["scan", "--etcd-servers", "http://a", "--etcd-cafile=ca", "--keyring", "k", "--html", "p"];
        assert_eq!(again(&live).with_snapshot(), "claviger scan --keyring k --snapshot FILE");
        assert_eq!(again(&["scan", "--snapshot", "db"]).with_snapshot(), "claviger scan --snapshot FILE");
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
