//! Reads the command line. Examples in the help are never wrapped, at any width, so that they can be pasted.
//!
//! clap wraps all of a command's help. So each command's examples are taken out before and put back afterwards.

use std::{ffi::OsString, io::Write, iter, process};

use clap::{
    Arg, ArgAction, ArgMatches, Command, Error,
    builder::StyledStr,
    error::{ContextKind, ContextValue, ErrorKind},
};

use super::failure::{Exit, Failure};

/// Reads the command line of this process. Prints the help and ends the process if the command line asks for it or is
/// wrong.
pub(super) fn matches(claviger: Command, words: &[OsString]) -> ArgMatches {
    let mut examples = Vec::new();
    let claviger = take_examples(claviger, &mut examples);
    read(&claviger, words).unwrap_or_else(|error| {
        let text = put_back(error.render().ansi().to_string(), &examples);
        if error.use_stderr() && wants_json(words) {
            let _ = usage_failure(&error).report_as_json();
        } else if error.use_stderr() {
            // If the stream is closed, nobody can read the text.
            let _ = anstream::stderr().write_all(text.as_bytes());
        } else {
            let _ = anstream::stdout().write_all(text.as_bytes());
        }
        process::exit(error.exit_code())
    })
}

/// Parses a command line. For a wrong word after `help`, clap suggests nothing, so the word is parsed as a command to
/// get a suggestion.
fn read(claviger: &Command, words: &[OsString]) -> Result<ArgMatches, Error> {
    let error = match claviger.clone().try_get_matches_from(words) {
        Err(error) if error.kind() == ErrorKind::InvalidSubcommand => with_places(error, claviger),
        Err(error) if error.kind() == ErrorKind::UnknownArgument => {
            return Err(with_repetition(error, claviger, words));
        }
        outcome => return outcome,
    };
    let is_help = words.get(1).is_some_and(|word| word == "help");
    let others = words.iter().take(1).chain(words.iter().skip(2)).cloned().chain(iter::once("--help".into()));
    match claviger.clone().try_get_matches_from(others.filter(|_| is_help)) {
        Err(better) if is_help && better.kind() == ErrorKind::InvalidSubcommand => Err(with_places(better, claviger)),
        _ => Err(error),
    }
}

/// The wrong verb `rotate` of `claviger key`, and the command to suggest instead.
const ROTATE: (&str, &str) = if cfg!(feature = "reencrypt") {
    ("rotate", "to rotate the key: claviger rotate")
} else {
    (
        "rotate",
        "to rotate, begin with: claviger key add; it says what comes next: a backup, and claviger key promote KEY",
    )
};

/// Suggests the commands that end in the wrong word: `claviger key promote` for `claviger promote`.
fn with_places(mut error: Error, claviger: &Command) -> Error {
    let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidSubcommand) else { return error };
    let mut similar = Vec::new();
    find(claviger, "claviger", word, &mut similar);
    let tip = match similar.as_slice() {
        _ if word == ROTATE.0 => Some(ROTATE.1.to_owned()),
        [] => None,
        similar => Some(format!("did you mean: {}", similar.join(", or "))),
    };
    if let Some(tip) = tip {
        error.remove(ContextKind::SuggestedSubcommand);
        let tip = StyledStr::from(tip);
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip]));
    }
    error
}

/// Explains that an option takes one value, if another word follows the value. A shell makes several words of a pattern
/// such as `*.txt`.
fn with_repetition(mut error: Error, claviger: &Command, words: &[OsString]) -> Error {
    let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidArg) else { return error };
    let at = words.iter().position(|one| one == word.as_str()).filter(|_| !word.starts_with('-')).unwrap_or(0);
    let options = words[..at].iter().rev().filter_map(|one| one.to_str()?.strip_prefix("--"));
    let option = options.map(|option| option.split('=').next().unwrap_or_default()).next();
    if let Some(option) = option.filter(|option| is_repeated(claviger, option)) {
        let tip = StyledStr::from(format!("each value needs the option: --{option} {word}"));
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip]));
    }
    error
}

/// Whether some command has this option and accepts it several times.
fn is_repeated(command: &Command, option: &str) -> bool {
    let is_it = |arg: &Arg| arg.get_long() == Some(option) && matches!(arg.get_action(), ArgAction::Append);
    command.get_arguments().any(is_it) || command.get_subcommands().any(|verb| is_repeated(verb, option))
}

/// Collects the commands below `command`, whose name is `name`, that end in `word`.
fn find(command: &Command, name: &str, word: &str, similar: &mut Vec<String>) {
    for verb in command.get_subcommands() {
        let name = format!("{name} {}", verb.get_name());
        if verb.get_name() == word {
            similar.push(name.clone());
        }
        find(verb, &name, word, similar);
    }
}

/// Whether the command line asks for JSON. It is read word by word, because clap could not parse it.
fn wants_json(words: &[OsString]) -> bool {
    let is_two = |pair: &[OsString]| pair[0] == "--output" && pair[1] == "json";
    words.iter().any(|word| word == "--output=json") || words.windows(2).any(is_two)
}

/// Splits clap's paragraphs into an error, the first one, and a hint.
fn usage_failure(error: &Error) -> Failure {
    let text = error.render().to_string();
    let paragraphs = text.split("\n\n").map(|paragraph| paragraph.split_whitespace().collect::<Vec<_>>().join(" "));
    let paragraphs: Vec<String> = paragraphs.filter(|paragraph| !paragraph.is_empty()).collect();
    let Some((first, others)) = paragraphs.split_first() else {
        return Failure::new(Exit::Usage, &"the command line is wrong", None);
    };
    let others: Vec<&str> =
        others.iter().map(|paragraph| paragraph.strip_prefix("tip: ").unwrap_or(paragraph)).collect();
    let hint = (!others.is_empty()).then(|| others.join("; "));
    Failure::new(Exit::Usage, &first.strip_prefix("error: ").unwrap_or(first), hint)
}

/// Replaces the examples of each command by a word without spaces, and collects them.
fn take_examples(command: Command, examples: &mut Vec<String>) -> Command {
    let verbs: Vec<String> = command.get_subcommands().map(|verb| verb.get_name().to_owned()).collect();
    let command = verbs
        .into_iter()
        .fold(command, |command, verb| command.mut_subcommand(verb, |verb| take_examples(verb, examples)));
    let Some(text) = command.get_after_help().map(ToString::to_string) else { return command };
    examples.push(text);
    command.after_help(placeholder(examples.len() - 1))
}

fn put_back(help: String, examples: &[String]) -> String {
    examples.iter().enumerate().fold(help, |help, (number, text)| help.replace(&placeholder(number), text))
}

/// Returns the placeholder for examples. Its character is for private use, so no other text contains it.
fn placeholder(number: usize) -> String {
    format!("\u{e000}{number}\u{e000}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_every_command_come_back_in_their_places() {
        let verb = Command::new("verb").after_help("Example:\n  claviger verb --with many words that are not wrapped");
        let claviger = Command::new("claviger").after_help("all").term_width(20).subcommand(verb);
        let mut examples = Vec::new();
        let mut claviger = take_examples(claviger, &mut examples);
        let help = |command: &mut Command| put_back(command.render_help().to_string(), &examples);
        assert!(help(&mut claviger).ends_with("\n\nall\n"), "{}", help(&mut claviger));
        let verb = help(claviger.find_subcommand_mut("verb").unwrap());
        assert!(verb.ends_with("\n  claviger verb --with many words that are not wrapped\n"), "{verb}");
    }
}
