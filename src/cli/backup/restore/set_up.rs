//! Restores a backup to an empty state directory.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{
    super::{
        super::{
            Format, Global,
            backup_file::{open, read, whole},
            failure::{Exit, Failure, warn},
            files::absolute,
            given::quoted,
            identities::Purpose,
            live::{LivePlugin, PluginSearch, ServesFrom, restart},
            output::{self, OutputError},
            probe::find_plugin,
            site::check_apart,
            tables::{all_of, counted},
        },
        file::{beside, refuse_inside},
    },
    args::RestoreArgs,
    merge_report::{BackupEvidence, ROTATE, does_not_count},
};
use crate::{
    config::{Config, DEFAULT_STATE_DIR},
    durable::Dir,
    keeper::{self, Expect, FreshBackup, Initialised, RestoreRequest, RestoredKeyring, ScannedNeeds, SetUpError},
    keyring::{Keyring, time::Time},
};

#[derive(Serialize)]
struct RestoreReport<'a> {
    format: &'static str,
    state_dir: &'a Path,
    uuid: String,
    generation: u64,
    keys: usize,
    primary: String,
    expect: String,
    /// The path of the backup of the primary key, if that key is new.
    fresh_backup: Option<&'a Path>,
    /// Keys that values in etcd need, and that stay disabled.
    needed_and_disabled: Vec<&'a str>,
    /// The socket at which a running plugin was looked for.
    plugin_socket: &'a str,
    /// Whether a plugin there reported which keyring it serves.
    plugin_found: bool,
    /// The sentence that says where no plugin was found.
    #[serde(skip)]
    no_plugin: Option<String>,
    /// The command that starts a plugin for the keyring.
    #[serde(skip)]
    start: String,
    /// Keys that a running plugin serves and that the backup lacks. `None` if no plugin serves this keyring.
    only_in_memory: Option<Vec<String>>,
    moved_aside: Option<&'a Path>,
}

/// Restores to an empty directory. `needed` returns the keys that etcd needs, and is called only if they have to be
/// known.
///
/// # Errors
/// When the arguments are for a merge, the backup is refused, or a file cannot be written.
pub(super) fn run(
    args: RestoreArgs,
    config: &Config,
    needed: impl FnOnce() -> Result<Option<ScannedNeeds>, Failure>,
    global: &Global,
) -> Result<Exit, Failure> {
    let [file] = args.files.as_slice() else {
        let hint = "restore the newest one, then merge the others with the same command".to_owned();
        return Err(Failure::new(Exit::Usage, &"several backups were given, and the state directory is empty", hint));
    };
    if args.accept || !args.keep_destroyed.is_empty() || !args.lost.is_empty() {
        let message = format!("{} has no keyring to merge into", config.state_dir.display());
        return Err(Failure::new(Exit::Usage, &message, "omit --accept, --keep-destroyed and --lost".to_owned()));
    }
    let bytes = read(file)?;
    let identities = args.identity.read(Purpose::Open)?;
    let backup = open(file, &bytes, &identities)?;
    let search = look_for_plugin(&backup.keyring, config, global)?;
    let (needed, snapshot) = needed()?.map_or((None, None), |needs| (Some(needs.keys), needs.snapshot));
    let compared = BackupEvidence {
        has_expect: args.expect.is_some(),
        has_values: needed.is_some(),
        snapshot: snapshot.as_ref().map(|snapshot| Path::new(&snapshot.file).to_owned()),
    };
    let to = args.backup_to.unwrap_or_else(|| beside(file, backup.keyring.generation() + 1));
    let fresh = FreshBackup { file: to, recipients: identities.recipients() };
    let plan = RestoreRequest {
        backup,
        file: Some(whole(file)),
        expect: args.expect,
        needed,
        snapshot,
        compromised: args.compromised,
        fresh,
        slot_file: args.slot_file.as_deref().map(absolute).transpose()?,
        now: Time::new(jiff::Timestamp::now()),
    };
    restore(plan, &config.state_dir, &search, &compared, global).map_err(|failure| failure.naming(CHECK, file))
}

/// The command in hints that shows the keys of a backup.
const CHECK: &str = "claviger backup check FILE";

/// Looks for a running plugin, and makes sure that the keyring of the backup does not replace another one.
fn look_for_plugin(keyring: &Keyring, config: &Config, global: &Global) -> Result<PluginSearch, Failure> {
    let search = find_plugin(config)?;
    let risk = "if no plugin serves what you need, end the process that listens there";
    if let Some(plugin) = search.answered().map_err(|error| Failure::from(error).or(risk))?
        && let Some(warning) = plugin.check_restored(keyring, &config.state_dir)?
    {
        warn(&warning, "this is right if another plugin, at another socket, is to serve the restored keyring", global);
    }
    Ok(search)
}

