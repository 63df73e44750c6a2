//! The command line: one thin file per verb.

mod adoption;
mod failure;
mod generate;
mod init;
mod key;
mod output;
mod recovery;
mod reference;
mod rekey;
mod serve;
mod status;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::{
    config::{Config, Settings},
    durable::{Dir, Privacy},
    hardening,
    keeper::{self, Opened},
};

use self::failure::Failure;

const EXIT_CODES: &str = "\
Exit codes:
  0    done
  1    found something
  2    wrong usage
  3    refused
  4    wrong key, or not authentic
  5    disk
  6    not reachable
  7    damaged or incomplete
  130  interrupted";

/// The Kubernetes KMS v2 plugin that keeps its own keys
#[derive(Parser)]
#[command(name = "claviger", version, after_help = EXIT_CODES, disable_help_subcommand = true)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

/// What every verb has.
#[derive(Args)]
#[command(next_help_heading = "Options of every command")]
struct Global {
    /// Configuration file [default: /etc/claviger/config.toml if it exists]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Text for people, or JSON with a `format` field for machines
    #[arg(
        long,
        global = true,
        value_enum,
        value_name = "FORMAT",
        default_value_t = Format::Text,
        hide_default_value = true
    )]
    output: Format,
    /// Print errors and what was asked for, nothing else
    #[arg(long, global = true)]
    quiet: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
}

#[derive(Subcommand)]
enum Verb {
    Init(init::InitArgs),
    Serve(serve::ServeArgs),
    Status(status::StatusArgs),
    Key(key::KeyArgs),
    Recovery(recovery::RecoveryArgs),
    Rekey(rekey::RekeyArgs),
    Generate(generate::GenerateArgs),
    Completions(reference::CompletionsArgs),
    Man(reference::ManArgs),
}

/// Where the keys are.
#[derive(Args)]
struct StateDir {
    /// Where keyring, root file and mark are [default: /var/lib/claviger]
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
}

/// Where the plugin is reached.
#[derive(Args)]
struct Socket {
    /// A path, `unix:///path`, or `@name` (abstract) [default: /run/claviger/kms.sock]
    #[arg(long, value_name = "SOCKET")]
    socket: Option<String>,
}

/// Runs the command line of this process.
#[must_use]
pub fn run() -> ExitCode {
    let Cli { global, verb } = Cli::parse();
    let result = match verb {
        Verb::Init(args) => init::run(&args, &global),
        Verb::Serve(args) => serve::run(args, &global),
        Verb::Status(args) => status::run(args, &global),
        Verb::Key(args) => key::run(args, &global),
        Verb::Recovery(args) => recovery::run(args, &global),
        Verb::Rekey(args) => rekey::run(args, &global),
        Verb::Generate(args) => generate::run(args, &global),
        Verb::Completions(args) => reference::completions(&args),
        Verb::Man(args) => reference::man(&args, &global),
    };
    match result {
        Ok(exit) => exit.into(),
        Err(failure) => failure.report(global.output),
    }
}

impl Global {
    fn config(&self, flags: Settings) -> Result<Config, Failure> {
        Ok(Config::load(self.config.as_deref(), flags)?)
    }
}

/// Opens the configured state directory.
fn open_dir(config: &Config) -> Result<Dir, Failure> {
    hardening::forbid_dumps().map_err(|error| Failure::hardening(&error))?;
    Dir::open(&config.state_dir, Privacy::Private).map_err(|error| Failure::state_dir(error, &config.state_dir))
}

/// Opens the keyring in it, and changes nothing.
fn open(config: &Config) -> Result<Opened, Failure> {
    keeper::open(&open_dir(config)?).map_err(|error| Failure::open(&error, &config.state_dir))
}
