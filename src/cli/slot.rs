//! `claviger slot`: lists, adds, removes and tests the slots of the root file.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use rand::rngs::SysRng;
use serde::Serialize;

use crate::{
    crypto::stretch::Cost,
    durable::DurableError,
    keeper::{self, LeftKeyFile, ROOT, SlotSummary, SlotsChanged},
    root::{CredentialSlot, FileSlot, Means, PassphraseSlot, RootError, Sealer, SlotError, is_name},
};

use super::{
    Format, Global, KeyringArgs, Site,
    arguments::{CREDENTIAL, Expected, named},
    failure::{Exit, Explain, Failure, unreadable},
    files::absolute,
    given::quoted,
    output::{self, OutputError},
    passphrase,
};

/// Manage the slots, each of which can open the keyring
///
/// A slot seals the root key with a key file, a passphrase or a systemd credential. The root file contains the root key
/// once for each slot, encrypted. Keep at least one slot that opens without a person, so that the plugin can restart by
/// itself.
#[derive(Args)]
pub(super) struct SlotArgs {
    #[command(subcommand)]
    verb: SlotVerb,
}

#[derive(Subcommand)]
enum SlotVerb {
    /// List the slots. This works even if none of them opens
    #[command(after_help = "\
Example:
  claviger slot list")]
    List(super::StateDir),
    Add(AddArgs),
    /// Remove a slot, unless it is the last one or the only one that opens here
    ///
    /// This does not revoke anything. Anyone who has an older copy of the root file and the slot's secret still gets
    /// the root key, which opens the keyring. To revoke access, run `claviger rekey`, rotate to a new key, and
    /// re-encrypt what is under the old one.
    #[command(after_help = "\
Example:
  claviger slot remove file")]
    Remove {
        /// Name of the slot
        name: String,
        #[command(flatten)]
        keyring: KeyringArgs,
    },
    /// Try to open each slot by itself, or only one, and show which of them open
    ///
    /// Exits with 1 if one does not open.
    #[command(after_help = "\
Examples:
  claviger slot test
  claviger slot test passphrase --passphrase-file /media/usb/passphrase")]
    Test {
        /// Name of the slot [default: all]
        name: Option<String>,
        #[command(flatten)]
        keyring: KeyringArgs,
    },
}

/// Add a slot
#[derive(Args)]
struct AddArgs {
    #[command(subcommand)]
    kind: AddKind,
}

#[derive(Subcommand)]
enum AddKind {
    /// Add a slot that is opened by a key file of 32 random bytes
    ///
    /// Anyone who has the key file and the root file has the keys. So the key file is better on another disk.
    #[command(after_help = "\
Example:
  claviger slot add file --name usb --slot-file /media/usb/claviger.key")]
    File {
        /// Where to write the key file [default: slot-NAME.key in the state directory]
        #[arg(long, value_name = "FILE", value_parser = named())]
        slot_file: Option<PathBuf>,
        #[command(flatten)]
        slot: NewSlot,
    },
    /// Add a slot that is opened by a passphrase, stretched by Argon2id
    ///
    /// If no other slot opens, the plugin needs the passphrase at each start: from --passphrase-file, or typed on the
    /// terminal.
    #[command(after_help = "\
Examples:
  claviger slot add passphrase
  pwgen -s 30 1 | claviger slot add passphrase --name escrow --new-passphrase-file -")]
    Passphrase {
        /// File with the new passphrase, or - for standard input [default: ask twice on the terminal]
        #[arg(long, value_name = "FILE")]
        new_passphrase_file: Option<PathBuf>,
        #[command(flatten)]
        cost: CostArgs,
        #[command(flatten)]
        slot: NewSlot,
    },
    /// Add a slot that is opened by a systemd credential, which systemd gives to the unit alone: decrypted with the TPM
    /// or the host's key, or from a plain file
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
        /// Name of the credential
        #[arg(long, value_name = "NAME", default_value = CREDENTIAL)]
        credential: String,
        /// File with the credential's bytes, or - for standard input [default: the credential that systemd gave this
        /// process]
        #[arg(long, value_name = "FILE")]
        credential_file: Option<PathBuf>,
        #[command(flatten)]
        slot: NewSlot,
    },
}

