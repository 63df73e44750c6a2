//! `claviger recovery split`

use std::path::{Path, PathBuf};

use rand::rngs::SysRng;
use serde::Serialize;
use zeroize::Zeroizing;

use crate::{
    durable::{check_export, export},
    escrow::{Identities, Recipient, Share},
    hardening,
};

use super::{
    Format, Global,
    failure::{Exit, Failure},
    identities::IdentityArgs,
    output,
};

#[derive(Serialize)]
struct Report {
    format: &'static str,
    set: String,
    recipient: String,
    threshold: u8,
    shares: Vec<PathBuf>,
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
    hardening::forbid_dumps().map_err(|error| Failure::hardening(&error))?;
    let identities = identity.read()?;
    let split = identities.split(&mut SysRng, threshold, count);
    let (shares, recipient) = split.map_err(|error| Failure::identity(&error.into()))?;
    prove(&shares, threshold, &recipient)?;
    let set = shares.first().map(Share::set).unwrap_or_default();
    let path = |share: &Share| directory.join(format!("claviger-share-{set}-{}-of-{count}.txt", share.number()));
    let paths: Vec<PathBuf> = shares.iter().map(path).collect();
    let failed = |error| Failure::export(&error);
    paths.iter().try_for_each(|path| check_export(path)).map_err(failed)?;
    for (share, path) in shares.iter().zip(&paths) {
        let text = text(share, threshold, count, &recipient);
        export(path, text.as_bytes()).map_err(failed).map_err(|failure| {
            failure.about("not all shares are written; those that are belong to no whole set: remove them")
        })?;
    }
    print(
        &Report {
            format: "claviger/recovery-split/v1",
            set,
            recipient: recipient.to_string(),
            threshold,
            shares: paths,
        },
        global,
    )?;
    Ok(Exit::Done)
}

/// Shares that were never put together again are none: each of them is, as it will be read.
fn prove(shares: &[Share], threshold: u8, recipient: &Recipient) -> Result<(), Failure> {
    for first in 0..shares.len() {
        let mut lines = Zeroizing::new(String::with_capacity(shares.len() * 256));
        for share in shares.iter().cycle().skip(first).take(threshold.into()) {
            lines.push_str(&share.line());
            lines.push('\n');
        }
        let again = Identities::parse(&lines).map_err(|error| Failure::identity(&error))?;
        if !again.are_of(recipient) {
            return Err(Failure::new(Exit::Refused, &"the shares do not give the identity back", None));
        }
    }
    Ok(())
}

/// A share as a file, or as a page in an envelope.
fn text(share: &Share, threshold: u8, count: u8, recipient: &Recipient) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(1024));
    let number = share.number();
    let lines = [
        format!("# claviger: share {number} of {count}, set {}\n", share.set()),
        format!("# any {threshold} of them give the identity of {recipient} back\n"),
    ];
    for line in &lines {
        text.push_str(line);
    }
    text.push_str(&share.line());
    text.push('\n');
    text
}

fn print(report: &Report, global: &Global) -> Result<(), Failure> {
    if global.output == Format::Json {
        return output::json(report);
    }
    let Report { set, recipient, threshold, shares, .. } = report;
    output::text_line(&output::fields(&[
        ("set", format!("{set}: {} shares, any {threshold} of them suffice", shares.len())),
        ("identity", format!("of {recipient}")),
    ]))?;
    for path in shares {
        output::text_line(&path.display().to_string())?;
    }
    if global.quiet {
        return Ok(());
    }
    output::text_line(
        "\nnext:  print each or write it down, and give each to another person\n       try them: claviger recovery test \
         --recovery-identity FILE, once for each share\n       then destroy the files, and the identity itself",
    )
}
