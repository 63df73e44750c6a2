//! Checks that the page for auditors and the tests have the same rows.

use std::{collections::BTreeSet, fs, path::Path};

/// A test in another folder that a row names.
const ELSEWHERE: &str = "kubernetes_1_31_works_over_an_abstract_socket";

/// Tests that belong to no demand: two test the tools of this folder, and one only measures.
const NO_DEMAND: [&str; 3] = [
    "what_is_sealed_opens",
    "every_row_has_its_test_and_every_test_its_row",
    "a_start_over_10000_secrets_takes_as_long_as_without_encryption",
];

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// Returns the row and the test of each line `| row | test |`.
fn rows(text: &str) -> BTreeSet<(String, String)> {
    let cells = text.lines().filter_map(|line| line.trim_start_matches("//! ").strip_prefix("| ")?.strip_suffix("` |"));
    let pairs = cells.filter_map(|cells| cells.split_once(" | `")).filter(|(_, test)| !test.contains(' '));
    pairs.map(|(row, test)| (row.to_owned(), test.to_owned())).collect()
}

/// Returns the numbers of the rows that state a demand, which have three columns.
fn demands(text: &str) -> BTreeSet<String> {
    let numbers = text.lines().filter(|line| line.matches(" | ").count() == 2).map(|line| line[2..].split(' ').next());
    numbers
        .flatten()
        .filter(|number| number.starts_with(|digit: char| digit.is_ascii_digit()))
        .map(str::to_owned)
        .collect()
}

/// Returns the names of the tests in a source.
fn tests(source: &str) -> BTreeSet<String> {
    let bodies = source.split("\n#[test]\n").skip(1);
    bodies.filter_map(|body| Some(body.split_once("fn ")?.1.split_once('(')?.0.to_owned())).collect()
}

/// Returns the names of the tests in this folder.
fn tests_here() -> BTreeSet<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/contract");
    let sources = fs::read_dir(folder).unwrap().map(|file| fs::read_to_string(file.unwrap().path()).unwrap());
    sources.flat_map(|source| tests(&source)).filter(|test| !NO_DEMAND.contains(&test.as_str())).collect()
}

#[test]
fn every_row_has_its_test_and_every_test_its_row() {
    let page = read("docs/kube-apiserver.md");
    let rows = rows(&page);
    assert_eq!(rows, self::rows(&read("tests/contract/mod.rs")), "the page, and the table of the module");
    let numbers: BTreeSet<String> = rows.iter().map(|(row, _)| row.clone()).collect();
    assert_eq!(numbers, demands(&page), "the rows with a test, and the demands");
    let named: BTreeSet<String> = rows.into_iter().map(|(_, test)| test).collect();
    assert!(tests(&read("tests/control_plane.rs")).contains(ELSEWHERE));
    let known: BTreeSet<String> = tests_here().into_iter().chain([ELSEWHERE.to_owned()]).collect();
    assert_eq!(named, known, "the tests that rows name, and those that there are");
}
