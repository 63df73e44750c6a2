//! The messages of the log are constants of `telemetry::event`, and `docs/errors.md` has each of them.

use std::{collections::BTreeSet, fs};

use super::{files, read, root, sections};

/// The macros that write a line of the log.
const MACROS: [&str; 5] = ["trace!(", "debug!(", "info!(", "warn!(", "error!("];

/// The texts of the constants in `telemetry::event`.
fn constants(source: &str) -> BTreeSet<&str> {
    source.split(": &str = \"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect()
}

/// The messages that the page has: those in the first column of the table, and those of the paragraph about the level debug.
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
