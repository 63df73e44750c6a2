//! `claviger backup restore`: restores to an empty directory, or merges into an existing keyring.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use crate::{
    config::{Config, Settings},
    durable::{Dir, DurableError, Privacy, check_export},
    escrow::{Identities, Recipient},
    keeper::{
        self, Expect, FreshBackup, InitError, Initialised, NeededKey, OpenError, RestorePlan, RestoredKeyring, Source,
    },
    keyring::{key_id::KeyId, merge::Wishes, record, time::Time},
};

use super::{
    Format, Global, KeyringArgs, Site,
    backup_file::{open, read, refuse_inside, whole},
    failure::{Exit, Failure},
    files::absolute,
    identities::IdentityArgs,
    merge_report::{ROTATE, Shown, does_not_count, print_merge, print_nothing_to_do},
    needed::{self, ProofArgs},
    output,
    tables::counted,
};

/// Restore a backup to an empty state directory, or merge its keys into an existing keyring
///
/// FILE is a backup. It may also be a copy of the file `keyring`, if the identity is one of its recovery recipients',
/// or if it is under a root key that the keyring here has or had.
///
/// To restore to an empty directory, you must show that this is the right backup, because anyone who knows a recipient
/// can make one. Either give --expect, which names exactly one record. Or let the backup be compared with etcd
/// (--etcd-servers, --apiserver-manifest) or with a snapshot of etcd (--snapshot): it must contain every key that the
/// values there need, and at least one value must need one of its keys. Afterwards no key is pending, and `status` asks
/// for a rotation, because a backup does not show what happened after it was made. Never run two machines on copies of
/// one keyring file, because each misses the other's changes.
///
/// To merge, the directory has a keyring, which may be older, newer, damaged or a fork. No key of either is lost. The
/// newest key that is in a backup becomes primary, and all others only unwrap. Without --accept, the command shows what
/// would happen to each key, and exits with 1.
#[derive(Args)]
#[command(after_help = "\
Examples:
  claviger backup restore /media/usb/claviger.age --recovery-identity /media/usb2/identity.txt --expect UUID:7:SHA256
  claviger backup restore /media/usb/claviger.age --recovery-identity /media/usb2/identity.txt --snapshot etcd.db
  claviger backup restore /media/usb/claviger.age --recovery-identity /media/usb2/identity.txt --accept")]
pub(super) struct RestoreArgs {
    /// Backup, or copy of a keyring file; several can be merged at once
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    identity: IdentityArgs,
    /// The record that the backup must contain, as uuid:generation:sha256; `backup create` and `status` print it
    #[arg(long, value_name = "EXPECT")]
    expect: Option<Expect>,
    #[command(flatten)]
    proof: ProofArgs,
    /// Where to write the slot's key file, preferably on another disk [default: slot-file.key in the state directory]
    #[arg(long, value_name = "FILE")]
    slot_file: Option<PathBuf>,
    /// Key that others may know, by its full key_id: it never wraps again; may be given several times
    #[arg(long, value_name = "KEY_ID")]
    compromised: Vec<KeyId>,
    /// Where to write a backup if a new key has to be made [default: in the directory of the backup that is restored]
    #[arg(long, value_name = "FILE")]
    backup_to: Option<PathBuf>,
    /// Carry out the merge that was shown
    #[arg(long)]
    accept: bool,
    /// In a merge, keep a key destroyed although a backup contains it; give its full key_id
    #[arg(long, value_name = "KEY_ID")]
    keep_destroyed: Vec<KeyId>,
    /// In a merge, continue without a key that was here and is in no backup; give its full key_id
    #[arg(long, value_name = "KEY_ID")]
    lost: Vec<KeyId>,
    #[command(flatten)]
    keyring: KeyringArgs,
}

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

