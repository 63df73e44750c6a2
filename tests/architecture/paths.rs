//! Finds the paths that a file names: its imports, and paths in its code that begin with `crate`, `self` or `super`.

use super::lexer::{Token, end_of_group, end_of_item, is};

/// One name that a `use` line brings in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Import {
    /// The segments of the path, from the first one on.
    pub path: Vec<String>,
    /// The name of the item in this file.
    pub name: String,
}

/// Returns the imports of a file, and its other tokens.
pub fn imports<'a>(tokens: &[Token<'a>]) -> (Vec<Import>, Vec<Token<'a>>) {
    let (mut found, mut code) = (Vec::new(), Vec::new());
    let mut at = 0;
    while at < tokens.len() {
        let is_use =
            is(tokens, at, "use") && (at == 0 || [";", "}", "{", "pub", ")", "]"].contains(&tokens[at - 1].text));
        if is_use {
            let end = end_of_item(tokens, at);
            tree(&tokens[at + 1..end - 1], &[], &mut found);
            at = end;
        } else {
            code.push(tokens[at]);
            at += 1;
        }
    }
    (found, code)
}

/// Reads `a::b`, `a::{b, c as d, self}` and `a::*` below `prefix`.
fn tree(tokens: &[Token<'_>], prefix: &[String], found: &mut Vec<Import>) {
    let (mut path, mut at) = (prefix.to_vec(), 0);
    while at < tokens.len() {
        match tokens[at].text {
            "{" => {
                let end = end_of_group(tokens, at);
                members(&tokens[at + 1..end - 1]).for_each(|member| tree(member, &path, found));
                return;
            }
            "as" => {
                let name = tokens.get(at + 1).map_or("_", |token| token.text);
                return found.push(Import { path, name: name.to_owned() });
            }
            "::" => {}
            "self" if !path.is_empty() => {}
            segment => path.push(segment.to_owned()),
        }
        at += 1;
    }
    if let Some(name) = path.last().cloned() {
        found.push(Import { path, name });
    }
}

/// Returns the members of a group, which commas separate.
fn members<'a, 't>(tokens: &'t [Token<'a>]) -> impl Iterator<Item = &'t [Token<'a>]> {
    let mut depth = 0_usize;
    let parted = tokens.split(move |token| {
        match token.text {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ => {}
        }
        depth == 0 && token.text == ","
    });
    parted.filter(|member| !member.is_empty())
}

/// Returns the paths in `code` that have more than one segment.
pub fn paths(code: &[Token<'_>]) -> Vec<Vec<String>> {
    let is_word = |token: &Token<'_>| token.text.starts_with(|c: char| c.is_alphabetic() || c == '_');
    let mut found = Vec::new();
    let mut at = 0;
    while at < code.len() {
        // `pub(in crate::a)` says who may see an item, and needs nothing of `a`.
        if is(code, at, "pub") && is(code, at + 1, "(") {
            at = end_of_group(code, at + 1);
            continue;
        }
        let mut path = Vec::new();
        while code.get(at).is_some_and(is_word) {
            path.push(code[at].text.to_owned());
            at += 1;
            if !is(code, at, "::") {
                break;
            }
            at += 1;
        }
        if path.len() > 1 {
            found.push(path);
        } else if path.is_empty() {
            at += 1;
        }
    }
    found
}
