//! `claviger generate`: prints files for kube-apiserver, kubectl and systemd.

mod credential;
mod encryption;
#[cfg(feature = "reencrypt")]
mod rbac;
mod resource;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::{
    Format, Global,
    failure::{Exit, Failure},
    output,
};

/// Print files that other programs need
#[derive(Args)]
pub(super) struct GenerateArgs {
    #[command(subcommand)]
    file: File,
}

#[derive(Subcommand)]
enum File {
    EncryptionConfiguration(encryption::EncryptionConfigurationArgs),
    #[cfg(feature = "reencrypt")]
    ReencryptRbac(rbac::ReencryptRbacArgs),
    SystemdCredential(credential::SystemdCredentialArgs),
}

/// Runs `claviger generate …`.
///
/// # Errors
/// When the configuration is invalid.
pub(super) fn run(args: GenerateArgs, global: &Global) -> Result<Exit, Failure> {
    match args.file {
        File::EncryptionConfiguration(args) => encryption::run(args, global),
        #[cfg(feature = "reencrypt")]
        File::ReencryptRbac(args) => rbac::run(&args, global),
        File::SystemdCredential(args) => credential::run(&args, global),
    }
}

/// Prints a document for Kubernetes: as YAML, or as JSON with `--output json`.
fn print(document: &impl Serialize, global: &Global) -> Result<Exit, Failure> {
    match global.output {
        Format::Json => output::json(document)?,
        Format::Text => output::text_line(yaml(document)?.trim_end())?,
    }
    Ok(Exit::Done)
}

#[cfg(feature = "scan")]
fn yaml(document: &impl Serialize) -> Result<String, Failure> {
    serde_saphyr::to_string(document).map_err(|error| Failure::new(Exit::Usage, &error, None))
}

/// Prints the document as JSON, which is YAML, too.
#[cfg(not(feature = "scan"))]
fn yaml(document: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string_pretty(document).map_err(|error| Failure::new(Exit::Usage, &error, None))
}
