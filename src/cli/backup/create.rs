//! `claviger backup create`: seals the keyring into a backup, writes it to a file, and lists it if the file is on
//! another disk.

use std::{
    io::{self, IsTerminal},
    os::unix::fs::MetadataExt,
    path::Path,
};

use serde::Serialize;

use super::{
    super::{
        Format, Global, KeyringArgs, Site,
        backup_file::whole,
        failure::{Exit, Failure},
        given::quoted,
        identities::recipient,
        output::{self, OutputError},
        tables::counted,
    },
    file::refuse_inside,
    listing::not_listed,
};
use crate::{
    durable::{check_export, export, is_on_another_disk},
    escrow::Recipient,
    keeper::{self, Expect, Made},
    keyring::time::Time,
};

#[derive(Serialize)]
struct CreateReport<'a> {
    format: &'static str,
    file: &'a Path,
    uuid: String,
    generation: u64,
    recipients: &'a [String],
    keys: usize,
    expect: String,
    /// Whether the ledger lists the backup, so that its keys can be promoted.
    listed: bool,
    /// The reason why the ledger does not list the backup.
    not_listed_because: Option<String>,
    /// Whether `backup check` can list the backup.
    #[serde(skip)]
    can_be_checked: bool,
}

/// Writes a backup to `file`, or to standard output if `file` is `-`.
///
/// # Errors
/// When a recipient is malformed, the keyring does not open, or the backup cannot be written or listed.
pub(super) fn run(file: &Path, recipients: &[String], keyring: KeyringArgs, global: &Global) -> Result<Exit, Failure> {
    let recipients: Vec<Recipient> = recipients.iter().map(|text| recipient(text)).collect::<Result<_, _>>()?;
    let site = Site::find(keyring.settings(), global)?;
    let now = Time::new(jiff::Timestamp::now());
    if file == Path::new("-") {
        refuse_terminal()?;
        refuse_nowhere()?;
        let made = keeper::back_up(&site.dir, &site.means, recipients, now)?;
        print_bytes(&made, global).map_err(|error| not_whole(&error))?;
        return Ok(Exit::Done);
    }
    // The path is checked before any output says that a backup is being made.
    refuse_inside(file, &site.config.state_dir)?;
    check_export(file).map_err(|error| Failure::export(&error))?;
    let made = keeper::back_up(&site.dir, &site.means, recipients, now)?;
    export(file, &made.bytes).map_err(|error| Failure::export(&error))?;
    if let Some(doubt) = doubt(file, &made, &site) {
        let report = CreateReport { can_be_checked: true, ..report(file, &made, Some(doubt)) };
        return Ok(output::end_change(print(&report, global), global));
    }
    let under = made.opened.keyring.root_id();
    let listed = keeper::list_backup(&site.dir, &site.means, under, made.listed(Some(whole(file)), now));
    // The backup is written, whether or not it can be listed, so the report is printed first.
    let printed = print(&report(file, &made, listed.as_ref().err().map(ToString::to_string)), global);
    let done = output::end_change(printed, global);
    listed.map_err(|error| not_listed(error, "the backup is written"))?;
    Ok(done)
}

fn refuse_terminal() -> Result<(), Failure> {
    if io::stdout().is_terminal() {
        let message = "a backup is not text, and standard output is a terminal";
        return Err(Failure::new(Exit::Usage, &message, "name a file, or pipe it somewhere".to_owned()));
    }
    Ok(())
}

/// Refuses to print a backup that nobody receives. If the process was started without standard output, it is /dev/null.
fn refuse_nowhere() -> Result<(), Failure> {
    let null = Path::new("/dev/null").metadata().map(|found| found.rdev()).ok();
    let out = rustix::fs::fstat(io::stdout()).map(|found| found.st_rdev).ok();
    if null.is_some() && out == null {
        let message = "standard output is closed or /dev/null, and the backup would be lost";
        return Err(Failure::new(Exit::Usage, &message, "name a file, or pipe it somewhere".to_owned()));
    }
    Ok(())
}

