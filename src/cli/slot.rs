//! `claviger slot`

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use rand::rngs::SysRng;
use serde::Serialize;

use crate::{
    crypto::stretch::Cost,
    keeper::{self, SlotAct, SlotSummary, SlotsChanged},
    root::{CredentialSlot, FileSlot, Means, PassphraseSlot, RootError, Sealer, is_name},
};

use super::{
    Format, Global, KeyringArgs, Site,
    arguments::Expected,
    failure::{Exit, Failure},
    files::absolute,
    output, passphrase,
};

/// How the root key is sealed: any one slot opens the keyring
///
/// A slot is a way to the root key: a key file, a passphrase, a systemd credential. The root file holds the root key once for
/// each, encrypted. Keep one that opens by itself, so that a restart needs nobody.
#[derive(Args)]
pub(super) struct SlotArgs {
    #[command(subcommand)]
    verb: SlotVerb,
}

#[derive(Subcommand)]
enum SlotVerb {
    /// List the slots, also if none of them opens
    #[command(after_help = "\
Example:
  claviger slot list")]
    List(super::StateDir),
    Add(AddArgs),
    /// Remove a slot; the last one is not, and neither is one without which nothing opens here
    ///
    /// This revokes nothing from whoever has an older copy of the root file and the slot's secret: that root key opens the
    /// keyring. `claviger rekey` makes another root key, and new keys make what was under the old ones worthless only once
    /// every Secret has been written again.
    #[command(after_help = "\
Example:
  claviger slot remove file")]
    Remove {
        /// The slot
        name: String,
        #[command(flatten)]
        keyring: KeyringArgs,
    },
    /// Open each slot by itself, or one, and say which of them open
    ///
    /// Ends with 1 if one does not.
    #[command(after_help = "\
Examples:
  claviger slot test
  claviger slot test passphrase --passphrase-file /media/usb/passphrase")]
    Test {
        /// The slot; all of them without it
        name: Option<String>,
        #[command(flatten)]
        keyring: KeyringArgs,
    },
}

/// Seal the root key in one more slot
#[derive(Args)]
struct AddArgs {
    #[command(subcommand)]
    kind: AddKind,
}

#[derive(Subcommand)]
enum AddKind {
    /// 32 random bytes in a file of their own
    ///
    /// Whoever has that file and the root file has the keys. Another disk is better.
    #[command(after_help = "\
Example:
  claviger slot add file --name usb --slot-file /media/usb/claviger.key")]
    File {
        /// Where the key file goes [default: slot-NAME.key in the state directory]
        #[arg(long, value_name = "FILE")]
        slot_file: Option<PathBuf>,
        #[command(flatten)]
        slot: NewSlot,
    },
    /// A passphrase, stretched by Argon2id
    ///
    /// The daemon needs it at each start, by --passphrase-file or typed. It is asked for on a terminal, twice.
    #[command(after_help = "\
Examples:
  claviger slot add passphrase
  pwgen -s 30 1 | claviger slot add passphrase --name escrow --new-passphrase-file -")]
    Passphrase {
        /// The file with the new passphrase, or - for standard input; asked for on a terminal without it
        #[arg(long, value_name = "FILE")]
        new_passphrase_file: Option<PathBuf>,
        #[command(flatten)]
        cost: CostArgs,
        #[command(flatten)]
        slot: NewSlot,
    },
    /// A systemd credential, which systemd decrypts for the unit alone: by the TPM, by the host's key, or from a file
    #[command(after_help = "\
Example:
  cd /etc/credstore.encrypted
  head -c 32 /dev/urandom | systemd-creds encrypt --name=claviger-root - claviger-root
  systemd-creds decrypt claviger-root - | claviger slot add credential --credential-file -
  mkdir -p /etc/systemd/system/claviger.service.d
  cd /etc/systemd/system/claviger.service.d
  claviger generate systemd-credential > credential.conf
  systemctl daemon-reload && systemctl restart claviger")]
    Credential {
        /// The credential's name
        #[arg(long, value_name = "NAME", default_value = super::generate::CREDENTIAL)]
        credential: String,
        /// The file with its bytes, or - for standard input; from where systemd puts it without this
        #[arg(long, value_name = "FILE")]
        credential_file: Option<PathBuf>,
        #[command(flatten)]
        slot: NewSlot,
    },
}

