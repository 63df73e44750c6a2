//! `claviger generate`

use clap::{Args, Subcommand};
use serde::Serialize;

use crate::{
    config::{Config, Settings},
    root::is_credential_name,
};

use super::{
    Format, Global, Socket,
    arguments::Expected,
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
    SystemdCredential(SystemdCredentialArgs),
}

/// The credential of a slot of this kind, unless it is given another name.
pub(super) const CREDENTIAL: &str = "claviger-root";

/// The lines by which systemd gives the unit the credential of a slot
///
/// As a drop-in of claviger.service. By default the file is encrypted, as `systemd-creds encrypt` makes it: by the TPM, the
/// host's key, or both.
#[derive(Args)]
#[command(after_help = "\
Example:
  cd /etc/systemd/system/claviger.service.d
  claviger generate systemd-credential > credential.conf")]
struct SystemdCredentialArgs {
    /// The credential's name
    #[arg(long, value_name = "NAME", default_value = CREDENTIAL, value_parser = credential)]
    credential: String,
    /// The file is not encrypted
    #[arg(long)]
    plain: bool,
    /// The file that it is in [default: NAME in /etc/credstore.encrypted, or /etc/credstore]
    #[arg(long, value_name = "FILE", value_parser = unit_path)]
    file: Option<String>,
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
    let args = match args.file {
        File::EncryptionConfiguration(args) => args,
        File::SystemdCredential(args) => return systemd_credential(&args, global),
    };
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

#[derive(Serialize)]
struct DropIn {
    format: &'static str,
    unit: &'static str,
    text: String,
}

fn systemd_credential(args: &SystemdCredentialArgs, global: &Global) -> Result<Exit, Failure> {
    let SystemdCredentialArgs { credential, plain, file } = args;
    let (setting, store) = if *plain {
        ("LoadCredential", "/etc/credstore")
    } else {
        ("LoadCredentialEncrypted", "/etc/credstore.encrypted")
    };
    let file = file.clone().unwrap_or_else(|| format!("{store}/{credential}"));
    let text = format!("[Service]\n{setting}={credential}:{file}");
    match global.output {
        Format::Json => output::json(&DropIn { format: "claviger/drop-in/v1", unit: "claviger.service", text })?,
        Format::Text => output::text_line(&text)?,
    }
    Ok(Exit::Done)
}

fn credential(text: &str) -> Result<String, Expected> {
    if is_credential_name(text) {
        Ok(text.to_owned())
    } else {
        Err(Expected("1 to 255 of A-Z, a-z, 0-9, '.', '_' and '-'"))
    }
}

/// A path that stands in a unit as it is.
fn unit_path(text: &str) -> Result<String, Expected> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-@+".contains(&byte);
    if text.starts_with('/') && text.bytes().all(plain) {
        Ok(text.to_owned())
    } else {
        Err(Expected("an absolute path without spaces, colons and percent signs"))
    }
}

/// A resource, `resource.group`, `*.group` or `*.*`.
fn resource(text: &str) -> Result<String, Expected> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-*".contains(&byte);
    if !text.is_empty() && text.bytes().all(plain) {
        Ok(text.to_owned())
    } else {
        Err(Expected("a resource such as secrets, configmaps or widgets.example.com"))
    }
}
