//! The findings of `claviger status`: each fault that needs attention, with its hint.

use std::{os::unix::fs::MetadataExt, path::Path};

use super::{
    super::{
        backup_file::create_command,
        failure::no_backup_counts,
        given::quoted,
        live::{ServesFrom, only_in_memory, restart},
        tables::all_of,
    },
    disk::{DiskError, next},
    missing::missing_keys,
};
use crate::{
    config::{Backups, Config, DEFAULT_STATE_DIR},
    durable::{DurableError, LifeLock, SERVING},
    hardening::LayerState,
    keeper::Opened,
    keyring::{Key, ledger::ListedBackup, mark::Standing, state::State},
    probe::{ProbeAnswer, ProbeError},
    service::SelfReport,
};

/// Returns the findings about the disk, about the plugin, and about the two together.
pub(super) fn findings(
    config: &Config,
    disk: Result<&Opened, &DiskError>,
    answer: &Result<ProbeAnswer, ProbeError>,
) -> Vec<String> {
    // The findings that forbid a restart come first.
    let mut findings = match disk {
        Ok(opened) => together(config, opened, answer),
        Err(error) => served_without_disk(config, error, answer),
    };
    if let Ok(ProbeAnswer { report: Some(report), uid, .. }) = answer {
        findings.extend(missing_keys(report, disk.ok()));
        findings.extend(plugin_findings((report, *uid), disk.ok(), &config.state_dir));
    }
    findings.extend(disk.into_iter().flat_map(|opened| keyring_findings(opened, answer, config)));
    findings
}

/// Returns the findings about the keyring on the disk: its mark, a rotation that is due, compromised keys, and its
/// backups.
fn keyring_findings(opened: &Opened, answer: &Result<ProbeAnswer, ProbeError>, config: &Config) -> Vec<String> {
    let report = answer.as_ref().ok().and_then(|answer| answer.report.as_ref());
    let next = || next_start(opened, answer, config);
    let mark = match opened.standing {
        Some(Standing::Current) => None,
        Some(Standing::Ahead) => {
            Some(format!("the mark is older than the keyring; a plugin advances it when it starts: {}", next()))
        }
        None if report.is_some_and(|report| is_served_here(report, opened, &config.state_dir)) => Some(format!(
            "this node has no mark, but its plugin serves this very keyring, so nothing newer is known here; a plugin makes the mark when \
             it starts: {}",
            next()
        )),
        None if let Some(newer) = report.and_then(|report| newer(report, opened)) => Some(format!(
            "this node has no mark, and the plugin serves generation {newer} of this keyring, which is newer than generation {} here; a \
             plugin makes the mark when it starts, and would trust the older keyring then: {}",
            opened.keyring.generation(),
            next()
        )),
        None => Some(format!(
            "this node has no mark, so nothing here says whether the keyring is the newest: compare the line `expect` with the last one \
             that you wrote down; a plugin makes the mark when it starts, and trusts the keyring as it is then: {}",
            next()
        )),
    };
    let rotation = opened.wants_rotation().then(|| rotation(opened, report, &config.state_dir));
    let exposed = exposed(opened);
    let ledger = match opened.newest_backup() {
        Err(error) => vec![no_backup_counts(error, &opened.keyring.uuid().to_hex())],
        Ok(_) if config.backups == Backups::None => Vec::new(),
        Ok(_) => unbacked(opened),
    };
    [mark, rotation, exposed].into_iter().flatten().chain(ledger).collect()
}

/// Returns the command that makes a plugin read the keyring here. If a plugin may hold the last copy of a key in
/// memory, the command does not start it again.
fn next_start(opened: &Opened, answer: &Result<ProbeAnswer, ProbeError>, config: &Config) -> &'static str {
    let is_usual = config.state_dir == Path::new(DEFAULT_STATE_DIR);
    match answer {
        Err(ProbeError::Absent | ProbeError::Refused) if !matches!(is_served(config), Ok(false)) => AFTER_OTHERS,
        Err(ProbeError::Absent | ProbeError::Refused) if is_usual => "systemctl start claviger, or claviger serve",
        Err(ProbeError::Absent | ProbeError::Refused) => "claviger serve",
        Err(_) => AFTER_OTHERS,
        Ok(ProbeAnswer { report: None, .. }) => {
            "run this command as root or as the user of the plugin, to see whether it may be restarted"
        }
        Ok(ProbeAnswer { report: Some(report), .. }) => {
            let is_whole = report.degraded.is_none()
                && serves_same(report, opened)
                && !lacks(report, opened)
                && newer(report, opened).is_none();
            match ServesFrom::of(report, &config.state_dir) {
                ServesFrom::Elsewhere(_) => AFTER_OTHERS,
                _ if !is_whole => AFTER_OTHERS,
                _ => restart(&config.state_dir),
            }
        }
    }
}

