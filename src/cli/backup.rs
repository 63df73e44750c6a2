//! `claviger backup`

use std::{
    fs::File,
    io::{self, IsTerminal, Read},
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use serde::Serialize;
use zeroize::Zeroizing;

use crate::{
    config::Settings,
    durable::{check_export, export},
    hardening,
    keeper::{self, Expect, Made},
    keyring::{
        backup::{BACKUP_MAX, Backup},
        key_id::KeyId,
        time::Time,
    },
};

use super::{
    Format, Global, KeyringArgs, Site,
    failure::{Exit, Failure},
    key, output,
    recovery::Identity,
    restore::{self, RestoreArgs},
};

/// Keys that survive this machine: one encrypted file with the keyring and what opens it
///
/// A backup is an age file of a tar, which stock `age` and `tar` open too. Keep it where neither this machine's loss nor a thief
/// of etcd's snapshots reaches it, and its identity somewhere else. Make a new one after each `key add` and `rekey`.
#[derive(Args)]
pub(super) struct BackupArgs {
    #[command(subcommand)]
    verb: BackupVerb,
}

#[derive(Subcommand)]
enum BackupVerb {
    /// Write a backup for the recovery recipients, or for others
    ///
    /// It prints what `backup restore` will ask for: keep that, which is no secret, apart from the backup.
    #[command(after_help = "\
Examples:
  claviger backup create /media/usb/claviger-2026-11-24.age
  claviger backup create - --recipient age1… | ssh vault 'cat > claviger.age'")]
    Create {
        /// The file to write, which must not exist, or - for standard output
        file: PathBuf,
        /// An age recipient (age1…) who can open it, instead of the keyring's; may be given several times
        #[arg(long, value_name = "RECIPIENT")]
        recipient: Vec<String>,
        #[command(flatten)]
        keyring: KeyringArgs,
    },
    /// Open a backup, and say whether it has every key of the keyring here
    ///
    /// What opened is listed in the ledger here, and `key promote` and `status` know then that its keys are backed up. It
    /// works where there is no keyring, too: then it says what is in the backup. Ends with 1 if a key is missing in it.
    #[command(after_help = "\
Example:
  claviger backup check /media/usb/claviger.age --recovery-identity /media/usb2/identity.txt")]
    Check {
        /// The backup
        file: PathBuf,
        #[command(flatten)]
        identity: Identity,
        #[command(flatten)]
        keyring: KeyringArgs,
    },
    Restore(RestoreArgs),
}

#[derive(Serialize)]
struct CreateReport<'a> {
    format: &'static str,
    file: &'a Path,
    uuid: String,
    generation: u64,
    recipients: &'a [String],
    keys: usize,
    expect: String,
}

#[derive(Serialize)]
struct CheckReport {
    format: &'static str,
    uuid: String,
    generation: u64,
    created: Option<String>,
    keys: Vec<key::Row>,
    earlier_root_keys: usize,
    expect: String,
    /// None where there is no keyring to compare with.
    missing: Option<Vec<String>>,
}

/// Runs `claviger backup …`.
///
/// # Errors
/// When a keyring or a backup does not open, or a file cannot be written.
pub(super) fn run(args: BackupArgs, global: &Global) -> Result<Exit, Failure> {
    match args.verb {
        BackupVerb::Create { file, recipient, keyring } => create(&file, &recipient, keyring, global),
        BackupVerb::Check { file, identity, keyring } => check(&file, &identity, keyring, global),
        BackupVerb::Restore(args) => restore::run(args, global),
    }
}

fn create(file: &Path, recipients: &[String], keyring: KeyringArgs, global: &Global) -> Result<Exit, Failure> {
    let recipients = recipients.iter().map(|text| text.parse()).collect::<Result<Vec<_>, _>>();
    let recipients = recipients.map_err(|error| Failure::recovery(&error))?;
    let site = Site::find(keyring.settings(), global)?;
    let to_stdout = file == Path::new("-");
    if to_stdout && io::stdout().is_terminal() {
        let message = "a backup is no text, and standard output is a terminal";
        return Err(Failure::new(Exit::Usage, &message, "name a file, or pipe it somewhere".to_owned()));
    }
    if !to_stdout {
        // Before it is told that one is made.
        refuse_inside(file, &site.config.state_dir)?;
        check_export(file).map_err(|error| Failure::export(&error))?;
    }
    let now = Time::new(jiff::Timestamp::now());
    let Made { bytes, recipients, opened } = keeper::back_up(&site.dir, &site.means, recipients, now)
        .map_err(|error| Failure::change(&error, &site.config.state_dir))?;
    if to_stdout {
        output::bytes(&bytes)?;
        let expect = Expect::of(&opened.keyring, opened.digest);
        output::aside(&format!("expect  {expect}"), global);
        return Ok(Exit::Done);
    }
    export(file, &bytes).map_err(|error| Failure::export(&error))?;
    let report = CreateReport {
        format: "claviger/backup-create/v1",
        file,
        uuid: opened.keyring.uuid().to_hex(),
        generation: opened.keyring.generation(),
        recipients: &recipients,
        keys: opened.keyring.keys().count(),
        expect: Expect::of(&opened.keyring, opened.digest).to_string(),
    };
    print_created(&report, global)?;
    Ok(Exit::Done)
}

