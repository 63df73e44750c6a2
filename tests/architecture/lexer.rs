//! Cuts Rust into tokens, so that no check is fooled by a comment, a string or a test.
//!
//! It knows as much of the language as the checks need: words, `::`, single characters, and strings, whose contents are
//! dropped.

/// A word, `::`, another character, or `""` for any string, with its line, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token<'a> {
    pub text: &'a str,
    pub line: usize,
}

/// Returns the tokens of `code`, without comments.
pub fn tokens(code: &str) -> Vec<Token<'_>> {
    let (mut found, mut rest, mut line) = (Vec::new(), code, 1);
    while let Some(first) = rest.chars().next() {
        let (length, text) = next(rest, first);
        if let Some(text) = text {
            found.push(Token { text, line });
        }
        line += rest[..length].matches('\n').count();
        rest = &rest[length..];
    }
    found
}

/// Returns the length of the next part in bytes, and the token in it, unless the part is blank or a comment.
fn next(rest: &str, first: char) -> (usize, Option<&str>) {
    if rest.starts_with("//") {
        return (rest.find('\n').unwrap_or(rest.len()), None);
    }
    if rest.starts_with("/*") {
        return (rest.find("*/").map_or(rest.len(), |end| end + 2), None);
    }
    if let Some(length) = string(rest) {
        return (length, Some("\"\""));
    }
    if first.is_whitespace() {
        return (first.len_utf8(), None);
    }
    let length = match first {
        ':' if rest.starts_with("::") => 2,
        c if is_of_word(c) => rest.find(|c| !is_of_word(c)).unwrap_or(rest.len()),
        c => c.len_utf8(),
    };
    (length, Some(&rest[..length]))
}

fn is_of_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Returns the length of the string or the character that `rest` begins with. A lifetime is neither.
fn string(rest: &str) -> Option<usize> {
    let prefix = ["b", "c", ""].into_iter().find(|prefix| {
        let rest = rest.strip_prefix(prefix);
        rest.is_some_and(|rest| rest.starts_with(['"', '\'', 'r']))
    })?;
    let body = &rest[prefix.len()..];
    if let Some(raw) = body.strip_prefix('r') {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        let end = format!("\"{}", "#".repeat(hashes));
        let start = hashes + 1;
        let found = raw[hashes..].starts_with('"').then(|| raw[start..].find(&end))?;
        return Some(prefix.len() + 1 + start + found.unwrap_or(raw.len() - start) + end.len());
    }
    let quote = body.chars().next()?;
    let mut escaped = false;
    let end = body.char_indices().skip(1).find(|(_, c)| {
        let is_end = *c == quote && !escaped;
        escaped = *c == '\\' && !escaped;
        is_end
    });
    let length = end?.0 + 1;
    let is_lifetime = quote == '\'' && !body[1..].starts_with('\\') && body[..length].chars().count() != 3;
    (!is_lifetime).then_some(prefix.len() + length)
}

/// Returns the tokens without the items that only tests have, and without the attributes of these items.
pub fn without_tests<'a>(tokens: &[Token<'a>]) -> Vec<Token<'a>> {
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if is_test_attribute(&tokens[at..]) {
            while is(tokens, at, "#") {
                at = end_of_group(tokens, at + 1);
            }
            at = end_of_item(tokens, at);
        } else {
            kept.push(tokens[at]);
            at += 1;
        }
    }
    kept
}

fn is_test_attribute(tokens: &[Token<'_>]) -> bool {
    let expected = ["#", "[", "cfg", "(", "test", ")", "]"];
    tokens.len() >= expected.len() && tokens.iter().zip(expected).all(|(token, text)| token.text == text)
}

pub fn is(tokens: &[Token<'_>], at: usize, text: &str) -> bool {
    tokens.get(at).is_some_and(|token| token.text == text)
}

/// Returns the place after the group of brackets that begins at `at`.
pub fn end_of_group(tokens: &[Token<'_>], at: usize) -> usize {
    let mut depth = 0_usize;
    for (place, token) in tokens.iter().enumerate().skip(at) {
        match token.text {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return place + 1;
        }
    }
    tokens.len()
}

/// Returns the place after the item that begins at `at`: after its `;`, or after its body in braces.
pub fn end_of_item(tokens: &[Token<'_>], mut at: usize) -> usize {
    let ends_with_semicolon = |text: &str| ["use", "const", "static", "type", "let"].contains(&text);
    let is_statement = tokens[at..].iter().take(6).any(|token| ends_with_semicolon(token.text))
        && !tokens[at..]
            .iter()
            .take(6)
            .any(|token| ["fn", "mod", "struct", "enum", "impl", "trait"].contains(&token.text));
    while at < tokens.len() {
        match tokens[at].text {
            ";" => return at + 1,
            "{" if !is_statement => return end_of_group(tokens, at),
            "(" | "[" | "{" => at = end_of_group(tokens, at),
            _ => at += 1,
        }
    }
    at
}
