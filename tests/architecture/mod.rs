//! Compares the architecture with the code.
//!
//! - **Rows.** [`ROWS`] is the order of the modules, the highest first. [`MAY_IMPORT`] says what each module uses: only
//!   modules to the right of it in its row, or in rows below. A module that is not in the table may not exist. README
//!   shows the same table.
//! - **Circles.** No file needs a file that needs it, directly or over others ([`graph`] says what "needs" means).
//! - **Upward.** A folder and the files beside it have an order, too. If a file in `src/a/b/` imports from
//!   `src/a/c.rs`, then `c.rs` needs nothing in `src/a/b/`. If a `mod.rs` uses its children, they import nothing that
//!   it defines. If `mod.rs` only lists its children, they may import from it.
//! - **Sizes.** No file has more than 600 lines unless its header has a sentence that begins with "This file is long
//!   because". A `mod.rs` has at most 60 lines that are neither `mod`, `use`, attribute, comment nor test. No line of
//!   comments has more than 120 columns.
//! - **Sentences.** The comment of a function begins with a verb, or with "Whether" if the answer is yes or no. Phrases
//!   that a reader has to solve like a puzzle are banned, in comments, strings and documents.
//! - **Names.** No two types of the crate have one name. Types in tests do not count.
//!
//! What does not comply yet is listed by name. A list may only shrink: a test fails if a name in it is not needed any
//! more.

mod comments;
mod errors;
mod graph;
mod lexer;
mod names;
mod paths;
mod sizes;
mod tables;
mod writers;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use self::{
    comments::{banned_words, functions_without_a_verb},
    graph::{Circle, Graph},
    lexer::{tokens, without_tests},
    names::types,
    paths::{imports, paths},
    sizes::{LINES_MAX, PAGE, has_reason, lines_of_logic, wide_comments},
};

/// All modules, the highest first.
const ROWS: [&str; 14] = [
    "cli",
    "rotate daemon fuzzing",
    "recover reencrypt admin probe",
    "config",
    "listen grpc",
    "service",
    "keeper",
    "plan escrow root proof",
    "keyring store",
    "scan",
    "apiserver apiclient",
    "audit",
    "etcd durable text",
    "crypto memory telemetry hardening systemd",
];

/// Each module with all modules that it uses, in the order of [`ROWS`].
const MAY_IMPORT: [(&str, &str); 31] = [
    (
        "cli",
        "rotate daemon recover reencrypt probe config listen service keeper plan escrow root proof keyring store scan apiserver apiclient audit etcd durable text crypto memory telemetry hardening",
    ),
    ("rotate", "plan"),
    ("daemon", "admin config listen service keeper root keyring memory telemetry hardening systemd"),
    ("fuzzing", "recover config keeper escrow root proof keyring scan apiserver text crypto memory"),
    ("recover", "keyring scan apiserver text crypto memory"),
    ("reencrypt", "scan apiclient etcd"),
    ("admin", "config listen service telemetry"),
    ("probe", "listen grpc service telemetry"),
    ("config", "listen etcd durable telemetry hardening"),
    ("listen", "grpc service durable telemetry"),
    ("grpc", "service telemetry"),
    ("service", "keeper keyring crypto memory telemetry"),
    ("keeper", "plan escrow root proof keyring store audit durable text crypto memory"),
    ("plan", "keyring text crypto memory"),
    ("escrow", "keyring text crypto memory"),
    ("root", "durable text crypto memory"),
    ("proof", "keyring scan text crypto memory"),
    ("keyring", "text crypto memory"),
    ("store", "etcd durable crypto"),
    ("scan", "apiserver etcd text crypto memory"),
    ("apiserver", "etcd"),
    ("apiclient", "durable telemetry"),
    ("audit", "durable"),
    ("etcd", "durable telemetry"),
    ("durable", ""),
    ("text", "crypto"),
    ("crypto", "memory"),
    ("memory", ""),
    ("telemetry", ""),
    ("hardening", ""),
    ("systemd", ""),
];

/// The files that still close a circle. Without these files, no file is in a circle.
const CLOSING_CIRCLES: &[&str] = &[];

