//! Merges backups into an existing keyring.

use std::path::PathBuf;

use super::{
    super::{
        super::{
            Global, Site,
            failure::{Exit, Failure, warn},
            needed, output,
        },
        file::{beside, refuse_inside, served},
    },
    args::RestoreArgs,
    merge_report::{BackupEvidence, Shown, print_merge, print_nothing_to_do},
    sources::{Opening, sources},
};
use crate::{
    config::Config,
    keeper::{self, FreshBackup, PreviewMergeError, Source},
    keyring::{merge::Wishes, time::Time},
};

/// Shows the merge of the given backups into the keyring of `site`, and carries it out if the operator has accepted it.
///
/// # Errors
/// When a backup does not open, the merge is refused, or a file cannot be written.
pub(super) fn run(
    args: RestoreArgs,
    snapshot: Option<PathBuf>,
    site: &Site,
    config: &Config,
    global: &Global,
) -> Result<Exit, Failure> {
    let RestoreArgs { files, identity, expect, compromised, accept, keep_destroyed, lost, backup_to, .. } = args;
    let Opening { sources, backup, recipients } = sources(site, &files, &identity, expect.as_ref(), global)?;
    let wishes = Wishes { keep_destroyed, lost, compromised };
    let planned = keeper::preview_merge(&site.dir, &site.means, &sources, &wishes, Time::new(jiff::Timestamp::now()));
    let planned = planned.map_err(|error| refused(error, sources.iter().zip(&files), config))?;
    let Some(plan) = planned else {
        print_nothing_to_do(&site.config.state_dir, &site.open()?, global)?;
        return Ok(Exit::Done);
    };
    let to = backup_to.or_else(|| backup.map(|backup| beside(&backup, plan.generation)));
    let to = to.filter(|_| plan.fresh.is_some());
    if let Some(file) = &to {
        refuse_inside(file, &site.config.state_dir)?;
    }
    let scanned = needed::keys(config, snapshot.clone(), global);
    let plan = match &scanned {
        Ok(Some(scanned)) => plan.listing(scanned),
        Ok(None) | Err(_) => plan,
    };
    #[cfg(feature = "scan")]
    if let (Some(full), Some(file)) = (&plan.unlisted, &snapshot) {
        warn_of_unlisted(full, file, global);
    }
    let needed = scanned.map(|scanned| scanned.map(|scanned| scanned.keys));
    let has_values = matches!(needed, Ok(Some(_)));
    let compared = BackupEvidence { has_expect: expect.is_some(), has_values, snapshot };
    let shown = Shown::of(&plan, needed, to.clone(), &compared);
    if !accept {
        print_merge(&site.config.state_dir, &shown, None, global)?;
        return Ok(Exit::Found);
    }
    let fresh = to.map(|file| FreshBackup { file, recipients });
    let opened = plan.carry_out(&site.dir, &site.means, fresh.as_ref())?;
    Ok(output::end_change(print_merge(&site.config.state_dir, &shown, Some(&opened), global), global))
}

/// Warns that the ledger will not list the snapshot `file`, and names the commands that list it later.
#[cfg(feature = "scan")]
fn warn_of_unlisted(full: &crate::keyring::ledger::LedgerFull, file: &std::path::Path, global: &Global) {
    let snapshot = super::super::super::given::quoted(file);
    let hint = format!(
        "after the merge, make room, and list it: claviger backup forget ID; claviger backup check --snapshot {snapshot}"
    );
    let message = format!(
        "{full}, so it will not list this snapshot, and `key destroy` will not keep the keys that the snapshot needs"
    );
    warn(&message, &hint, global);
}

/// Returns the failure of a merge. If the backup belongs to another keyring, a running plugin may serve that one.
fn refused<'a>(
    error: PreviewMergeError,
    sources: impl Iterator<Item = (&'a Source, &'a PathBuf)>,
    config: &Config,
) -> Failure {
    let is_other = matches!(error, PreviewMergeError::OtherKeyring(_));
    let others = sources.filter(|_| is_other);
    others.fold(Failure::from(error), |failure, (source, file)| served(failure, &source.keyring, file, config))
}