/// The advice to start the plugin later, because starting it now could lose a key.
const AFTER_OTHERS: &str = "do that after the other findings are solved, and not before";

/// Whether a plugin serves this very generation of the keyring, which it read from here.
fn is_served_here(report: &SelfReport, opened: &Opened, state_dir: &Path) -> bool {
    let is_here = matches!(ServesFrom::of(report, state_dir), ServesFrom::Here);
    is_here && serves_same(report, opened) && report.generation == opened.keyring.generation()
}

/// Returns the generation that a plugin serves from here, if it is newer than that of the keyring here. The keyring was
/// then rolled back.
fn newer(report: &SelfReport, opened: &Opened) -> Option<u64> {
    Some(report.generation).filter(|served| serves_same(report, opened) && *served > opened.keyring.generation())
}

/// Returns the finding that asks for a rotation after a restore or a merge. If a key is missing, it asks for a merge
/// first, which ends with the same finding.
fn rotation(opened: &Opened, report: Option<&SelfReport>, state_dir: &Path) -> String {
    let rotate = if cfg!(feature = "reencrypt") {
        "`claviger rotate --backup-dir DIR`"
    } else {
        "`claviger key add`, `claviger backup create FILE`, `claviger key promote KEY`, and write every Secret once"
    };
    let why = "the keyring was restored or merged";
    if report.is_some_and(|report| matches!(ServesFrom::of(report, state_dir), ServesFrom::Elsewhere(_))) {
        return format!("{why}: after the plugin serves from here, rotate to a new key");
    }
    if report.is_some_and(|report| lacks(report, opened)) {
        return format!(
            "{why}, and a key is missing: add no key yet; first find the backup that holds the missing \
             key: claviger backup check FILE shows the keys of one; after it is merged, rotate to a new key: {rotate}"
        );
    }
    format!("{why}: rotate to a new key: {rotate}")
}

/// Whether values need a key that the keyring here lacks, or the plugin serves such a key.
fn lacks(report: &SelfReport, opened: &Opened) -> bool {
    !report.missing.is_empty() || (serves_same(report, opened) && !only_in_memory(report, &opened.keyring).is_empty())
}

/// Returns the finding that names the compromised keys that still decrypt.
fn exposed(opened: &Opened) -> Option<String> {
    let exposed = opened.keyring.keys().filter(|key| key.is_compromised() && key.state().unwraps()).map(Key::id);
    let exposed: Vec<String> = exposed.map(|key_id| key_id.to_string()).collect();
    let first = exposed.first()?;
    Some(format!(
        "others may know {}. Anyone who knows a key that still decrypts can put values into etcd. After a rotation, disable it: \
         claviger key disable {first}",
        all_of(&exposed)
    ))
}

fn serves_same(report: &SelfReport, opened: &Opened) -> bool {
    report.keyring.as_ref().is_some_and(|uuid| *uuid == opened.keyring.uuid().to_hex())
}

/// Returns the findings that name the keys in use that no listed backup holds.
fn unbacked(opened: &Opened) -> Vec<String> {
    let unbacked = opened.unbacked();
    let is_used = |key: &&Key| matches!(key.state(), State::Primary | State::DecryptOnly);
    let used = opened.keyring.keys().filter(is_used).filter(|key| unbacked.contains(&key.id()));
    // A key that a restore or a merge took over as pending may have been promoted elsewhere.
    let (primary, never): (Vec<&Key>, Vec<&Key>) = used.partition(|key| key.promoted().is_some());
    let why = |keys: Vec<&Key>, why: &str| {
        let names: Vec<String> = keys.iter().map(|key| key.id().to_string()).collect();
        (!names.is_empty()).then(|| {
            format!(
                "no listed backup holds {}{why}; write one to another disk: {}; or open one that has it: claviger backup check FILE; if you \
                 keep no backups on purpose, say so once: `backups = \"none\"` in the configuration file",
                all_of(&names),
                create_command(&opened.keyring)
            )
        })
    };
    let primary = why(primary, ": if this disk is lost, so is every Secret under it");
    let never = match never.len() {
        1 => why(
            never,
            ", which was never primary in this keyring: nothing is under it, unless it was promoted elsewhere",
        ),
        _ => why(
            never,
            ", which were never primary in this keyring: nothing is under them, unless they were promoted elsewhere",
        ),
    };
    primary.into_iter().chain(never).collect()
}

