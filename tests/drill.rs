//! Tests `docs/drill.md` and the example that runs it: every command of the page is run in its order, and prints the
//! lines on the page.

use std::{path::Path, process::Command};

const PAGE: &str = include_str!("../docs/drill.md");

/// A block of commands on the page, and the lines of their output that the page shows.
struct Block {
    commands: Vec<String>,
    shown: Vec<&'static str>,
}

/// Returns the blocks of the page. A line that ends in a backslash continues in the next one.
fn blocks() -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut lines = PAGE.lines();
    while let Some(line) = lines.next() {
        let block = lines.by_ref();
        match line {
            "```sh" => {
                let mut commands = vec![String::new()];
                for line in block.take_while(|line| *line != "```") {
                    let command = commands.last_mut().unwrap();
                    command.push_str(line);
                    if line.ends_with('\\') {
                        command.push('\n');
                    } else {
                        commands.push(String::new());
                    }
                }
                assert_eq!(commands.pop().as_deref(), Some(""));
                blocks.push(Block { commands, shown: Vec::new() });
            }
            "```text" => {
                let shown = block.take_while(|line| *line != "```").filter(|line| *line != "…");
                blocks.last_mut().unwrap().shown.extend(shown);
            }
            _ => {}
        }
    }
    blocks
}

/// Whether `line` is equal to `shown`, in which `…` stands for any text.
fn is_shown(line: &str, shown: &str) -> bool {
    let Some((first, rest)) = shown.split_once('…') else { return line == shown };
    let Some(mut left) = line.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = rest.split('…').collect();
    let last = parts.pop().unwrap();
    for part in parts {
        let Some(at) = left.find(part) else { return false };
        left = &left[at + part.len()..];
    }
    left.ends_with(last)
}

#[test]
fn a_table_keeps_its_columns_when_paths_become_those_of_the_page() {
    let printed = "KEYS IN         NEEDED\n/tmp/m1/k       1 of 2\n/tmp/m1/a.age   2 of 2\nin /tmp/m1/k: see /tmp/m1/a";
    let expected = "KEYS IN         NEEDED\n/k              1 of 2\n/a.age          2 of 2\nin /k: see /a";
    assert_eq!(crate::harness::machine::in_columns(printed, "/tmp/m1/", "/"), expected);
}

#[test]
fn the_drill_runs_every_command_of_its_page_and_each_says_what_the_page_shows() {
    // `cargo test` builds the example. Running these tests alone does not.
    let example = Path::new(env!("CARGO_BIN_EXE_claviger")).with_file_name("examples").join("drill");
    assert!(example.exists(), "build it first: cargo build --example drill");
    let answer = Command::new(example).output().unwrap();
    let printed = String::from_utf8_lossy(&answer.stdout);
    assert!(answer.status.success(), "{printed}\n{}", String::from_utf8_lossy(&answer.stderr));
    let mut rest = &*printed;
    let blocks = blocks();
    for Block { commands, shown } in &blocks {
        let mut said = String::new();
        for command in commands {
            let (before, after) =
                rest.split_once(&format!("  $ {command}\n")).unwrap_or_else(|| panic!("{command}\n{printed}"));
            assert!(!before.contains("  $ "), "before {command}: {before}");
            let end = after.find("  $ ").unwrap_or(after.len());
            said.push_str(&after[..end]);
            rest = after;
        }
        let mut lines = said.lines().map(|line| line.strip_prefix("    ").unwrap_or(line));
        for shown in shown {
            assert!(lines.any(|line| is_shown(line, shown)), "{shown}\nis not what it says:\n{said}");
        }
    }
    assert!(!rest.contains("\n  $ "), "{rest}");
    assert!(blocks.len() >= 10 && blocks.iter().filter(|block| !block.shown.is_empty()).count() >= 5);
    assert!(printed.ends_with(" Secrets is what it was before the loss. Nothing is left behind.\n"), "{printed}");
}