/// Restores the backup to `state_dir`, and prints the report.
fn restore(
    plan: RestoreRequest,
    state_dir: &Path,
    search: &PluginSearch,
    compared: &BackupEvidence,
    global: &Global,
) -> Result<Exit, Failure> {
    check_apart(state_dir)?;
    // The proof is checked before a directory is made.
    plan.check()?;
    let dir = Dir::open_or_create(state_dir).map_err(SetUpError::File)?;
    let slot_file = plan.slot_file.clone();
    let before = plan.backup.keyring.generation();
    refuse_inside(&plan.fresh.file, state_dir)?;
    let restored = keeper::restore(&dir, plan)?;
    let plugin = search.plugin().filter(|plugin| plugin.serves_keyring(&restored.initialised.keyring));
    let report = report(&restored, state_dir, search, plugin);
    let slot = slot_file.unwrap_or_else(|| dir.path_of(&keeper::first_key_file()));
    let uncounted = restored.fresh.as_ref().filter(|(_, counts)| !counts).map(|(file, _)| file.as_path());
    let compared = compared.sentence(plugin.map(|_| format!("the keys of the plugin at {}", search.socket())));
    let printed = match global.output {
        Format::Json => output::json(&report),
        Format::Text => print(&report, &DoneRestore { before, slot: &slot, uncounted, compared }, global)
            .and_then(|()| print_next(&report, plugin, global)),
    };
    Ok(output::end_change(printed, global))
}

/// Returns the report of a restore. `plugin` serves the same keyring.
fn report<'a>(
    restored: &'a RestoredKeyring,
    state_dir: &'a Path,
    search: &'a PluginSearch,
    plugin: Option<&LivePlugin>,
) -> RestoreReport<'a> {
    let RestoredKeyring { initialised: Initialised { keyring, digest, moved_aside }, fresh, disabled } = restored;
    RestoreReport {
        format: "claviger/backup-restore/v1",
        state_dir,
        uuid: keyring.uuid().to_hex(),
        generation: keyring.generation(),
        keys: keyring.keys().count(),
        primary: keyring.primary().id().to_string(),
        expect: Expect::of(keyring, *digest).to_string(),
        fresh_backup: fresh.as_ref().map(|(file, _)| file.as_path()),
        plugin_socket: search.socket(),
        plugin_found: search.plugin().is_some(),
        no_plugin: search.absence(),
        start: search.start(keyring, state_dir),
        only_in_memory: plugin.map(|plugin| plugin.lacking_in(keyring)),
        needed_and_disabled: disabled.iter().map(|key| key.name.as_str()).collect(),
        moved_aside: moved_aside.as_deref(),
    }
}

/// The details of a restore that are shown besides its report.
struct DoneRestore<'a> {
    /// The generation of the backup.
    before: u64,
    /// The path of the slot's key file.
    slot: &'a Path,
    /// The path of the backup of a new key, if that backup does not count.
    uncounted: Option<&'a Path>,
    /// The words for the evidence that the backup was compared with.
    compared: String,
}

/// Prints the report and the details of a restore.
fn print(report: &RestoreReport<'_>, done: &DoneRestore<'_>, global: &Global) -> Result<(), OutputError> {
    if let Some(path) = report.moved_aside {
        output::text_line(&format!("moved the unfinished restore to {}", path.display()))?;
    }
    output::text_line(&output::fields(&fields(report, done)))?;
    if let Some(file) = done.uncounted {
        output::text_line(&global.given.repeat_in(&does_not_count(file)))?;
    }
    for key in &report.needed_and_disabled {
        let line = format!("\n! {key} is disabled, and values in etcd need it: claviger key enable {key}");
        output::text_line(&global.given.repeat_in(&line))?;
    }
    Ok(())
}

/// Prints the next steps. A running plugin may have keys that the backup lacks, so it must not be replaced blindly.
fn print_next(report: &RestoreReport<'_>, plugin: Option<&LivePlugin>, global: &Global) -> Result<(), OutputError> {
    if let Some(keys) = report.only_in_memory.as_deref().filter(|keys| !keys.is_empty()) {
        output::text_line(&global.given.repeat_in(&lacks(keys)))?;
    }
    let next = match plugin {
        Some(plugin) => after(&plugin.serves_from(report.state_dir), report.state_dir),
        // A plugin that serves another keyring keeps its directory.
        None if report.plugin_found => format!("\nnext:  {}\nthen:  {ROTATE}", report.start),
        None => format!(
            "\nnext:  {}\n{}then:  {ROTATE}",
            report.start,
            in_place(report.state_dir, Path::new(DEFAULT_STATE_DIR))
        ),
    };
    output::advice(&next, global)
}

