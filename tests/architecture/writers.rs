//! Checks which files of the code write in a state directory.
//!
//! Only `keeper/commit.rs` changes the files of a keyring. It calls `keeper/state_dir.rs`, the stores, and the key
//! files of slots. The audit log is the only file that others may write, through `audit.rs`.

use std::collections::BTreeSet;

use super::{
    Source,
    lexer::{is, tokens, without_tests},
    sources,
};

/// The callers of the functions of `durable` that write files of a state directory: the file, the receiver of the call,
/// the function.
const WRITERS: [(&str, &str, &str); 8] = [
    ("src/audit.rs", "dir", "append"),
    ("src/keeper/state_dir.rs", "dir", "create"),
    ("src/keeper/state_dir.rs", "dir", "move_aside"),
    ("src/keeper/state_dir.rs", "dir", "remove"),
    ("src/keeper/state_dir.rs", "dir", "replace"),
    ("src/root/file.rs", "dir", "create"),
    ("src/store/file.rs", "dir", "create"),
    ("src/store/file.rs", "dir", "replace"),
];

/// The files that only tests have.
const TESTS: [&str; 8] = [
    "src/keeper/crashes.rs",
    "src/keeper/forks.rs",
    "src/keeper/model.rs",
    "src/keeper/refusals.rs",
    "src/keeper/testing.rs",
    "src/root/suite.rs",
    "src/store/memory.rs",
    "src/store/suite.rs",
];

#[test]
fn only_these_files_write_in_a_state_directory() {
    let found = calls(&["append", "create", "move_aside", "remove", "replace"]);
    let found: Vec<_> = found.into_iter().filter(|(_, on, _)| on.ends_with("dir")).collect();
    assert_eq!(found, WRITERS.map(|(file, on, function)| (file.to_owned(), on.to_owned(), function.to_owned())));
}

#[test]
fn only_a_commit_calls_what_writes_the_files_of_a_keyring() {
    let functions = ["keep", "move_aside", "remove_key_file", "swap", "sync_record", "write"];
    let found = calls(&functions);
    let of_keyring = found.iter().filter(|(_, on, _)| ["state", "store", "sealer"].contains(&on.as_str()));
    let found: BTreeSet<(&str, &str)> = of_keyring.map(|(file, _, function)| (&**file, &**function)).collect();
    assert_eq!(found, functions.map(|function| ("src/keeper/commit.rs", function)).into());
}

/// Only `durable` writes files, with one exception: a file of the kernel, which cannot be written in its steps.
#[test]
fn only_durable_and_a_setting_of_the_kernel_write_files() {
    let writes = |text: &str| {
        let tokens = without_tests(&tokens(text));
        let is_call = |at: usize| {
            let names =
                |on, function| is(&tokens, at, on) && is(&tokens, at + 1, "::") && is(&tokens, at + 2, function);
            names("fs", "write") || names("File", "create") || names("File", "create_new")
        };
        (0..tokens.len()).any(is_call)
    };
    let is_wanted = |path: &str| {
        !path.starts_with("src/durable/")
            && !path.ends_with("testing.rs")
            && !path.contains("tests")
            && !TESTS.contains(&path)
    };
    let found = sources("src").into_iter().filter(|source| is_wanted(&source.path) && writes(&source.text));
    assert_eq!(found.map(|source| source.path).collect::<Vec<_>>(), ["src/hardening/dumps.rs"]);
}

/// Returns the calls of these methods outside of `durable` and of tests, sorted: the file, the word before the dot, the
/// method. For `state.dir().create(…)` the word is `dir`.
fn calls(methods: &[&str]) -> Vec<(String, String, String)> {
    let mut found = Vec::new();
    let is_wanted = |path: &str| !path.starts_with("src/durable/") && !TESTS.contains(&path);
    for Source { path, text } in sources("src").into_iter().filter(|source| is_wanted(&source.path)) {
        let tokens = without_tests(&tokens(&text));
        for at in 1..tokens.len() {
            let is_call = is(&tokens, at, ".") && is(&tokens, at + 2, "(");
            if !is_call || !methods.contains(&tokens[at + 1].text) {
                continue;
            }
            let after_call = is(&tokens, at - 1, ")") && at > 3;
            let on = if after_call { tokens[at - 3].text } else { tokens[at - 1].text };
            found.push((path.clone(), on.to_owned(), tokens[at + 1].text.to_owned()));
        }
    }
    found.sort();
    found.dedup();
    found
}
