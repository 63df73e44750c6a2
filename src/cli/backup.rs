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
    durable::{Dir, check_export, export},
    hardening,
    keeper::{self, Expect, Initialised, Made, RestorePlan},
    keyring::{
        backup::{BACKUP_MAX, Backup},
        key_id::KeyId,
        time::Time,
    },
};

use super::{
    Format, Global, KeyringArgs, Site, StateDir,
    failure::{Exit, Failure},
    init::absolute,
    key, output,
    recovery::{Identity, identities},
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
    /// Set an empty state directory up with the keyring of a backup
    ///
    /// Takes a backup, or a copy of the file `keyring` alone if that has a recovery blob for the identity. Whoever knows a
    /// recipient could have made a backup: --expect says which keyring it has to be, that one or a later one. Never run two
    /// machines with one keyring file: what one of them changes, the other does not have.
    #[command(after_help = "\
Example:
  claviger backup restore /media/usb/claviger.age --recovery-identity /media/usb2/identity.txt --expect UUID:7:SHA256")]
    Restore {
        /// The backup, or a keyring
        file: PathBuf,
        #[command(flatten)]
        identity: Identity,
        /// Which record it has to be, uuid:generation:sha256 as `backup create` and `status` print it; without it the
        /// generation is asked for on a terminal
        #[arg(long, value_name = "EXPECT")]
        expect: Option<Expect>,
        /// Where the slot's key file goes, better on another disk [default: slot-file.key in the state directory]
        #[arg(long, value_name = "FILE")]
        slot_file: Option<PathBuf>,
        /// Move a restore that did not finish aside and begin again
        #[arg(long)]
        restart: bool,
        #[command(flatten)]
        state_dir: StateDir,
    },
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

#[derive(Serialize)]
struct RestoreReport<'a> {
    format: &'static str,
    state_dir: &'a Path,
    uuid: String,
    generation: u64,
    keys: usize,
    expect: String,
    moved_aside: Option<&'a Path>,
}

/// Runs `claviger backup …`.
///
/// # Errors
/// When a keyring or a backup does not open, or a file cannot be written.
pub(super) fn run(args: BackupArgs, global: &Global) -> Result<Exit, Failure> {
    match args.verb {
        BackupVerb::Create { file, recipient, keyring } => create(&file, &recipient, keyring, global),
        BackupVerb::Check { file, identity, keyring } => check(&file, &identity, keyring, global),
        BackupVerb::Restore { file, identity, expect, slot_file, restart, state_dir } => {
            let backup = read(&file, &identity)?;
            confirm(&backup, expect.as_ref())?;
            let slot_file = slot_file.as_deref().map(absolute).transpose()?;
            restore(
                RestorePlan { backup, slot_file, restart, now: Time::new(jiff::Timestamp::now()) },
                state_dir.settings(),
                global,
            )
        }
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

fn counted(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

fn read(file: &Path, identity: &Identity) -> Result<Backup, Failure> {
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
    Backup::open(&bytes, &identities(identity.file())?).map_err(|error| Failure::backup(&error, file))
}

fn check(file: &Path, identity: &Identity, keyring: KeyringArgs, global: &Global) -> Result<Exit, Failure> {
    let settings = keyring.settings();
    let here =
        global.config(Settings { state_dir: settings.state_dir.clone(), ..Settings::default() })?.state_dir.exists();
    let backup = read(file, identity)?;
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

/// Makes sure that it is the keyring that is wanted.
fn confirm(backup: &Backup, expect: Option<&Expect>) -> Result<(), Failure> {
    if let Some(expect) = expect {
        let checked = expect.check(&backup.keyring, backup.digest());
        return checked.map_err(|error| Failure::new(Exit::Refused, &error, None));
    }
    let generation = backup.keyring.generation().to_string();
    let shown = output::fields(&[
        ("keyring", backup.keyring.uuid().to_hex()),
        ("generation", generation.clone()),
        ("expect", backup.expect().to_string()),
    ]);
    let refused = |message: &str| {
        let hint = "give --expect with what `backup create` or `status` printed where the keyring was".to_owned();
        Failure::new(Exit::Refused, &message, hint)
    };
    if !io::stdin().is_terminal() {
        return Err(refused("nothing says that this is the right keyring"));
    }
    let table = key::table(&key::rows(&backup.keyring), None);
    output::text(&format!("{shown}\n\n{table}\n\nIf this is the keyring, type its generation: "))?;
    let mut typed = String::new();
    io::stdin().read_line(&mut typed).map_err(|error| refused(&error.to_string()))?;
    if typed.trim() == generation { Ok(()) } else { Err(refused("that is not its generation; nothing was written")) }
}

fn restore(plan: RestorePlan, settings: Settings, global: &Global) -> Result<Exit, Failure> {
    let state_dir = global.config(settings)?.state_dir;
    let dir = Dir::open_or_create(&state_dir).map_err(|error| Failure::init(&error.into(), &state_dir))?;
    let slot_file = plan.slot_file.clone();
    let Initialised { keyring, digest, moved_aside } =
        keeper::restore(&dir, plan).map_err(|error| Failure::init(&error, &state_dir))?;
    let report = RestoreReport {
        format: "claviger/backup-restore/v1",
        state_dir: &state_dir,
        uuid: keyring.uuid().to_hex(),
        generation: keyring.generation(),
        keys: keyring.keys().count(),
        expect: Expect::of(&keyring, digest).to_string(),
        moved_aside: moved_aside.as_deref(),
    };
    if global.output == Format::Json {
        output::json(&report)?;
        return Ok(Exit::Done);
    }
    if let Some(path) = &moved_aside {
        output::text_line(&format!("moved what had not finished to {}", path.display()))?;
    }
    let slot = slot_file.unwrap_or_else(|| dir.path_of("slot-file.key"));
    output::text_line(&output::fields(&[
        ("keyring", format!("{} in {}", report.uuid, state_dir.display())),
        ("generation", format!("{}, {}", report.generation, counted(report.keys, "key"))),
        ("slot", format!("file, its key in {}", slot.display())),
    ]))?;
    if !global.quiet {
        output::text_line(&format!("\nnext:  claviger serve --state-dir {}", state_dir.display()))?;
    }
    Ok(Exit::Done)
}
