//! Reads the command line. Examples in the help are never wrapped, at any width, so that they can be pasted.
//!
//! clap wraps all of a command's help. So each command's examples are taken out before and put back afterwards.

use std::{io::Write, process};

use clap::{ArgMatches, Command};

/// Reads the command line of this process. Prints the help and ends the process if the command line asks for it or is
/// wrong.
pub(super) fn matches(claviger: Command) -> ArgMatches {
    let mut examples = Vec::new();
    let claviger = take_examples(claviger, &mut examples);
    claviger.try_get_matches().unwrap_or_else(|error| {
        let text = put_back(error.render().ansi().to_string(), &examples);
        // If the stream is closed, nobody reads it.
        let _ = if error.use_stderr() {
            anstream::stderr().write_all(text.as_bytes())
        } else {
            anstream::stdout().write_all(text.as_bytes())
        };
        process::exit(error.exit_code())
    })
}

/// Puts a word without spaces in the place of each command's examples, and collects them.
fn take_examples(command: Command, examples: &mut Vec<String>) -> Command {
    let verbs: Vec<String> = command.get_subcommands().map(|verb| verb.get_name().to_owned()).collect();
    let command = verbs
        .into_iter()
        .fold(command, |command, verb| command.mut_subcommand(verb, |verb| take_examples(verb, examples)));
    let Some(text) = command.get_after_help().map(ToString::to_string) else { return command };
    examples.push(text);
    command.after_help(place(examples.len() - 1))
}

fn put_back(help: String, examples: &[String]) -> String {
    examples.iter().enumerate().fold(help, |help, (number, text)| help.replace(&place(number), text))
}

/// The placeholder for these examples. The character is for private use, so no other text has it.
fn place(number: usize) -> String {
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
