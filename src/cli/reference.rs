//! `claviger completions` and `claviger man`: the command line, described for a shell and for man(1).

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use clap::{Args, Command};
use clap_complete::Shell;
use clap_mangen::Man;

use super::{
    Global,
    arguments::named,
    failure::{Exit, Failure},
    output,
};
use crate::durable::replace_export;

/// Print a completion script for a shell
#[derive(Args)]
#[command(after_help = "\
Examples:
  claviger completions bash | sudo tee /etc/bash_completion.d/claviger
  claviger completions zsh > ~/.zfunc/_claviger")]
pub(super) struct CompletionsArgs {
    /// Shell that the script is for
    shell: Shell,
}

/// Print a manual page, or write all of them to a directory
#[derive(Args)]
#[command(after_help = "\
Examples:
  claviger man | man -l -
  claviger man key promote | man -l -
  sudo claviger man --directory /usr/local/share/man/man1    # then: man claviger-key-promote")]
pub(super) struct ManArgs {
    /// Command that the page is about, for example: key promote [default: claviger itself]
    #[arg(value_name = "COMMAND")]
    command: Vec<String>,
    /// Write the pages of all commands to this directory
    #[arg(long, value_name = "DIR", value_parser = named(), conflicts_with = "command")]
    directory: Option<PathBuf>,
}

/// Runs `claviger completions` for the command line `claviger`.
///
/// # Errors
/// When standard output is closed or full.
pub(super) fn completions(args: &CompletionsArgs, mut claviger: Command) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut claviger, "claviger", &mut script);
    output::text(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Done)
}

/// Runs `claviger man` for the command line `claviger`.
///
/// # Errors
/// When there is no such command, or a page cannot be written.
pub(super) fn man(args: &ManArgs, claviger: Command, global: &Global) -> Result<Exit, Failure> {
    let pages = pages(claviger);
    if let Some(directory) = &args.directory {
        return write_all(&pages, directory, global);
    }
    let page = pages.get(&page_name(&args.command)).ok_or_else(|| {
        // The words are in the form in which people type them. The name of a page has hyphens for spaces.
        let names = pages.values().filter_map(|page| page.get_bin_name()?.strip_prefix("claviger "));
        let mut commands: Vec<&str> = names.collect();
        commands.sort_unstable();
        let message = format!("there is no command {}", args.command.join(" "));
        Failure::new(Exit::Usage, &message, format!("the commands are: {}", commands.join(", ")))
    })?;
    output::text(&String::from_utf8_lossy(&roff(page)))?;
    Ok(Exit::Done)
}

/// Returns the name of the page about a command. The command may be given as one word, as in `man 'key promote'`, or by
/// the name of its page, as other pages refer to it.
fn page_name(command: &[String]) -> String {
    let command = command.join(" ");
    let mut words: Vec<&str> = command.split_whitespace().collect();
    let is_page = words.first().is_some_and(|word| *word == "claviger" || word.starts_with("claviger-"));
    if !is_page {
        words.insert(0, "claviger");
    }
    words.join("-")
}

fn write_all(pages: &BTreeMap<String, Command>, directory: &Path, global: &Global) -> Result<Exit, Failure> {
    fs::create_dir_all(directory)
        .map_err(|error| Failure::new(Exit::Disk, &format!("making {}: {error}", directory.display()), hint(&error)))?;
    for (name, page) in pages {
        let file = directory.join(format!("{name}.1"));
        replace_export(&file, &roff(page)).map_err(|error| Failure::export(&error))?;
        if !global.quiet {
            output::text_line(&file.display().to_string())?;
        }
    }
    Ok(Exit::Done)
}

/// Returns the hint for a directory that cannot be made or written to.
fn hint(error: &io::Error) -> Option<String> {
    let hint = match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "name a directory that this user may write to: --directory DIR"
        }
        io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => {
            "a file is in the way: name a directory, or one that can be made: --directory DIR"
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "free some space and run it again",
        _ => return None,
    };
    Some(hint.to_owned())
}

/// Returns every command by the name of its page, such as `claviger-key-promote`.
fn pages(claviger: Command) -> BTreeMap<String, Command> {
    let mut claviger = without_help(claviger);
    // Gives every subcommand its full name.
    claviger.build();
    let mut pages = BTreeMap::new();
    let mut rest = vec![claviger];
    while let Some(page) = rest.pop() {
        rest.extend(page.get_subcommands().cloned());
        pages.insert(page.get_display_name().unwrap_or(page.get_name()).to_owned(), page);
    }
    pages
}

