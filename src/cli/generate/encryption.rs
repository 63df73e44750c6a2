//! `claviger generate encryption-configuration`: prints an EncryptionConfiguration with this plugin as a provider.

use clap::Args;
use serde::Serialize;

use super::{
    super::{
        Global, Socket,
        failure::{Exit, Failure},
    },
    resource::resource,
    yaml::print,
};
use crate::config::{Config, Settings};

/// Print a configuration file for kube-apiserver's --encryption-provider-config
///
/// The first provider encrypts new values. `identity` comes last, so that kube-apiserver can still read values that are
/// in plaintext. Never rename the provider: its name is part of every stored value.
#[derive(Args)]
#[command(after_help = "\
Example:
  claviger generate encryption-configuration > encryption-configuration.yaml")]
pub(super) struct EncryptionConfigurationArgs {
    #[command(flatten)]
    socket: Socket,
    /// Name of the provider, which is part of every stored value [default: claviger]
    #[arg(long, value_name = "NAME")]
    provider_name: Option<String>,
    /// Resource to encrypt, as kube-apiserver names it; may be given several times
    #[arg(long = "resource", value_name = "RESOURCE", default_values_t = ["secrets".to_owned()], value_parser = resource)]
    resources: Vec<String>,
    /// Put `identity` first, to stop encrypting: the API server then writes plaintext, and still reads what is
    /// encrypted
    #[arg(long)]
    identity_first: bool,
}

/// The form of an EncryptionConfiguration, `apiserver.config.k8s.io/v1`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EncryptionConfiguration {
    api_version: &'static str,
    kind: &'static str,
    resources: [ConfigurationEntry; 1],
}

#[derive(Serialize)]
struct ConfigurationEntry {
    resources: Vec<String>,
    providers: [Provider; 2],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum Provider {
    Kms(Kms),
    Identity(IdentityProvider),
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
struct IdentityProvider {}

/// Runs `claviger generate encryption-configuration`.
///
/// # Errors
/// When the configuration is invalid.
pub(super) fn run(args: EncryptionConfigurationArgs, global: &Global) -> Result<Exit, Failure> {
    let settings = Settings { socket: args.socket.socket, provider_name: args.provider_name, ..Settings::default() };
    let document = encryption_configuration(&global.config(settings)?, args.resources, args.identity_first);
    print(&document, global)
}

fn encryption_configuration(config: &Config, resources: Vec<String>, identity_first: bool) -> EncryptionConfiguration {
    let kms = Kms {
        api_version: "v2",
        name: config.provider_name.clone(),
        endpoint: config.socket.endpoint(),
        timeout: "3s",
    };
    let mut providers = [Provider::Kms(kms), Provider::Identity(IdentityProvider {})];
    if identity_first {
        providers.reverse();
    }
    EncryptionConfiguration {
        api_version: "apiserver.config.k8s.io/v1",
        kind: "EncryptionConfiguration",
        resources: [ConfigurationEntry { resources, providers }],
    }
}