/// Returns the findings about the plugin's answer, and about its difference from the keyring on the disk.
fn together(config: &Config, opened: &Opened, answer: &Result<ProbeAnswer, ProbeError>) -> Vec<String> {
    let answer = match answer {
        Err(error @ (ProbeError::Absent | ProbeError::Refused)) => return vec![unheard(error, config)],
        Err(error) => return vec![unanswered(error, config)],
        Ok(answer) => answer,
    };
    let mut findings = Vec::new();
    if !answer.is_well() {
        findings.push(format!("the plugin is not healthy: {}{SEE_LOG}", answer.healthz));
    }
    let primary = opened.keyring.primary().id().to_string();
    let differs = (answer.key_id != primary)
        .then(|| format!("the plugin announces {}, and {primary} is primary here", answer.key_id));
    match &answer.report {
        None => findings.extend(
            differs.map(|differs| format!("{differs}: it has another state directory, or refused the changed keyring; to see which, run this command as root or as \
                 the user of the plugin")),
        ),
        Some(report) => findings.extend(compared(report, opened, &config.state_dir, differs)),
    }
    findings
}

/// Compares the plugin's report with the keyring on the disk. `differs` is the finding that another key is primary.
fn compared(report: &SelfReport, opened: &Opened, state_dir: &Path, differs: Option<String>) -> Vec<String> {
    let serves_from = ServesFrom::of(report, state_dir);
    if let Some(other) = report.keyring.as_ref().filter(|uuid| **uuid != opened.keyring.uuid().to_hex()) {
        return vec![another_keyring(other, &serves_from, state_dir)];
    }
    let lacking = only_in_memory(report, &opened.keyring);
    let dir = state_dir.display();
    let has_all = |rest: &str| match lacking.as_slice() {
        [] => format!("; the keyring here has every key that it serves{rest}"),
        _ => String::new(),
    };
    let place = match &serves_from {
        ServesFrom::BeforeHere => Some(format!(
            "the plugin serves what it read before the state directory {dir} was replaced{}",
            has_all(&format!(": {}", taken_up_by_restart(state_dir)))
        )),
        ServesFrom::Elsewhere(path) => {
            Some(format!("the plugin serves from {}, and not from {dir}{}", path.display(), has_all("")))
        }
        ServesFrom::Here | ServesFrom::Unknown if report.no_successor => {
            Some(format!("{}{}", not_followed(report), has_all(&taken_up(opened, state_dir))))
        }
        ServesFrom::Here | ServesFrom::Unknown => {
            differs.map(|differs| format!("{differs}: it did not take the changed keyring up{SEE_LOG}"))
        }
    };
    place.into_iter().chain(not_on_disk(&lacking, opened)).collect()
}

/// Returns the finding that the plugin refuses the keyring in its own directory, because it does not follow from the
/// served one.
fn not_followed(report: &SelfReport) -> String {
    let reason = report.degraded.as_deref().unwrap_or_default();
    format!(
        "the plugin is degraded: it serves generation {} from memory, and the keyring here does not follow from that one: {reason}",
        report.generation
    )
}

/// Returns the command that makes the plugin serve a keyring that it does not follow.
fn taken_up(opened: &Opened, state_dir: &Path) -> String {
    let restart = taken_up_by_restart(state_dir);
    if opened.wants_rotation() {
        return format!(": {restart}");
    }
    format!(
        "; if this is an older copy, put the newest copies of the files back into {}, which the plugin takes up by itself; if there \
         are none, {restart}",
        state_dir.display()
    )
}

