//! Splits a command line into words as a shell or systemd does, and replaces variables.
//!
//! A shell's grammar is larger than this. What is not understood is reported with the words, and never guessed.

use std::collections::BTreeSet;

/// A function that looks up the value of a variable.
pub(super) type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The rules by which a command line is split.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// A POSIX shell: an operator ends the command, `#` begins a comment, and single quotes keep `$`.
    Shell,
    /// `ExecStart=` of a systemd unit: `$$` is a dollar sign, `%%` is a percent sign, and there are no operators.
    /// Source: systemd.service(5), section "Command lines".
    Systemd,
}

/// The words of one command.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Words {
    /// The words, without their quotes. A variable without a known value stays as it is written.
    pub(super) words: Vec<String>,
    /// The expressions in the words whose value is not known, such as `${NAME}` or `$(date)`.
    pub(super) unknown: BTreeSet<String>,
}

/// Splits `text` into the words of its commands. An operator of a shell separates commands. Redirections are left out.
pub(super) fn commands(text: &str, dialect: Dialect, lookup: Lookup<'_>) -> Vec<Words> {
    let mut splitter = Splitter { rest: text, dialect, lookup, commands: vec![Words::default()], word: None };
    while splitter.step() {}
    splitter.end_word();
    splitter.commands.retain(|command| !command.words.is_empty());
    splitter.commands
}

struct Splitter<'a> {
    rest: &'a str,
    dialect: Dialect,
    lookup: Lookup<'a>,
    commands: Vec<Words>,
    /// The word that is being read.
    word: Option<String>,
}

impl Splitter<'_> {
    /// Reads the next part of the text. Returns false at the end.
    fn step(&mut self) -> bool {
        let Some(first) = self.take() else { return false };
        let is_shell = self.dialect == Dialect::Shell;
        match first {
            '\'' | '"' => self.quoted(first),
            '\\' => self.escaped(),
            '$' => self.variable(true),
            '#' if is_shell && self.word.is_none() => self.skip_line(),
            '\n' | ';' | '&' | '|' | '(' | ')' if is_shell => self.end_command(),
            '<' | '>' if is_shell => self.redirection(first),
            blank if blank.is_whitespace() => self.end_word(),
            other => self.push(other),
        }
        true
    }

    fn take(&mut self) -> Option<char> {
        let first = self.rest.chars().next()?;
        self.rest = &self.rest[first.len_utf8()..];
        Some(first)
    }

    fn push(&mut self, one: char) {
        self.word.get_or_insert_default().push(one);
    }

    fn end_word(&mut self) {
        let word = self.word.take();
        self.command().words.extend(word);
    }

    fn end_command(&mut self) {
        self.end_word();
        self.commands.push(Words::default());
    }

    fn command(&mut self) -> &mut Words {
        if self.commands.is_empty() {
            self.commands.push(Words::default());
        }
        let last = self.commands.len() - 1;
        &mut self.commands[last]
    }

    /// Reads up to the closing quote. If it is missing, reads to the end of the text.
    fn quoted(&mut self, quote: char) {
        self.word.get_or_insert_default();
        let keeps_dollar = quote == '\'' && self.dialect == Dialect::Shell;
        while let Some(next) = self.take() {
            match next {
                end if end == quote => return,
                '$' if !keeps_dollar => self.variable(false),
                '\\' if !keeps_dollar => self.escaped(),
                other => self.push(other),
            }
        }
    }

    /// Reads the character after a backslash. A line break after a backslash continues the line.
    fn escaped(&mut self) {
        match self.take() {
            None | Some('\n') => {}
            Some(other) => self.push(other),
        }
    }

    fn skip_line(&mut self) {
        let end = self.rest.find('\n').unwrap_or(self.rest.len());
        self.rest = &self.rest[end..];
    }

    /// Leaves out a redirection with its file. The digits before it name a descriptor.
    fn redirection(&mut self, first: char) {
        if self.word.as_deref().is_some_and(|word| word.bytes().all(|byte| byte.is_ascii_digit())) {
            self.word = None;
        }
        self.end_word();
        self.rest = self.rest.strip_prefix(first).unwrap_or(self.rest);
        self.rest = self.rest.strip_prefix('&').unwrap_or(self.rest).trim_start_matches([' ', '\t']);
        let is_end = |one: char| one.is_whitespace() || ";&|()<>".contains(one);
        let end = self.rest.find(is_end).unwrap_or(self.rest.len());
        self.rest = &self.rest[end..];
    }

    /// Reads the variable after a dollar sign. A variable outside of quotes may become several words.
    fn variable(&mut self, may_split: bool) {
        if self.dialect == Dialect::Systemd && self.rest.starts_with('$') {
            self.take();
            return self.push('$');
        }
        let (name, length, is_braced) = name_of(self.rest);
        if length == 0 {
            return self.push('$');
        }
        let written = format!("${}", &self.rest[..length]);
        self.rest = &self.rest[length..];
        let value = name.and_then(|name| (self.lookup)(name));
        let Some(value) = value else {
            self.command().unknown.insert(written.clone());
            return self.word.get_or_insert_default().push_str(&written);
        };
        // systemd splits the value of `$A`, and not of `${A}`. A shell splits both.
        if may_split && !(is_braced && self.dialect == Dialect::Systemd) {
            return self.split(&value);
        }
        self.word.get_or_insert_default().push_str(&value);
    }

    fn split(&mut self, value: &str) {
        for one in value.chars() {
            if one.is_whitespace() { self.end_word() } else { self.push(one) }
        }
    }
}

