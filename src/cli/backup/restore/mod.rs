//! `claviger backup restore`: restores to an empty directory, or merges into an existing keyring.

mod args;
mod merge;
mod merge_report;
mod set_up;
mod sources;

use super::{
    super::{
        Global, Site,
        failure::{Exit, Failure},
        needed,
        site::holds_keyring,
    },
    file::refuse_inside,
};
use crate::{config::Settings, durable::check_export};

pub(super) use self::args::RestoreArgs;

/// The ways to show that a backup is the right one without a live etcd.
const WITHOUT_ETCD: &str = "to restore without etcd, show in another way that this is the right backup: --expect EXPECT, with the \
                            line that `backup create` or `status` printed, or --snapshot FILE";

/// Runs `claviger backup restore`.
///
/// # Errors
/// When a backup does not open or is not the one that is expected, or a file cannot be written.
pub(super) fn run(mut args: RestoreArgs, global: &Global) -> Result<Exit, Failure> {
    let proof = std::mem::take(&mut args.proof);
    let (is_proof_given, snapshot) = (proof.is_given(), proof.snapshot());
    let settings = proof.put_into(std::mem::take(&mut args.keyring).settings());
    let settings = Settings { socket: args.socket.socket.take(), ..settings };
    let state_dir = settings.state_dir.clone();
    let config = global.config(settings)?;
    if let Some(file) = &args.backup_to {
        refuse_inside(file, &config.state_dir)?;
        check_export(file).map_err(|error| Failure::export(&error))?;
    }
    let is_merge = holds_keyring(&config.state_dir)? && args.slot_file.is_none();
    if is_merge {
        let passphrase_file = config.passphrase_file.clone();
        let site = Site::find(Settings { state_dir, passphrase_file, ..Settings::default() }, global)?;
        merge::run(args, snapshot, &site, &config, global)
    } else {
        // A backup that --expect names needs no further proof. If etcd is given nevertheless, it is compared, too.
        let is_wanted = args.expect.is_none() || is_proof_given;
        let is_unproven = args.expect.is_none() && snapshot.is_none();
        let needed = || match is_wanted.then(|| needed::keys(&config, snapshot, global)) {
            Some(Err(failure)) if is_unproven && failure.exit() == Exit::Unreachable => Err(failure.or(WITHOUT_ETCD)),
            read => read.unwrap_or(Ok(None)),
        };
        set_up::run(args, &config, needed, global)
    }
}
