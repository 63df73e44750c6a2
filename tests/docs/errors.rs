//! Checks that every error text has a test that causes the error and asserts its text.
//!
//! It looks for the longest part without placeholders of each text in the tests and snapshots. It cannot check that the
//! test causes the error. A reviewer has to.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use super::{files, root};

/// Texts without a test, each with the reason why no test can bring the error about.
const WITHOUT_TEST: [(&str, &str); 15] = [
    ("catching signals: {0}", "only a kernel without descriptors or memory refuses"),
    ("registering the socket with the event loop: {0}", "only a kernel without descriptors or memory refuses"),
    ("the new keyring does not read back: {0}", "guards against a record that this build writes and cannot read"),
    (
        "the keyring was changed, but does not open: {0}",
        "guards against files that stop opening right after they were written",
    ),
    (
        "the keyring was written, but does not open: {0}",
        "guards against files that stop opening right after they were written",
    ),
    ("keeping a key out of core dumps and child processes: {0}", "only a kernel without MADV_WIPEONFORK refuses"),
    ("/proc/self: {0}", "only a machine without /proc gets there"),
    ("starting the event loop: {0}", "only a kernel without descriptors or memory refuses"),
    ("{} did not read back as it was written", "only a disk that gives back other bytes gets there"),
    ("writing the contents of a backup: {0}", "guards against a library that fails to write to memory"),
    ("the backup of the new key: {0}", "guards against an age file that cannot be written to memory"),
    (
        "root file: {0}",
        "guards against an earlier root key that was wrapped wrongly in an authentic file; no such file is known",
    ),
    ("the new root file does not read back: {0}", "guards against a root file that this build writes and cannot read"),
    (
        "the recovery blob for {0} is too long for a record",
        "guards against an age file that is longer than all that age writes",
    ),
    (
        "the report is not in its canonical form",
        "guards against a reader that takes more than the writer writes; no such bytes are known",
    ),
];

/// The least length of a part. Shorter parts could be in any text: `{action} {}: {source}`.
const SHORTEST: usize = 5;

/// Returns the source files of the library, each with whether only tests use it.
fn sources() -> Vec<(PathBuf, String, bool)> {
    let all: Vec<(PathBuf, String)> = files(&root().join("src"), "rs")
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            (path, text)
        })
        .collect();
    let of_tests: Vec<PathBuf> = all.iter().flat_map(|(path, text)| modules_of_tests(path, text)).collect();
    let is_test = |path: &Path| of_tests.iter().any(|module| path.with_extension("").starts_with(module));
    all.iter().map(|(path, text)| (path.clone(), text.clone(), is_test(path))).collect()
}

/// Returns the modules that `text` declares for tests alone, as in `#[cfg(test)] mod suite;`: the paths of their files
/// without the extension, or of their folders.
fn modules_of_tests(path: &Path, text: &str) -> Vec<PathBuf> {
    let is_root = path.ends_with("mod.rs") || path.ends_with("lib.rs");
    let folder = if is_root { path.parent().unwrap().to_owned() } else { path.with_extension("") };
    let declared = text.split("#[cfg(test)]\n").skip(1).filter_map(|rest| rest.lines().next());
    let names = declared.filter_map(|line| line.rsplit_once("mod ")?.1.strip_suffix(';'));
    names.map(|name| folder.join(name)).collect()
}

/// Returns the part of a file before the tests at its bottom, and the tests.
fn parts(text: &str) -> (&str, &str) {
    text.find("\nmod tests {").map_or((text, ""), |at| text.split_at(at))
}

