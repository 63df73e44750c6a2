//! `claviger backup`

use std::{
    io::{self, IsTerminal},
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use serde::Serialize;

use crate::{
    config::Settings,
    crypto::Uuid,
    durable::{check_export, export, is_on_another_disk},
    escrow::Backup,
    keeper::{self, CommitError, Expect, Forget, ListBackupError, Made, Opened},
    keyring::{
        key_id::KeyId,
        ledger::{ListedBackup, Proven},
        time::Time,
    },
    text::hex_array,
};

use super::{
    Format, Global, KeyringArgs, Site,
    arguments::Expected,
    backup_file::{open, read, refuse_inside, whole},
    failure::{Exit, Failure, no_backup_counts},
    identities::IdentityArgs,
    output,
    restore::{self, RestoreArgs},
    tables::{KeyRow, counted, key_rows, key_table},
};

/// Manage backups: encrypted files that bring the keys back after this machine is lost
///
/// A backup is a tar file encrypted with age, so the usual `age` and `tar` open it, too. Keep it apart from this
/// machine and from etcd's snapshots, and keep its identity in a third place. Make a new backup after each `key add`,
/// `key promote` and `rekey`.
#[derive(Args)]
pub(super) struct BackupArgs {
    #[command(subcommand)]
    verb: BackupVerb,
}

#[derive(Subcommand)]
enum BackupVerb {
    /// Write a backup, encrypted to the keyring's recovery recipients or to others
    ///
    /// The command prints a line `expect`, which `backup restore` asks for. It is no secret; keep it apart from the
    /// backup. A key can be promoted only if a backup that counts contains it. A backup counts at once if it is on
    /// another disk than the state directory, and if `init` or `recovery add` tried the identity of its recipient. Any
    /// other backup counts after `backup check`.
    #[command(after_help = "\
Examples:
  claviger backup create /media/usb/claviger-2026-11-24.age
  claviger backup create - --recipient age1… | ssh vault 'cat > claviger.age'")]
    Create {
        /// File to write, which must not exist, or - for standard output
        file: PathBuf,
        /// age recipient (age1…) who can open it, instead of the keyring's recovery recipients; may be given several
        /// times
        #[arg(long, value_name = "RECIPIENT")]
        recipient: Vec<String>,
        #[command(flatten)]
        keyring: KeyringArgs,
    },
    /// Open a backup, and check whether it has every key of the keyring here
    ///
    /// A backup that opens counts from then on, so its keys can be promoted. Without a keyring here, the command shows
    /// what the backup contains. Exits with 1 if a key is missing in the backup.
    #[command(after_help = "\
Example:
  claviger backup check /media/usb/claviger.age --recovery-identity /media/usb2/identity.txt")]
    Check {
        /// Backup to open
        file: PathBuf,
        #[command(flatten)]
        identity: IdentityArgs,
        #[command(flatten)]
        keyring: KeyringArgs,
    },
    /// List the backups that count, so that the keys in them can be promoted
    ///
    /// The ledger lists them; it is the file `ledger` of the state directory. It does not say whether the backups still
    /// exist. Exits with 1 if the ledger is missing or damaged.
    #[command(after_help = "\
Example:
  claviger backup list --output json")]
    List(KeyringArgs),
    /// Remove a backup from the ledger because it is lost or was discarded
    ///
    /// The backup itself is not deleted. From then on, a key that is in no other listed backup counts as not backed up.
    #[command(after_help = "\
Examples:
  claviger backup forget 3f2a9c51e07b
  claviger backup forget --all 9013569b706b2f07af22dfd169b48818    when the ledger itself is lost or damaged")]
    Forget {
        /// Backup, by the ID that `backup list` shows
        #[arg(value_name = "ID", required_unless_present = "all", conflicts_with = "all")]
        backup: Option<String>,
        /// Begin an empty ledger, even if the present one is intact; give the keyring's uuid. `key destroy` then needs
        /// --risk-losing-secrets for every key that exists now, because a backup that is no longer listed may need it
        #[arg(long, value_name = "UUID", value_parser = uuid)]
        all: Option<Uuid>,
        #[command(flatten)]
        keyring: KeyringArgs,
    },
    Restore(Box<RestoreArgs>),
}

fn uuid(text: &str) -> Result<Uuid, Expected> {
    hex_array(text).map(Uuid).ok_or(Expected("32 hexadecimal digits, as `claviger status` shows them"))
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
    /// Whether the backup counts, so that its keys can be promoted.
    listed: bool,
    /// Why it does not count.
    not_listed_because: Option<String>,
}

#[derive(Serialize)]
struct ListReport {
    format: &'static str,
    uuid: String,
    backups: Vec<ListedReport>,
    /// The keys that no listed backup contains.
    unbacked: Vec<String>,
    /// Why the ledger cannot be used.
    error: Option<String>,
}

#[derive(Serialize)]
struct ListedReport {
    /// The SHA-256 of its record.
    record: String,
    generation: u64,
    keys: Vec<String>,
    written: Option<String>,
    checked: Option<String>,
    file: Option<String>,
}

#[derive(Serialize)]
struct CheckReport {
    format: &'static str,
    uuid: String,
    generation: u64,
    created: Option<String>,
    keys: Vec<KeyRow>,
    earlier_root_keys: usize,
    expect: String,
    /// `None` if there is no keyring to compare with.
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
        BackupVerb::List(keyring) => list(keyring, global),
        BackupVerb::Forget { backup, all, keyring } => forget(backup, all, keyring, global),
        BackupVerb::Restore(args) => restore::run(*args, global),
    }
}

