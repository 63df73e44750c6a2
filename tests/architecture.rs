//! Who may import whom: the table of the architecture, held against the code.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// Each module with what it may use. A module that is not here may not exist.
const MAY_IMPORT: [(&str, &[&str]); 21] = [
    (
        "cli",
        &[
            "admin",
            "config",
            "crypto",
            "daemon",
            "durable",
            "escrow",
            "etcd",
            "grpc",
            "hardening",
            "keeper",
            "keyring",
            "root",
            "scan",
            "service",
            "telemetry",
            "text",
        ],
    ),
    (
        "daemon",
        &[
            "admin",
            "config",
            "crypto",
            "grpc",
            "hardening",
            "keeper",
            "keyring",
            "root",
            "service",
            "systemd",
            "telemetry",
        ],
    ),
    ("admin", &["config", "grpc", "service", "telemetry"]),
    ("config", &["etcd", "grpc", "hardening", "telemetry"]),
    ("etcd", &[]),
    ("fuzzing", &["config", "crypto", "escrow", "keeper", "keyring", "root", "scan", "text"]),
    ("grpc", &["durable", "service", "telemetry"]),
    ("service", &["crypto", "keeper", "telemetry"]),
    ("keeper", &["audit", "crypto", "durable", "escrow", "keyring", "root", "store", "text"]),
    ("escrow", &["crypto", "keyring", "text"]),
    ("keyring", &["crypto", "text"]),
    ("root", &["crypto", "durable", "text"]),
    ("scan", &["crypto", "etcd", "text"]),
    ("store", &["durable"]),
    ("text", &["crypto"]),
    ("telemetry", &[]),
    ("crypto", &[]),
    ("durable", &[]),
    ("audit", &["durable"]),
    ("hardening", &[]),
    ("systemd", &[]),
];

#[test]
fn imports_follow_the_table() {
    let table: BTreeMap<&str, BTreeSet<&str>> =
        MAY_IMPORT.iter().map(|(module, allowed)| (*module, allowed.iter().copied().collect())).collect();
    let mut wrong = Vec::new();
    for (file, module) in sources() {
        let Some(allowed) = table.get(module.as_str()) else {
            wrong.push(format!("{}: module {module} is not in the table", file.display()));
            continue;
        };
        for import in imports(&without_tests(&fs::read_to_string(&file).unwrap())) {
            if import != module && !allowed.contains(import.as_str()) {
                wrong.push(format!("{}: {module} may not import {import}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn only_one_file_names_the_aead_crate() {
    let naming: Vec<PathBuf> = sources()
        .filter(|(file, _)| fs::read_to_string(file).unwrap().contains("xaes_256_gcm::"))
        .map(|(file, _)| file)
        .collect();
    assert_eq!(naming, [root().join("src/crypto/aead.rs")]);
}

/// The keyring carries recovery blobs as data: `escrow` alone knows what is in them.
#[test]
fn the_keyring_names_no_crate_that_keys_are_sent_away_with() {
    let crates = ["age::", "bech32::", "vsss_rs::", "tar::"];
    let words = |code: &str| {
        code.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).map(str::to_owned).collect::<Vec<_>>()
    };
    for (file, _) in sources().filter(|(_, module)| module == "keyring") {
        let code = fs::read_to_string(&file).unwrap();
        let named: Vec<String> =
            words(&code).into_iter().filter(|word| crates.iter().any(|name| word.starts_with(name))).collect();
        assert!(named.is_empty(), "{}: {named:?}", file.display());
    }
}

#[test]
fn only_two_files_allow_unsafe() {
    let allowing: BTreeSet<PathBuf> = sources()
        .filter(|(file, _)| fs::read_to_string(file).unwrap().contains("allow(unsafe_code"))
        .map(|(file, _)| file)
        .collect();
    assert_eq!(allowing, ["secret.rs", "traces.rs"].map(|file| root().join("src/crypto").join(file)).into());
}

#[test]
fn the_scanner_of_imports_sees_every_shape_of_them() {
    let code =
        "use crate::{a::{b, c}, d,\n    e::f as g};\nuse crate::h;\nlet x = crate::i::J::new(); // crate::comment";
    let found: Vec<String> = imports(code).into_iter().collect();
    assert_eq!(found, ["a", "d", "e", "h", "i"]);
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every source file with the top-level module it belongs to; `main.rs` and `lib.rs` have none.
fn sources() -> impl Iterator<Item = (PathBuf, String)> {
    let src = root().join("src");
    files(&src).into_iter().filter_map(move |file| {
        let first = file.strip_prefix(&src).unwrap().iter().next().unwrap().to_str().unwrap();
        let module = first.trim_end_matches(".rs").to_owned();
        (module != "main" && module != "lib").then_some((file, module))
    })
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Tests stand at the bottom of a file, and may use what they need.
fn without_tests(code: &str) -> String {
    code.split("#[cfg(test)]\nmod tests {").next().unwrap().to_owned()
}

/// The first segment behind each `crate::`, groups included.
fn imports(code: &str) -> BTreeSet<String> {
    let code: String = code.lines().map(|line| line.split("//").next().unwrap()).collect::<Vec<_>>().join("\n");
    let mut found = BTreeSet::new();
    for (at, text) in code.match_indices("crate::") {
        let rest = &code[at + text.len()..];
        match rest.strip_prefix('{') {
            Some(group) => found.extend(group_heads(group)),
            None => found.extend(identifier(rest)),
        }
    }
    found
}

/// The first segments of a group's members, up to its closing brace.
fn group_heads(group: &str) -> BTreeSet<String> {
    let (mut depth, mut expects_head) = (0_usize, true);
    let mut heads = BTreeSet::new();
    for (at, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => expects_head = true,
            c if expects_head && (c.is_alphabetic() || c == '_') => {
                heads.extend(identifier(&group[at..]));
                expects_head = false;
            }
            _ => {}
        }
    }
    heads
}

fn identifier(text: &str) -> Option<String> {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    (end > 0).then(|| text[..end].to_owned())
}