fn taken_up_by_restart(state_dir: &Path) -> String {
    format!("a restart takes it up: {}", restart(state_dir))
}

/// Whether some plugin serves from the state directory.
fn is_served(config: &Config) -> Result<bool, DurableError> {
    LifeLock::is_held(&config.state_dir)
}

/// Returns the reason why nobody answers at the socket. A plugin may serve from the state directory at another socket.
fn unheard(error: &ProbeError, config: &Config) -> String {
    match is_served(config) {
        Ok(true) => elsewhere(config),
        Ok(false) => silent(error, &config.state_dir),
        Err(unknown) => {
            format!("the plugin does not answer: {error}; whether one serves at another socket is not known: {unknown}")
        }
    }
}

/// Returns the finding that somebody listens at the socket and gives no answer. If a plugin serves from the state
/// directory, it may be another program.
fn unanswered(error: &ProbeError, config: &Config) -> String {
    let silent = silent(error, &config.state_dir);
    match (error, is_served(config)) {
        (ProbeError::Timeout(_) | ProbeError::Closed(_) | ProbeError::Impostor(_), Ok(true)) => format!(
            "{silent}; a plugin serves from this state directory: if another program listens at {} (to see which: ss -xlp), give the \
             plugin's own socket, which its log line `listening` names: --socket SOCKET",
            config.socket
        ),
        _ => silent,
    }
}

/// Whether a plugin serves from the state directory, and nobody listens at the socket that the command asks. Then the
/// plugin has another socket.
pub(super) fn is_elsewhere(config: &Config, answer: &Result<ProbeAnswer, ProbeError>) -> bool {
    matches!(answer, Err(ProbeError::Absent | ProbeError::Refused)) && matches!(is_served(config), Ok(true))
}

fn elsewhere(config: &Config) -> String {
    format!(
        "a plugin serves from this state directory, and not at {}: give its socket, which its log line `listening` names: \
         --socket SOCKET",
        config.socket
    )
}

/// The hint for a plugin that does not answer.
const SEE_LOG: &str = "; its log says why, for a unit: journalctl -u claviger";

/// Returns the finding that the plugin does not answer, with the reason and a hint.
fn silent(error: &ProbeError, state_dir: &Path) -> String {
    match error {
        ProbeError::Status(..) => format!("{error}{SEE_LOG}"),
        ProbeError::Absent | ProbeError::Refused => {
            // The unit serves from the usual directory, and its journal is about the plugin of that directory.
            let (start, look) = if state_dir == Path::new(DEFAULT_STATE_DIR) {
                ("systemctl start claviger, or claviger serve".to_owned(), SEE_LOG)
            } else {
                (format!("claviger serve --state-dir {}", quoted(state_dir)), "; its log says why")
            };
            format!("the plugin does not answer: {error}; to start it: {start}{look}")
        }
        ProbeError::Denied => {
            format!("the plugin does not answer: {error}; run this command as root or as the user of the plugin")
        }
        ProbeError::Impostor(_) => {
            format!("the plugin does not answer: {error}; to see which program that is: ss -xlp")
        }
        _ => format!("the plugin does not answer: {error}{SEE_LOG}"),
    }
}

fn another_keyring(uuid: &str, serves_from: &ServesFrom, state_dir: &Path) -> String {
    let dir = state_dir.display();
    match serves_from {
        ServesFrom::Elsewhere(path) => {
            let path = quoted(path);
            format!(
                "the plugin serves keyring {uuid} from {path}, and not the keyring here: claviger status --state-dir {path}"
            )
        }
        ServesFrom::Here | ServesFrom::BeforeHere | ServesFrom::Unknown => format!(
            "the plugin serves keyring {uuid} from memory, and {dir} holds another keyring, which does not read what is encrypted: \
             do not stop or restart the plugin; move {dir} away, and restore a backup of keyring {uuid}: claviger backup restore FILE"
        ),
    }
}