/// The flags of every new slot.
#[derive(Args)]
struct NewSlot {
    /// Name of the slot, 1 to 32 of a-z, 0-9 and '-' [default: its kind]
    #[arg(long, value_parser = slot_name)]
    name: Option<String>,
    #[command(flatten)]
    keyring: KeyringArgs,
}

/// The flags for the cost of Argon2id, which an attacker pays for each guess.
#[derive(Args)]
struct CostArgs {
    /// Parallel lanes of Argon2id, at most 8
    #[arg(long, value_name = "N", default_value_t = Cost::default().lanes())]
    lanes: u32,
    /// Memory of Argon2id in KiB, at most 1048576
    #[arg(long, value_name = "KIB", default_value_t = Cost::default().memory())]
    memory: u32,
    /// Passes of Argon2id over its memory, at most 10
    #[arg(long, value_name = "N", default_value_t = Cost::default().passes())]
    passes: u32,
}

fn slot_name(text: &str) -> Result<String, Expected> {
    if is_name(text) { Ok(text.to_owned()) } else { Err(Expected("1 to 32 of a-z, 0-9 and '-'")) }
}

#[derive(Serialize)]
struct SlotListReport {
    format: &'static str,
    slots: Vec<SlotRow>,
}

#[derive(Serialize)]
struct SlotRow {
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
    let slots = keeper::slots(&site.dir)?;
    print(slots.iter().map(row).collect(), global)?;
    Ok(Exit::Done)
}

