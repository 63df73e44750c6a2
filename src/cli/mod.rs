//! The command line: one thin file per verb.

mod adoption;
mod backup;
mod etcd;
mod failure;
mod files;
mod generate;
mod init;
mod key;
mod needed;
mod output;
mod passphrase;
mod progress;
mod recovery;
mod reference;
mod rekey;
mod restore;
mod scan;
mod serve;
mod slot;
mod socket;
mod split;
mod status;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::{
    config::{Config, Settings},
    durable::{Dir, Privacy},
    hardening,
    keeper::{self, OpenError, Opened},
    root::Means,
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
    Slot(slot::SlotArgs),
    Recovery(recovery::RecoveryArgs),
    Rekey(rekey::RekeyArgs),
    Backup(backup::BackupArgs),
    Scan(scan::ScanArgs),
    Generate(generate::GenerateArgs),
    Completions(reference::CompletionsArgs),
    Man(reference::ManArgs),
}

/// Where the keys are.
#[derive(Args, Default)]
struct StateDir {
    /// Where keyring, root file and mark are [default: /var/lib/claviger]
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
}

impl StateDir {
    fn settings(self) -> Settings {
        Settings { state_dir: self.state_dir, ..Settings::default() }
    }
}

/// A keyring, and what opens it.
#[derive(Args, Default)]
struct KeyringArgs {
    #[command(flatten)]
    state_dir: StateDir,
    /// File with the passphrase of a slot, /dev/fd/N for a descriptor, or - for standard input [default: asked for on a
    /// terminal, where no other slot opens]
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

impl KeyringArgs {
    fn settings(self) -> Settings {
        Settings { passphrase_file: self.passphrase_file, ..self.state_dir.settings() }
    }
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
        Verb::Slot(args) => slot::run(args, &global),
        Verb::Recovery(args) => recovery::run(args, &global),
        Verb::Backup(args) => backup::run(args, &global),
        Verb::Scan(args) => scan::run(args, &global),
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

/// The keyring that a command is about.
struct Site {
    config: Config,
    dir: Dir,
    means: Means,
}

impl Site {
    /// The configured state directory, opened, with what opens its slots.
    fn find(settings: Settings, global: &Global) -> Result<Self, Failure> {
        let config = global.config(settings)?;
        hardening::forbid_dumps().map_err(|error| Failure::hardening(&error))?;
        let dir = Dir::open(&config.state_dir, Privacy::Private)
            .map_err(|error| Failure::state_dir(error, &config.state_dir))?;
        let means = passphrase::means(&config)?;
        Ok(Self { config, dir, means })
    }

    /// Opens the keyring, and changes nothing.
    fn open(&self) -> Result<Opened, Failure> {
        keeper::open(&self.dir, &self.means).map_err(|error| self.failure(&error))
    }

    fn failure(&self, error: &OpenError) -> Failure {
        Failure::open(error, &self.config.state_dir)
    }
}
