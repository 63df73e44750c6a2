//! Finds the names of types.

use super::lexer::{tokens, without_tests};

/// Returns the types that a file defines outside of tests, functions and implementations.
pub fn types(text: &str) -> Vec<String> {
    let tokens = without_tests(&tokens(text));
    let mut depth = 0_usize;
    let mut found = Vec::new();
    for pair in tokens.windows(2) {
        match pair[0].text {
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" => depth -= 1,
            "struct" | "enum" | "trait" | "type" if depth == 0 => found.push(pair[1].text.to_owned()),
            _ => {}
        }
    }
    found
}
