//! `claviger completions` and `claviger man`: what a shell and man(1) are to know of the command line.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use clap::{Args, Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;

use super::{
    Cli, Global,
    failure::{Exit, Failure},
    output,
};

/// Print the completions for a shell
#[derive(Args)]
#[command(after_help = "\
Examples:
  claviger completions bash | sudo tee /etc/bash_completion.d/claviger
  claviger completions zsh > ~/.zfunc/_claviger")]
pub(super) struct CompletionsArgs {
    /// For which shell
    shell: Shell,
}

/// Print the manual page of claviger or of one of its commands, or write all of them
#[derive(Args)]
#[command(after_help = "\
Examples:
  claviger man | man -l -
  claviger man key promote | man -l -
  sudo claviger man --directory /usr/local/share/man/man1")]
pub(super) struct ManArgs {
    /// The command, as it is typed: key promote
    #[arg(value_name = "COMMAND")]
    command: Vec<String>,
    /// Write the pages of all commands into this directory
    #[arg(long, value_name = "DIR", conflicts_with = "command")]
    directory: Option<PathBuf>,
}

/// Runs `claviger completions`.
///
/// # Errors
/// When standard output is closed or full.
pub(super) fn completions(args: &CompletionsArgs) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "claviger", &mut script);
    output::text(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Done)
}

/// Runs `claviger man`.
///
/// # Errors
/// When there is no such command, or a page cannot be written.
pub(super) fn man(args: &ManArgs, global: &Global) -> Result<Exit, Failure> {
    let pages = pages();
    if let Some(directory) = &args.directory {
        return write_all(&pages, directory, global);
    }
    let name = [&["claviger".to_owned()], args.command.as_slice()].concat().join("-");
    let page = pages.get(&name).ok_or_else(|| {
        let commands: Vec<String> = pages.keys().map(|page| page.replacen('-', " ", 2)).collect();
        let message = format!("no command is called {}", args.command.join(" "));
        Failure::new(Exit::Usage, &message, format!("there are: {}", commands.join(", ")))
    })?;
    output::text(&String::from_utf8_lossy(&roff(page)))?;
    Ok(Exit::Done)
}

fn write_all(pages: &BTreeMap<String, Command>, directory: &Path, global: &Global) -> Result<Exit, Failure> {
    for (name, page) in pages {
        let file = directory.join(format!("{name}.1"));
        fs::write(&file, roff(page))
            .map_err(|error| Failure::new(Exit::Disk, &format!("writing {}: {error}", file.display()), None))?;
        if !global.quiet {
            output::text_line(&file.display().to_string())?;
        }
    }
    Ok(Exit::Done)
}

/// Every command with the name of its page: `claviger-key-promote`.
fn pages() -> BTreeMap<String, Command> {
    let mut claviger = Cli::command();
    // Names the commands in commands.
    claviger.build();
    let mut pages = BTreeMap::new();
    let mut rest = vec![claviger];
    while let Some(page) = rest.pop() {
        rest.extend(page.get_subcommands().filter(|verb| verb.get_name() != "help").cloned());
        pages.insert(page.get_display_name().unwrap_or(page.get_name()).to_owned(), page);
    }
    pages
}

fn roff(page: &Command) -> Vec<u8> {
    let mut text = Vec::new();
    // Writing to memory does not fail.
    let _ = Man::new(page.clone()).source(concat!("claviger ", env!("CARGO_PKG_VERSION"))).render(&mut text);
    text
}
