//! `claviger generate`: prints files for kube-apiserver, kubectl and systemd.

mod credential;
mod encryption;
#[cfg(feature = "reencrypt")]
mod rbac;
mod resource;
mod yaml;

use clap::{Args, Subcommand};

use super::{
    Global,
    failure::{Exit, Failure},
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