/// Returns the name of the variable at the start of `text`, the number of bytes that it takes, and whether braces
/// enclose it. An expression without a plain name, such as `(date)` or `{A:-b}`, has a length only.
fn name_of(text: &str) -> (Option<&str>, usize, bool) {
    let is_name =
        |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    for (open, close) in [('{', '}'), ('(', ')')] {
        if let Some(inner) = text.strip_prefix(open) {
            let Some(end) = inner.find(close) else { return (None, text.len(), true) };
            let name = &inner[..end];
            return ((open == '{' && is_name(name)).then_some(name), end + 2, true);
        }
    }
    let end = text.find(|one: char| !one.is_ascii_alphanumeric() && one != '_').unwrap_or(text.len());
    (Some(&text[..end]), end, false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup(name: &str) -> Option<String> {
        let values = [("A", "1"), ("FLAGS", "--x=1 --y=2"), ("SPACE", "a b")];
        values.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
    }

    fn split(text: &str, dialect: Dialect) -> Vec<Vec<String>> {
        commands(text, dialect, &lookup).into_iter().map(|command| command.words).collect()
    }

    fn shell(text: &str) -> Vec<Vec<String>> {
        split(text, Dialect::Shell)
    }

    #[test]
    fn quotes_escapes_and_comments_are_a_shells() {
        assert_eq!(shell(r#"a 'b c' "d e"f g\ h \"i # j"#), [["a", "b c", "d ef", "g h", "\"i"]]);
        assert_eq!(shell("a \\\n b '' #c\n#d\n"), [["a", "b", ""]]);
        assert_eq!(shell("a#b 'c"), [["a#b", "c"]]);
        assert_eq!(shell(""), Vec::<Vec<String>>::new());
    }

    #[test]
    fn an_operator_ends_a_command_and_a_redirection_is_left_out() {
        assert_eq!(shell("cd /x && exec b --c 1>>/log 2>&1"), [vec!["cd", "/x"], vec!["exec", "b", "--c"]]);
        assert_eq!(shell("a>out; b < in | c\nd"), [["a"], ["b"], ["c"], ["d"]]);
        assert_eq!(shell("a --log=1>x"), [["a", "--log=1"]], "only digits before it belong to it");
    }

    #[test]
    fn variables_have_their_values_and_unknown_ones_are_reported() {
        assert_eq!(shell(r#"${A}$A"$A" '$A' \$A $"#), [["111", "$A", "$A", "$"]]);
        assert_eq!(shell(r#"$FLAGS "$FLAGS""#), [["--x=1", "--y=2", "--x=1 --y=2"]]);
        let command = commands("a ${B} $C $(date) ${A:-b}", Dialect::Shell, &lookup).remove(0);
        assert_eq!(command.words, ["a", "${B}", "$C", "$(date)", "${A:-b}"]);
        assert_eq!(command.unknown.into_iter().collect::<Vec<_>>(), ["$(date)", "$C", "${A:-b}", "${B}"]);
    }

    #[test]
    fn systemd_knows_no_operators_and_splits_a_variable_without_braces() {
        let systemd = |text| split(text, Dialect::Systemd);
        assert_eq!(systemd("a $FLAGS ${SPACE} '$A' $$A b;c"), [["a", "--x=1", "--y=2", "a b", "1", "$A", "b;c"]]);
    }
}