/// Runs `claviger backup restore`.
///
/// # Errors
/// When a backup does not open or is not the one that is expected, or a file cannot be written.
pub(super) fn run(mut args: RestoreArgs, global: &Global) -> Result<Exit, Failure> {
    let proof = std::mem::take(&mut args.proof);
    let (is_proof_given, snapshot) = (proof.is_given(), proof.snapshot());
    let settings = proof.put_into(std::mem::take(&mut args.keyring).settings());
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
        merge(args, snapshot, &site, &config, global)
    } else {
        // A backup that --expect names needs no proof. If etcd is given nevertheless, it is compared, too.
        let is_wanted = args.expect.is_none() || is_proof_given;
        let needed = || if is_wanted { needed::keys(&config, snapshot, global) } else { Ok(None) };
        set_up(args, &config, needed, global)
    }
}

fn holds_keyring(state_dir: &Path) -> Result<bool, Failure> {
    match Dir::open(state_dir, Privacy::Private).and_then(|dir| keeper::is_set_up(&dir)) {
        // If something is wrong with it, the code that uses it reports that.
        Err(DurableError::Missing(_)) => Ok(false),
        outcome => Ok(outcome.map_err(OpenError::StateDir)?),
    }
}

fn now() -> Time {
    Time::new(jiff::Timestamp::now())
}

/// Restores to an empty directory. `needed` finds out which keys etcd needs, if that has to be known.
fn set_up(
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
    let identities = args.identity.read()?;
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
        now: now(),
    };
    restore(plan, &config.state_dir, global)
}

/// Returns an unused path in the directory of `backup`, for the backup of `generation`, which has a new key.
fn beside(backup: &Path, generation: u64) -> PathBuf {
    let stem = backup.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let name = |number: u32| match number {
        1 => format!("{stem}-restored-{generation}.age"),
        _ => format!("{stem}-restored-{generation}-{number}.age"),
    };
    let is_free = |file: &PathBuf| file.symlink_metadata().is_err();
    let free = (1..1000).map(|number| backup.with_file_name(name(number))).find(is_free);
    free.unwrap_or_else(|| backup.with_file_name(name(1)))
}

fn restore(plan: RestorePlan, state_dir: &Path, global: &Global) -> Result<Exit, Failure> {
    // This comes before a directory is made.
    plan.check()?;
    let dir = Dir::open_or_create(state_dir).map_err(InitError::File)?;
    let slot_file = plan.slot_file.clone();
    let before = plan.backup.keyring.generation();
    refuse_inside(&plan.fresh.file, state_dir)?;
    let restored = keeper::restore(&dir, plan)?;
    let RestoredKeyring { initialised: Initialised { keyring, digest, moved_aside }, fresh, disabled } = restored;
    let report = RestoreReport {
        format: "claviger/backup-restore/v1",
        state_dir,
        uuid: keyring.uuid().to_hex(),
        generation: keyring.generation(),
        keys: keyring.keys().count(),
        primary: keyring.primary().id().to_string(),
        expect: Expect::of(&keyring, digest).to_string(),
        fresh_backup: fresh.as_ref().map(|(file, _)| file.as_path()),
        needed_and_disabled: disabled.iter().map(|key| key.name.as_str()).collect(),
        moved_aside: moved_aside.as_deref(),
    };
    if global.output == Format::Json {
        output::json(&report)?;
        return Ok(Exit::Done);
    }
    if let Some(path) = &moved_aside {
        output::text_line(&format!("moved the unfinished restore to {}", path.display()))?;
    }
    let slot = slot_file.unwrap_or_else(|| dir.path_of(&keeper::first_key_file()));
    let mut fields = vec![
        ("keyring", format!("{} in {}", report.uuid, state_dir.display())),
        ("generation", format!("{}, after {before} of the backup; {}", report.generation, counted(report.keys, "key"))),
        ("primary", report.primary.clone()),
    ];
    fields.extend(report.fresh_backup.map(|file| ("fresh key", format!("its backup is {}", file.display()))));
    fields.push(("slot", format!("file, with its key in {}", slot.display())));
    fields.push(("expect", report.expect.clone()));
    output::text_line(&output::fields(&fields))?;
    if let Some((file, false)) = &fresh {
        output::text_line(&does_not_count(file))?;
    }
    for key in &report.needed_and_disabled {
        output::text_line(&format!("\n! {key} is disabled, and values in etcd need it: claviger key enable {key}"))?;
    }
    if !global.quiet {
        output::text_line(&format!("\nnext:  claviger serve --state-dir {}\nthen:  {ROTATE}", state_dir.display()))?;
    }
    Ok(Exit::Done)
}

