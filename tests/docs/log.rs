//! Checks that the messages and fields of the log are those of `telemetry::event`, and that `docs/errors.md` has each
//! of them.

use std::{collections::BTreeSet, fs};

use super::{files, read, root, sections};

/// The macros that write a line of the log.
const MACROS: [&str; 5] = ["trace!(", "debug!(", "info!(", "warn!(", "error!("];

/// Returns the texts of the constants in `telemetry::event`.
fn constants(source: &str) -> BTreeSet<&str> {
    source.split(": &str = \"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect()
}

/// Returns the messages on the page: those in the first column of the table, and those of the paragraph about the level
/// debug.
fn documented(section: &str) -> BTreeSet<&str> {
    let first_cells = section.lines().filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
    let cells = first_cells.flat_map(|cell| cell.split('`').step_by(2));
    let debug = section.split("With `--log-level debug`").nth(1).unwrap().split("\n\n").next().unwrap();
    let debug = debug.split('`').skip(1).step_by(2);
    cells.chain(debug).filter(|text| !text.is_empty()).collect()
}

#[test]
fn every_message_of_the_log_is_documented_and_every_documented_one_is_there() {
    let (source, page) = (read("src/telemetry/event.rs"), read("docs/errors.md"));
    let constants = constants(&source);
    assert_eq!(documented(sections(&page)["Logs"]), constants);
    assert!(constants.len() > 25, "{constants:?}");
}

#[test]
fn every_line_of_the_log_has_a_constant_message() {
    for path in files(&root().join("src"), "rs") {
        let text = fs::read_to_string(&path).unwrap();
        let code = text.split("\nmod tests {").next().unwrap();
        for line in MACROS.iter().flat_map(|name| code.split(name).skip(1)) {
            let is_constant = line.starts_with("message = event::") || line.starts_with("message,");
            assert!(is_constant, "{}: {}", path.display(), line.lines().next().unwrap());
        }
    }
}

/// Returns the names of the fields in the arguments of a macro. `rest` begins with them: `%error`, `code =
/// ?status.code()`.
fn fields(rest: &str) -> Vec<&str> {
    let (mut depth, mut from, mut fields) = (0, 0, Vec::new());
    for (at, character) in rest.char_indices() {
        match character {
            '(' | '{' | '[' => depth += 1,
            ')' | '}' | ']' if depth > 0 => depth -= 1,
            ',' | ')' if depth == 0 => {
                let name = rest[from..at].split('=').next().unwrap().trim().trim_start_matches(['%', '?']);
                fields.push(name);
                from = at + 1;
                if character == ')' {
                    break;
                }
            }
            _ => {}
        }
    }
    fields.retain(|name| !name.is_empty() && *name != "message");
    fields
}

#[test]
fn every_field_of_the_log_is_listed_and_documented() {
    let (source, page) = (read("src/telemetry/event.rs"), read("docs/errors.md"));
    let listed = source.split("pub const FIELDS").nth(1).unwrap().split("];").next().unwrap();
    let listed: BTreeSet<&str> = listed.split('"').skip(1).step_by(2).collect();
    let mut used = BTreeSet::new();
    for path in files(&root().join("src"), "rs") {
        let text = fs::read_to_string(&path).unwrap();
        let code = text.split("\nmod tests {").next().unwrap();
        let lines = MACROS.iter().flat_map(|name| code.split(name).skip(1));
        used.extend(lines.flat_map(fields).map(str::to_owned));
    }
    assert_eq!(used.iter().map(String::as_str).collect::<BTreeSet<_>>(), listed);
    let words: BTreeSet<&str> = sections(&page)["Logs"].split('`').skip(1).step_by(2).collect();
    let missing: Vec<_> = listed.difference(&words).collect();
    assert!(missing.is_empty(), "docs/errors.md does not have these fields: {missing:?}");
}

/// Returns the level and the arguments of every line of the log that has a constant of `telemetry::event`, by its text.
fn lines_by_message() -> Vec<(String, &'static str, String)> {
    let events = read("src/telemetry/event.rs");
    let text_of = |name: &str| {
        let rest = events.split(&format!("pub const {name}: &str = \"")).nth(1).unwrap();
        rest.split('"').next().unwrap().to_owned()
    };
    let mut found = Vec::new();
    for path in files(&root().join("src"), "rs") {
        let text = fs::read_to_string(&path).unwrap();
        let code = text.split("\nmod tests {").next().unwrap();
        for name in MACROS {
            for line in code.split(&format!("{name}message = event::")).skip(1) {
                let constant = line.split(|c: char| !c.is_ascii_uppercase() && c != '_').next().unwrap();
                found.push((text_of(constant), name.trim_end_matches("!("), fields(line).join(" ")));
            }
        }
    }
    found
}

/// Returns the levels in the row of `message`. Lines at the level debug have no row.
fn documented_levels(section: &str, message: &str) -> String {
    let cell = format!("`{message}`");
    let row = section.lines().find(|line| line.starts_with("| `") && line.split(" | ").next().unwrap().contains(&cell));
    row.map_or_else(|| "debug".to_owned(), |row| row.split(" | ").nth(1).unwrap().to_owned())
}

#[test]
fn every_line_of_the_log_has_its_documented_level() {
    let page = read("docs/errors.md");
    let section = sections(&page)["Logs"];
    let lines = lines_by_message();
    assert!(lines.len() > 30, "{lines:?}");
    for (message, level, _) in lines {
        let documented = documented_levels(section, &message);
        assert!(documented.contains(level), "{message}: logged as {level}, documented as {documented}");
    }
}

#[test]
fn every_line_at_the_level_error_says_what_to_do_and_no_other_line_does() {
    for (message, level, fields) in lines_by_message() {
        assert_eq!(fields.split(' ').any(|field| field == "advice"), level == "error", "{message}");
    }
}

#[test]
fn the_fields_of_a_line_are_found() {
    let line = "message = event::CALL, method, code = ?status.code(a, b), %error); other(x)";
    assert_eq!(fields(line), ["method", "code", "error"]);
}

#[test]
fn the_advice_of_error_lines_names_flags_and_commands_that_exist() {
    let (advice, commands) = (read("src/telemetry/advice.rs"), read("docs/commands.md"));
    let words: Vec<&str> = advice.split(|at: char| !(at.is_ascii_lowercase() || at == '-')).collect();
    let flags = words.iter().filter(|word| word.starts_with("--"));
    let unknown: Vec<_> = flags.filter(|flag| !commands.contains(&format!("| `{flag} <"))).collect();
    assert_eq!(unknown, [""; 0].iter().collect::<Vec<_>>());
    let named = advice.split("claviger ").skip(1).map(|rest| {
        let is_word = |word: &&str| !word.is_empty() && word.chars().all(|at| at.is_ascii_lowercase());
        rest.split([' ', '`', '"']).take_while(is_word).collect::<Vec<_>>().join(" ")
    });
    let missing: Vec<String> = named.filter(|name| !commands.contains(&format!("## claviger {name}\n"))).collect();
    assert_eq!(missing, [""; 0]);
}