/// The folders that are still in a circle with the files and folders beside them.
const FOLDERS_IN_CIRCLES: &[&str] = &[];

/// The files that are still long without a reason.
const TOO_LONG: &[&str] = &[];

/// The `mod.rs` files that still hold more than a page of logic.
const TOO_MUCH_LOGIC: &[&str] = &[];

/// The names that several types still have.
const SHARED_NAMES: &[&str] = &[];

#[test]
fn the_table_is_in_the_order_of_the_rows() {
    let place: BTreeMap<&str, usize> = ROWS.iter().flat_map(|row| row.split(' ')).zip(0..).collect();
    assert!(MAY_IMPORT.is_sorted_by_key(|(module, _)| place[module]));
    for (module, uses) in MAY_IMPORT {
        let places: Vec<usize> = [module].into_iter().chain(uses.split_whitespace()).map(|name| place[name]).collect();
        assert!(places.is_sorted_by(|a, b| a < b), "{module}: {uses}");
    }
}

#[test]
fn imports_follow_the_table() {
    let mut used: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for Source { path, text } in sources("src").into_iter().filter(|source| !is_of_tests(source)) {
        let module = top(&path);
        if module != "main" && module != "lib" {
            used.entry(module.clone())
                .or_default()
                .extend(crate_imports(&text).into_iter().filter(|import| *import != module));
        }
    }
    let table = MAY_IMPORT
        .iter()
        .map(|(module, uses)| ((*module).to_owned(), uses.split_whitespace().map(str::to_owned).collect()));
    assert_eq!(used, table.collect());
}

#[test]
fn readme_and_the_crate_have_the_same_table() {
    let page = fs::read_to_string(root().join("README.md")).unwrap();
    let name = |module: &str| {
        if root().join("src").join(module).is_dir() { format!("{module}/") } else { format!("{module}.rs") }
    };
    let rows =
        MAY_IMPORT.iter().map(|(module, uses)| (name(module), uses.split_whitespace().map(str::to_owned).collect()));
    let first = ("main.rs lib.rs".to_owned(), vec!["cli".to_owned()]);
    let expected: Vec<(String, Vec<String>)> = [first].into_iter().chain(rows).collect();
    let modules = MAY_IMPORT.map(|(module, _)| module);
    assert_eq!(tables::readme(&page, &modules), expected);
    let code = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    assert_eq!(tables::header(&code), MAY_IMPORT.map(|(module, _)| module));
}

#[test]
fn no_files_need_each_other() {
    let graph = crate_graph();
    let found = graph.without(CLOSING_CIRCLES).circles();
    assert!(found.is_empty(), "circles:\n{}", lines(&found));
    for name in CLOSING_CIRCLES {
        let others: Vec<&str> = CLOSING_CIRCLES.iter().copied().filter(|other| other != name).collect();
        assert!(graph.without(&others).circles().contains_key(*name), "remove {name} from CLOSING_CIRCLES");
    }
}

#[test]
fn no_folder_is_above_and_below_what_is_beside_it() {
    compare("are in a circle with what is beside them", FOLDERS_IN_CIRCLES, &crate_graph().folders_in_circles());
}

#[test]
fn no_file_is_long_without_a_reason() {
    let all = sources("src").into_iter().chain(sources("tests"));
    let long = all.filter(|source| source.text.lines().count() > LINES_MAX && !has_reason(&source.text));
    let found = long.map(|source| (source.path, vec![format!("{} lines", source.text.lines().count())]));
    compare("have more than 600 lines and no reason in their header", TOO_LONG, &found.collect());
}

/// The folders of code.
const CODE: [&str; 4] = ["src", "tests", "examples", "benches"];

#[test]
fn no_line_of_comments_is_wider_than_code_may_be() {
    let all = CODE.into_iter().flat_map(sources);
    let wide = all.map(|source| (source.path, wide_comments(&source.text)));
    let found = wide.filter(|(_, lines)| !lines.is_empty());
    compare("have comments of more than 120 columns", &[], &found.collect());
}

