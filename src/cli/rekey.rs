//! `claviger rekey`: puts the keyring under a new root key.

use clap::Args;
use serde::Serialize;

use crate::{
    config::Config,
    keeper::{self, Rekeyed},
    keyring::Keyring,
};

use super::{
    Format, Global, KeyringArgs, Site,
    backup_file::create_command,
    failure::{Exit, Failure, warn},
    given::quoted,
    live::ServesFrom,
    output::{self, OutputError},
    probe::find_plugin,
    rotation::check_rekey,
};

/// Replace the root key: wrap all keys under a new one, for the same slots and recovery recipients
///
/// No key_id changes, no Secret is rewritten, and a running plugin continues. If the command is interrupted, everything
/// still opens; run it again to finish. This alone does not revoke anything: anyone who had the old root key may have
/// copied the keys.
#[derive(Args)]
#[command(after_help = "\
Example:
  claviger rekey && claviger recovery test")]
pub(super) struct RekeyArgs {
    #[command(flatten)]
    keyring: KeyringArgs,
    /// Replace the root key although a rotation is unfinished. Its plan is void then
    #[arg(long)]
    despite_rotation: bool,
}

#[derive(Serialize)]
struct RekeyReport {
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
    let opened = site.open()?;
    // A rekey that was interrupted continues: the plan of the rotation is void already.
    if !args.despite_rotation && !opened.is_being_rekeyed() {
        check_rekey(&site, &opened)?;
    }
    drop(opened);
    let rekeyed = keeper::rekey(&site.dir, &site.means)?;
    let printed = print(&rekeyed, global);
    warn_of_copy(&rekeyed.keyring, &site.config, global)?;
    Ok(output::end_change(printed, global))
}

/// Warns if a plugin serves this keyring from another directory, because it does not take up what was changed here.
fn warn_of_copy(keyring: &Keyring, config: &Config, global: &Global) -> Result<(), Failure> {
    let search = find_plugin(config)?;
    let Some(plugin) = search.plugin().filter(|plugin| plugin.serves_keyring(keyring)) else { return Ok(()) };
    if let ServesFrom::Elsewhere(path) = plugin.serves_from(&config.state_dir) {
        let message = format!(
            "no plugin is known to take the new root key up: the one at {} serves this keyring from {}, and not from {}",
            search.socket(),
            path.display(),
            config.state_dir.display()
        );
        let hint = format!("if you meant the keyring that it serves: claviger rekey --state-dir {}", quoted(path));
        warn(&message, &hint, global);
    }
    Ok(())
}

fn print(Rekeyed { keyring, resumed }: &Rekeyed, global: &Global) -> Result<(), OutputError> {
    let recipients: Vec<String> = keyring.recoveries().iter().map(|recovery| recovery.recipient().to_owned()).collect();
    let has_recovery = !recipients.is_empty();
    if global.output == Format::Json {
        return output::json(&RekeyReport {
            format: "claviger/rekey/v1",
            uuid: keyring.uuid().to_hex(),
            generation: keyring.generation(),
            root_id: keyring.root_id().to_hex(),
            resumed: *resumed,
            recovery_recipients: recipients,
        });
    }
    let how = if *resumed { "finished the rekey that was interrupted; " } else { "" };
    output::text_line(&format!("{how}under a new root key (generation {})", keyring.generation()))?;
    let next = if has_recovery {
        output::advice("next: test that it can still be recovered: claviger recovery test", global)?;
        "and"
    } else {
        "next:"
    };
    let create = create_command(keyring);
    output::advice(
        &format!("{next} make a new backup, because older ones are under the old root key: {create}"),
        global,
    )
}
