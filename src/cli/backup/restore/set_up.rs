//! Restores a backup to an empty state directory.

use std::path::Path;

use serde::Serialize;

use super::{
    super::{
        super::{
            Format, Global,
            failure::{Exit, Failure},
            files::absolute,
            given::quoted,
            identities::Purpose,
            output::{self, OutputError},
            tables::counted,
        },
        file::{beside, open, read, refuse_inside, whole},
    },
    args::RestoreArgs,
    merge_report::{ROTATE, does_not_count},
};
use crate::{
    config::Config,
    durable::Dir,
    keeper::{self, Expect, FreshBackup, InitError, Initialised, NeededKey, RestorePlan, RestoredKeyring},
    keyring::time::Time,
};

#[derive(Serialize)]
struct RestoreReport<'a> {
    format: &'static str,
    state_dir: &'a Path,
    uuid: String,
    generation: u64,
    keys: usize,
    primary: String,
    expect: String,
    /// The backup of the primary key, if that key is a new one.
    fresh_backup: Option<&'a Path>,
    /// Keys that values in etcd need, and that stay disabled.
    needed_and_disabled: Vec<&'a str>,
    moved_aside: Option<&'a Path>,
}

/// Restores to an empty directory. `needed` finds out which keys etcd needs, if that has to be known.
///
/// # Errors
/// When the arguments are for a merge, the backup is refused, or a file cannot be written.
pub(super) fn run(
    args: RestoreArgs,
    config: &Config,
    needed: impl FnOnce() -> Result<Option<Vec<NeededKey>>, Failure>,
    global: &Global,
) -> Result<Exit, Failure> {
    let [file] = args.files.as_slice() else {
        let hint = "restore the newest one, then merge the others with the same command".to_owned();
        return Err(Failure::new(Exit::Usage, &"several backups were given, and the state directory is empty", hint));
    };
    if args.accept || !args.keep_destroyed.is_empty() || !args.lost.is_empty() {
        let message = format!("{} has no keyring to merge into", config.state_dir.display());
        return Err(Failure::new(Exit::Usage, &message, "omit --accept, --keep-destroyed and --lost".to_owned()));
    }
    let identities = args.identity.read(Purpose::Open)?;
    let backup = open(file, &read(file)?, &identities)?;
    let needed = needed()?;
    let to = args.backup_to.unwrap_or_else(|| beside(file, backup.keyring.generation() + 1));
    let fresh = FreshBackup { file: to, recipients: identities.recipients() };
    let plan = RestorePlan {
        backup,
        file: Some(whole(file)),
        expect: args.expect,
        needed,
        compromised: args.compromised,
        fresh,
        slot_file: args.slot_file.as_deref().map(absolute).transpose()?,
        now: Time::new(jiff::Timestamp::now()),
    };
    restore(plan, &config.state_dir, global)
}

fn restore(plan: RestorePlan, state_dir: &Path, global: &Global) -> Result<Exit, Failure> {
    // This comes before a directory is made.
    plan.check()?;
    let dir = Dir::open_or_create(state_dir).map_err(InitError::File)?;
    let slot_file = plan.slot_file.clone();
    let before = plan.backup.keyring.generation();
    refuse_inside(&plan.fresh.file, state_dir)?;
    let restored = keeper::restore(&dir, plan)?;
    let report = report(&restored, state_dir);
    let slot = slot_file.unwrap_or_else(|| dir.path_of(&keeper::first_key_file()));
    let uncounted = restored.fresh.as_ref().filter(|(_, counts)| !counts).map(|(file, _)| file.as_path());
    let printed = match global.output {
        Format::Json => output::json(&report),
        Format::Text => print(&report, (before, &slot, uncounted), global),
    };
    Ok(output::end_change(printed, global))
}

fn report<'a>(restored: &'a RestoredKeyring, state_dir: &'a Path) -> RestoreReport<'a> {
    let RestoredKeyring { initialised: Initialised { keyring, digest, moved_aside }, fresh, disabled } = restored;
    RestoreReport {
        format: "claviger/backup-restore/v1",
        state_dir,
        uuid: keyring.uuid().to_hex(),
        generation: keyring.generation(),
        keys: keyring.keys().count(),
        primary: keyring.primary().id().to_string(),
        expect: Expect::of(keyring, *digest).to_string(),
        fresh_backup: fresh.as_ref().map(|(file, _)| file.as_path()),
        needed_and_disabled: disabled.iter().map(|key| key.name.as_str()).collect(),
        moved_aside: moved_aside.as_deref(),
    }
}

/// Prints the report, the generation of the backup, the slot's key file, and the backup of a new key if that backup does not count.
fn print(
    report: &RestoreReport<'_>,
    (before, slot, uncounted): (u64, &Path, Option<&Path>),
    global: &Global,
) -> Result<(), OutputError> {
    if let Some(path) = report.moved_aside {
        output::text_line(&format!("moved the unfinished restore to {}", path.display()))?;
    }
    output::text_line(&output::fields(&fields(report, before, slot)))?;
    if let Some(file) = uncounted {
        output::text_line(&does_not_count(file))?;
    }
    for key in &report.needed_and_disabled {
        output::text_line(&format!("\n! {key} is disabled, and values in etcd need it: claviger key enable {key}"))?;
    }
    let dir = quoted(report.state_dir);
    output::advice(&format!("\nnext:  claviger serve --state-dir {dir}\nthen:  {ROTATE}"), global)
}

fn fields(report: &RestoreReport<'_>, before: u64, slot: &Path) -> Vec<(&'static str, String)> {
    let mut fields = vec![
        ("keyring", format!("{} in {}", report.uuid, report.state_dir.display())),
        ("generation", format!("{}, after {before} of the backup; {}", report.generation, counted(report.keys, "key"))),
        ("primary", report.primary.clone()),
    ];
    fields.extend(report.fresh_backup.map(|file| ("fresh key", format!("its backup is {}", file.display()))));
    fields.push(("slot", format!("file, with its key in {}", slot.display())));
    fields.push(("expect", report.expect.clone()));
    fields
}