#[test]
fn the_comment_of_a_function_begins_with_what_the_function_does() {
    let all = CODE.into_iter().flat_map(sources).map(|source| (source.path, functions_without_a_verb(&source.text)));
    compare(
        "have functions whose comment begins with no verb",
        &[],
        &all.filter(|(_, lines)| !lines.is_empty()).collect(),
    );
}

#[test]
fn no_sentence_is_a_puzzle() {
    let code = CODE.into_iter().flat_map(sources);
    let all = code.chain(pages()).filter(|source| !source.path.starts_with("tests/architecture/"));
    let found = all.map(|source| (source.path, banned_words(&source.text)));
    compare("have phrases that a reader has to solve", &[], &found.filter(|(_, lines)| !lines.is_empty()).collect());
}

/// The functions that protect bytes by an AEAD are not named "seal": only slots and age files are sealed.
#[test]
fn only_slots_and_age_files_are_sealed() {
    let seals = |text: &str| {
        let tokens = without_tests(&tokens(text));
        tokens.windows(2).any(|pair| pair[0].text == "fn" && ["seal", "seal_to", "reseal"].contains(&pair[1].text))
    };
    let sealing = sources("src").into_iter().filter(|source| !is_of_tests(source) && seals(&source.text));
    let found: BTreeSet<String> = sealing.map(|source| top(&source.path)).collect();
    assert_eq!(found, ["escrow", "root"].map(str::to_owned).into());
}

#[test]
fn a_mod_file_holds_no_logic_beyond_a_page() {
    let mods = sources("src").into_iter().filter(|source| source.path.ends_with("/mod.rs"));
    let logic = mods.map(|source| (source.path, lines_of_logic(&source.text))).filter(|(_, lines)| *lines > PAGE);
    let found = logic.map(|(path, lines)| (path, vec![format!("{lines} lines")]));
    compare("hold more than 60 lines of logic", TOO_MUCH_LOGIC, &found.collect());
}

/// A file that replaces another one if a Cargo feature is off has the same names as that file.
#[test]
fn no_two_types_have_one_name() {
    let mut files: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for Source { path, text } in
        sources("src").into_iter().filter(|source| !source.text.starts_with("//! Takes the place of `"))
    {
        for name in types(&text) {
            files.entry(name).or_default().push(path.clone());
        }
    }
    files.retain(|_, paths| paths.len() > 1);
    compare("are names of several types", SHARED_NAMES, &files);
}

/// Each crate with a cipher or a slow hash, with the only file that names it.
const CIPHERS: [(&str, &str); 6] = [
    ("xaes_256_gcm", "src/crypto/aead.rs"),
    ("argon2", "src/crypto/stretch.rs"),
    ("aes", "src/crypto/foreign.rs"),
    ("aes_gcm", "src/crypto/foreign.rs"),
    ("cbc", "src/crypto/foreign.rs"),
    ("crypto_secretbox", "src/crypto/foreign.rs"),
];

#[test]
fn only_one_file_names_each_cipher() {
    for (name, file) in CIPHERS {
        assert_eq!(files_naming("src", &[name]), [file], "{name}");
    }
}

/// A label is part of the formats and has one use. Therefore all labels are in one table.
#[test]
fn only_one_file_has_labels() {
    let has_label = |text: &str| {
        let code = text.split("\nmod tests {").next().unwrap_or_default().lines();
        code.map(str::trim_start).filter(|line| !line.starts_with("//")).any(|line| line.contains("\"claviger/v1/"))
    };
    let having = sources("src").into_iter().filter(|source| !is_of_tests(source) && has_label(&source.text));
    assert_eq!(having.map(|source| source.path).collect::<Vec<_>>(), ["src/crypto/kdf.rs"]);
}

#[test]
fn every_public_error_may_get_more_variants() {
    for Source { path, text } in sources("src") {
        let found = errors::exhaustive(&text);
        assert!(found.is_empty(), "{path}: {found:?} need #[non_exhaustive]");
    }
    assert_eq!(errors::exhaustive("#[derive(thiserror::Error)]\npub enum Bare {"), ["Bare {"]);
    assert!(errors::exhaustive("#[derive(thiserror::Error)]\n#[non_exhaustive]\npub enum Open {").is_empty());
}

