//! `claviger recovery split`: splits a recovery identity into shares.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    path::{Path, PathBuf},
};

use rand::rngs::SysRng;
use serde::Serialize;
use zeroize::Zeroizing;

use crate::{
    durable::{check_export, export},
    escrow::{Identities, Recipient, Share},
};

use super::{
    Format, Global,
    failure::{Exit, Failure},
    given::quoted,
    identities::{IdentityArgs, Purpose},
    output::{self, OutputError},
    tables::all_of,
};

#[derive(Serialize)]
struct SplitReport {
    format: &'static str,
    set: String,
    recipient: String,
    threshold: u8,
    shares: Vec<PathBuf>,
    /// The sets whose shares were in the directory before.
    earlier_sets: Vec<String>,
}

/// Runs `claviger recovery split`.
///
/// # Errors
/// When there is not one identity, the counts make no sense, or a file cannot be written.
pub(super) fn run(
    identity: &IdentityArgs,
    (threshold, count): (u8, u8),
    directory: &Path,
    global: &Global,
) -> Result<Exit, Failure> {
    let identities = identity.read(Purpose::Open)?;
    let split = identities.split(&mut SysRng, threshold, count);
    let (shares, recipient) = split?;
    prove(&shares, threshold, &recipient)?;
    let set = shares.first().map(Share::set).unwrap_or_default();
    let others = earlier_sets(directory);
    let path = |share: &Share| directory.join(format!("{PREFIX}{set}-{}-of-{count}.txt", share.number()));
    let paths: Vec<PathBuf> = shares.iter().map(path).collect();
    let failed = |error| Failure::export(&error);
    paths.iter().try_for_each(|path| check_export(path)).map_err(failed)?;
    for (share, path) in shares.iter().zip(&paths) {
        let text = text(share, threshold, count, &recipient);
        export(path, text.as_bytes()).map_err(failed).map_err(|failure| {
            failure.about("not all shares were written; remove those that were, because their set is incomplete")
        })?;
    }
    let report = SplitReport {
        format: "claviger/recovery-split/v1",
        set,
        recipient: recipient.to_string(),
        threshold,
        shares: paths,
        earlier_sets: others,
    };
    let hint = format!("the shares are in {}", directory.display());
    Ok(output::end(print(&report, global), &hint, global))
}

/// Returns the names of the sets that have shares in the directory.
fn earlier_sets(directory: &Path) -> Vec<String> {
    let names = directory.read_dir().into_iter().flatten().flatten().map(|entry| entry.file_name());
    let set = |name: OsString| Some(name.to_str()?.strip_prefix(PREFIX)?.split_once('-')?.0.to_owned());
    let sets: BTreeSet<String> = names.filter_map(set).collect();
    sets.into_iter().collect()
}

/// The prefix of the file name of a share.
const PREFIX: &str = "claviger-share-";

/// Proves that the shares work: parses each share from its text, and combines them.
fn prove(shares: &[Share], threshold: u8, recipient: &Recipient) -> Result<(), Failure> {
    for first in 0..shares.len() {
        let mut lines = Zeroizing::new(String::with_capacity(shares.len() * 256));
        for share in shares.iter().cycle().skip(first).take(threshold.into()) {
            lines.push_str(&share.line());
            lines.push('\n');
        }
        let again = Identities::parse(&lines)?;
        if !again.are_of(recipient) {
            return Err(Failure::new(Exit::Refused, &"the shares do not restore the identity", None));
        }
    }
    Ok(())
}

/// Returns the text of the file of a share, which can also be printed on paper.
fn text(share: &Share, threshold: u8, count: u8, recipient: &Recipient) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(1024));
    let number = share.number();
    let lines = [
        format!("# claviger: share {number} of {count}, set {}\n", share.set()),
        format!("# any {threshold} of them restore the identity of {recipient}\n"),
    ];
    for line in &lines {
        text.push_str(line);
    }
    text.push_str(&share.line());
    text.push('\n');
    text
}

fn print(report: &SplitReport, global: &Global) -> Result<(), OutputError> {
    if global.output == Format::Json {
        return output::json(report);
    }
    let SplitReport { set, recipient, threshold, shares, .. } = report;
    output::text_line(&output::fields(&[
        ("set", format!("{set}: {} shares, any {threshold} of them are enough", shares.len())),
        ("identity", format!("of {recipient}")),
    ]))?;
    for path in shares {
        output::text_line(&path.display().to_string())?;
    }
    if let Some(line) = beside(&report.earlier_sets) {
        output::text_line(&line)?;
    }
    output::advice(&next(shares, *threshold), global)
}

/// Returns the note about the sets whose shares were in the directory before.
fn beside(sets: &[String]) -> Option<String> {
    (!sets.is_empty()).then(|| {
        format!(
            "\n! the directory already has shares of the set {}, which stay as they are and still work: shares of two sets are never \
             combined, so give each person shares of one set, and destroy the set that you do not use",
            all_of(sets)
        )
    })
}

fn next(shares: &[PathBuf], threshold: u8) -> String {
    let flags = shares.iter().take(threshold.into());
    let flags: Vec<String> = flags.map(|path| format!("--recovery-identity {}", quoted(path))).collect();
    let flags = flags.join(" ");
    format!(
        "\nnext:  print or write down each share, and give each one to a different person\n       \
         when a keyring has this recipient, test there that the shares open it: claviger recovery test {flags}\n       \
         then destroy the files, and the identity itself"
    )
}
