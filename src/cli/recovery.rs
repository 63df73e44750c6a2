//! `claviger recovery`: lists, adds and removes the recovery recipients of the keyring.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::Serialize;

use crate::{
    escrow::{NotRecipient, Recipient},
    keeper::{self, LastRecipient},
    keyring::{Keyring, recovery::Recovery},
};

use super::{
    Format, Global, KeyringArgs, Site,
    arguments::named,
    failure::{Exit, Failure},
    identities::{IdentityArgs, Purpose, recipient},
    output::{self, OutputError},
};

/// Manage the recovery recipients, whose identities are kept offline and can recover the root key
///
/// The keyring contains the root key once for each recipient, encrypted. So a copy of the keyring and one identity are
/// enough to restore everything.
#[derive(Args)]
pub(super) struct RecoveryArgs {
    #[command(subcommand)]
    verb: RecoveryVerb,
}

#[derive(Subcommand)]
enum RecoveryVerb {
    /// List the recovery recipients
    #[command(after_help = "\
Example:
  claviger recovery list")]
    List(KeyringArgs),
    /// Add a recipient, whose identity can then recover the root key
    #[command(after_help = "\
Example:
  age-keygen -o recovery-identity.txt    # on a machine that stays offline; prints the recipient
  claviger recovery add age1… --recovery-identity /media/usb/recovery-identity.txt")]
    Add {
        #[command(flatten)]
        one: RecipientArg,
        #[command(flatten)]
        identity: IdentityArgs,
    },
    /// Remove a recipient from the keyring
    ///
    /// This does not revoke anything. Anyone who has the identity and an older copy of the keyring still gets the root
    /// key from it, and the keys in that copy are the same as now.
    #[command(after_help = "\
Example:
  claviger recovery remove age1…")]
    Remove {
        #[command(flatten)]
        one: RecipientArg,
        /// Remove even the last recipient. Then nothing but a slot of this state directory opens the keyring
        #[arg(long)]
        risk_no_recovery: bool,
    },
    /// Split an identity into shares, so that no single person has it
    ///
    /// Any K of the N shares restore the identity, and fewer reveal nothing about it. Each share is one line of text,
    /// which can be printed. Every command that takes --recovery-identity also takes files with shares: give the option
    /// once for each file. Do this on a machine that stays offline, because it sees the identity.
    #[command(after_help = "\
Example:
  claviger recovery split --recovery-identity identity.txt --shares 5 --threshold 3 --directory /media/usb
  claviger recovery test --recovery-identity share-1.txt --recovery-identity share-4.txt --recovery-identity share-5.txt")]
    #[cfg(feature = "shares")]
    Split {
        #[command(flatten)]
        identity: IdentityArgs,
        /// How many shares to make, at most 32
        #[arg(long, value_name = "N")]
        shares: u8,
        /// How many shares are needed to restore the identity, at least 2
        #[arg(long, value_name = "K")]
        threshold: u8,
        /// Directory to write the shares to, one file for each
        #[arg(long, value_name = "DIR", value_parser = named())]
        directory: PathBuf,
    },
    /// Test whether an identity can recover the root key, and for which recipients
    ///
    /// Exits with 1 if it cannot. The identity is read once and is not stored.
    #[command(after_help = "\
Example:
  claviger recovery test --recovery-identity /media/usb/recovery-identity.txt")]
    Test {
        #[command(flatten)]
        identity: IdentityArgs,
        #[command(flatten)]
        keyring: KeyringArgs,
    },
}

/// The arguments of a verb about one recipient.
#[derive(Args)]
struct RecipientArg {
    /// age recipient (age1…)
    #[arg(value_name = "RECIPIENT")]
    recipient: String,
    #[command(flatten)]
    keyring: KeyringArgs,
}

#[derive(Serialize)]
struct RecoveryListReport<'a> {
    format: &'static str,
    uuid: String,
    generation: u64,
    recovery_recipients: Vec<ListedRecipient<'a>>,
}

#[derive(Serialize)]
struct ListedRecipient<'a> {
    recipient: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    opens: Option<bool>,
}

/// Runs `claviger recovery …`.
///
/// # Errors
/// When the keyring does not open, or a change is refused or fails.
pub(super) fn run(args: RecoveryArgs, global: &Global) -> Result<Exit, Failure> {
    match args.verb {
        RecoveryVerb::List(keyring) => list(keyring, global),
        RecoveryVerb::Add { one, identity } => {
            let recipient = recipient(&one.recipient)?;
            let identities = identity.read(Purpose::Accept)?;
            let site = Site::find(one.keyring.settings(), global)?;
            let changed = keeper::add_recovery(&site.dir, &site.means, &recipient, &identities)?;
            Ok(output::end_change(print(&changed, |_| None, global), global))
        }
        RecoveryVerb::Remove { one, risk_no_recovery } => {
            refuse_identity(&one.recipient)?;
            let site = Site::find(one.keyring.settings(), global)?;
            let last = if risk_no_recovery { LastRecipient::MayGo } else { LastRecipient::Kept };
            let changed = keeper::remove_recovery(&site.dir, &site.means, &one.recipient, last)?;
            Ok(output::end_change(print(&changed, |_| None, global), global))
        }
        RecoveryVerb::Test { identity, keyring } => test(keyring, &identity, global),
        #[cfg(feature = "shares")]
        RecoveryVerb::Split { identity, shares, threshold, directory } => {
            super::split::run(&identity, (threshold, shares), &directory, global)
        }
    }
}

/// Refuses an identity in the place of a recipient, before an error can repeat it.
fn refuse_identity(recipient: &str) -> Result<(), NotRecipient> {
    match recipient.parse::<Recipient>() {
        Err(error @ NotRecipient::Identity) => Err(error),
        _ => Ok(()),
    }
}

fn list(keyring: KeyringArgs, global: &Global) -> Result<Exit, Failure> {
    let keyring = Site::find(keyring.settings(), global)?.open()?.keyring;
    print(&keyring, |_| None, global)?;
    Ok(Exit::Done)
}

fn test(keyring: KeyringArgs, identity: &IdentityArgs, global: &Global) -> Result<Exit, Failure> {
    let opened = Site::find(keyring.settings(), global)?.open()?;
    let identities = identity.read(Purpose::Open)?;
    let opens = |recovery: &Recovery| opened.recovers(recovery, &identities);
    print(&opened.keyring, |recovery| Some(opens(recovery)), global)?;
    Ok(if opened.keyring.recoveries().iter().any(opens) { Exit::Done } else { Exit::Found })
}

fn print(keyring: &Keyring, opens: impl Fn(&Recovery) -> Option<bool>, global: &Global) -> Result<(), OutputError> {
    let row = |recovery| ListedRecipient { recipient: Recovery::recipient(recovery), opens: opens(recovery) };
    let recipients: Vec<ListedRecipient<'_>> = keyring.recoveries().iter().map(row).collect();
    if global.output == Format::Json {
        return output::json(&RecoveryListReport {
            format: "claviger/recovery-list/v1",
            uuid: keyring.uuid().to_hex(),
            generation: keyring.generation(),
            recovery_recipients: recipients,
        });
    }
    if recipients.is_empty() {
        return output::text_line(
            "no recovery recipient: nothing but a slot of the state directory opens this keyring",
        );
    }
    for ListedRecipient { recipient, opens } in recipients {
        let opens = match opens {
            Some(true) => "   opens",
            Some(false) => "   does not open with this identity",
            None => "",
        };
        output::text_line(&format!("{recipient}{opens}"))?;
    }
    Ok(())
}
