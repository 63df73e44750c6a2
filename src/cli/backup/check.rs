//! `claviger backup check`: opens a backup with an identity, compares it with the keyring here, and lists it in the
//! ledger.

use std::path::Path;

use serde::Serialize;

use super::{
    super::{
        Format, Global, Site,
        backup_file::{open, read, whole},
        failure::{Exit, Failure},
        given::quoted,
        identities::{IdentityArgs, Purpose},
        output::{self, OutputError},
        tables::{KeyRow, counted, fitting_key_table, key_rows, terminal_width},
    },
    file::{refuse_inside, served},
    listing::not_listed,
};
use crate::{
    config::Settings,
    escrow::Backup,
    keeper::{self, Additional, ListBackupError, Opened},
    keyring::{
        key_id::KeyId,
        ledger::{ListedBackup, Proven},
        time::Time,
    },
};

#[derive(Serialize)]
struct CheckReport {
    format: &'static str,
    uuid: String,
    generation: u64,
    created: Option<String>,
    keys: Vec<KeyRow>,
    earlier_root_keys: usize,
    expect: String,
    /// Keys of the keyring here that the backup lacks. `None` if there is no keyring to compare with.
    missing: Option<Vec<String>>,
    /// Keys of the backup that the keyring here neither holds nor has destroyed.
    only_in_backup: Option<Vec<String>>,
    /// Keys of the backup that the keyring here has destroyed.
    destroyed_here: Option<Vec<String>>,
    /// Whether the keyring here follows from the record in the backup.
    follows: Option<bool>,
    /// Whether the ledger lists the backup, so that its keys can be promoted.
    listed: Option<bool>,
    /// The reason why the ledger does not list the backup.
    not_listed_because: Option<String>,
    /// The generation of the newest listed backup.
    #[serde(skip)]
    newest: Option<u64>,
}

/// The comparison of a backup with the keyring here.
struct Compared {
    missing: Vec<KeyId>,
    additional: Additional,
    /// Whether the keyring here follows from the record in the backup.
    follows: bool,
    /// The generation of the newest listed backup, or the reason why this backup cannot be listed.
    listed: Result<Option<u64>, ListBackupError>,
}

/// Opens the backup `file`, compares it with the keyring here if there is one, and lists it.
///
/// # Errors
/// When the backup does not open or is not one of the keyring here, or it cannot be listed.
pub(super) fn run(file: &Path, identity: &IdentityArgs, settings: Settings, global: &Global) -> Result<Exit, Failure> {
    let here =
        global.config(Settings { state_dir: settings.state_dir.clone(), ..Settings::default() })?.state_dir.exists();
    let bytes = read(file)?;
    let backup = open(file, &bytes, &identity.read(Purpose::Open)?)?;
    if here {
        return compare(&backup, file, &Site::find(settings, global)?, global);
    }
    print(&backup, None, file, global)?;
    Ok(Exit::Done)
}

/// Compares the backup with the keyring of `site`, lists it in the ledger, and prints the report.
fn compare(backup: &Backup, file: &Path, site: &Site, global: &Global) -> Result<Exit, Failure> {
    refuse_inside(file, &site.config.state_dir)?;
    let (opened, under) = (site.open()?, backup.keyring.root_id());
    let is_other = backup.keyring.uuid() != opened.keyring.uuid();
    let missing = missing(&opened, backup)
        .map_err(|failure| if is_other { served(failure, &backup.keyring, file, &site.config) } else { failure })?;
    let proven = Proven::Checked(Time::new(jiff::Timestamp::now()));
    let listed = ListedBackup::of(&backup.keyring, backup.digest(), proven, Some(whole(file)));
    let listed = keeper::list_backup(&site.dir, &site.means, under, listed);
    let listed = listed.map(|opened| opened.newest_backup().ok().flatten().map(ListedBackup::generation));
    let follows = opened.may_descend_from(backup);
    let compared = Compared { missing, additional: opened.additional_in(backup), follows, listed };
    // The backup opens, whether or not it is listed, so the report is printed in any case.
    let printed = print(backup, Some(&compared), file, global);
    let Compared { missing, listed, .. } = compared;
    listed.map_err(|error| not_listed(error, "the backup opens"))?;
    output::end_change(printed, global);
    Ok(if missing.is_empty() && follows { Exit::Done } else { Exit::Found })
}

