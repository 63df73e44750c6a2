//! `claviger backup check --snapshot`: can this snapshot of etcd be restored with these keys?

mod answer;
mod text;

use std::path::{Path, PathBuf};

use super::{
    super::{
        Format, Global,
        at_hand::{AtHand, GivenBackups, KeyringOrigin, StateDirUse},
        backup_file::whole,
        failure::{Exit, Failure},
        needed, output,
        tables::terminal_width,
    },
    check_args::CheckArgs,
    listing::not_listed,
};
use crate::{
    config::Settings,
    crypto::Digest,
    keeper::{self, ListBackupError},
    keyring::{listed_snapshot::ListedSnapshot, time::Time},
    scan::needs::SnapshotNeeds,
    text::hex_array,
};

use self::answer::{SnapshotAnswer, needed_of};

/// Reads the snapshot, and says which of its objects the given keys open.
///
/// # Errors
/// When a keyring does not open, or the snapshot cannot be read at all.
pub(super) fn run(args: CheckArgs, global: &Global) -> Result<Exit, Failure> {
    let CheckArgs { backups, snapshot, identity, socket, keyring } = args;
    let is_named = keyring.has_state_dir();
    let settings = Settings { socket: socket.socket, etcd_prefix: snapshot.etcd_prefix, ..keyring.settings() };
    let file: PathBuf = snapshot.snapshot.unwrap_or_default();
    let instead = "give a backup: claviger backup check FILE";
    let given = GivenBackups { files: backups, identity, is_named, state_dir: StateDirUse::IfThere, instead };
    let config = global.config(settings)?;
    let prefix = needed::snapshot_prefix(&config)?;
    let at_hand = given.open(config, global)?;
    let needs = needed::in_snapshot(&file, &prefix, global)?;
    let answer = SnapshotAnswer::of(&needs, &at_hand.held, &file);
    let Some(listed) = list(&needs, &at_hand, &file) else {
        // An operator who has destroyed the keys of a snapshot should not read that they are kept.
        let answer = if at_hand.site.is_some() { answer.with_destroyed() } else { answer };
        print(&answer, global)?;
        return Ok(answer.exit());
    };
    // The answer is right, whether or not the snapshot is listed, so it is printed in any case.
    let answer = answer.with_listed(&listed);
    let printed = print(&answer, global);
    listed.map_err(|error| not_listed(error, "the snapshot was read"))?;
    printed?;
    Ok(answer.exit())
}

/// Lists the snapshot in the ledger of the keyring here. Returns `None` if the snapshot needs no key of that keyring.
fn list(needs: &SnapshotNeeds, at_hand: &AtHand, file: &Path) -> Option<Result<(), ListBackupError>> {
    let site = at_hand.site.as_ref()?;
    let here = at_hand.held.iter().find(|held| matches!(held.origin, KeyringOrigin::StateDir(_)))?;
    let keys = needed_of(needs, &at_hand.held, here.keyring.uuid());
    let digest = needs.source.digest.as_ref()?;
    let sha256 = hex_array(&digest.sha256).map(Digest)?;
    if keys.is_empty() {
        return None;
    }
    let now = Time::new(jiff::Timestamp::now());
    let snapshot = ListedSnapshot::new(sha256, needs.source.revision, now, Some(whole(file)), keys);
    Some(keeper::list_snapshot(&site.dir, &site.means, snapshot).map(drop))
}

fn print(answer: &SnapshotAnswer, global: &Global) -> Result<(), Failure> {
    if global.output == Format::Json {
        return Ok(output::json(answer)?);
    }
    output::headline(&text::headline(answer), answer.exit() == Exit::Done)?;
    output::text_line(&text::body(answer, terminal_width()))?;
    let hints: Vec<String> = text::hints(answer).iter().map(|hint| format!("hint:  {hint}")).collect();
    if !hints.is_empty() {
        output::advice(&format!("\n{}", hints.join("\n")), global)?;
    }
    Ok(())
}