fn create(file: &Path, recipients: &[String], keyring: KeyringArgs, global: &Global) -> Result<Exit, Failure> {
    let recipients = recipients.iter().map(|text| text.parse()).collect::<Result<Vec<_>, _>>();
    let recipients = recipients?;
    let site = Site::find(keyring.settings(), global)?;
    let to_stdout = file == Path::new("-");
    if to_stdout && io::stdout().is_terminal() {
        let message = "a backup is not text, and standard output is a terminal";
        return Err(Failure::new(Exit::Usage, &message, "name a file, or pipe it somewhere".to_owned()));
    }
    if !to_stdout {
        // This comes before any line says that a backup is being made.
        refuse_inside(file, &site.config.state_dir)?;
        check_export(file).map_err(|error| Failure::export(&error))?;
    }
    let now = Time::new(jiff::Timestamp::now());
    let made = keeper::back_up(&site.dir, &site.means, recipients, now)?;
    let Made { bytes, recipients, opened } = &made;
    if to_stdout {
        output::bytes(bytes)?;
        let expect = Expect::of(&opened.keyring, opened.digest);
        output::aside(&format!("expect  {expect}"), global);
        return Ok(Exit::Done);
    }
    export(file, bytes).map_err(|error| Failure::export(&error))?;
    let doubt = doubt(file, &made, &site);
    let report = CreateReport {
        format: "claviger/backup-create/v1",
        file,
        uuid: opened.keyring.uuid().to_hex(),
        generation: opened.keyring.generation(),
        recipients,
        keys: opened.keyring.keys().count(),
        expect: Expect::of(&opened.keyring, opened.digest).to_string(),
        listed: doubt.is_none(),
        not_listed_because: doubt,
    };
    if !report.listed {
        print_created(&report, global)?;
        return Ok(Exit::Done);
    }
    let under = opened.keyring.root_id();
    let listed = keeper::list_backup(&site.dir, &site.means, under, made.listed(Some(whole(file)), now));
    let report = CreateReport { not_listed_because: listed.as_ref().err().map(ToString::to_string), ..report };
    print_created(&CreateReport { listed: listed.is_ok(), ..report }, global)?;
    listed.map_err(|error| not_listed(error, "the backup is written"))?;
    Ok(Exit::Done)
}

/// Returns why a backup that was written does not count yet.
fn doubt(file: &Path, made: &Made, site: &Site) -> Option<String> {
    if !made.is_for_proven_recipient() {
        return Some("no recipient of it is a recovery recipient of this keyring, so no identity was tried".to_owned());
    }
    is_on_another_disk(file, &site.dir).err().map(|error| error.to_string())
}

fn not_listed(error: ListBackupError, what: &str) -> Failure {
    let is_listed = matches!(error, ListBackupError::Commit(CommitError::LedgerNotMarked(_)));
    let what = if is_listed { what.to_owned() } else { format!("{what}, and is not listed") };
    Failure::from(error).about(&what)
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
        (
            "counts",
            match &report.not_listed_because {
                None => "yes: it is on another disk, and reading it back gave what was written".to_owned(),
                Some(reason) => format!("not yet: {reason}"),
            },
        ),
        ("expect", report.expect.clone()),
    ]))?;
    if global.quiet {
        return Ok(());
    }
    let next = match report.not_listed_because {
        Some(_) => format!("test that it opens, so that it counts: claviger backup check {file}"),
        None => "test from time to time that its identity opens it: claviger backup check".to_owned(),
    };
    output::text_line(&format!(
        "\nnext:  {next}\n       keep the line `expect` apart from the backup: `backup restore` asks for it"
    ))
}

