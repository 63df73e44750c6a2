//! `claviger generate systemd-credential`: prints a systemd drop-in that gives the unit the credential of a slot.

use clap::Args;
use serde::Serialize;

use super::super::{
    Format, Global,
    arguments::{CREDENTIAL, Expected},
    failure::{Exit, Failure},
    output,
};
use crate::root::is_credential_name;

/// Print a systemd drop-in that gives claviger.service the credential of a slot
///
/// The credential's file is expected to be encrypted, as `systemd-creds encrypt` writes it: under the TPM, the host's
/// key, or both.
#[derive(Args)]
#[command(after_help = "\
Example:
  cd /etc/systemd/system/claviger.service.d
  claviger generate systemd-credential > credential.conf")]
pub(super) struct SystemdCredentialArgs {
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

#[derive(Serialize)]
struct DropIn {
    format: &'static str,
    unit: &'static str,
    text: String,
}

/// Runs `claviger generate systemd-credential`.
///
/// # Errors
/// When the output cannot be written.
pub(super) fn run(args: &SystemdCredentialArgs, global: &Global) -> Result<Exit, Failure> {
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
