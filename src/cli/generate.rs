//! `claviger generate`

use clap::{Args, Subcommand};
use serde::Serialize;

use crate::{
    config::{Config, Settings},
    root::is_credential_name,
};

use super::{
    Format, Global, Socket,
    arguments::{CREDENTIAL, Expected},
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

/// Print a systemd drop-in that gives claviger.service the credential of a slot
///
/// The credential's file is expected to be encrypted, as `systemd-creds encrypt` writes it: under the TPM, the host's
/// key, or both.
#[derive(Args)]
#[command(after_help = "\
Example:
  cd /etc/systemd/system/claviger.service.d
  claviger generate systemd-credential > credential.conf")]
struct SystemdCredentialArgs {
    /// Name of the credential
    #[arg(long, value_name = "NAME", default_value = CREDENTIAL, value_parser = credential)]
    credential: String,
    /// The credential's file is not encrypted
    #[arg(long)]
    plain: bool,
    /// File of the credential [default: NAME in /etc/credstore.encrypted, or in /etc/credstore with --plain]
    #[arg(long, value_name = "FILE", value_parser = unit_path)]
    file: Option<String>,
}

/// Print a configuration file for kube-apiserver's --encryption-provider-config
///
/// The first provider encrypts new values. `identity` comes last, so that kube-apiserver can still read values that are
/// in plaintext. Never rename the provider: its name is part of every stored value.
#[derive(Args)]
#[command(after_help = "\
Example:
  claviger generate encryption-configuration > encryption-configuration.yaml")]
struct EncryptionConfigurationArgs {
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
    let document = encryption_configuration(&global.config(settings)?, args.resources, args.identity_first);
    match global.output {
        Format::Json => output::json(&document)?,
        Format::Text => {
            output::text_line(yaml(&document)?.trim_end())?;
        }
    }
    Ok(Exit::Done)
}

#[cfg(feature = "scan")]
fn yaml(document: &EncryptionConfiguration) -> Result<String, Failure> {
    serde_saphyr::to_string(document).map_err(|error| Failure::new(Exit::Usage, &error, None))
}

/// Prints the document as JSON, which is YAML, too.
#[cfg(not(feature = "scan"))]
fn yaml(document: &EncryptionConfiguration) -> Result<String, Failure> {
    serde_json::to_string_pretty(document).map_err(|error| Failure::new(Exit::Usage, &error, None))
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

/// Parses a path that needs no quoting in a unit file.
fn unit_path(text: &str) -> Result<String, Expected> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-@+".contains(&byte);
    if text.starts_with('/') && text.bytes().all(plain) {
        Ok(text.to_owned())
    } else {
        Err(Expected("an absolute path without spaces, colons and percent signs"))
    }
}

/// Why a resource is refused.
#[derive(Debug, thiserror::Error)]
enum ResourceError {
    /// It has characters that no resource has.
    #[error("expected a resource such as secrets, configmaps or widgets.example.com")]
    Form,
    /// It is a list of several.
    #[error("expected one resource: give --resource once for each")]
    Several,
    /// kube-apiserver would start with this name, and encrypt nothing.
    #[error("expected {0}: kube-apiserver knows no other name of this resource, and would encrypt nothing")]
    OtherName(String),
}

/// Kubernetes' own resources with their groups, and their other names, which kubectl takes and kube-apiserver does not.
const OTHER_NAMES: [(&str, &[&str]); 28] = [
    ("secrets", &["secret"]),
    ("configmaps", &["configmap", "cm"]),
    ("pods", &["pod", "po"]),
    ("services", &["service", "svc"]),
    ("serviceaccounts", &["serviceaccount", "sa"]),
    ("events", &["event", "ev"]),
    ("endpoints", &["endpoint", "ep"]),
    ("endpointslices.discovery.k8s.io", &["endpointslice"]),
    ("namespaces", &["namespace", "ns"]),
    ("nodes", &["node", "no"]),
    ("leases.coordination.k8s.io", &["lease"]),
    ("limitranges", &["limitrange", "limits"]),
    ("resourcequotas", &["resourcequota", "quota"]),
    ("persistentvolumes", &["persistentvolume", "pv"]),
    ("persistentvolumeclaims", &["persistentvolumeclaim", "pvc"]),
    ("replicationcontrollers", &["replicationcontroller", "rc"]),
    ("deployments.apps", &["deployment", "deploy"]),
    ("daemonsets.apps", &["daemonset", "ds"]),
    ("statefulsets.apps", &["statefulset", "sts"]),
    ("replicasets.apps", &["replicaset", "rs"]),
    ("jobs.batch", &["job"]),
    ("cronjobs.batch", &["cronjob", "cj"]),
    ("ingresses.networking.k8s.io", &["ingress", "ing"]),
    ("roles.rbac.authorization.k8s.io", &["role"]),
    ("rolebindings.rbac.authorization.k8s.io", &["rolebinding"]),
    ("clusterroles.rbac.authorization.k8s.io", &["clusterrole"]),
    ("clusterrolebindings.rbac.authorization.k8s.io", &["clusterrolebinding"]),
    ("customresourcedefinitions.apiextensions.k8s.io", &["customresourcedefinition", "crd", "crds"]),
];

/// Parses a resource: `resource`, `resource.group`, `*.group` or `*.*`.
fn resource(text: &str) -> Result<String, ResourceError> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-*".contains(&byte);
    if text.contains([',', ' ']) {
        return Err(ResourceError::Several);
    }
    if text.is_empty() || !text.bytes().all(plain) {
        return Err(ResourceError::Form);
    }
    let (name, group) = text.split_at(text.find('.').unwrap_or(text.len()));
    let bare = |right: &str| right.split('.').next().map(str::to_owned);
    let known = OTHER_NAMES
        .iter()
        .find(|(right, others)| others.contains(&name) || group.is_empty() && bare(right).as_deref() == Some(name));
    match known {
        // Without its group, a name is one of the core group.
        Some((right, _)) if group.is_empty() && *right != name => Err(ResourceError::OtherName((*right).to_owned())),
        Some((right, _)) if *right != name => {
            Err(ResourceError::OtherName(format!("{}{group}", bare(right).unwrap_or_default())))
        }
        None if group.is_empty() => {
            grouped(name).map_or_else(|| Ok(text.to_owned()), |right| Err(ResourceError::OtherName(right)))
        }
        _ => Ok(text.to_owned()),
    }
}

/// Returns the name with its group of a resource of Kubernetes' own that is not in the core group.
#[cfg(feature = "scan")]
fn grouped(name: &str) -> Option<String> {
    let resource = crate::scan::names::resource(name);
    resource.group.as_deref().is_some_and(|group| !group.is_empty()).then(|| resource.to_string())
}

/// Returns nothing: without the scanner, only the resources that have other names are known.
#[cfg(not(feature = "scan"))]
fn grouped(_: &str) -> Option<String> {
    None
}
