//! `claviger key add`: makes a pending key.

use crate::{
    cli::{
        Global, KeyringArgs, Site, Socket,
        failure::{Exit, Failure, ledger_hint, warn},
        given::quoted,
        live::{PluginSearch, ServesFrom},
        probe::{SERVES_ELSEWHERE, find_plugin},
        rotation::warn_of_rotation,
        tables::all_of,
    },
    config::{Backups, Config, Settings},
    durable::LifeLock,
    keeper,
    keyring::{Keyring, time::Time},
};

use super::change::report_change;

/// Makes a pending key, and warns if keys of the keyring are missing here.
pub(super) fn add(keyring: KeyringArgs, Socket { socket }: Socket, global: &Global) -> Result<Exit, Failure> {
    let site = Site::find(Settings { socket, ..keyring.settings() }, global)?;
    let search = find_plugin(&site.config)?;
    let opened = site.open()?;
    let missing = search.plugin().map(|plugin| plugin.missing_in(&opened.keyring)).unwrap_or_default();
    let now = Time::new(jiff::Timestamp::now());
    let changed = keeper::add_key(&site.dir, &site.means, &missing, now)?;
    match opened.newest_backup() {
        Err(error) if site.config.backups != Backups::None => {
            report_change(&changed, Some(FIX_LEDGER), global);
            let hint = ledger_hint(error, &opened.keyring.uuid().to_hex()).unwrap_or_default();
            warn(&format!("no backup counts, so the key cannot be promoted yet: {error}"), &hint, global);
        }
        _ => report_change(&changed, Some(ADDED), global),
    }
    warn_of_plugin(&search, &opened.keyring, &site.config, global);
    warn_of_rotation(&site, &opened, global);
    if !missing.is_empty() {
        let missing: Vec<String> = missing.iter().map(ToString::to_string).collect();
        let message =
            format!("the keyring here lacks {}, which the plugin serves or stored values need", all_of(&missing));
        warn(
            &message,
            "before you promote the new key, merge a backup that has it: claviger backup restore FILE; `claviger status` says whether a \
             listed one does",
            global,
        );
    }
    Ok(Exit::Done)
}

/// Warns if no plugin that was found takes up the new key.
fn warn_of_plugin(search: &PluginSearch, keyring: &Keyring, config: &Config, global: &Global) {
    let dir = &config.state_dir;
    let (why, next) = match search {
        PluginSearch::Absent { socket, reason } => {
            let why = format!("none answers at {socket}: {reason}");
            let start = || {
                format!(
                    "a plugin reads the key when it starts; if one runs at another socket, give that to later commands: --socket \
                     SOCKET; if none runs, start it: {}",
                    search.start(keyring, dir)
                )
            };
            match LifeLock::is_held(dir) {
                Ok(true) => (why, SERVES_ELSEWHERE.to_owned()),
                Ok(false) => (why, start()),
                Err(error) => (format!("{why}; whether one serves at another socket is not known: {error}"), start()),
            }
        }
        PluginSearch::Found(plugin) => match plugin.serves_from(dir) {
            ServesFrom::Elsewhere(path) => (
                format!(
                    "the one at {} serves from {}, and not from {}",
                    search.socket(),
                    path.display(),
                    dir.display()
                ),
                format!("if you meant the keyring that it serves: --state-dir {}", quoted(path)),
            ),
            ServesFrom::Here | ServesFrom::BeforeHere | ServesFrom::Unknown => return,
        },
        PluginSearch::Unanswered { socket, error } => {
            (format!("the one at {socket} does not answer: {error}"), "see how it is: claviger status".to_owned())
        }
        PluginSearch::Silent { .. } => return,
    };
    warn(&format!("no plugin is known to take the new key up: {why}"), &next, global);
}

/// The hint after a key was made while the ledger cannot be read.
const FIX_LEDGER: &str = "next: repair the ledger, as the warning says; then make a backup on another disk: claviger backup create FILE\n\
                           then: claviger key promote KEY_ID";

/// The hint after a key was added.
const ADDED: &str = "next: make a backup on another disk: claviger backup create FILE (if it says `counts  not yet`: claviger backup \
                     check FILE)\nthen: claviger key promote KEY_ID";
