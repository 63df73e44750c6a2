//! Checks that the documents say the same as the code.
//!
//! Other pairs are compared beside the code: the commands in `src/cli/reference.rs`, metrics in `tests/admin.rs`, the
//! rows of `docs/kube-apiserver.md` in `tests/contract/rows.rs`, the states of keys in `src/keyring/state.rs`.

mod errors;
mod log;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

const BINARY: &str = env!("CARGO_BIN_EXE_claviger");

/// The beginning of the name of each JSON format.
const FORMAT: &str = "\"claviger/";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

/// Returns every file below `directory` whose name has the extension.
fn files(directory: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let found = entries.flat_map(|path| {
        if path.is_dir() && !path.is_symlink() {
            files(&path, extension)
        } else {
            Vec::from_iter(path.extension().is_some_and(|found| found == extension).then_some(path))
        }
    });
    found.collect()
}

/// Returns the documents, by their path below the root of the repository.
fn documents() -> BTreeMap<PathBuf, String> {
    let top = fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().path());
    let top = top.filter(|path| path.is_file() && path.extension().is_some_and(|extension| extension == "md"));
    let below = ["docs", "deploy", "keys", "benches", "tests"].map(|folder| files(&root().join(folder), "md"));
    let all = top.chain(below.into_iter().flatten());
    all.map(|path| (path.strip_prefix(root()).unwrap().to_owned(), fs::read_to_string(&path).unwrap())).collect()
}

/// Returns the sections of a page by their headings `## …`.
fn sections(page: &str) -> BTreeMap<&str, &str> {
    page.split("\n## ").skip(1).filter_map(|section| section.split_once('\n')).collect()
}

/// Returns the text in code quotes at the beginning of each row of a table.
fn rows(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .filter_map(|line| line.strip_prefix("| ")?.trim_start_matches('[').strip_prefix('`')?.split('`').next())
}

/// Returns the anchor of a heading in links.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

