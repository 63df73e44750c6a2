//! Finds kube-apiserver in the words of a command, also inside of a shell script, and returns its arguments.

use std::path::Path;

use super::words::{Dialect, Lookup, Words, commands};

/// The name of the program that is searched for.
const PROGRAM: &str = "kube-apiserver";

/// The names of shells.
const SHELLS: [&str; 5] = ["sh", "bash", "ash", "dash", "busybox"];

/// Returns the arguments of kube-apiserver, if `command` runs it: directly, through another program that starts it, or
/// in a script that a shell gets as an argument.
pub(super) fn api_server(command: Words, lookup: Lookup<'_>) -> Option<Words> {
    if let Some(script) = script(&command.words) {
        let mut inner = commands(script, Dialect::Shell, lookup).into_iter().filter_map(after_program);
        return inner.next().map(|mut found| {
            found.unknown.extend(command.unknown);
            found
        });
    }
    after_program(command)
}

/// Returns the script of `sh -c script`.
fn script(words: &[String]) -> Option<&str> {
    let name = file_name(words.first()?)?;
    let at = words.iter().position(|word| word.starts_with('-') && !word.starts_with("--") && word.ends_with('c'))?;
    SHELLS.contains(&name).then(|| words.get(at + 1).map(String::as_str)).flatten()
}

fn after_program(mut command: Words) -> Option<Words> {
    let at = command.words.iter().position(|word| is_program(word))?;
    command.words.drain(..=at);
    Some(command)
}

/// Whether the word is the path or the name of kube-apiserver, and not the value of a flag.
pub(super) fn is_program(word: &str) -> bool {
    !word.starts_with('-') && file_name(word) == Some(PROGRAM)
}

fn file_name(word: &str) -> Option<&str> {
    Path::new(word).file_name()?.to_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(words: &[&str]) -> Option<Vec<String>> {
        let words = Words { words: words.iter().map(|word| (*word).to_owned()).collect(), ..Words::default() };
        api_server(words, &|name| (name == "P").then(|| "/p".to_owned())).map(|found| found.words)
    }

    #[test]
    fn the_program_is_found_behind_others_and_in_a_script() {
        assert_eq!(flags(&["/usr/bin/kube-apiserver", "--a"]), Some(vec!["--a".to_owned()]));
        assert_eq!(
            flags(&["/go-runner", "--log-file=/x/kube-apiserver", "kube-apiserver", "--a"]),
            Some(vec!["--a".to_owned()])
        );
        let script = "cd /x; exec /usr/local/bin/kube-apiserver --a=$P 1>>/log 2>&1";
        assert_eq!(flags(&["/bin/sh", "-c", script]), Some(vec!["--a=/p".to_owned()]));
        assert_eq!(flags(&["/bin/bash", "-ec", script, "name"]), Some(vec!["--a=/p".to_owned()]));
        for other in [&["sleep"][..], &["sh", "/start.sh"], &["sh", "-c"], &["sh", "-c", "sleep 1"], &[]] {
            assert_eq!(flags(other), None, "{other:?}");
        }
    }
}