/// Returns the warning that a restart would lose keys. Names a listed backup that has all of these keys.
fn not_on_disk(lacking: &[String], opened: &Opened) -> Option<String> {
    let has = |backup: &ListedBackup, key: &String| backup.keys().iter().any(|held| held.to_string() == *key);
    let backups = opened.backups().unwrap_or_default().iter().rev();
    let file = backups.filter(|backup| lacking.iter().all(|key| has(backup, key))).find_map(ListedBackup::file);
    let merge = match file {
        Some(file) => format!("merge the listed backup that has it: claviger backup restore {}", quoted(file)),
        None => "merge a backup that has it (`claviger backup check FILE` shows the keys of one): claviger backup restore FILE"
            .to_owned(),
    };
    (!lacking.is_empty()).then(|| {
        format!(
            "the keyring here lacks {}, which the plugin serves: do not stop or restart the plugin before the keyring here has every \
             key; {merge}",
            all_of(lacking)
        )
    })
}

/// Returns the findings if the plugin answers and the keyring on the disk does not open.
fn served_without_disk(config: &Config, error: &DiskError, answer: &Result<ProbeAnswer, ProbeError>) -> Vec<String> {
    let Ok(answer) = answer else { return Vec::new() };
    let dir = config.state_dir.display();
    let until = "do not stop or restart it before the keyring opens here";
    let Some(report) = &answer.report else {
        return vec![format!("the plugin answers, and does not say to this user what it serves: {until}")];
    };
    if let ServesFrom::Elsewhere(path) = ServesFrom::of(report, &config.state_dir) {
        let path = quoted(path);
        return vec![format!("the plugin serves from {path}, and not from {dir}: claviger status --state-dir {path}")];
    }
    let uuid = report.keyring.as_deref().unwrap_or("of unknown uuid");
    let serves = format!(
        "the plugin still serves keyring {uuid}, generation {}, from memory: API servers read and write as before",
        report.generation
    );
    match next(error.loss, &config.state_dir) {
        Some(next) => {
            vec![
                format!("{serves}; do not stop or restart it: it cannot start again from {dir}"),
                format!("next: {next}"),
            ]
        }
        None => vec![format!("{serves}; {until}")],
    }
}

/// Returns the findings in the report of the plugin, which runs as the user `uid`.
fn plugin_findings((report, uid): (&SelfReport, u32), opened: Option<&Opened>, state_dir: &Path) -> Vec<String> {
    let mut findings = Vec::new();
    let is_here = matches!(ServesFrom::of(report, state_dir), ServesFrom::Here | ServesFrom::Unknown);
    // If the keyring here opens, the finding from the comparison with the plugin is more precise.
    let is_compared = report.no_successor && opened.is_some();
    let degraded = report.degraded.as_ref().filter(|_| is_here && !is_compared);
    let has_all = opened.is_some_and(|opened| serves_same(report, opened) && !lacks(report, opened));
    findings.extend(degraded.map(|reason| from_memory(reason, uid, state_dir, has_all)));
    if report.alone == Some(false) {
        findings.push(format!(
            "two plugins serve from this state directory: the replaced one should end within seconds; if it does not, end it: \
             fuser -v {} shows both; kill PID ends the older one",
            quoted(state_dir.join(SERVING))
        ));
    }
    let failed = report.layers.iter().filter(|(_, state)| *state == LayerState::Failed.as_str());
    findings.extend(failed.map(|(layer, _)| format!("the plugin could not protect itself with {layer}{SEE_LOG}")));
    findings
}

/// Returns the finding that a plugin, which runs as the user `uid`, serves from memory, with a hint. If the directory
/// belongs to another user, the hint gives it back to the plugin's user. `has_all` tells whether the keyring there has
/// every key of the plugin.
fn from_memory(reason: &str, uid: u32, state_dir: &Path, has_all: bool) -> String {
    let owner = state_dir.metadata().ok().map(|found| found.uid());
    match owner.filter(|owner| *owner != uid && uid != 0) {
        None => format!(
            "the plugin is degraded: it serves a keyring from memory and would not start again: {reason}; do not restart it \
             before that is solved; then see whether it took the keyring here up by itself, or whether a restart does: claviger status"
        ),
        Some(owner) => format!(
            "the plugin is degraded: it serves a keyring from memory: {reason}; {dir} belongs to uid {owner}, and the plugin runs as \
             uid {uid}: if that is claviger's user, give the directory back to it: chown -R {uid} {dir}; it takes the keyring up by itself then{restart}",
            dir = quoted(state_dir),
            restart = if has_all { "; if the unit has StateDirectory=, a restart gives it back, too" } else { "" }
        ),
    }
}