/// What every new slot has.
#[derive(Args)]
struct NewSlot {
    /// Its name, 1 to 32 of a-z, 0-9 and '-' [default: its kind]
    #[arg(long, value_parser = slot_name)]
    name: Option<String>,
    #[command(flatten)]
    keyring: KeyringArgs,
}

/// What a guess costs.
#[derive(Args)]
struct CostArgs {
    /// Lanes of Argon2id, at most 8
    #[arg(long, value_name = "N", default_value_t = Cost::default().parts()[0])]
    lanes: u32,
    /// Its memory in KiB, at most 1048576
    #[arg(long, value_name = "KIB", default_value_t = Cost::default().parts()[1])]
    memory: u32,
    /// Its passes, at most 10
    #[arg(long, value_name = "N", default_value_t = Cost::default().parts()[2])]
    passes: u32,
}

fn slot_name(text: &str) -> Result<String, Expected> {
    if is_name(text) { Ok(text.to_owned()) } else { Err(Expected("1 to 32 of a-z, 0-9 and '-'")) }
}

#[derive(Serialize)]
struct Report {
    format: &'static str,
    slots: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    name: String,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    opens: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// Runs `claviger slot …`.
///
/// # Errors
/// When the keyring does not open, or a change is refused or fails.
pub(super) fn run(args: SlotArgs, global: &Global) -> Result<Exit, Failure> {
    match args.verb {
        SlotVerb::List(state_dir) => list(state_dir.settings(), global),
        SlotVerb::Add(AddArgs { kind }) => add(kind, global),
        SlotVerb::Remove { name, keyring } => remove(&name, keyring, global),
        SlotVerb::Test { name, keyring } => test(name.as_deref(), keyring, global),
    }
}

fn list(settings: crate::config::Settings, global: &Global) -> Result<Exit, Failure> {
    let site = Site::find(settings, global)?;
    let slots = keeper::slots(&site.dir).map_err(|error| site.failure(&error))?;
    print(slots.iter().map(row).collect(), global)?;
    Ok(Exit::Done)
}

fn add(kind: AddKind, global: &Global) -> Result<Exit, Failure> {
    let (slot, sealer): (NewSlot, Box<dyn Sealer>) = match kind {
        AddKind::File { slot_file, slot } => {
            let path = slot_file.as_deref().map(absolute).transpose()?;
            let file = FileSlot::generate(&mut SysRng, path).map_err(|error| Failure::memory(&error))?;
            (slot, Box::new(file))
        }
        AddKind::Passphrase { new_passphrase_file, cost: CostArgs { lanes, memory, passes }, slot } => {
            let cost = Cost::new(lanes, memory, passes).ok_or_else(|| {
                let limits = "at most 8 lanes, 1048576 KiB and 10 passes, and at least 8 KiB a lane";
                Failure::new(Exit::Usage, &"Argon2id does not go with this cost", limits.to_owned())
            })?;
            let passphrase = passphrase::choose(new_passphrase_file.as_deref())?.into();
            (slot, Box::new(PassphraseSlot { passphrase, cost }))
        }
        AddKind::Credential { credential, credential_file, slot } => {
            (slot, Box::new(read_credential(&credential, credential_file.as_deref())?))
        }
    };
    let name = slot.name.unwrap_or_else(|| sealer.kind().as_str().to_owned());
    let site = Site::find(slot.keyring.settings(), global)?;
    let changed = change(&site, &SlotAct::Add(name.clone(), sealer))?;
    report(&changed, &format!("slot {name} is added: it opens the keyring by itself"), global)?;
    next(&format!("next: claviger slot test {name}, and copy the root file to where its copies are"), global)
}

fn read_credential(name: &str, file: Option<&Path>) -> Result<CredentialSlot, Failure> {
    let path = match file {
        Some(path) if path == Path::new("-") => PathBuf::from("/dev/stdin"),
        Some(path) => path.to_owned(),
        None => {
            let directory = Means::credentials_directory().ok_or_else(|| {
                let message = format!("no credential {name}: this process was not started with it");
                Failure::new(Exit::Refused, &message, "give its bytes with --credential-file FILE".to_owned())
            })?;
            directory.join(name)
        }
    };
    CredentialSlot::read(name, &path).map_err(|error| Failure::slot(&error))
}

fn remove(name: &str, keyring: KeyringArgs, global: &Global) -> Result<Exit, Failure> {
    let site = Site::find(keyring.settings(), global)?;
    let changed = change(&site, &SlotAct::Remove(name.to_owned()))?;
    report(&changed, &format!("slot {name} is removed"), global)?;
    if let Some(path) = &changed.left {
        next(&format!("its key file is where it was, and opens nothing any more: {}", path.display()), global)?;
    }
    next(
        "older copies of the root file still open with it; to make them worthless: claviger rekey, then new keys",
        global,
    )
}

fn change(site: &Site, act: &SlotAct) -> Result<SlotsChanged, Failure> {
    keeper::change_slots(&site.dir, &site.means, act).map_err(|error| Failure::change(&error, &site.config.state_dir))
}

fn test(name: Option<&str>, keyring: KeyringArgs, global: &Global) -> Result<Exit, Failure> {
    let site = Site::find(keyring.settings(), global)?;
    let tested = keeper::test_slots(&site.dir, &site.means, name).map_err(|error| site.failure(&error))?;
    let all_open = tested.iter().all(|(_, outcome)| outcome.is_ok());
    let tested = tested.iter().map(|(slot, outcome)| Row {
        opens: Some(outcome.is_ok()),
        reason: outcome.as_ref().err().map(reason),
        ..row(slot)
    });
    print(tested.collect(), global)?;
    Ok(if all_open { Exit::Done } else { Exit::Found })
}

/// Without the slot's name, which stands beside it.
fn reason(error: &RootError) -> String {
    match error {
        RootError::NoSlotOpens(reasons) => reasons.iter().map(|(_, error)| error.to_string()).collect(),
        error => error.to_string(),
    }
}

fn row(slot: &SlotSummary) -> Row {
    Row { name: slot.name.clone(), kind: slot.kind.as_str(), opens: None, reason: None }
}

fn report(changed: &SlotsChanged, message: &str, global: &Global) -> Result<(), Failure> {
    match global.output {
        Format::Json => print(changed.slots.iter().map(row).collect(), global),
        Format::Text => output::text_line(message),
    }
}

fn next(line: &str, global: &Global) -> Result<Exit, Failure> {
    if global.output == Format::Text && !global.quiet {
        output::text_line(line)?;
    }
    Ok(Exit::Done)
}

fn print(slots: Vec<Row>, global: &Global) -> Result<(), Failure> {
    if global.output == Format::Json {
        return output::json(&Report { format: "claviger/slot-list/v1", slots });
    }
    let is_test = slots.iter().any(|slot| slot.opens.is_some());
    let cells = |slot: Row| {
        let mut cells = vec![slot.name, slot.kind.to_owned()];
        if is_test {
            cells.push(slot.reason.map_or_else(|| "yes".to_owned(), |reason| format!("no: {reason}")));
        }
        cells
    };
    let head: &[&str] = if is_test { &["SLOT", "KIND", "OPENS"] } else { &["SLOT", "KIND"] };
    output::text_line(&output::table(head, slots.into_iter().map(cells)))
}