/// Returns a literal of Rust as it is printed, with one blank for every run of them.
fn plain(literal: &str) -> String {
    let joined: Vec<&str> = literal.split("\\\n").collect();
    let joined: String =
        joined.iter().enumerate().map(|(at, part)| if at == 0 { part } else { part.trim_start() }).collect();
    let text = joined.replace("\\\"", "\"").replace("{{", "{").replace("}}", "}");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Returns the texts of `#[error("…")]`.
fn texts(source: &str) -> Vec<String> {
    let literal = |rest: &str| {
        let rest = rest.trim_start().strip_prefix('"')?;
        let end = rest.match_indices('"').map(|(at, _)| at).find(|at| !rest[..*at].ends_with('\\'))?;
        Some(plain(&rest[..end]))
    };
    source.split("#[error(").skip(1).filter_map(literal).collect()
}

/// Returns the longest part of a text without placeholders.
fn fixed(text: &str) -> &str {
    let parts = text.split('{').enumerate().map(|(at, part)| match part.split_once('}') {
        Some((_, fixed)) if at > 0 => fixed,
        _ => part,
    });
    parts.map(str::trim).max_by_key(|part| part.len()).unwrap_or_default()
}

#[test]
fn every_error_text_has_a_test() {
    let sources = sources();
    let in_src = sources.iter().map(|(_, text, is_test)| if *is_test { text } else { parts(text).1 });
    let is_here = |path: &PathBuf| path.starts_with(root().join("tests/docs"));
    let beside = ["rs", "snap"].map(|extension| files(&root().join("tests"), extension));
    let beside =
        beside.into_iter().flatten().filter(|path| !is_here(path)).map(|path| fs::read_to_string(path).unwrap());
    let tests: Vec<String> = in_src.map(plain).chain(beside.map(|text| plain(&text))).collect();

    let production = sources.iter().filter(|(_, _, is_test)| !is_test);
    let all: Vec<(String, String)> = production
        .flat_map(|(path, text, _)| {
            let file = path.strip_prefix(root()).unwrap().display().to_string();
            texts(parts(text).0).into_iter().map(move |text| (file.clone(), text))
        })
        .collect();
    assert!(all.len() > 200, "{}", all.len());
    let is_tested = |text: &str| tests.iter().any(|test| test.contains(fixed(text)));
    let untested = all.iter().filter(|(_, text)| fixed(text).len() >= SHORTEST && !is_tested(text));
    let found: BTreeSet<&str> = untested.clone().map(|(_, text)| text.as_str()).collect();
    let excepted: BTreeSet<&str> = WITHOUT_TEST.iter().map(|(text, _)| *text).collect();
    let missing: Vec<_> = untested.filter(|(_, text)| !excepted.contains(text.as_str())).collect();
    assert!(missing.is_empty(), "no test asserts these error texts: {missing:#?}");
    let needless: Vec<_> = excepted.difference(&found).collect();
    assert!(needless.is_empty(), "these texts have a test, or are gone: {needless:?}");
}

/// Texts that two errors share, each with the reason.
const SHARED: [(&str, &str); 9] = [
    ("ciphertext is wrapped under another key", "the design fixes what a peer reads; the layers know different causes"),
    ("ciphertext failed authentication", "the design fixes what a peer reads; the layers know different causes"),
    ("{} is {found}, expected {expected}", "one enum, for kinds of files and for paths"),
    ("kubeconfig {path}: {reason}", "one enum, for the file and for the token in it"),
    ("the ledger {0}", "one enum, before errors that say the rest"),
    ("{}: {source}", "a path before an error that says the rest"),
    ("not a whole object in JSON", "a scan finds it in etcd, a recovery in what it has decrypted"),
    ("reading failed: {0}", "one file, for a page and for the whole database"),
    ("the file changed while it was read", "one is a value that is skipped, the other ends a scan"),
];

/// If two operations can meet the same problem, they share its error. So there is one text, one hint and one exit code.
#[test]
fn no_two_errors_have_one_text() {
    let mut all: Vec<String> = sources()
        .iter()
        .filter(|(_, _, is_test)| !is_test)
        .flat_map(|(_, text, _)| texts(parts(text).0))
        .filter(|text| fixed(text).len() >= SHORTEST || text.contains(": {source}"))
        .collect();
    all.sort();
    let shared: BTreeSet<&str> = all.windows(2).filter(|two| two[0] == two[1]).map(|two| two[0].as_str()).collect();
    assert_eq!(shared, SHARED.iter().map(|(text, _)| *text).collect());
}

/// Only the command line knows flags and verbs. An exception are kube-apiserver's own flags, which `apiserver` reads.
#[test]
fn only_the_command_line_has_hints() {
    for (path, text, _) in sources() {
        let path = path.strip_prefix(root()).unwrap();
        if path.starts_with("src/cli") {
            continue;
        }
        for error in texts(parts(&text).0) {
            let is_flag =
                |word: &str| word.strip_prefix("--").is_some_and(|name| name.starts_with(char::is_alphabetic));
            let has_flag = error.split([' ', '`', '(']).any(is_flag);
            let has_flag = has_flag && !path.starts_with("src/apiserver");
            let is_hint = has_flag || error.contains("`claviger ") || error.contains("run it again");
            assert!(!is_hint, "{}: {error}", path.display());
        }
    }
}

#[test]
fn the_longest_part_without_placeholders_is_what_is_looked_for() {
    assert_eq!(fixed("slot {0}: wrong key: it opens {}"), ": wrong key: it opens");
    assert_eq!(fixed("{}"), "");
    assert_eq!(texts("#[error(\n    \"a \\\"b\\\" \\\n     {{c}}\"\n)] #[error(transparent)]"), ["a \"b\" {c}"]);
}
