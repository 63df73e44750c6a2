//! Compares the primary key of a scan with the key that the plugin of this node announces. API servers write under the
//! announced key, so a re-encryption would never end if the two are different.

use std::{thread, time::Duration};

use super::{
    super::{
        Global,
        failure::{Exit, Failure, warn},
        given::quoted,
        live::ServesFrom,
        probe::probe_plugin,
        runtime::event_loop,
    },
    keys::{KeySource, ScanKeys},
};
use crate::{config::Config, keeper::KEYRING, keyring::key_id::KeyId, probe::ProbeAnswer};

/// The longest time that a plugin needs to notice a change of the keyring. It looks four times a second.
const CATCH_UP: Duration = Duration::from_millis(1500);

/// Checks that the plugin of this node announces the primary key, if a plugin answers. Only warns if a flag says where
/// etcd is, because the API servers of that etcd may use another plugin.
///
/// # Errors
/// When it announces another key.
pub(in crate::cli) fn check_announced(config: &Config, keys: &ScanKeys, global: &Global) -> Result<(), Failure> {
    match unannounced(config, keys)? {
        Some(found) if !config.cluster.etcd.urls.is_empty() => {
            warn(&found.message, &found.hint, global);
            Ok(())
        }
        Some(found) => Err(Failure::new(Exit::Refused, &found.message, found.hint).without("primary")),
        None => Ok(()),
    }
}

/// Returns the note of a scan if the plugin of this node announces another key than the primary one.
///
/// # Errors
/// When this process cannot ask at all.
pub(in crate::cli) fn note_unannounced(config: &Config, keys: &ScanKeys) -> Result<Option<String>, Failure> {
    Ok(unannounced(config, keys)?.map(|Unannounced { message, hint }| format!("{message}; {hint}")))
}

/// The error if the plugin announces another key than the primary one.
struct Unannounced {
    message: String,
    hint: String,
}

/// Compares the primary key of the scan with the key that the plugin announces. Returns `None` if they are the same, or
/// if one of them is not known.
fn unannounced(config: &Config, keys: &ScanKeys) -> Result<Option<Unannounced>, Failure> {
    let Some(primary) = keys.primary else { return Ok(None) };
    let Some((other, answer)) = other_announced(config, primary)? else { return Ok(None) };
    let message = format!(
        "the plugin at {} announces {other}, under which API servers write, and {}",
        config.socket.endpoint(),
        match (keys.source, &keys.file) {
            (KeySource::StateDir | KeySource::File, Some(file)) =>
                format!("{primary} is primary in {}", file.display()),
            _ => format!("--primary names {primary}"),
        }
    );
    let serves_from = answer.report.map(|report| ServesFrom::of(&report, &config.state_dir));
    let hint = match (serves_from, keys.source) {
        (Some(ServesFrom::Elsewhere(path)), KeySource::Primary | KeySource::File) => {
            format!("use the keyring that it serves: --keyring {}", quoted(path.join(KEYRING)))
        }
        (Some(ServesFrom::Elsewhere(path)), KeySource::StateDir) => {
            format!("use the directory that it serves from: --state-dir {}", quoted(path))
        }
        (_, KeySource::Primary) => format!("use the key that it announces: --primary {other}"),
        _ => "see why it does not announce the primary key: claviger status".to_owned(),
    };
    Ok(Some(Unannounced { message, hint }))
}

/// Returns the key that the plugin announces instead of `primary`, even after it had the time to notice a change of the
/// keyring. Returns `None` if no plugin of claviger answers.
fn other_announced(config: &Config, primary: KeyId) -> Result<Option<(KeyId, ProbeAnswer)>, Failure> {
    let runtime = event_loop()?;
    let ask = || {
        let answer = probe_plugin(&runtime, config).ok()?;
        let other = answer.key_id.parse().ok().filter(|key_id| *key_id != primary)?;
        Some((other, answer))
    };
    if ask().is_none() {
        return Ok(None);
    }
    thread::sleep(CATCH_UP);
    Ok(ask())
}