/// Removes the commands `help`, which have no page, so that no page refers to one.
fn without_help(command: Command) -> Command {
    command.disable_help_subcommand(true).mut_subcommands(without_help)
}

fn roff(page: &Command) -> Vec<u8> {
    let mut text = Vec::new();
    // Writing to memory cannot fail.
    let _ = Man::new(page.clone()).source(concat!("claviger ", env!("CARGO_PKG_VERSION"))).render(&mut text);
    text
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use clap::{Arg, CommandFactory};

    use super::*;

    const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/commands.md");
    const MADE: &str = "<!-- A test makes all that follows: CLAVIGER_WRITE_DOCS=1 cargo test --lib commands -->\n";

    #[test]
    fn the_page_of_commands_says_what_the_help_of_each_command_says() {
        let page = fs::read_to_string(PAGE).unwrap();
        let by_hand = page.split(MADE).next().unwrap();
        let expected = format!("{by_hand}{MADE}{}", reference());
        if std::env::var_os("CLAVIGER_WRITE_DOCS").is_some() {
            fs::write(PAGE, expected).unwrap();
        } else {
            let hint = "docs/commands.md is out of date: CLAVIGER_WRITE_DOCS=1 cargo test --lib commands";
            assert!(page == expected, "{hint}");
        }
    }

    /// Returns the options of every command, a table of the commands, and a section for each command.
    fn reference() -> String {
        let pages = pages(crate::cli::Cli::command());
        let mut text =
            format!("\n## Options of every command\n\n{}\n## Commands\n\n", options(&pages["claviger"], true));
        text.push_str("| command | what it does |\n|---|---|\n");
        let commands = pages.values().filter(|page| !page.has_subcommands());
        for page in commands.clone() {
            let (name, about) = (name(page), page.get_about().unwrap());
            writeln!(text, "| [`{name}`](#{}) | {} |", name.replace(' ', "-"), cell(&about.to_string())).unwrap();
        }
        commands.map(section).fold(text, |text, section| text + &section)
    }

    fn section(page: &Command) -> String {
        let about = page.get_long_about().or_else(|| page.get_about()).unwrap();
        let usage = page.clone().render_usage().to_string().replacen("Usage: ", "", 1);
        let examples = page.get_after_help().unwrap().to_string();
        let examples: Vec<&str> = examples.lines().filter_map(|line| line.strip_prefix("  ")).collect();
        format!(
            "\n## {}\n\n{about}\n\n```\n{usage}\n```\n\n{}\n```sh\n{}\n```\n",
            name(page),
            options(page, false),
            examples.join("\n")
        )
    }

    /// Returns a table of the arguments and options of a command: only those that every command has, or only the
    /// others.
    fn options(page: &Command, of_every: bool) -> String {
        let shown = |arg: &&Arg| {
            let of_clap = ["help", "version"].contains(&arg.get_id().as_str());
            !of_clap && !arg.is_hide_set() && arg.is_global_set() == of_every
        };
        let rows: Vec<String> = page.get_arguments().filter(shown).map(row).collect();
        if rows.is_empty() { String::new() } else { format!("| option | meaning |\n|---|---|\n{}", rows.concat()) }
    }

    fn row(arg: &Arg) -> String {
        let help = arg.get_long_help().or_else(|| arg.get_help()).unwrap().to_string();
        let values: Vec<String> = arg
            .get_possible_values()
            .iter()
            .filter(|_| arg.get_action().takes_values())
            .map(|value| match value.get_help() {
                Some(help) => format!("`{}` ({help})", value.get_name()),
                None => format!("`{}`", value.get_name()),
            })
            .collect();
        let values = if values.is_empty() { String::new() } else { format!(": {}", values.join(", ")) };
        format!("| `{arg}` | {}{values} |\n", cell(&help))
    }

    fn name(page: &Command) -> String {
        page.get_bin_name().unwrap_or(page.get_name()).to_owned()
    }

    /// Returns the text on one line, escaped so that it neither ends a cell of the table nor begins a tag.
    fn cell(text: &str) -> String {
        text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|").replace('<', "&lt;")
    }
}
