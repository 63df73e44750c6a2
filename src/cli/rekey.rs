//! `claviger rekey`

use clap::Args;
use serde::Serialize;

use crate::keeper::{self, Rekeyed};

use super::{
    Format, Global, KeyringArgs, Site,
    failure::{Exit, Failure},
    output,
};

/// Put the keyring under a new root key, sealed in the same slots and to the same recovery recipients
///
/// No key_id changes, no Secret is touched, and a running plugin goes on. If it breaks off, everything still opens: run it
/// again, and it goes on where it was. It revokes nothing by itself: whoever had the root key may have had the keys.
#[derive(Args)]
#[command(after_help = "\
Example:
  claviger rekey && claviger recovery test")]
pub(super) struct RekeyArgs {
    #[command(flatten)]
    keyring: KeyringArgs,
}

#[derive(Serialize)]
struct Report {
    format: &'static str,
    uuid: String,
    generation: u64,
    root_id: String,
    resumed: bool,
    recovery_recipients: Vec<String>,
}

/// Runs `claviger rekey`.
///
/// # Errors
/// When the keyring does not open, the secret of a slot is not there, or a file cannot be written.
pub(super) fn run(args: RekeyArgs, global: &Global) -> Result<Exit, Failure> {
    let site = Site::find(args.keyring.settings(), global)?;
    let rekeyed =
        keeper::rekey(&site.dir, &site.means).map_err(|error| Failure::change(&error, &site.config.state_dir))?;
    print(&rekeyed, global)?;
    Ok(Exit::Done)
}

fn print(Rekeyed { keyring, resumed }: &Rekeyed, global: &Global) -> Result<(), Failure> {
    let recipients: Vec<String> = keyring.recoveries().iter().map(|recovery| recovery.recipient().to_owned()).collect();
    let has_recovery = !recipients.is_empty();
    if global.output == Format::Json {
        return output::json(&Report {
            format: "claviger/rekey/v1",
            uuid: keyring.uuid().to_hex(),
            generation: keyring.generation(),
            root_id: keyring.root_id().to_hex(),
            resumed: *resumed,
            recovery_recipients: recipients,
        });
    }
    let how = if *resumed { "went on with the rekey that had broken off; " } else { "" };
    output::text_line(&format!("{how}under a new root key (generation {})", keyring.generation()))?;
    if global.quiet {
        return Ok(());
    }
    if has_recovery {
        output::text_line("next: prove that it can still be recovered: claviger recovery test")?;
    }
    output::text_line(
        "and make another backup, as older ones are under the root key from before: claviger backup create",
    )
}