fn check(file: &Path, identity: &IdentityArgs, keyring: KeyringArgs, global: &Global) -> Result<Exit, Failure> {
    let settings = keyring.settings();
    let here =
        global.config(Settings { state_dir: settings.state_dir.clone(), ..Settings::default() })?.state_dir.exists();
    let bytes = read(file)?;
    let backup = open(file, &bytes, &identity.read()?)?;
    let site = here.then(|| Site::find(settings, global)).transpose()?;
    let Some(site) = site else {
        print_checked(&backup, None, file, global)?;
        return Ok(Exit::Done);
    };
    refuse_inside(file, &site.config.state_dir)?;
    let (opened, under) = (site.open()?, backup.keyring.root_id());
    let other = |error| Failure::new(Exit::WrongKey, &error, "use a backup of the keyring here".to_owned());
    let missing = opened.missing_in(&backup).map_err(other)?;
    opened.check_root_key(under).map_err(|error| {
        Failure::from(error).with_hint(
            "use a backup that was made of the keyring here; anyone who knows a recipient can make another one",
        )
    })?;
    print_checked(&backup, Some(&missing), file, global)?;
    let is_successor = opened.may_descend_from(&backup);
    if !is_successor {
        output::aside(
            "! the keyring here does not follow from this backup: the directory was put back, or one of the two is a fork; bring \
             them together: claviger backup restore",
            global,
        );
    }
    // The backup opens, whether or not it can be listed; so this is printed first.
    let proven = Proven::Checked(Time::new(jiff::Timestamp::now()));
    let listed = ListedBackup::of(&backup.keyring, backup.digest(), proven, Some(whole(file)));
    keeper::list_backup(&site.dir, &site.means, under, listed)
        .map_err(|error| not_listed(error, "the backup opens"))?;
    Ok(if missing.is_empty() && is_successor { Exit::Done } else { Exit::Found })
}

fn list(keyring: KeyringArgs, global: &Global) -> Result<Exit, Failure> {
    let site = Site::find(keyring.settings(), global)?;
    print_list(&site.open()?, global)
}

/// Returns the digits that name a backup: enough to distinguish those of one ledger.
const ID_DIGITS: usize = 12;

fn print_list(opened: &Opened, global: &Global) -> Result<Exit, Failure> {
    let report = ListReport {
        format: "claviger/backup-list/v1",
        uuid: opened.keyring.uuid().to_hex(),
        backups: opened.backups().unwrap_or_default().iter().map(listed_report).collect(),
        unbacked: opened.unbacked().iter().map(ToString::to_string).collect(),
        error: opened.backups().err().map(ToString::to_string),
    };
    let exit = if report.error.is_some() { Exit::Found } else { Exit::Done };
    if global.output == Format::Json {
        output::json(&report)?;
        return Ok(exit);
    }
    let dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let cells = |backup: &ListedReport| {
        let keys: Vec<&str> = backup.keys.iter().filter_map(|key| key.split('-').next()).collect();
        let id = backup.record.chars().take(ID_DIGITS).collect();
        let (generation, keys) = (backup.generation.to_string(), keys.join(" "));
        vec![id, generation, keys, dash(&backup.written), dash(&backup.checked), dash(&backup.file)]
    };
    let head = ["ID", "GENERATION", "KEYS", "WRITTEN", "CHECKED", "FILE"];
    let mut parts = match report.backups.as_slice() {
        [] => vec!["no backup is listed".to_owned()],
        backups => vec![output::table(&head, backups.iter().map(cells))],
    };
    parts.extend(report.error.iter().map(|error| format!("! {}", no_backup_counts(error, &report.uuid))));
    let unbacked = |key: &String| {
        format!(
            "! {key} is in no listed backup: claviger backup create FILE, or open one that has it: claviger backup check FILE"
        )
    };
    parts.extend(report.unbacked.iter().map(unbacked));
    output::text_line(&parts.join("\n\n"))?;
    Ok(exit)
}

fn listed_report(backup: &ListedBackup) -> ListedReport {
    ListedReport {
        record: backup.record().to_hex(),
        generation: backup.generation(),
        keys: backup.keys().iter().map(ToString::to_string).collect(),
        written: backup.written().map(|time| time.to_string()),
        checked: backup.checked().map(|time| time.to_string()),
        file: backup.file().map(ToOwned::to_owned),
    }
}

fn forget(backup: Option<String>, all: Option<Uuid>, keyring: KeyringArgs, global: &Global) -> Result<Exit, Failure> {
    let site = Site::find(keyring.settings(), global)?;
    let forget = match (all, backup) {
        (Some(uuid), _) => Forget::All(uuid),
        (None, backup) => Forget::One(backup.unwrap_or_default()),
    };
    let opened = keeper::forget_backups(&site.dir, &site.means, &forget)?;
    print_list(&opened, global)
}

fn print_checked(backup: &Backup, missing: Option<&[KeyId]>, file: &Path, global: &Global) -> Result<(), Failure> {
    let Backup { keyring, earlier, created, .. } = backup;
    let report = CheckReport {
        format: "claviger/backup-check/v1",
        uuid: keyring.uuid().to_hex(),
        generation: keyring.generation(),
        created: created.map(|time| time.to_string()),
        keys: key_rows(keyring),
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
        key_table(&report.keys, None),
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