#[test]
fn every_link_between_documents_leads_somewhere() {
    let documents = documents();
    let anchors = |page: &str| -> BTreeSet<String> {
        page.lines().filter_map(|line| Some(anchor(line.trim_start_matches('#').strip_prefix(' ')?))).collect()
    };
    let mut wrong = Vec::new();
    for (path, page) in &documents {
        for link in page.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.contains("://") {
                continue;
            }
            let (file, wanted) = link.split_once('#').unwrap_or((link, ""));
            let target =
                if file.is_empty() { root().join(path) } else { root().join(path).parent().unwrap().join(file) };
            let is_found = match fs::canonicalize(&target) {
                Ok(found) if wanted.is_empty() => found.exists(),
                Ok(found) => fs::read_to_string(found).is_ok_and(|text| anchors(&text).contains(wanted)),
                Err(_) => false,
            };
            if !is_found {
                wrong.push(format!("{}: {link}", path.display()));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn every_source_file_that_a_document_names_exists() {
    let is_name = |c: char| c.is_alphanumeric() || "_-./".contains(c);
    let mut wrong = Vec::new();
    for (path, page) in documents() {
        for quoted in page.split('`').skip(1).step_by(2) {
            let is_file = ["src/", "tests/", "benches/", "fuzz/", "deploy/"].iter().any(|dir| quoted.starts_with(dir));
            if is_file && quoted.chars().all(is_name) && !root().join(quoted).exists() {
                wrong.push(format!("{}: {quoted}", path.display()));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn the_readme_has_one_command_to_try_and_one_to_test() {
    let readme = read("README.md");
    let blocks: String = readme.split("\n```sh\n").skip(1).map(|block| block.split("\n```").next().unwrap()).collect();
    let begin_with = |command: &str| blocks.lines().filter(|line| line.starts_with(command)).count();
    assert_eq!((begin_with("cargo run"), begin_with("cargo test")), (1, 1));
}

#[test]
fn contributing_names_the_files_with_unsafe_code() {
    let sources = files(&root().join("src"), "rs");
    let allowing = sources.iter().filter(|path| fs::read_to_string(path).unwrap().contains("allow(unsafe_code"));
    let found: BTreeSet<String> =
        allowing.map(|path| path.strip_prefix(root()).unwrap().display().to_string()).collect();
    let page = read("CONTRIBUTING.md");
    let rule = page.split("`unsafe` only in ").nth(1).unwrap().split(".\n").next().unwrap();
    let named: BTreeSet<String> = rule.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    assert_eq!(named, found);
}

/// Returns the names of the JSON formats in the code.
fn formats() -> BTreeSet<String> {
    let sources = files(&root().join("src"), "rs").into_iter().map(|path| fs::read_to_string(path).unwrap());
    let named = |source: String| -> Vec<String> {
        let fields = source.split("format: ").skip(1).filter_map(|rest| rest.strip_prefix(FORMAT)?.split('"').next());
        fields.map(|name| format!("claviger/{name}")).collect()
    };
    sources.flat_map(named).collect()
}

#[test]
fn every_json_format_is_documented() {
    let page = read("docs/json.md");
    let documented = sections(&page).into_keys().filter(|heading| heading.starts_with("claviger/"));
    let documented: BTreeSet<String> = documented.map(str::to_owned).collect();
    assert_eq!(documented, formats());
    assert!(documented.len() > 15, "{documented:?}");
}

/// Collects the paths of the fields in a value: `keys[].state`.
fn paths(at: &str, value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                paths(&if at.is_empty() { name.clone() } else { format!("{at}.{name}") }, value, found);
            }
        }
        Value::Array(items) => {
            for item in items {
                paths(&format!("{at}[]"), item, found);
            }
        }
        _ => _ = found.insert(at.to_owned()),
    }
}

/// Checks that `docs/json.md` has each field of `text`, if that is one of claviger's JSON formats.
///
/// # Panics
/// When a field or the format is not documented.
pub(crate) fn check_json(text: &str) {
    let Ok(value) = serde_json::from_str::<Value>(text) else { return };
    let Some(format) = value["format"].as_str() else { return };
    let page = read("docs/json.md");
    let sections = sections(&page);
    let section = sections.get(format).unwrap_or_else(|| panic!("{format} is not in docs/json.md"));
    let mut found = BTreeSet::new();
    paths("", &value, &mut found);
    found.remove("format");
    let documented: BTreeSet<&str> = rows(section).collect();
    let keys: BTreeSet<&str> = rows(sections["A key"]).collect();
    let is_documented = |path: &String| {
        // The path of a list that is null has no brackets. The page has them.
        let is_named = |name: &str| documented.contains(name) || documented.contains(format!("{name}[]").as_str());
        let of_a_key = |field: &str, list: &str| keys.contains(field) && documented.contains(list);
        is_named(path)
            || path.rsplit_once('.').is_some_and(|(parent, field)| {
                of_a_key(field, parent) || documented.contains(format!("{parent}.*").as_str())
            })
    };
    let missing: Vec<&String> = found.iter().filter(|path| !is_documented(path)).collect();
    assert!(missing.is_empty(), "docs/json.md does not have these fields of {format}: {missing:?}");
}

/// Returns the exit codes that the help of a verb names.
fn exit_codes(help: &str) -> BTreeSet<&str> {
    let sentences = help.split(". ").filter(|sentence| sentence.contains("xits with "));
    let words = sentences.flat_map(|sentence| sentence.split("with ").skip(1));
    let codes = words.filter_map(|rest| rest.split(|c: char| !c.is_ascii_digit()).next());
    codes.filter(|code| !code.is_empty() && *code != "0").collect()
}

#[test]
fn every_exit_code_of_a_verb_has_a_cause_in_the_tables_of_exit_codes() {
    let (page, commands) = (read("docs/errors.md"), read("docs/commands.md"));
    let mut found = 0;
    for section in commands.split("\n## claviger ").skip(1) {
        let verb = format!("`{}`", section.lines().next().unwrap());
        for code in exit_codes(section) {
            let (_, causes) = page.split_once(&format!("\n### {code}: ")).unwrap();
            let causes = causes.split("\n### ").next().unwrap();
            let has_cause = causes.lines().any(|line| {
                let mut cells = line.split(" | ");
                let is_of_verb = cells.next().is_some_and(|cell| cell.starts_with("| `") && cell.contains(&verb));
                is_of_verb && cells.next().is_some_and(|cause| cause.len() > 2)
            });
            assert!(has_cause, "docs/errors.md does not say when {verb} exits with {code}");
            found += 1;
        }
    }
    assert!(found > 10, "{found}");
}

#[test]
fn the_page_of_the_configuration_has_every_key() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config.toml");
    let run = |text: &str| {
        fs::write(&file, text).unwrap();
        Command::new(BINARY).arg("--config").arg(&file).args(["generate", "encryption-configuration"]).output().unwrap()
    };
    let page = read("docs/configuration.md");
    let documented: BTreeSet<&str> = rows(&page).collect();
    let refused = String::from_utf8(run("no-such-key = 1\n").stderr).unwrap();
    let known = refused.split_once("the settings are: ").unwrap().1.trim_end();
    let known: BTreeSet<&str> = known.split(", ").collect();
    assert_eq!(documented, known, "{refused}");

    let example = page.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let answer = run(example);
    assert!(answer.status.success(), "{}", String::from_utf8_lossy(&answer.stderr));
    let shown: BTreeSet<&str> = example.lines().filter_map(|line| line.split(" = ").next()).collect();
    assert_eq!(shown, known);
}

/// The page also has the crates of each feature.
#[test]
fn the_page_about_building_has_every_feature_of_the_manifest() {
    let manifest: toml::Table = read("Cargo.toml").parse().unwrap();
    let mut features = manifest["features"].as_table().unwrap().clone();
    features.remove("default");
    let page = read("docs/building.md");
    let rows = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` | "))
        .filter(|(name, _)| !name.starts_with("--"));
    let rows: BTreeMap<&str, &str> = rows.collect();
    assert_eq!(rows.keys().copied().collect::<Vec<_>>(), features.keys().map(String::as_str).collect::<Vec<_>>());
    for (feature, parts) in &features {
        let parts = parts.as_array().unwrap().iter().map(|part| part.as_str().unwrap());
        for part in parts.filter(|part| !part.contains('/')) {
            let name = part.strip_prefix("dep:").unwrap_or(part);
            assert!(rows[feature.as_str()].contains(&format!("`{name}`")), "{feature} needs {part}");
        }
    }
}

/// The greatest number of columns of a line of prose.
const COLUMNS: usize = 160;

/// Returns the numbers of the lines of prose that are too long. Tables, headings and code are no prose.
fn wide_lines(page: &str) -> Vec<usize> {
    let mut is_code = false;
    let mut wide = Vec::new();
    for (number, line) in (1..).zip(page.lines()) {
        let start = line.trim_start();
        is_code ^= start.starts_with("```");
        let is_prose = !is_code && !start.starts_with(['|', '#', '<', '[']);
        if is_prose && line.chars().count() > COLUMNS {
            wide.push(number);
        }
    }
    wide
}

/// `docs/commands.md` is made of the help texts, which are not wrapped.
#[test]
fn prose_is_wrapped() {
    for (path, text) in documents().iter().filter(|(path, _)| !path.ends_with("commands.md")) {
        assert_eq!(
            wide_lines(text),
            Vec::<usize>::new(),
            "{} has lines of more than {COLUMNS} columns",
            path.display()
        );
    }
    let wide = "x".repeat(COLUMNS + 1);
    assert_eq!(wide_lines(&format!("{wide}\n| {wide} |\n```\n{wide}\n```\n{wide}")), [1, 6]);
}
