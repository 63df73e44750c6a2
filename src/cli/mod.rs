//! The command line: a file or folder for each verb, and one for each thing that several verbs share.
//!
//! | files | what they are |
//! |---|---|
//! | `init` `serve` `status` `key` `slot` `recovery` `split` `rekey` `backup` `scan` `verify` `reencrypt` `rotate` `decrypt` `generate` `runbook` `reference` | verbs; `split` is `recovery split`, `reference` is `completions` and `man` |
//! | `arguments` `given` `repeated` `lacking` `help` `runtime` `interrupt` | shared: the arguments, the flags that hints repeat or lack, the help, the event loop, Ctrl-C |
//! | `site` `files` `identities` `passphrase` `backup_file` `at_hand` `rotation` | shared: what a command opens and reads |
//! | `probe` `live` `adoption` `socket` `world` | shared: the plugin that runs beside a command |
//! | `etcd` `named` `needed` `scanning` `progress` `unscanned` | shared: where etcd is, which objects a flag names, which keys its values need, and how a scan is run and shown |
//! | `output` `waiting` `tables` `failure` | shared: what a command prints |
//!
//! No verb imports another verb, with two exceptions: `rotate` is made of `reencrypt` and `verify`, and `recovery` runs
//! `split`.

mod adoption;
mod arguments;
#[cfg(feature = "scan")]
mod at_hand;
mod backup;
mod backup_file;
#[cfg(feature = "recover")]
mod decrypt;
#[cfg(feature = "scan")]
mod etcd;
mod failure;
mod files;
mod generate;
mod given;
mod help;
mod identities;
mod init;
#[cfg(feature = "scan")]
mod interrupt;
mod key;
#[cfg(feature = "scan")]
mod lacking;
mod live;
#[cfg(any(feature = "recover", feature = "reencrypt"))]
mod named;
#[cfg(feature = "scan")]
mod needed;
mod output;
mod passphrase;
mod probe;
#[cfg(feature = "scan")]
#[cfg_attr(not(feature = "progress"), path = "no_progress.rs")]
mod progress;
mod prompt;
mod recovery;
#[cfg(feature = "reencrypt")]
mod reencrypt;
#[cfg(feature = "reference")]
mod reference;
mod rekey;
mod repeated;
#[cfg(feature = "reencrypt")]
mod rotate;
mod rotation;
mod runbook;
mod runtime;
#[cfg(feature = "scan")]
mod scan;
#[cfg(feature = "scan")]
mod scanning;
mod serve;
mod site;
mod slot;
mod socket;
#[cfg(feature = "shares")]
mod split;
mod status;
mod tables;
#[cfg(not(feature = "scan"))]
mod unscanned;
#[cfg(feature = "scan")]
mod verify;
#[cfg(feature = "scan")]
mod waiting;
#[cfg(feature = "scan")]
mod world;

use std::{ffi::OsString, process::ExitCode};

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use self::{
    arguments::{Format, Global, KeyringArgs, Socket, StateDir},
    failure::{Exit, Failure},
    given::Given,
    site::Site,
};
#[cfg(not(feature = "scan"))]
use self::{unscanned as etcd, unscanned as lacking, unscanned as needed};
use crate::{
    hardening,
    rotate::{BootClock, RotationClock},
};

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
  130  interrupted
  141  the program that read the output ended first";

/// The Kubernetes KMS v2 plugin that keeps its own keys
#[derive(Parser)]
#[command(name = "claviger", version, after_help = EXIT_CODES)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Command,
}

#[derive(Subcommand)]
enum Command {
    Init(init::InitArgs),
    Serve(serve::ServeArgs),
    Status(status::StatusArgs),
    #[cfg(feature = "reencrypt")]
    Rotate(Box<rotate::RotateArgs>),
    Key(key::KeyArgs),
    Slot(slot::SlotArgs),
    Recovery(recovery::RecoveryArgs),
    Rekey(rekey::RekeyArgs),
    Backup(backup::BackupArgs),
    #[cfg(feature = "scan")]
    Scan(scan::ScanArgs),
    #[cfg(feature = "scan")]
    Verify(verify::VerifyArgs),
    #[cfg(feature = "reencrypt")]
    Reencrypt(Box<reencrypt::ReencryptArgs>),
    #[cfg(feature = "recover")]
    Decrypt(Box<decrypt::DecryptArgs>),
    Generate(generate::GenerateArgs),
    Runbook(runbook::RunbookArgs),
    #[cfg(feature = "reference")]
    Completions(reference::CompletionsArgs),
    #[cfg(feature = "reference")]
    Man(reference::ManArgs),
}

/// Runs the command line of this process.
#[must_use]
pub fn run() -> ExitCode {
    run_words(&std::env::args_os().collect::<Vec<_>>(), &BootClock)
}

/// Runs a command line. Its first word is the name of the program. Its rotations wait by `clock`. A test passes a clock
/// on which minutes pass at once; the program has no option for that.
#[must_use]
pub fn run_words(words: &[OsString], clock: &dyn RotationClock) -> ExitCode {
    let matches = help::matches(Cli::command(), words);
    let Cli { mut global, verb } =
        Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.format(&mut Cli::command()).exit());
    global.given = Given::new(Cli::command, &matches);
    match act(verb, clock, &global) {
        Ok(exit) => exit.into(),
        Err(failure) => failure.report(&global),
    }
}

/// Runs a verb. Core dumps are forbidden before any verb can read a secret.
fn act(verb: Command, clock: &dyn RotationClock, global: &Global) -> Result<Exit, Failure> {
    hardening::forbid_dumps().map_err(|error| Failure::hardening(&error))?;
    match verb {
        Command::Init(args) => init::run(&args, global),
        Command::Serve(args) => serve::run(args, global),
        Command::Status(args) => status::run(args, global),
        #[cfg(feature = "reencrypt")]
        Command::Rotate(args) => rotate::run(*args, clock, global),
        Command::Key(args) => key::run(args, clock, global),
        Command::Slot(args) => slot::run(args, global),
        Command::Recovery(args) => recovery::run(args, global),
        Command::Backup(args) => backup::run(args, global),
        #[cfg(feature = "scan")]
        Command::Scan(args) => scan::run(args, global),
        #[cfg(feature = "scan")]
        Command::Verify(args) => verify::run(args, global),
        #[cfg(feature = "reencrypt")]
        Command::Reencrypt(args) => reencrypt::run(*args, global),
        #[cfg(feature = "recover")]
        Command::Decrypt(args) => decrypt::run(*args, global),
        Command::Rekey(args) => rekey::run(args, global),
        Command::Generate(args) => generate::run(args, global),
        Command::Runbook(args) => runbook::run(&args),
        #[cfg(feature = "reference")]
        Command::Completions(args) => reference::completions(&args, Cli::command()),
        #[cfg(feature = "reference")]
        Command::Man(args) => reference::man(&args, Cli::command(), global),
    }
}