/// Returns why the ledger does not list a backup that was written.
fn doubt(file: &Path, made: &Made, site: &Site) -> Option<String> {
    if !made.is_for_proven_recipient() {
        return Some("no recipient of it is a recovery recipient of this keyring, so no identity was tried".to_owned());
    }
    is_on_another_disk(file, &site.dir).err().map(|error| error.to_string())
}

fn print_bytes(made: &Made, global: &Global) -> Result<(), OutputError> {
    output::bytes(&made.bytes)?;
    output::aside(&format!("expect  {}", Expect::of(&made.opened.keyring, made.opened.digest)), global);
    Ok(())
}

/// Returns the failure of a backup that was only partly printed. A broken pipe ends a report silently, but never a
/// backup.
fn not_whole(error: &OutputError) -> Failure {
    Failure::new(Exit::Disk, error, "the backup is not whole: make it again".to_owned())
}

/// Returns the report of a backup that was written. `doubt` is the reason why the ledger does not list it.
fn report<'a>(file: &'a Path, made: &'a Made, doubt: Option<String>) -> CreateReport<'a> {
    let Made { recipients, opened, .. } = made;
    CreateReport {
        format: "claviger/backup-create/v1",
        file,
        uuid: opened.keyring.uuid().to_hex(),
        generation: opened.keyring.generation(),
        recipients,
        keys: opened.keyring.keys().count(),
        expect: Expect::of(&opened.keyring, opened.digest).to_string(),
        listed: doubt.is_none(),
        not_listed_because: doubt,
        can_be_checked: false,
    }
}

fn print(report: &CreateReport<'_>, global: &Global) -> Result<(), OutputError> {
    if global.output == Format::Json {
        return output::json(report);
    }
    output::text_line(&fields(report))?;
    output::advice(&next(report), global)
}

fn fields(report: &CreateReport<'_>) -> String {
    let counts = match &report.not_listed_because {
        None => "yes: it is on another disk, and reading it back gave what was written".to_owned(),
        Some(reason) => format!("not yet: {reason}"),
    };
    output::fields(&[
        ("backup", report.file.display().to_string()),
        ("keyring", format!("{}, generation {}, {}", report.uuid, report.generation, counted(report.keys, "key"))),
        ("opens with", format!("the identity of {}", report.recipients.join(", or of "))),
        ("counts", counts),
        ("expect", report.expect.clone()),
    ])
}

fn next(report: &CreateReport<'_>) -> String {
    const KEEP: &str = "keep the line `expect` apart from the backup: `backup restore` asks for it";
    let next = match report.not_listed_because {
        None => {
            format!("test from time to time that its identity opens it: claviger backup check {}", quoted(report.file))
        }
        Some(_) if report.can_be_checked => {
            format!("test that it opens, so that it counts: claviger backup check {}", quoted(report.file))
        }
        // The error that follows says what to repair first.
        Some(_) => return format!("\nnext:  {KEEP}"),
    };
    format!("\nnext:  {next}\n       {KEEP}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_is_suggested_only_if_it_can_list_the_backup() {
        let report = |why: Option<&str>, can_be_checked| CreateReport {
            format: "",
            file: Path::new("/media/my usb/a.age"),
            uuid: String::new(),
            generation: 1,
            recipients: &[],
            keys: 1,
            expect: String::new(),
            listed: why.is_none(),
            not_listed_because: why.map(ToOwned::to_owned),
            can_be_checked,
        };
        let keep = "keep the line `expect` apart from the backup: `backup restore` asks for it";
        let check = "test that it opens, so that it counts: claviger backup check '/media/my usb/a.age'";
        let same_disk = next(&report(Some("it is on the state directory's disk"), true));
        assert_eq!(same_disk, format!("\nnext:  {check}\n       {keep}"));
        let no_ledger = next(&report(Some("the ledger has mode 0644"), false));
        assert_eq!(no_ledger, format!("\nnext:  {keep}"));
        let listed = next(&report(None, false));
        let check = "test from time to time that its identity opens it: claviger backup check '/media/my usb/a.age'";
        assert_eq!(listed, format!("\nnext:  {check}\n       {keep}"));
    }
}