fn merge(
    args: RestoreArgs,
    snapshot: Option<PathBuf>,
    site: &Site,
    config: &Config,
    global: &Global,
) -> Result<Exit, Failure> {
    let RestoreArgs { files, identity, expect, compromised, accept, keep_destroyed, lost, backup_to, .. } = args;
    let Opening { sources, backup, recipients } = sources(site, &files, &identity, expect.as_ref())?;
    let wishes = Wishes { destroyed: keep_destroyed, lost, compromised };
    let planned = keeper::plan_merge(&site.dir, &site.means, &sources, &wishes, now())?;
    let Some(plan) = planned else {
        return nothing_to_do(site, global);
    };
    let to = backup_to.or_else(|| backup.map(|backup| beside(&backup, plan.generation)));
    let to = to.filter(|_| plan.fresh.is_some());
    if let Some(file) = &to {
        refuse_inside(file, &site.config.state_dir)?;
    }
    let shown = Shown::of(&plan, needed::keys(config, snapshot, global), to.clone());
    if !accept {
        print_merge(&site.config.state_dir, &shown, None, global)?;
        return Ok(Exit::Found);
    }
    let fresh = to.map(|file| FreshBackup { file, recipients });
    let opened = plan.carry_out(&site.dir, &site.means, fresh.as_ref())?;
    print_merge(&site.config.state_dir, &shown, Some(&opened), global)?;
    Ok(Exit::Done)
}

/// What was opened.
struct Opening {
    sources: Vec<Source>,
    /// The first file that an identity opened.
    backup: Option<PathBuf>,
    /// The recipients of the identities that were given.
    recipients: Vec<Recipient>,
}

/// Opens each file by the root keys that are here, or else by an identity, which is asked for once.
fn sources(
    site: &Site,
    files: &[PathBuf],
    identity: &IdentityArgs,
    expect: Option<&Expect>,
) -> Result<Opening, Failure> {
    let mut known: Option<Identities> = None;
    let (mut sources, mut first) = (Vec::new(), None);
    for file in files {
        let bytes = read(file)?;
        let by_root = record::root_id(&bytes).ok().and_then(|_| Source::known(&site.dir, &site.means, &bytes).ok());
        let mut source = if let Some(source) = by_root {
            source
        } else {
            let identities = known.take().map_or_else(|| identity.read(), Ok)?;
            let backup = open(file, &bytes, &identities)?;
            known = Some(identities);
            first = first.or(Some(file.clone()));
            Source::of_backup(&backup, whole(file))
        };
        if let Some(expect) = expect {
            // A successor counts only if it is under a root key that is known here. The merge checks that.
            let checked = expect.check(&source.keyring, source.digest);
            checked.map_err(|error| {
                let hint = "restore the backup that this line `expect` was printed for; to merge others, omit --expect";
                Failure::new(Exit::Refused, &format!("backup {}: {error}", file.display()), hint.to_owned())
            })?;
            source.is_named = expect.is(&source.keyring, source.digest);
        }
        sources.push(source);
    }
    let recipients = known.as_ref().map(Identities::recipients).unwrap_or_default();
    Ok(Opening { sources, backup: first, recipients })
}

fn nothing_to_do(site: &Site, global: &Global) -> Result<Exit, Failure> {
    print_nothing_to_do(&site.config.state_dir, &site.open()?, global)?;
    Ok(Exit::Done)
}