/// Returns the commands that put a restored directory in the place of `usual`, from which the unit serves. If `usual`
/// exists, the commands first move it to a name that is free.
fn in_place(state_dir: &Path, usual: &Path) -> String {
    if state_dir == usual {
        return String::new();
    }
    let (dir, place) = (quoted(state_dir), quoted(usual));
    let is_there = |path: &Path| path.symlink_metadata().is_ok();
    let old = |number: u32| {
        let end = if number == 1 { ".old".to_owned() } else { format!(".old-{number}") };
        PathBuf::from(format!("{}{end}", usual.display()))
    };
    let mut number = 1;
    while is_there(&old(number)) {
        number += 1;
    }
    let aside = if is_there(usual) { format!("mv {place} {} && ", quoted(old(number))) } else { String::new() };
    format!(
        "or:    to serve it as the unit does, in the place of {place}: systemctl stop claviger && {aside}mv {dir} {place} && systemctl \
         start claviger\n"
    )
}

/// Returns the warning about the keys that the plugin serves and that the backup lacks.
fn lacks(keys: &[String]) -> String {
    format!(
        "\n! this backup lacks {}, which the plugin that runs serves: do not stop or restart the plugin before you have merged a backup \
         that has it: claviger backup restore FILE",
        all_of(keys)
    )
}

/// Returns the next steps after the keyring was restored to `state_dir` while a plugin serves it.
fn after(serves_from: &ServesFrom, state_dir: &Path) -> String {
    let dir = quoted(state_dir);
    let compare = format!("compare it with this directory: claviger status --state-dir {dir}");
    match serves_from {
        ServesFrom::Elsewhere(path) => {
            let restart = restart_from(path);
            let path = quoted(path);
            format!(
                "\nnext:  let the plugin run: it serves this keyring, which it read from {path}; {compare}\n\
                 then:  if the keyring in {path} opens and has every key that the plugin serves (claviger status --state-dir {path}), \
                 leave it as it is: two copies must not both be served; otherwise, if every key that the plugin serves is here, put {dir} \
                 in the place of {path}: mv {path} {path}.old, if it is still there; mv {dir} {path}; {restart}"
            )
        }
        ServesFrom::Here | ServesFrom::BeforeHere | ServesFrom::Unknown => format!(
            "\nnext:  let the plugin run: it serves this keyring from memory; {compare}\n\
             then:  if every key that it serves is here: {}",
            restart_from(state_dir)
        ),
    }
}

/// Returns the commands that replace the plugin by one that serves from `state_dir`.
fn restart_from(state_dir: &Path) -> String {
    let serve = format!("claviger serve --state-dir {}", quoted(state_dir));
    restart(state_dir).replace("claviger serve", &serve)
}

fn fields(report: &RestoreReport<'_>, done: &DoneRestore<'_>) -> Vec<(&'static str, String)> {
    let DoneRestore { before, slot, compared, .. } = done;
    let mut fields = vec![
        ("keyring", format!("{} in {}", report.uuid, report.state_dir.display())),
        ("generation", format!("{}, after {before} of the backup; {}", report.generation, counted(report.keys, "key"))),
        ("primary", report.primary.clone()),
        ("compared", compared.clone()),
    ];
    fields.extend(report.fresh_backup.map(|file| ("new key", format!("its backup is {}", file.display()))));
    fields.push(("slot", format!("file, with its key in {}", slot.display())));
    fields.push(("expect", report.expect.clone()));
    fields.extend(report.no_plugin.iter().map(|absence| ("plugin", absence.clone())));
    fields
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_directory_is_moved_away_only_if_it_exists_and_to_a_name_that_is_free() {
        let keep = tempfile::tempdir().unwrap();
        let usual = keep.path().join("claviger");
        let said = || in_place(Path::new("/srv/new"), &usual).replace(&keep.path().display().to_string(), "LIB");
        let begin = "or:    to serve it as the unit does, in the place of LIB/claviger: systemctl stop claviger && ";
        let end = "mv /srv/new LIB/claviger && systemctl start claviger\n";
        assert_eq!(said(), format!("{begin}{end}"));
        fs::create_dir(&usual).unwrap();
        assert_eq!(said(), format!("{begin}mv LIB/claviger LIB/claviger.old && {end}"));
        fs::create_dir(keep.path().join("claviger.old")).unwrap();
        assert_eq!(said(), format!("{begin}mv LIB/claviger LIB/claviger.old-2 && {end}"));
        assert_eq!(in_place(&usual, &usual), "");
    }

    #[test]
    fn the_directory_of_the_plugin_is_left_only_if_it_has_every_key() {
        let text = after(&ServesFrom::Elsewhere("/var/lib/claviger".into()), Path::new("/srv/new"));
        let then = "then:  if the keyring in /var/lib/claviger opens and has every key that the plugin serves (claviger status --state-dir \
                    /var/lib/claviger), leave it as it is";
        assert!(text.contains(then), "{text}");
        assert!(
            text.contains("otherwise, if every key that the plugin serves is here, put /srv/new in the place"),
            "{text}"
        );
    }
}
