//! Measures how long files are, and how much code a `mod.rs` has.

use super::lexer::{end_of_group, end_of_item, is, tokens, without_tests};

/// The greatest number of lines in a file that gives no reason for its length.
pub const LINES_MAX: usize = 600;
/// The greatest number of lines of code in a `mod.rs`: a page.
pub const PAGE: usize = 60;
/// The greatest number of columns of a line of comments. rustfmt keeps this limit for code, and does not wrap comments.
pub const COLUMNS_MAX: usize = 120;
/// The beginning of the reason in the header of a longer file.
const REASON: &str = "This file is long because ";

/// Whether the header of a file, its first lines with `//!`, gives a reason for its length.
pub fn has_reason(text: &str) -> bool {
    let header: Vec<&str> = text.lines().map_while(|line| line.strip_prefix("//!")).map(str::trim).collect();
    header.join(" ").contains(REASON)
}

/// Returns the numbers of the comment lines with too many columns. Rows of tables and quoted text cannot be wrapped.
pub fn wide_comments(text: &str) -> Vec<String> {
    let mut is_quoted = false;
    let mut wide = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let Some(comment) = line.trim_start().strip_prefix("//") else { continue };
        let comment = comment.trim_start_matches(['/', '!']).trim_start();
        is_quoted ^= comment.starts_with("```");
        if !is_quoted && !comment.starts_with('|') && line.chars().count() > COLUMNS_MAX {
            wide.push(format!("line {}", at + 1));
        }
    }
    wide
}

/// Returns the number of lines of code. `mod name;`, `use`, attributes and tests do not count.
pub fn lines_of_logic(text: &str) -> usize {
    let tokens = without_tests(&tokens(text));
    let mut lines = std::collections::BTreeSet::new();
    let mut at = 0;
    while at < tokens.len() {
        let is_pub = is(&tokens, at, "pub");
        let item =
            if is_pub && is(&tokens, at + 1, "(") { end_of_group(&tokens, at + 1) } else { at + usize::from(is_pub) };
        let is_mod = is(&tokens, item, "mod") && is(&tokens, item + 2, ";");
        if is(&tokens, at, "#") {
            at = end_of_group(&tokens, at + 1);
        } else if is_mod || is(&tokens, item, "use") {
            at = end_of_item(&tokens, item);
        } else {
            lines.insert(tokens[at].line);
            at += 1;
        }
    }
    lines.len()
}