/// The greatest number of lines of code of the transport. It copies fields, and maps errors to codes.
const GRPC_MAX: usize = 300;

#[test]
fn the_transport_is_thin() {
    let lines: usize = sources("src/grpc").iter().map(|source| lines_of_logic(&source.text)).sum();
    assert!(lines <= GRPC_MAX, "{lines} lines of code in src/grpc, expected at most {GRPC_MAX}");
}

/// Code that computes with the bare bytes of a key stays inside of `crypto`.
#[test]
fn the_cryptography_exports_no_function_of_a_bare_key() {
    for Source { path, text } in sources("src/crypto") {
        for signature in text.split("pub fn ").skip(1).map(|rest| rest.split('{').next().unwrap_or(rest)) {
            let is_bare = ["key: &[u8", "key: [u8"].iter().any(|bare| signature.contains(bare));
            assert!(!is_bare, "{path}: {signature}");
        }
    }
}

/// The greatest number of lines of all code that computes with the bytes of keys.
const CRYPTO_MAX: usize = 700;

#[test]
fn the_cryptography_is_small_and_pure() {
    let files: Vec<Source> =
        sources("src/crypto").into_iter().filter(|source| !source.path.ends_with("vectors.rs")).collect();
    let lines: usize = files.iter().map(|source| lines_of_logic(&source.text)).sum();
    assert!(lines <= CRYPTO_MAX, "{lines} lines of code, expected at most {CRYPTO_MAX}");
    for Source { path, text } in files {
        let found = outside_of_memory(&text);
        assert!(found.is_empty(), "{path} names {found:?}");
    }
}

/// Returns the names in the code that reach beyond memory: files, clocks, threads, other processes, event loops.
fn outside_of_memory(text: &str) -> Vec<String> {
    const OF_STD: [&str; 9] = ["env", "fs", "io", "net", "os", "process", "sync", "thread", "time"];
    const CRATES: [&str; 6] = ["tokio", "serde", "serde_json", "jiff", "rustix", "tracing"];
    let tokens = without_tests(&tokens(text));
    let (imports, code) = imports(&tokens);
    let all = imports.into_iter().map(|import| import.path).chain(paths(&code));
    let is_outside = |path: &[String]| match path {
        [first, second, ..] if first == "std" => OF_STD.contains(&second.as_str()),
        [first, ..] => CRATES.contains(&first.as_str()),
        [] => false,
    };
    all.filter(|path| is_outside(path)).map(|path| path.join("::")).collect()
}

/// The keyring carries recovery blobs as data. Only `escrow` opens them.
#[test]
fn the_keyring_names_no_crate_that_seals_or_packs() {
    let crates = ["age", "bech32", "vsss_rs", "tar"];
    assert_eq!(files_naming("src/keyring", &crates), [""; 0]);
    assert!(!files_naming("src/escrow", &crates).is_empty());
}

#[test]
fn only_two_files_allow_unsafe() {
    let allowing = sources("src").into_iter().filter(|source| source.text.contains("allow(unsafe_code"));
    let found: Vec<String> = allowing.map(|source| source.path).collect();
    assert_eq!(found, ["src/memory/secret.rs", "src/memory/traces.rs"]);
}

/// Compares the findings with the known ones, and shows the details of the new ones.
fn compare(what: &str, known: &[&str], found: &BTreeMap<String, Circle>) {
    let mut new = found.clone();
    new.retain(|name, _| !known.contains(&name.as_str()));
    assert!(new.is_empty(), "these {what}:\n{}", lines(&new));
    let done: Vec<&&str> = known.iter().filter(|name| !found.contains_key(**name)).collect();
    assert!(done.is_empty(), "remove from the list of those that {what}: {done:?}");
}

fn lines(found: &BTreeMap<String, Circle>) -> String {
    found.iter().map(|(name, details)| format!("{name}: {}\n", details.join(" -> "))).collect()
}

