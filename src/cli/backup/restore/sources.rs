//! Opens the backups and the copies of keyrings that are merged.

use std::{
    error::Error,
    path::{Path, PathBuf},
};

use super::super::super::{
    Global, Site,
    backup_file::{open, read, whole},
    failure::{Exit, Failure, warn},
    identities::{IdentityArgs, Purpose},
};
use crate::{
    escrow::{Identities, Recipient},
    keeper::{Expect, OpenError, Source},
    keyring::record::{self, RecordError},
};

/// The identities and files that opened the backups so far.
pub(super) struct Opening {
    pub(super) sources: Vec<Source>,
    /// The path of the first file that an identity opened.
    pub(super) backup: Option<PathBuf>,
    /// The recipients of the given identities.
    pub(super) recipients: Vec<Recipient>,
}

/// Opens each file with the root keys that are here. If none fits, asks for an identity, once.
pub(super) fn sources(
    site: &Site,
    files: &[PathBuf],
    identity: &IdentityArgs,
    expect: Option<&Expect>,
    global: &Global,
) -> Result<Opening, Failure> {
    let mut known: Option<Identities> = None;
    let (mut sources, mut first) = (Vec::new(), None);
    for file in files {
        let bytes = read(file)?;
        let mut source = if let Some(source) = by_root(site, &bytes, file, global) {
            source
        } else {
            let identities = known.take().map_or_else(|| identity.read(Purpose::Open), Ok)?;
            let backup = open(file, &bytes, &identities)?;
            known = Some(identities);
            first = first.or(Some(file.clone()));
            Source::of_backup(&backup, whole(file))
        };
        if let Some(expect) = expect {
            // A successor counts only if it is under a root key that is known here. The merge checks that.
            let checked = expect.check(&source.keyring, source.digest);
            checked.map_err(|error| {
                let hint = "restore the backup that this line `expect` was printed for; to merge others, omit --expect";
                Failure::new(Exit::Refused, &format!("backup {}: {error}", file.display()), hint.to_owned())
            })?;
            source.is_named = expect.is(&source.keyring, source.digest);
        }
        sources.push(source);
    }
    let recipients = known.as_ref().map(Identities::recipients).unwrap_or_default();
    Ok(Opening { sources, backup: first, recipients })
}

/// Opens a bare record with a root key that is here. Returns `None` if only an identity can open the file. Prints the
/// reason, unless the file is a backup or is under a root key that is not here.
fn by_root(site: &Site, bytes: &[u8], file: &Path, global: &Global) -> Option<Source> {
    record::root_id(bytes).ok()?;
    match Source::known(&site.dir, &site.means, bytes) {
        Ok(source) => return Some(source),
        Err(
            OpenError::NotInitialised(_)
            | OpenError::MissingRoot(_)
            | OpenError::MissingRecord(_)
            | OpenError::Record { source: RecordError::Origin(_), .. },
        ) => {}
        Err(OpenError::Record { source, .. }) => needs_identity(file, &source, global),
        Err(error) => needs_identity(file, &error, global),
    }
    None
}

fn needs_identity(file: &Path, error: &dyn Error, global: &Global) {
    let message = format!("the root key here does not open {}: {error}", file.display());
    warn(&message, "a recovery identity may open it: --recovery-identity FILE", global);
}
