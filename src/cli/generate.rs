//! `claviger generate`

use clap::{Args, Subcommand};
use serde::Serialize;

use crate::config::{Config, Settings};

use super::{
    Format, Global, Socket,
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
    EncryptionConfiguration(EncryptionConfigurationArgs),
}

/// The file for kube-apiserver's --encryption-provider-config
///
/// The first provider encrypts what is written; `identity` comes last, so that what is in plaintext already can still be
/// read. The provider's name is part of every stored value: never rename it.
#[derive(Args)]
#[command(after_help = "\
Example:
  claviger generate encryption-configuration > encryption-configuration.yaml")]
struct EncryptionConfigurationArgs {
    #[command(flatten)]
    socket: Socket,
    /// The provider's name, part of every stored value [default: claviger]
    #[arg(long, value_name = "NAME")]
    provider_name: Option<String>,
    /// A resource to encrypt, as kube-apiserver names it; may be given several times
    #[arg(long = "resource", value_name = "RESOURCE", default_values_t = ["secrets".to_owned()], value_parser = resource)]
    resources: Vec<String>,
}

/// The shape of `apiserver.config.k8s.io/v1`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EncryptionConfiguration {
    api_version: &'static str,
    kind: &'static str,
    resources: [Entry; 1],
}

#[derive(Serialize)]
struct Entry {
    resources: Vec<String>,
    providers: [Provider; 2],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum Provider {
    Kms(Kms),
    Identity(Identity),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Kms {
    api_version: &'static str,
    name: String,
    endpoint: String,
    timeout: &'static str,
}

#[derive(Serialize)]
struct Identity {}

/// Runs `claviger generate …`.
///
/// # Errors
/// When the configuration is invalid.
pub(super) fn run(args: GenerateArgs, global: &Global) -> Result<Exit, Failure> {
    let File::EncryptionConfiguration(args) = args.file;
    let settings = Settings { socket: args.socket.socket, provider_name: args.provider_name, ..Settings::default() };
    let document = encryption_configuration(&global.config(settings)?, args.resources);
    match global.output {
        Format::Json => output::json(&document)?,
        Format::Text => {
            let yaml = serde_saphyr::to_string(&document).map_err(|error| Failure::new(Exit::Usage, &error, None))?;
            output::text_line(yaml.trim_end())?;
        }
    }
    Ok(Exit::Done)
}

fn encryption_configuration(config: &Config, resources: Vec<String>) -> EncryptionConfiguration {
    let kms = Kms {
        api_version: "v2",
        name: config.provider_name.clone(),
        endpoint: config.socket.endpoint(),
        timeout: "3s",
    };
    EncryptionConfiguration {
        api_version: "apiserver.config.k8s.io/v1",
        kind: "EncryptionConfiguration",
        resources: [Entry { resources, providers: [Provider::Kms(kms), Provider::Identity(Identity {})] }],
    }
}

/// A resource, `resource.group`, `*.group` or `*.*`.
fn resource(text: &str) -> Result<String, String> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-*".contains(&byte);
    if !text.is_empty() && text.bytes().all(plain) {
        Ok(text.to_owned())
    } else {
        Err("expected a resource such as secrets, configmaps or widgets.example.com".to_owned())
    }
}