/// Makes a slot of the kind `kind`, and adds it to the root file.
fn add(kind: AddKind, global: &Global) -> Result<Exit, Failure> {
    let (slot, sealer): (NewSlot, Box<dyn Sealer>) = match kind {
        AddKind::File { slot_file, slot } => {
            let path = slot_file.as_deref().map(absolute).transpose()?;
            let file = FileSlot::generate(&mut SysRng, path)?;
            (slot, Box::new(file))
        }
        AddKind::Passphrase { new_passphrase_file, cost: CostArgs { lanes, memory, passes }, slot } => {
            let cost = Cost::new(lanes, memory, passes).ok_or_else(|| {
                let limits = "give at most 8 lanes, 1048576 KiB and 10 passes, and at least 8 KiB for each lane";
                Failure::new(Exit::Usage, &"Argon2id does not accept this cost", limits.to_owned())
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
    let changed = keeper::add_slot(&site.dir, &site.means, &name, &*sealer)?;
    let root = quoted(site.dir.path_of(ROOT));
    let next = format!(
        "next: claviger slot test {name}\nthen: if you keep a copy of this directory, copy {root} to it: the older copy lacks the slot"
    );
    let printed = report(&changed, &format!("slot {name} is added, and can open the keyring"), &[next], global);
    Ok(output::end_change(printed, global))
}

/// Reads a credential from `file`, or else from the directory in which systemd puts it.
fn read_credential(name: &str, file: Option<&Path>) -> Result<CredentialSlot, Failure> {
    let path = match file {
        Some(path) if path == Path::new("-") => PathBuf::from("/dev/stdin"),
        Some(path) => path.to_owned(),
        None => {
            let directory = Means::credentials_directory().ok_or_else(|| {
                let message = format!("systemd did not give this process a credential {name}");
                Failure::new(Exit::Refused, &message, "give its bytes with --credential-file FILE".to_owned())
            })?;
            directory.join(name)
        }
    };
    CredentialSlot::read(name, &path).map_err(|error| {
        let hint = match (file, &error) {
            (Some(file), SlotError::Credential { source, .. }) => unreadable(file, source),
            _ => None,
        };
        Failure::from(error).with_any_hint(hint)
    })
}

fn remove(name: &str, keyring: KeyringArgs, global: &Global) -> Result<Exit, Failure> {
    let site = Site::find(keyring.settings(), global)?;
    let changed = keeper::remove_slot(&site.dir, &site.means, name)?;
    let left = changed.left.as_ref().map(|left| match left {
        LeftKeyFile::Elsewhere(path) => format!("its key file still exists: {}", path.display()),
        LeftKeyFile::NotRemoved(error) => format!("its key file, which opens nothing any more, still exists: {error}"),
    });
    let revoke =
        "older copies of the root file still open with it; to revoke that: claviger rekey, then rotate to a new key";
    let advice: Vec<String> = left.into_iter().chain([revoke.to_owned()]).collect();
    let printed = report(&changed, &format!("slot {name} is removed"), &advice, global);
    Ok(output::end_change(printed, global))
}

fn test(name: Option<&str>, keyring: KeyringArgs, global: &Global) -> Result<Exit, Failure> {
    let site = Site::find(keyring.settings(), global)?;
    let tested = keeper::test_slots(&site.dir, &site.means, name)?;
    let all_open = tested.iter().all(|(_, outcome)| outcome.is_ok());
    let mends: Vec<String> =
        tested.iter().filter_map(|(slot, outcome)| mend(outcome.as_ref().err()?, &slot.name)).collect();
    let tested = tested.iter().map(|(slot, outcome)| SlotRow {
        opens: Some(outcome.is_ok()),
        reason: outcome.as_ref().err().map(reason),
        ..row(slot)
    });
    print(tested.collect(), global)?;
    mends.iter().try_for_each(|mend| output::advice(&format!("hint:  {mend}"), global))?;
    Ok(if all_open { Exit::Done } else { Exit::Found })
}

/// Returns what repairs the slot `name`: the file with its secret is missing, or has the wrong mode or owner.
fn mend(error: &RootError, name: &str) -> Option<String> {
    let RootError::NoSlotOpens(reasons) = error else { return None };
    reasons.iter().find_map(|(_, error)| match error {
        SlotError::File(DurableError::Missing(path)) => Some(format!(
            "put {} back, if you keep a copy of it; if it is lost, and another slot opens: claviger slot remove {name}",
            quoted(path)
        )),
        SlotError::File(error) => Some(error.explain()).filter(|explanation| explanation.exit == Exit::Refused)?.hint,
        SlotError::Passphrase(_) => error.explain().hint,
        _ => None,
    })
}

/// Returns the reason without the name of the slot, because the table shows the name already.
fn reason(error: &RootError) -> String {
    match error {
        RootError::NoSlotOpens(reasons) => reasons.iter().map(|(_, error)| error.to_string()).collect(),
        error => error.to_string(),
    }
}

fn row(slot: &SlotSummary) -> SlotRow {
    SlotRow { name: slot.name.clone(), kind: slot.kind.as_str(), opens: None, reason: None }
}

fn report(changed: &SlotsChanged, message: &str, advice: &[String], global: &Global) -> Result<(), OutputError> {
    match global.output {
        Format::Json => print(changed.slots.iter().map(row).collect(), global)?,
        Format::Text => output::text_line(message)?,
    }
    advice.iter().try_for_each(|line| output::advice(line, global))
}

fn print(slots: Vec<SlotRow>, global: &Global) -> Result<(), OutputError> {
    if global.output == Format::Json {
        return output::json(&SlotListReport { format: "claviger/slot-list/v1", slots });
    }
    let is_test = slots.iter().any(|slot| slot.opens.is_some());
    let cells = |slot: SlotRow| {
        let mut cells = vec![slot.name, slot.kind.to_owned()];
        if is_test {
            cells.push(slot.reason.map_or_else(|| "yes".to_owned(), |reason| format!("no: {reason}")));
        }
        cells
    };
    let head: &[&str] = if is_test { &["SLOT", "KIND", "OPENS"] } else { &["SLOT", "KIND"] };
    output::text_line(&output::table(head, slots.into_iter().map(cells)))
}
