//! The paths of backup files: refuses a path inside of the state directory, and chooses one for the backup of a new
//! key.

use std::{
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use super::super::{
    failure::{Exit, Failure},
    live::PluginSearch,
    probe::find_plugin,
};
use crate::{config::Config, keeper, keyring::Keyring};

/// Returns the failure of a command that expected `keyring`, which the backup `file` holds, and found another keyring.
/// If a plugin serves the keyring of the backup, the hint says so, because then the directory is the wrong one.
pub(super) fn served(failure: Failure, keyring: &Keyring, file: &Path, config: &Config) -> Failure {
    let search = find_plugin(config).ok();
    let plugin = search.as_ref().and_then(PluginSearch::plugin);
    match plugin.and_then(|plugin| plugin.wrong_directory(keyring, file, &config.state_dir)) {
        Some(hint) => failure.with_hint(&hint),
        None => failure,
    }
}

/// Refuses to write a backup into the state directory, because both would be lost together. Links are followed.
pub(super) fn refuse_inside(file: &Path, state_dir: &Path) -> Result<(), Failure> {
    let identity = |path: &Path| path.metadata().ok().map(|found| (found.dev(), found.ino()));
    // If the file does not exist yet, its directory counts. Links and names of descriptors are followed to the file.
    let real = file.canonicalize().or_else(|_| absolute(file)).unwrap_or_else(|_| file.to_owned());
    let here = identity(state_dir);
    let is_inside = here.is_some() && real.ancestors().skip(1).any(|above| identity(above) == here);
    let own = keeper::RECORD_FILES.map(|name| identity(&state_dir.join(name)));
    let is_own = identity(file).is_some_and(|file| own.contains(&Some(file)));
    if is_inside || is_own {
        let message = format!("{} is in the state directory, and lost with it", file.display());
        return Err(Failure::new(Exit::Refused, &message, "keep backups on another disk".to_owned()));
    }
    Ok(())
}

fn absolute(file: &Path) -> io::Result<PathBuf> {
    let parent = file.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."));
    Ok(parent.canonicalize()?.join(file.file_name().unwrap_or_default()))
}

/// Returns an unused path in the directory of `backup`, for the backup of `generation`, which has a new key.
pub(super) fn beside(backup: &Path, generation: u64) -> PathBuf {
    let stem = backup.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let name = |number: u32| match number {
        1 => format!("{stem}-restored-{generation}.age"),
        _ => format!("{stem}-restored-{generation}-{number}.age"),
    };
    let is_free = |file: &PathBuf| file.symlink_metadata().is_err();
    let free = (1..1000).map(|number| backup.with_file_name(name(number))).find(is_free);
    free.unwrap_or_else(|| backup.with_file_name(name(1)))
}
