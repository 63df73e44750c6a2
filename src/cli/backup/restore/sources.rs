//! Opens the backups and the copies of keyrings that are merged.

use std::path::PathBuf;

use super::super::{
    super::{
        Site,
        backup_file::{open, read},
        failure::{Exit, Failure},
        identities::{IdentityArgs, Purpose},
    },
    file::whole,
};
use crate::{
    escrow::{Identities, Recipient},
    keeper::{Expect, Source},
    keyring::record,
};

/// What was opened.
pub(super) struct Opening {
    pub(super) sources: Vec<Source>,
    /// The first file that an identity opened.
    pub(super) backup: Option<PathBuf>,
    /// The recipients of the identities that were given.
    pub(super) recipients: Vec<Recipient>,
}

/// Opens each file by the root keys that are here, or else by an identity, which is asked for once.
pub(super) fn sources(
    site: &Site,
    files: &[PathBuf],
    identity: &IdentityArgs,
    expect: Option<&Expect>,
) -> Result<Opening, Failure> {
    let mut known: Option<Identities> = None;
    let (mut sources, mut first) = (Vec::new(), None);
    for file in files {
        let bytes = read(file)?;
        let by_root = record::root_id(&bytes).ok().and_then(|_| Source::known(&site.dir, &site.means, &bytes).ok());
        let mut source = if let Some(source) = by_root {
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