/// A file with its path from the package on.
struct Source {
    path: String,
    text: String,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Returns every Rust file below `folder`, sorted by its path.
fn sources(folder: &str) -> Vec<Source> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root().join(folder)).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let path = format!("{folder}/{name}");
        if root().join(&path).is_dir() {
            found.extend(sources(&path));
        } else if Path::new(&name).extension().is_some_and(|extension| extension == "rs") {
            found.push(Source { text: fs::read_to_string(root().join(&path)).unwrap(), path });
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// Returns every document for people: the pages in `docs/`, and those beside code.
fn pages() -> impl Iterator<Item = Source> {
    let folders = ["", "docs/", "deploy/", "benches/", "keys/"];
    let names = folders.into_iter().flat_map(|folder| {
        let entries = fs::read_dir(root().join(folder)).unwrap();
        entries.map(move |entry| format!("{folder}{}", entry.unwrap().file_name().into_string().unwrap()))
    });
    let pages = names.filter(|path| Path::new(path).extension().is_some_and(|extension| extension == "md"));
    pages.map(|path| Source { text: fs::read_to_string(root().join(&path)).unwrap(), path })
}

fn crate_graph() -> Graph {
    let sources = sources("src");
    Graph::of(sources.iter().map(|source| (source.path.as_str(), source.text.as_str())))
}

/// Whether only tests use the file. Such a file may import anything, as the tests at the bottom of a file may.
fn is_of_tests(source: &Source) -> bool {
    source.path.ends_with("/testing.rs") || source.path.ends_with("/tests.rs")
}

/// Returns the module below the crate that a file of `src/` belongs to.
fn top(path: &str) -> String {
    path.trim_start_matches("src/").split('/').next().unwrap().trim_end_matches(".rs").to_owned()
}

/// Returns the modules of the crate that a file names outside of its tests.
fn crate_imports(text: &str) -> BTreeSet<String> {
    let tokens = without_tests(&tokens(text));
    let (imports, code) = imports(&tokens);
    let all = imports.into_iter().map(|import| import.path).chain(paths(&code));
    all.filter(|path| path[0] == "crate").filter_map(|path| path.get(1).cloned()).collect()
}

/// Returns the files below `folder` that name one of these crates, also in their tests.
fn files_naming(folder: &str, crates: &[&str]) -> Vec<String> {
    let is_named = |source: &Source| {
        let tokens = tokens(&source.text);
        let (imports, code) = imports(&tokens);
        let mut all = imports.into_iter().map(|import| import.path).chain(paths(&code));
        all.any(|path| crates.contains(&path[0].as_str()))
    };
    sources(folder).into_iter().filter(is_named).map(|source| source.path).collect()
}

mod checks {
    //! Tests of the checks themselves.

    use super::*;

    fn circles_of(files: &[(&str, &str)]) -> Vec<String> {
        Graph::of(files.iter().copied()).circles().into_keys().collect()
    }

    #[test]
    fn every_shape_of_an_import_is_seen() {
        let code = "use crate::{a::{b, c}, d,\n    e::f as g};\npub(super) use crate::h;\n\
            let x = crate::i::J::new(\"crate::string\"); // crate::comment\n\
            #[cfg(test)]\nuse crate::k;\n#[cfg(test)]\npub mod tests {\n    use crate::l;\n}\nfn m<'a>() -> crate::n<'a> {}";
        let found: Vec<String> = crate_imports(code).into_iter().collect();
        assert_eq!(found, ["a", "d", "e", "h", "i", "n"]);
    }

    #[test]
    fn two_files_that_import_each_other_are_a_circle_also_over_their_mod_file() {
        let named = ("src/m/mod.rs", "mod a;\nmod b;\npub use self::{a::A, b::B};");
        let (a, b) = (("src/m/a.rs", "use super::B;"), ("src/m/b.rs", "struct B(super::a::A);"));
        assert_eq!(circles_of(&[named, a, b]), ["src/m/a.rs", "src/m/b.rs"]);
        assert_eq!(circles_of(&[named, a, ("src/m/b.rs", "pub struct B;")]), [""; 0]);
        assert_eq!(
            circles_of(&[named, a, ("src/m/b.rs", "#[cfg(test)]\nmod tests {\n    use super::super::A;\n}")]),
            [""; 0]
        );
    }

    #[test]
    fn a_mod_file_that_uses_its_child_is_above_it() {
        let child = ("src/m/a.rs", "use super::Base;");
        assert_eq!(circles_of(&[("src/m/mod.rs", "mod a;\npub use self::a::A;\npub struct Base;"), child]), [""; 0]);
        for using in ["use self::a::A;\nstruct Base(A);", "struct Base(a::A);", "pub use self::a::A;\nstruct Base(A);"]
        {
            let named = format!("mod a;\n{using}");
            assert_eq!(circles_of(&[("src/m/mod.rs", &named), child]), ["src/m/a.rs", "src/m/mod.rs"], "{using}");
        }
    }

    #[test]
    fn a_circle_of_three_is_shown() {
        let files = [
            ("src/a.rs", "use crate::b::{self};"),
            ("src/b.rs", "use crate::c;"),
            ("src/c.rs", "fn c() { super::a::x() }"),
            ("src/d.rs", "use crate::a;"),
        ];
        let found = Graph::of(files).circles();
        assert_eq!(found["src/a.rs"], ["src/a.rs", "src/b.rs", "src/c.rs"]);
        assert_eq!(found.len(), 3);
    }

    #[test]
    fn a_folder_that_is_above_and_below_a_file_is_found() {
        let files = [
            ("src/m/mod.rs", "mod a;\nmod n;"),
            ("src/m/a.rs", "use super::n::low::Low;"),
            ("src/m/n/mod.rs", "pub mod high;\npub mod low;"),
            ("src/m/n/high.rs", "use crate::m::a::A;"),
            ("src/m/n/low.rs", ""),
        ];
        let graph = Graph::of(files);
        assert!(graph.circles().is_empty());
        assert_eq!(graph.folders_in_circles()["src/m/n"], ["src/m/n", "src/m/a"]);
    }

    #[test]
    fn comments_without_a_verb_and_with_puzzles_are_seen() {
        let code = "/// The name.\n#[allow(x)]\npub(super) async fn name() {}\n/// Returns it.\nfn it() {}\n\
            /// Why it fails.\n#[test]\nfn fails() {}\n/// `a` is b.\nconst fn b() {}\n/// The type.\npub struct T;\n\
            /// Whether it is.\npub fn is() {}\n";
        assert_eq!(functions_without_a_verb(code), ["line 1: The name.", "line 9: `a` is b."]);
        let puzzle =
            "// Whoever\nfn for_whoever_asks() {}\n//! Returns `None` if there is none.\nlet a = \"in earnest\";\n";
        let expected = ["line 1: not \"whoever\" but \"anyone who\"", "line 4: not \"in earnest\" but \"really\""];
        assert_eq!(banned_words(puzzle), expected);
    }

    #[test]
    fn what_reaches_beyond_memory_is_seen() {
        let code = "use std::{fmt, fs::File};\nfn f() { std::time::Instant::now(); serde_json::to_string(&1); }\n\
            #[cfg(test)]\nmod tests {\n    use std::io;\n}";
        assert_eq!(outside_of_memory(code), ["std::fs::File", "std::time::Instant::now", "serde_json::to_string"]);
    }

    #[test]
    fn a_reason_is_in_the_header_and_logic_is_what_is_left() {
        assert!(has_reason("//! A table.\n//!\n//! This file is long\n//! because it is a table.\nfn f() {}"));
        assert!(!has_reason("//! A table.\n\n// This file is long because it is a table.\n"));
        let wide = "x".repeat(120);
        assert_eq!(wide_comments(&format!("// a\n    /// {wide}\n/// | {wide} |\nlet wide = \"{wide}\";")), ["line 2"]);
        assert!(wide_comments(&format!("//! ```text\n//! {wide}\n//! ```")).is_empty());
        let code = "//! Header.\n\nmod a;\npub(super) mod b;\nuse self::{\n    a::A,\n    b::B,\n};\n/// A doc.\n#[derive(Debug)]\nstruct C {\n    \
            d: u32,\n}\n#[cfg(test)]\nmod tests {\n    fn f() {}\n}\n";
        assert_eq!(lines_of_logic(code), 3);
    }
}
