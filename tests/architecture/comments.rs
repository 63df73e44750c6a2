//! Checks the wording of sentences: comments of functions begin with a verb, and no sentence has a banned phrase.

/// Phrases that a reader has to solve like a puzzle, each with what to write in its place.
pub const BANNED: [(&str, &str); 14] = [
    ("whoever", "anyone who"),
    (" is none", "is not valid"),
    ("is none of", "is not one of"),
    ("goes without", "skips"),
    (", of which", "a sentence of its own, or whose"),
    ("of which values", "which values"),
    ("as they have to be", "as configured"),
    ("as it has to be", "as configured"),
    ("in earnest", "really"),
    ("is told", "learns"),
    ("are told", "learn"),
    ("behind it,", "after it"),
    ("behind them", "after them"),
    ("kept in mind", "remembered"),
];

/// First words that name a thing. A verb should say what the function does.
const NO_VERBS: [&str; 34] = [
    "A",
    "All",
    "An",
    "As",
    "At",
    "Both",
    "Bytes",
    "Each",
    "Every",
    "Everything",
    "For",
    "From",
    "How",
    "If",
    "In",
    "Its",
    "No",
    "None",
    "Nothing",
    "One",
    "Only",
    "Since",
    "So",
    "Such",
    "The",
    "This",
    "Those",
    "Two",
    "What",
    "When",
    "Where",
    "Which",
    "Who",
    "Why",
];

/// Returns the lines of functions whose comment does not begin with a verb, or with "Whether" if the answer is yes or
/// no. The comment of a test may say why the test exists.
pub fn functions_without_a_verb(text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let is_first = at.checked_sub(1).is_none_or(|before| !lines[before].starts_with("///"));
        let Some(comment) = line.strip_prefix("/// ").filter(|_| is_first) else { continue };
        let rest = lines[at..].iter().skip_while(|line| line.starts_with("///"));
        let mut rest = rest.skip_while(|line| line.starts_with('#'));
        let is_documented = rest.next().is_some_and(|line| is_function(line));
        let is_test = lines[at..].iter().take_while(|line| !is_function(line)).any(|line| line.contains("test]"));
        let word = comment.split([' ', ',', '.']).next().unwrap_or_default();
        let is_name = !word.starts_with(|first: char| first.is_ascii_uppercase());
        if is_documented && !is_test && (is_name || NO_VERBS.contains(&word)) {
            found.push(format!("line {}: {comment}", at + 1));
        }
    }
    found
}

fn is_function(line: &str) -> bool {
    let line = match line.strip_prefix("pub(") {
        Some(rest) => rest.split_once(") ").map_or("", |(_, rest)| rest),
        None => line.strip_prefix("pub ").unwrap_or(line),
    };
    let words = ["const ", "async ", "unsafe "];
    let line = words.iter().fold(line, |line, word| line.strip_prefix(word).unwrap_or(line));
    line.starts_with("fn ")
}

/// Returns the lines that have a banned phrase, in comments, strings or text. The names of functions are no sentences.
pub fn banned_words(text: &str) -> Vec<String> {
    let found = text.lines().enumerate().filter_map(|(at, line)| {
        let words = line.to_lowercase().replace("there is none", "");
        let words: Vec<&str> = words.split(' ').filter(|word| !word.contains('_')).collect();
        let sentence = words.join(" ");
        BANNED.iter().find(|(phrase, _)| sentence.contains(phrase)).map(|(phrase, better)| (at, phrase, better))
    });
    found.map(|(at, phrase, better)| format!("line {}: not \"{phrase}\" but \"{better}\"", at + 1)).collect()
}