/// Returns the keys of the keyring here that its backup lacks.
fn missing(opened: &Opened, backup: &Backup) -> Result<Vec<KeyId>, Failure> {
    let other = |error| Failure::new(Exit::WrongKey, &error, "use a backup of the keyring here".to_owned());
    let missing = opened.missing_in(backup).map_err(other)?;
    opened.check_root_key(backup.keyring.root_id()).map_err(|error| {
        Failure::from(error).with_hint(
            "use a backup that was made of the keyring here; anyone who knows a recipient can make another one",
        )
    })?;
    Ok(missing)
}

fn print(backup: &Backup, compared: Option<&Compared>, file: &Path, global: &Global) -> Result<(), OutputError> {
    let report = report(backup, compared);
    match global.output {
        Format::Json => output::json(&report),
        Format::Text => output::text_line(&global.given.repeat_in(&text(&report, file))),
    }
}

fn report(backup: &Backup, compared: Option<&Compared>) -> CheckReport {
    let Backup { keyring, earlier, created, .. } = backup;
    let names = |keys: &[KeyId]| keys.iter().map(ToString::to_string).collect();
    CheckReport {
        format: "claviger/backup-check/v1",
        uuid: keyring.uuid().to_hex(),
        generation: keyring.generation(),
        created: created.map(|time| time.to_string()),
        keys: key_rows(keyring),
        earlier_root_keys: earlier.len(),
        expect: backup.expect().to_string(),
        missing: compared.map(|compared| names(&compared.missing)),
        only_in_backup: compared.map(|compared| names(&compared.additional.unknown)),
        destroyed_here: compared.map(|compared| names(&compared.additional.destroyed)),
        follows: compared.map(|compared| compared.follows),
        listed: compared.map(|compared| compared.listed.is_ok()),
        not_listed_because: compared.and_then(|compared| compared.listed.as_ref().err()).map(ToString::to_string),
        newest: compared.and_then(|compared| compared.listed.as_ref().ok().copied().flatten()),
    }
}

fn text(report: &CheckReport, file: &Path) -> String {
    let what = match &report.created {
        Some(created) => format!("a backup of {created}: it opens"),
        None => "a keyring with a recovery blob: it opens".to_owned(),
    };
    let compared = match report.missing.as_deref() {
        None => "there is no keyring here to compare it with".to_owned(),
        Some([]) => "it has every key of the keyring here".to_owned(),
        Some(missing) => format!("it lacks {} of the keyring here", counted(missing.len(), "key")),
    };
    let mut fields = vec![
        ("file", file.display().to_string()),
        ("is", what),
        ("keyring", format!("{}, generation {}", report.uuid, report.generation)),
        ("expect", report.expect.clone()),
        ("compared", compared),
    ];
    fields.extend(counts(report).map(|counts| ("counts", counts)));
    [output::fields(&fields), fitting_key_table(&report.keys, None, terminal_width())]
        .into_iter()
        .chain(differences(report, file))
        .collect::<Vec<_>>()
        .join("\n\n")
}

/// Returns the line that says whether the backup counts from now on. `None` if there is no keyring here.
fn counts(report: &CheckReport) -> Option<String> {
    let newest = match report.newest {
        Some(newest) if newest > report.generation => format!("; the newest one that counts is of generation {newest}"),
        _ => "; it is the newest one that counts".to_owned(),
    };
    Some(match (report.listed?, &report.not_listed_because) {
        (true, _) => format!("yes: it opened, so its keys can be promoted{newest}"),
        (false, reason) => format!("not yet: {}", reason.as_deref().unwrap_or_default()),
    })
}

/// Returns lines about what only the backup or only the keyring has: keys, or changes.
fn differences(report: &CheckReport, file: &Path) -> Vec<String> {
    let file = quoted(file);
    let missing = report.missing.iter().flatten();
    let missing =
        missing.map(|key_id| format!("! {key_id} is not in it; to make another backup: claviger backup create FILE"));
    let unknown = report.only_in_backup.iter().flatten();
    let unknown = unknown.map(|key_id| {
        format!("! the keyring here lacks {key_id}: to merge this backup into it: claviger backup restore {file}")
    });
    let destroyed = report.destroyed_here.iter().flatten();
    let destroyed = destroyed.map(|key_id| {
        format!("{key_id} is destroyed here, and this backup still has it: anyone who opens the backup has the key")
    });
    let fork = (report.follows == Some(false)).then(|| {
        format!(
            "! the keyring here does not follow from this backup: the directory was put back, or one of the two is a fork; \
             bring them together: claviger backup restore {file}"
        )
    });
    missing.chain(unknown).chain(destroyed).chain(fork).collect()
}