fn print_created(report: &CreateReport<'_>, global: &Global) -> Result<(), Failure> {
    if global.output == Format::Json {
        return output::json(report);
    }
    let file = report.file.display();
    output::text_line(&output::fields(&[
        ("backup", file.to_string()),
        ("keyring", format!("{}, generation {}, {}", report.uuid, report.generation, counted(report.keys, "key"))),
        ("opens with", format!("the identity of {}", report.recipients.join(", or of "))),
        ("expect", report.expect.clone()),
    ]))?;
    if global.quiet {
        return Ok(());
    }
    output::text_line(&format!(
        "\nnext:  prove that it opens, which lists it: claviger backup check {file}\n       keep the line `expect` apart from it: `backup restore` asks for it"
    ))
}

pub(super) fn counted(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

/// The bytes of a backup or of a keyring.
pub(super) fn read(file: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    hardening::forbid_dumps().map_err(|error| Failure::hardening(&error))?;
    let unreadable = |error: io::Error| {
        let exit = if error.kind() == io::ErrorKind::FileTooLarge { Exit::Damaged } else { Exit::Usage };
        Failure::new(exit, &format!("reading {}: {error}", file.display()), None)
    };
    let mut bytes = Zeroizing::new(Vec::new());
    let opened = File::open(file).map_err(unreadable)?;
    opened.take(BACKUP_MAX as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() > BACKUP_MAX {
        return Err(unreadable(io::ErrorKind::FileTooLarge.into()));
    }
    Ok(bytes)
}

fn check(file: &Path, identity: &Identity, keyring: KeyringArgs, global: &Global) -> Result<Exit, Failure> {
    let settings = keyring.settings();
    let here =
        global.config(Settings { state_dir: settings.state_dir.clone(), ..Settings::default() })?.state_dir.exists();
    let backup = Backup::open(&read(file)?, &identity.read()?).map_err(|error| Failure::backup(&error, file))?;
    let site = here.then(|| Site::find(settings, global)).transpose()?;
    let Some(site) = site else {
        print_checked(&backup, None, file, global)?;
        return Ok(Exit::Done);
    };
    refuse_inside(file, &site.config.state_dir)?;
    let missing = site.open()?.missing_in(&backup).map_err(|error| Failure::new(Exit::WrongKey, &error, None))?;
    print_checked(&backup, Some(&missing), file, global)?;
    // That it opens is said first: that is true whether it can be listed or not.
    keeper::list_backup(&site.dir, &site.means, &backup, Time::new(jiff::Timestamp::now())).map_err(|error| {
        Failure::change(&error, &site.config.state_dir).about("the backup opens, and is not listed")
    })?;
    Ok(if missing.is_empty() { Exit::Done } else { Exit::Found })
}

/// A backup beside what it is a backup of is lost with it.
fn refuse_inside(file: &Path, state_dir: &Path) -> Result<(), Failure> {
    let directory = file.parent().map(|parent| if parent == Path::new("") { Path::new(".") } else { parent });
    let real = |path: &Path| path.canonicalize().ok();
    match directory.and_then(real).zip(real(state_dir)) {
        Some((directory, state_dir)) if directory.starts_with(&state_dir) => {
            let message = format!("{} is in the state directory, and lost with it", file.display());
            Err(Failure::new(Exit::Refused, &message, "keep backups on another disk".to_owned()))
        }
        _ => Ok(()),
    }
}

fn print_checked(backup: &Backup, missing: Option<&[KeyId]>, file: &Path, global: &Global) -> Result<(), Failure> {
    let Backup { keyring, earlier, created, .. } = backup;
    let report = CheckReport {
        format: "claviger/backup-check/v1",
        uuid: keyring.uuid().to_hex(),
        generation: keyring.generation(),
        created: created.map(|time| time.to_string()),
        keys: key::rows(keyring),
        earlier_root_keys: earlier.len(),
        expect: backup.expect().to_string(),
        missing: missing.map(|missing| missing.iter().map(ToString::to_string).collect()),
    };
    if global.output == Format::Json {
        return output::json(&report);
    }
    let what = match &report.created {
        Some(created) => format!("a backup of {created}: it opens"),
        None => "a keyring with a recovery blob: it opens".to_owned(),
    };
    let compared = match missing {
        None => "there is no keyring here to compare it with".to_owned(),
        Some([]) => "it has every key of the keyring here".to_owned(),
        Some(missing) => format!("it lacks {} of the keyring here", counted(missing.len(), "key")),
    };
    let mut parts = vec![
        output::fields(&[
            ("file", file.display().to_string()),
            ("is", what),
            ("keyring", format!("{}, generation {}", report.uuid, report.generation)),
            ("expect", report.expect.clone()),
            ("compared", compared),
        ]),
        key::table(&report.keys, None),
    ];
    parts.extend(
        report
            .missing
            .iter()
            .flatten()
            .map(|key_id| format!("! {key_id} is not in it: make another one, claviger backup create")),
    );
    output::text_line(&parts.join("\n\n"))
}
